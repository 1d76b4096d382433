package io.cosmosflink.scaladsl

import io.cosmosflink.core.{Core, CosmosException, Finality}
import org.apache.flink.api.connector.source.{SplitEnumerator, SplitEnumeratorContext, SplitsAssignment}
import org.apache.flink.metrics.Gauge
import org.slf4j.LoggerFactory

import java.util.concurrent.atomic.AtomicBoolean
import java.util.List as JavaList

import scala.collection.immutable.TreeMap
import scala.jdk.CollectionConverters.*
import scala.util.{Failure, Success}

/** Finds the feed ranges of a container and gives each to one reader: the reader `ordinal mod parallelism`, so that the load is even and
  * the owner of a split the same after any failure.
  *
  * After a regional failover this object is not restored, only the readers are. It needs no restoring: splits given out since the last
  * checkpoint come back through `addSplitsBack`, the others are in the readers' own state.
  *
  * @param options
  *   validated
  * @param restored
  *   none for a job that starts without a checkpoint
  * @param unassigned
  *   the gauge of this enumerator and of those before it
  */
final private[scaladsl] class CosmosDBSplitEnumerator(
    context: SplitEnumeratorContext[CosmosDBSplit],
    core: Core,
    options: CosmosDBOptions,
    restored: Option[CosmosDBSourceState],
    unassigned: UnassignedSplits
) extends SplitEnumerator[CosmosDBSplit, CosmosDBSourceState]:
  import CosmosDBSplitEnumerator.*

  /** By ordinal. Written by the coordinator's thread only; a discovery, which runs on another one, starts from it. */
  @volatile private var splits: TreeMap[Int, KnownSplit] =
    TreeMap.from(restored.iterator.flatMap(_.splits).map(known => known.split.ordinal -> known))

  private val fresh = splits.isEmpty
  private val discovering = AtomicBoolean()
  private val unassignedHere: () => Long = () => splits.values.count(!_.assigned).toLong

  /** Guards the two below. Nothing that may wait is done under it: a `close` that takes long fails the job. */
  private val lifecycle = Object()
  private var handle: Option[Core.EnumeratorHandle] = None
  private var closed = false

  /** Whether it is the first one of its source. Touched by the coordinator's thread only. */
  private var first = false

  override def start(): Unit =
    first = unassigned.follow(unassignedHere)
    context.metricGroup.setUnassignedSplitsGauge(unassigned)
    options.checked("source.discovery-interval-ms") match
      case interval if interval > 0 => context.callAsync(() => discover(), onDiscovered, 0, interval)
      case _ if fresh => context.callAsync(() => discover(), onDiscovered)
      case _ =>

  /** Runs on a worker thread: the network may be slow, the coordinator must not be. */
  private def discover(): Vector[CosmosDBSplit] =
    if !discovering.compareAndSet(false, true) then Vector.empty
    else
      try
        opened().fold(Vector.empty): open =>
          open.discoverSplits(splits.values.map(_.entry).toList.asJava).asScala.map(CosmosDBSplit.of).toVector
      catch
        case e: CosmosException if e.kind == CosmosException.Kind.CLOSED =>
          openAnew()
          throw e
      finally
        discovering.set(false)
        core.drainLog(true)

  /** The handle, open; none when there is nothing to do any more. */
  private def opened(): Option[Core.EnumeratorHandle] =
    val (ended, before) = lifecycle.synchronized((closed, handle))
    if ended || before.nonEmpty then before
    else
      val opening = core.openEnumerator(options.toJava)
      val wanted = lifecycle.synchronized:
        if !closed then handle = Some(opening)
        !closed
      if wanted then awaited(opening)
      else
        opening.close()
        None

  private def awaited(opening: Core.EnumeratorHandle): Option[Core.EnumeratorHandle] =
    try
      opening.awaitOpen()
      Some(opening)
    catch
      case _: InterruptedException =>
        openAnew()
        Thread.currentThread.interrupt()
        None
      case e: CosmosException =>
        openAnew()
        throw e

  /** What is closed stays so: the next discovery begins with a handle of its own. */
  private def openAnew(): Unit = lifecycle.synchronized { handle = None }

  private def onDiscovered(found: Vector[CosmosDBSplit], failure: Throwable | Null): Unit =
    (if failure == null then Success(found) else Failure(failure)) match
      case Success(found) =>
        found.foreach(add)
        if found.nonEmpty then
          log.info("found {} splits, {} in all", found.size, splits.size)
          assignPending()
      case Failure(_) if lifecycle.synchronized(closed) =>
      case Failure(e) if splits.nonEmpty && !isFinal(e) =>
        // The readers go on without.
        log.warn("cannot look for new feed ranges, will try again: {}", e.getMessage, e)
      case Failure(e) =>
        throw Failures.open(s"cannot find the feed ranges of container ${options.container}", e, finality)

  private def finality = Finality.of(options.toJava, first && fresh && splits.isEmpty)

  private def isFinal(failure: Throwable): Boolean = failure match
    case e: CosmosException => finality.isFinal(e)
    case _ => false

  private def add(split: CosmosDBSplit): Unit = splits.get(split.ordinal) match
    case None => splits += split.ordinal -> KnownSplit(split, assigned = false)
    case Some(before) if before.split.id == split.id =>
    case Some(before) =>
      throw IllegalStateException(
        s"the core gave ordinal ${split.ordinal} to split ${split.id} and to ${before.split.id}; " +
          "report this as a bug of cosmosflink"
      )

  override def addReader(subtask: Int): Unit = assignPending()

  /** Splits are pushed to their owner, not asked for. */
  override def handleSplitRequest(subtask: Int, host: String | Null): Unit = ()

  override def addSplitsBack(back: JavaList[CosmosDBSplit], subtask: Int): Unit =
    splits ++= back.asScala.map(split => split.ordinal -> KnownSplit(split, assigned = false))
    assignPending()

  private def assignPending(): Unit =
    val readers = context.registeredReaders.keySet
    val assignment = splits.values
      .collect { case KnownSplit(split, false) => split }
      .groupBy(_.ordinal % context.currentParallelism)
      .filter((owner, _) => readers.contains(owner))
    if assignment.nonEmpty then
      log.info("assigning {}", assignment)
      context.assignSplits(SplitsAssignment(assignment.map((owner, all) => Int.box(owner) -> all.toList.asJava).asJava))
      splits ++= assignment.values.flatten.map(split => split.ordinal -> KnownSplit(split, assigned = true))

  override def snapshotState(checkpoint: Long): CosmosDBSourceState = CosmosDBSourceState(splits.values.toVector)

  /** Ends a discovery, or an opening, that is under way. */
  override def close(): Unit =
    val open = lifecycle.synchronized:
      closed = true
      val last = handle
      handle = None
      last
    unassigned.forget(unassignedHere)
    open.foreach(_.close())
    core.drainLog(true)

/** The gauge of splits that no reader has. After a global failover there is a new enumerator, but the job's metric group keeps the gauge that it
  * has: so one gauge serves all enumerators of a source, and holds none that is closed.
  */
final private[scaladsl] class UnassignedSplits extends Gauge[java.lang.Long]:
  private var living: Option[() => Long] = None
  private var followed = false

  /** From now on the gauge shows this enumerator's number.
    *
    * @return
    *   whether it is the first enumerator of the source, so that the job has not been restarted here
    */
  def follow(number: () => Long): Boolean = synchronized:
    val first = !followed
    followed = true
    living = Some(number)
    first

  /** The enumerator is closed; its successor may be there already. */
  def forget(number: () => Long): Unit = synchronized { living = living.filterNot(_ eq number) }

  override def getValue: java.lang.Long = synchronized(living.fold(0L)(_()))

private object CosmosDBSplitEnumerator:
  private val log = LoggerFactory.getLogger(classOf[CosmosDBSplitEnumerator])
