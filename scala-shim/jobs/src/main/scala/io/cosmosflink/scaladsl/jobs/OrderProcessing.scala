package io.cosmosflink.scaladsl.jobs

import io.cosmosflink.scaladsl.{cosmos, processTo, sideOutput, ChangeRecord, Document}
import org.apache.flink.api.common.functions.OpenContext
import org.apache.flink.metrics.Counter
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
import org.apache.flink.streaming.api.functions.ProcessFunction
import org.apache.flink.util.{Collector, OutputTag}

import java.time.Instant

/** The primary job of the pipeline: reads the orders of `job.source-container`, checks and enriches them and upserts them
  * into `job.target-container`; what cannot be used goes to `job.dead-letter-container`.
  */
private[jobs] object OrderProcessing:

  /** The job's name in Flink unless an option gives another. */
  val name = "cosmosflink-sink"

  val bad: OutputTag[Document] = sideOutput("bad-records")

  /** The operators. Their uids are in savepoints: they stay. */
  def define(env: StreamExecutionEnvironment, settings: JobSettings): Unit =
    val containers = settings.containers
    val orders = env.cosmos(settings.source(containers.source), "orders", Watermarks.ofService).uid("orders")
    val processed = (if settings.countRepeats then Repeats.count(orders) else orders)
      .processTo(Process(containers.source))
      .name("enrich")
      .uid("process")
    processed.sinkTo(settings.sink(containers.target)).name("processed").uid("processed")
    processed.getSideOutput(bad).sinkTo(settings.sink(containers.deadLetter)).name("dead-letters").uid("dead-letters")
    ()

  /** Sends each change on the way that its verdict says. */
  final class Process(container: String) extends ProcessFunction[ChangeRecord, Document]:
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
