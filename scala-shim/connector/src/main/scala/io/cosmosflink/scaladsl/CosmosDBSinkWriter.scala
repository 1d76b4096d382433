package io.cosmosflink.scaladsl

import io.cosmosflink.core.{
  Completion,
  Core,
  CosmosException,
  Finality,
  RecordFailures,
  Submissions,
  UnwritableRecordException,
  WriteFailure
}
import org.apache.flink.api.connector.sink2.{SinkWriter, WriterInitContext}
import org.apache.flink.connector.base.sink.writer.config.AsyncSinkWriterConfiguration
import org.apache.flink.connector.base.sink.writer.strategy.{RateLimitingStrategy, RequestInfo, ResultInfo}
import org.apache.flink.connector.base.sink.writer.{
  AsyncSinkWriter,
  BufferedRequestState,
  ElementConverter,
  RequestEntryWrapper,
  ResultHandler
}
import org.apache.flink.util.FlinkRuntimeException

import java.util.{Collection, List as JavaList}

import scala.annotation.nowarn
import scala.concurrent.duration.*
import scala.jdk.CollectionConverters.*
import scala.jdk.OptionConverters.*

/** Hands batches to the core, which writes them on its own threads. Entries never come back for a retry: the core retries, and keeps the
  * order of writes of one document.
  */
// The only constructor of the base class that every supported Flink has.
@nowarn("cat=deprecation")
final private[scaladsl] class CosmosDBSinkWriter[T] private (
    converter: ElementConverter[T, CosmosDBRequestEntry],
    context: WriterInitContext,
    core: Core,
    options: CosmosDBOptions,
    room: Submissions.Room,
    states: Collection[BufferedRequestState[CosmosDBRequestEntry]]
) extends AsyncSinkWriter[T, CosmosDBRequestEntry](
      converter,
      context,
      CosmosDBSinkWriter.configuration(options, room),
      states
    ):
  private val container = options.container

  private val maxBatchBytes = CosmosDBSinkWriter.maxBatchBytes(options)

  private val submissions =
    val task = context.getTaskInfo
    val peers = Core.Peers.of(task.getNumberOfParallelSubtasks, context.metricGroup.getAllVariables)
    try Submissions.open(core, options.toJava, task.getIndexOfThisSubtask, peers, room)
    catch
      case e: CosmosException =>
        throw Failures.open(
          s"cannot open the sink to container $container",
          e,
          Finality.of(
            options.toJava,
            context.getRestoredCheckpointId.isEmpty && context.getTaskInfo.getAttemptNumber == 0
          )
        )
      case e: InterruptedException =>
        Thread.currentThread.interrupt()
        throw FlinkRuntimeException(s"the task ended while its sink to container $container was opened", e)

  private val sendErrors = context.metricGroup.getNumRecordsSendErrorsCounter
  private val finality = Finality.of(options.toJava, false)
  CoreGauges.register(context.metricGroup, submissions.metrics)

  /** What is larger than a batch goes alone: the base class would wait for ever for a batch that it fits into. */
  override protected def getSizeInBytes(entry: CosmosDBRequestEntry): Long =
    math.min(entry.body.length.toLong, maxBatchBytes)

  /** Writes everything, also at a checkpoint: what stayed in the state would come back to any subtask when the job is rescaled, behind newer
    * writes of the same documents.
    */
  override def flush(endOfInput: Boolean): Unit =
    submissions.flushBegan()
    try super.flush(true)
    finally submissions.flushEnded()

  override protected def submitRequestEntries(
      entries: JavaList[CosmosDBRequestEntry],
      handler: ResultHandler[CosmosDBRequestEntry]
  ): Unit =
    val refusals = entries.asScala.iterator.zipWithIndex.collect {
      case (entry, i) if entry.refusal != null => i -> entry.refusal
    }.toMap
    submissions.submit(
      entries,
      _.body,
      new Submissions.Listener:
        override def completed(completion: Completion): Unit =
          sendErrors.inc(completion.failures.size)
          completion.fatal.toScala match
            case None => handler.complete()
            case Some(failure) => handler.completeExceptionally(failed(failure, refusals.get(failure.index)))

        override def lost(message: String, cause: Throwable): Unit =
          handler.completeExceptionally(FlinkRuntimeException(message, cause))
    )
    // The base class holds the list until all of the batch is written, for a time-out that never comes. The core has the records, and bounds
    // what it holds; a batch that waits for one of them must not hold the others here.
    entries.clear()

  private def failed(failure: WriteFailure, refusal: Option[UnwritableRecordException]): Exception =
    val cause = failure.exception(container, refusal.orNull, "its model or function")
    if failure.isFinal(finality) then CosmosDBUnrecoverableException(cause.getMessage, cause)
    else FlinkRuntimeException(cause.getMessage, cause)

  override def close(): Unit =
    submissions.close()
    super.close()

private[scaladsl] object CosmosDBSinkWriter:
  /** After this time the base class gives a batch up. The core never forgets one and retries on its own, throttled ones without end, so that
    * it must not be reached: the base class would submit the batch again, behind newer writes of the same documents, or fail a job that only
    * waits. Not the largest number, because the time of day is added to it.
    */
  private val neverMillis = 36_500.days.toMillis

  def open[T](
      converter: ElementConverter[T, CosmosDBRequestEntry],
      context: WriterInitContext,
      core: Core,
      options: CosmosDBOptions,
      states: Collection[BufferedRequestState[CosmosDBRequestEntry]]
  ): CosmosDBSinkWriter[T] =
    val limit = options.checked("sink.max-record-size")
    val refusing = RefusingConverter(converter, limit)
    // The task waits for a mail, and looks again at each.
    val room = new Submissions.Room(() =>
      context.getMailboxExecutor.execute(() => (), "Go on, since the core has room for a batch again")
    )
    new CosmosDBSinkWriter(refusing, context, core, options, room, within(limit, options, states))

  private def configuration(options: CosmosDBOptions, room: Submissions.Room): AsyncSinkWriterConfiguration =
    val batch = options.checked("sink.buffer-flush.max-rows").toInt
    val inFlight = options.checked("sink.max-in-flight-requests").toInt
    val batchBytes = maxBatchBytes(options)
    AsyncSinkWriterConfiguration.builder
      .setMaxBatchSize(batch)
      .setMaxBatchSizeInBytes(batchBytes)
      .setMaxInFlightRequests(inFlight)
      .setMaxBufferedRequests(options.checked("sink.max-buffered-requests").toInt)
      .setMaxTimeInBufferMS(options.checked("sink.buffer-flush.interval"))
      // Its limit throws at every replay of the record, and in a restore; ours is the converter's.
      .setMaxRecordSizeInBytes(batchBytes)
      .setRateLimitingStrategy(CoreDecides(batch, room))
      .setRequestTimeoutMS(neverMillis)
      .setFailOnTimeout(true)
      .build()

  /** A batch is one array, and an array has a few elements less than the largest number. */
  private def maxBatchBytes(options: CosmosDBOptions): Long =
    math.min(options.checked("sink.buffer-flush.max-size"), Int.MaxValue - 64L)

  /** State of a writer that had other limits, so that it can be restored in this one. */
  private def within(
      limit: Long,
      options: CosmosDBOptions,
      states: Collection[BufferedRequestState[CosmosDBRequestEntry]]
  ): Collection[BufferedRequestState[CosmosDBRequestEntry]] =
    val largest = maxBatchBytes(options)
    states.asScala
      .map: state =>
        val entries = state.getBufferedRequestEntries.asScala.map: wrapper =>
          val entry = wrapper.getRequestEntry.within(limit)
          RequestEntryWrapper(entry, math.min(entry.body.length.toLong, largest))
        BufferedRequestState(entries.asJava)
      .toList
      .asJava

/** Makes an entry out of every record, also of one that its converter throws on or that is too large: that one's entry says why. To throw would
  * fail the job at this record's every replay, whatever the failure mode.
  */
final private class RefusingConverter[T](
    converter: ElementConverter[T, CosmosDBRequestEntry],
    maxRecordBytes: Long
) extends ElementConverter[T, CosmosDBRequestEntry]:
  override def apply(element: T, context: SinkWriter.Context): CosmosDBRequestEntry =
    try converter(element, context).within(maxRecordBytes)
    catch
      // Whatever is everybody's failure, such as an Error, fails the task.
      case e: Throwable if RecordFailures.isOfRecord(e) =>
        CosmosDBRequestEntry.refused(UnwritableRecordException.of(e))

/** Batches go out for as long as the core has room: it sees every 429 and knows how many records and bytes have not been written, this class
  * neither. A batch of which one record is left would count here like a whole one.
  */
final private class CoreDecides(maxBatchSize: Int, room: Submissions.Room) extends RateLimitingStrategy:
  override def registerInFlightRequest(request: RequestInfo): Unit = ()
  override def registerCompletedRequest(result: ResultInfo): Unit = ()
  override def shouldBlock(request: RequestInfo): Boolean = room.isFull
  override def getMaxBatchSize: Int = maxBatchSize
