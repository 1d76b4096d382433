package io.cosmosflink.scaladsl

import io.cosmosflink.core.Batch as CoreBatch
import org.apache.flink.annotation.PublicEvolving

import java.nio.charset.StandardCharsets
import scala.collection.immutable.ArraySeq

/** Writes of documents of one partition key, of which the service carries out all or none.
  *
  * {{{
  * Batch.create(payment).replace(order, ifMatch = Some(etag)).patch("account-1", Patch.increment("/balance", -10))
  * }}}
  *
  * The service takes 100 operations and 2 MiB. None of the operations leaves what it does not expect: a create whose document is there, or an ETag that
  * is another one, refuses all of it. The core looks all of this through, so that a batch that is none takes the way of `sink.failure-mode` with its
  * operations.
  *
  * After a restore a batch is written again. Where it creates a document of its own that is still there as it was written, such as the payment above,
  * it was carried out and is left alone, its increments too. One of patches without such a document is carried out again, or refused:
  * `docs/writing.md` says what a replay does.
  */
@PublicEvolving
final case class Batch(operations: Vector[BatchOperation]) derives FlinkType:
  /** Writes a document, whether or not it is there. */
  def upsert[T: DocumentKey: JsonEncoder](document: T, ifMatch: Option[String] = None): Batch =
    and(BatchOperation.Upsert(Batch.id(document), Batch.json(document), ifMatch))

  /** Writes a document that is not there. One of its own shows a batch's replay that it was carried out. */
  def create[T: DocumentKey: JsonEncoder](document: T): Batch =
    and(BatchOperation.Create(Batch.id(document), Batch.json(document)))

  /** Writes a document that is there. */
  def replace[T: DocumentKey: JsonEncoder](document: T, ifMatch: Option[String] = None): Batch =
    and(BatchOperation.Replace(Batch.id(document), Batch.json(document), ifMatch))

  /** Takes a document out that is there. */
  def delete(id: String, ifMatch: Option[String] = None): Batch = and(BatchOperation.Delete(id, ifMatch))

  /** Changes parts of a document that is there, by up to ten operations. A condition that does not hold refuses all of the batch. A replay changes
    * them once more, unless the batch creates a document of its own.
    */
  def patch(id: String, patch: Patch, ifMatch: Option[String] = None): Batch =
    and(BatchOperation.Patch(id, patch, ifMatch))

  private def and(operation: BatchOperation) = copy(operations = operations :+ operation)

  /** As the core takes it, which refuses what no batch can be. */
  private[scaladsl] def bytes: Array[Byte] =
    val batch = CoreBatch()
    def etag(ifMatch: Option[String]) = ifMatch.getOrElse("")
    operations.foreach:
      case BatchOperation.Upsert(id, json, ifMatch) => batch.upsert(id, json, etag(ifMatch))
      case BatchOperation.Create(id, json) => batch.create(id, json)
      case BatchOperation.Replace(id, json, ifMatch) => batch.replace(id, json, etag(ifMatch))
      case BatchOperation.Delete(id, ifMatch) => batch.delete(id, etag(ifMatch))
      case BatchOperation.Patch(id, patch, ifMatch) => batch.patch(id, patch.toCore, etag(ifMatch))
    batch.bytes

/** Batches that begin with one operation. */
object Batch:
  private val nothing = Batch(Vector.empty)

  def upsert[T: DocumentKey: JsonEncoder](document: T, ifMatch: Option[String] = None): Batch =
    nothing.upsert(document, ifMatch)
  def create[T: DocumentKey: JsonEncoder](document: T): Batch = nothing.create(document)
  def replace[T: DocumentKey: JsonEncoder](document: T, ifMatch: Option[String] = None): Batch =
    nothing.replace(document, ifMatch)
  def delete(id: String, ifMatch: Option[String] = None): Batch = nothing.delete(id, ifMatch)
  def patch(id: String, patch: Patch, ifMatch: Option[String] = None): Batch = nothing.patch(id, patch, ifMatch)

  private def id[T](document: T)(using key: DocumentKey[T]): String = key.id(document)

  private def json[T](document: T)(using DocumentKey[T], JsonEncoder[T]): Array[Byte] = Write.json(document)

/** One write of a batch. Documents are JSON objects in UTF-8, of which the bytes are compared. Read only: operators share them. */
@PublicEvolving
enum BatchOperation:
  case Upsert(id: String, json: Array[Byte], ifMatch: Option[String])
  case Create(id: String, json: Array[Byte])
  case Replace(id: String, json: Array[Byte], ifMatch: Option[String])
  case Delete(id: String, ifMatch: Option[String])
  case Patch(id: String, patch: io.cosmosflink.scaladsl.Patch, ifMatch: Option[String])

  private def fields: Vector[Any] = productIterator
    .map:
      case bytes: Array[Byte] => ArraySeq.unsafeWrapArray(bytes)
      case other => other
    .toVector

  override def equals(other: Any): Boolean = other match
    case that: BatchOperation => ordinal == that.ordinal && fields == that.fields
    case _ => false

  override def hashCode: Int = (ordinal, fields).hashCode

  override def toString: String = productIterator
    .map:
      case bytes: Array[Byte] => String(bytes, StandardCharsets.UTF_8)
      case other => s"$other"
    .mkString(s"$productPrefix(", ",", ")")

object BatchOperation:
  given FlinkType[BatchOperation] =
    given FlinkType[Array[Byte]] = FlinkType.sharedBytes
    FlinkType.derived
