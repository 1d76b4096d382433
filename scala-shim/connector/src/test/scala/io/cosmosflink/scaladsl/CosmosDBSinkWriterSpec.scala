package io.cosmosflink.scaladsl

import io.cosmosflink.core.CosmosException.Kind
import io.cosmosflink.core.WriteFailure.Result
import io.cosmosflink.core.{
  Completion,
  Core,
  CosmosException,
  NotOfRecordException,
  Operation,
  OperationBatch,
  OperationKind,
  Submitted,
  WriteFailure
}
import io.cosmosflink.scaladsl.FakeCore.{conflict, failure, Submission}
import org.apache.flink.api.common.serialization.SerializationSchema
import org.apache.flink.api.common.{TaskInfo, TaskInfoImpl}
import org.apache.flink.connector.base.sink.writer.{
  BufferedRequestState,
  ElementConverter,
  RequestEntryWrapper,
  TestSinkInitContext
}
import org.apache.flink.metrics.Counter
import org.apache.flink.metrics.groups.SinkWriterMetricGroup
import org.apache.flink.runtime.throwable.{ThrowableClassifier, ThrowableType}
import org.apache.flink.util.{InstantiationUtil, SerializedThrowable}
import org.scalacheck.Gen
import org.scalatest.concurrent.TimeLimits
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers
import org.scalatest.time.SpanSugar.*
import org.scalatestplus.scalacheck.ScalaCheckPropertyChecks

import java.lang.reflect.Proxy
import java.nio.charset.StandardCharsets.UTF_8
import java.util.{Base64, List as JavaList, Map as JavaMap}

import scala.collection.mutable.ListBuffer
import scala.jdk.CollectionConverters.*
import scala.util.Random

final class CosmosDBSinkWriterSpec extends AnyFunSuite, Matchers, TimeLimits, ScalaCheckPropertyChecks:
  private type State = BufferedRequestState[CosmosDBRequestEntry]

  private val limit = 10.seconds

  /** The text is the document's id, up to a `#`; what is behind it is the version. */
  private val converter = CosmosDBSink.converter[String, Document]: text =>
    Write.Upsert(Document(text.takeWhile(_ != '#'), PartitionKey("k"), s"""{"v":"$text"}""".getBytes(UTF_8)))

  private class Fixture(
      core: FakeCore,
      options: CosmosDBOptions,
      states: Seq[State] = Nil,
      converter: ElementConverter[String, CosmosDBRequestEntry] = converter
  ):
    val context = TestSinkInitContext()
    val writer = CosmosDBSinkWriter.open(converter, context, core, options, states.asJava)
    def write(values: String*): Unit = values.foreach(writer.write(_, null))
    def flush(endOfInput: Boolean = true): Unit = failAfter(30.seconds)(writer.flush(endOfInput))
    def errors: Long = context.metricGroup.getNumRecordsSendErrorsCounter.getCount
    def buffered: List[String] =
      writer
        .snapshotState(1)
        .asScala
        .flatMap(_.getBufferedRequestEntries.asScala)
        .map(_.getRequestEntry.operation.id)
        .toList

  private def writing(
      sink: Core.SinkHandle,
      options: CosmosDBOptions = FakeCore.options,
      states: Seq[State] = Nil,
      converter: ElementConverter[String, CosmosDBRequestEntry] = converter
  )(
      test: Fixture => Unit
  ): Unit =
    val fixture = Fixture(FakeCore(sink), options, states, converter)
    try test(fixture)
    finally fixture.writer.close()

  private def allOk(submission: Submission) = List(submission.ended())

  test("batches complete in whatever order"):
    val sink = FakeCore.Sink()
    writing(sink): f =>
      f.write("a", "b", "c", "d")
      val List(first, second) = List.fill(2)(sink.submitted.take()): @unchecked
      sink.answer(second.ended())
      sink.answer(first.ended())
      sink.onSubmit = allOk
      f.write("e")
      f.flush()
      sink.submitted.take().operations.map(_.id) shouldBe List("e")
      f.buffered shouldBe Nil

  test("a converter is opened before its first element"):
    val counting = new WriteConverter[String, Document]:
      @transient private var seen: Option[Counter] = None
      override def open(context: SerializationSchema.InitializationContext): Unit =
        seen = Some(context.getMetricGroup.counter("seen"))
      def write(id: String): Write[Document] =
        seen.get.inc()
        Write.Upsert(Document(s"$id${seen.get.getCount}", PartitionKey("k"), "{}".getBytes(UTF_8)))
    val sink = FakeCore.Sink()
    sink.onSubmit = allOk
    val core = FakeCore(sink)
    val counted = CosmosDBSink.from(FakeCore.options, "orders", WritesOf(counting), () => core)
    val writer = counted.createWriter(TestSinkInitContext())
    try
      Seq("a", "b").foreach(writer.write(_, null))
      writer.flush(true)
      submitted(sink).map(_.id) shouldBe List("a1", "b2")
    finally writer.close()

  private def state(entries: CosmosDBRequestEntry*): State =
    val serializer = CosmosDBWriterStateSerializer()
    val wrapped = entries.map(entry => RequestEntryWrapper(entry, entry.body.length.toLong))
    serializer.deserialize(1, serializer.serialize(BufferedRequestState(wrapped.asJava)))

  private def upsert(id: String, bytes: Int): CosmosDBRequestEntry =
    CosmosDBRequestEntry(Operation.upsert(id, "[1]", new Array[Byte](bytes)).encode())

  private def submitted(sink: FakeCore.Sink): List[Operation] = sink.submitted.asScala.toList.flatMap(_.operations)

  test("a checkpoint writes what waits"):
    val sink = FakeCore.Sink()
    sink.onSubmit = allOk
    writing(sink): f =>
      f.write("a")
      f.buffered shouldBe List("a")
      f.flush(endOfInput = false)
      submitted(sink).map(_.id) shouldBe List("a")
      f.buffered shouldBe Nil

  test("state of an earlier release is written first"):
    val sink = FakeCore.Sink()
    sink.onSubmit = allOk
    writing(sink, states = Seq(state(converter("old", null)))): f =>
      f.write("new")
      f.flush(endOfInput = false)
      submitted(sink).map(_.id) shouldBe List("old", "new")

  test("state with a record that is too large is restored, and refused"):
    val sink = FakeCore.Sink()
    sink.onSubmit = allOk
    val id = "x" * 9000
    writing(sink, states = Seq(state(upsert("large", 20_000), upsert(id, 9999)))): f =>
      f.flush(endOfInput = false)
      submitted(sink).map(o => (o.`type`, o.id)) shouldBe
        List((OperationKind.REFUSED, "large"), (OperationKind.UPSERT, id))

  test("records that cannot be written take the failure mode's way, with id, key, reason and document"):
    given JsonEncoder[String] with
      def encode(id: String): Array[Byte] = id match
        case "throws" => throw IllegalStateException("no amount")
        case "deep" => throw StackOverflowError()
        case "large" => new Array(10_001)
        case "fits" => new Array(10_000)
        case _ => "{}".getBytes(UTF_8)
    given DocumentKey[String] = DocumentKey.of(
      id => if id == "noid" then "" else id,
      id => if id == "badkey" then PartitionKey(Double.NaN) else PartitionKey("k")
    )
    val sink = FakeCore.Sink()
    sink.onSubmit = allOk
    val picky = CosmosDBSink.converter[String, String]: id =>
      if id == "nowrite" then sys.error("no write") else Write.Upsert(id)
    writing(sink, converter = picky): f =>
      f.write("throws", "deep", "large", "fits", "badkey", "half\ud800", "noid", "nowrite", "good")
      f.flush(endOfInput = false)
      val all = submitted(sink)
      all.map(o => (o.`type`, o.id, o.partitionKey)) shouldBe List(
        (OperationKind.REFUSED, "throws", """["k"]"""),
        (OperationKind.REFUSED, "deep", """["k"]"""),
        (OperationKind.REFUSED, "large", """["k"]"""),
        (OperationKind.UPSERT, "fits", """["k"]"""),
        (OperationKind.REFUSED, "badkey", ""),
        (OperationKind.REFUSED, "half?", """["k"]"""),
        (OperationKind.REFUSED, "", """["k"]"""),
        (OperationKind.REFUSED, "", ""),
        (OperationKind.UPSERT, "good", """["k"]""")
      )
      all(0).ifMatch shouldBe "java.lang.IllegalStateException: no amount"
      all(2).ifMatch should (include("10001 bytes") and include("sink.max-record-size is 10000"))
      all(2).document.length shouldBe 10_001
      String(all(4).document, UTF_8) shouldBe "{}"

  private def causes(body: => Any): List[Throwable] =
    Iterator.iterate(intercept[Exception](body): Throwable)(_.getCause).takeWhile(_ != null).toList

  test("a refused record fails the job with the failure of its function"):
    val sink = FakeCore.Sink()
    sink.onSubmit = submission =>
      val why = submission.operations.head.ifMatch
      List(submission.ended(WriteFailure(0, Result.FAILED, Kind.BAD_REQUEST, false, 0, 0, 0, "", why)))
    writing(sink, converter = (id, _) => throw IllegalStateException(s"no amount in $id")): f =>
      f.write("a")
      val all = causes(f.flush())
      all.map(_.getMessage).mkString should
        (include("no write could be made of the record with id ''") and include(
          "sink.failure-mode skip or dead-letter"
        ))
      all.last.getMessage shouldBe "no amount in a"

  test("an Error that is not the record's ends the task"):
    writing(FakeCore.Sink(), converter = (_, _) => throw NoClassDefFoundError("a/Lost")): f =>
      a[NoClassDefFoundError] should be thrownBy f.write("a")

  test("a batch that takes long is not submitted again behind newer writes"):
    val sink = FakeCore.Sink()
    writing(sink): f =>
      val time = f.context.getTestProcessingTimeService
      f.write("a", "b")
      time.setCurrentTime(time.getCurrentProcessingTime + 3650.days.toMillis)
      val batch = sink.submitted.take()
      sink.answer(batch.ended())
      f.flush()
      sink.submitted.isEmpty shouldBe true
      time.getNumActiveTimers should be <= 1

  test("a submission that fails, fails the job instead of hanging it"):
    Seq(failure(Kind.STATE, "the frame is bad"), IllegalStateException("not the core's own")).foreach: broken =>
      val sink = FakeCore.Sink()
      sink.submitFailure = Some(broken)
      writing(sink): f =>
        val all = causes:
          f.write("a", "b")
          f.flush()
        all.map(_.getMessage).mkString should include(s"cannot write to container orders: ${broken.getMessage}")

  test("an opening that hangs ends with the task"):
    val sink = FakeCore.Sink()
    sink.openingHangs = true
    @volatile var thrown: Option[Throwable] = None
    val task = Thread: () =>
      try Fixture(FakeCore(sink), FakeCore.options).writer.close()
      catch case e: Throwable => thrown = Some(e)
    task.start()
    LocalCosmos.await("the opening", limit)(sink.waiting.get == 1)
    task.interrupt()
    task.join(2000)
    task.isAlive shouldBe false
    thrown.map(_.getCause.getClass) shouldBe Some(classOf[InterruptedException])
    sink.closed shouldBe true

  test("an interrupted close ends too, and keeps the interrupt"):
    val sink = FakeCore.Sink()
    val fixture = Fixture(FakeCore(sink), FakeCore.options)
    @volatile var interrupted = false
    val task = Thread: () =>
      Thread.currentThread.interrupt()
      fixture.writer.close()
      interrupted = Thread.currentThread.isInterrupted
    task.start()
    task.join(2000)
    (task.isAlive, interrupted, sink.closed) shouldBe (false, true, true)

  test("a failure fails the job at once, whatever else is under way"):
    val sink = FakeCore.Sink()
    writing(sink): f =>
      causes:
        f.write("a", "b", "c", "d")
        val List(first, second) = List.fill(2)(sink.submitted.take()): @unchecked
        sink.onSubmit = allOk
        sink.answer(second.ended(conflict(1, Result.FAILED)))
        LocalCosmos.await("the failure", limit)(f.errors == 1)
        // What comes later is no surprise to it.
        sink.answer(first.ended(conflict(0, Result.FAILED)))
        LocalCosmos.await("the late completion", limit)(f.errors == 2)
        f.flush()
      .map(_.getMessage)
        .mkString should include("id 'd'")

  private def ends(failure: Throwable): Boolean =
    ThrowableClassifier.findThrowableOfThrowableType(failure, ThrowableType.NonRecoverableError).isPresent

  private def failing(kind: Kind, isFinal: Boolean, status: Int, options: CosmosDBOptions): Throwable =
    val sink = FakeCore.Sink()
    sink.onSubmit = submission =>
      List(submission.ended(WriteFailure(0, Result.FAILED, kind, isFinal, status, 1003, 1, "", "why")))
    val fixture = Fixture(FakeCore(sink), options)
    try
      intercept[Exception]:
        fixture.write("a")
        fixture.flush()
    finally fixture.writer.close()

  test("the core says whether a failed write ends the job"):
    ends(failing(Kind.NOT_FOUND, isFinal = true, 404, FakeCore.options)) shouldBe true
    ends(failing(Kind.NOT_FOUND, isFinal = false, 404, FakeCore.options)) shouldBe false

  test("a key in the job graph that is refused ends the job, and one in a file does not"):
    ends(failing(Kind.AUTH, isFinal = false, 401, FakeCore.options)) shouldBe false
    ends(
      failing(Kind.AUTH, isFinal = false, 401, FakeCore.options + ("auth.secret-key" -> "c2VjcmV0"))
    ) shouldBe true

  test("the failure of a large record is small"):
    val large = "x" * (9 << 20)
    val converter = CosmosDBSink.converter[String, Document]: id =>
      if id == "throws" then throw IllegalStateException(large, IllegalArgumentException(large))
      Write.Upsert(Document(id, PartitionKey("k"), large.getBytes(UTF_8)))
    Seq("throws", "large").foreach: id =>
      val sink = FakeCore.Sink()
      sink.onSubmit = submission =>
        List(submission.ended(WriteFailure(0, Result.FAILED, Kind.BAD_REQUEST, false, 0, 0, 0, "", "why")))
      writing(sink, converter = converter): f =>
        val failure = intercept[Exception]:
          f.write(id)
          f.flush()
        InstantiationUtil.serializeObject(SerializedThrowable(failure)).length should be < (1 << 20)

  test("what every record would meet ends the task"):
    Seq(NotOfRecordException("the registry is down", null), IllegalStateException(InterruptedException())).foreach: e =>
      val sink = FakeCore.Sink()
      writing(sink, converter = CosmosDBSink.converter[String, Document](_ => throw e)): f =>
        intercept[Exception](f.write("a")) should be theSameInstanceAs e
        sink.submitted.isEmpty shouldBe true

  test("a failed operation fails the job with all that is known"):
    val sink = FakeCore.Sink()
    sink.onSubmit = submission => List(submission.ended(conflict(1, Result.FAILED)))
    writing(sink): f =>
      f.write("a", "b")
      val causes = Iterator.iterate(intercept[Exception](f.flush()): Throwable)(_.getCause).takeWhile(_ != null)
      causes.map(_.getMessage).mkString should include(
        """container orders: UPSERT of id 'b' with partition key ["k"] failed after 1 attempts with status 409/0 """ +
          "(activity act-1): it exists; the document exists already; use upsert, or sink.failure-mode skip"
      )
      f.errors shouldBe 1

  test("skipped and dead-lettered operations are counted, and the job goes on"):
    val sink = FakeCore.Sink()
    sink.onSubmit = submission => List(submission.ended(conflict(0, Result.SKIPPED), conflict(1, Result.DEAD_LETTERED)))
    writing(sink): f =>
      f.write("a", "b")
      f.flush()
      f.errors shouldBe 2

  test("a completion that nobody asked for ends the writer instead of hanging it"):
    val sink = FakeCore.Sink()
    sink.onSubmit = _ => List(Completion(77, 1, JavaList.of()))
    writing(sink): f =>
      f.write("a", "b")
      val causes = Iterator.iterate(intercept[Exception](f.flush()): Throwable)(_.getCause).takeWhile(_ != null)
      causes.map(_.getMessage).mkString should include("not in flight")

  test("an Error on the completion thread ends the writer instead of hanging it"):
    val sink = FakeCore.Sink()
    sink.onSubmit = _ =>
      sink.failure = Some(NoClassDefFoundError("a/Lost"))
      Nil
    writing(sink): f =>
      f.write("a", "b")
      val causes = Iterator.iterate(intercept[Exception](f.flush()): Throwable)(_.getCause).takeWhile(_ != null)
      causes.map(_.getMessage).mkString should include("hears of no more writes: a/Lost")

  test("close ends the thread and the handle"):
    def threads = Thread.getAllStackTraces.keySet.asScala.count(_.getName.startsWith("cosmosdb-sink-completion"))
    val sink = FakeCore.Sink()
    writing(sink)(_ => threads shouldBe 1)
    threads shouldBe 0
    sink.closed shouldBe true

  test("a container that is missing is unrecoverable, an account that does not answer is not"):
    def thrown(kind: Kind) =
      val sink = FakeCore.Sink()
      sink.openFailure = Some(failure(kind, "no luck"))
      the[RuntimeException] thrownBy Fixture(FakeCore(sink), FakeCore.options)
    thrown(Kind.NOT_FOUND) shouldBe a[CosmosDBUnrecoverableException]
    thrown(Kind.TRANSIENT) should not be a[CosmosDBUnrecoverableException]
    thrown(Kind.TRANSIENT).getMessage shouldBe "cannot open the sink to container orders: no luck"

  /** There may be no checkpoint yet, and the key in the file, or the identity's role, be on its way. */
  test("a refused key ends a job at its first start only, unless the key is in the job graph"):
    def opening(options: CosmosDBOptions, attempt: Int) =
      val sink = FakeCore.Sink()
      sink.openFailure = Some(CosmosException("refused", Kind.AUTH, 401, 0, ""))
      val context = new TestSinkInitContext:
        override def getTaskInfo: TaskInfo = TaskInfoImpl("sink", 1, 0, 1, attempt)
      the[RuntimeException] thrownBy CosmosDBSinkWriter.open(converter, context, FakeCore(sink), options, JavaList.of())
    ends(opening(FakeCore.options, attempt = 0)) shouldBe true
    ends(opening(FakeCore.options, attempt = 1)) shouldBe false
    ends(opening(FakeCore.options + ("auth.secret-key" -> "c2VjcmV0"), attempt = 1)) shouldBe true

  // What is left of a batch may be one record of a partition that is throttled: how many batches there are says nothing.
  test("batches go out for as long as the core has room"):
    val sink = FakeCore.Sink()
    writing(sink): f =>
      f.write("a", "b", "c", "d", "e", "f", "g", "h")
      sink.submitted.size shouldBe 4
      sink.isFull = true
      f.write("i", "j", "k")
      sink.submitted.size shouldBe 4
      sink.isFull = false
      f.write("l")
      sink.submitted.size shouldBe 6
      sink.submitted.asScala.foreach(batch => sink.answer(batch.ended()))
      f.flush()

  test("a task that waits for room goes on when there is some, although no batch has ended"):
    val sink = FakeCore.Sink()
    writing(sink): f =>
      sink.isFull = true
      f.write("a", "b")
      val task = Thread.currentThread
      val free = Thread: () =>
        while task.getState == Thread.State.RUNNABLE do Thread.onSpinWait()
        sink.onSubmit = allOk
        sink.isFull = false
      free.start()
      // In this thread: its state is what the other one waits for.
      f.writer.flush(true)
      free.join()
      sink.submitted.size shouldBe 1

  /** What a writer of the first release has left in a savepoint. These bytes must restore for ever. */
  private val firstState = Base64.getDecoder.decode(
    "//////////8AAAADAAAAAAAAACEAAAAlAQAKAAEBAAAAYQUAAABbImsiXQAAAAAKAAAAeyJpZCI6ImEifQAAAAAAAA" +
      "AuAAAAMgEACgADAgAAAMO2DAAAAFsiayIsNyxudWxsXQQAAAAiZTEiCwAAAHsiaWQiOiLDtiJ9AAAAAAAAABcAAAAb" +
      "AQAKAAQBAAAAYwUAAABbImsiXQAAAAAAAAAA"
  )

  test("the state of the first release restores and is written"):
    val serializer = CosmosDBWriterStateSerializer()
    val state = serializer.deserialize(1, firstState)
    serializer.serialize(state) shouldBe firstState
    val sink = FakeCore.Sink()
    sink.onSubmit = allOk
    writing(sink, states = Seq(state)): f =>
      f.flush()
      val written = sink.submitted.asScala.toList.flatMap(_.operations)
      written.map(o => (o.`type`, o.id, o.partitionKey, o.ifMatch, String(o.document, UTF_8))) shouldBe List(
        (OperationKind.UPSERT, "a", """["k"]""", "", """{"id":"a"}"""),
        (OperationKind.REPLACE, "ö", """["k",7,null]""", "\"e1\"", """{"id":"ö"}"""),
        (OperationKind.DELETE, "c", """["k"]""", "", "")
      )

  test("the writers of a sink are told who their peers are"):
    val core = FakeCore()
    val third = new TestSinkInitContext:
      override def getTaskInfo: TaskInfo = TaskInfoImpl("sink", 128, 2, 7, 0)
      override def metricGroup: SinkWriterMetricGroup =
        named(super.metricGroup, JavaMap.of("<job_id>", "job", "<operator_id>", "sink"))
    CosmosDBSinkWriter.open(converter, third, core, FakeCore.options, JavaList.of()).close()
    core.sinkPeers shouldBe Some(Core.Peers(7, "job/sink"))

  /** The same group with variables as they are in Flink. */
  private def named(group: SinkWriterMetricGroup, variables: JavaMap[String, String]): SinkWriterMetricGroup =
    val proxy = Proxy.newProxyInstance(
      classOf[SinkWriterMetricGroup].getClassLoader,
      Array[Class[?]](classOf[SinkWriterMetricGroup]),
      (_, method, arguments) =>
        if method.getName == "getAllVariables" then variables else method.invoke(group, arguments*)
    )
    proxy.asInstanceOf[SinkWriterMetricGroup]

  test("laws of batches: every write goes out once, in order per document, in batches within the bounds"):
    val writes = Gen
      .listOf(Gen.zip(Gen.oneOf("a", "b", "c"), Gen.alphaNumStr))
      .map: list =>
        list.zipWithIndex.map { case ((id, text), i) => s"$id#$i$text" }
    forAll(writes, Gen.chooseNum(1, 7), Gen.chooseNum(1, 4), Gen.long): (writes, size, batches, seed) =>
      val sink = Shuffled(Random(seed), batches)
      val options = FakeCore.options ++ CosmosDBOptions(
        "sink.buffer-flush.max-rows" -> s"$size",
        "sink.max-in-flight-requests" -> s"$batches",
        "sink.max-buffered-requests" -> s"${size * 3}"
      )
      writing(sink, options): f =>
        f.write(writes*)
        f.flush()
        f.buffered shouldBe Nil
        f.errors shouldBe 0
      val sent = sink.batches.toList
      sent.foreach(batch => batch.size should (be > 0 and be <= size))
      sink.mostInFlight should be <= batches
      val documents = sent.flatten.map(operation => (operation.id, String(operation.document, UTF_8)))
      documents should contain theSameElementsAs writes.map(w => (w.takeWhile(_ != '#'), s"""{"v":"$w"}"""))
      documents.groupMap(_(0))(_(1)) shouldBe
        writes.groupMap(_.takeWhile(_ != '#'))(w => s"""{"v":"$w"}""")

  test("laws of the writer's state: it holds what was not acknowledged, and comes back as it was"):
    val serializer = CosmosDBWriterStateSerializer()
    forAll(Gen.listOf(Gen.alphaNumStr.map("i" + _))): ids =>
      val entries = ids.map(id => RequestEntryWrapper(converter(id, null), converter(id, null).body.length.toLong))
      val state = BufferedRequestState(entries.asJava)
      val copy = serializer.deserialize(1, serializer.serialize(state))
      copy.getBufferedRequestEntries.asScala.map(e => (e.getRequestEntry, e.getSize)) shouldBe
        entries.map(e => (e.getRequestEntry, e.getSize))

  test("state of a newer connector, and damaged state, are errors that say so"):
    val serializer = CosmosDBWriterStateSerializer()
    val state = BufferedRequestState(JavaList.of(RequestEntryWrapper(converter("a", null), 1L)))
    val bytes = serializer.serialize(state)
    (the[java.io.IOException] thrownBy serializer.deserialize(1, bytes.init)).getMessage should include("ends after")
    val damaged = bytes.clone
    // The frame's version, behind AsyncSink's own head (ident, count, size) and the length.
    damaged(8 + 4 + 8 + 4) = 9
    (the[java.io.IOException] thrownBy serializer.deserialize(1, damaged)).getMessage should include("version 9")

  /** Answers some of what is under way at each poll, in any order. It has room for so many batches. */
  private class Shuffled(random: Random, room: Int) extends FakeCore.Base, Core.SinkHandle:
    val batches = ListBuffer[List[Operation]]()
    private var open = List.empty[Long]
    var mostInFlight = 0

    override def submit(number: Long, batch: OperationBatch): Unit = synchronized:
      batches += Submitted.operations(batch)
      open ::= number
      mostInFlight = math.max(mostInFlight, open.size)
      notifyAll()

    override def wakeUp(): Unit = synchronized(notifyAll())

    override def isFull: Boolean = synchronized(open.size >= room)

    override def pollCompletions(timeoutMillis: Long): JavaList[Completion] = synchronized:
      if open.isEmpty then wait(math.min(50, timeoutMillis))
      val (now, later) = random.shuffle(open).splitAt(random.between(0, open.size + 1))
      open = later
      now.map(Completion(_, 1, JavaList.of())).asJava
