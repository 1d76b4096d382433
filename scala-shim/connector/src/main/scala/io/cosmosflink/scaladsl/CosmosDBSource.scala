package io.cosmosflink.scaladsl

import io.cosmosflink.core.Core.Role
import io.cosmosflink.core.CosmosException.Kind
import io.cosmosflink.core.{Core, NativeCore, Reading, RecordView}
import org.apache.flink.annotation.PublicEvolving
import org.apache.flink.api.common.serialization.DeserializationSchema
import org.apache.flink.api.common.typeinfo.TypeInformation
import org.apache.flink.api.connector.source.{
  Boundedness,
  ReaderInfo,
  Source,
  SourceReader,
  SourceReaderContext,
  SplitEnumerator,
  SplitEnumeratorContext,
  SupportsSplitReassignmentOnRecovery
}
import org.apache.flink.api.java.typeutils.ResultTypeQueryable
import org.apache.flink.core.io.SimpleVersionedSerializer
import org.apache.flink.metrics.MetricGroup
import org.apache.flink.streaming.api.lineage.{LineageVertex, LineageVertexProvider}
import org.apache.flink.util.{Collector, UserCodeClassLoader}

import java.time.Instant

import scala.annotation.unused
import scala.jdk.CollectionConverters.*

/** Where a job begins that has no savepoint. */
@PublicEvolving
enum StartFrom:
  /** As the option `source.start` says; without it at the beginning. */
  case Configured
  case Beginning
  case Now
  case At(time: Instant)

  /** With the container as it is, then with every change of it. Of [[FeedMode.AllVersionsAndDeletes]] alone. */
  case Initial

  /** Where another source of the same container stops, which [[StopAt.Start]] has given positions: for the change feed behind a query, or
    * behind the feed up to a moment, in a `HybridSource`, whose context has the enumerator. It is null after a restore, when the state says
    * where to go on. What was changed while the first source read may come twice, and nothing is missing.
    */
  case Behind(previous: SplitEnumerator[?, ?] | Null)

/** Up to where the change feed is read. All that was written before is delivered, and the job ends although writers go on. */
@PublicEvolving
enum StopAt:
  /** As the option `source.stop` says; without it nowhere. */
  case Configured
  case Never

  /** What was written when the job looked for its feed ranges first. */
  case Start
  case At(time: Instant)

/** What is read of a container. */
@PublicEvolving
enum FeedMode:
  /** As the option `source.mode` says; without it the latest versions. */
  case Configured

  /** The latest version of each document that changed. */
  case LatestVersion

  /** Every version of each document, and deletes. The account needs continuous backup. */
  case AllVersionsAndDeletes

/** Event time of a record, epoch millis. The record is valid during the call only. */
@PublicEvolving
trait EventTime[T] extends Serializable:
  def apply(value: T, record: RecordView): Long

object EventTime:
  /** The service's `_ts`, which counts whole seconds. */
  def ofService[T]: EventTime[T] = (_, record) => record.timestampSeconds * 1000

/** Makes elements of a stream out of records of the feed. */
@PublicEvolving
trait RecordReader[T] extends Serializable:
  /** Called once on each task before the first record, with a metric group of its own and the class loader of the job. */
  def open(@unused context: DeserializationSchema.InitializationContext): Unit = ()

  /** Emits none, one or several elements. `Left` says that the record cannot be used, as an exception does; what becomes of it is the option
    * `source.on-decode-error`. What was emitted before stays emitted. A `NotOfRecordException` says that every record would fail alike; it
    * fails the job, as an `Error` does.
    *
    * @param record
    *   valid during the call only; its `change` says whether it is a delete, which has no document
    */
  def read(record: RecordView, emit: T => Unit): Either[DecodeError, Unit]

  /** Emits what is to stand for a record that could not be decoded: the core could not read its id or key, or [[read]] gave `Left` or threw.
    * Called with `source.on-decode-error` `raw` only. `Left` fails the job. Unless a reader overrides it, that is what it gives, because nothing
    * of the type `T` could stand for such a record; [[CosmosDBSource.raw]] hands it on.
    *
    * @param record
    *   as for [[read]]; its `document` is what the service sent, byte for byte
    */
  def readRaw(@unused record: RecordView, error: DecodeError, @unused emit: T => Unit): Either[DecodeError, Unit] =
    Left(DecodeError(s"its reader has no readRaw, which source.on-decode-error raw needs; it said: ${error.message}"))

  /** Whether it makes something of a delete. One that does not is refused with all versions and deletes, where deletes would go unseen. */
  def readsDeletes: Boolean = true

/** The change feed of a container. Each document's latest version arrives at least once per checkpointed position and exactly once in
  * Flink's state; documents of one feed range arrive in the order of their changes. It has no end unless [[StopAt]] gives it one, or a query
  * is read in its place; then the source is bounded, and may also be run in batch mode. With [[CosmosDBSource.changes]] it
  * is every version of each document, and deletes.
  *
  * {{{
  * final case class Order(id: String, region: String) derives JsonDecoder, FlinkType
  *
  * env.cosmos(CosmosDBSource[Order](options, container = "events-source", start = StartFrom.Beginning), "orders")
  * }}}
  */
@PublicEvolving
class CosmosDBSource[T] private[scaladsl] (
    options: CosmosDBOptions,
    reader: RecordReader[T],
    eventTime: EventTime[T],
    produced: TypeInformation[T],
    core: Core.Provider,
    begin: Option[CosmosDBSourceState]
) extends Source[T, CosmosDBSplit, CosmosDBSourceState],
      ResultTypeQueryable[T],
      LineageVertexProvider:
  /** The JobManager makes all enumerators of a job out of one source, and its metric group keeps the first gauge. */
  @transient private var unassigned: UnassignedSplits | Null = null

  override def getBoundedness: Boundedness =
    if Reading.isBounded(options.toJava) then Boundedness.BOUNDED else Boundedness.CONTINUOUS_UNBOUNDED

  override def createEnumerator(
      context: SplitEnumeratorContext[CosmosDBSplit]
  ): SplitEnumerator[CosmosDBSplit, CosmosDBSourceState] = enumerator(context, begin)

  override def restoreEnumerator(
      context: SplitEnumeratorContext[CosmosDBSplit],
      state: CosmosDBSourceState
  ): SplitEnumerator[CosmosDBSplit, CosmosDBSourceState] = enumerator(context, Some(state))

  private def enumerator(context: SplitEnumeratorContext[CosmosDBSplit], state: Option[CosmosDBSourceState]) =
    val core = Failures.core(this.core)
    CosmosDBSplitEnumerator(context, core, validated(core), state, reportedBy, gauge(context))

  private def gauge(context: SplitEnumeratorContext[CosmosDBSplit]): UnassignedSplits = synchronized:
    if unassigned == null then unassigned = UnassignedSplits.of(context.metricGroup)
    unassigned.nn

  /** The splits that a reader which registers was restored with: none before Flink 2.2, where it reads on by itself. */
  private[scaladsl] def reportedBy(@unused reader: ReaderInfo): Seq[CosmosDBSplit] = Nil

  override def createReader(context: SourceReaderContext): SourceReader[T, CosmosDBSplit] =
    val core = Failures.core(this.core)
    reader.open:
      new DeserializationSchema.InitializationContext:
        override def getMetricGroup: MetricGroup = context.metricGroup.addGroup("deserializer")
        override def getUserCodeClassLoader: UserCodeClassLoader = context.getUserCodeClassLoader
    CosmosDBSourceReader(context, core, validated(core), reader, eventTime)

  private def validated(core: Core) = options.validatedOnCluster(core, Role.SOURCE)

  override def getSplitSerializer: SimpleVersionedSerializer[CosmosDBSplit] = CosmosDBSplitSerializer(core)

  override def getEnumeratorCheckpointSerializer: SimpleVersionedSerializer[CosmosDBSourceState] =
    CosmosDBSourceStateSerializer

  override def getProducedType: TypeInformation[T] = produced

  /** What is read, for tools that follow data from job to job: the container, by endpoint, database and name. */
  override def getLineageVertex: LineageVertex = Lineage.ofSource(options, getBoundedness)

  override def toString: String = s"CosmosDBSource{$options}"

/** The source for Flink 2.2 and later, where readers that are restored report their splits instead of reading on, so that these are spread
  * anew. Older versions cannot load this class: only what checks `CosmosDBSource.reassigns` may call it.
  */
final private[scaladsl] class ReassigningCosmosDBSource[T](
    options: CosmosDBOptions,
    reader: RecordReader[T],
    eventTime: EventTime[T],
    produced: TypeInformation[T],
    core: Core.Provider,
    begin: Option[CosmosDBSourceState]
) extends CosmosDBSource[T](options, reader, eventTime, produced, core, begin),
      SupportsSplitReassignmentOnRecovery:
  override private[scaladsl] def reportedBy(reader: ReaderInfo): Seq[CosmosDBSplit] =
    reader.getReportedSplitsOnRegistration[CosmosDBSplit].asScala.toSeq

/** Gives the type that every version of Flink can load, so that no caller's verifier looks for the other one. */
private object ReassigningCosmosDBSource:
  def of[T](
      options: CosmosDBOptions,
      reader: RecordReader[T],
      eventTime: EventTime[T],
      produced: TypeInformation[T],
      core: Core.Provider,
      begin: Option[CosmosDBSourceState]
  ): CosmosDBSource[T] = new ReassigningCosmosDBSource(options, reader, eventTime, produced, core, begin)

/** Sources. All throw a `CosmosException` of kind CONFIG when an option is unknown, missing or wrong; `options.validated` says so as a
  * value.
  */
object CosmosDBSource:
  /** The documents as models; deletes are left out, so that all versions and deletes are read with [[changes]]. What becomes of a document that the decoder refuses is the option
    * `source.on-decode-error`, which fails the job unless set; [[raw]] reads what others refuse.
    *
    * @param container
    *   goes before `cosmos.container` of the options
    */
  def apply[T: JsonDecoder: FlinkType](
      options: CosmosDBOptions,
      container: String,
      start: StartFrom = StartFrom.Configured,
      eventTime: EventTime[T] = EventTime.ofService[T],
      stop: StopAt = StopAt.Configured
  ): CosmosDBSource[T] = of(options, container, documents, start, eventTime, stop)

  /** Each change with its kind, the document as a model, and deletes without one.
    *
    * @param start
    *   with all versions and deletes [[StartFrom.Now]] or [[StartFrom.Initial]]
    */
  def changes[T: JsonDecoder: FlinkType](
      options: CosmosDBOptions,
      container: String,
      start: StartFrom = StartFrom.Configured,
      eventTime: EventTime[Change[T]] = EventTime.ofService[Change[T]],
      stop: StopAt = StopAt.Configured,
      mode: FeedMode = FeedMode.AllVersionsAndDeletes
  ): CosmosDBSource[Change[T]] = of(options, container, typed[T], start, eventTime, stop, mode)

  /** Everything that the feed says about a change, deletes included. */
  def raw(
      options: CosmosDBOptions,
      container: String,
      start: StartFrom = StartFrom.Configured,
      eventTime: EventTime[ChangeRecord] = EventTime.ofService[ChangeRecord],
      stop: StopAt = StopAt.Configured,
      mode: FeedMode = FeedMode.Configured
  ): CosmosDBSource[ChangeRecord] = of(options, container, changes, start, eventTime, stop, mode)

  /** What a reader of one's own makes of the records. */
  def of[T: FlinkType](
      options: CosmosDBOptions,
      container: String,
      reader: RecordReader[T],
      start: StartFrom = StartFrom.Configured,
      eventTime: EventTime[T] = EventTime.ofService[T],
      stop: StopAt = StopAt.Configured,
      mode: FeedMode = FeedMode.Configured
  ): CosmosDBSource[T] = create(options, container, reader, start, eventTime, () => NativeCore.get(), stop, mode)

  /** What another schema makes of the documents, which are JSON in UTF-8: Flink's own schemas for JSON, or for Avro in its JSON encoding, those
    * of a format library, or one of the job. Deletes are left out. The end that its `isEndOfStream` may see is not asked for: where a
    * source ends is a matter of its options.
    */
  def deserialized[T](
      options: CosmosDBOptions,
      container: String,
      schema: DeserializationSchema[T],
      start: StartFrom = StartFrom.Configured,
      eventTime: EventTime[T] = EventTime.ofService[T]
  ): CosmosDBSource[T] =
    typed(options, container, SchemaReader(schema), schema.getProducedType, start, eventTime, () => NativeCore.get())

  private[scaladsl] def create[T: FlinkType](
      options: CosmosDBOptions,
      container: String,
      reader: RecordReader[T],
      start: StartFrom,
      eventTime: EventTime[T],
      core: Core.Provider,
      stop: StopAt = StopAt.Configured,
      mode: FeedMode = FeedMode.Configured
  ): CosmosDBSource[T] = typed(options, container, reader, FlinkType[T].info, start, eventTime, core, stop, mode)

  private[scaladsl] def typed[T](
      options: CosmosDBOptions,
      container: String,
      reader: RecordReader[T],
      info: TypeInformation[T],
      start: StartFrom,
      eventTime: EventTime[T],
      core: Core.Provider,
      stop: StopAt = StopAt.Configured,
      mode: FeedMode = FeedMode.Configured
  ): CosmosDBSource[T] =
    val begin = start match
      case StartFrom.Configured | StartFrom.Behind(_) => Nil
      case StartFrom.Beginning => List("source.start" -> "beginning")
      case StartFrom.Now => List("source.start" -> "now")
      case StartFrom.At(time) => List("source.start" -> time.toString)
      case StartFrom.Initial => List("source.start" -> "initial")
    val behind = start match
      case StartFrom.Behind(before: CosmosDBSplitEnumerator) => Some(before.following)
      // After a restore, when the state says where to go on.
      case StartFrom.Behind(null) => None
      case StartFrom.Behind(other) =>
        val name = other.getClass.getName
        throw IllegalArgumentException(
          s"a source of Cosmos DB cannot go on behind $name; give the enumerator of a CosmosDBSource"
        )
      case _ => None
    val end = stop match
      case StopAt.Configured => Nil
      case StopAt.Never => List("source.stop" -> "never")
      case StopAt.Start => List("source.stop" -> "start")
      case StopAt.At(time) => List("source.stop" -> time.toString)
    val read = mode match
      case FeedMode.Configured => Nil
      case FeedMode.LatestVersion => List("source.mode" -> "latest-version")
      case FeedMode.AllVersionsAndDeletes => List("source.mode" -> allVersions)
    val all = options + ("cosmos.container" -> container) ++ CosmosDBOptions((begin ++ end ++ read)*)
    if !reader.readsDeletes && all.get("source.mode").contains(allVersions) then throw unseenDeletes.toException
    all.validatedIfPossible(core, Role.SOURCE) match
      case Right(checked) =>
        if reassigns then ReassigningCosmosDBSource.of(checked, reader, eventTime, info, core, behind)
        else new CosmosDBSource(checked, reader, eventTime, info, core, behind)
      case Left(error) => throw error.toException

  /** Whether this version of Flink can give restored splits to other readers. */
  private[scaladsl] lazy val reassigns: Boolean =
    try
      Class.forName(reassignment, false, getClass.getClassLoader)
      true
    catch case _: ClassNotFoundException => false

  private val reassignment = "org.apache.flink.api.connector.source.SupportsSplitReassignmentOnRecovery"

  private val allVersions = "all-versions-and-deletes"

  private val unseenDeletes = CosmosError(
    Kind.CONFIG,
    "source.mode is all-versions-and-deletes, and this reader makes nothing of a delete, which has no document; read with" +
      " CosmosDBSource.changes or CosmosDBSource.raw"
  )

  private[scaladsl] def documents[T](using decoder: JsonDecoder[T]): RecordReader[T] = new RecordReader:
    def read(record: RecordView, emit: T => Unit): Either[DecodeError, Unit] =
      if record.change == RecordView.Change.DELETE then done
      else decoder.decode(record.buffer, record.documentOffset, record.documentLength).map(emit)

    override def readsDeletes: Boolean = false

  private[scaladsl] def typed[T: JsonDecoder]: RecordReader[Change[T]] = (record, emit) => Change.of(record).map(emit)

  private[scaladsl] val changes: RecordReader[ChangeRecord] = new RecordReader:
    def read(record: RecordView, emit: ChangeRecord => Unit): Either[DecodeError, Unit] =
      emit(ChangeRecord.of(record))
      done

    override def readRaw(
        record: RecordView,
        error: DecodeError,
        emit: ChangeRecord => Unit
    ): Either[DecodeError, Unit] = read(record, emit)

  private[scaladsl] val done: Either[DecodeError, Unit] = Right(())

/** Reads with a schema of Flink. */
final private[scaladsl] class SchemaReader[T](schema: DeserializationSchema[T]) extends RecordReader[T]:
  override def open(context: DeserializationSchema.InitializationContext): Unit = schema.open(context)

  override def readsDeletes: Boolean = false

  def read(record: RecordView, emit: T => Unit): Either[DecodeError, Unit] =
    if record.change != RecordView.Change.DELETE then
      schema.deserialize(
        record.document,
        new Collector[T]:
          override def collect(value: T): Unit = emit(value)
          override def close(): Unit = ()
      )
    CosmosDBSource.done
