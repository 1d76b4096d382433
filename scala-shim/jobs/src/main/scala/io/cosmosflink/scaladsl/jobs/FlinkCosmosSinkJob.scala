package io.cosmosflink.scaladsl.jobs

import io.cosmosflink.scaladsl.{cosmos, processTo, sideOutput, ChangeRecord, Document}
import org.apache.flink.api.common.functions.OpenContext
import org.apache.flink.metrics.Counter
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
import org.apache.flink.streaming.api.functions.ProcessFunction
import org.apache.flink.util.{Collector, OutputTag}

import java.time.Instant

/** The primary job: reads the orders of `job.source-container`, checks and enriches them and upserts them into `job.target-container`; what
  * cannot be used goes to `job.dead-letter-container`.
  */
object FlinkCosmosSinkJob:
  val name = "cosmosflink-sink"

  private[jobs] val bad: OutputTag[Document] = sideOutput("bad-records")

  /** `--name value` pairs over the environment; see `docs/configuration.md`. */
  def main(arguments: Array[String]): Unit = JobSettings.run(name, arguments)(define)

  private[jobs] def define(env: StreamExecutionEnvironment, settings: JobSettings): Unit =
    val containers = settings.containers
    val processed = env
      .cosmos(settings.source(containers.source), "orders", Watermarks.ofService)
      .uid("orders")
      .processTo(Process(containers.source))
      .name("enrich")
      .uid("process")
    processed.sinkTo(settings.sink(containers.target)).name("processed").uid("processed")
    processed.getSideOutput(bad).sinkTo(settings.sink(containers.deadLetter)).name("dead-letters").uid("dead-letters")
    ()

  /** Sends each change on the way that its verdict says. */
  private[jobs] final class Process(container: String) extends ProcessFunction[ChangeRecord, Document]:
    @transient private var badRecords: Counter | Null = null

    override def open(context: OpenContext): Unit =
      badRecords = getRuntimeContext.getMetricGroup.counter("badRecords")

    override def processElement(
        change: ChangeRecord,
        context: ProcessFunction[ChangeRecord, Document]#Context,
        out: Collector[Document]
    ): Unit = Orders.judge(container, change, Instant.now()) match
      case Verdict.Processed(order) => out.collect(order)
      case Verdict.Bad(letter) =>
        badRecords.nn.inc()
        context.output(bad, letter)
      case Verdict.Nothing => ()
