package io.cosmosflink.scaladsl.jobs

import io.cosmosflink.scaladsl.{cosmos, ChangeRecord, Document, FlinkType}
import org.apache.flink.api.common.functions.{OpenContext, RichFlatMapFunction}
import org.apache.flink.metrics.Counter
import org.apache.flink.streaming.api.datastream.AsyncDataStream
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
import org.apache.flink.util.Collector

import java.time.Instant
import java.util.concurrent.TimeUnit

/** The secondary job of the pipeline: reads the processed orders of `job.target-container`, delivers them to the consumer, and records in
  * `job.output-container` what the consumer has acknowledged. At least once: an event is in a checkpoint until it is recorded.
  */
private[jobs] object OrderDelivery:

  /** The job's name in Flink unless an option gives another. */
  val name = "cosmosflink-source"

  /** The operators. Their uids are in savepoints: they stay. */
  def define(env: StreamExecutionEnvironment, settings: JobSettings): Unit =
    val events = env
      .cosmos(settings.source(settings.containers.target), "processed", Watermarks.ofService)
      .uid("processed-orders")
      .flatMap(Enrich(), FlinkType[Array[Byte]].info)
      .name("enrich")
      .uid("enrich")
    // No time limit of the operator's own: the delivery has a deadline, and the job fails when it passes.
    AsyncDataStream
      .unorderedWait(events, Delivery(settings.delivery), 0, TimeUnit.MILLISECONDS, settings.delivery.capacity)
      .returns(FlinkType[Document].info)
      .name("deliver")
      .uid("deliver")
      .sinkTo(settings.sink(settings.containers.output))
      .name("delivered")
      .uid("delivered")
    ()

  /** Adds what the consumer wants to know, and drops what is no processed order. */
  private final class Enrich extends RichFlatMapFunction[ChangeRecord, Array[Byte]]:
    @transient private var filtered: Counter | Null = null

    override def open(context: OpenContext): Unit =
      filtered = getRuntimeContext.getMetricGroup.counter("filteredRecords")

    override def flatMap(change: ChangeRecord, out: Collector[Array[Byte]]): Unit =
      if !change.deleted then
        Orders.outgoing(change.document, Instant.now()).map(Orders.state) match
          case Right(event) => out.collect(event)
          case Left(_) => filtered.nn.inc()
