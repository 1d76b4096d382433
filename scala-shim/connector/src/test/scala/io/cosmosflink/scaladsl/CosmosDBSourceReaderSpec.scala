package io.cosmosflink.scaladsl

import io.cosmosflink.core.CosmosException.Kind
import io.cosmosflink.core.TestPages.Item
import io.cosmosflink.scaladsl.FakeRuntime.{failure, page, split}
import org.apache.flink.configuration.Configuration
import org.apache.flink.connector.testutils.source.reader.{TestingReaderContext, TestingReaderOutput}
import org.apache.flink.runtime.metrics.groups.{InternalSourceReaderMetricGroup, UnregisteredMetricGroups}
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers

import java.util.concurrent.TimeUnit

import scala.collection.mutable.ListBuffer
import scala.concurrent.duration.*
import scala.jdk.CollectionConverters.*

object CosmosDBSourceReaderSpec:
  final case class Named(id: String) derives JsonDecoder, FlinkType, CanEqual

final class CosmosDBSourceReaderSpec extends AnyFunSuite, Matchers:
  import CosmosDBSourceReaderSpec.Named

  private val limit = 10.seconds

  private class Fixture[T](read: RecordReader[T]):
    val core = FakeRuntime()
    val context = TestingReaderContext(
      Configuration(),
      InternalSourceReaderMetricGroup.wrap(UnregisteredMetricGroups.createUnregisteredOperatorMetricGroup())
    )
    val times = ListBuffer[Long]()
    var downstream: T => Unit = _ => ()
    val output = new TestingReaderOutput[T]:
      override def collect(value: T, timestamp: Long): Unit =
        downstream(value)
        times += timestamp
        super.collect(value, timestamp)
    val reader = CosmosDBSourceReader(context, core, FakeRuntime.options, read, EventTime.ofService)

    def add(splits: CosmosDBSplit*): Unit = reader.addSplits(splits.asJava)
    def emitted: List[T] = output.getEmittedRecords.asScala.toList
    def positions: Set[CosmosDBSplit] = reader.snapshotState(1).asScala.toSet
    def recordsIn: Long = context.metricGroup.getIOMetricGroup.getNumRecordsInCounter.getCount

    def poll(records: Int): Unit =
      val deadline = limit.fromNow
      while emitted.size < records do
        assert(deadline.hasTimeLeft(), s"emitted $emitted")
        reader.pollNext(output)
        reader.isAvailable.get(10, TimeUnit.SECONDS)

  private def reading[T](read: RecordReader[T])(test: Fixture[T] => Unit): Unit =
    val fixture = Fixture(read)
    try test(fixture)
    finally fixture.reader.close()

  private val typed = CosmosDBSource.documents[Named]

  test("a page is emitted in one go and then moves its split"):
    reading(typed): f =>
      f.core.source.pages.add(page(0, 3, Item.of("a", 100), Item.of("b", 101), Item.of("c", 102)))
      f.add(split(0, 0), split(1, 0))
      f.positions should contain(split(0, 0))
      f.poll(1)
      f.emitted shouldBe List(Named("a"), Named("b"), Named("c"))
      f.times.toList shouldBe List(100_000L, 101_000L, 102_000L)
      f.positions shouldBe Set(split(0, 3), split(1, 0))
      f.core.source.added.asScala.map(_.id) shouldBe List("s0", "s1")
      f.recordsIn shouldBe 3

  test("a page without records moves its split too"):
    reading(typed): f =>
      f.core.source.pages.add(page(0, 5))
      f.core.source.pages.add(page(1, 1, Item.of("x", 1)))
      f.add(split(0, 0), split(1, 0))
      f.poll(1)
      f.positions should contain(split(0, 5))
      f.recordsIn shouldBe 1

  test("pages in flight do not share a buffer"):
    reading(CosmosDBSource.changes): f =>
      f.add(split(0, 0))
      (0 until 200).foreach: i =>
        f.core.source.pages.add(page(0, i, Item.of(s"first$i", 1), Item.of(s"second$i", 1)))
      f.poll(400)
      f.emitted.map(r => String(r.document)) shouldBe
        (0 until 200).flatMap(i => List(s"""{"id":"first$i"}""", s"""{"id":"second$i"}"""))
      f.positions shouldBe Set(split(0, 199))

  test("deletes are left out of models, and are records of their own when raw"):
    val items = Seq(Item("gone", "[\"k\"]", 1, 3, ""), Item.of("here", 1))
    reading(typed): f =>
      f.core.source.pages.add(page(0, 1, items*))
      f.add(split(0, 0))
      f.poll(1)
      f.emitted shouldBe List(Named("here"))
    reading(CosmosDBSource.changes): f =>
      f.core.source.pages.add(page(0, 1, items*))
      f.add(split(0, 0))
      f.poll(2)
      f.emitted.map(r => (r.id, r.change, r.partitionKey.json, r.lsn)) shouldBe
        List(("gone", ChangeKind.Delete, "[\"k\"]", None), ("here", ChangeKind.Upsert, "[\"k\"]", None))
      f.emitted.map(_.as[Named]).last shouldBe Right(Named("here"))

  test("a document that cannot be read is named, counted, and does not move its split"):
    val throwing: RecordReader[Named] = (_, _) => throw IllegalStateException("no good")
    Seq(typed -> "expected", throwing -> "no good").foreach: (read, why) =>
      reading(read): f =>
        f.core.source.pages.add(page(0, 1, Item("bad", "[\"k\"]", 1, 0, """{"id":7}""")))
        f.add(split(0, 0))
        (the[java.io.IOException] thrownBy f.poll(1)).getMessage should
          (include("'bad'") and include("[\"k\"]") and include(why))
        f.positions shouldBe Set(split(0, 0))
        f.context.metricGroup.getNumRecordsInErrorsCounter.getCount shouldBe 1

  test("a failure behind the source is not the document's"):
    reading(typed): f =>
      f.downstream = _ => throw IllegalStateException("behind the source")
      f.core.source.pages.add(page(0, 1, Item.of("good", 1)))
      f.add(split(0, 0))
      the[IllegalStateException] thrownBy f.poll(1) should have message "behind the source"
      f.context.metricGroup.getNumRecordsInErrorsCounter.getCount shouldBe 0

  test("splits are paused and resumed in the core"):
    reading(typed): f =>
      f.add(split(0, 0), split(1, 0))
      // The fetcher knows its splits for sure once a page came.
      f.core.source.pages.add(page(0, 1, Item.of("a", 1)))
      f.poll(1)
      f.reader.pauseOrResumeSplits(java.util.List.of("s1"), java.util.List.of())
      LocalCosmos.await("the pause", limit)(f.core.source.paused == Set("s1"))
      f.reader.pauseOrResumeSplits(java.util.List.of(), java.util.List.of("s1"))
      LocalCosmos.await("the end of the pause", limit)(f.core.source.paused.isEmpty)

  test("a failure of the core fails the reader"):
    reading(typed): f =>
      f.core.source.failure = Some(failure(Kind.AUTH, "the key is refused"))
      f.add(split(0, 0))
      val causes = Iterator.iterate(intercept[Exception](f.poll(1)): Throwable)(_.getCause).takeWhile(_ != null)
      causes.map(_.getMessage).mkString should (include("the key is refused") and include("orders"))

  test("close closes the handle"):
    val f = Fixture(typed)
    f.add(split(0, 0))
    LocalCosmos.await("the splits", limit)(!f.core.source.added.isEmpty)
    f.reader.close()
    LocalCosmos.await("the handle to close", limit)(f.core.source.closed)
