package io.cosmosflink.scaladsl

import org.apache.flink.annotation.PublicEvolving
import io.cosmosflink.core.{Operation, OperationKind, UnwritableRecordException}

import java.nio.charset.StandardCharsets

/** What a sink does with a document, and what counts as done where the service finds it otherwise than expected. `docs/writing.md` says of each what
  * a replay after a restore does. `ifMatch` is the ETag that the stored document must have, if any.
  */
@PublicEvolving
enum Write[+T] derives FlinkType:
  case Upsert(document: T, ifMatch: Option[String] = None)

  /** Fails when another document is there; the same one counts as written. */
  case Create(document: T)

  /** Fails when there is no document. */
  case Replace(document: T, ifMatch: Option[String] = None)
  case Delete(id: String, partitionKey: PartitionKey, ifMatch: Option[String] = None)

  /** Does what the option `sink.write-strategy` says; with `patch` it sets the document's fields. */
  case Default(document: T, ifMatch: Option[String] = None)

  /** Writes the document unless one is there. */
  case CreateIgnoreExisting(document: T)

  /** Writes the document if one is there. */
  case ReplaceIfExists(document: T, ifMatch: Option[String] = None)

  /** Writes the document unless the stored one was changed since its ETag or is gone; without an ETag, unless one is there. */
  case OverwriteIfNotModified(document: T, ifMatch: Option[String])

  /** Takes the document out unless it was changed since its ETag. */
  case DeleteIfNotModified(id: String, partitionKey: PartitionKey, ifMatch: Option[String])

  /** Changes parts of a document; fails when there is none. A condition that does not hold leaves it as it is. */
  case Patch(
      id: String,
      partitionKey: PartitionKey,
      patch: io.cosmosflink.scaladsl.Patch,
      ifMatch: Option[String] = None
  )

  /** The same, but leaves it when there is none. */
  case PatchIfExists(
      id: String,
      partitionKey: PartitionKey,
      patch: io.cosmosflink.scaladsl.Patch,
      ifMatch: Option[String] = None
  )

  /** Writes the fields over those of the stored document, or creates it. A derived encoder leaves out what is `None`, which then stays. */
  case BulkUpdate(document: T)

  /** Carries out writes of documents with this partition key, all of them or none. */
  case Batch(partitionKey: PartitionKey, batch: io.cosmosflink.scaladsl.Batch)

object Write:
  private val noDocument = Array.emptyByteArray

  /** The delete of the document that `value` is. */
  def delete[T](value: T)(using key: DocumentKey[T]): Write[T] = Delete(key.id(value), key.partitionKey(value))

  /** The operation as the core takes it, or an `UnwritableRecordException` with what is known of the document. */
  private[scaladsl] def encoded[T](write: Write[T])(using key: DocumentKey[T], encoder: JsonEncoder[T]): Array[Byte] =
    write match
      case Upsert(document, ifMatch) => of(OperationKind.UPSERT, document, ifMatch)
      case Create(document) => of(OperationKind.CREATE, document, None)
      case Replace(document, ifMatch) => of(OperationKind.REPLACE, document, ifMatch)
      case Delete(id, partitionKey, ifMatch) =>
        deleting(OperationKind.DELETE, id, partitionKey, ifMatch)
      case Default(document, ifMatch) => of(OperationKind.DEFAULT, document, ifMatch)
      case CreateIgnoreExisting(document) => of(OperationKind.CREATE_IGNORE_EXISTING, document, None)
      case ReplaceIfExists(document, ifMatch) => of(OperationKind.REPLACE_IF_EXISTS, document, ifMatch)
      case OverwriteIfNotModified(document, ifMatch) => of(OperationKind.OVERWRITE_IF_NOT_MODIFIED, document, ifMatch)
      case DeleteIfNotModified(id, partitionKey, ifMatch) =>
        deleting(OperationKind.DELETE_IF_NOT_MODIFIED, id, partitionKey, ifMatch)
      case Patch(id, partitionKey, patch, ifMatch) => patching(OperationKind.PATCH, id, partitionKey, patch, ifMatch)
      case PatchIfExists(id, partitionKey, patch, ifMatch) =>
        patching(OperationKind.PATCH_IF_EXISTS, id, partitionKey, patch, ifMatch)
      case BulkUpdate(document) => of(OperationKind.BULK_UPDATE, document, None)
      case Batch(partitionKey, batch) =>
        checked("", partitionKey, batch.bytes)(Operation(OperationKind.BATCH, "", partitionKey.json, "", batch.bytes))

  private def deleting(kind: OperationKind, id: String, partitionKey: PartitionKey, ifMatch: Option[String]) =
    checked(id, partitionKey, noDocument)(of(kind, id, partitionKey, ifMatch, noDocument))

  private def patching(
      kind: OperationKind,
      id: String,
      partitionKey: PartitionKey,
      patch: io.cosmosflink.scaladsl.Patch,
      ifMatch: Option[String]
  ) = checked(id, partitionKey, patch.bytes)(
    // Without an id the core refuses it, with the patch in its letter.
    Operation(kind, id, partitionKey.json, ifMatch.getOrElse(""), patch.bytes)
  )

  private def of[T](kind: OperationKind, document: T, ifMatch: Option[String])(using
      key: DocumentKey[T],
      encoder: JsonEncoder[T]
  ): Array[Byte] = checked(key.id(document), key.partitionKey(document), json(document)):
    of(kind, key.id(document), key.partitionKey(document), ifMatch, json(document))

  /** The service refuses a document without a field `id`: where the model has none, the key's id becomes one. */
  private[scaladsl] def json[T](document: T)(using key: DocumentKey[T], encoder: JsonEncoder[T]): Array[Byte] =
    val fields = encoder.encode(document)
    if encoder.writesId then fields
    else
      val id = s"""{"id":${Json.Str(key.id(document))}""".getBytes(StandardCharsets.UTF_8)
      // Behind the brace, and with a comma unless there is no field.
      val rest = if fields.length > 2 then ','.toByte +: fields.drop(1) else fields.drop(1)
      id ++ rest

  private def checked(id: => String, partitionKey: => PartitionKey, document: => Array[Byte])(
      operation: => Operation
  ): Array[Byte] =
    try operation.encode()
    catch
      // A document that is nested too deeply for its encoder is this record's matter; other Errors are not.
      case e: (Exception | StackOverflowError) =>
        throw UnwritableRecordException.of(e, () => id, () => partitionKey.json, () => document)

  private def of(
      kind: OperationKind,
      id: String,
      partitionKey: PartitionKey,
      ifMatch: Option[String],
      document: Array[Byte]
  ): Operation =
    require(id.nonEmpty, s"a document with partition key $partitionKey has an empty id; every document needs one")
    Operation(kind, id, partitionKey.json, ifMatch.getOrElse(""), document)

/** A document that is JSON already.
  *
  * @param json
  *   a JSON object in UTF-8, id and partition key included. Read only: operators share it
  */
@PublicEvolving
final case class Document(id: String, partitionKey: PartitionKey, json: Array[Byte])

object Document:
  given FlinkType[Document] =
    given FlinkType[Array[Byte]] = FlinkType.sharedBytes
    FlinkType.derived

  given DocumentKey[Document] = DocumentKey.of(_.id, _.partitionKey)
  given JsonEncoder[Document] = new JsonEncoder[Document]:
    def encode(document: Document): Array[Byte] = document.json
