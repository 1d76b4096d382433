package io.cosmosflink.scaladsl

import io.cosmosflink.core.Operation
import org.apache.flink.api.common.JobStatus
import org.apache.flink.api.common.eventtime.WatermarkStrategy
import org.apache.flink.api.common.functions.MapFunction
import org.apache.flink.configuration.{CheckpointingOptions, Configuration, PipelineOptions, RestartStrategyOptions}
import org.apache.flink.core.execution.{JobClient, SavepointFormatType}
import org.apache.flink.metrics.Gauge
import org.apache.flink.runtime.checkpoint.{AbstractCheckpointStats, CheckpointStatsSnapshot, CompletedCheckpointStats}
import org.apache.flink.runtime.testutils.{InMemoryReporter, MiniClusterResourceConfiguration}
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink
import org.apache.flink.streaming.util.TestStreamEnvironment
import org.apache.flink.test.util.MiniClusterWithClientResource
import org.scalatest.concurrent.TimeLimits
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers
import org.scalatest.{BeforeAndAfterAll, BeforeAndAfterEach}

import java.net.{InetAddress, ServerSocket, Socket, SocketException}
import java.nio.charset.StandardCharsets.UTF_8
import java.nio.file.Files
import java.time.Duration
import java.util.concurrent.atomic.AtomicBoolean
import java.util.concurrent.{ConcurrentHashMap, CopyOnWriteArrayList, TimeUnit}

import scala.concurrent.duration.*
import scala.jdk.CollectionConverters.*
import scala.util.{Failure, Success, Try, Using}

object ResilienceITCase:
  final case class Timed(id: String, customerId: String, minutes: Long) derives JsonDecoder, FlinkType

  final case class Payment(@documentId number: String, @partitionKey region: String)
      derives DocumentKey,
        JsonEncoder,
        FlinkType

  final case class Stored(id: String, @partitionKey region: Option[String], filler: Option[String] = None)
      derives DocumentKey,
        FlinkType

  /** Refuses some, as a function of somebody's own may, and remembers what a sink has made an entry of. */
  private val derived = JsonEncoder.derived[Stored]
  given JsonEncoder[Stored] with
    def encode(value: Stored): Array[Byte] =
      Seen.buffered.add(value.id)
      if value.id.startsWith("throws") then throw IllegalStateException("no amount")
      derived.encode(value)

  /** Remembers what came by, and fails once if it shall, when it is told to. */
  final class Seen(failOnce: Boolean) extends MapFunction[Timed, Timed]:
    override def map(value: Timed): Timed =
      Seen.ids.add(value.id)
      if failOnce && Seen.fail.get && Seen.failed.compareAndSet(false, true) then
        throw IllegalStateException("as the test wants it")
      value

  object Seen:
    val ids = ConcurrentHashMap.newKeySet[String]()
    val buffered = ConcurrentHashMap.newKeySet[String]()
    val fail = AtomicBoolean()
    val failed = AtomicBoolean()

    def reset(): Unit =
      Seq(ids, buffered).foreach(_.clear())
      Seq(fail, failed).foreach(_.set(false))

  /** An endpoint that accepts connections and never answers. */
  private final class Silent extends AutoCloseable:
    private val socket = ServerSocket(0, 50, InetAddress.getLoopbackAddress)
    val accepted = CopyOnWriteArrayList[Socket]()
    private val thread = Thread: () =>
      try while true do accepted.add(socket.accept())
      catch case _: SocketException => () // Closed: the test is over.
    thread.setDaemon(true)
    thread.start()

    val options: CosmosDBOptions = CosmosDBOptions(
      "endpoint" -> s"http://127.0.0.1:${socket.getLocalPort}/",
      "database" -> "orders",
      "auth.secret-key" -> "c2VjcmV0"
    )

    override def close(): Unit =
      socket.close()
      accepted.forEach(_.close())

/** What goes wrong around a job, and what Flink asks of a connector beyond reading and writing. On a MiniCluster against a local Cosmos. */
final class ResilienceITCase extends AnyFunSuite, Matchers, BeforeAndAfterAll, BeforeAndAfterEach, TimeLimits:
  import ResilienceITCase.*

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
  private var jobs = List.empty[JobClient]

  override protected def beforeAll(): Unit =
    cluster.before()
    TestStreamEnvironment.setAsContext(cluster.getMiniCluster, 2)

  override protected def afterAll(): Unit =
    TestStreamEnvironment.unsetAsContext()
    cluster.after()

  override protected def beforeEach(): Unit =
    cosmos = LocalCosmos.start("events-source:/customerId:4", "events-processed:/region:2", "dead-letter:/container:1")
    Seen.reset()

  override protected def afterEach(): Unit =
    jobs.filterNot(_.getJobStatus.get.isGloballyTerminalState).foreach(_.cancel().get())
    jobs = Nil
    cosmos.close()

  /** Restarts often, so that what is unrecoverable ends a job in another way than what is tried again. */
  private def environment(settings: (String, String)*): StreamExecutionEnvironment =
    val configuration = Configuration()
    configuration.set(RestartStrategyOptions.RESTART_STRATEGY, "fixed-delay")
    configuration.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_ATTEMPTS, Int.box(20))
    configuration.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_DELAY, Duration.ofMillis(100))
    configuration.set(PipelineOptions.GENERIC_TYPES, Boolean.box(false))
    configuration.set(CheckpointingOptions.CHECKPOINTING_INTERVAL, Duration.ofMillis(200))
    settings.foreach(configuration.setString(_, _))
    val env = StreamExecutionEnvironment.getExecutionEnvironment(configuration)
    env.setParallelism(2)
    env

  private def submit(env: StreamExecutionEnvironment): JobClient =
    val job = env.executeAsync()
    jobs ::= job
    job

  private def source(options: (String, String)*): CosmosDBSource[Timed] = source(EventTime.ofService[Timed], options*)

  private def source(time: EventTime[Timed], options: (String, String)*): CosmosDBSource[Timed] =
    val all = cosmos.options("events-source") + ("scan.page-size" -> "50") ++ CosmosDBOptions(options*)
    CosmosDBSource[Timed](all, container = "events-source", startup = Startup.Earliest, eventTime = time)

  private def copy(
      settings: Seq[(String, String)] = Nil,
      failOnce: Boolean = false,
      source: CosmosDBSource[Timed] = source(),
      sink: Seq[(String, String)] = Nil
  ) =
    val env = environment(settings*)
    env
      .cosmos(source, "source")
      .uid("source")
      .map(Seen(failOnce), FlinkType[Timed].info)
      .uid("seen")
      .rebalance()
      .mapTo(order => Stored(order.id, Some("eu")))
      .sinkTo(
        CosmosDBSink[Stored](
          cosmos.options("events-processed") ++ CosmosDBOptions(sink*),
          container = "events-processed"
        )
      )
      .uid("sink")
    submit(env)

  private def stored(job: JobClient, count: Long): Unit =
    LocalCosmos.await(s"$count documents", limit):
      val status = job.getJobStatus.get
      if status.isGloballyTerminalState then fail(s"the job is $status: ${whyFailed(job)}")
      cosmos.count("events-processed") >= count

  private def whyFailed(job: JobClient): String = why(job.getJobExecutionResult.get(60, TimeUnit.SECONDS))

  private def why(body: => Any): String = Try(body) match
    case Failure(e) => Iterator.iterate(e)(_.getCause).takeWhile(_ != null).mkString("\n")
    case Success(_) => fail("it did not fail")

  private def order(id: String, customer: String, minutes: Long): Operation = Operation.upsert(
    id,
    PartitionKey(customer).json,
    s"""{"id":"$id","customerId":"$customer","minutes":$minutes}""".getBytes(UTF_8)
  )

  private def orders(numbers: Range): Seq[Operation] = numbers.map(i => order(s"o$i", s"c${i % 97}", i))

  private def savepoint(job: JobClient, drain: Boolean): String =
    val folder = Files.createTempDirectory("savepoint").toUri.toString
    job.stopWithSavepoint(drain, folder, SavepointFormatType.CANONICAL).get(60, TimeUnit.SECONDS)

  private val unrecoverable = classOf[CosmosDBUnrecoverableException].getName

  test("a job that stops with drain has written everything"):
    cosmos.write("events-source", orders(0 until 1000))
    // Each request takes two seconds and all records are there in less, so that the drain has something to do.
    cosmos.admin("POST", "faults", """{"container":"events-processed","operations":"bulk","delayMillis":2000}""")
    val job = copy(
      Seq("execution.checkpointing.interval" -> "1 h"),
      sink = Seq("sink.buffer-flush.max-rows" -> "2000", "sink.buffer-flush.interval" -> "600000")
    )
    LocalCosmos.await("all records", limit)(Seen.buffered.size == 1000)
    withClue("before the drain: ")(cosmos.count("events-processed") should be < 1000L)
    savepoint(job, drain = true)
    job.getJobExecutionResult.get(60, TimeUnit.SECONDS)
    job.getJobStatus.get shouldBe JobStatus.FINISHED
    cosmos.count("events-processed") shouldBe 1000

  private def checkpoints(job: JobClient): CheckpointStatsSnapshot | Null =
    cluster.getMiniCluster.getExecutionGraph(job.getJobID).get.getCheckpointStatsSnapshot

  private def inFlight(stats: AbstractCheckpointStats | Null): Boolean = stats match
    case completed: CompletedCheckpointStats => completed.isUnalignedCheckpoint && completed.getPersistedData > 0
    case _ => false

  /** The checkpoint that is restored has records in it that were on their way, because the sink holds the job back. */
  test("unaligned checkpoints lose nothing"):
    cosmos.write("events-source", orders(0 until 2000))
    cosmos.admin("POST", "faults", """{"container":"events-processed","delayMillis":100}""")
    val unaligned = Seq(
      "execution.checkpointing.unaligned.enabled" -> "true",
      "execution.checkpointing.aligned-checkpoint-timeout" -> "0 ms"
    )
    val slow =
      Seq(
        "sink.buffer-flush.max-rows" -> "5",
        "sink.max-buffered-requests" -> "6",
        "sink.max-in-flight-requests" -> "1"
      )
    val job = copy(unaligned, failOnce = true, sink = slow)
    LocalCosmos.await("an unaligned checkpoint with records on their way", limit):
      Option(checkpoints(job)).exists(stats => inFlight(stats.getHistory.getLatestCompletedCheckpoint))
    Seen.fail.set(true)
    // All that there were may have come by already.
    cosmos.write("events-source", orders(2000 until 2100))
    LocalCosmos.await("the restore", limit)(Option(checkpoints(job)).exists(_.getLatestRestoredCheckpoint != null))
    val stats = checkpoints(job).nn
    val restored = stats.getHistory.getCheckpointById(stats.getLatestRestoredCheckpoint.getCheckpointId)
    withClue(s"restored $restored: ")(inFlight(restored) shouldBe true)
    cosmos.admin("DELETE", "faults", "")
    stored(job, 2100)
    cosmos.read("events-processed").size shouldBe 2100

  test("a split that is ahead waits for the others"):
    def behind(minutes: Long) = (0 until 16).map(i => order(s"b$i-$minutes", s"b$i", minutes))
    cosmos.write("events-source", behind(0))
    withClue("every split has a watermark: ")(cosmos.partitions("events-source").foreach(_ should be > 0L))
    cosmos.write("events-source", (0 until 1000).map(i => order(s"a$i", "a", i)))
    // So that a hundred pages take longer than it takes Flink to compare the splits.
    cosmos.admin("POST", "faults", """{"operations":"changeFeed","delayMillis":20}""")
    val env = environment()
    env.setParallelism(1)
    val watermarks = WatermarkStrategy
      .forMonotonousTimestamps[Timed]()
      .withIdleness(Duration.ofMinutes(5))
      .withWatermarkAlignment("orders", Duration.ofMinutes(100), Duration.ofMillis(50))
    env
      .cosmos(source((order, _) => order.minutes * 60_000, "scan.page-size" -> "10"), "source", watermarks)
      .map(Seen(false), FlinkType[Timed].info)
      .sinkTo(DiscardingSink[Timed]())
    val job = submit(env)
    def paused = reporter
      .findMetrics(job.getJobID, ".*\\.splitsPaused")
      .values
      .asScala
      .collect { case gauge: Gauge[?] => gauge.getValue.toString.toLong }
      .sum
    LocalCosmos.await("a split that is paused", limit)(paused > 0)
    // What was fetched before the pause arrives; then there is nothing more until the others go on.
    var (last, since) = (-1, Deadline.now)
    LocalCosmos.await("the records to stop", limit):
      if Seen.ids.size != last then
        last = Seen.ids.size
        since = Deadline.now
      Deadline.now - since > 1.second
    last should be < 900
    cosmos.write("events-source", behind(2000))
    LocalCosmos.await("all records", limit)(Seen.ids.size == 1032)
    LocalCosmos.await("the end of the pause", limit)(paused == 0)

  for side <- Seq("source", "sink") do
    test(s"a job whose opening hangs is canceled at once: $side"):
      Using.resource(Silent()): silent =>
        val env = environment()
        if side == "sink" then
          env
            .fromData(java.util.List.of(Stored("a", None)), FlinkType[Stored].info)
            .sinkTo(CosmosDBSink[Stored](silent.options, container = "events"))
        else
          env
            .cosmos(CosmosDBSource.raw(silent.options, "events"), "source")
            .sinkTo(DiscardingSink[ChangeRecord]())
        val job = submit(env)
        LocalCosmos.await("a connection", limit)(!silent.accepted.isEmpty)
        endsAtOnce(job)

  private def endsAtOnce(job: JobClient): Unit =
    val began = Deadline.now
    job.cancel().get(60, TimeUnit.SECONDS)
    LocalCosmos.await("the end", limit)(job.getJobStatus.get == JobStatus.CANCELED)
    (Deadline.now - began) should be < 10.seconds

  /** Restored, so that there are splits without a discovery, and it is a reader that hangs. */
  test("a job whose readers hang is canceled at once"):
    cosmos.write("events-source", orders(0 until 100))
    val first = copy()
    stored(first, 100)
    val before = savepoint(first, drain = false)
    val many = 1_000_000
    cosmos.admin("POST", "faults", s"""{"hang":true,"container":"events-source","count":$many}""")
    val undiscovered = source("scan.discovery-interval" -> "0")
    val job = copy(Seq("execution.state-recovery.path" -> before), source = undiscovered)
    LocalCosmos.await("a request that hangs", limit):
      """"count":(\d+)""".r.findFirstMatchIn(cosmos.admin("GET", "faults", "").toString).exists(_.group(1).toInt < many)
    endsAtOnce(job)
    cosmos.admin("DELETE", "faults", "")

  test("a container that is deleted ends the source"):
    cosmos.write("events-source", orders(0 until 100))
    val job = copy()
    stored(job, 100)
    cosmos.delete("events-source")
    whyFailed(job) should (include(unrecoverable) and include("events-source"))

  for mode <- Seq("fail", "skip", "dead-letter") do
    test(s"a container that is deleted ends the sink, and no record is dropped for it: $mode"):
      cosmos.write("events-source", orders(0 until 100))
      val letters = Option.when(mode == "dead-letter")("sink.dead-letter-container" -> "dead-letter")
      val job = copy(sink = Seq("sink.failure-mode" -> mode) ++ letters)
      stored(job, 100)
      cosmos.delete("events-processed")
      cosmos.write("events-source", orders(100 until 200))
      whyFailed(job) should (include(unrecoverable) and include("events-processed"))
      cosmos.count("dead-letter") shouldBe 0

  test("a sink whose container was created anew restarts and goes on"):
    cosmos.write("events-source", orders(0 until 100))
    val job = copy()
    stored(job, 100)
    cosmos.delete("events-processed")
    cosmos.create("events-processed", "/region")
    cosmos.write("events-source", orders(100 until 200))
    stored(job, 100)
    cosmos.read("events-processed").keySet should contain allElementsOf (100 until 200).map(i => s"""["eu"]o$i""")
    job.getJobStatus.get shouldBe JobStatus.RUNNING

  test("a document of a model whose id has another name is stored under it"):
    val env = environment()
    env
      .fromData(java.util.List.of(Payment("n1", "eu")), FlinkType[Payment].info)
      .sinkTo(CosmosDBSink[Payment](cosmos.options("events-processed"), container = "events-processed"))
    env.execute()
    val stored = cosmos.read("events-processed")
    stored.keySet shouldBe Set("""["eu"]n1""")
    stored.values.flatMap(_.get("number")).toList shouldBe List(Json.Str("n1"))

  test("a restore onto a container that was created anew fails for good"):
    cosmos.write("events-source", orders(0 until 100))
    val first = copy()
    stored(first, 100)
    val before = savepoint(first, drain = false)
    cosmos.delete("events-source")
    cosmos.create("events-source", "/customerId")
    cosmos.write("events-source", orders(100 until 200))
    val why = whyFailed(copy(Seq("execution.state-recovery.path" -> before)))
    why should (include(unrecoverable) and include("events-source"))

  private def write(sink: Seq[(String, String)], values: Stored*): Unit =
    val env = environment("restart-strategy.type" -> "none")
    env
      .fromData(values.asJava, FlinkType[Stored].info)
      .sinkTo(
        CosmosDBSink[Stored](
          cosmos.options("events-processed") ++ CosmosDBOptions(sink*),
          container = "events-processed"
        )
      )
    env.execute()
    ()

  private val large = Stored("large", Some("eu"), Some("x" * (3 << 20)))
  private def good(id: String) = Stored(id, Some("eu"))

  test("records that cannot be written fail the job and say why"):
    val all = why(write(Nil, good("throws1")))
    all should (include("no write could be made of the record with id 'throws1'") and include("no amount"))

  test("records that cannot be written are skipped"):
    write(Seq("sink.failure-mode" -> "skip"), good("a"), good("throws1"), large, good("b"))
    cosmos.read("events-processed").keySet shouldBe Set("""["eu"]a""", """["eu"]b""")

  test("records that cannot be written become dead letters"):
    val mode = Seq("sink.failure-mode" -> "dead-letter", "sink.dead-letter-container" -> "dead-letter")
    write(mode, good("a"), good("throws1"), large, good("b"))
    cosmos.read("events-processed").size shouldBe 2
    val letters = cosmos.read("dead-letter").values.map(l => l.get("documentId").mkString -> s"$l").toMap
    letters.keySet shouldBe Set("\"throws1\"", "\"large\"")
    letters("\"throws1\"") should include("no amount")
    letters("\"large\"") should (include("too large") and include("xxx"))

  test("a document without its partition key is written under the undefined one"):
    write(Nil, Stored("none", None), good("a"))
    cosmos.read("events-processed").keySet shouldBe Set("[{}]none", """["eu"]a""")
