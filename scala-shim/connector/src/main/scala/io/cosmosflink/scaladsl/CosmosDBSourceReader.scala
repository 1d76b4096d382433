package io.cosmosflink.scaladsl

import io.cosmosflink.core.CoreMetrics.Field
import io.cosmosflink.core.{Core, CosmosException, Finality, Page, PageBuffers, RecordFailures, RecordView, Seldom}
import org.apache.flink.api.connector.source.{SourceOutput, SourceReaderContext}
import org.apache.flink.connector.base.source.reader.splitreader.{SplitReader, SplitsAddition, SplitsChange}
import org.apache.flink.connector.base.source.reader.{
  RecordEmitter,
  RecordsWithSplitIds,
  SingleThreadMultiplexSourceReaderBase
}
import org.slf4j.LoggerFactory

import java.io.IOException
import java.util.{Collection, Map as JavaMap, Set as JavaSet}

import scala.jdk.CollectionConverters.*

/** A split that a reader is reading; moved once every record of a page is emitted. Flink wants it mutable. */
final private[scaladsl] class SplitProgress(var split: CosmosDBSplit)

/** Reads all its splits with one fetcher: the concurrency is inside the core.
  *
  * @param options
  *   validated
  */
final private[scaladsl] class CosmosDBSourceReader[T] private (
    context: SourceReaderContext,
    splitReader: () => CosmosDBSplitReader,
    emitter: PageEmitter[T]
) extends SingleThreadMultiplexSourceReaderBase[Page, T, CosmosDBSplit, SplitProgress](
      () => splitReader(),
      emitter,
      context.getConfiguration,
      context
    ):
  /** A change feed has no end. */
  override protected def onSplitFinished(finished: JavaMap[String, SplitProgress]): Unit = ()

  override protected def initializedState(split: CosmosDBSplit): SplitProgress = SplitProgress(split)

  override protected def toSplitType(splitId: String, progress: SplitProgress): CosmosDBSplit = progress.split

private[scaladsl] object CosmosDBSourceReader:
  def apply[T](
      context: SourceReaderContext,
      core: Core,
      options: CosmosDBOptions,
      reader: RecordReader[T],
      eventTime: EventTime[T]
  ): CosmosDBSourceReader[T] =
    val metrics = SourceMetrics(context.metricGroup)
    new CosmosDBSourceReader(
      context,
      () => CosmosDBSplitReader(core, options, metrics),
      PageEmitter(reader, eventTime, DecodePolicy.of(options), metrics)
    )

/** Takes pages of all splits of one reader out of the core, which fetches them ahead and concurrently.
  *
  * The fetcher's thread calls everything but `wakeUp`. What may wait, the opening too, waits in `fetch`: nothing else is woken up when the reader
  * closes.
  */
final private[scaladsl] class CosmosDBSplitReader(
    core: Core,
    options: CosmosDBOptions,
    metrics: SourceMetrics
) extends SplitReader[Page, CosmosDBSplit]:
  /** Long enough to cost nothing, short enough that the core's log is not late. */
  private val waitMillis = 1000L

  private val leavesOut = DecodePolicy.of(options) == DecodePolicy.Skip
  private val finality = Finality.of(options.toJava, false)
  private val buffers = PageBuffers()
  @volatile private var handle: Option[Core.SourceHandle] = None
  @volatile private var woken = false
  private var opened = false

  /** What the core has not been told yet, because it is not open. */
  private var added = Vector.empty[CosmosDBSplit]
  private var paused = Set.empty[String]

  override def handleSplitsChanges(change: SplitsChange[CosmosDBSplit]): Unit = change match
    case more: SplitsAddition[CosmosDBSplit] =>
      added ++= more.splits.asScala
      try
        handle match
          case None => handle = Some(core.openSource(options.toJava))
          case Some(source) => if opened then tell(source)
      catch case e: CosmosException => throw Failures.open(what, e, finality)
    case other => throw UnsupportedOperationException(s"cannot handle a ${other.getClass.getName}")

  private def what = s"cannot read the change feed of container ${options.container}"

  private def tell(source: Core.SourceHandle): Unit =
    source.addSplits(added.map(_.entry).asJava)
    added = Vector.empty
    if paused.nonEmpty then source.pauseOrResumeSplits(paused.asJava, JavaSet.of())
    paused = Set.empty

  override def fetch(): RecordsWithSplitIds[Page] = handle match
    case Some(source) if !woken =>
      try if ready(source) then next(source) else nothing()
      catch
        case e: CosmosException =>
          core.drainLog(true)
          throw Failures.running(what, e, finality)
    case _ => nothing()

  /** Whether the core is open and knows all splits; waits for it as for a page. */
  private def ready(source: Core.SourceHandle): Boolean =
    if !opened && source.awaitOpen(waitMillis) then
      opened = true
      metrics.follow(source)
      tell(source)
    opened

  private def next(source: Core.SourceHandle): RecordsWithSplitIds[Page] =
    Option(buffers.next(source, waitMillis)).fold(nothing()): page =>
      core.drainLog(false)
      metrics.fetched(page)
      if leavesOut then metrics.coreLeftOut(source.metrics.get(Field.UNDECODABLE))
      PageRecords(Some(page), () => buffers.give(page))

  private def nothing(): RecordsWithSplitIds[Page] =
    woken = false
    core.drainLog(false)
    PageRecords(None, () => ())

  override def pauseOrResumeSplits(pause: Collection[CosmosDBSplit], resume: Collection[CosmosDBSplit]): Unit =
    val (pausing, resuming) = (pause.asScala.map(_.id).toSet, resume.asScala.map(_.id).toSet)
    if opened then handle.foreach(_.pauseOrResumeSplits(pausing.asJava, resuming.asJava))
    else paused = paused ++ pausing -- resuming

  override def wakeUp(): Unit =
    woken = true
    handle.foreach: source =>
      try source.wakeUp()
      catch case e: CosmosException if e.kind == CosmosException.Kind.CLOSED => ()

  override def close(): Unit =
    handle.foreach: source =>
      metrics.forget(source)
      source.close()
    core.drainLog(true)

/** One fetch: one page as one element, or nothing. */
final private class PageRecords(private var page: Option[Page], done: () => Unit) extends RecordsWithSplitIds[Page]:
  private var split = page.map(_.splitId)

  override def nextSplit(): String | Null =
    val next = split
    split = None
    next.orNull

  override def nextRecordFromSplit(): Page | Null =
    val next = page
    page = None
    next.orNull

  override def finishedSplits(): JavaSet[String] = JavaSet.of()

  override def recycle(): Unit = done()

/** What becomes of a document that cannot be decoded: the option `source.on-decode-error`. */
private[scaladsl] enum DecodePolicy:
  /** Fails the job and names the document. */
  case Fail

  /** Leaves it out and counts it. */
  case Skip

  /** Hands it to [[RecordReader.readRaw]] and counts it. */
  case Raw

private[scaladsl] object DecodePolicy:
  private val option = "source.on-decode-error"

  def of(options: CosmosDBOptions): DecodePolicy =
    val name = options.require(option).fold(e => throw e.toException, identity)
    values
      .find(_.toString.equalsIgnoreCase(name))
      .getOrElse:
        val message = s"option '$option' is '$name'; this connector knows fail, skip and raw"
        throw CosmosError(CosmosException.Kind.CONFIG, message).toException

/** Emits a page in one go and only then moves the split: a checkpoint never falls inside a page, which may read differently the next time. */
final private[scaladsl] class PageEmitter[T](
    reader: RecordReader[T],
    eventTime: EventTime[T],
    policy: DecodePolicy,
    metrics: SourceMetrics
) extends RecordEmitter[Page, T, SplitProgress]:
  import PageEmitter.*

  private val skipped = Seldom()

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
      if refused != null then undecodable(where(page, i, record, progress.split), record, refused, emit)
      i += 1
    metrics.emitted(page)
    progress.split = progress.split.copy(position = page.split)

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

  private def undecodable(where: => String, record: RecordView, why: Refused, emit: T => Unit): Unit =
    if !why.ofRecord then throw everybodys(where, why)
    // What is flagged the core has counted already.
    metrics.undecodable(record.undecodable)
    policy match
      case DecodePolicy.Skip =>
        val since = skipped.happened()
        if since > 0 then
          log.warn(s"left out $since documents that cannot be read, the last of them: $where: ${why.message}")
        else if log.isDebugEnabled then log.debug("left out: {}: {}", where, why.message)
      case DecodePolicy.Raw =>
        val again = attempt(reader.readRaw(record, why.error, emit))
        if again != null then throw everybodys(where, again)
      case DecodePolicy.Fail =>
        throw IOException(
          s"$where: ${why.message}; source.on-decode-error skip leaves such documents out, raw hands them on as they are",
          RecordFailures.small(why.cause)
        )

  private def everybodys(where: String, why: Refused): Throwable = why.cause match
    case e: StackOverflowError => IOException(s"$where: ${why.message}", RecordFailures.small(e))
    case e: Error => e
    case cause => IOException(s"$where: ${why.message}", RecordFailures.small(cause))

private object PageEmitter:
  private val log = LoggerFactory.getLogger(classOf[PageEmitter[?]])

  final private case class Refused(error: DecodeError, cause: Throwable | Null):
    def ofRecord: Boolean = cause == null || RecordFailures.isOfRecord(cause)
    def message: String = RecordFailures.shortened(error.message)

  private def refusal(e: Throwable) = Refused(DecodeError(Option(e.getMessage).getOrElse(e.getClass.getName)), e)

  private val flagged = Refused(DecodeError("its id or partition key is no JSON in UTF-8"), null)

  private def where(page: Page, index: Int, record: RecordView, split: CosmosDBSplit): String =
    s"cannot read the document with id '${record.id}' and partition key ${record.partitionKey} in $split (id ${split.id}), " +
      s"record ${index + 1} of ${page.count} of its page, log sequence number ${record.lsn}"
