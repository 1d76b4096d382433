package io.cosmosflink.scaladsl.jobs

import io.cosmosflink.core.{DeadLetter, Operation}
import io.cosmosflink.scaladsl.{ChangeKind, ChangeRecord, Document, Json, JsonFields, PartitionKey}

import java.math.RoundingMode
import java.nio.charset.StandardCharsets.UTF_8
import java.time.{Instant, OffsetDateTime}
import java.util.Locale

import scala.jdk.OptionConverters.RichOptional
import scala.util.Try

/** Why a record cannot be used. It goes to the dead-letter container and never fails the job. */
final case class BadRecord(reason: String)

/** What the primary job makes of a change. */
enum Verdict:
  case Processed(order: Document)
  case Bad(letter: Document)

  /** A delete: there is nothing to process. */
  case Nothing

/** An order that was checked, with all that its document says.
  *
  * @param amount
  *   rounded to the hundredth
  */
final case class Order(
    id: String,
    customer: String,
    source: String,
    amount: BigDecimal,
    currency: String,
    fields: JsonFields
):
  def region: String = Orders.region(source, customer)

/** What the jobs know about orders. Pure functions. */
object Orders:
  /** What the service adds to every document. */
  private val systemFields = List("_rid", "_self", "_etag", "_attachments", "_ts", "_lsn")

  private val regionName = "[a-z]{2}(-[a-z]+)+(-?[0-9]+)?".r
  private val currencyCode = "[A-Z]{3}".r
  private val zones = 16

  /** Of an amount: to round `1e999999999` to the hundredth would take all memory. */
  private val maxWholeDigits = 18
  private val maxFractionDigits = 100

  /** The order, checked, with `region` and `processedAt` added and `amount` rounded to the hundredth. */
  def process(document: Array[Byte], now: Instant): Either[BadRecord, Document] =
    check(document).map: order =>
      outgoing(
        order.id,
        order.region,
        order.fields -- systemFields ++ (
          "amount" -> Json.Num(order.amount.bigDecimal.toPlainString),
          "currency" -> Json.Str(order.currency),
          "region" -> Json.Str(order.region),
          "processedAt" -> Json.Str(now.toString)
        )
      )

  /** The order of a document; else the first field that is wrong, with its value. */
  def check(document: Array[Byte]): Either[BadRecord, Order] =
    for
      fields <- objectOf(document)
      id <- text(fields, "id")
      customer <- text(fields, "customerId")
      source <- text(fields, "source")
      amount <- amount(fields)
      currency <- text(fields, "currency").map(_.toUpperCase(Locale.ROOT))
      _ <- Either.cond(
        currencyCode.matches(currency),
        (),
        BadRecord(s"currency is '$currency'; expected three letters")
      )
      _ <- time(fields, "createdAt")
    yield Order(id, customer, source, amount, currency, fields)

  /** A processed order as the consumer gets it: with its size class and the time it took so far. */
  def outgoing(document: Array[Byte], now: Instant): Either[BadRecord, Document] =
    for
      fields <- objectOf(document)
      id <- text(fields, "id")
      region <- text(fields, "region")
      _ <- time(fields, "processedAt")
      created <- time(fields, "createdAt")
    yield outgoing(
      id,
      region,
      fields -- systemFields ++ (
        "size" -> Json.Str(size(fields)),
        "pipelineMillis" -> Json.num(math.max(0, now.toEpochMilli - created))
      )
    )

  /** The record of a delivery: the event and when it was acknowledged. */
  def delivered(event: Array[Byte], now: Instant): Either[BadRecord, Document] =
    for
      fields <- objectOf(event)
      id <- text(fields, "id")
      region <- text(fields, "region")
    yield outgoing(id, region, fields ++ ("deliveredAt" -> Json.Str(now.toString)))

  /** What the primary job makes of a change in `container`. */
  def judge(container: String, change: ChangeRecord, now: Instant): Verdict = change.change match
    case ChangeKind.Delete => Verdict.Nothing
    case ChangeKind.Upsert | ChangeKind.Create | ChangeKind.Replace =>
      process(change.document, now)
        .fold(bad => Verdict.Bad(deadLetter(container, change, "process", bad, now)), Verdict.Processed(_))

  /** A dead letter, in the form of the core's. Its id follows from the record, so that reading it again does not store it twice. */
  def deadLetter(
      container: String,
      record: ChangeRecord,
      operation: String,
      bad: BadRecord,
      now: Instant
  ): Document =
    val key = record.partitionKey.json
    val id = DeadLetter.id(container, key, record.id, operation, record.document)
    def letter(document: Json, truncated: Boolean, encoding: Option[(String, Json)] = None) = Json
      .obj(
        (Seq(
          "id" -> Json.Str(id),
          "container" -> Json.Str(container),
          "operation" -> Json.Str(operation),
          "reason" -> Json.Str("BadRequest"),
          // No request failed.
          "status" -> Json.num(0L),
          "subStatus" -> Json.num(0L),
          // Half a surrogate pair, as "\ud800" in a document makes it, has no UTF-8; it becomes a question mark.
          "message" -> Json.Str(String(DeadLetter.text(bad.reason).getBytes(UTF_8), UTF_8)),
          "activityId" -> Json.Str(""),
          "time" -> Json.Str(now.toString),
          "documentId" -> Json.Str(record.id),
          "partitionKey" -> Json.Str(key),
          "documentBytes" -> Json.num(record.document.length.toLong),
          "truncated" -> Json.Bool(truncated)
        ) ++ encoding :+ ("document" -> document))*
      )
      .bytes
    def text = String(record.document, UTF_8)
    def binary = DeadLetter
      .base64(record.document)
      .toScala
      .map(base64 =>
        letter(
          Json.Str(base64),
          record.document.length > DeadLetter.MAX_BINARY,
          Some("documentEncoding" -> Json.Str("base64"))
        )
      )
    val json = Json
      .parse(record.document)
      .toOption
      .filter(depth(_) < DeadLetter.MAX_DEPTH)
      .map(letter(_, truncated = false))
      .filter(_.length <= DeadLetter.MAX_BYTES)
      .orElse(binary)
      .orElse(Some(letter(Json.Str(text), truncated = false)).filter(_.length <= DeadLetter.MAX_BYTES))
      .getOrElse(letter(Json.Str(DeadLetter.beginning(text)), truncated = true))
    Document(id, PartitionKey(container), json)

  /** Levels of nesting. */
  private def depth(value: Json): Int = value match
    case Json.Arr(items) => 1 + items.map(depth).maxOption.getOrElse(0)
    case Json.Obj(fields) => 1 + fields.names.flatMap(fields.get).map(depth).maxOption.getOrElse(0)
    case _ => 0

  /** A document as an upsert in the core's durable form, for operators that keep it in their state. */
  def state(document: Document): Array[Byte] =
    Operation.stateOf(Operation.upsert(document.id, document.partitionKey.json, document.json).encode)

  /** The source where it names a region; else one of a few zones, by customer, so that no partition gets all. */
  def region(source: String, customer: String): String =
    val name = source.trim.toLowerCase(Locale.ROOT)
    if regionName.matches(name) then name else s"zone-${Math.floorMod(customer.hashCode, zones)}"

  private def outgoing(id: String, key: String, fields: JsonFields) =
    Document(id, PartitionKey(key), Json.Obj(fields).bytes)

  private def size(fields: JsonFields) = fields.get("amount").flatMap(decimal).getOrElse(BigDecimal(0)) match
    case amount if amount < 100 => "small"
    case amount if amount < 1000 => "medium"
    case _ => "large"

  private def objectOf(document: Array[Byte]): Either[BadRecord, JsonFields] = Json.parse(document) match
    case Right(Json.Obj(fields)) => Right(fields)
    case Right(_) => Left(BadRecord("the document is not a JSON object"))
    case Left(error) => Left(BadRecord(s"the document is not JSON: ${error.message}"))

  private def text(fields: JsonFields, name: String): Either[BadRecord, String] = fields.get(name) match
    case Some(Json.Str(value)) if !value.isBlank => Right(value)
    case other => Left(BadRecord(s"$name is ${shown(other)}; expected a text that is not empty"))

  private def amount(fields: JsonFields): Either[BadRecord, BigDecimal] =
    val found = fields.get("amount")
    found
      .flatMap(decimal)
      .filter(usable)
      .map(amount => BigDecimal(amount.bigDecimal.setScale(2, RoundingMode.HALF_EVEN)))
      .toRight(
        BadRecord(
          s"amount is ${shown(found)}; expected a number, at least 0, of at most $maxWholeDigits digits before and " +
            s"$maxFractionDigits behind the point"
        )
      )

  private def usable(amount: BigDecimal) =
    amount.signum >= 0 && amount.precision.toLong - amount.scale <= maxWholeDigits && amount.scale <= maxFractionDigits

  /** Nothing for what is no number, or one that no decimal can hold. */
  private def decimal(value: Json): Option[BigDecimal] = value match
    case Json.Num(text) => Try(BigDecimal(java.math.BigDecimal(text))).toOption
    case _ => None

  /** Epoch millis. */
  private def time(fields: JsonFields, name: String): Either[BadRecord, Long] =
    text(fields, name).flatMap: value =>
      Try(OffsetDateTime.parse(value).toInstant.toEpochMilli).toEither.left
        .map(_ => BadRecord(s"$name is '$value'; expected an ISO 8601 time with its offset"))

  private def shown(value: Option[Json]) =
    val text = value.fold("missing")(_.toString)
    if text.length <= 100 then text else text.take(100) + ".."
