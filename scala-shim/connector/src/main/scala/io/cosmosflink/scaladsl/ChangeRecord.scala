package io.cosmosflink.scaladsl

import org.apache.flink.annotation.PublicEvolving
import io.cosmosflink.core.RecordView

import java.nio.charset.StandardCharsets.UTF_8
import java.time.Instant

/** What happened to a document. */
@PublicEvolving
enum ChangeKind derives FlinkType:
  /** Created or replaced; the latest-version feed cannot tell which. */
  case Upsert
  case Create
  case Replace

  /** There is no document any more. */
  case Delete

object ChangeKind:
  private[scaladsl] def of(change: RecordView.Change): ChangeKind = change match
    case RecordView.Change.UPSERT => Upsert
    case RecordView.Change.CREATE => Create
    case RecordView.Change.REPLACE => Replace
    case RecordView.Change.DELETE => Delete

/** One change, with everything that the feed says about it.
  *
  * @param document
  *   as the service sent it, UTF-8; empty for a delete. Read only: operators share it
  * @param timestamp
  *   the service's `_ts`, of a delete the time of the deletion: epoch seconds
  * @param lsn
  *   log sequence number, if the service gave it
  * @param previous
  *   the document before the change, where the service says, which today it does not. Read only, too
  * @param expired
  *   whether it is a delete because the document's time to live ended
  */
@PublicEvolving
final case class ChangeRecord(
    document: Array[Byte],
    id: String,
    partitionKey: PartitionKey,
    timestamp: Long,
    lsn: Option[Long],
    change: ChangeKind,
    previous: Option[Array[Byte]] = None,
    expired: Boolean = false
):
  /** Whether the document is gone. */
  def deleted: Boolean = change == ChangeKind.Delete

  def at: Instant = Instant.ofEpochSecond(timestamp)

  /** The document as a model. */
  def as[T](using decoder: JsonDecoder[T]): Either[DecodeError, T] = decoder.decode(document)

  override def toString: String = s"$change $id $partitionKey ${String(document, UTF_8)}"

object ChangeRecord:
  given FlinkType[ChangeRecord] =
    given FlinkType[Array[Byte]] = FlinkType.sharedBytes
    FlinkType.derived

  private[scaladsl] def of(record: RecordView): ChangeRecord = ChangeRecord(
    record.document,
    record.id,
    PartitionKey.ofJson(record.partitionKey),
    record.timestampSeconds,
    Option.when(record.lsn >= 0)(record.lsn),
    ChangeKind.of(record.change),
    Option(record.previous).map(_.document),
    record.expired
  )
