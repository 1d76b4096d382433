package io.cosmosflink.scaladsl

import io.cosmosflink.core.CosmosException.Kind
import io.cosmosflink.core.Outcome.Result
import io.cosmosflink.core.{CosmosRuntime, Operation, OperationBatch, Outcome, Submitted}
import io.cosmosflink.scaladsl.FakeRuntime.{failure, outcome}
import org.apache.flink.connector.base.sink.writer.{BufferedRequestState, RequestEntryWrapper, TestSinkInitContext}
import org.scalacheck.Gen
import org.scalatest.concurrent.TimeLimits
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers
import org.scalatest.time.SpanSugar.*
import org.scalatestplus.scalacheck.ScalaCheckPropertyChecks

import java.nio.charset.StandardCharsets.UTF_8
import java.util.List as JavaList

import scala.collection.mutable.ListBuffer
import scala.jdk.CollectionConverters.*
import scala.util.Random

final class CosmosDBSinkWriterSpec extends AnyFunSuite, Matchers, TimeLimits, ScalaCheckPropertyChecks:
  private type State = BufferedRequestState[CosmosDBRequestEntry]

  /** The text is the document's id, up to a `#`; what is behind it is the version. */
  private val converter = CosmosDBSink.converter[String, Document]: text =>
    Write.Upsert(Document(text.takeWhile(_ != '#'), PartitionKey("k"), s"""{"v":"$text"}""".getBytes(UTF_8)))

  private class Fixture(core: FakeRuntime, options: CosmosDBOptions, states: State*):
    val context = TestSinkInitContext()
    val writer = CosmosDBSinkWriter.open(converter, context, core, options, states.asJava)
    def write(values: String*): Unit = values.foreach(writer.write(_, null))
    def flush(): Unit = failAfter(30.seconds)(writer.flush(true))
    def errors: Long = context.metricGroup.getNumRecordsSendErrorsCounter.getCount
    def buffered: List[String] =
      writer
        .snapshotState(1)
        .asScala
        .flatMap(_.getBufferedRequestEntries.asScala)
        .map(_.getRequestEntry.operation.id)
        .toList

  private def writing(
      sink: CosmosRuntime.SinkHandle,
      options: CosmosDBOptions = FakeRuntime.options,
      states: Seq[State] = Nil
  )(
      test: Fixture => Unit
  ): Unit =
    val fixture = Fixture(FakeRuntime(sink), options, states*)
    try test(fixture)
    finally fixture.writer.close()

  private def allOk(operations: List[(Long, Operation)]) = operations.map((token, _) => outcome(token, Result.OK))

  test("a batch is complete when every operation has its outcome, in whatever order"):
    val sink = FakeRuntime.Sink()
    writing(sink): f =>
      f.write("a", "b", "c", "d")
      val List(first, second) = List.fill(2)(sink.submitted.take().map(_(0))): @unchecked
      sink.answer(outcome(first(1), Result.OK))
      sink.answer((second.reverse :+ first(0)).map(outcome(_, Result.OK))*)
      sink.onSubmit = allOk
      f.write("e")
      f.flush()
      sink.submitted.take().map(_(1).id) shouldBe List("e")
      f.buffered shouldBe Nil

  test("what is buffered is in the state, and a writer begins with it"):
    val sink = FakeRuntime.Sink()
    val serializer = CosmosDBWriterStateSerializer()
    var state: Option[State] = None
    writing(sink): f =>
      f.write("a")
      f.buffered shouldBe List("a")
      state = f.writer.snapshotState(1).asScala.headOption.map(s => serializer.deserialize(1, serializer.serialize(s)))
    val restored = FakeRuntime.Sink()
    restored.onSubmit = allOk
    writing(restored, states = state.toSeq): f =>
      f.flush()
      restored.submitted.take().map(_(1).id) shouldBe List("a")

  test("a failed operation fails the job with all that is known"):
    val sink = FakeRuntime.Sink()
    sink.onSubmit = operations => List(outcome(operations(1)(0), Result.FAILED), outcome(operations.head(0), Result.OK))
    writing(sink): f =>
      f.write("a", "b")
      val causes = Iterator.iterate(intercept[Exception](f.flush()): Throwable)(_.getCause).takeWhile(_ != null)
      causes.map(_.getMessage).mkString should include(
        """container orders: UPSERT of id 'b' with partition key ["k"] failed after 1 attempts with status 409/0 """ +
          "(activity act-1): it exists; the document exists already; use upsert, or sink.failure-mode skip"
      )
      f.errors shouldBe 1

  test("skipped and dead-lettered operations are counted, and the job goes on"):
    val sink = FakeRuntime.Sink()
    sink.onSubmit = _.map(_(0)).zip(List(Result.SKIPPED, Result.DEAD_LETTERED)).map(outcome(_, _))
    writing(sink): f =>
      f.write("a", "b")
      f.flush()
      f.errors shouldBe 2

  test("an outcome that nobody asked for ends the writer instead of hanging it"):
    val sink = FakeRuntime.Sink()
    sink.onSubmit = _ => List(outcome(77L << 20, Result.OK))
    writing(sink): f =>
      f.write("a", "b")
      val causes = Iterator.iterate(intercept[Exception](f.flush()): Throwable)(_.getCause).takeWhile(_ != null)
      causes.map(_.getMessage).mkString should include("not in flight")

  test("an Error on the completion thread ends the writer instead of hanging it"):
    val sink = FakeRuntime.Sink()
    sink.onSubmit = _ =>
      sink.failure = Some(NoClassDefFoundError("a/Lost"))
      Nil
    writing(sink): f =>
      f.write("a", "b")
      val causes = Iterator.iterate(intercept[Exception](f.flush()): Throwable)(_.getCause).takeWhile(_ != null)
      causes.map(_.getMessage).mkString should include("gets no more outcomes: a/Lost")

  test("close ends the thread and the handle"):
    def threads = Thread.getAllStackTraces.keySet.asScala.count(_.getName.startsWith("cosmosdb-sink-completion"))
    val sink = FakeRuntime.Sink()
    writing(sink)(_ => threads shouldBe 1)
    threads shouldBe 0
    sink.closed shouldBe true

  test("a container that is missing is unrecoverable, an account that does not answer is not"):
    def thrown(kind: Kind) =
      val core = FakeRuntime()
      core.openFailure = Some(failure(kind, "no luck"))
      the[RuntimeException] thrownBy Fixture(core, FakeRuntime.options)
    thrown(Kind.NOT_FOUND) shouldBe a[CosmosDBUnrecoverableException]
    thrown(Kind.TRANSIENT) should not be a[CosmosDBUnrecoverableException]
    thrown(Kind.TRANSIENT).getMessage shouldBe "cannot open the sink to container orders: no luck"

  test("laws of batches: every write goes out once, in order per document, in batches within the bounds"):
    val writes = Gen
      .listOf(Gen.zip(Gen.oneOf("a", "b", "c"), Gen.alphaNumStr))
      .map: list =>
        list.zipWithIndex.map { case ((id, text), i) => s"$id#$i$text" }
    forAll(writes, Gen.chooseNum(1, 7), Gen.chooseNum(1, 4), Gen.long): (writes, size, batches, seed) =>
      val sink = Shuffled(Random(seed))
      val options = FakeRuntime.options ++ CosmosDBOptions(
        "sink.max-batch-size" -> s"$size",
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

  /** Answers some of what is under way at each poll, in any order. */
  private class Shuffled(random: Random) extends FakeRuntime.Base, CosmosRuntime.SinkHandle:
    val batches = ListBuffer[List[Operation]]()
    private var open = List.empty[Long]
    var mostInFlight = 0

    override def submit(batch: OperationBatch): Unit = synchronized:
      val operations = Submitted.operations(batch)
      batches += operations.map(_(1))
      open ++= operations.map(_(0))
      mostInFlight = math.max(mostInFlight, open.map(_ >>> 20).distinct.size)
      notifyAll()

    override def wakeUp(): Unit = synchronized(notifyAll())

    override def pollOutcomes(max: Int, timeoutMillis: Long): JavaList[Outcome] = synchronized:
      if open.isEmpty then wait(math.min(50, timeoutMillis))
      val (now, later) = random.shuffle(open).splitAt(random.between(0, open.size + 1))
      open = later
      now.map(outcome(_, Result.OK)).asJava
