package io.cosmosflink.scaladsl

import io.cosmosflink.core.{CosmosException, Operation}
import org.apache.flink.api.common.RuntimeExecutionMode
import org.apache.flink.api.common.eventtime.WatermarkStrategy
import org.apache.flink.api.common.functions.{MapFunction, RichMapFunction}
import org.apache.flink.api.common.state.{CheckpointListener, ListState, ListStateDescriptor}
import org.apache.flink.api.connector.source.{Boundedness, Source, SplitEnumerator}
import org.apache.flink.configuration.{Configuration, RestartStrategyOptions}
import org.apache.flink.core.execution.JobClient
import org.apache.flink.runtime.state.{FunctionInitializationContext, FunctionSnapshotContext}
import org.apache.flink.runtime.testutils.{InMemoryReporter, MiniClusterResourceConfiguration}
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction
import org.apache.flink.streaming.api.datastream.DataStream
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink
import org.apache.flink.streaming.util.TestStreamEnvironment
import org.apache.flink.test.util.MiniClusterWithClientResource
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers
import org.scalatest.{BeforeAndAfterAll, BeforeAndAfterEach}

import java.nio.charset.StandardCharsets.UTF_8
import java.time.Duration
import java.util.List as JavaList
import java.util.concurrent.CopyOnWriteArrayList
import java.util.concurrent.atomic.{AtomicBoolean, AtomicInteger, AtomicLong}

import scala.concurrent.duration.*
import scala.jdk.CollectionConverters.*
import scala.util.Using

object BoundedITCase:
  val documents = 2000

  val ids: RecordReader[String] = (record, emit) => Right(emit(record.id))

  /** Fails once, if it shall: when a checkpoint is complete that was taken after so many orders. */
  final class FailingOnce extends MapFunction[String, String], CheckpointListener, CheckpointedFunction:
    import FailingOnce.*

    override def map(id: String): String =
      if id.startsWith("o") && orders.incrementAndGet() == behindOrders.get then before.set(complete.get)
      if fails.get && before.get < Long.MaxValue && !failed.get then
        // The one after the next was not under way yet.
        if complete.get >= before.get + 2 && failed.compareAndSet(false, true) then
          throw IllegalStateException("as the test wants it")
        // What is left is to last until then: between pages there is time for a checkpoint.
        Thread.sleep(2)
      // Long enough that a checkpoint is asked for within the page.
      if failsAtTheEnd.get && !failed.get then Thread.sleep(1)
      id

    override def initializeState(context: FunctionInitializationContext): Unit = ()

    override def snapshotState(context: FunctionSnapshotContext): Unit =
      if orders.get >= behindOrders.get then behind.accumulateAndGet(context.getCheckpointId, math.min(_, _))

    override def notifyCheckpointComplete(id: Long): Unit =
      complete.accumulateAndGet(id, math.max(_, _))
      if failsAtTheEnd.get && id >= behind.get && failed.compareAndSet(false, true) then
        throw IllegalStateException("as the test wants it")

  /** The second reader fails once the first one has ended, which no checkpoint has; from then on the first one is the slower one. */
  final class EndingFirst extends RichMapFunction[String, String], CheckpointListener:
    import EndingFirst.*

    override def map(id: String): String =
      if getRuntimeContext.getTaskInfo.getIndexOfThisSubtask == 0 then
        first.incrementAndGet()
        if failed.get || !held.get then Thread.sleep(2)
      else if !failed.get then
        if complete.get < 2 then Thread.sleep(2)
        else
          // No checkpoint is complete from here on.
          held.set(true)
          var before = -1L
          while before < first.get do
            before = first.get
            Thread.sleep(500)
          failed.set(true)
          throw IllegalStateException("as the test wants it")
      id

    override def notifyCheckpointComplete(id: Long): Unit = complete.accumulateAndGet(id, math.max(_, _))

  object EndingFirst:
    val held, failed = AtomicBoolean()
    val complete, first = AtomicLong()

    def reset(): Unit =
      Seq(held, failed).foreach(_.set(false))
      Seq(complete, first).foreach(_.set(0))

  /** Keeps what came in its state: after a failure what the state has, and what came since. */
  final class Kept extends MapFunction[String, String], CheckpointedFunction:
    @transient private var own: CopyOnWriteArrayList[String] = scala.compiletime.uninitialized
    @transient private var state: ListState[String] = scala.compiletime.uninitialized

    override def map(id: String): String =
      own.add(id)
      id

    override def initializeState(context: FunctionInitializationContext): Unit =
      state = context.getOperatorStateStore.getListState(ListStateDescriptor("ids", classOf[String]))
      own = CopyOnWriteArrayList()
      state.get().forEach(own.add(_))
      Kept.ids = own

    override def snapshotState(context: FunctionSnapshotContext): Unit = state.update(own)

  object Kept:
    /** What the last attempt has. */
    @volatile var ids: JavaList[String] = JavaList.of()

  object FailingOnce:
    /** Whether it is to fail, and whether, in place of that, when the first checkpoint is complete that has all orders. */
    val fails, failsAtTheEnd, failed = AtomicBoolean()

    /** How many orders come before that; all of them unless set. */
    val behindOrders = AtomicInteger()

    /** How many orders came, those that came again too. */
    val orders = AtomicInteger()

    /** The last checkpoint that is complete, and the one that was when the last order came. */
    val complete, before = AtomicLong()

    /** The first checkpoint that has all orders. */
    val behind = AtomicLong()

    def reset(): Unit =
      Seq(fails, failsAtTheEnd, failed).foreach(_.set(false))
      behindOrders.set(documents)
      orders.set(0)
      complete.set(0)
      before.set(Long.MaxValue)
      behind.set(Long.MaxValue)

  /** What another source's enumerator would be. */
  final class ForeignEnumerator extends SplitEnumerator[CosmosDBSplit, CosmosDBSourceState]:
    override def start(): Unit = ()
    override def handleSplitRequest(subtask: Int, host: String | Null): Unit = ()
    override def addSplitsBack(splits: JavaList[CosmosDBSplit], subtask: Int): Unit = ()
    override def addReader(subtask: Int): Unit = ()
    override def snapshotState(checkpoint: Long): CosmosDBSourceState = throw UnsupportedOperationException()
    override def close(): Unit = ()

/** Sources that end, in streaming and in batch mode, and what goes on behind them. */
final class BoundedITCase extends AnyFunSuite, Matchers, BeforeAndAfterAll, BeforeAndAfterEach:
  import BoundedITCase.*

  /** Fewer slots than the jobs have readers. */
  private val reporter = InMemoryReporter.create()
  private val cluster = MiniClusterWithClientResource(
    MiniClusterResourceConfiguration
      .Builder()
      .setConfiguration(reporter.addToConfiguration(Configuration()))
      .setNumberTaskManagers(1)
      .setNumberSlotsPerTaskManager(2)
      .build()
  )
  private val limit = 60.seconds

  private var cosmos: LocalCosmos = null

  override protected def beforeAll(): Unit =
    cluster.before()
    TestStreamEnvironment.setAsContext(cluster.getMiniCluster, 2)

  override protected def afterAll(): Unit =
    TestStreamEnvironment.unsetAsContext()
    cluster.after()

  override protected def beforeEach(): Unit =
    cosmos = LocalCosmos.start("c:/customerId:4")
    cosmos.write("c", orders(0 until documents))
    FailingOnce.reset()
    Kept.ids = JavaList.of()

  override protected def afterEach(): Unit = cosmos.close()

  private def orders(numbers: Range): Seq[Operation] = written("o", numbers)(i => s"c${i % 97}")

  private def written(prefix: String, numbers: Range)(customer: Int => String): Seq[Operation] = numbers.map: i =>
    val (id, key) = (s"$prefix$i", customer(i))
    Operation.upsert(id, s"""["$key"]""", s"""{"id":"$id","customerId":"$key","amount":$i}""".getBytes(UTF_8))

  private def environment(mode: RuntimeExecutionMode, parallelism: Int): StreamExecutionEnvironment =
    val settings = Configuration()
    settings.set(RestartStrategyOptions.RESTART_STRATEGY, "fixed-delay")
    settings.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_ATTEMPTS, Int.box(2))
    settings.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_DELAY, Duration.ofMillis(100))
    val env = StreamExecutionEnvironment.getExecutionEnvironment(settings)
    env.setRuntimeMode(mode)
    env.setParallelism(parallelism)
    env

  /** Runs a job to its end. */
  private def run(env: StreamExecutionEnvironment, source: Source[String, ?, ?]): Seq[String] =
    env
      .fromSource(source, WatermarkStrategy.noWatermarks[String], "source")
      .map(FailingOnce(), FlinkType[String].info)
      .executeAndCollect(100_000)
      .asScala
      .toSeq

  private def source(options: (String, String)*): CosmosDBSource[String] =
    CosmosDBSource.of(cosmos.options("c").+(options*), "c", ids)

  test("in batch mode each document comes once, also with more readers than slots and splits"):
    val bounded = CosmosDBSource.of(cosmos.options("c"), "c", ids, bounded = Bounded.Latest)
    bounded.getBoundedness shouldBe Boundedness.BOUNDED
    val read = run(environment(RuntimeExecutionMode.BATCH, 6), bounded)
    read.size shouldBe documents
    read.toSet shouldBe (0 until documents).map(i => s"o$i").toSet

  test("a query is read in batch mode"):
    val query = source(
      "scan.query" -> "SELECT c.id FROM c WHERE c.amount < @most",
      "scan.query-parameters" -> """{"@most": 500}"""
    )
    run(environment(RuntimeExecutionMode.BATCH, 2), query).sorted shouldBe (0 until 500).map(i => s"o$i").sorted

  test("documents are read by key"):
    val keys = Seq(3, 700, 1999).map(i => s"""{"id":"o$i","partitionKey":["c${i % 97}"]}""").mkString("[", ",", "]")
    val read = run(environment(RuntimeExecutionMode.BATCH, 2), source("scan.read-many" -> keys))
    read.sorted shouldBe Seq("o1999", "o3", "o700")

  // The checkpoint that it goes on from knows that three of the four splits have ended.
  test("after a failure the rest is read, and nothing twice"):
    val tail = 3000
    // Of one key, and so of one split, behind all else that it has.
    cosmos.write("c", written("t", 0 until tail)(_ => "c0"))
    val env = environment(RuntimeExecutionMode.STREAMING, 2)
    env.enableCheckpointing(50)
    FailingOnce.fails.set(true)
    val read = run(env, source("scan.bounded.mode" -> "latest", "scan.page-size" -> "20"))
    FailingOnce.failed.get shouldBe true
    withClue("not begun anew, and no split read that had ended: ")(FailingOnce.orders.get shouldBe documents)
    read.size shouldBe documents + tail
    read.distinct.size shouldBe documents + tail

  // Its answer is one page: a checkpoint that is asked for meanwhile is taken behind it, and before the split ends.
  test("an answer without positions comes once, also after a failure"):
    val env = environment(RuntimeExecutionMode.STREAMING, 1)
    env.enableCheckpointing(50)
    // The most that the driver holds of such an answer.
    val most = 1000
    FailingOnce.failsAtTheEnd.set(true)
    FailingOnce.behindOrders.set(most)
    val read = run(env, source("scan.query" -> "SELECT DISTINCT TOP 1000 c.id FROM c"))
    FailingOnce.failed.get shouldBe true
    (read.size, read.distinct.size) shouldBe (most, most)

  test("what the driver refuses is refused when the source is made"):
    val refused = the[CosmosException] thrownBy source("scan.query" -> "SELECT COUNT(1) FROM c")
    refused.getMessage should (include("COUNT") and include("aggregate in Flink"))

  /** A bounded source, and the change feed from where it stops. */
  private def feedBehind(env: StreamExecutionEnvironment, first: CosmosDBSource[String]): DataStream[String] =
    val options = cosmos.options("c")
    val hybrid = first.followedBy(start => CosmosDBSource.of(options, "c", ids, start))
    env.fromSource(hybrid, WatermarkStrategy.noWatermarks[String], "hybrid", FlinkType[String].info)

  test("the change feed goes on behind a query without a gap"):
    val env = environment(RuntimeExecutionMode.STREAMING, 2)
    env.enableCheckpointing(100)
    val stream = feedBehind(env, source("scan.query" -> "SELECT * FROM c", "scan.bounded.mode" -> "latest"))
    Using.resource(stream.collectAsync()): read =>
      val job = env.executeAsync("hybrid")
      def sum(gauge: String) = Gauges.sum(reporter, job, s".*\\.cosmosdb\\.$gauge")
      val seen = scala.collection.mutable.Set.empty[String]
      while seen.size < documents do seen += read.next()
      cosmos.write("c", orders(documents until documents + 300))
      while seen.size < documents + 300 do seen += read.next()
      seen.toSet shouldBe (0 until documents + 300).map(i => s"o$i").toSet
      // The readers of the query are gone, and had the gauges first.
      LocalCosmos.await("the gauges of the feed's readers", limit)(sum("splits") == 4)
      val requests = sum("requests")
      LocalCosmos.await("requests for changes", limit)(sum("requests") > requests + 4)

  /** Runs a query in small pages and the change feed behind it: what comes of them goes through `failing`, and is kept. */
  private def changesBehindATable(failing: MapFunction[String, String]): JobClient =
    val env = environment(RuntimeExecutionMode.STREAMING, 2)
    env.enableCheckpointing(50)
    val query = source("scan.query" -> "SELECT * FROM c", "scan.bounded.mode" -> "latest", "scan.page-size" -> "20")
    feedBehind(env, query)
      .map(failing, FlinkType[String].info)
      .map(Kept(), FlinkType[String].info)
      .setParallelism(1)
      .sinkTo(DiscardingSink[String]())
    env.executeAsync("hybrid")

  // Within the query, and within the feed behind it, which nobody is there to tell where to begin.
  for behind <- Seq(documents / 2, documents) do
    test(s"a table and its changes come once, also after a failure behind $behind of $documents orders"):
      FailingOnce.fails.set(true)
      FailingOnce.behindOrders.set(behind)
      val job = changesBehindATable(FailingOnce())
      try
        LocalCosmos.await("the table", limit):
          FailingOnce.before.get < Long.MaxValue && Kept.ids.size >= documents
        // In the feed the next change fails.
        LocalCosmos.await("checkpoints", limit)(FailingOnce.complete.get >= FailingOnce.before.get + 2)
        cosmos.write("c", orders(documents until documents + 300))
        LocalCosmos.await("the failure", limit)(FailingOnce.failed.get)
        LocalCosmos.await("the changes", limit)(Kept.ids.asScala.toSet.size >= documents + 300)
      finally job.cancel().get()
      val came = Kept.ids.asScala.toSeq.sorted
      val table = (0 until documents).map(i => s"o$i").sorted
      came.filter(table.toSet) shouldBe table
      // A query that begins anew reads some of what is written meanwhile, which comes as a change all the same.
      val once = if behind < documents then came.distinct else came
      once shouldBe (0 until documents + 300).map(i => s"o$i").sorted

  test("the change feed waits for a reader that was restored"):
    EndingFirst.reset()
    val job = changesBehindATable(EndingFirst())
    try
      LocalCosmos.await("the failure", limit)(EndingFirst.failed.get)
      LocalCosmos.await("the table", limit)(Kept.ids.size >= documents)
    finally job.cancel().get()
    Kept.ids.asScala.toSeq.sorted shouldBe (0 until documents).map(i => s"o$i").sorted

  test("nothing goes on behind a source without positions"):
    val env = environment(RuntimeExecutionMode.STREAMING, 2)
    val failure =
      intercept[Exception](feedBehind(env, source("scan.query" -> "SELECT * FROM c")).executeAndCollect(9999))
    Iterator.iterate[Throwable](failure)(_.getCause).takeWhile(_ != null).map(_.toString).mkString("\n") should
      (include("CosmosDBUnrecoverableException: nothing can go on behind this source") and include(
        "set its scan.bounded.mode to latest"
      ))
    val foreign =
      the[IllegalArgumentException] thrownBy
        CosmosDBSource.of(cosmos.options("c"), "c", ids, Startup.Behind(ForeignEnumerator()))
    foreign.getMessage should include("CosmosDBSource")
