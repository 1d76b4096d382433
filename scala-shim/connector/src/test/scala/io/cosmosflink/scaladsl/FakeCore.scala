package io.cosmosflink.scaladsl

import io.cosmosflink.core.{
  Completion,
  Core,
  CoreMetric,
  CoreMetrics,
  CoreOption,
  CosmosException,
  EnumeratorActions,
  EnumeratorEvent,
  NativeCore,
  Operation,
  OperationBatch,
  SplitEntry,
  Submitted,
  TestPages,
  WriteFailure
}

import java.nio.charset.StandardCharsets.UTF_8
import java.util.concurrent.atomic.AtomicInteger
import java.util.concurrent.{CopyOnWriteArrayList, LinkedBlockingQueue}
import java.util.{Collection, List as JavaList, Map as JavaMap}

import scala.collection.mutable
import scala.concurrent.duration.*
import scala.jdk.CollectionConverters.*

/** A core without a service. A split's bytes are `ordinal:position`, its id is `s<ordinal>`. */
final class FakeCore(sink: Core.SinkHandle = FakeCore.Sink()) extends Core:
  import FakeCore.*

  val enumerator = Enumerator()
  val source = Source()

  /** Thrown by every opening, if set. */
  def openFailure_=(failure: Option[RuntimeException]): Unit = handles.foreach(_.openFailure = failure)
  def openFailure: Option[RuntimeException] = source.openFailure

  /** Whether openings do not end. */
  def openingHangs_=(hangs: Boolean): Unit = handles.foreach(_.openingHangs = hangs)
  def openingHangs: Boolean = source.openingHangs

  private def handles = Seq(enumerator, source) ++ Option(sink).collect { case base: Base => base }

  override def optionTable: JavaList[CoreOption] = JavaList.of()

  /** The real one: it asks no service. */
  override def metricTable: JavaList[CoreMetric] = NativeCore.get().metricTable

  override def resolveOptions(
      arguments: JavaMap[String, String],
      environment: JavaMap[String, String]
  ): JavaMap[String, String] = arguments

  override def validateOptions(
      role: Core.Role,
      options: JavaMap[String, String]
  ): JavaMap[String, String] = (FakeCore.options ++ CosmosDBOptions(options.asScala.toMap)).toJava

  override def describeSplit(split: Array[Byte]): SplitEntry = String(split, UTF_8) match
    case s"$ordinal:$position" => FakeCore.split(ordinal.toInt, position.toInt).entry
    case _ => throw failure(CosmosException.Kind.STATE, "foreign split bytes")

  override def startTokens(splits: Collection[SplitEntry], enumeratorState: Array[Byte]): Array[Byte] =
    throw failure(CosmosException.Kind.STATE, "the fake core writes no positions")

  override def openEnumerator(
      options: JavaMap[String, String],
      state: Array[Byte],
      firstStart: Boolean
  ): Core.EnumeratorHandle =
    enumerator.openFailure.foreach(throw _)
    enumerator.state = state
    enumerator.firstStart = firstStart
    enumerator.opening

  override def openSource(options: JavaMap[String, String], peers: Core.Peers): Core.SourceHandle = source.opening
  override def openSink(options: JavaMap[String, String], peers: Core.Peers): Core.SinkHandle =
    sinkPeers = Some(peers)
    sink

  /** Those that the sink was opened with last. */
  @volatile var sinkPeers: Option[Core.Peers] = None

  override def drainLog(now: Boolean): Unit = ()

object FakeCore:
  def split(ordinal: Int, position: Int): CosmosDBSplit =
    CosmosDBSplit(s"s$ordinal", ordinal, s"range $ordinal", bytes(ordinal, position))

  def bytes(ordinal: Int, position: Int): Array[Byte] = s"$ordinal:$position".getBytes(UTF_8)

  def failure(kind: CosmosException.Kind, message: String): CosmosException = CosmosException(message, kind, 0, 0, "")

  val options: CosmosDBOptions = CosmosDBOptions(
    "container" -> "orders",
    "scan.discovery-interval" -> "1000",
    "json.on-error" -> "fail",
    "sink.buffer-flush.max-rows" -> "2",
    "sink.max-in-flight-requests" -> "2",
    "sink.max-buffered-requests" -> "10",
    "sink.buffer-flush.max-size" -> "100000",
    "sink.buffer-flush.interval" -> "50",
    "sink.max-record-size" -> "10000"
  )

  /** A page of a split that ends at `after`. */
  def page(ordinal: Int, after: Int, items: TestPages.Item*): Array[Byte] =
    TestPages.page(s"s$ordinal", bytes(ordinal, after), 0, 5_000_000, items.asJava)

  /** Waits, wakes up and closes as the core's handles do. */
  abstract class Base extends Core.Handle:
    @volatile var closed = false
    @volatile var openFailure: Option[RuntimeException] = None
    @volatile var openingHangs = false

    /** Calls that wait now. */
    val waiting = AtomicInteger()
    private var woken = false

    def opening: this.type =
      closed = false
      this

    override def awaitOpen(timeoutMillis: Long): Boolean =
      openFailure.foreach(throw _)
      await(timeoutMillis)(!openingHangs)
      !openingHangs

    /** Waits until the condition holds, the time is over, or somebody wakes it up. */
    final protected def await(timeoutMillis: Long)(condition: => Boolean): Unit = synchronized:
      val deadline = timeoutMillis.millis.fromNow
      waiting.incrementAndGet()
      try
        while !closed && !woken && !condition && deadline.hasTimeLeft() do wait(math.max(1, deadline.timeLeft.toMillis))
        if closed then throw failure(CosmosException.Kind.CLOSED, "the handle is closed")
        woken = false
      catch
        // The core's calls do not end by an interrupt; whoever waits sees it when the time is over.
        case _: InterruptedException => Thread.currentThread.interrupt()
      finally waiting.decrementAndGet()

    final protected def change(body: => Unit): Unit = synchronized:
      body
      notifyAll()

    override def metrics: CoreMetrics = CoreMetrics.NONE
    override def wakeUp(): Unit = change { woken = true }
    override def close(): Unit = change { closed = true }

  final class Enumerator extends Base, Core.EnumeratorHandle:
    /** What it was opened with last. */
    @volatile var state: Array[Byte] = Array.emptyByteArray
    @volatile var firstStart = false

    /** All events, the last one first. */
    @volatile var events: List[EnumeratorEvent] = Nil

    /** The readers as they were at the last event: parallelism and who is there. */
    @volatile var readers: (Int, Set[Int]) = (0, Set.empty)

    /** What is to be done about an event. */
    @volatile var decide: EnumeratorEvent => EnumeratorActions = _ => EnumeratorActions.NONE

    /** What a look ends with. */
    val discovery: Array[Byte] = Array(1)
    @volatile var failure: Option[RuntimeException] = None

    /** Whether a look does not end. */
    @volatile var hangs = false

    override def coordinate(now: Core.Readers, event: EnumeratorEvent): EnumeratorActions =
      if closed then EnumeratorActions.NONE
      else
        readers = (now.parallelism, now.registered.asScala.map(_.intValue).toSet)
        events = event :: events
        decide(event)

    override def discover(timeoutMillis: Long): Array[Byte] =
      await(timeoutMillis)(!hangs)
      failure.foreach(throw _)
      if hangs then Array.emptyByteArray else discovery

  final class Source extends Base, Core.SourceHandle:
    private val pages = mutable.Queue[Array[Byte]]()
    val added = CopyOnWriteArrayList[SplitEntry]()
    @volatile var paused: Set[String] = Set.empty

    /** What was published, by checkpoint. */
    @volatile var published: Map[Long, List[SplitEntry]] = Map.empty
    @volatile private var failure: Option[RuntimeException] = None

    /** What `addSplits` throws, if set. */
    @volatile var addFailure: Option[RuntimeException] = None

    /** A page is waited for at least this long, whatever the caller says. */
    @volatile var patienceMillis = 0L

    def fail(`with`: RuntimeException): Unit = change { failure = Some(`with`) }

    def page(page: Array[Byte]): Unit = change(pages.enqueue(page))

    override def addSplits(splits: Collection[SplitEntry]): Unit =
      addFailure.foreach(throw _)
      added.addAll(splits)

    override def pauseOrResumeSplits(pause: Collection[String], resume: Collection[String]): Unit =
      paused = paused ++ pause.asScala -- resume.asScala

    override def publish(checkpoint: Long, splits: Collection[SplitEntry]): Unit =
      published = published + (checkpoint -> splits.asScala.toList)

    override def nextPage(into: Array[Byte], timeoutMillis: Long): Int = synchronized:
      await(math.max(patienceMillis, timeoutMillis))(failure.nonEmpty || pages.nonEmpty)
      failure.foreach(throw _)
      pages.headOption match
        case None => 0
        case Some(page) if page.length > into.length => -page.length
        case Some(page) =>
          System.arraycopy(page, 0, into, 0, page.length)
          pages.dequeue().length

  /** Answers what a test tells it to. */
  final class Sink extends Base, Core.SinkHandle:
    val submitted = LinkedBlockingQueue[Submission]()
    private val completions = mutable.Queue[List[Completion]]()

    /** What comes back for a batch as soon as it is submitted. */
    @volatile var onSubmit: Submission => List[Completion] = _ => Nil

    /** Thrown by every poll, if set. */
    @volatile var failure: Option[Throwable] = None

    /** Thrown by every submission, if set. */
    @volatile var submitFailure: Option[RuntimeException] = None

    @volatile private var full = false
    override def isFull: Boolean = full

    /** A poll that waits returns when there is room again, as the core's does. */
    def isFull_=(is: Boolean): Unit =
      full = is
      if !is then wakeUp()

    def answer(some: Completion*): Unit = change(completions.enqueue(some.toList))

    override def submit(number: Long, batch: OperationBatch): Unit =
      submitFailure.foreach(throw _)
      val submission = Submission(number, Submitted.operations(batch))
      submitted.add(submission)
      answer(onSubmit(submission)*)

    override def pollCompletions(timeoutMillis: Long): JavaList[Completion] = synchronized:
      await(timeoutMillis)(failure.nonEmpty || completions.nonEmpty)
      failure.foreach(throw _)
      (if completions.isEmpty then Nil else completions.dequeue()).asJava

  /** What a writer has handed over. */
  final case class Submission(number: Long, operations: List[Operation]):
    /** Its end, with these failures. The core says what was to be written by an operation that fails the job. */
    def ended(failures: WriteFailure*): Completion =
      val told = failures.map: f =>
        if f.result == WriteFailure.Result.FAILED then f.of(WriteFailure.Target.of(operations(f.index).encode)) else f
      Completion(number, 1, told.asJava)

  def conflict(index: Int, result: WriteFailure.Result): WriteFailure =
    WriteFailure(index, result, CosmosException.Kind.CONFLICT, false, 409, 0, 1, "act-1", "it exists")
