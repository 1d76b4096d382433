package io.cosmosflink.scaladsl

import io.cosmosflink.core.CosmosException.Kind
import io.cosmosflink.core.EnumeratorActions.{Action, Assign, Backlog, Discover, Fail, NoMoreSplits, State}
import io.cosmosflink.core.EnumeratorEvent.{
  CheckpointAborted,
  CheckpointCompleted,
  CheckpointTaken,
  Closed,
  Discovered,
  Followed,
  LagReported,
  ReaderRegistered,
  SplitRequested,
  SplitsBack,
  Started
}
import io.cosmosflink.core.{EnumeratorActions, EnumeratorEvent, SplitEntry}
import io.cosmosflink.scaladsl.FakeCore.{failure, split}
import org.apache.flink.api.connector.source.{ReaderInfo, SourceEvent, SupportsHandleExecutionAttemptSourceEvent}
import org.apache.flink.connector.testutils.source.reader.TestingSplitEnumeratorContext
import org.apache.flink.metrics.groups.UnregisteredMetricsGroup
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers

import java.io.IOException
import java.util.List as JavaList

import scala.concurrent.duration.*
import scala.jdk.CollectionConverters.*
import scala.reflect.ClassTag

/** What Flink calls becomes an event, and an action a call of Flink. What is decided in between is the core's, and tested there. */
final class CosmosDBSplitEnumeratorSpec extends AnyFunSuite, Matchers:
  private class Fixture(reported: ReaderInfo => Seq[CosmosDBSplit] = _ => Nil):
    val core = FakeCore()

    /** What Flink was told of a backlog, the last first. */
    var backlogs = List.empty[Boolean]
    val context = new TestingSplitEnumeratorContext[CosmosDBSplit](2):
      override def setIsProcessingBacklog(isProcessingBacklog: Boolean): Unit = backlogs ::= isProcessingBacklog
    val gauge = UnassignedSplits()
    val enumerator = open(None)

    def open(state: Option[CosmosDBSourceState]): CosmosDBSplitEnumerator =
      CosmosDBSplitEnumerator(context, core, FakeCore.options, state, reported, gauge)

    def answer[E <: EnumeratorEvent: ClassTag](unassigned: Int, actions: Action*): Unit =
      core.enumerator.decide =
        case _: E => EnumeratorActions(unassigned, actions.asJava)
        case _ => EnumeratorActions(unassigned, JavaList.of())

    def last: EnumeratorEvent = core.enumerator.events.head

    def assignedTo(subtask: Int): List[CosmosDBSplit] =
      Option(context.getSplitAssignments.get(subtask)).toList.flatMap(_.getAssignedSplits.asScala)

    /** A thread that looks for feed ranges: the context runs what is called asynchronously in the thread that triggers it. */
    def looking(): Thread =
      answer[Started](0, Discover(1000))
      core.enumerator.hangs = true
      enumerator.start()
      val worker = Thread(() => context.triggerAllActions())
      worker.start()
      LocalCosmos.await("the call to wait", 10.seconds)(core.enumerator.waiting.get == 1)
      worker

  private val none = JavaList.of[SplitEntry]()

  test("each call is an event, with the readers as they are"):
    val f = Fixture()
    f.enumerator.start()
    f.last shouldBe Started()
    f.core.enumerator.readers shouldBe (2, Set.empty)
    f.context.registerReader(1, "host")
    f.enumerator.addReader(1)
    f.last shouldBe ReaderRegistered(1, none)
    f.core.enumerator.readers shouldBe (2, Set(1))
    f.enumerator.handleSplitRequest(1, "host")
    f.last shouldBe SplitRequested(1)
    f.enumerator.addSplitsBack(JavaList.of(), 0)
    f.last shouldBe SplitsBack(0, none)
    f.enumerator.addSplitsBack(JavaList.of(split(1, 7)), 1)
    f.last match
      case back: SplitsBack => back.splits.asScala.map(CosmosDBSplit.of) shouldBe List(split(1, 7))
      case other => fail(other.toString)
    f.enumerator.notifyCheckpointComplete(3)
    f.last shouldBe CheckpointCompleted(3)
    f.enumerator.notifyCheckpointAborted(4)
    f.last shouldBe CheckpointAborted(4)
    f.enumerator.close()
    f.last shouldBe Closed()

  test("a backlog is what the core makes of the readers' lags"):
    val f = Fixture()
    f.answer[Started](0, Backlog(false))
    f.enumerator.start()
    f.backlogs shouldBe List(false)
    f.answer[LagReported](0, Backlog(true))
    f.enumerator.handleSourceEvent(1, LagEvent(90000))
    f.last shouldBe LagReported(1, 90000)
    f.backlogs shouldBe List(true, false)
    // Of another connector, such as of a source before this one.
    f.enumerator.handleSourceEvent(1, new SourceEvent {})
    f.core.enumerator.events.size shouldBe 2

  // Flink fails a job with concurrent attempts when a reader of an enumerator that does not take their events sends one.
  test("with speculative execution any attempt of a reader is heard"):
    val f = Fixture()
    f.enumerator.start()
    f.enumerator match
      case heard: SupportsHandleExecutionAttemptSourceEvent => heard.handleSourceEvent(1, 3, LagEvent(90000))
    f.last shouldBe LagReported(1, 90000)

  test("an operator of a job has one gauge, however many sources are made of it"):
    def gauge(job: String) = UnassignedSplits.of:
      new UnregisteredMetricsGroup:
        override def getAllVariables = java.util.Map.of("<job_id>", job, "<operator_id>", "source")
    val first = gauge("job")
    gauge("job") should be theSameInstanceAs first
    gauge("another") should not be theSameInstanceAs(first)

  test("what a reader reports comes with its registration"):
    val f = Fixture(reader => if reader.getSubtaskId == 1 then Seq(split(3, 9)) else Nil)
    f.enumerator.start()
    f.context.registerReader(1, "host")
    f.enumerator.addReader(1)
    f.last match
      case there: ReaderRegistered => there.reported.asScala.map(CosmosDBSplit.of) shouldBe List(split(3, 9))
      case other => fail(other.toString)
    // It may be gone again by now.
    f.enumerator.addReader(0)
    f.last shouldBe ReaderRegistered(0, none)

  test("splits are assigned to their readers"):
    val f = Fixture()
    f.enumerator.start()
    Seq(0, 1).foreach(f.context.registerReader(_, "host"))
    val splits = Map(0 -> List(split(0, 1), split(2, 3)), 1 -> List(split(1, 2)))
    f.answer[ReaderRegistered](0, Assign(splits.map((to, all) => Int.box(to) -> all.map(_.entry).asJava).asJava))
    f.enumerator.addReader(0)
    (f.assignedTo(0), f.assignedTo(1)) shouldBe (splits(0), splits(1))

  test("readers are told that no split comes any more"):
    val f = Fixture()
    f.enumerator.start()
    Seq(0, 1).foreach(f.context.registerReader(_, "host"))
    f.answer[ReaderRegistered](0, NoMoreSplits(JavaList.of(0, 1)))
    f.enumerator.addReader(0)
    Seq(0, 1).foreach(f.context.getSplitAssignments.get(_).hasReceivedNoMoreSplitsSignal shouldBe true)

  // What another source would begin with is asked for in any case: a job in which none comes must not fail of the answer.
  test("why nothing can go on behind it is said to whoever asks"):
    val f = Fixture()
    f.enumerator.start()
    val readers = 0 until f.context.currentParallelism
    readers.foreach(f.context.registerReader(_, "host"))
    def following =
      readers.foreach(f.enumerator.handleSourceEvent(_, FinishedEvent))
      f.enumerator.following
    def answering(action: Action) =
      f.core.enumerator.decide =
        case _: Followed => EnumeratorActions(0, JavaList.of(action))
        case _: ReaderRegistered => EnumeratorActions(0, JavaList.of(NoMoreSplits(JavaList.of(0))))
        case _ => EnumeratorActions(0, JavaList.of())
      f.enumerator.addReader(0)
    (the[CosmosDBUnrecoverableException] thrownBy following).getMessage should include("not known yet")
    val why = failure(Kind.CONFIG, "it has no positions")
    answering(Fail(why, true))
    val thrown = the[CosmosDBUnrecoverableException] thrownBy following
    (thrown.getMessage, thrown.getCause) shouldBe ("it has no positions", why)
    answering(State(Array[Byte](7)))
    f.enumerator.close()
    following.bytes shouldBe Array[Byte](7)

  test("a look runs elsewhere, and its result comes back"):
    val f = Fixture()
    f.answer[Started](0, Discover(0))
    f.enumerator.start()
    f.core.enumerator.events.size shouldBe 1
    f.context.triggerAllActions()
    f.last shouldBe Discovered(f.core.enumerator.discovery)
    f.context.getExecutorService.getActivePeriodicScheduledTask.isEmpty shouldBe true

  test("a periodic look comes again"):
    val f = Fixture()
    f.answer[Started](0, Discover(1000))
    f.enumerator.start()
    f.context.triggerAllActions()
    f.context.triggerAllActions()
    f.core.enumerator.events.count(_.isInstanceOf[Discovered]) shouldBe 2

  test("a failure ends the job for good, or not"):
    val f = Fixture()
    f.enumerator.start()
    for ends <- Seq(true, false) do
      val cause = failure(Kind.NOT_FOUND, "no such container orders")
      f.answer[ReaderRegistered](0, Fail(cause, ends))
      val thrown = the[RuntimeException] thrownBy f.enumerator.addReader(0)
      (thrown.getMessage, thrown.getCause) shouldBe ("no such container orders", cause)
      thrown.isInstanceOf[CosmosDBUnrecoverableException] shouldBe ends

  test("the state is the core's own bytes, and comes back"):
    val f = Fixture()
    f.enumerator.start()
    f.answer[CheckpointTaken](0, State(Array[Byte](7, 8)))
    val state = f.enumerator.snapshotState(5)
    f.last shouldBe CheckpointTaken(5)
    state.bytes shouldBe Array[Byte](7, 8)
    f.core.enumerator.state shouldBe Array.emptyByteArray
    f.open(Some(state)).close()
    f.core.enumerator.state shouldBe Array[Byte](7, 8)

  test("state that the core refuses ends the job"):
    val f = Fixture()
    f.core.openFailure = Some(failure(Kind.STATE, "the state has version 9"))
    val thrown = the[IOException] thrownBy f.open(Some(CosmosDBSourceState(Array(1))))
    thrown.getMessage shouldBe "cannot restore the enumerator: the state has version 9"
    thrown.getCause shouldBe a[CosmosDBUnrecoverableException]

  test("only the first enumerator of a source is at its first start"):
    val f = Fixture()
    f.enumerator.start()
    f.core.enumerator.firstStart shouldBe true
    val next = f.open(None)
    next.start()
    f.core.enumerator.firstStart shouldBe false
    next.close()

  test("what is never started holds nothing"):
    val f = Fixture()
    // Flink closes only what it has started.
    val restored = f.open(Some(CosmosDBSourceState(Array(1))))
    f.core.enumerator.closed shouldBe true
    (the[IllegalStateException] thrownBy restored.addReader(0)).getMessage should include("started")

  test("a look after an interrupted one is heard"):
    val f = Fixture()
    val worker = f.looking()
    worker.interrupt()
    worker.join(5000)
    worker.isAlive shouldBe false
    f.last shouldBe Started()
    f.core.enumerator.hangs = false
    f.context.triggerAllActions()
    f.last shouldBe a[Discovered]

  test("close ends a look that hangs"):
    val f = Fixture()
    val worker = f.looking()
    val began = Deadline.now
    f.enumerator.close()
    worker.join(1000)
    worker.isAlive shouldBe false
    (Deadline.now - began) should be < 1.second
    f.last shouldBe Closed()

  test("a core that breaks fails the job"):
    val f = Fixture()
    f.answer[Started](0, Discover(0))
    f.core.enumerator.failure = Some(failure(Kind.INTERNAL, "a bug"))
    f.enumerator.start()
    (the[RuntimeException] thrownBy f.context.triggerAllActions()).getMessage should include("a bug")

  test("nothing is done once it is closed"):
    val f = Fixture()
    f.enumerator.start()
    f.enumerator.close()
    f.enumerator.close()
    f.core.enumerator.closed shouldBe true
    f.context.registerReader(0, "host")
    f.enumerator.addReader(0)
    f.enumerator.addSplitsBack(JavaList.of(), 0)
    f.assignedTo(0) shouldBe Nil
    (the[IllegalStateException] thrownBy f.enumerator.snapshotState(1)).getMessage should include("closed")

  test("the gauge follows the enumerator that lives"):
    val f = Fixture()
    f.answer[Started](2)
    f.enumerator.start()
    f.gauge.getValue shouldBe 2L
    val next = f.open(None)
    f.answer[Started](3)
    next.start()
    f.gauge.getValue shouldBe 3L
    // The old one may be closed late.
    f.enumerator.close()
    f.gauge.getValue shouldBe 3L
    next.close()
    f.gauge.getValue shouldBe 0L
