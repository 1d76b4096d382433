package io.cosmosflink.scaladsl.jobs

import io.cosmosflink.core.Operation
import io.cosmosflink.scaladsl.{ChangeKind, ChangeRecord, Document, Json, JsonFields, PartitionKey}
import org.scalacheck.{Arbitrary, Gen}
import org.scalatest.EitherValues
import org.scalatest.matchers.should.Matchers
import org.scalatest.propspec.AnyPropSpec
import org.scalatestplus.scalacheck.ScalaCheckPropertyChecks

import java.nio.charset.StandardCharsets.UTF_8
import java.time.Instant

/** What holds for every document; single documents are in `tests/cases`. */
class OrdersSpec extends AnyPropSpec with ScalaCheckPropertyChecks with Matchers with EitherValues:
  private val now = Instant.parse("2026-01-01T00:00:10Z")
  private val fields = List("id", "customerId", "source", "amount", "currency", "createdAt", "region", "processedAt")

  /** Anything that a program can hold, half surrogate pairs included. */
  private val texts: Gen[String] = Gen.oneOf(
    Arbitrary.arbitrary[String],
    Gen.oneOf("eu-west", "EUR", "2026-01-01T00:00:00Z", "+999999999-01-01T00:00:00Z", " ", "\ud800", "😀" * 60)
  )
  private val numbers: Gen[String] = Gen.oneOf(
    Arbitrary.arbitrary[Long].map(_.toString),
    Arbitrary.arbitrary[BigDecimal].map(_.bigDecimal.toString),
    Gen.oneOf("1e999999999", "1e-999999999", "-0.0", "1e99999999999", "0e5")
  )

  private def values(depth: Int): Gen[String] =
    val leaves = Gen.oneOf(texts.map(quoted), numbers, Gen.oneOf("null", "true", "false"))
    if depth == 0 then leaves
    else Gen.frequency(6 -> leaves, 1 -> listOf(values(depth - 1)).map(_.mkString("[", ",", "]")), 1 -> objects(depth))

  /** Short, or nested ones would have no end. */
  private def listOf[T](items: Gen[T]): Gen[List[T]] = Gen.choose(0, 6).flatMap(Gen.listOfN(_, items))

  private def objects(depth: Int): Gen[String] =
    listOf(Gen.zip(Gen.oneOf(Gen.oneOf(fields), texts), values(depth - 1)))
      .map(_.map((name, value) => s"${quoted(name)}:$value").mkString("{", ",", "}"))

  /** Documents that look like orders, with some fields of them wrong. */
  private val nearlyOrders: Gen[String] = for
    id <- Gen.frequency(9 -> Gen.identifier.map(quoted), 1 -> values(1))
    customer <- Gen.frequency(9 -> texts.map(quoted), 1 -> values(1))
    source <- Gen.frequency(9 -> Gen.oneOf(Gen.const("\"eu-west\""), texts.map(quoted)), 1 -> values(1))
    amount <- Gen.frequency(9 -> Gen.choose(0, 100000).map(n => s"$n.125"), 2 -> numbers, 1 -> values(1))
    currency <- Gen.frequency(9 -> Gen.oneOf("\"eur\"", "\"USD\""), 1 -> values(1))
    created <- Gen.frequency(9 -> Gen.const("\"2026-01-01T00:00:00Z\""), 1 -> texts.map(quoted))
    note <- values(2)
  yield s"""{"id":$id,"customerId":$customer,"source":$source,"amount":$amount,"currency":$currency,""" +
    s""""createdAt":$created,"note":$note,"_ts":7}"""

  private def quoted(text: String): String =
    text.iterator
      .map(c => if c >= ' ' && c < 127 && c != '"' && c != '\\' then c.toString else f"\\u${c.toInt}%04x")
      .mkString("\"", "", "\"")

  private val documents: Gen[Array[Byte]] =
    Gen.oneOf(Arbitrary.arbitrary[Array[Byte]], Gen.oneOf(values(3), objects(3), nearlyOrders).map(_.getBytes(UTF_8)))

  private def fieldsOf(document: Document): JsonFields =
    Json.parse(document.json).value match
      case Json.Obj(fields) => fields
      case other => fail(s"$other is no object")

  property("any bytes give a document or a reason, and a dead letter can be written of them"):
    forAll(documents, minSuccessful(2000)): document =>
      val record = ChangeRecord(document, "i", PartitionKey("k"), 0, None, ChangeKind.Upsert)
      Orders.outgoing(document, now)
      Orders.delivered(document, now)
      Orders.judge("orders", record, now) match
        case Verdict.Processed(order) => Json.parse(order.json).isRight shouldBe true
        case Verdict.Bad(letter) =>
          fieldsOf(letter).get("message").collect { case Json.Str(message) => message }.get should not be empty
        case Verdict.Nothing => fail("only a delete is nothing")

  property("what was processed has its region as its key, keeps its other fields, and can be delivered"):
    forAll(nearlyOrders, minSuccessful(1000)): text =>
      val document = text.getBytes(UTF_8)
      Orders
        .process(document, now)
        .foreach: processed =>
          val before = Json.parse(document).value
          val after = fieldsOf(processed)
          after.get("region").map(region => Json.obj("r" -> region)) shouldBe Json
            .parse(s"""{"r":${processed.partitionKey.json.drop(1).dropRight(1)}}""".getBytes(UTF_8))
            .toOption
          after.get("note") shouldBe before.get("note")
          after.get("_ts") shouldBe None
          val event = Orders.outgoing(processed.json, now).value
          event.id shouldBe processed.id
          Orders.delivered(event.json, now).value.partitionKey shouldBe processed.partitionKey

  property("processing twice changes nothing more"):
    forAll(nearlyOrders, minSuccessful(1000)): text =>
      Orders
        .process(text.getBytes(UTF_8), now)
        .foreach: once =>
          fieldsOf(Orders.process(once.json, now).value) shouldBe fieldsOf(once)

  property("an event is the same after it was state"):
    forAll(Arbitrary.arbitrary[Array[Byte]], Gen.alphaNumStr, Gen.alphaNumStr): (bytes, id, key) =>
      val event = Document(id, PartitionKey(key), bytes)
      val read = Operation.decode(Operation.bodyOf(Orders.state(event)))
      (read.id, read.partitionKey, read.document.toList) shouldBe (id, event.partitionKey.json, bytes.toList)
