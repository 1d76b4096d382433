package io.cosmosflink.scaladsl.jobs

import io.cosmosflink.core.Operation
import org.scalacheck.Gen
import org.scalatest.concurrent.{Eventually, ScalaFutures}
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers
import org.scalatest.time.{Millis, Seconds, Span}
import org.scalatestplus.scalacheck.ScalaCheckPropertyChecks

import java.nio.charset.StandardCharsets.UTF_8
import java.util.concurrent.CopyOnWriteArrayList

import scala.concurrent.duration.*
import scala.concurrent.{ExecutionContext, Future, Promise}
import scala.jdk.CollectionConverters.*
import scala.util.Using

class BatcherSpec extends AnyFunSuite with Matchers with ScalaFutures with Eventually with ScalaCheckPropertyChecks:
  import BatcherSpec.*
  given PatienceConfig = PatienceConfig(Span(20, Seconds), Span(5, Millis))
  private given ExecutionContext = ExecutionContext.parasitic

  test("full batches go at once, and the rest after a while"):
    val consumer = FakeConsumer(_ => Future.successful(Answer.Taken))
    Using.resource(Batcher(consumer, 3, 2, 1.second)): batcher =>
      Future.sequence(offer(batcher, 7)).futureValue
    consumer.batches.flatten should contain theSameElementsAs List("0", "1", "2", "3", "4", "5", "6")
    all(consumer.batches.map(_.size)) should be <= 3

  test("only so many batches are under way"):
    val open = CopyOnWriteArrayList[Promise[Answer]]()
    val consumer = FakeConsumer: _ =>
      val promise = Promise[Answer]()
      open.add(promise)
      promise.future
    Using.resource(Batcher(consumer, 3, 2, 1.second)): batcher =>
      val events = offer(batcher, 9)
      eventually(consumer.batches should have size 2)
      events.filter(_.isCompleted) shouldBe empty
      open.get(0).success(Answer.Taken)
      eventually(consumer.batches should have size 3)
      eventually:
        open.forEach(_.trySuccess(Answer.Taken): Unit)
        events.filterNot(_.isCompleted) shouldBe empty

  test("after the deadline the failure says what"):
    val consumer = FakeConsumer(_ => Future.successful(Answer.Failed("connection refused")))
    Using.resource(Batcher(consumer, 3, 2, 300.millis)): batcher =>
      val message = offer(batcher, 1).head.failed.futureValue.getMessage
      message should include("job.consumer-deadline-ms (300)")
      message should include("connection refused")
      batcher.retries should be > 0L

  test("a transport that throws or fails is asked again"):
    val calls = CopyOnWriteArrayList[String]()
    val consumer = FakeConsumer: batch =>
      calls.add(batch.mkString)
      if calls.size == 1 then throw IllegalStateException("thrown")
      else if calls.size == 2 then Future.failed(IllegalStateException("failed"))
      else Future.successful(Answer.Taken)
    Using.resource(Batcher(consumer, 3, 2, 1.minute)): batcher =>
      Future.sequence(offer(batcher, 3)).futureValue
      batcher.retries shouldBe 2

  test("a refused event names itself"):
    val consumer =
      FakeConsumer(batch => Future.successful(if batch.contains("1") then Answer.Refused("400 bad") else Answer.Taken))
    Using.resource(Batcher(consumer, 3, 2, 1.second)): batcher =>
      val events = offer(batcher, 3)
      events(1).failed.futureValue.getMessage should (include("'1'") and include("400 bad"))
      Future.sequence(List(events(0), events(2))).futureValue

  test("whatever the consumer answers, each event is taken once or given up, and only what it refuses is"):
    val numbers = Gen.choose(0, 30)
    forAll(Gen.choose(1, 6), Gen.choose(1, 3), numbers, Gen.containerOf[Set, Int](numbers), Gen.choose(0, 2)):
      (batchSize, concurrency, offered, refuses, failures) =>
        val left = java.util.concurrent.atomic.AtomicInteger(failures)
        val taken = CopyOnWriteArrayList[String]()
        val consumer = FakeConsumer: batch =>
          Future.successful:
            if batch.exists(event => refuses(event.toInt)) then Answer.Refused("no")
            else if left.getAndDecrement() > 0 then Answer.Failed("down")
            else
              batch.foreach(taken.add)
              Answer.Taken
        Using.resource(Batcher(consumer, batchSize, concurrency, 1.minute)): batcher =>
          val outcomes =
            Future.sequence(offer(batcher, offered).map(_.transform(result => scala.util.Success(result)))).futureValue
          outcomes.zipWithIndex.collect { case (result, event) if result.isFailure => event }.toSet shouldBe
            refuses.filter(_ < offered)
        taken.asScala.map(_.toInt).sorted shouldBe (0 until offered).filterNot(refuses)
        all(consumer.batches.map(_.size)) should be <= batchSize

  test("backoff grows to its limit"):
    forAll(Gen.choose(1, 1000)): attempt =>
      Batcher.backoff(attempt) should (be >= 50.millis and be <= 2.seconds)
    Batcher.backoff(1) should be <= 100.millis
    Batcher.backoff(1000) should be >= 1.second

  test("an array is one JSON array"):
    String(Transport.array(Nil)) shouldBe "[]"
    String(Transport.array(List("{}", """{"a":1}""").map(_.getBytes))) shouldBe """[{},{"a":1}]"""

object BatcherSpec:
  /** A consumer that answers by rule and remembers. */
  private[jobs] final class FakeConsumer(answer: Seq[String] => Future[Answer]) extends Transport:
    private val sent = CopyOnWriteArrayList[List[String]]()

    def batches: List[List[String]] = sent.asScala.toList

    def send(events: Seq[Array[Byte]]): Future[Answer] =
      val batch = events.map(String(_, UTF_8)).toList
      sent.add(batch)
      answer(batch)

    def close(): Unit = ()

  private[jobs] def event(number: Int): Operation = Operation.upsert(s"$number", "[]", s"$number".getBytes(UTF_8))

  private def offer(batcher: Batcher, events: Int): List[Future[Unit]] =
    List.range(0, events).map(number => batcher.offer(event(number)))
