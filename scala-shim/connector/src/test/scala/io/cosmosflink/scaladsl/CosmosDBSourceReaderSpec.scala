package io.cosmosflink.scaladsl

import io.cosmosflink.core.CosmosException.Kind
import io.cosmosflink.core.{Core, LagReports, LeaseProgress, NotOfRecordException, ReaderMetrics, RecordView, TestPages}
import io.cosmosflink.core.TestPages.Item
import io.cosmosflink.scaladsl.FakeCore.{bytes, failure, page, split}
import org.apache.flink.api.common.eventtime.TimestampAssigner
import org.apache.flink.api.common.serialization.DeserializationSchema
import org.apache.flink.api.common.typeinfo.Types
import org.apache.flink.api.connector.source.SourceOutput
import org.apache.flink.configuration.Configuration
import org.apache.flink.connector.base.source.reader.splitreader.SplitsAddition
import org.apache.flink.connector.testutils.source.reader.{TestingReaderContext, TestingReaderOutput}
import org.apache.flink.metrics.Counter
import org.apache.flink.runtime.metrics.groups.{InternalSourceReaderMetricGroup, UnregisteredMetricGroups}
import org.apache.flink.runtime.throwable.{ThrowableClassifier, ThrowableType}
import org.apache.flink.util.Collector
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers

import java.nio.charset.StandardCharsets.UTF_8
import java.util.concurrent.{CompletableFuture, TimeUnit}

import scala.collection.mutable.ListBuffer
import scala.concurrent.duration.*
import scala.jdk.CollectionConverters.*
import scala.jdk.OptionConverters.*

object CosmosDBSourceReaderSpec:
  /** Splits text at commas, and counts what it makes. */
  final class Parts extends DeserializationSchema[String]:
    @transient private var parts: Option[Counter] = None

    override def open(context: DeserializationSchema.InitializationContext): Unit =
      assert(context.getUserCodeClassLoader.asClassLoader != null)
      parts = Some(context.getMetricGroup.counter("parts"))

    override def deserialize(message: Array[Byte]): String = throw java.io.IOException("not asked for")

    override def deserialize(message: Array[Byte], out: Collector[String]): Unit =
      val text = String(message, UTF_8)
      if text.contains("broken") then throw java.io.IOException("broken")
      for part <- text.replaceAll("[{}]", "").split(",") do
        parts.get.inc()
        out.collect(part)

    override def isEndOfStream(next: String): Boolean = true
    override def getProducedType = Types.STRING

  final case class Named(id: String) derives JsonDecoder, FlinkType, CanEqual

final class CosmosDBSourceReaderSpec extends AnyFunSuite, Matchers:
  import CosmosDBSourceReaderSpec.{Named, Parts}

  private val limit = 10.seconds

  private class Fixture[T](
      read: RecordReader[T],
      onDecodeError: String = "fail",
      backlogMillis: Long = 0,
      more: CosmosDBOptions = CosmosDBOptions.empty
  ):
    val core = FakeCore()
    val context = TestingReaderContext(
      Configuration(),
      InternalSourceReaderMetricGroup.wrap(UnregisteredMetricGroups.createUnregisteredOperatorMetricGroup())
    )
    val times = ListBuffer[Long]()

    /** Outputs of splits as they are created and released. */
    val outputs = ListBuffer[String]()
    var downstream: T => Unit = _ => ()
    val output = new TestingReaderOutput[T]:
      override def collect(value: T, timestamp: Long): Unit =
        downstream(value)
        times += timestamp
        super.collect(value, timestamp)
      override def createOutputForSplit(id: String): SourceOutput[T] =
        outputs += s"+$id"
        this
      override def releaseOutputForSplit(id: String): Unit = outputs += s"-$id"
    val options = FakeCore.options + ("json.on-error" -> onDecodeError) +
      ("scan.backlog-threshold" -> backlogMillis.toString) ++ more
    val reader = CosmosDBSourceReader(context, core, options, read, EventTime.ofService)

    def add(splits: CosmosDBSplit*): Unit = reader.addSplits(splits.asJava)
    def emitted: List[T] = output.getEmittedRecords.asScala.toList
    def positions: Set[CosmosDBSplit] = reader.snapshotState(1).asScala.toSet
    def errors: Long = context.metricGroup.getNumRecordsInErrorsCounter.getCount
    def recordsIn: Long = context.metricGroup.getIOMetricGroup.getNumRecordsInCounter.getCount

    def poll(records: Int): Unit =
      val deadline = limit.fromNow
      while emitted.size < records do
        assert(deadline.hasTimeLeft(), s"emitted $emitted")
        reader.pollNext(output)
        reader.isAvailable.get(10, TimeUnit.SECONDS)

  private def reading[T](read: RecordReader[T], onDecodeError: String = "fail")(test: Fixture[T] => Unit): Unit =
    val fixture = Fixture(read, onDecodeError)
    try test(fixture)
    finally fixture.reader.close()

  private val typed = RecordReader.documents[Named]

  test("the enumerator hears how far behind a reader is, where it asks for that"):
    for (threshold, expected) <- Seq(0L -> Nil, 1000L -> List(LagEvent(0))) do
      val f = Fixture(typed, backlogMillis = threshold)
      f.core.source.page(page(0, 3, Item.of("a", 100)))
      f.add(split(0, 0))
      f.poll(1)
      f.context.getSentEvents.asScala.toList shouldBe expected
      f.reader.close()

  test("another schema makes what it likes of a document"):
    val core = FakeCore()
    val context = TestingReaderContext(
      Configuration(),
      InternalSourceReaderMetricGroup.wrap(UnregisteredMetricGroups.createUnregisteredOperatorMetricGroup())
    )
    val options = FakeCore.options + ("json.on-error" -> "skip-row")
    val schema = Parts()
    val source = CosmosDBSource.typed(
      options,
      "orders",
      RecordReader.deserialized(schema),
      schema.getProducedType,
      Startup.Configured,
      EventTime.ofService,
      () => core
    )
    source.getProducedType shouldBe Types.STRING
    val reader = source.createReader(context)
    try
      core.source.page(page(0, 3, Item.of("a", 100), Item.of("broken", 101), Item.of("c", 102)))
      reader.addSplits(List(split(0, 0)).asJava)
      val output = TestingReaderOutput[String]()
      LocalCosmos.await("the records", limit):
        reader.pollNext(output)
        output.getEmittedRecords.size == 2
      output.getEmittedRecords.asScala shouldBe Seq("\"id\":\"a\"", "\"id\":\"c\"")
    finally reader.close()

  test("a page is emitted in one go and then moves its split"):
    reading(typed): f =>
      f.core.source.page(page(0, 3, Item.of("a", 100), Item.of("b", 101), Item.of("c", 102)))
      f.add(split(0, 0), split(1, 0))
      f.positions should contain(split(0, 0))
      f.poll(1)
      f.emitted shouldBe List(Named("a"), Named("b"), Named("c"))
      f.times.toList shouldBe List(100_000L, 101_000L, 102_000L)
      f.positions shouldBe Set(split(0, 3), split(1, 0))
      f.core.source.added.asScala.map(_.id) shouldBe List("s0", "s1")
      f.recordsIn shouldBe 3

  test("a row without a time has no event time"):
    reading(typed): f =>
      f.core.source.page(page(0, 3, Item.of("a", 0), Item.of("b", 101)))
      f.add(split(0, 0))
      f.poll(2)
      f.times.toList shouldBe List(TimestampAssigner.NO_TIMESTAMP, 101_000L)

  test("a checkpoint that has completed is published as it was taken"):
    val f = Fixture(typed, more = CosmosDBOptions("scan.lease.container" -> "leases"))
    try
      f.core.source.page(page(0, 3, Item.of("a", 100)))
      f.add(split(0, 0))
      f.poll(1)
      f.reader.snapshotState(7)
      f.core.source.page(page(0, 4, Item.of("b", 101)))
      f.poll(2)
      f.core.source.published shouldBe Map.empty
      f.reader.notifyCheckpointComplete(7)
      f.core.source.published.view.mapValues(_.map(CosmosDBSplit.of)).toMap shouldBe Map(7L -> List(split(0, 3)))
    finally f.reader.close()

  test("a page without records moves its split too"):
    reading(typed): f =>
      f.core.source.page(page(0, 5))
      f.core.source.page(page(1, 1, Item.of("x", 1)))
      f.add(split(0, 0), split(1, 0))
      f.poll(1)
      f.positions should contain(split(0, 5))
      f.recordsIn shouldBe 1

  test("children go on in place of their parent, each with an output from the start"):
    // Until a child has an output, the watermark does not wait for it.
    reading(RecordReader.documents[Named]): f =>
      def entry(ordinal: Int, position: Int) = split(ordinal, position).entry
      // Until the core reads them it has no page of them.
      def children(last: String) = LocalCosmos.await(s"split $last to be read", limit):
        f.reader.pollNext(f.output)
        f.core.source.added.asScala.last.id == last
      f.add(split(0, 0), split(1, 0))
      f.core.source.page(page(0, 1, Item.of("a", 100)))
      f.poll(1)
      f.core.source.page(TestPages.last("s0", bytes(0, 2), java.util.List.of(entry(2, 2), entry(3, 2))))
      children("s3")
      f.core.source.page(page(3, 7, Item.of("b", 101)))
      f.poll(2)
      f.outputs.toList.dropWhile(_ != "-s0").take(3) shouldBe List("-s0", "+s2", "+s3")
      f.positions shouldBe Set(split(1, 0), split(2, 2), split(3, 7))
      f.core.source.added.asScala.map(_.id) shouldBe Seq("s0", "s1", "s2", "s3")
      // A child that never had a record may end too.
      f.core.source.page(TestPages.last("s2", bytes(2, 3), java.util.List.of(entry(4, 3), entry(5, 3))))
      children("s5")
      f.core.source.page(page(5, 8, Item.of("c", 102)))
      f.poll(3)
      f.positions.map(_.id) shouldBe Set("s1", "s3", "s4", "s5")
      // And a split that is done has none.
      f.core.source.page(TestPages.last("s1", bytes(1, 9), java.util.List.of()))
      f.core.source.page(page(5, 9, Item.of("d", 103)))
      f.poll(4)
      f.positions.map(_.id) shouldBe Set("s3", "s4", "s5")

  // Its last page is out, and Flink asks for a checkpoint before the next poll, which ends the split.
  test("a checkpoint has what goes on in place of a split that has ended"):
    reading(typed): f =>
      f.add(split(0, 0), split(1, 0))
      f.core.source.page(TestPages.page("s0", bytes(0, 9), 2, 0, java.util.List.of(Item.of("a", 100))))
      f.poll(1)
      f.positions shouldBe Set(split(1, 0))
      val goOn = java.util.List.of(split(2, 2).entry, split(3, 2).entry)
      f.core.source.page(TestPages.last("s1", bytes(1, 2), goOn))
      LocalCosmos.await("the children", limit):
        f.reader.pollNext(f.output)
        f.positions should not contain split(1, 2)
        f.positions == Set(split(2, 2), split(3, 2))

  test("pages in flight do not share a buffer"):
    reading(RecordReader.raw): f =>
      f.add(split(0, 0))
      (0 until 200).foreach: i =>
        f.core.source.page(page(0, i, Item.of(s"first$i", 1), Item.of(s"second$i", 1)))
      f.poll(400)
      f.emitted.map(r => String(r.document)) shouldBe
        (0 until 200).flatMap(i => List(s"""{"id":"first$i"}""", s"""{"id":"second$i"}"""))
      f.positions shouldBe Set(split(0, 199))

  test("deletes are left out of models, and are records of their own when raw"):
    val items = Seq(Item("gone", "[\"k\"]", 1, 3, ""), Item.of("here", 1))
    reading(typed): f =>
      f.core.source.page(page(0, 1, items*))
      f.add(split(0, 0))
      f.poll(1)
      f.emitted shouldBe List(Named("here"))
    reading(RecordReader.raw): f =>
      f.core.source.page(page(0, 1, items*))
      f.add(split(0, 0))
      f.poll(2)
      f.emitted.map(r => (r.id, r.change, r.partitionKey.json, r.lsn)) shouldBe
        List(("gone", ChangeKind.Delete, "[\"k\"]", None), ("here", ChangeKind.Upsert, "[\"k\"]", None))
      f.emitted.map(_.as[Named]).last shouldBe Right(Named("here"))

  test("changes are typed, and deletes have no document"):
    val (now, old) = ("""{"id":"now"}""", """{"id":"old"}""")
    val items = Seq(
      Item("a", "[\"k\"]", 1, 0, now),
      Item("b", "[\"k\"]", 2, 1, now),
      Item("c", "[\"k\"]", 3, 2, now, old, 0),
      Item("c", "[\"k\"]", 3, 2, now),
      Item.deleted("d", 4, old, false),
      Item.deleted("e", 5, "", true)
    )
    def of(id: String, seconds: Long) = Changed(id, PartitionKey("k"), seconds, None)
    reading(RecordReader.changes(typed)): f =>
      f.core.source.page(page(0, 1, items*))
      f.add(split(0, 0))
      f.poll(6)
      f.emitted shouldBe List(
        Change.Upserted(of("a", 1), Named("now")),
        Change.Created(of("b", 2), Named("now")),
        Change.Replaced(of("c", 3), Named("now"), Some(Named("old"))),
        Change.Replaced(of("c", 3), Named("now"), None),
        Change.Deleted(of("d", 4), false, Some(Named("old"))),
        Change.Deleted(of("e", 5), true, None)
      )
      f.emitted.map(_.current.isEmpty) shouldBe List(false, false, false, false, true, true)
    reading(RecordReader.raw): f =>
      f.core.source.page(page(0, 1, items*))
      f.add(split(0, 0))
      f.poll(6)
      f.emitted.map(r => (r.id, r.previous.map(String(_)), r.expired)).drop(3) shouldBe
        List(("c", None, false), ("d", Some(old), false), ("e", None, true))

  test("of a document and the one before only what cannot be read is handed on as it is"):
    val marking = new RecordReader[String]:
      def read(record: RecordView, emit: String => Unit) =
        if record.text.contains("bad") then Left(DecodeError("no good")) else Right(emit(record.text))
      override def readRaw(record: RecordView, error: DecodeError, emit: String => Unit) =
        Right(emit(s"raw ${record.text}: ${error.message}"))
    reading(RecordReader.changes(marking), "raw"): f =>
      f.core.source.page(
        page(
          0,
          1,
          Item("a", "[\"k\"]", 1, 2, "new", "bad old", 0),
          Item("b", "[\"k\"]", 1, 2, "bad new", "old", 0),
          Item.deleted("c", 1, "bad old", false),
          Item("", "[\"k\"]", 1, 2, "no id", "old", 1)
        )
      )
      f.add(split(0, 0))
      f.poll(4)
      f.emitted.map {
        case Change.Replaced(_, document, before) => (Some(document), before)
        case Change.Deleted(_, _, before) => (None, before)
        case other => fail(other.toString)
      } shouldBe List(
        (Some("new"), Some("raw bad old: no good")),
        (Some("raw bad new: no good"), Some("old")),
        (None, Some("raw bad old: no good")),
        (Some("raw no id: its id or partition key is no JSON in UTF-8"), Some("old"))
      )
      f.errors shouldBe 4

  test("a change has one document, or none and is left out"):
    val items = Seq(Item.of("a", 1), Item.deleted("b", 1, "", false))
    val none: RecordReader[String] = (_, _) => Right(())
    reading(RecordReader.changes(none)): f =>
      f.core.source.page(page(0, 1, items*))
      f.add(split(0, 0))
      f.poll(1)
      f.emitted.map(_.of.id) shouldBe List("b")
    val twice: RecordReader[String] = (record, emit) => Right(Seq(record.id, record.id).foreach(emit))
    reading(RecordReader.changes(twice), "skip-row"): f =>
      f.core.source.page(page(0, 1, items*))
      f.add(split(0, 0))
      (the[java.io.IOException] thrownBy f.poll(1)).getMessage should include("several elements")

  test("deletes are left out only knowingly"):
    val knowingly = typed.withoutDeletes
    (typed.readsDeletes, knowingly.readsDeletes, RecordReader.raw.readsDeletes) shouldBe (false, true, true)
    reading(knowingly): f =>
      f.core.source.page(page(0, 1, Item.deleted("gone", 1, "", false), Item.of("here", 1)))
      f.add(split(0, 0))
      f.poll(1)
      f.emitted shouldBe List(Named("here"))

  test("a document that cannot be read is named, counted, and does not move its split"):
    val throwing: RecordReader[Named] = (_, _) => throw IllegalStateException("no good")
    Seq(typed -> "expected", throwing -> "no good").foreach: (read, why) =>
      reading(read): f =>
        f.core.source.page(page(0, 1, Item("bad", "[\"k\"]", 1, 0, """{"id":7}""")))
        f.add(split(0, 0))
        (the[java.io.IOException] thrownBy f.poll(1)).getMessage should
          (include("'bad'") and include("[\"k\"]") and include("split 0 (range 0) (id s0), record 1 of 1") and
            include("log sequence number -1") and include(why) and include("json.on-error"))
        f.positions shouldBe Set(split(0, 0))
        f.context.metricGroup.getNumRecordsInErrorsCounter.getCount shouldBe 1

  private val mixed = Seq(
    Item.of("a", 1),
    Item("bad", "[\"k\"]", 1, 0, """{"id":7}"""),
    Item.undecodable("""{"id":"\ufffd"}""", 1),
    Item.of("b", 1)
  )

  private def readMixed[T](read: RecordReader[T], onDecodeError: String)(test: Fixture[T] => Unit): Unit =
    reading(read, onDecodeError): f =>
      f.core.source.page(page(0, 1, mixed*))
      f.add(split(0, 0))
      test(f)

  test("a document that the core cannot read is named too"):
    readMixed(RecordReader.raw, "fail"): f =>
      (the[java.io.IOException] thrownBy f.poll(3)).getMessage should
        (include("id ''") and include("record 3 of 4") and include("no JSON in UTF-8"))
      f.errors shouldBe 1

  test("documents that cannot be read are left out and counted"):
    readMixed(typed, "skip-row"): f =>
      f.poll(2)
      f.emitted shouldBe List(Named("a"), Named("b"))
      f.positions shouldBe Set(split(0, 1))
      f.errors shouldBe 2

  test("documents that cannot be read are handed on as they are"):
    val named = new RecordReader[Named]:
      def read(record: RecordView, emit: Named => Unit) = typed.read(record, emit)
      override def readRaw(record: RecordView, error: DecodeError, emit: Named => Unit) =
        Right(emit(Named(String(record.document, "UTF-8"))))
    readMixed(named, "raw"): f =>
      f.poll(4)
      f.emitted shouldBe List(Named("a"), Named("""{"id":7}"""), Named("""{"id":"\ufffd"}"""), Named("b"))
      f.errors shouldBe 2

  test("everything that the feed says takes what the core cannot read"):
    readMixed(RecordReader.raw, "raw"): f =>
      f.poll(4)
      f.emitted.map(_.id) shouldBe List("a", "bad", "", "b")
      f.errors shouldBe 1

  test("a reader that has no way for raw records fails and says so"):
    readMixed(typed, "raw"): f =>
      (the[java.io.IOException] thrownBy f.poll(2)).getMessage should (include("readRaw") and include("'bad'"))

  test("fetch returns when it is woken up"):
    val core = FakeCore()
    core.source.patienceMillis = 60_000
    val splits = CosmosDBSplitReader(
      core,
      FakeCore.options,
      ReaderMetrics(core),
      Core.Peers.NONE,
      LagReports(FakeCore.options.toJava, _ => ()),
      LeaseProgress(java.util.Map.of())
    )
    splits.handleSplitsChanges(SplitsAddition(java.util.List.of(split(0, 0))))
    val fetched = CompletableFuture.supplyAsync(() => Option(splits.fetch().nextSplit()))
    LocalCosmos.await("the fetch to wait", limit)(core.source.waiting.get == 1)
    splits.wakeUp()
    fetched.get(5, TimeUnit.SECONDS) shouldBe None
    // It goes on where it was, and knows its splits once only.
    core.source.page(page(0, 1, Item.of("a", 1)))
    splits.fetch().nextSplit() shouldBe "s0"
    core.source.added.size shouldBe 1
    splits.close()

  test("a reader whose opening hangs closes at once"):
    val f = Fixture(typed)
    f.core.openingHangs = true
    f.add(split(0, 0))
    LocalCosmos.await("the opening", limit)(f.core.source.waiting.get == 1)
    val began = Deadline.now
    f.reader.close()
    (Deadline.now - began) should be < 2.seconds
    LocalCosmos.await("the handle to close", limit)(f.core.source.closed)
    f.core.source.added.isEmpty shouldBe true

  test("what an opening is told early it knows later"):
    val f = Fixture(typed)
    f.core.openingHangs = true
    f.add(split(0, 0), split(1, 0))
    LocalCosmos.await("the opening", limit)(f.core.source.waiting.get == 1)
    f.reader.pauseOrResumeSplits(java.util.List.of("s0", "s1"), java.util.List.of())
    f.reader.pauseOrResumeSplits(java.util.List.of(), java.util.List.of("s1"))
    f.core.openingHangs = false
    f.core.source.page(page(0, 1, Item.of("a", 1)))
    f.poll(1)
    f.core.source.added.size shouldBe 2
    LocalCosmos.await("the pause", limit)(f.core.source.paused == Set("s0"))
    f.reader.close()

  private def unrecoverable(failure: Throwable): Option[String] =
    ThrowableClassifier
      .findThrowableOfThrowableType(failure, ThrowableType.NonRecoverableError)
      .map(_.getMessage)
      .toScala

  test("what a restart does not mend is unrecoverable"):
    reading(typed): f =>
      f.core.source.addFailure = Some(failure(Kind.STATE, "the split is of another container"))
      f.add(split(0, 0))
      unrecoverable(intercept[Exception](f.poll(1))).mkString should include("of another container")
    reading(typed): f =>
      f.core.source.fail(failure(Kind.NOT_FOUND, "the container is gone"))
      f.add(split(0, 0))
      unrecoverable(intercept[Exception](f.poll(1))).mkString should include("the container is gone")
    reading(typed): f =>
      f.core.source.fail(failure(Kind.AUTH, "a rotated key is read after a restart"))
      f.add(split(0, 0))
      unrecoverable(intercept[Exception](f.poll(1))) shouldBe None
    val core = FakeCore()
    unrecoverable(intercept[Exception](CosmosDBSplitSerializer(() => core).deserialize(2, Array()))).mkString should
      include("version 2")

  test("a failure behind the source is not the document's"):
    reading(typed): f =>
      f.downstream = _ => throw IllegalStateException("behind the source")
      f.core.source.page(page(0, 1, Item.of("good", 1)))
      f.add(split(0, 0))
      the[IllegalStateException] thrownBy f.poll(1) should have message "behind the source"
      f.context.metricGroup.getNumRecordsInErrorsCounter.getCount shouldBe 0

  for
    wraps <- Seq(true, false)
    onDecodeError <- Seq("skip-row", "raw", "fail")
    thrown <- Seq(IllegalStateException("behind"), AssertionError("behind"))
  do
    test(s"a reader that catches does not hide a failure behind the source: $wraps, $onDecodeError, $thrown"):
      val catching = new RecordReader[String]:
        def read(record: RecordView, emit: String => Unit) =
          try Right(emit(record.text))
          catch case e: Throwable => if wraps then throw IllegalStateException("cannot use it", e) else Right(())
        override def readRaw(record: RecordView, error: DecodeError, emit: String => Unit) = read(record, emit)
      reading(catching, onDecodeError): f =>
        f.downstream = _ => throw thrown
        f.core.source.page(page(0, 1, Item.of("good", 1)))
        f.add(split(0, 0))
        intercept[Throwable](f.poll(1)) should be theSameInstanceAs thrown
        f.positions shouldBe Set(split(0, 0))
        f.errors shouldBe 0

  test("what every record would meet is not skipped"):
    Seq(
      NotOfRecordException("the registry is down", null) -> "the registry is down",
      IllegalStateException(NoClassDefFoundError("a/Lost")) -> "a/Lost",
      AssertionError("a bug") -> "a bug",
      java.io.IOException(InterruptedException("canceled")) -> "canceled"
    ).foreach: (thrown, message) =>
      val failing: RecordReader[Named] = (_, _) => throw thrown
      readMixed(failing, "skip-row"): f =>
        intercept[Throwable](f.poll(1)).getMessage should include(message)
        f.errors shouldBe 0

  test("a document that is too deep is the record's"):
    val deep: RecordReader[Named] =
      (record, emit) => if record.text.contains("7") then throw StackOverflowError() else typed.read(record, emit)
    readMixed(deep, "skip-row"): f =>
      f.poll(2)
      f.errors shouldBe 2

  test("a core that does not fit this machine ends the job"):
    val source = CosmosDBSource.create(
      FakeCore.options,
      "orders",
      typed,
      Startup.Configured,
      EventTime.ofService[Named],
      () => throw UnsatisfiedLinkError("this jar holds no native library for linux-s390x")
    )
    val context = TestingReaderContext(
      Configuration(),
      InternalSourceReaderMetricGroup.wrap(UnregisteredMetricGroups.createUnregisteredOperatorMetricGroup())
    )
    unrecoverable(intercept[Exception](source.createReader(context))).mkString should include("linux-s390x")
    unrecoverable(intercept[Exception](source.createEnumerator(null))).mkString should include("linux-s390x")
    val serializer = source.getSplitSerializer
    unrecoverable(intercept[Exception](serializer.deserialize(1, Array[Byte](1)))).mkString should include(
      "linux-s390x"
    )

  test("splits are paused and resumed in the core"):
    reading(typed): f =>
      f.add(split(0, 0), split(1, 0))
      // The fetcher knows its splits for sure once a page came.
      f.core.source.page(page(0, 1, Item.of("a", 1)))
      f.poll(1)
      f.reader.pauseOrResumeSplits(java.util.List.of("s1"), java.util.List.of())
      LocalCosmos.await("the pause", limit)(f.core.source.paused == Set("s1"))
      f.reader.pauseOrResumeSplits(java.util.List.of(), java.util.List.of("s1"))
      LocalCosmos.await("the end of the pause", limit)(f.core.source.paused.isEmpty)

  test("a failure of the core fails the reader"):
    reading(typed): f =>
      f.core.source.fail(failure(Kind.AUTH, "the key is refused"))
      f.add(split(0, 0))
      val causes = Iterator.iterate(intercept[Exception](f.poll(1)): Throwable)(_.getCause).takeWhile(_ != null)
      causes.map(_.getMessage).mkString should (include("the key is refused") and include("orders"))

  test("close closes the handle"):
    val f = Fixture(typed)
    f.add(split(0, 0))
    LocalCosmos.await("the splits", limit)(!f.core.source.added.isEmpty)
    f.reader.close()
    LocalCosmos.await("the handle to close", limit)(f.core.source.closed)
