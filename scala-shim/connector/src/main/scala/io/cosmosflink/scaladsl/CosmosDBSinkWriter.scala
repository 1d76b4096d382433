package io.cosmosflink.scaladsl

import io.cosmosflink.core.{
  Core,
  CoreMetrics,
  CosmosException,
  Finality,
  FlushWatch,
  OperationBatch,
  OperationKind,
  Outcome,
  RecordFailures,
  UnwritableRecordException
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
import org.slf4j.LoggerFactory

import java.util.concurrent.{ConcurrentHashMap, RejectedExecutionException}
import java.util.{Collection, List as JavaList}

import scala.annotation.nowarn
import scala.concurrent.duration.*
import scala.jdk.CollectionConverters.*
import scala.util.control.NonFatal

/** Hands batches to the core on the task's thread and completes them on a thread of its own, which polls for outcomes. Entries never come
  * back for a retry: the core retries, and keeps the order of writes of one document.
  */
// The only constructor of the base class that every supported Flink has.
@nowarn("cat=deprecation")
final private[scaladsl] class CosmosDBSinkWriter[T] private (
    converter: ElementConverter[T, CosmosDBRequestEntry],
    context: WriterInitContext,
    core: Core,
    options: CosmosDBOptions,
    states: Collection[BufferedRequestState[CosmosDBRequestEntry]]
) extends AsyncSinkWriter[T, CosmosDBRequestEntry](
      converter,
      context,
      CosmosDBSinkWriter.configuration(options),
      states
    ):
  import CosmosDBSinkWriter.*

  private val container = options.container

  private val maxBatchBytes = CosmosDBSinkWriter.maxBatchBytes(options)

  private val handle =
    try
      val opening = core.openSink(options.toJava)
      opening.awaitOpen()
      opening
    catch
      case e: CosmosException =>
        core.drainLog(true)
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
  private val gauges = CoreGauges(context.metricGroup, CoreGauges.ofSink*)
  gauges.follow(handle)

  private val finality = Finality.of(options.toJava, false)
  private val flushes = FlushWatch()
  private val frame = OperationBatch()
  private val inFlight = ConcurrentHashMap[Long, Batch]()
  private var batches = 0L
  @volatile private var closed = false

  /** The batch of the last outcome; outcomes come in runs of one batch. Only the completion thread touches it. */
  private var last: Option[Batch] = None

  /** Why the completion thread ended, if it did. */
  @volatile private var ended: Option[Exception] = None

  private val completion = Thread(
    () => complete(),
    s"cosmosdb-sink-completion-$container-${context.getTaskInfo.getIndexOfThisSubtask}"
  )
  completion.setDaemon(true)

  /** What is larger than a batch goes alone: the base class would wait for ever for a batch that it fits into. */
  override protected def getSizeInBytes(entry: CosmosDBRequestEntry): Long =
    math.min(entry.body.length.toLong, maxBatchBytes)

  /** Writes everything, also at a checkpoint: what stayed in the state would come back to any subtask when the job is rescaled, behind newer
    * writes of the same documents.
    */
  override def flush(endOfInput: Boolean): Unit =
    flushes.began()
    try super.flush(true)
    finally flushes.ended()

  override protected def submitRequestEntries(
      entries: JavaList[CosmosDBRequestEntry],
      handler: ResultHandler[CosmosDBRequestEntry]
  ): Unit =
    if entries.isEmpty then handler.complete() else submit(entries, handler)

  private def submit(entries: JavaList[CosmosDBRequestEntry], handler: ResultHandler[CosmosDBRequestEntry]): Unit =
    val number = batches
    batches += 1
    frame.clear()
    var i = 0
    while i < entries.size do
      frame.add(number << indexBits | i, entries.get(i).body)
      i += 1
    // Before it is submitted: the outcomes may be there before submit returns.
    inFlight.put(number, Batch(number, entries, handler))
    try
      handle.submit(frame)
      ended.foreach(why => take(number).foreach(_.handler.completeExceptionally(why)))
    catch
      case NonFatal(e) =>
        take(number).foreach:
          _.handler.completeExceptionally(
            FlinkRuntimeException(s"cannot write to container $container: ${e.getMessage}", e)
          )

  private def take(number: Long): Option[Batch] = Option(inFlight.remove(number))

  /** The completion thread. */
  private def complete(): Unit =
    try
      while !closed do
        handle.pollOutcomes(pollMax, pollMillis).forEach(onOutcome)
        core.drainLog(false)
        warnOfLongFlush()
    catch
      // The task has ended and takes nothing more.
      case e: RejectedExecutionException => ended = Some(e)
      // Also an OutOfMemoryError: a writer without this thread would wait for ever.
      case e: Throwable if !closed =>
        end(FlinkRuntimeException(s"the sink to container $container gets no more outcomes: ${e.getMessage}", e))
        log.error("the sink to container {} gets no more outcomes", container, e)
      case NonFatal(_) =>

  private def warnOfLongFlush(): Unit =
    val seconds = flushes.overdueSeconds()
    if seconds > 0 then
      val held = handle.metrics.get(CoreMetrics.Field.HELD_MILLIS)
      log.warn(
        s"a flush to container $container has taken $seconds s, and its checkpoint waits for it; the service has throttled or " +
          s"failed a partition for $held ms"
      )

  private def end(why: Exception): Unit =
    ended = Some(why)
    inFlight.keySet.forEach: number =>
      try take(number).filter(!_.failed).foreach(_.handler.completeExceptionally(why))
      // A task that is ending takes no more; the others must hear of it all the same.
      catch case NonFatal(e) => log.debug("a batch could not be completed", e)

  private def onOutcome(outcome: Outcome): Unit =
    val number = outcome.token >>> indexBits
    val index = (outcome.token & (1 << indexBits) - 1).toInt
    val batch = last
      .filter(_.number == number)
      .orElse(Option(inFlight.get(number)))
      .filter(index < _.entries.size)
      .getOrElse:
        throw IllegalStateException(s"the core gave an outcome for token ${outcome.token}, which is not in flight")
    batch.open -= 1
    if batch.open == 0 then inFlight.remove(number)
    last = Option.when(batch.open > 0)(batch)
    WriteOutcome.of(outcome) match
      case WriteOutcome.Written =>
      case WriteOutcome.Skipped(_) | WriteOutcome.DeadLettered(_) => sendErrors.inc()
      case WriteOutcome.Failed(error) =>
        sendErrors.inc()
        if !batch.failed then
          // At once: the others of its batch may be waiting for a service that does not answer.
          batch.failed = true
          core.drainLog(true)
          batch.handler.completeExceptionally(failed(batch.entries.get(index), outcome, error))
    if batch.open == 0 && !batch.failed then batch.handler.complete()

  private def failed(entry: CosmosDBRequestEntry, outcome: Outcome, error: CosmosError): Exception =
    import error.{activityId, message as why, status, subStatus}
    val operation = entry.operation
    val which = s"id '${RecordFailures.shortened(operation.id)}'"
    val key = s"partition key ${RecordFailures.shortened(operation.partitionKey)}"
    val message = operation.`type` match
      case OperationKind.REFUSED =>
        s"container $container: no write could be made of the record with $which and $key: $why; " +
          "mend its model or function, or let the job go on with sink.failure-mode skip or dead-letter"
      case kind =>
        s"container $container: $kind of $which with $key failed after ${outcome.attempts} attempts " +
          s"with status $status/$subStatus (activity $activityId): $why; ${error.kind.advice}"
    val cause = CosmosException(message, error.kind, status, subStatus, activityId)
    if entry.refusal != null then cause.initCause(entry.refusal.ofJob())
    val isFinal = outcome.isFinal || (error.kind == CosmosException.Kind.AUTH && finality.isFinal(cause))
    if isFinal then CosmosDBUnrecoverableException(message, cause) else FlinkRuntimeException(message, cause)

  /** Also in a task that was interrupted, and when the core fails: a task that does not end takes its TaskManager with it. */
  override def close(): Unit =
    closed = true
    try
      gauges.forget(handle)
      handle.wakeUp()
    catch case e: CosmosException => log.debug("the sink was closed before", e)
    try completion.join(joinMillis)
    catch case _: InterruptedException => Thread.currentThread.interrupt()
    handle.close()
    core.drainLog(true)
    super.close()

private[scaladsl] object CosmosDBSinkWriter:
  private val log = LoggerFactory.getLogger(classOf[CosmosDBSinkWriter[?]])

  /** Low bits of a token that count inside a batch; `sink.max-batch-size` stays below. */
  private val indexBits = 20

  private val pollMax = 4096
  private val pollMillis = 1000L
  private val joinMillis = 10_000L

  /** After this time the base class gives a batch up. The core never forgets one and retries on its own, throttled ones without end, so that
    * it must not be reached: the base class would submit the batch again, behind newer writes of the same documents, or fail a job that only
    * waits. Not the largest number, because the time of day is added to it.
    */
  private val neverMillis = 36_500.days.toMillis

  /** What is under way of one batch. Only the completion thread counts down. */
  final private class Batch(
      val number: Long,
      val entries: JavaList[CosmosDBRequestEntry],
      val handler: ResultHandler[CosmosDBRequestEntry]
  ):
    var open: Int = entries.size
    var failed: Boolean = false

  /** A writer whose completion thread runs. */
  def open[T](
      converter: ElementConverter[T, CosmosDBRequestEntry],
      context: WriterInitContext,
      core: Core,
      options: CosmosDBOptions,
      states: Collection[BufferedRequestState[CosmosDBRequestEntry]]
  ): CosmosDBSinkWriter[T] =
    val limit = options.checked("sink.max-record-bytes")
    val refusing = RefusingConverter(converter, limit)
    val writer = new CosmosDBSinkWriter(refusing, context, core, options, within(limit, options, states))
    try writer.completion.start()
    catch
      case e: Throwable =>
        // No thread can be made: nobody else knows the handle.
        writer.close()
        throw e
    writer

  private def configuration(options: CosmosDBOptions): AsyncSinkWriterConfiguration =
    val batch = options.checked("sink.max-batch-size").toInt
    val inFlight = options.checked("sink.max-in-flight-requests").toInt
    val batchBytes = maxBatchBytes(options)
    AsyncSinkWriterConfiguration.builder
      .setMaxBatchSize(batch)
      .setMaxBatchSizeInBytes(batchBytes)
      .setMaxInFlightRequests(inFlight)
      .setMaxBufferedRequests(options.checked("sink.max-buffered-requests").toInt)
      .setMaxTimeInBufferMS(options.checked("sink.max-time-in-buffer-ms"))
      // Its limit throws at every replay of the record, and in a restore; ours is the converter's.
      .setMaxRecordSizeInBytes(batchBytes)
      .setRateLimitingStrategy(FixedConcurrency(batch, inFlight))
      .setRequestTimeoutMS(neverMillis)
      .setFailOnTimeout(true)
      .build()

  /** A batch with its tokens is one array. */
  private def maxBatchBytes(options: CosmosDBOptions): Long =
    val tokens = 64 + 8 * options.checked("sink.max-batch-size")
    math.min(options.checked("sink.max-batch-bytes"), Int.MaxValue - tokens)

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
  override def open(context: WriterInitContext): Unit = converter.open(context)

  override def apply(element: T, context: SinkWriter.Context): CosmosDBRequestEntry =
    try converter(element, context).within(maxRecordBytes)
    catch
      // Whatever is everybody's failure, such as an Error, fails the task.
      case e: Throwable if RecordFailures.isOfRecord(e) =>
        CosmosDBRequestEntry.refused(UnwritableRecordException.of(e))

/** A fixed number of batches in flight. Throttling is the core's: it sees every 429, this class none. */
final private class FixedConcurrency(maxBatchSize: Int, maxInFlight: Int) extends RateLimitingStrategy:
  private var inFlight = 0
  override def registerInFlightRequest(request: RequestInfo): Unit = inFlight += 1
  override def registerCompletedRequest(result: ResultInfo): Unit = inFlight = math.max(0, inFlight - 1)
  override def shouldBlock(request: RequestInfo): Boolean = inFlight >= maxInFlight
  override def getMaxBatchSize: Int = maxBatchSize
