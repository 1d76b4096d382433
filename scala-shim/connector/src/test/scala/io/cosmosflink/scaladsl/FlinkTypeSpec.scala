package io.cosmosflink.scaladsl

import io.cosmosflink.scaladsl.Models.*
import org.apache.flink.api.common.serialization.SerializerConfigImpl
import org.apache.flink.api.common.typeinfo.Types
import org.apache.flink.api.common.typeutils.{TypeSerializer, TypeSerializerSnapshot}
import org.apache.flink.api.java.typeutils.runtime.kryo.KryoSerializer
import org.apache.flink.core.memory.{DataInputDeserializer, DataOutputSerializer}
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
import org.apache.flink.util.InstantiationUtil
import org.scalacheck.Arbitrary.arbitrary
import org.scalacheck.{Arbitrary, Gen}
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers
import org.scalatestplus.scalacheck.ScalaCheckPropertyChecks

import java.time.{Duration, Instant, LocalDate}
import java.util.UUID
import java.util.concurrent.TimeUnit

object FlinkTypeSpec:
  given Arbitrary[Instant] = Arbitrary(
    Gen
      .zip(Gen.chooseNum(-1L << 40, 1L << 40), Gen.chooseNum(0, 999_999_999))
      .map((s, n) => Instant.ofEpochSecond(s, n))
  )
  given Arbitrary[Duration] = Arbitrary(arbitrary[Long].map(Duration.ofNanos))
  given Arbitrary[UUID] = Arbitrary(Gen.uuid)
  given Arbitrary[Line] = Arbitrary(Gen.resultOf(Line.apply))
  given Arbitrary[Order] = Arbitrary(Gen.resultOf(Order.apply))
  given Arbitrary[Status] = Arbitrary(
    Gen.oneOf(Gen.const(Status.Open), Gen.const(Status.Paid), Gen.resultOf(Status.Refused.apply))
  )
  given Arbitrary[Event] = Arbitrary(
    Gen.oneOf(
      Gen.resultOf(Placed.apply),
      Gen.resultOf(Measured.apply),
      Gen.resultOf(Named.apply),
      Gen.const(Nothing)
    )
  )
  given Arbitrary[Vehicle] = Arbitrary(
    Gen.oneOf(Gen.resultOf(Boat.apply), Gen.resultOf(Car.apply), Gen.const(Tram), Gen.const(Foot))
  )
  given FlinkType[TimeUnit] = FlinkType.of(Types.ENUM(classOf[TimeUnit]))
  given Arbitrary[TimeUnit] = Arbitrary(Gen.oneOf(TimeUnit.values.toSeq))
  given [T: Arbitrary]: Arbitrary[Page[T]] = Arbitrary(Gen.resultOf(Page.apply[T]))

  def write[T](serializer: TypeSerializer[T], value: T): Array[Byte] =
    val out = DataOutputSerializer(64)
    serializer.serialize(value, out)
    out.getCopyOfBuffer

  def read[T](serializer: TypeSerializer[T], bytes: Array[Byte]): T =
    val in = DataInputDeserializer(bytes)
    val value = serializer.deserialize(in)
    assert(in.available == 0, s"${in.available} bytes are left over")
    value

  sealed trait Twice derives FlinkType
  object Here:
    final case class Same(a: Int) extends Twice
  object There:
    final case class Same(b: Int) extends Twice

  final case class Chain(value: Int, next: Option[Chain]) derives FlinkType
  final case class Tree[T](value: T, below: List[Tree[T]]) derives FlinkType
  sealed trait Term derives FlinkType
  final case class Number(value: Int) extends Term
  final case class Sum(left: Term, right: Term) extends Term

  object Kept:
    final case class One(value: Int) derives FlinkType, CanEqual

  /** As a savepoint keeps it. */
  def savepoint[T](snapshot: TypeSerializerSnapshot[T]): TypeSerializerSnapshot[T] =
    val out = DataOutputSerializer(64)
    TypeSerializerSnapshot.writeVersionedSnapshot(out, snapshot)
    TypeSerializerSnapshot.readVersionedSnapshot(DataInputDeserializer(out.getCopyOfBuffer), getClass.getClassLoader)

final class FlinkTypeSpec extends AnyFunSuite, Matchers, ScalaCheckPropertyChecks:
  import FlinkTypeSpec.{*, given}

  private def roundTrips[T: FlinkType: Arbitrary](name: String): Unit =
    test(s"$name: bytes, copies, the serializer in the job graph and out of a savepoint"):
      val serializer = FlinkType[T].serializer
      val restored = savepoint(serializer.snapshotConfiguration()).restoreSerializer()
      val shipped = InstantiationUtil.clone(serializer)
      restored shouldBe serializer
      shipped shouldBe serializer
      savepoint(serializer.snapshotConfiguration())
        .resolveSchemaCompatibility(savepoint(serializer.snapshotConfiguration()))
        .isCompatibleAsIs shouldBe true
      forAll: (value: T) =>
        val bytes = write(serializer, value)
        read(serializer, bytes) shouldBe value
        read(restored, write(shipped, value)) shouldBe value
        serializer.copy(value) shouldBe value
        val copy = DataOutputSerializer(64)
        serializer.copy(DataInputDeserializer(bytes), copy)
        copy.getCopyOfBuffer shouldBe bytes

  roundTrips[Event]("a sealed type")
  roundTrips[Status]("an enum")
  roundTrips[Vehicle]("a sealed type with another one below it")
  roundTrips[(Int, Option[TimeUnit])]("an enum of Java, as Flink knows it")
  roundTrips[Order]("a case class")
  roundTrips[Page[Order]]("a generic case class")
  roundTrips[(Int, Either[String, List[Option[Long]]])]("containers in containers")
  roundTrips[Map[String, Vector[Status]]]("a map")
  roundTrips[BigDecimal]("BigDecimal")
  roundTrips[Instant]("Instant")

  test("cases without fields keep their identity"):
    val serializer = FlinkType[Event].serializer
    read(serializer, write(serializer, Nothing)) should be theSameInstanceAs Nothing
    val status = FlinkType[Status].serializer
    read(status, write(status, Status.Paid)) should be theSameInstanceAs Status.Paid
    val option = FlinkType[Option[Int]].serializer
    read(option, write(option, None)) should be theSameInstanceAs None

  test("immutable values are not copied, arrays are"):
    val order = Order("1", "eu", BigDecimal("1.10"))
    FlinkType[Order].serializer.copy(order) should be theSameInstanceAs order
    val blob = Blob("b", Array[Byte](1, 2))
    val copy = FlinkType[Blob].serializer.copy(blob)
    copy.bytes should not be theSameInstanceAs(blob.bytes)
    copy.bytes shouldBe blob.bytes
    val document = Document("d", PartitionKey("eu"), Array[Byte](1, 2))
    FlinkType[Document].serializer.copy(document) should be theSameInstanceAs document

  test("a type whose equality its bytes do not follow is no key"):
    Seq(
      FlinkType[Array[Byte]],
      FlinkType[BigDecimal],
      FlinkType[Json],
      FlinkType[Set[Int]],
      FlinkType[Map[String, Int]],
      FlinkType[Option[BigDecimal]],
      FlinkType[Blob],
      FlinkType[Document]
    ).foreach(one => withClue(one.info)(one.info.isKeyType shouldBe false))
    Seq(FlinkType[String], FlinkType[Line], FlinkType[(Int, List[Long])], FlinkType[Status])
      .foreach(one => withClue(one.info)(one.info.isKeyType shouldBe true))
    val env = StreamExecutionEnvironment.getExecutionEnvironment
    val lines = env.fromSequence(0, 1).mapTo(i => Line(s"$i", 1))
    lines.keyedBy(_.sku).getKeyType shouldBe FlinkType[String].info
    an[IllegalArgumentException] should be thrownBy lines.keyedBy(line => BigDecimal(line.quantity))

  test("records, documents and writes have types, and none is Kryo's"):
    val change = ChangeRecord("{}".getBytes, "a", PartitionKey("eu"), 7, Some(3), ChangeKind.Replace)
    val serializer = FlinkType[ChangeRecord].serializer
    val read = FlinkTypeSpec.read(serializer, write(serializer, change))
    read.copy(document = change.document) shouldBe change
    read.document shouldBe change.document
    val writes = FlinkType[Write[Order]].serializer
    val order = Order("1", "eu", BigDecimal(1))
    Seq(
      Write.Upsert(order, Some("etag")),
      Write.Create(order),
      Write.Delete("1", PartitionKey("eu")),
      Write.Patch(
        "1",
        PartitionKey("eu"),
        Patch.set("/a", Json.obj("x" -> Json.num(1))).increment("/n", BigDecimal("1.10"))
      ),
      Write.DeleteIfNotModified("1", PartitionKey("eu"), None),
      Write.Batch(PartitionKey("eu"), Batch.create(order).patch("2", Patch.remove("/a")).delete("3", Some("etag")))
    ).foreach: one =>
      FlinkTypeSpec.read(writes, write(writes, one)) shouldBe one
    Seq(FlinkType[ChangeRecord], FlinkType[Document], FlinkType[Event], FlinkType[Json], FlinkType[LocalDate]).foreach:
      _.info.createSerializer(SerializerConfigImpl()) should not be a[KryoSerializer[?]]

  private val text = FlinkType[String].serializer.asInstanceOf[TypeSerializer[Any]]
  private val int = FlinkType[Int].serializer.asInstanceOf[TypeSerializer[Any]]
  private val long = FlinkType[Long].serializer.asInstanceOf[TypeSerializer[Any]]

  /** What a savepoint of another version of the class says. */
  private def older[T](clazz: Class[T], cases: (String, Seq[(String, TypeSerializer[Any])])*): AdtSnapshot[T] =
    new AdtSnapshot(
      clazz,
      cases.map((name, fields) => AdtLayout(name, fields.map(_(0)).toArray, fields.map(_(1)).toArray)).toArray
    )

  private def bytesOf(values: (TypeSerializer[Any], Any)*): Array[Byte] =
    val out = DataOutputSerializer(64)
    values.foreach((serializer, value) => serializer.serialize(value, out))
    out.getCopyOfBuffer

  private def compatibility[T: FlinkType](old: TypeSerializerSnapshot[T]) =
    FlinkType[T].serializer.snapshotConfiguration().resolveSchemaCompatibility(savepoint(old))

  test("fields may be reordered, dropped, and added when they have a default"):
    val old = older(classOf[Order], "Order" -> Seq("gone" -> int, "region" -> text, "id" -> text))
    compatibility[Order](old).isIncompatible shouldBe true // `amount` has no default
    val amount = FlinkType[BigDecimal].serializer.asInstanceOf[TypeSerializer[Any]]
    val good = older(classOf[Order], "Order" -> Seq("gone" -> int, "region" -> text, "amount" -> amount, "id" -> text))
    compatibility[Order](good).isCompatibleAfterMigration shouldBe true
    val bytes = bytesOf(int -> 7, text -> "eu", amount -> BigDecimal("1.10"), text -> "o1")
    read(savepoint(good).restoreSerializer(), bytes) shouldBe Order("o1", "eu", BigDecimal("1.10"))

  test("a field without default that the savepoint lacks is named"):
    val old = older(classOf[Line], "Line" -> Seq("sku" -> text))
    compatibility[Line](old).isIncompatible shouldBe true
    the[java.io.IOException] thrownBy read(old.restoreSerializer(), bytesOf(text -> "a")) should have message
      s"the savepoint has no quantity of ${classOf[Line].getName}, and the class no default; give it one"

  test("a field of another type is refused"):
    compatibility[Line](
      older(classOf[Line], "Line" -> Seq("sku" -> text, "quantity" -> long))
    ).isIncompatible shouldBe true

  test("cases may be reordered and added, but not taken away"):
    val refused = Seq("reason" -> text, "code" -> FlinkType[Option[Int]].serializer.asInstanceOf[TypeSerializer[Any]])
    val old = older(classOf[Status], "Paid" -> Nil, "Refused" -> refused)
    compatibility[Status](old).isCompatibleAfterMigration shouldBe true
    val restored = savepoint(old).restoreSerializer()
    read(restored, Array[Byte](0, 0)) should be theSameInstanceAs Status.Paid
    read(restored, write(restored, Status.Refused("no", Some(4)))) shouldBe Status.Refused("no", Some(4))
    val gone = older(classOf[Status], "Open" -> Nil, "Paid" -> Nil, "Refused" -> refused, "Lost" -> Nil)
    compatibility[Status](gone).isIncompatible shouldBe true
    the[java.io.IOException] thrownBy read(gone.restoreSerializer(), Array[Byte](0, 3)) should have message
      s"the savepoint holds a Lost, which ${classOf[Status].getName} no longer has; keep the case"

  test("a case may move below another sealed type: bytes know its name alone"):
    val flat = older(classOf[Vehicle], "Tram" -> Nil, "Car" -> Seq("seats" -> int), "Boat" -> Seq("name" -> text))
    compatibility[Vehicle](flat).isCompatibleAfterMigration shouldBe true
    val restored = savepoint(flat).restoreSerializer()
    read(restored, Array[Byte](0, 0)) should be theSameInstanceAs Tram
    read(restored, Array[Byte](0, 1, 0, 0, 0, 4)) shouldBe Car(4)
    write(restored, Boat("b")) shouldBe Array[Byte](0, 2) ++ write(text, "b")

  test("a type of one case may gain another: bytes of one case have no number"):
    val reason = FlinkType[Option[Int]].serializer.asInstanceOf[TypeSerializer[Any]]
    val old = older(classOf[Status], "Refused" -> Seq("reason" -> text, "code" -> reason))
    compatibility[Status](old).isCompatibleAfterMigration shouldBe true
    val restored = savepoint(old).restoreSerializer()
    val bytes = bytesOf(text -> "no", reason -> Some(4))
    read(restored, bytes) shouldBe Status.Refused("no", Some(4))
    write(restored, Status.Refused("no", Some(4))) shouldBe bytes
    val copy = DataOutputSerializer(64)
    restored.copy(DataInputDeserializer(bytes), copy)
    copy.getCopyOfBuffer shouldBe bytes
    the[java.io.IOException] thrownBy write(restored, Status.Paid) should have message
      "a Paid cannot be written in the layout of an older savepoint; this state is not used by the job any more"

  test("a type of several cases that kept one of them does not take the others for it"):
    val old = older(classOf[Kept.One], "Two" -> Nil, "One" -> Seq("value" -> int))
    compatibility[Kept.One](old).isIncompatible shouldBe true
    read(savepoint(old).restoreSerializer(), Array[Byte](0, 1, 0, 0, 0, 7)) shouldBe Kept.One(7)
    an[java.io.IOException] should be thrownBy read(savepoint(old).restoreSerializer(), Array[Byte](0, 0))

  test("two cases of one name are refused when the job is defined"):
    the[IllegalArgumentException] thrownBy FlinkType[Twice].info should have message
      s"two cases of ${classOf[Twice].getName} have the name Same, by which a savepoint tells them apart; rename one"

  test("a type that contains itself is refused when the job is defined"):
    Seq(FlinkType[Chain], FlinkType[Tree[Int]], FlinkType[Term], FlinkType[Term]).foreach: one =>
      (the[IllegalArgumentException] thrownBy one.info).getMessage should include("contains itself")

  test("a change deep inside is a change"):
    val oldLine = older(classOf[Line], "Line" -> Seq("quantity" -> int, "sku" -> text)).restoreSerializer()
    val lines = NestedSerializer[List[Line]](Container.Linked, Array(oldLine.asInstanceOf[TypeSerializer[Any]]))
    val now = FlinkType[List[Line]].serializer.snapshotConfiguration()
    now.resolveSchemaCompatibility(savepoint(lines.snapshotConfiguration())).isCompatibleAfterMigration shouldBe true
    read(savepoint(lines.snapshotConfiguration()).restoreSerializer(), write(lines, List(Line("a", 1)))) shouldBe
      List(Line("a", 1))

  test("damaged bytes are an error that says so"):
    the[java.io.IOException] thrownBy read(FlinkType[Status].serializer, Array[Byte](0, 9)) should have message
      s"the bytes of a ${classOf[Status].getName} say case 9 of 3; they are damaged"

  test("a type that a savepoint could not find again is refused when the job is defined"):
    final case class Local(a: Int) derives FlinkType
    the[IllegalArgumentException] thrownBy FlinkType[Local].info should have message
      s"${classOf[Local].getName} must be top-level or in an object, and say `derives FlinkType`, so that a savepoint finds it again"

  test("a type without FlinkType does not compile, and the message says what to do"):
    assertDoesNotCompile("FlinkType[Thread]")
    assertDoesNotCompile("final case class Holder(thread: Thread) derives FlinkType")
    // No case class, not sealed, a case that is none, and a second list of parameters.
    assertDoesNotCompile("final class Plain(val a: Int) derives FlinkType")
    assertDoesNotCompile("object Open { trait Any derives FlinkType; final case class One(a: Int) extends Any }")
    assertDoesNotCompile("object Mixed { sealed trait Any derives FlinkType; final class One(val a: Int) extends Any }")
    assertDoesNotCompile("final case class Lists(a: Int)(val b: Int) derives FlinkType")
    scala.compiletime.testing.typeCheckErrors("FlinkType[Thread]").map(_.message) shouldBe List(
      "no FlinkType for Thread; write `case class Thread(..) derives FlinkType`, or give one with FlinkType.of(typeInformation)"
    )
