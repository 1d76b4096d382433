package io.cosmosflink.scaladsl

import io.cosmosflink.core.{NativeCore, Operation}
import org.apache.flink.api.common.eventtime.WatermarkStrategy
import org.apache.flink.api.common.functions.MapFunction
import org.apache.flink.api.common.state.{CheckpointListener, ListState, ListStateDescriptor}
import org.apache.flink.configuration.{Configuration, PipelineOptions, RestartStrategyOptions}
import org.apache.flink.core.execution.{JobClient, SavepointFormatType}
import org.apache.flink.runtime.state.{FunctionInitializationContext, FunctionSnapshotContext}
import org.apache.flink.runtime.testutils.{InMemoryReporter, MiniClusterResourceConfiguration}
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
import org.apache.flink.streaming.api.functions.ProcessFunction
import org.apache.flink.streaming.util.TestStreamEnvironment
import org.apache.flink.test.util.MiniClusterWithClientResource
import org.apache.flink.util.Collector
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers
import org.scalatest.{BeforeAndAfterAll, BeforeAndAfterEach}

import java.nio.charset.StandardCharsets.UTF_8
import java.nio.file.Files
import java.time.Duration
import java.util.concurrent.CountDownLatch
import java.util.concurrent.atomic.{AtomicBoolean, AtomicInteger, AtomicLong}

import scala.concurrent.duration.*
import scala.jdk.CollectionConverters.*
import scala.util.{Failure, Success, Try, Using}

object PipelineITCase:
  final case class Placed(id: String, customerId: String, amount: Long) derives JsonDecoder, FlinkType
  final case class Processed(id: String, @partitionKey region: String, amount: Long)
      derives JsonEncoder,
        DocumentKey,
        FlinkType

  enum Count derives FlinkType:
    case Upto(records: Long)

  def process(order: Placed): Processed = Processed(order.id, s"r${order.id.last}", order.amount)

  /** Counts records in checkpointed state, at parallelism 1, and fails once. */
  final class Counting(failAt: Long) extends MapFunction[Placed, Placed], CheckpointedFunction, CheckpointListener:
    @transient private var state: ListState[Count] = null
    private var count = 0L

    override def map(order: Placed): Placed =
      count += 1
      Counting.records.set(count)
      if count == failAt && Counting.failed.compareAndSet(false, true) then
        throw IllegalStateException("as the test wants it")
      order

    override def snapshotState(context: FunctionSnapshotContext): Unit =
      state.update(java.util.List.of(Count.Upto(count)))

    override def initializeState(context: FunctionInitializationContext): Unit =
      state = context.getOperatorStateStore.getListState(ListStateDescriptor("count", FlinkType[Count].info))
      state.get.asScala.foreach { case Count.Upto(before) =>
        count = before
        Counting.restoredAt.set(before)
        Counting.records.set(before)
      }

    override def notifyCheckpointComplete(id: Long): Unit = Counting.checkpoints.incrementAndGet()

  object Counting:
    val records = AtomicLong()
    val restoredAt = AtomicLong()
    val checkpoints = AtomicInteger()
    val failed = AtomicBoolean()

    def reset(): Unit =
      Seq(records, restoredAt).foreach(_.set(0))
      checkpoints.set(0)
      failed.set(false)

  /** Counts records that come behind the watermark, and is held back at the thousandth until the gate is open. */
  final class Lateness extends ProcessFunction[Placed, Placed]:
    override def processElement(
        order: Placed,
        context: ProcessFunction[Placed, Placed]#Context,
        out: Collector[Placed]
    ): Unit =
      import Lateness.*
      watermark.set(context.timerService.currentWatermark)
      if context.timestamp <= watermark.get then
        late.incrementAndGet()
        example = s"${order.id} behind $watermark"
      if seen.incrementAndGet() == 1000 then
        waits.set(true)
        gate.await()

  object Lateness:
    val seen = AtomicLong()
    val late = AtomicLong()
    val watermark = AtomicLong()
    val waits = AtomicBoolean()
    @volatile var example = ""
    @volatile var gate = CountDownLatch(1)

    def reset(): Unit =
      Seq(seen, late, watermark).foreach(_.set(0))
      waits.set(false)
      gate = CountDownLatch(1)

/** Source and sink on a MiniCluster against a local Cosmos, over the real library. */
final class PipelineITCase extends AnyFunSuite, Matchers, BeforeAndAfterAll, BeforeAndAfterEach:
  import PipelineITCase.*

  private val documents = 5000
  private val limit = 60.seconds

  private val reporter = InMemoryReporter.create()
  private val cluster = MiniClusterWithClientResource(
    MiniClusterResourceConfiguration
      .Builder()
      .setConfiguration(reporter.addToConfiguration(Configuration()))
      .setNumberTaskManagers(1)
      .setNumberSlotsPerTaskManager(4)
      .build()
  )

  private var cosmos: LocalCosmos = null

  override protected def beforeAll(): Unit =
    cluster.before()
    TestStreamEnvironment.setAsContext(cluster.getMiniCluster, 2)

  override protected def afterAll(): Unit =
    TestStreamEnvironment.unsetAsContext()
    cluster.after()

  override protected def beforeEach(): Unit =
    cosmos = LocalCosmos.start(
      "events-source:/customerId:4",
      "events-single:/customerId:1",
      "events-processed:/region:2",
      "dead-letter:/container:1"
    )
    Counting.reset()

  override protected def afterEach(): Unit =
    // One that a failed test leaves behind would hold slots that the next one needs.
    cluster.cancelAllJobs()
    cosmos.close()

  private def environment(settings: (String, String)*): StreamExecutionEnvironment =
    val configuration = Configuration()
    configuration.set(RestartStrategyOptions.RESTART_STRATEGY, "fixed-delay")
    configuration.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_ATTEMPTS, Int.box(2))
    configuration.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_DELAY, Duration.ofMillis(100))
    configuration.set(PipelineOptions.GENERIC_TYPES, Boolean.box(false))
    settings.foreach(configuration.setString(_, _))
    val env = StreamExecutionEnvironment.getExecutionEnvironment(configuration)
    env.setParallelism(2)
    env.enableCheckpointing(200)
    env

  private def pipeline(env: StreamExecutionEnvironment, failAt: Long = Long.MaxValue): JobClient =
    val options = cosmos.options("events-source") + ("scan.page-size" -> "100")
    env
      .cosmos(CosmosDBSource[Placed](options, container = "events-source", startup = Startup.Earliest), "source")
      .uid("source")
      .map(Counting(failAt), FlinkType[Placed].info)
      .uid("count")
      .setParallelism(1)
      .mapTo(process)
      .sinkTo(CosmosDBSink[Processed](options, container = "events-processed"))
      .uid("sink")
    env.executeAsync("pipeline")

  private def orders(numbers: Range): Seq[Operation] = numbers.map: i =>
    Operation.upsert(
      s"o$i",
      s"""["c${i % 97}"]""",
      s"""{"id":"o$i","customerId":"c${i % 97}","amount":$i}""".getBytes(UTF_8)
    )

  private def stored(id: String): Operation =
    Operation.upsert(id, """["eu"]""", s"""{"id":"$id","region":"eu","amount":0}""".getBytes(UTF_8))

  private def arrived(job: JobClient, count: Long): Unit =
    LocalCosmos.await(s"$count documents", limit):
      val status = job.getJobStatus.get
      if status.isGloballyTerminalState then
        fail(s"the job is $status", Try(job.getJobExecutionResult.get).failed.toOption.orNull)
      cosmos.count("events-processed") >= count
    cosmos.count("events-processed") shouldBe count

  private def whyFailed(body: => Any): String = Try(body) match
    case Failure(e) => Iterator.iterate(e)(_.getCause).takeWhile(_ != null).mkString("\n")
    case Success(_) => fail("it did not fail")

  test("every document arrives once, what is written meanwhile too"):
    cosmos.write("events-source", orders(0 until documents))
    val job = pipeline(environment())
    arrived(job, documents)
    cosmos.write("events-source", orders(documents until documents + 500))
    arrived(job, documents + 500)
    job.cancel().get()
    val copies = cosmos.read("events-processed")
    copies.size shouldBe documents + 500
    copies.values.foreach: copy =>
      copy.get("id") shouldBe copy.get("amount").map(amount => Json.Str(s"o$amount"))
    Counting.records.get shouldBe documents + 500

  test("after a failure nothing is lost or repeated in state"):
    cosmos.write("events-source", orders(0 until documents / 2))
    val job = pipeline(environment(), failAt = documents * 3L / 4)
    arrived(job, documents / 2)
    LocalCosmos.await("a checkpoint", limit)(Counting.checkpoints.get > 1)
    cosmos.write("events-source", orders(documents / 2 until documents))
    arrived(job, documents)
    LocalCosmos.await("the state to count them all", limit)(Counting.records.get >= documents)
    // A record that came twice would be counted by the next checkpoints.
    val seen = Counting.checkpoints.get
    LocalCosmos.await("two checkpoints more", limit)(Counting.checkpoints.get > seen + 1)
    job.cancel().get()
    Counting.failed.get shouldBe true
    Counting.restoredAt.get should (be > 0L and be < documents.toLong)
    Counting.records.get shouldBe documents
    cosmos.read("events-processed").size shouldBe documents

  test("a job goes on from a savepoint where the one before stopped"):
    cosmos.write("events-source", orders(0 until 1000))
    val first = pipeline(environment())
    arrived(first, 1000)
    val folder = Files.createTempDirectory("savepoint").toUri.toString
    val savepoint = first.stopWithSavepoint(false, folder, SavepointFormatType.CANONICAL).get
    cosmos.write("events-source", orders(1000 until 1500))
    Counting.reset()
    val second = pipeline(environment("execution.state-recovery.path" -> savepoint))
    arrived(second, 1500)
    second.cancel().get()
    Counting.restoredAt.get shouldBe 1000
    Counting.records.get shouldBe 1500

  test("a physical split loses nothing"):
    cosmos.write("events-source", orders(0 until documents))
    val job = pipeline(environment())
    arrived(job, documents)
    split("events-source", 0)
    cosmos.write("events-source", orders(documents until 2 * documents))
    arrived(job, 2 * documents)
    job.cancel().get()
    Counting.records.get shouldBe 2 * documents

  // A savepoint has the children in place of their parent, and they go on wherever they are read then.
  test("a job goes on from a savepoint with the children of a partition"):
    cosmos.write("events-source", orders(0 until 1000))
    val first = pipeline(environment())
    arrived(first, 1000)
    split("events-source", 0)
    // What is written now arrives by the children alone.
    cosmos.write("events-source", orders(1000 until 2000))
    arrived(first, 2000)
    val folder = Files.createTempDirectory("savepoint").toUri.toString
    val savepoint = first.stopWithSavepoint(false, folder, SavepointFormatType.CANONICAL).get
    // And while no job runs.
    split("events-source", 1)
    cosmos.write("events-source", orders(2000 until 3000))
    Counting.reset()
    val env = environment("execution.state-recovery.path" -> savepoint)
    env.setParallelism(3)
    val second = pipeline(env)
    arrived(second, 3000)
    wentOnFrom2000To3000(second)

  // While a job reads on, each half of a merged partition is a split of its own.
  test("the halves of a merged partition are read as one from a savepoint on"):
    def ofTheSource(job: JobClient, gauge: String) =
      Gauges.sum(reporter, job, s".*Source.*\\.cosmosdb\\.$gauge")
    cosmos.write("events-source", orders(0 until 1000))
    val first = pipeline(environment())
    arrived(first, 1000)
    cosmos.admin("POST", "merge", """{"database":"orders","container":"events-source","partitions":["0","1"]}""")
    cosmos.write("events-source", orders(1000 until 2000))
    arrived(first, 2000)
    // Each asks some times more, so that both halves are at the end of their partition.
    val requests = ofTheSource(first, "requests")
    LocalCosmos.await("all to be at the end", limit)(ofTheSource(first, "requests") > requests + 24)
    ofTheSource(first, "splits") shouldBe 4
    val folder = Files.createTempDirectory("savepoint").toUri.toString
    val savepoint = first.stopWithSavepoint(false, folder, SavepointFormatType.CANONICAL).get
    Counting.reset()
    val second = pipeline(environment("execution.state-recovery.path" -> savepoint))
    cosmos.write("events-source", orders(2000 until 3000))
    arrived(second, 3000)
    // Before Flink 2.2 readers read on by themselves, and nobody sees the halves beside each other.
    ofTheSource(second, "splits") shouldBe (if CosmosDBSource.reassigns then 3 else 4)
    wentOnFrom2000To3000(second)

  // A record that came twice would be counted by the next checkpoints.
  private def wentOnFrom2000To3000(job: JobClient): Unit =
    val seen = Counting.checkpoints.get
    LocalCosmos.await("two checkpoints more", limit)(Counting.checkpoints.get > seen + 1)
    job.cancel().get()
    Counting.restoredAt.get shouldBe 2000
    withClue("each once: ")(Counting.records.get shouldBe 3000)

  private def split(container: String, partition: Int): Unit =
    cosmos.admin("POST", "split", s"""{"database":"orders","container":"$container","partition":$partition}""")

  // The children of a partition are read beside each other. In turn, by one split, the watermark would follow the one that is ahead, and all
  // that the other one has would be late. A hundred orders are written at once: that is an event time.
  test("no record is late because a partition splits while a job reads"):
    cosmos.write("events-single", orders(0 until 1000))
    Lateness.reset()
    val env = environment()
    env.setParallelism(1)
    env.getConfig.setAutoWatermarkInterval(1)
    val options = cosmos.options("events-single") + ("scan.page-size" -> "100")
    val source = CosmosDBSource[Placed](
      options,
      container = "events-single",
      startup = Startup.Earliest,
      eventTime = (order, _) => order.amount / 100
    )
    env
      .fromSource(source, WatermarkStrategy.forMonotonousTimestamps[Placed](), "source", source.getProducedType)
      .process(Lateness(), FlinkType[Placed].info)
      .sinkTo(org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink[Placed]())
    val job = env.executeAsync("late")
    def split(partition: Int) =
      cosmos.admin("POST", "split", s"""{"database":"orders","container":"events-single","partition":$partition}""")
    LocalCosmos.await("the job to be held back", limit)(Lateness.waits.get)
    split(0)
    cosmos.write("events-single", orders(1000 until 2000))
    split(1)
    cosmos.write("events-single", orders(2000 until 4000))
    Lateness.gate.countDown()
    LocalCosmos.await("all of it", limit)(Lateness.seen.get >= 4000)
    // It goes on with all children: what is behind the last records shows with the next ones.
    val next = Iterator.iterate(4000)(_ + 100)
    LocalCosmos.await("the watermark", limit):
      val from = next.next()
      cosmos.write("events-single", orders(from until from + 100))
      Lateness.watermark.get >= 38
    job.cancel().get()
    withClue(s"of ${Lateness.seen}, such as ${Lateness.example}: ")(Lateness.late.get shouldBe 0)

  private def write(options: CosmosDBOptions, writes: Write[Processed]*): Unit =
    val env = environment()
    env
      .fromData(writes.asJava, FlinkType[Write[Processed]].info)
      .sinkTo(CosmosDBSink.writes[Processed](options, container = "events-processed"))
    env.execute("writes")
    ()

  test("writes do what they say"):
    cosmos.write("events-processed", Seq("a", "b", "c").map(stored))
    write(
      cosmos.options("events-processed"),
      Write.Delete("a", PartitionKey("eu")),
      Write.Replace(Processed("b", "eu", 2)),
      Write.Create(Processed("d", "eu", 4))
    )
    cosmos.read("events-processed").view.mapValues(_.get("amount").mkString).toMap shouldBe
      Map("""["eu"]b""" -> "2", """["eu"]c""" -> "0", """["eu"]d""" -> "4")

  test("a refused write fails the job and says why"):
    cosmos.write("events-processed", Seq(stored("a")))
    val why = whyFailed(write(cosmos.options("events-processed"), Write.Create(Processed("a", "eu", 1))))
    Seq("CREATE of id 'a'", """["eu"]""", "409", "activity").foreach(why should include(_))

  test("a refused write goes to the dead-letter container"):
    cosmos.write("events-processed", Seq(stored("a")))
    val options = cosmos.options("events-processed") + (
      "sink.failure-mode" -> "dead-letter",
      "sink.dead-letter-container" -> "dead-letter"
    )
    write(options, Write.Create(Processed("a", "eu", 1)), Write.Create(Processed("b", "eu", 1)))
    cosmos.read("events-processed").size shouldBe 2
    val letters = cosmos.read("dead-letter").values.toList
    letters.map(_.get("container")) shouldBe List(Some(Json.Str("events-processed")))
    letters.mkString should include("409")

  test("a missing container ends the job at once"):
    val env = environment()
    env
      .cosmos(CosmosDBSource.raw(cosmos.options("events-nowhere"), "events-nowhere"), "nowhere")
      .mapTo(_.id)
      .sinkTo(org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink[String]())
    val why = whyFailed(env.executeAsync("nowhere").getJobExecutionResult.get)
    why should (include("events-nowhere") and include(classOf[CosmosDBUnrecoverableException].getName))

  test("the core's splits come back as they were"):
    val core = NativeCore.get()
    val options = cosmos.options("events-source").toJava
    val found = Using.resource(core.openEnumerator(options, Array.emptyByteArray, true))(LocalCosmos.splits)
    found.size should be > 1
    val splits = CosmosDBSplitSerializer(() => core)
    found.asScala.map(CosmosDBSplit.of).foreach(split => splits.deserialize(1, splits.serialize(split)) shouldBe split)
    an[java.io.IOException] should be thrownBy splits.deserialize(1, "foreign".getBytes(UTF_8))
