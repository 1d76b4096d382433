package io.cosmosflink.scaladsl

import io.cosmosflink.core.{
  Core,
  CosmosException,
  DecodePolicy,
  Finality,
  LagReports,
  LeaseProgress,
  Page,
  PageReader,
  ReaderMetrics,
  RecordFailures,
  RecordView,
  UndecodableRecords
}
import org.apache.flink.api.connector.source.{ReaderOutput, SourceEvent, SourceOutput, SourceReaderContext}
import org.apache.flink.connector.base.source.reader.splitreader.{SplitReader, SplitsAddition, SplitsChange}
import org.apache.flink.connector.base.source.reader.{
  RecordEmitter,
  RecordsWithSplitIds,
  SingleThreadMultiplexSourceReaderBase
}
import org.apache.flink.core.io.InputStatus

import java.util.{Collection, List as JavaList, Map as JavaMap, Set as JavaSet}

import scala.collection.mutable
import scala.jdk.CollectionConverters.*

/** A split that a reader is reading, and, once it has ended, those that go on in its place; moved once every record of a page is emitted. Flink
  * wants it mutable.
  */
final private[scaladsl] class SplitProgress(var split: CosmosDBSplit):
  private var ended: Option[Seq[CosmosDBSplit]] = None

  /** The split has ended: these go on in its place. */
  def endWith(goOn: Seq[CosmosDBSplit]): Unit = ended = Some(goOn)

  /** The splits that go on in place of one that has ended. */
  def children: Seq[CosmosDBSplit] = ended.getOrElse(Nil)

  /** What is still to be read: the split, or, once it has ended, what goes on in its place, which may be nothing. */
  def rest: Seq[CosmosDBSplit] = ended.getOrElse(Seq(split))

/** Reads all its splits with one fetcher: the concurrency is inside the core.
  *
  * @param options
  *   validated
  */
final private[scaladsl] class CosmosDBSourceReader[T] private (
    context: SourceReaderContext,
    splitReader: () => CosmosDBSplitReader,
    emitter: PageEmitter[T],
    metrics: SourceMetrics,
    leases: LeaseProgress
) extends SingleThreadMultiplexSourceReaderBase[Page, T, CosmosDBSplit, SplitProgress](
      () => splitReader(),
      emitter,
      context.getConfiguration,
      context
    ):
  /** The splits that are read, by id. */
  private val reading = mutable.Map.empty[String, SplitProgress]

  /** Whether the enumerator was told that all splits are read. */
  private var finished = false

  /** Flink's, as of the last poll: whatever ends a split is within one. */
  private var output: Option[ReaderOutput[T]] = None

  override def pollNext(output: ReaderOutput[T]): InputStatus =
    this.output = Some(output)
    val status = super.pollNext(output)
    if status == InputStatus.END_OF_INPUT && !finished then
      finished = true
      context.sendSourceEventToCoordinator(FinishedEvent)
    status

  /** The children of a split go on at once. Each has an output of its own from now on, not from its first record on: until then the watermark
    * of this reader would pass by what it has not read yet.
    */
  override protected def onSplitFinished(finished: JavaMap[String, SplitProgress]): Unit =
    reading --= finished.keySet.asScala
    val children = finished.values.asScala.flatMap(_.children).toList
    for output <- output; child <- children do output.createOutputForSplit(child.id)
    if children.nonEmpty then addSplits(children.asJava)

  /** Between the last page of a split and its end, which takes another poll, there is time for a checkpoint: it must not hold a split of which
    * everything is out.
    */
  override def snapshotState(checkpoint: Long): JavaList[CosmosDBSplit] =
    val splits = super.snapshotState(checkpoint).asScala.flatMap(split => reading(split.id).rest).toList
    leases.taken(checkpoint, splits.map(_.entry).asJava)
    splits.asJava

  override def notifyCheckpointComplete(checkpoint: Long): Unit =
    super.notifyCheckpointComplete(checkpoint)
    leases.completed(checkpoint)

  override protected def initializedState(split: CosmosDBSplit): SplitProgress =
    metrics.reads(split.id)
    val progress = SplitProgress(split)
    reading(split.id) = progress
    progress

  override protected def toSplitType(splitId: String, progress: SplitProgress): CosmosDBSplit = progress.split

private[scaladsl] object CosmosDBSourceReader:
  def apply[T](
      context: SourceReaderContext,
      core: Core,
      options: CosmosDBOptions,
      reader: RecordReader[T],
      eventTime: EventTime[T]
  ): CosmosDBSourceReader[T] =
    val metrics = SourceMetrics.of(core, context.metricGroup)
    val leases = LeaseProgress(options.toJava)
    def splitReader() =
      val peers = Core.Peers.of(context.currentParallelism, context.metricGroup.getAllVariables)
      val lag = LagReports(options.toJava, lag => context.sendSourceEventToCoordinator(LagEvent(lag)))
      CosmosDBSplitReader(core, options, metrics.ofCore, peers, lag, leases)
    new CosmosDBSourceReader(
      context,
      () => splitReader(),
      PageEmitter(reader, eventTime, DecodePolicy.of(options.toJava), metrics),
      metrics,
      leases
    )

/** A reader tells its enumerator how many milliseconds it is behind. */
final private[scaladsl] case class LagEvent(lagMillis: Long) extends SourceEvent

/** A [[io.cosmosflink.core.PageReader]] for all splits of one reader. */
final private[scaladsl] class CosmosDBSplitReader(
    core: Core,
    options: CosmosDBOptions,
    metrics: ReaderMetrics,
    peers: Core.Peers,
    lag: LagReports,
    leases: LeaseProgress
) extends SplitReader[Page, CosmosDBSplit]:
  private val pages = PageReader(core, options.toJava, metrics, peers, lag, leases)
  private val finality = Finality.of(options.toJava, false)
  private val failure = s"cannot read the change feed of container ${options.container}"

  override def handleSplitsChanges(change: SplitsChange[CosmosDBSplit]): Unit = change match
    case more: SplitsAddition[CosmosDBSplit] =>
      try pages.addSplits(more.splits.asScala.map(_.entry).asJava)
      catch case e: CosmosException => throw Failures.open(failure, e, finality)
    case other => throw UnsupportedOperationException(s"cannot handle a ${other.getClass.getName}")

  override def fetch(): RecordsWithSplitIds[Page] =
    try
      val page = Option(pages.next())
      PageRecords(page, () => page.foreach(pages.give))
    catch case e: CosmosException => throw Failures.running(failure, e, finality)

  override def pauseOrResumeSplits(pause: Collection[CosmosDBSplit], resume: Collection[CosmosDBSplit]): Unit =
    pages.pauseOrResume(ids(pause), ids(resume))

  private def ids(splits: Collection[CosmosDBSplit]) = splits.asScala.map(_.id).asJavaCollection

  override def wakeUp(): Unit = pages.wakeUp()

  override def close(): Unit = pages.close()

/** One fetch: one page as one element, or nothing. */
final private class PageRecords(private var page: Option[Page], done: () => Unit) extends RecordsWithSplitIds[Page]:
  private var split = page.map(_.splitId)
  private val ended = page.filter(_.finished).map(_.splitId).toSet.asJava

  override def nextSplit(): String | Null =
    val next = split
    split = None
    next.orNull

  override def nextRecordFromSplit(): Page | Null =
    val next = page
    page = None
    next.orNull

  override def finishedSplits(): JavaSet[String] = ended

  override def recycle(): Unit = done()

/** Emits a page in one go and only then moves the split: a checkpoint never falls inside a page, which may read differently the next time. */
final private[scaladsl] class PageEmitter[T](
    reader: RecordReader[T],
    eventTime: EventTime[T],
    policy: DecodePolicy,
    metrics: SourceMetrics
) extends RecordEmitter[Page, T, SplitProgress]:
  import PageEmitter.*

  private val undecodable = UndecodableRecords(policy)

  /** What an operator behind the source has thrown: not the document's fault, whatever a reader makes of it. */
  private var downstream: Option[Throwable] = None

  /** What the event time of the record could not be told for. */
  private var untimed: Option[Throwable] = None

  override def emitRecord(page: Page, output: SourceOutput[T], progress: SplitProgress): Unit =
    val record = page.records
    val emit: T => Unit = value =>
      val time =
        try eventTime(value, record)
        catch
          case e: Throwable =>
            untimed = Some(e)
            throw e
      try output.collect(value, time)
      catch
        case e: Throwable =>
          downstream = Some(e)
          throw e
    var i = 0
    while i < page.count do
      record.at(i)
      val refused = if record.undecodable then flagged else attempt(reader.read(record, emit))
      if refused != null then settle(record, progress.split, refused, emit)
      i += 1
    metrics.emitted(page)
    progress.split = progress.split.copy(position = page.split)
    if page.finished then progress.endWith(page.children.asScala.map(CosmosDBSplit.of).toList)

  /** Why a record cannot be used, or null. What is everybody's failure is thrown. */
  private inline def attempt(inline read: Either[DecodeError, Unit]): Refused | Null =
    untimed = None
    val refused =
      try
        read match
          case Right(_) => null
          case Left(error) => Refused(error, null)
      catch case e: Throwable => refusal(e)
    downstream.foreach(throw _)
    if refused == null then untimed.fold(null)(refusal) else refused

  private def settle(record: RecordView, split: CosmosDBSplit, why: Refused, emit: T => Unit): Unit =
    if !why.ofRecord then throw failure(record, split, why)
    // What is flagged the core has counted already.
    metrics.undecodable(record.undecodable)
    if undecodable.settle(record, split, why.error.message, why.cause) then
      val again = attempt(reader.readRaw(record, why.error, emit))
      if again != null then throw failure(record, split, again)

  private def failure(record: RecordView, split: CosmosDBSplit, why: Refused) =
    UndecodableRecords.failure(record, split, why.error.message, why.cause)

private object PageEmitter:
  final private case class Refused(error: DecodeError, cause: Throwable | Null):
    def ofRecord: Boolean = cause == null || RecordFailures.isOfRecord(cause)

  private def refusal(e: Throwable) = Refused(DecodeError(RecordFailures.reason(e)), e)

  private val flagged = Refused(DecodeError("its id or partition key is no JSON in UTF-8"), null)

/** A reader tells its enumerator that it has read all of its splits, and gets no others. */
private[scaladsl] case object FinishedEvent extends SourceEvent
