package io.cosmosflink.scaladsl

import io.cosmosflink.scaladsl.Models.*
import org.scalacheck.{Arbitrary, Gen}
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers
import org.scalatestplus.scalacheck.ScalaCheckPropertyChecks

import java.nio.charset.StandardCharsets.UTF_8

object JsonSpec:
  final case class Large(map: Map[String, Int], set: Set[Int]) derives JsonDecoder, JsonEncoder, CanEqual

  private val number: Gen[String] = Gen
    .zip(
      Gen.oneOf("", "-"),
      Gen.oneOf(Gen.const("0"), Gen.zip(Gen.chooseNum(1, 9), Gen.numStr).map((a, b) => s"$a$b")),
      Gen.option(Gen.nonEmptyListOf(Gen.numChar).map("." + _.mkString)).map(_.getOrElse("")),
      Gen
        .option(Gen.zip(Gen.oneOf("e", "E"), Gen.oneOf("", "+", "-"), Gen.chooseNum(0, 999)))
        .map(_.fold("")((e, sign, n) => s"$e$sign$n"))
    )
    .map(_ + _ + _ + _)

  /** Text that UTF-8 can say: no half of a pair. */
  val text: Gen[String] =
    Gen.listOf(Gen.oneOf(Gen.choose('\u0000', '\ud7ff').map(_.toString), Gen.const("\ud83d\ude00"))).map(_.mkString)

  given json: Arbitrary[Json] = Arbitrary(tree(3))

  private def tree(depth: Int): Gen[Json] =
    val leaf = Gen.oneOf(
      Gen.const(Json.Null),
      Gen.oneOf(true, false).map(Json.Bool(_)),
      number.map(Json.Num(_)),
      text.map(Json.Str(_))
    )
    if depth == 0 then leaf
    else
      def few[A](gen: Gen[A]) = Gen.chooseNum(0, 4).flatMap(Gen.listOfN(_, gen))
      val smaller = Gen.lzy(tree(depth - 1))
      Gen.oneOf(
        leaf,
        few(smaller).map(items => Json.Arr(items.toVector)),
        few(Gen.zip(text, smaller)).map(fields => Json.obj(fields*))
      )

  /** Bytes that are a document but for a few. */
  def damaged(document: Array[Byte]): Gen[Array[Byte]] =
    Gen
      .listOfN(3, Gen.zip(Gen.chooseNum(0, document.length - 1), Arbitrary.arbitrary[Byte]))
      .map: changes =>
        val copy = document.clone
        changes.foreach((at, byte) => copy(at) = byte)
        copy

final class JsonSpec extends AnyFunSuite, Matchers, ScalaCheckPropertyChecks:
  import JsonSpec.{given, *}
  import FlinkTypeSpec.given

  implicit override val generatorDrivenConfig: PropertyCheckConfiguration =
    PropertyCheckConfiguration(minSuccessful = 300)

  private def parsed(text: String) = Json.parse(text.getBytes(UTF_8))

  test("a tree comes back as it was written"):
    forAll: (tree: Json) =>
      Json.parse(tree.bytes) shouldBe Right(tree)

  test("what is not looked at stays as it is: number text, order of fields, unknown fields"):
    val text =
      """{"b":1.10,"a":12345678901234567890.000,"c":[1e2,-0,1E+400],"d":{"x":null,"é":"\u20ac"},"e":[],"f":{}}"""
    parsed(text).map(_.toString) shouldBe Right(text.replace("\\u20ac", "€"))

  test("of a field that is given twice the last counts"):
    parsed("""{"a":1,"b":2,"a":3}""").map(_.toString) shouldBe Right("""{"a":3,"b":2}""")

  test("numbers that JSON does not have are refused"):
    Seq(
      "01",
      "1.",
      ".5",
      "+1",
      "1e",
      "--1",
      "NaN",
      "1x",
      "-",
      "tru",
      "\"",
      "[1,]",
      "{\"a\"}",
      "{,}",
      "[1 2]",
      "",
      "1 2"
    ).foreach: one =>
      withClue(one)(parsed(one).isLeft shouldBe true)

  test("a number has at most 1000 characters, and is refused before anybody calculates with it"):
    parsed("1" * 1000).isRight shouldBe true
    parsed("1" * 1001).left.map(_.message).swap.getOrElse("") should include("more than 1000 characters")

  test("a model may hold as many entries as fit into a document"):
    val large = Large(1.to(1500).map(i => s"k$i" -> i).toMap, 1.to(1500).toSet)
    JsonDecoder[Large].decode(JsonEncoder[Large].encode(large)) shouldBe Right(large)

  test("nesting is bounded, and what is allowed needs no more stack than a thread has"):
    parsed("[" * 1000 + "1" + "]" * 1000).isRight shouldBe true
    parsed("[" * 1001 + "]" * 1001).left.map(_.message).swap.getOrElse("") should include("1000 levels")
    parsed("[" * 1_000_000).isLeft shouldBe true

  test("decoders are total: any bytes give a value or an error"):
    forAll: (bytes: Array[Byte]) =>
      Json.parse(bytes).isInstanceOf[Either[?, ?]] shouldBe true
      JsonDecoder[Order].decode(bytes).isLeft shouldBe true
    forAll: (tree: Json) =>
      Json.parse(tree.bytes).isRight shouldBe true
      JsonDecoder[Order].decode(tree.bytes).isInstanceOf[Either[?, ?]] shouldBe true
    val almost = Arbitrary.arbitrary[Order].flatMap(order => damaged(JsonEncoder[Order].encode(order)))
    forAll(almost): bytes =>
      JsonDecoder[Order].decode(bytes).isInstanceOf[Either[?, ?]] shouldBe true
      Json.parse(bytes).isInstanceOf[Either[?, ?]] shouldBe true

  test("a slice is decoded where it is, and nothing outside of it"):
    val document = """{"id":"1","region":"eu","amount":1.10}""".getBytes(UTF_8)
    val buffer = "xx".getBytes(UTF_8) ++ document ++ "}".getBytes(UTF_8)
    JsonDecoder[Order].decode(buffer, 2, document.length) shouldBe Right(Order("1", "eu", BigDecimal("1.10")))
    JsonDecoder[Order].decode(buffer, 2, document.length + 1).isLeft shouldBe true
    JsonDecoder[Order].decode(buffer, 2, buffer.length).isLeft shouldBe true

  test("a model comes back as it was written, with every field"):
    forAll: (order: Order) =>
      JsonDecoder[Order].decode(JsonEncoder[Order].encode(order)) shouldBe Right(order)
    JsonEncoder[Order].encode(Order("1", "eu", BigDecimal("1.10"))) shouldBe
      """{"id":"1","region":"eu","amount":1.10,"lines":[]}""".getBytes(UTF_8)

  test("an error says where, and nothing of the document"):
    val error = JsonDecoder[Order].decode("""{"id":"secret","region":5}""".getBytes(UTF_8))
    error.left.map(_.message).swap.getOrElse("") should (include("offset") and not include "secret")

  test("a model without decoder or encoder does not compile, and the message says what to do"):
    scala.compiletime.testing.typeCheckErrors("JsonDecoder[Blob]").map(_.message) shouldBe List(
      "no JsonDecoder for io.cosmosflink.scaladsl.Models.Blob; write `case class io.cosmosflink.scaladsl.Models.Blob(..) " +
        "derives JsonDecoder`, or give one with JsonDecoder.of(codec)"
    )
    assertDoesNotCompile("JsonEncoder[Blob]")
    assertDoesNotCompile("""CosmosDBSource[Blob](CosmosDBOptions.empty, "c")""")
