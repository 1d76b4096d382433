package io.cosmosflink.scaladsl

import io.cosmosflink.core.EnumeratorActions.{Action, Assign, Backlog, Discover, Fail, NoMoreSplits}
import io.cosmosflink.core.{
  Core,
  CosmosException,
  EnumeratorActions,
  EnumeratorEvent,
  FinishedReaders,
  PerOperator,
  SplitEntry
}
import org.apache.flink.api.connector.source.{
  ReaderInfo,
  SourceEvent,
  SplitEnumerator,
  SplitEnumeratorContext,
  SplitsAssignment,
  SupportsHandleExecutionAttemptSourceEvent
}
import org.apache.flink.metrics.{Gauge, MetricGroup}
import org.apache.flink.util.FlinkRuntimeException

import java.util.List as JavaList

import scala.jdk.CollectionConverters.*
import scala.jdk.OptionConverters.*

/** Finds the feed ranges of a container and gives each to one reader. The core decides: what Flink calls becomes an event, and what is to be
  * done about it becomes calls of Flink.
  *
  * @param options
  *   validated
  * @param state
  *   none for a job that starts without a checkpoint
  * @param reported
  *   the splits that a reader which registers was restored with, where Flink reports them; else none
  * @param gauge
  *   that of this enumerator and of those before it
  */
final private[scaladsl] class CosmosDBSplitEnumerator(
    context: SplitEnumeratorContext[CosmosDBSplit],
    core: Core,
    options: CosmosDBOptions,
    state: Option[CosmosDBSourceState],
    reported: ReaderInfo => Seq[CosmosDBSplit],
    gauge: UnassignedSplits
) extends SplitEnumerator[CosmosDBSplit, CosmosDBSourceState],
      SupportsHandleExecutionAttemptSourceEvent:
  // Flink closes none that it has not started, and need not start one that it restores: nothing stays open here.
  restored("the enumerator")(opened(firstStart = false)).close()

  @volatile private var running: Option[Core.EnumeratorHandle] = None

  @volatile private var unassigned = 0L
  @volatile private var closed = false

  private val finished = FinishedReaders()

  /** What a source that goes on behind this one begins with, or why it cannot; neither before all splits are known. */
  private var positions: Option[Array[Byte]] = None
  private var noPositions: Option[CosmosException] = None
  private val unassignedHere: () => Long = () => unassigned

  private def opened(firstStart: Boolean) =
    core.openEnumerator(options.toJava, state.fold(Array.emptyByteArray)(_.bytes), firstStart)

  private def handle = running.getOrElse(throw IllegalStateException("the enumerator has not been started"))

  override def start(): Unit =
    running = Some(opened(gauge.begin()))
    gauge.follow(unassignedHere)
    context.metricGroup.setUnassignedSplitsGauge(gauge)
    coordinate(EnumeratorEvent.Started())

  override def addReader(subtask: Int): Unit =
    finished.registered(subtask)
    val splits = Option(context.registeredReaders.get(subtask)).fold(Nil)(reported)
    coordinate(EnumeratorEvent.ReaderRegistered(subtask, entries(splits)))

  override def handleSplitRequest(subtask: Int, host: String | Null): Unit =
    coordinate(EnumeratorEvent.SplitRequested(subtask))

  override def handleSourceEvent(subtask: Int, event: SourceEvent): Unit = event match
    case LagEvent(millis) => coordinate(EnumeratorEvent.LagReported(subtask, millis))
    case FinishedEvent => finished.finished(subtask)
    case _ => ()

  /** With speculative execution, where the attempts of one reader read the same splits: what one of them says counts for all. */
  override def handleSourceEvent(subtask: Int, attempt: Int, event: SourceEvent): Unit =
    handleSourceEvent(subtask, event)

  override def addSplitsBack(back: JavaList[CosmosDBSplit], subtask: Int): Unit =
    coordinate(EnumeratorEvent.SplitsBack(subtask, entries(back.asScala)))

  override def snapshotState(checkpoint: Long): CosmosDBSourceState =
    val state = coordinate(EnumeratorEvent.CheckpointTaken(checkpoint)).state
    CosmosDBSourceState(state.orElseThrow(() => IllegalStateException("a closed enumerator has no state")))

  override def notifyCheckpointComplete(checkpoint: Long): Unit =
    coordinate(EnumeratorEvent.CheckpointCompleted(checkpoint))

  override def notifyCheckpointAborted(checkpoint: Long): Unit =
    coordinate(EnumeratorEvent.CheckpointAborted(checkpoint))

  /** The state with which the change feed goes on where the splits of this enumerator stop, also when it is closed. Without positions to stop
    * at it is refused for good. Where a reader has not read all of its splits, the job begins anew from its last checkpoint.
    */
  private[scaladsl] def following: CosmosDBSourceState =
    val unfinished = finished.unfinished(readers)
    if !unfinished.isEmpty then
      throw FlinkRuntimeException(
        s"nothing may go on behind this source yet: its readers $unfinished were restored, and still read; the job begins anew from its last checkpoint"
      )
    def why = noPositions.fold("nothing can go on behind this source: its splits are not known yet")(_.getMessage)
    CosmosDBSourceState(positions.getOrElse(throw CosmosDBUnrecoverableException(why, noPositions.orNull)))

  /** Ends a look for feed ranges that is under way. Flink calls it on a thread of its own, perhaps beside other calls. */
  override def close(): Unit =
    closed = true
    gauge.forget(unassignedHere)
    running.foreach: open =>
      try coordinate(EnumeratorEvent.Closed())
      finally
        open.close()
        core.drainLog(true)

  private def coordinate(event: EnumeratorEvent): EnumeratorActions =
    val actions = decided(event)
    actions.actions.forEach(perform)
    actions

  private def readers = Core.Readers(context.currentParallelism, context.registeredReaders.keySet)

  private def decided(event: EnumeratorEvent): EnumeratorActions =
    val actions = handle.coordinate(readers, event)
    unassigned = actions.unassigned
    core.drainLog(false)
    actions

  /** Keeps what a source behind this one would begin with, or why it cannot: there need not be one, and it asks once this is closed. */
  private def keepPositions(): Unit =
    if positions.isEmpty then
      val answer = decided(EnumeratorEvent.Followed())
      positions = answer.state.toScala
      noPositions = answer.failure.toScala

  private def perform(action: Action): Unit = action match
    case discover: Discover if discover.periodMillis > 0 =>
      context.callAsync(() => discovered(), onDiscovered, 0, discover.periodMillis)
    case _: Discover => context.callAsync(() => discovered(), onDiscovered)
    case assign: Assign =>
      val splits = assign.splits.asScala.view.mapValues(_.asScala.map(CosmosDBSplit.of).asJava).toMap
      context.assignSplits(SplitsAssignment(splits.asJava))
    case none: NoMoreSplits =>
      none.subtasks.forEach(context.signalNoMoreSplits(_))
      keepPositions()
    case backlog: Backlog => context.setIsProcessingBacklog(backlog.there)
    case fail: Fail =>
      val message = fail.failure.getMessage
      throw if fail.ends then CosmosDBUnrecoverableException(message, fail.failure)
      else FlinkRuntimeException(message, fail.failure)
    // The answer to a checkpoint, which whoever asked takes out of the actions.
    case _: EnumeratorActions.State => ()

  /** Runs on a worker thread: the network may be slow, the coordinator must not be. */
  private def discovered(): Array[Byte] =
    try handle.discover()
    finally core.drainLog(true)

  private def onDiscovered(discovery: Array[Byte], failure: Throwable | Null): Unit = failure match
    case null => coordinate(EnumeratorEvent.Discovered(discovery))
    case _: InterruptedException =>
    case _ if closed =>
    // What a look failed of is in what it gives: this is a bug, or the JVM's own.
    case e => throw FlinkRuntimeException(s"cannot look for feed ranges: ${e.getMessage}", e)

  private def entries(splits: Iterable[CosmosDBSplit]): JavaList[SplitEntry] = splits.map(_.entry).toList.asJava

/** The gauge of splits that no reader has. After a global failover there is a new enumerator, and under the adaptive scheduler a new source too,
  * but the job's metric group keeps the gauge that it has: so one gauge serves all enumerators of an operator, and holds none that is closed.
  */
final private[scaladsl] class UnassignedSplits extends Gauge[java.lang.Long]:
  private var living: Option[() => Long] = None
  private var begun = false

  /** Whether this is the first enumerator of the operator to ask, so that the job has not been restarted here. */
  def begin(): Boolean = synchronized:
    val first = !begun
    begun = true
    first

  /** From now on the gauge shows this enumerator's number. */
  def follow(number: () => Long): Unit = synchronized { living = Some(number) }

  /** The enumerator is closed; its successor may be there already. */
  def forget(number: () => Long): Unit = synchronized { living = living.filterNot(_ eq number) }

  override def getValue: java.lang.Long = synchronized(living.fold(0L)(_()))

private[scaladsl] object UnassignedSplits:
  private val all = PerOperator[UnassignedSplits]()

  /** That of the operator whose enumerators have this group. */
  def of(enumerator: MetricGroup): UnassignedSplits = all.of(enumerator.getAllVariables, () => new UnassignedSplits)
