package io.cosmosflink.scaladsl.jobs

import io.cosmosflink.core.Operation
import org.slf4j.LoggerFactory

import java.util.concurrent.atomic.AtomicLong
import java.util.concurrent.{RejectedExecutionException, ScheduledThreadPoolExecutor, ThreadLocalRandom, TimeUnit}

import scala.concurrent.duration.*
import scala.concurrent.{ExecutionContext, Future, Promise}

/** What waits to be sent, and how many batches are on their way. Immutable.
  *
  * @param batchSize
  *   most events in one batch
  * @param concurrency
  *   most batches on their way
  */
final case class Backlog[A](batchSize: Int, concurrency: Int, waiting: Vector[A] = Vector.empty, active: Int = 0):
  def offer(event: A): Backlog[A] = copy(waiting = waiting :+ event)

  /** A batch came back for good. */
  def finished: Backlog[A] = copy(active = active - 1)

  /** The batches that may go now, and what is left.
    *
    * @param partial
    *   whether one that is not full may go too
    */
  def ready(partial: Boolean): (Backlog[A], Vector[Vector[A]]) =
    val places = concurrency - active
    val full = math.min(places, waiting.size / batchSize)
    val last = partial && full < places && waiting.size % batchSize > 0
    val batches = full + (if last then 1 else 0)
    val (now, later) = waiting.splitAt(batches * batchSize)
    (copy(waiting = later, active = active + batches), now.grouped(batchSize).toVector)

  def isFull: Boolean = waiting.size >= batchSize

/** Gathers events into batches, sends a few at a time, and sends again what did not get through, until a deadline. How many events wait is
  * bounded by the caller, who offers only so many before their futures are done.
  */
final class Batcher(transport: Transport, batchSize: Int, concurrency: Int, deadline: FiniteDuration)
    extends AutoCloseable:
  import Batcher.*

  // Short steps on the thread that brings the answer.
  private given ExecutionContext = ExecutionContext.parasitic

  private val timer = ScheduledThreadPoolExecutor(1, Transport.daemons("consumer-batches"))
  timer.setExecuteExistingDelayedTasksAfterShutdownPolicy(false)
  private val retried = AtomicLong()

  /** Guarded by this, as is the next. */
  private var backlog = Backlog[Pending](batchSize, concurrency)
  private var lingering = false

  /** Completes when the consumer has acknowledged the event. */
  def offer(event: Operation): Future[Unit] =
    val pending = Pending(event, Promise())
    val ready = synchronized:
      backlog = backlog.offer(pending)
      if !backlog.isFull && !lingering then
        lingering = true
        timer.schedule((() => lingered()): Runnable, linger.toMillis, TimeUnit.MILLISECONDS): Unit
      take(partial = false)
    ready.foreach(start)
    pending.done.future

  /** Attempts after the first. */
  def retries: Long = retried.get

  private def lingered(): Unit =
    val ready = synchronized:
      lingering = false
      take(partial = true)
    ready.foreach(start)

  private def finished(): Unit =
    val ready = synchronized:
      backlog = backlog.finished
      // What waited while all places were taken has waited long enough.
      take(partial = true)
    ready.foreach(start)

  /** Under the lock. */
  private def take(partial: Boolean): Vector[Vector[Pending]] =
    val (left, ready) = backlog.ready(partial)
    backlog = left
    ready

  private def start(batch: Vector[Pending]): Unit =
    deliver(Batch(batch, deadline.fromNow, attempt = 1)).foreach(_ => finished())

  /** Completes when each event of the batch is taken or given up; does not fail. */
  private def deliver(batch: Batch): Future[Unit] =
    sent(batch).flatMap:
      case Answer.Taken => Future.successful(batch.events.foreach(_.done.success(())))
      case Answer.Refused(why) =>
        batch.events match
          case Vector(bad) => Future.successful(bad.giveUp(cannotBeDelivered(bad.event.id, why)))
          case _ =>
            // Too large, or one event in it is bad: half a batch may pass, and a single event names itself.
            val (first, second) = batch.halves
            for
              _ <- deliver(first)
              _ <- deliver(second)
            yield ()
      case Answer.Failed(why) if batch.deadline.isOverdue() => Future.successful(batch.giveUp(notTaken(batch, why)))
      case Answer.Failed(why) =>
        for
          open <- pause(batch, why)
          _ <- if open then deliver(batch.again) else Future.successful(batch.giveUp(notTaken(batch, why)))
        yield ()

  private def sent(batch: Batch): Future[Answer] =
    try transport.send(batch.events.map(_.event.document)).recover { case e => Answer.Failed(e.toString) }
    // Also a fatal one: nobody looks at what a thread of the timer throws, and the events would wait for ever.
    catch case e: Throwable => Future.successful(Answer.Failed(e.toString))

  /** Waits for the next attempt; false when the batcher was closed. */
  private def pause(batch: Batch, why: String): Future[Boolean] =
    retried.incrementAndGet()
    val wait = backoff(batch.attempt)
    if batch.attempt == 1 || batch.attempt % 10 == 0 then
      log.warn(
        s"attempt ${batch.attempt} to deliver ${batch.events.size} events failed, next in ${wait.toMillis} ms: $why"
      )
    val over = Promise[Boolean]()
    try timer.schedule((() => over.success(true)): Runnable, wait.toMillis, TimeUnit.MILLISECONDS): Unit
    catch case _: RejectedExecutionException => over.success(false)
    over.future

  private def notTaken(batch: Batch, why: String) =
    s"a batch of ${batch.events.size} events was not taken in ${batch.attempt} attempts within " +
      s"job.consumer-deadline-ms (${deadline.toMillis}): $why; is the consumer up?"

  def close(): Unit =
    timer.shutdownNow(): Unit
    transport.close()

object Batcher:
  private val log = LoggerFactory.getLogger(classOf[Batcher])

  /** How long a batch that is not full waits for more. */
  private val linger = 20.millis
  private val firstBackoff = 100.millis
  private val maxBackoff = 2.seconds

  private final case class Pending(event: Operation, done: Promise[Unit]):
    def giveUp(why: String): Unit = done.failure(IllegalStateException(why)): Unit

  private final case class Batch(events: Vector[Pending], deadline: Deadline, attempt: Int):
    def again: Batch = copy(attempt = attempt + 1)

    def halves: (Batch, Batch) =
      val (first, second) = events.splitAt(events.size / 2)
      (Batch(first, deadline, 1), Batch(second, deadline, 1))

    def giveUp(why: String): Unit = events.foreach(_.giveUp(why))

  private def cannotBeDelivered(id: String, why: String) =
    s"event '$id' cannot be delivered: $why; mend the consumer or filter such events"

  /** Doubles up to its limit; the upper half of it by chance, so that subtasks do not come back together. */
  private[jobs] def backoff(attempt: Int): FiniteDuration =
    val ceiling = maxBackoff.min(firstBackoff * (1L << math.min(10, attempt - 1)))
    ThreadLocalRandom.current.nextLong(ceiling.toMillis / 2, ceiling.toMillis + 1).millis
