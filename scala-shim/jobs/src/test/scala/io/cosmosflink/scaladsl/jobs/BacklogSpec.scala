package io.cosmosflink.scaladsl.jobs

import org.scalacheck.Gen
import org.scalatest.matchers.should.Matchers
import org.scalatest.propspec.AnyPropSpec
import org.scalatestplus.scalacheck.ScalaCheckPropertyChecks

/** The laws of batching, over any order of what can happen. */
class BacklogSpec extends AnyPropSpec with ScalaCheckPropertyChecks with Matchers:
  private enum Step:
    case Offer, Linger, Finish

  /** A backlog, and the batches that it gave so far. */
  private final case class Run(backlog: Backlog[Int], batches: Vector[Vector[Int]], offered: Int):
    def next(step: Step): Run = step match
      case Step.Offer => copy(backlog.offer(offered), offered = offered + 1).take(partial = false)
      case Step.Linger => take(partial = true)
      case Step.Finish if backlog.active > 0 => copy(backlog.finished).take(partial = true)
      case Step.Finish => this

    private def take(partial: Boolean): Run =
      val (left, ready) = backlog.ready(partial)
      copy(left, batches ++ ready)

  private val runs: Gen[List[Run]] = for
    batchSize <- Gen.choose(1, 7)
    concurrency <- Gen.choose(1, 4)
    steps <- Gen.listOf(Gen.frequency(6 -> Step.Offer, 1 -> Step.Linger, 2 -> Step.Finish))
  yield steps.scanLeft(Run(Backlog(batchSize, concurrency), Vector.empty, 0))(_.next(_))

  property("no event is lost or doubled, and all keep their order"):
    forAll(runs): runs =>
      runs.foreach: run =>
        run.batches.flatten ++ run.backlog.waiting shouldBe Vector.range(0, run.offered)

  property("no batch is empty or too large, and no more are on their way than there are places"):
    forAll(runs): runs =>
      runs.foreach: run =>
        all(run.batches.map(_.size)) should (be > 0 and be <= run.backlog.batchSize)
        run.backlog.active should (be >= 0 and be <= run.backlog.concurrency)

  property("with a place free, no full batch waits"):
    forAll(runs): runs =>
      runs.foreach: run =>
        if run.backlog.active < run.backlog.concurrency then run.backlog.isFull shouldBe false

  property("once all that was sent is back, nothing waits"):
    forAll(runs.map(_.last)): run =>
      val end = Iterator.iterate(run.next(Step.Linger))(_.next(Step.Finish)).dropWhile(_.backlog.active > 0).next()
      end.backlog.waiting shouldBe empty
      end.batches.flatten shouldBe Vector.range(0, run.offered)
