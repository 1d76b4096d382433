package io.cosmosflink.scaladsl

import io.cosmosflink.core.CosmosException
import io.cosmosflink.core.CosmosException.Kind
import io.cosmosflink.scaladsl.FakeCore.{failure, split}
import org.apache.flink.connector.testutils.source.reader.TestingSplitEnumeratorContext
import org.scalacheck.Gen
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers
import org.scalatestplus.scalacheck.ScalaCheckPropertyChecks

import java.util.concurrent.{ExecutionException, TimeUnit}

import scala.concurrent.duration.*
import scala.jdk.CollectionConverters.*

final class CosmosDBSplitEnumeratorSpec extends AnyFunSuite, Matchers, ScalaCheckPropertyChecks:
  private class Fixture(
      state: Option[CosmosDBSourceState] = None,
      options: CosmosDBOptions = FakeCore.options,
      parallelism: Int = 2
  ):
    val core = FakeCore()
    val context = TestingSplitEnumeratorContext[CosmosDBSplit](parallelism)
    val unassigned = UnassignedSplits()
    val enumerator = CosmosDBSplitEnumerator(context, core, options, state, unassigned)

    def discover(found: CosmosDBSplit*): Unit =
      core.enumerator.next = found.toList
      if context.getExecutorService.getActivePeriodicScheduledTask.isEmpty then enumerator.start()
      context.triggerAllActions()

    def register(subtasks: Int*): Unit = subtasks.foreach: subtask =>
      context.registerReader(subtask, "host")
      enumerator.addReader(subtask)

    def assignedTo(subtask: Int): List[CosmosDBSplit] =
      Option(context.getSplitAssignments.get(subtask)).toList.flatMap(_.getAssignedSplits.asScala)

    def ordinals(subtask: Int): List[Int] = assignedTo(subtask).map(_.ordinal)

  private val once = FakeCore.options + ("source.discovery-interval-ms" -> "0")

  test("a discovery after an interrupted one begins anew"):
    val f = Fixture()
    f.core.openingHangs = true
    f.enumerator.start()
    val worker = Thread(() => f.context.triggerAllActions())
    worker.start()
    LocalCosmos.await("the call to wait", 10.seconds)(f.core.enumerator.waiting.get == 1)
    worker.interrupt()
    worker.join(5000)
    f.core.enumerator.closed shouldBe true
    f.core.openingHangs = false
    f.register(0)
    f.discover(split(0, 0))
    f.ordinals(0) shouldBe List(0)

  test("a handle that is closed by nobody is opened again"):
    val f = Fixture()
    f.register(0)
    f.discover(split(0, 0))
    f.core.enumerator.closed = true
    f.discover(split(2, 0))
    f.ordinals(0) shouldBe List(0)
    f.discover(split(2, 0))
    f.ordinals(0) shouldBe List(0, 2)

  test("a refused key ends a job at its first start only, unless the key is in the job graph"):
    val f = Fixture()
    def ended(options: CosmosDBOptions) =
      val enumerator = CosmosDBSplitEnumerator(f.context, f.core, options, None, f.unassigned)
      f.core.openFailure = Some(CosmosException("refused", Kind.AUTH, 401, 0, ""))
      enumerator.start()
      intercept[RuntimeException](f.context.triggerAllActions()).isInstanceOf[CosmosDBUnrecoverableException]
    ended(once) shouldBe true
    ended(once) shouldBe false
    ended(once + ("cosmos.auth.key" -> "c2VjcmV0")) shouldBe true

  test("every split has one owner, and no reader has two more than another"):
    forAll(Gen.chooseNum(1, 8), Gen.chooseNum(0, 40)): (parallelism, splits) =>
      val f = Fixture(parallelism = parallelism)
      f.register((0 until parallelism)*)
      f.discover((0 until splits).map(split(_, 0))*)
      val owned = (0 until parallelism).map(f.ordinals)
      owned.flatten.sorted shouldBe (0 until splits)
      owned.map(_.size).max - owned.map(_.size).min should be <= 1

  test("splits wait for their owner"):
    val f = Fixture()
    f.register(0)
    f.discover((0 to 4).map(split(_, 0))*)
    (f.ordinals(0), f.ordinals(1)) shouldBe (List(0, 2, 4), Nil)
    f.register(1)
    f.ordinals(1) shouldBe List(1, 3)
    f.enumerator.snapshotState(1).splits.map(_.assigned) shouldBe Vector.fill(5)(true)

  test("later discoveries add only what is new"):
    val f = Fixture()
    f.register(0, 1)
    f.discover(split(0, 0))
    f.discover(split(0, 0), split(1, 0))
    f.core.enumerator.known.map(_.map(_.id)) shouldBe Some(List("s0"))
    (f.ordinals(0), f.ordinals(1)) shouldBe (List(0), List(1))

  test("after a regional failover splits go back to the same reader, with the position that they come with"):
    val f = Fixture()
    f.register(0, 1)
    f.discover(split(0, 0), split(1, 0))
    // The reader is gone while its splits come back; empty lists come too.
    f.context.registeredReaders.remove(1)
    f.context.getSplitAssignments.clear()
    f.enumerator.addSplitsBack(java.util.List.of(), 0)
    f.enumerator.addSplitsBack(java.util.List.of(split(1, 7)), 1)
    f.enumerator.snapshotState(2).splits.map(_.assigned) shouldBe Vector(true, false)
    // Twice, as two failovers in a row do it.
    f.enumerator.addSplitsBack(java.util.List.of(split(1, 7)), 1)
    f.register(1)
    f.assignedTo(1) shouldBe List(split(1, 7))
    f.ordinals(0) shouldBe Nil

  test("restored splits are not given out twice"):
    val state = CosmosDBSourceState(Vector(KnownSplit(split(0, 5), true), KnownSplit(split(1, 0), false)))
    val f = Fixture(Some(state))
    f.register(0, 1)
    f.discover(split(2, 0))
    f.core.enumerator.known.map(_.map(_.assigned)) shouldBe Some(List(true, true))
    (f.ordinals(0), f.ordinals(1)) shouldBe (List(2), List(1))

  test("without an interval it looks once, and not after a restore"):
    val restored = Fixture(Some(CosmosDBSourceState(Vector(KnownSplit(split(0, 5), true)))), once)
    restored.enumerator.start()
    restored.context.triggerAllActions()
    restored.core.enumerator.known shouldBe None
    val fresh = Fixture(options = once)
    fresh.core.enumerator.next = List(split(0, 0))
    fresh.enumerator.start()
    fresh.context.triggerAllActions()
    fresh.enumerator.snapshotState(1).splits.size shouldBe 1

  test("a first discovery that fails for good ends the job"):
    val f = Fixture(options = once)
    f.core.openFailure = Some(failure(Kind.NOT_FOUND, "no such container"))
    f.enumerator.start()
    val thrown = the[CosmosDBUnrecoverableException] thrownBy f.context.triggerAllActions()
    thrown.getMessage shouldBe "cannot find the feed ranges of container orders: no such container"

  test("a refused key ends a fresh job, and is tried again by one that was restored"):
    val refused = Some(failure(Kind.AUTH, "the key is refused"))
    val fresh = Fixture(options = once)
    fresh.core.openFailure = refused
    fresh.enumerator.start()
    a[CosmosDBUnrecoverableException] should be thrownBy fresh.context.triggerAllActions()
    val restored = Fixture(Some(CosmosDBSourceState(Vector(KnownSplit(split(0, 5), true)))))
    restored.core.openFailure = refused
    restored.register(0)
    restored.discover()
    restored.core.openFailure = None
    restored.discover(split(2, 0))
    restored.ordinals(0) shouldBe List(2)

  test("a later discovery that fails is tried again"):
    val f = Fixture()
    f.register(0)
    f.discover(split(0, 0))
    f.core.enumerator.failure = Some(failure(Kind.TRANSIENT, "no answer"))
    f.discover()
    f.core.enumerator.failure = None
    f.discover(split(2, 0))
    f.ordinals(0) shouldBe List(0, 2)

  test("close closes the handle, twice too"):
    val f = Fixture()
    f.discover(split(0, 0))
    f.enumerator.close()
    f.enumerator.close()
    f.core.enumerator.closed shouldBe true

  test("a later discovery that fails for good ends the job, and one whose key is refused does not"):
    val f = Fixture()
    f.register(0)
    f.discover(split(0, 0))
    f.core.enumerator.failure = Some(failure(Kind.AUTH, "the key is refused"))
    f.discover()
    f.core.enumerator.failure = Some(failure(Kind.STATE, "the container was created anew"))
    val periodic = f.context.getExecutorService.getActivePeriodicScheduledTask.asScala.head
    f.discover()
    val thrown = the[ExecutionException] thrownBy periodic.get(1, TimeUnit.SECONDS)
    thrown.getCause shouldBe a[CosmosDBUnrecoverableException]
    thrown.getCause.getMessage should include("the container was created anew")

  test("an opening that failed is tried anew"):
    val f = Fixture(Some(CosmosDBSourceState(Vector(KnownSplit(split(0, 5), true)))))
    f.core.openFailure = Some(failure(Kind.TRANSIENT, "no answer"))
    f.register(0)
    f.discover()
    f.core.enumerator.closed shouldBe true
    f.core.openFailure = None
    f.discover(split(2, 0))
    f.ordinals(0) shouldBe List(2)

  test("close ends a discovery that hangs, and an opening"):
    Seq[FakeCore => Unit](_.enumerator.hangs = true, _.openingHangs = true).foreach: hang =>
      val f = Fixture()
      hang(f.core)
      f.enumerator.start()
      // The context runs what is called asynchronously in the thread that triggers it.
      val worker = Thread(() => f.context.triggerAllActions())
      worker.start()
      LocalCosmos.await("the call to wait", 10.seconds)(f.core.enumerator.waiting.get == 1)
      val began = Deadline.now
      f.enumerator.close()
      worker.join(1000)
      worker.isAlive shouldBe false
      (Deadline.now - began) should be < 1.second

  test("the gauge follows the enumerator that lives"):
    val f = Fixture()
    f.discover(split(0, 0), split(1, 0))
    f.unassigned.getValue shouldBe 2L
    val state = CosmosDBSourceState(Vector.tabulate(4)(i => KnownSplit(split(i, 0), assigned = i == 0)))
    val next = CosmosDBSplitEnumerator(f.context, f.core, FakeCore.options, Some(state), f.unassigned)
    next.start()
    f.unassigned.getValue shouldBe 3L
    // The old one may be closed late.
    f.enumerator.close()
    f.unassigned.getValue shouldBe 3L
    next.close()
    f.unassigned.getValue shouldBe 0L
