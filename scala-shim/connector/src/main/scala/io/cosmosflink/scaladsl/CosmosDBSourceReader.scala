package io.cosmosflink.scaladsl

import io.cosmosflink.core.{CosmosException, CosmosRuntime, Page, PageBuffers, RecordView}
import org.apache.flink.api.connector.source.{SourceOutput, SourceReaderContext}
import org.apache.flink.connector.base.source.reader.splitreader.{SplitReader, SplitsAddition, SplitsChange}
import org.apache.flink.connector.base.source.reader.{
  RecordEmitter,
  RecordsWithSplitIds,
  SingleThreadMultiplexSourceReaderBase
}

import java.io.IOException
import java.util.{Collection, Map as JavaMap, Set as JavaSet}

import scala.jdk.CollectionConverters.*
import scala.util.control.NonFatal

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
      runtime: CosmosRuntime,
      options: CosmosDBOptions,
      reader: RecordReader[T],
      eventTime: EventTime[T]
  ): CosmosDBSourceReader[T] =
    val metrics = SourceMetrics(context.metricGroup)
    new CosmosDBSourceReader(
      context,
      () => CosmosDBSplitReader(runtime, options, metrics),
      PageEmitter(reader, eventTime, metrics)
    )

/** Takes pages of all splits of one reader out of the core, which fetches them ahead and concurrently. */
final private[scaladsl] class CosmosDBSplitReader(
    runtime: CosmosRuntime,
    options: CosmosDBOptions,
    metrics: SourceMetrics
) extends SplitReader[Page, CosmosDBSplit]:
  /** Long enough to cost nothing, short enough that the core's log is not late. */
  private val waitMillis = 1000L

  private val buffers = PageBuffers()
  @volatile private var handle: Option[CosmosRuntime.SourceHandle] = None
  @volatile private var woken = false

  override def handleSplitsChanges(change: SplitsChange[CosmosDBSplit]): Unit = change match
    case added: SplitsAddition[CosmosDBSplit] => opened().addSplits(added.splits.asScala.map(_.entry).asJava)
    case other => throw UnsupportedOperationException(s"cannot handle a ${other.getClass.getName}")

  /** On the fetcher's thread: opening may use the network. */
  private def opened(): CosmosRuntime.SourceHandle = handle.getOrElse:
    val source =
      try runtime.openSource(options.toJava)
      catch case e: CosmosException => throw Failures.open("cannot open the source", e, fresh = false)
    handle = Some(source)
    metrics.follow(source)
    source

  override def fetch(): RecordsWithSplitIds[Page] = handle match
    case Some(source) if !woken =>
      try next(source)
      catch
        case e: CosmosException =>
          runtime.drainLog(true)
          throw IOException(s"cannot read the change feed of container ${options.container}: ${e.getMessage}", e)
    case _ => nothing()

  private def next(source: CosmosRuntime.SourceHandle): RecordsWithSplitIds[Page] =
    val size = source.nextPage(waitMillis)
    runtime.drainLog(false)
    if size == 0 then nothing()
    else
      val buffer = buffers.take(size)
      val page = Page(buffer, source.takePage(buffer))
      metrics.fetched(page)
      PageRecords(Some(page), () => buffers.give(buffer))

  private def nothing(): RecordsWithSplitIds[Page] =
    woken = false
    PageRecords(None, () => ())

  override def pauseOrResumeSplits(pause: Collection[CosmosDBSplit], resume: Collection[CosmosDBSplit]): Unit =
    handle.foreach(_.pauseOrResumeSplits(ids(pause), ids(resume)))

  private def ids(splits: Collection[CosmosDBSplit]) = splits.asScala.map(_.id).toList.asJava

  override def wakeUp(): Unit =
    woken = true
    handle.foreach: source =>
      try source.wakeUp()
      catch case e: CosmosException if e.kind == CosmosException.Kind.CLOSED => ()

  override def close(): Unit =
    metrics.forget()
    handle.foreach(_.close())
    runtime.drainLog(true)

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

/** Emits a page in one go and only then moves the split: a checkpoint never falls inside a page, which may read differently the next time. */
final private[scaladsl] class PageEmitter[T](reader: RecordReader[T], eventTime: EventTime[T], metrics: SourceMetrics)
    extends RecordEmitter[Page, T, SplitProgress]:
  override def emitRecord(page: Page, output: SourceOutput[T], progress: SplitProgress): Unit =
    val record = page.records
    val emit: T => Unit = value =>
      val time = eventTime(value, record)
      try output.collect(value, time)
      catch case NonFatal(e) => throw Downstream(e)
    var i = 0
    while i < page.count do
      record.at(i)
      read(record, emit) match
        case Right(_) =>
        case Left(DecodeError(why)) => throw unreadable(record, why, null)
      i += 1
    metrics.emitted(page)
    progress.split = progress.split.copy(position = page.split)

  private def read(record: RecordView, emit: T => Unit): Either[DecodeError, Unit] =
    try reader.read(record, emit)
    catch
      case Downstream(e) => throw e
      case NonFatal(e) => throw unreadable(record, String.valueOf(e.getMessage), e)

  private def unreadable(record: RecordView, why: String, cause: Throwable | Null) =
    metrics.failed()
    IOException(
      s"cannot read the document with id '${record.id}' and partition key ${record.partitionKey}: $why",
      cause
    )

/** What an operator behind the source has thrown: not the document's fault. */
final private case class Downstream(e: Throwable) extends RuntimeException(e)
