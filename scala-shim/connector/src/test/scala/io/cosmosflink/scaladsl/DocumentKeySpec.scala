package io.cosmosflink.scaladsl

import com.github.plokhotnyuk.jsoniter_scala.macros.named
import io.cosmosflink.core.{Operation, OperationKind, UnwritableRecordException}
import io.cosmosflink.scaladsl.Models.Order
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers
import org.scalatestplus.scalacheck.ScalaCheckPropertyChecks

object DocumentKeySpec:
  final case class Payment(
      @documentId number: String,
      @partitionKey tenant: String,
      @partitionKey year: Int,
      @partitionKey paid: Option[Boolean]
  ) derives DocumentKey,
        JsonEncoder

  final case class Alias(@documentId @named("id") number: String, @partitionKey tenant: String)
      derives DocumentKey,
        JsonEncoder

  final case class Lone(number: Option[Int]) derives JsonEncoder

final class DocumentKeySpec extends AnyFunSuite, Matchers, ScalaCheckPropertyChecks:
  import DocumentKeySpec.*

  test("keys are derived from the fields that are marked"):
    DocumentKey[Order].id(Order("1", "eu", 0)) shouldBe "1"
    DocumentKey[Order].partitionKey(Order("1", "eu", 0)).json shouldBe """["eu"]"""
    val payment = Payment("n", "a\"b", 2026, None)
    DocumentKey[Payment].id(payment) shouldBe "n"
    // The field is not in the document either.
    DocumentKey[Payment].partitionKey(payment).json shouldBe """["a\"b",2026,{}]"""
    DocumentKey[Payment].partitionKey(payment.copy(paid = Some(true))).json shouldBe """["a\"b",2026,true]"""

  test("null and undefined are two keys, and a container may have none"):
    PartitionKey(null).json shouldBe "[null]"
    PartitionKey(PartitionKey.undefined).json shouldBe "[{}]"
    PartitionKey("a", PartitionKey.undefined, null).json shouldBe """["a",{},null]"""
    DocumentKey.withoutPartitionKey[String](identity).partitionKey("a").json shouldBe "[]"

  test("keys can be given"):
    val key = DocumentKey.of[Order](o => s"${o.region}-${o.id}", o => PartitionKey(o.region, o.amount, true))
    key.id(Order("1", "eu", 0)) shouldBe "eu-1"
    key.partitionKey(Order("1", "eu", BigDecimal("1.10"))).json shouldBe """["eu",1.10,true]"""

  test("a key's text is JSON of its components"):
    forAll(JsonSpec.text, org.scalacheck.Arbitrary.arbitrary[Option[Long]]): (first, second) =>
      val number = second.fold(Json.obj())(Json.num(_))
      Json.parse(PartitionKey(first, second).json.getBytes("UTF-8")) shouldBe
        Right(Json.Arr(Vector(Json.Str(first), number)))

  test("a number that JSON does not have is no component"):
    an[IllegalArgumentException] should be thrownBy PartitionKey(Double.NaN)

  private def operation(write: Write[Order]) = Operation.decode(Write.encoded(write))

  test("a patch travels also where it does not say which document it changes"):
    val sent = operation(Write.Patch("1", PartitionKey.ofJson(""), Patch.set("/amount", 1)))
    (sent.partitionKey, String(sent.document, "UTF-8")) shouldBe
      ("", """{"operations":[{"op":"set","path":"/amount","value":1}]}""")

  test("what a write becomes"):
    val order = Order("1", "eu", BigDecimal("1.10"))
    val upsert = operation(Write.Upsert(order, Some("etag")))
    (upsert.`type`, upsert.id, upsert.partitionKey, upsert.ifMatch) shouldBe
      (OperationKind.UPSERT, "1", """["eu"]""", "etag")
    JsonDecoder[Order].decode(upsert.document) shouldBe Right(order)
    operation(Write.Create(order)).`type` shouldBe OperationKind.CREATE
    operation(Write.Replace(order)).`type` shouldBe OperationKind.REPLACE
    val delete = operation(Write.delete(order))
    (delete.`type`, delete.id, delete.document.length) shouldBe (OperationKind.DELETE, "1", 0)
    an[IllegalArgumentException] should be thrownBy operation(Write.Upsert(order.copy(id = "")))

  test("each strategy is an operation of its own"):
    val order = Order("1", "eu", BigDecimal("1.10"))
    val patch = Patch.set("/amount", BigDecimal("2.50")).increment("/n", 1).when("FROM c WHERE c.n < 9")
    val key = PartitionKey("eu")
    Seq(
      Write.Default(order) -> OperationKind.DEFAULT,
      Write.CreateIgnoreExisting(order) -> OperationKind.CREATE_IGNORE_EXISTING,
      Write.ReplaceIfExists(order) -> OperationKind.REPLACE_IF_EXISTS,
      Write.OverwriteIfNotModified(order, None) -> OperationKind.OVERWRITE_IF_NOT_MODIFIED,
      Write.BulkUpdate(order) -> OperationKind.BULK_UPDATE
    ).foreach: (write, kind) =>
      val made = operation(write)
      (made.`type`, made.id, made.partitionKey, made.ifMatch) shouldBe (kind, "1", """["eu"]""", "")
      JsonDecoder[Order].decode(made.document) shouldBe Right(order)
    val delete = operation(Write.DeleteIfNotModified("1", key, Some("e")))
    (delete.`type`, delete.ifMatch, delete.document.length) shouldBe (OperationKind.DELETE_IF_NOT_MODIFIED, "e", 0)
    Seq(
      Write.Patch("1", key, patch) -> OperationKind.PATCH,
      Write.PatchIfExists("1", key, patch) -> OperationKind.PATCH_IF_EXISTS
    )
      .foreach: (write, kind) =>
        val made = operation(write)
        made.`type` shouldBe kind
        String(made.document, "UTF-8") shouldBe
          """{"operations":[{"op":"set","path":"/amount","value":2.50},{"op":"incr","path":"/n","value":1}],""" +
          """"condition":"FROM c WHERE c.n < 9"}"""

  test("a batch holds what is written together"):
    val order = Order("1", "eu", BigDecimal("1.10"))
    val batch = Batch.create(order).replace(order, Some("e")).delete("2").patch("3", Patch.remove("/n"), Some("f"))
    val made = operation(Write.Batch(PartitionKey("eu"), batch))
    (made.`type`, made.id, made.partitionKey, made.ifMatch) shouldBe (OperationKind.BATCH, "", """["eu"]""", "")
    val json = String(JsonEncoder[Order].encode(order), "UTF-8")
    String(made.document, "UTF-8") shouldBe
      s"""[{"operationType":"Create","id":"1","resourceBody":$json},""" +
      s"""{"operationType":"Replace","id":"1","resourceBody":$json,"ifMatch":"e"},{"operationType":"Delete","id":"2"},""" +
      """{"operationType":"Patch","id":"3","resourceBody":{"operations":[{"op":"remove","path":"/n"}]},"ifMatch":"f"}]"""

  test("the core refuses what has bytes, so that its letter holds the operations"):
    def text(write: Write[Order]) = String(operation(write).document, "UTF-8")
    text(Write.Batch(PartitionKey("eu"), Batch(Vector.empty))) shouldBe "[]"
    val many = (0 to 100).foldLeft(Batch(Vector.empty))((batch, n) => batch.delete(s"d$n"))
    text(Write.Batch(PartitionKey("eu"), many)) should (include("\"d0\"") and include("\"d100\""))
    text(Write.Patch("", PartitionKey("eu"), Patch.remove("/n"))) should include("/n")
    text(Write.Patch("1", PartitionKey("eu"), Patch(Vector.empty))) shouldBe """{"operations":[]}"""
    val lone = the[UnwritableRecordException] thrownBy
      operation(Write.Batch(PartitionKey("eu"), Batch.delete("1", Some("\ud800"))))
    lone.getMessage should include("surrogate")
    val patch = the[UnwritableRecordException] thrownBy
      operation(Write.Patch("\ud800", PartitionKey("eu"), Patch.remove("/n")))
    String(patch.document, "UTF-8") should include("/n")

  test("a document of a batch is sent as it is, and stays in its place"):
    def sent(json: Array[Byte]) =
      String(Batch.create(Document("1", PartitionKey("eu"), json)).bytes, "ISO-8859-1")
    def body(text: String) = s"""[{"operationType":"Create","id":"1","resourceBody":$text}]"""
    val broken = "{\"id\":\"1\",\"x\":\"\u00ff\"}"
    sent(broken.getBytes("ISO-8859-1")) shouldBe body(broken)
    val smuggled = "{\"id\":\"1\"}},{\"operationType\":\"Delete\",\"id\":\"z\""
    sent(smuggled.getBytes("UTF-8")) shouldBe body("\"" + smuggled.replace("\"", "\\\"") + "\"")
    val one = Batch.create(Document("1", PartitionKey("eu"), "{}".getBytes("UTF-8")))
    val same = Batch.create(Document("1", PartitionKey("eu"), "{}".getBytes("UTF-8")))
    (one, one.hashCode, one.toString) shouldBe (same, same.hashCode, "Batch(Vector(Create(1,{})))")
    one should not be Batch.create(Document("1", PartitionKey("eu"), "{ }".getBytes("UTF-8")))

  test("a patch takes what has a JSON form, and refuses what no patch can do"):
    val patch = Patch
      .set("/a", "x")
      .add("/l/-", Option.empty[Int])
      .replace("/o", Order("1", "eu", 2))
      .remove("/r")
      .move("/f", "/t")
    String(patch.bytes, "UTF-8") shouldBe """{"operations":[{"op":"set","path":"/a","value":"x"},""" +
      """{"op":"add","path":"/l/-","value":null},""" +
      """{"op":"replace","path":"/o","value":{"id":"1","region":"eu","amount":2,"lines":[]}},""" +
      """{"op":"remove","path":"/r"},{"op":"move","from":"/f","path":"/t"}]}"""
    an[IllegalArgumentException] should be thrownBy operation(Write.Patch("1", PartitionKey("eu"), Patch.set("/id", 1)))
    assertDoesNotCompile("""Patch.set("/a", Object())""")

  test("an id can be a hash of values, as the core makes it"):
    DocumentKey.hashedId("c1", 7) shouldBe "2e802f298aa168b8cb42369fb22355e7"
    DocumentKey.hashedId(BigDecimal("1.10")) should not be DocumentKey.hashedId("1.10")

  test("a document may have a time to live"):
    given JsonEncoder[Payment] = JsonEncoder.derived[Payment].withTimeToLive(p => Option.when(p.year > 2000)(60))
    fields(Payment("n", "eu", 2026, None)) shouldBe """{"id":"n","number":"n","tenant":"eu","year":2026,"ttl":60}"""
    fields(Payment("n", "eu", 1999, None)) should not include "ttl"

  private def fields[T: JsonEncoder: DocumentKey](value: T): String =
    String(Operation.decode(Write.encoded(Write.Upsert(value))).document, "UTF-8")

  test("a document of a model whose id has another name gets the field id, which the service asks for"):
    fields(Payment("n\"1", "eu", 2026, None)) shouldBe """{"id":"n\"1","number":"n\"1","tenant":"eu","year":2026}"""
    fields(Alias("n", "eu")) shouldBe """{"id":"n","tenant":"eu"}"""
    given DocumentKey[Lone] = DocumentKey.of(l => s"${l.number.getOrElse(0)}", _ => PartitionKey.none)
    fields(Lone(None)) shouldBe """{"id":"0"}"""
    fields(Lone(Some(7))) shouldBe """{"id":"7","number":7}"""
    fields(Order("1", "eu", 0)) should startWith("""{"id":"1","region":"eu"""")

  test("a model without id, without partition key, or with a key that the service does not take, does not compile"):
    scala.compiletime.testing
      .typeCheckErrors("final case class A(name: String, @partitionKey b: String) derives DocumentKey")
      .map(
        _.message
      ) shouldBe
      List("A has no document id: name a String field `id`, or mark one with @documentId")
    scala.compiletime.testing
      .typeCheckErrors("final case class A(id: String, b: String) derives DocumentKey")
      .map(_.message) shouldBe
      List("A has no partition key: mark its field, or fields in the order of the paths, with @partitionKey")
    scala.compiletime.testing
      .typeCheckErrors("final case class A(id: Long, @partitionKey b: String) derives DocumentKey")
      .map(_.message) shouldBe
      List("the document id A.id is not a String; the service has no other ids")
    scala.compiletime.testing
      .typeCheckErrors("final case class A(id: String, @partitionKey b: List[String]) derives DocumentKey")
      .size shouldBe 1
    scala.compiletime.testing.typeCheckErrors("PartitionKey(List(1))").size should be > 0

  test("a sink for a model without keys does not compile"):
    assertCompiles("""def sink(options: CosmosDBOptions) = CosmosDBSink[Order](options, container = "c")""")
    assertDoesNotCompile("""def sink(options: CosmosDBOptions) = CosmosDBSink[Models.Line](options, container = "c")""")
    assertDoesNotCompile("""def sink(options: CosmosDBOptions) = CosmosDBSink[Models.Blob](options, container = "c")""")
