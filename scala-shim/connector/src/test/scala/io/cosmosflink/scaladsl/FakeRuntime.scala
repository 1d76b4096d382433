package io.cosmosflink.scaladsl

import io.cosmosflink.core.{
  CoreMetrics,
  CoreOption,
  CosmosException,
  CosmosRuntime,
  Operation,
  OperationBatch,
  Outcome,
  SplitEntry,
  Submitted,
  TestPages
}

import java.nio.charset.StandardCharsets.UTF_8
import java.util.concurrent.{CopyOnWriteArrayList, LinkedBlockingQueue, TimeUnit}
import java.util.{Collection, List as JavaList, Map as JavaMap}

import scala.jdk.CollectionConverters.*

/** A core without a service. A split's bytes are `ordinal:position`, its id is `s<ordinal>`. */
final class FakeRuntime(sink: CosmosRuntime.SinkHandle = FakeRuntime.Sink()) extends CosmosRuntime:
  import FakeRuntime.*

  val enumerator = Enumerator()
  val source = Source()

  /** Thrown by every open, if set. */
  @volatile var openFailure: Option[RuntimeException] = None

  override def optionTable: JavaList[CoreOption] = JavaList.of()

  override def resolveOptions(
      arguments: JavaMap[String, String],
      environment: JavaMap[String, String]
  ): JavaMap[String, String] = arguments

  override def validateOptions(
      role: CosmosRuntime.Role,
      options: JavaMap[String, String]
  ): JavaMap[String, String] = (FakeRuntime.options ++ CosmosDBOptions(options.asScala.toMap)).toJava

  override def describeSplit(split: Array[Byte]): SplitEntry = String(split, UTF_8) match
    case s"$ordinal:$position" => FakeRuntime.split(ordinal.toInt, position.toInt).entry
    case _ => throw failure(CosmosException.Kind.STATE, "foreign split bytes")

  override def encodeEnumeratorState(splits: Collection[SplitEntry]): Array[Byte] =
    splits.asScala.map(s => String(s.split, UTF_8) + (if s.assigned then "+" else "-")).mkString(" ").getBytes(UTF_8)

  override def decodeEnumeratorState(state: Array[Byte]): JavaList[SplitEntry] =
    String(state, UTF_8)
      .split(" ")
      .iterator
      .filter(_.nonEmpty)
      .map(s => describeSplit(s.init.getBytes(UTF_8)).withAssigned(s.endsWith("+")))
      .toList
      .asJava

  private def opened[H](handle: H): H = openFailure.fold(handle)(throw _)

  override def openEnumerator(options: JavaMap[String, String]): CosmosRuntime.EnumeratorHandle = opened(enumerator)
  override def openSource(options: JavaMap[String, String]): CosmosRuntime.SourceHandle = opened(source)
  override def openSink(options: JavaMap[String, String]): CosmosRuntime.SinkHandle = opened(sink)
  override def drainLog(now: Boolean): Unit = ()

object FakeRuntime:
  def split(ordinal: Int, position: Int): CosmosDBSplit =
    CosmosDBSplit(s"s$ordinal", ordinal, s"range $ordinal", bytes(ordinal, position))

  def bytes(ordinal: Int, position: Int): Array[Byte] = s"$ordinal:$position".getBytes(UTF_8)

  def failure(kind: CosmosException.Kind, message: String): CosmosException = CosmosException(message, kind, 0, 0, "")

  val options: CosmosDBOptions = CosmosDBOptions(
    "cosmos.container" -> "orders",
    "source.discovery-interval-ms" -> "1000",
    "sink.max-batch-size" -> "2",
    "sink.max-in-flight-requests" -> "2",
    "sink.max-buffered-requests" -> "10",
    "sink.max-batch-bytes" -> "100000",
    "sink.max-time-in-buffer-ms" -> "50",
    "sink.max-record-bytes" -> "10000"
  )

  /** A page of a split that ends at `after`. */
  def page(ordinal: Int, after: Int, items: TestPages.Item*): Array[Byte] =
    TestPages.page(s"s$ordinal", bytes(ordinal, after), 0, 5_000_000, items.asJava)

  abstract class Base extends CosmosRuntime.Handle:
    @volatile var closed = false
    override def metrics: CoreMetrics = CoreMetrics.NONE
    override def wakeUp(): Unit = ()
    override def close(): Unit = closed = true

  final class Enumerator extends Base, CosmosRuntime.EnumeratorHandle:
    @volatile var next: List[CosmosDBSplit] = Nil
    @volatile var failure: Option[RuntimeException] = None
    @volatile var known: Option[List[SplitEntry]] = None

    override def discoverSplits(before: Collection[SplitEntry]): JavaList[SplitEntry] =
      known = Some(before.asScala.toList)
      failure.foreach(throw _)
      next.map(_.entry).asJava

  final class Source extends Base, CosmosRuntime.SourceHandle:
    val pages = LinkedBlockingQueue[Array[Byte]]()
    val added = CopyOnWriteArrayList[SplitEntry]()
    @volatile var paused: Set[String] = Set.empty
    @volatile var failure: Option[RuntimeException] = None
    private var announced: Option[Array[Byte]] = None

    override def addSplits(splits: Collection[SplitEntry]): Unit = added.addAll(splits)

    override def pauseOrResumeSplits(pause: Collection[String], resume: Collection[String]): Unit =
      paused = paused ++ pause.asScala -- resume.asScala

    override def nextPage(timeoutMillis: Long): Int =
      failure.foreach(throw _)
      announced = Option(pages.poll(math.min(50, timeoutMillis), TimeUnit.MILLISECONDS))
      announced.fold(0)(_.length)

    override def takePage(into: Array[Byte]): Int =
      val page = announced.get
      System.arraycopy(page, 0, into, 0, page.length)
      page.length

  /** Answers what a test tells it to. */
  final class Sink extends Base, CosmosRuntime.SinkHandle:
    val submitted = LinkedBlockingQueue[List[(Long, Operation)]]()
    private val outcomes = LinkedBlockingQueue[List[Outcome]]()

    /** What comes back for a batch as soon as it is submitted. */
    @volatile var onSubmit: List[(Long, Operation)] => List[Outcome] = _ => Nil

    /** Thrown by every poll, if set. */
    @volatile var failure: Option[Throwable] = None

    def answer(some: Outcome*): Unit = outcomes.add(some.toList)

    override def submit(batch: OperationBatch): Unit =
      val operations = Submitted.operations(batch)
      submitted.add(operations)
      outcomes.add(onSubmit(operations))

    override def pollOutcomes(max: Int, timeoutMillis: Long): JavaList[Outcome] =
      failure.foreach(throw _)
      Option(outcomes.poll(math.min(50, timeoutMillis), TimeUnit.MILLISECONDS)).getOrElse(Nil).asJava

  def outcome(token: Long, result: Outcome.Result): Outcome =
    if result == Outcome.Result.OK then Outcome(token, result, CosmosException.Kind.UNKNOWN, 200, 0, 1, 1, "act-1", "")
    else Outcome(token, result, CosmosException.Kind.CONFLICT, 409, 0, 1, 1, "act-1", "it exists")
