package io.cosmosflink.scaladsl

import io.cosmosflink.core.Core.Role
import io.cosmosflink.core.CosmosException.Kind
import io.cosmosflink.core.{Core, LeaseProgress, NativeCore, NotOfRecordException, Reading, RecordFailures, RecordView}
import org.apache.flink.annotation.PublicEvolving
import org.apache.flink.api.common.eventtime.TimestampAssigner
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
enum Startup:
  /** As the option `scan.startup.mode` says; without it at the earliest change. */
  case Configured
  case Earliest
  case Latest

  /** With what was changed from a moment on. The feed counts whole seconds. */
  case Timestamp(time: Instant)

  /** With the container as it is, then with every change of it. Of [[FeedMode.AllVersionsAndDeletes]] alone. */
  case Initial

  /** The positions of a file, which the JobManager reads. */
  case Tokens(file: String)

  /** Where the change feed processor has stopped whose leases the options `scan.lease.container` and `scan.lease.prefix` name. */
  case Leases

  /** Where another source of the same container stops, which [[Bounded.Latest]] has given positions: for the change feed behind a query, or
    * behind the feed up to a moment, in a `HybridSource`, whose context has the enumerator. It is null after a restore, when the state says
    * where to go on. What was changed while the first source read may come twice, and nothing is missing.
    */
  case Behind(previous: SplitEnumerator[?, ?] | Null)

/** Up to where the change feed is read. All that was written before is delivered, and the job ends although writers go on. */
@PublicEvolving
enum Bounded:
  /** As the option `scan.bounded.mode` says; without it nowhere. */
  case Configured
  case Unbounded

  /** What was written when the job looked for its feed ranges first. */
  case Latest

  /** What was written at a moment. The feed counts whole seconds. */
  case Timestamp(time: Instant)

/** What is read of a container. */
@PublicEvolving
enum FeedMode:
  /** As the option `scan.change-feed.mode` says; without it the latest versions. */
  case Configured

  /** The latest version of each document that changed. */
  case LatestVersion

  /** Every version of each document, and deletes. The account needs continuous backup. */
  case AllVersionsAndDeletes

/** Event time of a record, epoch millis, or Flink's `TimestampAssigner.NO_TIMESTAMP` for none. The record is valid during the call only. */
@PublicEvolving
trait EventTime[T] extends Serializable:
  def apply(value: T, record: RecordView): Long

object EventTime:
  /** The service's `_ts`, which counts whole seconds. A row of a query that does not select it has no event time. */
  def ofService[T]: EventTime[T] = (_, record) =>
    record.timestampSeconds match
      case 0L => TimestampAssigner.NO_TIMESTAMP
      case seconds => seconds * 1000

/** Makes elements of a stream out of records of the feed. */
@PublicEvolving
trait RecordReader[T] extends Serializable:
  /** Called once on each task before the first record, with a metric group of its own and the class loader of the job. */
  def open(@unused context: DeserializationSchema.InitializationContext): Unit = ()

  /** Emits none, one or several elements. `Left` says that the record cannot be used, as an exception does; what becomes of it is the option
    * `json.on-error`. What was emitted before stays emitted. A `NotOfRecordException` says that every record would fail alike; it
    * fails the job, as an `Error` does.
    *
    * @param record
    *   valid during the call only; its `change` says whether it is a delete, which has no document
    */
  def read(record: RecordView, emit: T => Unit): Either[DecodeError, Unit]

  /** Emits what is to stand for a record that could not be decoded: the core could not read its id or key, or [[read]] gave `Left` or threw.
    * Called with `json.on-error` `raw` only. `Left` fails the job. Unless a reader overrides it, that is what it gives, because nothing
    * of the type `T` could stand for such a record; [[CosmosDBSource.raw]] hands it on.
    *
    * @param record
    *   as for [[read]]; its `document` is what the service sent, byte for byte
    */
  def readRaw(@unused record: RecordView, error: DecodeError, @unused emit: T => Unit): Either[DecodeError, Unit] =
    Left(DecodeError(s"its reader has no readRaw, which json.on-error raw needs; it said: ${error.message}"))

  /** Whether it makes something of a delete. One that does not is refused with all versions and deletes, where deletes would go unseen:
    * [[RecordReader.changes]] hands them on, [[withoutDeletes]] leaves them out knowingly.
    */
  def readsDeletes: Boolean = true

  /** Only the documents, with all versions and deletes each version of them: deletes are left out. */
  final def withoutDeletes: RecordReader[T] = WithoutDeletes(this)

/** The ready readers, for [[CosmosDBSource.of]]. */
@PublicEvolving
object RecordReader:
  /** The documents as models; deletes are left out. */
  def documents[T](using decoder: JsonDecoder[T]): RecordReader[T] = new RecordReader:
    def read(record: RecordView, emit: T => Unit): Either[DecodeError, Unit] =
      if record.change == RecordView.Change.DELETE then done
      else decoder.decode(record.buffer, record.documentOffset, record.documentLength).map(emit)

    override def readsDeletes: Boolean = false

  /** Each change with its kind, the document as another reader reads it, and deletes without one.
    *
    * @param documents
    *   emits one element for a document, or none to have its change left out
    */
  def changes[T](documents: RecordReader[T]): RecordReader[Change[T]] = ChangeReader(documents)

  /** What another schema makes of the documents, which are JSON in UTF-8; deletes are left out. See [[CosmosDBSource.deserialized]]. */
  def deserialized[T](schema: DeserializationSchema[T]): RecordReader[T] = SchemaReader(schema)

  /** Everything that the feed says about a change, deletes included. */
  def raw: RecordReader[ChangeRecord] = new RecordReader:
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
final private class SchemaReader[T](schema: DeserializationSchema[T]) extends RecordReader[T]:
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
    RecordReader.done

/** What another reader makes of the documents. */
final private class WithoutDeletes[T](documents: RecordReader[T]) extends RecordReader[T]:
  override def open(context: DeserializationSchema.InitializationContext): Unit = documents.open(context)

  def read(record: RecordView, emit: T => Unit): Either[DecodeError, Unit] =
    if record.change == RecordView.Change.DELETE then RecordReader.done else documents.read(record, emit)

  override def readRaw(record: RecordView, error: DecodeError, emit: T => Unit): Either[DecodeError, Unit] =
    if record.change == RecordView.Change.DELETE then RecordReader.done else documents.readRaw(record, error, emit)

/** Changes, whose documents another reader reads. */
final private class ChangeReader[T](documents: RecordReader[T]) extends RecordReader[Change[T]]:
  override def open(context: DeserializationSchema.InitializationContext): Unit = documents.open(context)

  def read(record: RecordView, emit: Change[T] => Unit): Either[DecodeError, Unit] =
    Change.of(record)(one).map(_.foreach(emit))

  /** Of the document and the one before it one may be readable: only what is not is handed on as it is. */
  override def readRaw(record: RecordView, error: DecodeError, emit: Change[T] => Unit): Either[DecodeError, Unit] =
    Change.of(record)(oneOrRaw(_, error)).map(_.foreach(emit))

  private def one(part: RecordView): Either[DecodeError, Option[T]] = only(documents.read(part, _))

  private def oneOrRaw(part: RecordView, error: DecodeError): Either[DecodeError, Option[T]] =
    val read =
      if part.undecodable then Left(error)
      else
        try one(part)
        catch case e: Throwable if RecordFailures.isOfRecord(e) => Left(DecodeError(RecordFailures.reason(e)))
    read.left.flatMap(why => only(documents.readRaw(part, why, _)))

  /** What the reader emits, if it does. */
  private def only(read: (T => Unit) => Either[DecodeError, Unit]): Either[DecodeError, Option[T]] =
    var found = List.empty[T]
    read(value => found ::= value).map: _ =>
      if found.sizeIs > 1 then
        throw NotOfRecordException(
          s"${documents.getClass.getName} emits several elements for one document, and a change has one; give changes a reader that" +
            " emits one",
          null
        )
      found.headOption

/** The change feed of a container. Each document's latest version arrives at least once per checkpointed position and exactly once in
  * Flink's state; documents of one feed range arrive in the order of their changes. It has no end unless [[Bounded]] gives it one, or a query
  * is read in its place; then the source is bounded, and may also be run in batch mode. With [[CosmosDBSource.changes]] it
  * is every version of each document, and deletes.
  *
  * {{{
  * final case class Order(id: String, region: String) derives JsonDecoder, FlinkType
  *
  * env.cosmos(CosmosDBSource[Order](options, container = "events-source", startup = Startup.Earliest), "orders")
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
    CosmosDBSplitEnumerator(context, core, onCluster(core, context.metricGroup), state, reportedBy, gauge(context))

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
    CosmosDBSourceReader(context, core, onCluster(core, context.metricGroup), reader, eventTime)

  /** The options, checked, with the identity of the job that runs. */
  private def onCluster(core: Core, group: MetricGroup) =
    val validated = options.validatedOnCluster(core, Role.SOURCE)
    CosmosDBOptions.of(LeaseProgress.identified(validated.toJava, group.getAllVariables))

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
  /** The documents as models. Deletes are left out, so that all versions and deletes are refused: [[changes]] reads those. What becomes of a
    * document that the decoder refuses is the option `json.on-error`, which fails the job unless set; [[raw]] reads what others
    * refuse.
    *
    * @param container
    *   goes before the option `container`
    */
  def apply[T: JsonDecoder: FlinkType](
      options: CosmosDBOptions,
      container: String,
      startup: Startup = Startup.Configured,
      eventTime: EventTime[T] = EventTime.ofService[T],
      bounded: Bounded = Bounded.Configured,
      mode: FeedMode = FeedMode.Configured
  ): CosmosDBSource[T] = of(options, container, RecordReader.documents, startup, eventTime, bounded, mode)

  /** Each change with its kind, the document as a model, and deletes without one: the form for [[FeedMode.AllVersionsAndDeletes]]. The latest
    * versions alone, which are read unless a mode is given, have no deletes.
    *
    * @param startup
    *   with all versions and deletes [[Startup.Latest]] or [[Startup.Initial]]
    */
  def changes[T: JsonDecoder: FlinkType](
      options: CosmosDBOptions,
      container: String,
      startup: Startup = Startup.Configured,
      eventTime: EventTime[Change[T]] = EventTime.ofService[Change[T]],
      bounded: Bounded = Bounded.Configured,
      mode: FeedMode = FeedMode.Configured
  ): CosmosDBSource[Change[T]] =
    of(options, container, RecordReader.changes(RecordReader.documents), startup, eventTime, bounded, mode)

  /** Everything that the feed says about a change, deletes included. */
  def raw(
      options: CosmosDBOptions,
      container: String,
      startup: Startup = Startup.Configured,
      eventTime: EventTime[ChangeRecord] = EventTime.ofService[ChangeRecord],
      bounded: Bounded = Bounded.Configured,
      mode: FeedMode = FeedMode.Configured
  ): CosmosDBSource[ChangeRecord] = of(options, container, RecordReader.raw, startup, eventTime, bounded, mode)

  /** What a reader makes of the records: one of one's own, or one of [[RecordReader]]. */
  def of[T: FlinkType](
      options: CosmosDBOptions,
      container: String,
      reader: RecordReader[T],
      startup: Startup = Startup.Configured,
      eventTime: EventTime[T] = EventTime.ofService[T],
      bounded: Bounded = Bounded.Configured,
      mode: FeedMode = FeedMode.Configured
  ): CosmosDBSource[T] = create(options, container, reader, startup, eventTime, () => NativeCore.get(), bounded, mode)

  /** What another schema makes of the documents, which are JSON in UTF-8: Flink's own schemas for JSON, or for Avro in its JSON encoding, those
    * of a format library, or one of the job. Deletes are left out. The end that its `isEndOfStream` may see is not asked for: where a
    * source ends is a matter of its options.
    */
  def deserialized[T](
      options: CosmosDBOptions,
      container: String,
      schema: DeserializationSchema[T],
      startup: Startup = Startup.Configured,
      eventTime: EventTime[T] = EventTime.ofService[T],
      bounded: Bounded = Bounded.Configured,
      mode: FeedMode = FeedMode.Configured
  ): CosmosDBSource[T] =
    val reader = RecordReader.deserialized(schema)
    typed(options, container, reader, schema.getProducedType, startup, eventTime, () => NativeCore.get(), bounded, mode)

  private[scaladsl] def create[T: FlinkType](
      options: CosmosDBOptions,
      container: String,
      reader: RecordReader[T],
      startup: Startup,
      eventTime: EventTime[T],
      core: Core.Provider,
      bounded: Bounded = Bounded.Configured,
      mode: FeedMode = FeedMode.Configured
  ): CosmosDBSource[T] = typed(options, container, reader, FlinkType[T].info, startup, eventTime, core, bounded, mode)

  private[scaladsl] def typed[T](
      options: CosmosDBOptions,
      container: String,
      reader: RecordReader[T],
      info: TypeInformation[T],
      startup: Startup,
      eventTime: EventTime[T],
      core: Core.Provider,
      bounded: Bounded = Bounded.Configured,
      mode: FeedMode = FeedMode.Configured
  ): CosmosDBSource[T] =
    val begin = startup match
      case Startup.Configured | Startup.Behind(_) => Nil
      case Startup.Earliest => List("scan.startup.mode" -> "earliest")
      case Startup.Latest => List("scan.startup.mode" -> "latest")
      case Startup.Timestamp(time) => at("scan.startup", time)
      case Startup.Tokens(file) => List("scan.startup.mode" -> "tokens", "scan.startup.tokens-file" -> file)
      case Startup.Leases => List("scan.startup.mode" -> "leases")
      case Startup.Initial => List("scan.startup.mode" -> "initial")
    val behind = startup match
      case Startup.Behind(before: CosmosDBSplitEnumerator) => Some(before.following)
      // After a restore, when the state says where to go on.
      case Startup.Behind(null) => None
      case Startup.Behind(other) =>
        val name = other.getClass.getName
        throw IllegalArgumentException(
          s"a source of Cosmos DB cannot go on behind $name; give the enumerator of a CosmosDBSource"
        )
      case _ => None
    val end = bounded match
      case Bounded.Configured => Nil
      case Bounded.Unbounded => List("scan.bounded.mode" -> "unbounded")
      case Bounded.Latest => List("scan.bounded.mode" -> "latest")
      case Bounded.Timestamp(time) => at("scan.bounded", time)
    val read = mode match
      case FeedMode.Configured => Nil
      case FeedMode.LatestVersion => List("scan.change-feed.mode" -> "latest-version")
      case FeedMode.AllVersionsAndDeletes => List("scan.change-feed.mode" -> allVersions)
    // A mode of its own goes with the time of the options.
    val times = List("scan.startup" -> begin, "scan.bounded" -> end).collect:
      case (what, set) if set.nonEmpty => s"$what.timestamp-millis"
    val all = CosmosDBOptions(options.values -- times) + ("container" -> container) ++
      CosmosDBOptions((begin ++ end ++ read)*)
    if !reader.readsDeletes && all.get("scan.change-feed.mode").contains(allVersions) then
      throw unseenDeletes.toException
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

  private def at(what: String, time: Instant): List[(String, String)] =
    List(s"$what.mode" -> "timestamp", s"$what.timestamp-millis" -> time.toEpochMilli.toString)

  private val reassignment = "org.apache.flink.api.connector.source.SupportsSplitReassignmentOnRecovery"

  private val allVersions = "all-versions-and-deletes"

  private val unseenDeletes = CosmosError(
    Kind.CONFIG,
    "scan.change-feed.mode is all-versions-and-deletes, and this reader makes nothing of a delete, which has no document; read with" +
      " CosmosDBSource.changes or CosmosDBSource.raw, or leave deletes out with RecordReader's withoutDeletes"
  )
