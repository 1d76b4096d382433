package io.cosmosflink.scaladsl

import io.cosmosflink.core.{CosmosException, CosmosRuntime}
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
  */
final private[scaladsl] class CosmosDBSplitEnumerator(
    context: SplitEnumeratorContext[CosmosDBSplit],
    runtime: CosmosRuntime,
    options: CosmosDBOptions,
    restored: Option[CosmosDBSourceState]
) extends SplitEnumerator[CosmosDBSplit, CosmosDBSourceState]:
  import CosmosDBSplitEnumerator.*

  /** By ordinal. Written by the coordinator's thread only; a discovery, which runs on another one, starts from it. */
  @volatile private var splits: TreeMap[Int, KnownSplit] =
    TreeMap.from(restored.iterator.flatMap(_.splits).map(known => known.split.ordinal -> known))

  private val fresh = splits.isEmpty
  private val discovering = AtomicBoolean()
  private var handle: Option[CosmosRuntime.EnumeratorHandle] = None
  private var closed = false

  override def start(): Unit =
    val unassigned: Gauge[java.lang.Long] = () => splits.values.count(!_.assigned).toLong
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
      finally
        discovering.set(false)
        runtime.drainLog(true)

  private def opened(): Option[CosmosRuntime.EnumeratorHandle] = synchronized:
    if handle.isEmpty && !closed then handle = Some(runtime.openEnumerator(options.toJava))
    handle

  private def onDiscovered(found: Vector[CosmosDBSplit], failure: Throwable | Null): Unit =
    (if failure == null then Success(found) else Failure(failure)) match
      case Success(found) =>
        found.foreach(add)
        if found.nonEmpty then
          log.info("found {} splits, {} in all", found.size, splits.size)
          assignPending()
      case Failure(e: CosmosException) if e.kind == CosmosException.Kind.CLOSED =>
      case Failure(e) if splits.nonEmpty =>
        // The readers go on without; what is wrong for good they find out themselves.
        log.warn("cannot look for new feed ranges, will try again: {}", e.getMessage, e)
      case Failure(e) =>
        throw Failures.open(s"cannot find the feed ranges of container ${options.container}", e, fresh)

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

  override def close(): Unit = synchronized:
    closed = true
    handle.foreach(_.close())
    handle = None
    runtime.drainLog(true)

private object CosmosDBSplitEnumerator:
  private val log = LoggerFactory.getLogger(classOf[CosmosDBSplitEnumerator])
