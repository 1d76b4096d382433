package io.cosmosflink.scaladsl.jobs

import io.cosmosflink.core.Core.Role
import io.cosmosflink.core.Operation
import io.cosmosflink.scaladsl.{ChangeKind, ChangeRecord, CosmosDBOptions, Document, Json, KeyPart, PartitionKey}
import org.apache.flink.api.common.typeinfo.Types
import org.apache.flink.api.java.functions.KeySelector
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
import org.apache.flink.streaming.api.operators.KeyedProcessOperator
import org.apache.flink.streaming.util.{KeyedOneInputStreamOperatorTestHarness, ProcessFunctionTestHarnesses}
import org.scalatest.EitherValues
import org.scalatest.concurrent.{Eventually, ScalaFutures}
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers
import org.scalatest.time.{Millis, Seconds, Span}

import java.nio.charset.StandardCharsets.UTF_8
import java.nio.file.{Files, Path}
import java.time.Instant
import java.util.Base64
import java.util.concurrent.atomic.AtomicInteger

import scala.concurrent.duration.*
import scala.concurrent.{Future, Promise}
import scala.jdk.CollectionConverters.*
import scala.util.Using

/** The table of cases that both variants run: `tests/cases`. */
class CasesSpec extends AnyFunSuite with Matchers with EitherValues with ScalaFutures with Eventually:
  import CasesSpec.{*, given}
  given PatienceConfig = PatienceConfig(Span(30, Seconds), Span(2, Millis))

  /** One test for each case of a file. */
  private def cases(file: String)(check: Json => Unit): Unit =
    val found = Json.parse(Files.readAllBytes(Path.of("../../tests/cases", file))).value.list("cases")
    assert(found.nonEmpty, s"$file has no cases")
    found.foreach(theCase => test(s"$file: ${theCase.text("name")}")(check(theCase)))

  private def documents(file: String)(make: Json => Either[BadRecord, Document]): Unit = cases(file): theCase =>
    theCase.get("refused") match
      case Some(expected) => refused(expected, make(theCase).left.value.reason)
      case None =>
        val made = make(theCase).value
        exact(Json.parse(made.json).value) shouldBe exact(theCase.field("result"))
        made.id shouldBe theCase.text("id")
        made.partitionKey shouldBe PartitionKey(theCase.text("partitionKey"))

  private def refused(expected: Json, reason: String): Unit = expected match
    case Json.Str(whole) => reason shouldBe whole
    case pieces => pieces.strings.foreach(reason should include(_)): Unit

  cases("options.json"): theCase =>
    val settings = JobSettings.of(theCase.list("arguments").map(_.string), theCase.field("environment").entries)
    theCase.get("refused") match
      case Some(expected) => refused(expected, settings.left.value.message)
      case None =>
        settings.value.options.values.toSet should contain allElementsOf theCase.field("options").entries
        settings.value.name.getOrElse("own") shouldBe theCase.text("jobName")

  cases("defaults.json"): theCase =>
    val role = Role.valueOf(theCase.text("role").toUpperCase)
    CosmosDBOptions(theCase.field("given").entries).validated(role).value.values shouldBe
      theCase.field("options").entries

  documents("orders.json")(c => Orders.process(c.document, c.now))

  documents("outgoing.json")(c => Orders.outgoing(c.document, c.now))

  documents("delivered.json")(c => Orders.delivered(c.document, c.now))

  cases("state.json"): c =>
    val state = Base64.getDecoder.decode(c.text("state"))
    val key = PartitionKey(c.text("partitionKey"))
    Orders.state(Document(c.text("id"), key, c.document)) shouldBe state
    val event = Operation.decode(Operation.bodyOf(state))
    (event.id, event.partitionKey, event.document.toList) shouldBe (c.text("id"), c.text("key"), c.document.toList)

  documents("dead-letters.json"): c =>
    val record = ChangeRecord(
      c.document,
      c.text("documentId"),
      PartitionKey.ofJson(c.text("documentKey")),
      0,
      None,
      ChangeKind.Upsert
    )
    Right(
      Orders.deadLetter(
        c.text("container"),
        record,
        "process",
        BadRecord(c.text("reason").replace("{half}", "\ud800")),
        c.now
      )
    )

  cases("records.json"): c =>
    val kind = ChangeKind.valueOf(c.text("change").toLowerCase.capitalize)
    val record = ChangeRecord(c.document, "i", PartitionKey("k"), 0, None, kind)
    val operator =
      ProcessFunctionTestHarnesses.forProcessFunction(OrderProcessing.Process("events-source"))
    operator.processElement(record, 0)
    val processed = operator.getRecordOutput.asScala.map(_ => "processed")
    val bad = Option(operator.getSideOutput(OrderProcessing.bad)).toList.flatMap(_.asScala).map(_ => "dead-letter")
    operator.close()
    (processed ++ bad).toList shouldBe c.field("becomes").strings

  cases("repeats.json"): c =>
    val changes = c.list("changes").map(_.strings).collect { case id :: lsn :: seconds =>
      val time = seconds.headOption.fold(0L)(_.toLong)
      ChangeRecord(Array.emptyByteArray, id, PartitionKey("k"), time, Some(lsn.toLong), ChangeKind.Upsert)
    }
    def counting(function: Repeats) =
      val key: KeySelector[ChangeRecord, String] = _.id
      KeyedOneInputStreamOperatorTestHarness(KeyedProcessOperator(function), key, Types.STRING)
    val checkpoint = Using.resource(counting(Repeats())): fails =>
      val (before, behind) = changes.splitAt(c.int("checkpoint"))
      fails.open()
      before.foreach(fails.processElement(_, 0))
      val made = fails.snapshot(1, 0)
      behind.foreach(fails.processElement(_, 0))
      fails.extractOutputValues should have size changes.size
      made
    val restored = Repeats()
    Using.resource(counting(restored)): operator =>
      operator.initializeState(checkpoint)
      operator.open()
      changes.drop(c.int("goesOnAt")).foreach(operator.processElement(_, 0))
    restored.counted shouldBe c.list("counts").map(_.string.toLong)

  cases("keys.json"): c =>
    val key = c.list("components") match
      case Nil => PartitionKey.none
      case List(only) => PartitionKey(only)
      case List(first, second) => PartitionKey(first, second)
      case List(first, second, third) => PartitionKey(first, second, third)
      case others => fail(s"a key of ${others.size} components")
    key.json shouldBe c.text("text")

  cases("jobs.json"): c =>
    val settings = JobSettings
      .of(
        c.get("arguments").toList.flatMap(_.strings),
        Map("COSMOS_URI" -> "https://a.example/", "COSMOS_DB" -> "orders", "COSMOS_KEY" -> "c2VjcmV0")
      )
      .value
    val env = settings.configure(StreamExecutionEnvironment())
    c.text("job") match
      case OrderProcessing.name => OrderProcessing.define(env, settings)
      case OrderDelivery.name => OrderDelivery.define(env, settings)
      case other => fail(s"no job has the name $other")
    // The way of the side output is a node without an operator.
    val nodes = env.getStreamGraph.getStreamNodes.asScala.filter(_.getOperatorFactory != null)
    nodes.map(node => node.getTransformationUID -> node.getOperatorName).toMap shouldBe c.field("uids").entries
    nodes
      .filterNot(_.getInEdges.isEmpty)
      .map(node => node.getTransformationUID -> node.getTypeSerializersIn.head.getClass.getName)
      .toSet should contain allElementsOf c.field("state").entries

  cases("batches.json"): c =>
    val held = Promise[Answer]()
    val refuses = c.field("refuses").strings.toSet
    val fails = AtomicInteger(c.int("fails"))
    val calls = AtomicInteger()
    val consumer = BatcherSpec.FakeConsumer: batch =>
      if calls.incrementAndGet() == 1 then held.future
      else if batch.exists(refuses) then Future.successful(Answer.Refused("no"))
      else if fails.getAndDecrement() > 0 then Future.successful(Answer.Failed("down"))
      else Future.successful(Answer.Taken)
    Using.resource(Batcher(consumer, c.int("batchSize"), 1, 1.minute)): batcher =>
      val first = batcher.offer(BatcherSpec.event(0))
      eventually(consumer.batches should have size 1)
      val events = first +: List.range(1, c.int("offered")).map(number => batcher.offer(BatcherSpec.event(number)))
      held.success(Answer.Taken)
      eventually(events.filterNot(_.isCompleted) shouldBe empty)
      consumer.batches shouldBe c.list("batches").map(_.strings)
      events.zipWithIndex.collect { case (event, number) if event.value.get.isFailure => s"$number" } shouldBe
        c.field("undelivered").strings

object CasesSpec:
  /** A component by its JSON type. */
  private given KeyPart[Json] = new KeyPart[Json]:
    def of(value: Json): AnyRef | Null = value match
      case Json.Str(text) => KeyPart[String].of(text)
      case Json.Num(text) if text.contains('.') => KeyPart[Double].of(text.toDouble)
      case Json.Num(text) => KeyPart[Long].of(text.toLong)
      case Json.Bool(flag) => KeyPart[Boolean].of(flag)
      case Json.Obj(_) => KeyPart[Option[String]].of(None)
      case _ => KeyPart[Null].of(null)

  extension (json: Json)
    private def field(name: String): Json =
      json.get(name).getOrElse(throw java.util.NoSuchElementException(s"$name in $json"))
    private def list(name: String): List[Json] = field(name) match
      case Json.Arr(items) => items.toList
      case other => throw IllegalArgumentException(s"$name is $other, no array")
    private def text(name: String): String = field(name).string
    private def int(name: String): Int = field(name).string.toInt

    /** A text or a number. */
    private def string: String = json match
      case Json.Str(value) => value
      case Json.Num(text) => text
      case other => throw IllegalArgumentException(s"$other is no text")
    private def strings: List[String] = json match
      case Json.Arr(items) => items.toList.map(_.string)
      case other => throw IllegalArgumentException(s"$other is no array")
    private def entries: Map[String, String] = json match
      case Json.Obj(fields) => fields.names.map(name => name -> json.text(name)).toMap
      case other => throw IllegalArgumentException(s"$other is no object")

    private def document: Array[Byte] = field("document") match
      case Json.Str(text) => text.getBytes(UTF_8)
      case encoded => Base64.getDecoder.decode(encoded.text("base64"))
    private def now: Instant = Instant.parse(text("now"))

  /** With one text for each number of the same digits: `1E+2` is `1e2`, but `1.10` is not `1.1`. */
  private def exact(json: Json): Json = json match
    case Json.Num(text) => Json.Num(java.math.BigDecimal(text).toString)
    case Json.Arr(items) => Json.Arr(items.map(exact))
    case Json.Obj(fields) => Json.obj(fields.names.map(name => name -> exact(json.field(name))).toSeq*)
    case other => other
