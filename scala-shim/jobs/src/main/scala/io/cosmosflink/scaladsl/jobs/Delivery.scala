package io.cosmosflink.scaladsl.jobs

import io.cosmosflink.core.Operation
import io.cosmosflink.scaladsl.Document
import org.apache.flink.api.common.functions.OpenContext
import org.apache.flink.metrics.Gauge
import org.apache.flink.streaming.api.functions.async.{ResultFuture, RichAsyncFunction}

import java.time.Instant

import scala.concurrent.ExecutionContext
import scala.concurrent.duration.FiniteDuration
import scala.jdk.CollectionConverters.*
import scala.util.{Failure, Success}

/** How events go to the consumer.
  *
  * @param batchSize
  *   most events in one batch
  * @param timeout
  *   of one attempt
  * @param deadline
  *   how long a batch is offered before the job fails
  */
final case class DeliverySettings(
    consumer: Consumer,
    batchSize: Int,
    timeout: FiniteDuration,
    deadline: FiniteDuration
):
  /** Events under way: all that are on the wire, and as many again that fill the next batches. */
  def capacity: Int = 2 * Delivery.concurrency * batchSize

/** Sends events to the consumer in batches and hands each on once its batch is acknowledged. What comes in is in the operator's state until
  * then, so it is the core's own form of an operation, which the job of any language restores.
  */
final class Delivery(settings: DeliverySettings) extends RichAsyncFunction[Array[Byte], Document]:
  @transient private var batcher: Batcher | Null = null

  override def open(context: OpenContext): Unit =
    val transport = settings.consumer.connect(settings.timeout, Delivery.concurrency)
    val opened = Batcher(transport, settings.batchSize, Delivery.concurrency, settings.deadline)
    batcher = opened
    getRuntimeContext.getMetricGroup.gauge[Long, Gauge[Long]]("deliveryRetries", () => opened.retries)
    ()

  override def asyncInvoke(state: Array[Byte], result: ResultFuture[Document]): Unit =
    val event = Operation.decode(Operation.bodyOf(state))
    batcher.nn
      .offer(event)
      .map(_ => Orders.delivered(event.document, Instant.now()))(using ExecutionContext.parasitic)
      .onComplete {
        case Success(Right(record)) => result.complete(List(record).asJava)
        case Success(Left(bad)) => result.completeExceptionally(IllegalStateException(bad.reason))
        case Failure(e) => result.completeExceptionally(e)
      }(using ExecutionContext.parasitic)

  override def close(): Unit = Option(batcher).foreach(_.close())

object Delivery:
  /** Batches on the wire at one time: enough to hide the round trip, few enough to be fair to other subtasks. */
  private[jobs] val concurrency = 4
