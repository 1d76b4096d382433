package io.cosmosflink.scaladsl

import org.apache.flink.annotation.PublicEvolving
import io.cosmosflink.core.RecordView

import java.time.Instant

/** Which document changed, and when.
  *
  * @param timestamp
  *   the service's `_ts`, of a delete the time of the deletion: epoch seconds
  * @param lsn
  *   log sequence number, if the service gave it
  */
@PublicEvolving
final case class Changed(id: String, partitionKey: PartitionKey, timestamp: Long, lsn: Option[Long]) derives FlinkType:
  def at: Instant = Instant.ofEpochSecond(timestamp)

/** One change of one document. By id and partition key, the last change of a document says what has become of it: with a [[current]] document
  * it is that one, without one it is gone.
  *
  * {{{
  * change match
  *   case Change.Upserted(_, order) => show(order)
  *   case Change.Created(of, order) => add(of.id, order)
  *   case Change.Replaced(of, order, _) => replace(of.id, order)
  *   case Change.Deleted(of, expired, _) => remove(of.id, why = if expired then "expired" else "deleted")
  * }}}
  *
  * The document before a change is there where the service says, which today it does not.
  */
@PublicEvolving
enum Change[+T] derives FlinkType:
  /** Created or replaced; the latest-version feed cannot tell which. */
  case Upserted(of: Changed, document: T)
  case Created(of: Changed, document: T)
  case Replaced(of: Changed, document: T, before: Option[T])

  /** There is no document any more.
    *
    * @param expired
    *   because its time to live ended
    */
  case Deleted(of: Changed, expired: Boolean, before: Option[T])

  /** Which document changed, and when. */
  def of: Changed

  /** The document after the change, unless it is gone. */
  def current: Option[T] = this match
    case Upserted(_, document) => Some(document)
    case Created(_, document) => Some(document)
    case Replaced(_, document, _) => Some(document)
    case _: Deleted[T] => None

object Change:
  /** The change of a record; none where nothing is made of its document.
    *
    * @param read
    *   what is made of a document, or of the one before it
    */
  private[scaladsl] def of[T](record: RecordView)(
      read: RecordView => Either[DecodeError, Option[T]]
  ): Either[DecodeError, Option[Change[T]]] =
    val changed = Changed(
      record.id,
      PartitionKey.ofJson(record.partitionKey),
      record.timestampSeconds,
      Option.when(record.lsn >= 0)(record.lsn)
    )
    def before = Option(record.previous) match
      case None => Right(None)
      case Some(view) => read(view)
    record.change match
      case RecordView.Change.UPSERT => read(record).map(_.map(Upserted(changed, _)))
      case RecordView.Change.CREATE => read(record).map(_.map(Created(changed, _)))
      case RecordView.Change.REPLACE =>
        read(record).flatMap:
          case None => Right(None)
          case Some(document) => before.map(old => Some(Replaced(changed, document, old)))
      case RecordView.Change.DELETE => before.map(old => Some(Deleted(changed, record.expired, old)))
