package io.cosmosflink.scaladsl

import io.cosmosflink.core.CosmosException
import io.cosmosflink.core.{Operation, OperationKind}
import org.apache.flink.api.common.functions.MapFunction
import org.apache.flink.configuration.{Configuration, PipelineOptions, RestartStrategyOptions}
import org.apache.flink.core.execution.JobClient
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
import org.apache.flink.streaming.util.TestStreamEnvironment
import org.apache.flink.test.util.MiniClusterWithClientResource
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers
import org.scalatest.{BeforeAndAfterAll, BeforeAndAfterEach}

import java.nio.charset.StandardCharsets.UTF_8
import java.time.{Duration, Instant}
import java.util.concurrent.atomic.AtomicInteger

import scala.concurrent.duration.*
import scala.util.Try

object AllVersionsITCase:
  val documents = 3000

  final case class Placed(id: String, @partitionKey customerId: String, amount: Long)
      derives JsonDecoder,
        JsonEncoder,
        DocumentKey,
        FlinkType

  /** What makes a replica of a change. */
  def write(change: Change[Placed]): Write[Placed] = change match
    case Change.Deleted(of, _, _) => Write.Delete(of.id, of.partitionKey)
    case Change.Upserted(_, order) => Write.Upsert(order)
    case Change.Created(_, order) => Write.Upsert(order)
    case Change.Replaced(_, order, _) => Write.Upsert(order)

  /** Fails while the container is read, and with the first deletions behind that. */
  final class Failing extends MapFunction[Change[Placed], Change[Placed]]:
    override def map(change: Change[Placed]): Change[Placed] =
      val fails = Failing.read.incrementAndGet() == documents / 3 ||
        (change.current.isEmpty && Failing.deleted.incrementAndGet() == documents / 8)
      if fails then
        Failing.failures.incrementAndGet()
        throw IllegalStateException("as the test wants it")
      change

  object Failing:
    val failures, read, deleted = AtomicInteger()

/** All versions and deletes on a MiniCluster against a local Cosmos that keeps them, over the real library. */
final class AllVersionsITCase extends AnyFunSuite, Matchers, BeforeAndAfterAll, BeforeAndAfterEach:
  import AllVersionsITCase.*

  private val limit = 60.seconds

  private val cluster = MiniClusterWithClientResource(
    MiniClusterResourceConfiguration.Builder().setNumberTaskManagers(1).setNumberSlotsPerTaskManager(4).build()
  )

  private var cosmos: LocalCosmos = null

  override protected def beforeAll(): Unit =
    cluster.before()
    TestStreamEnvironment.setAsContext(cluster.getMiniCluster, 2)

  override protected def afterAll(): Unit =
    TestStreamEnvironment.unsetAsContext()
    cluster.after()

  override protected def beforeEach(): Unit =
    cosmos = LocalCosmos.start("--all-versions", "events-source:/customerId:2", "replica:/customerId:2")

  override protected def afterEach(): Unit = cosmos.close()

  private def source(options: CosmosDBOptions, startup: Startup): CosmosDBSource[Change[Placed]] =
    CosmosDBSource.changes[Placed](options, "events-source", startup, mode = FeedMode.AllVersionsAndDeletes)

  private def replicate(): JobClient =
    val configuration = Configuration()
    configuration.set(RestartStrategyOptions.RESTART_STRATEGY, "fixed-delay")
    configuration.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_ATTEMPTS, Int.box(5))
    configuration.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_DELAY, Duration.ofMillis(100))
    configuration.set(PipelineOptions.GENERIC_TYPES, Boolean.box(false))
    val env = StreamExecutionEnvironment.getExecutionEnvironment(configuration)
    env.setParallelism(2)
    env.enableCheckpointing(100)
    val options = cosmos.options("events-source") + ("scan.page-size" -> "50")
    env
      .cosmos(source(options, Startup.Initial), "source")
      .uid("source")
      .map(Failing(), FlinkType[Change[Placed]].info)
      .uid("failing")
      .mapTo(write)
      .sinkTo(CosmosDBSink.writes[Placed](options, container = "replica"))
      .uid("sink")
    env.executeAsync("replicate")

  private def amounts(container: String) = cosmos.read(container).view.mapValues(_.get("amount").mkString).toMap

  /** Waits until the replica has what the container has. */
  private def replicated(job: JobClient): Unit =
    val expected = amounts("events-source")
    LocalCosmos.await("the replica", limit):
      if job.getJobStatus.get.isGloballyTerminalState then
        fail("the job has ended", Try(job.getJobExecutionResult.get).failed.toOption.orNull)
      cosmos.count("replica") == expected.size && amounts("replica") == expected

  private def key(i: Int) = s"""["c${i % 97}"]"""

  private def orders(numbers: Range, amount: Int): Seq[Operation] = numbers.map: i =>
    Operation.upsert(
      s"o$i",
      key(i),
      s"""{"id":"o$i","customerId":"c${i % 97}","amount":$amount}""".getBytes(UTF_8)
    )

  private def deleted(numbers: Range): Seq[Operation] =
    numbers.map(i => Operation(OperationKind.DELETE, s"o$i", key(i), "", Array.emptyByteArray))

  test("a replica with its deletes is the container"):
    cosmos.write("events-source", orders(0 until documents, 0))
    val job = replicate()
    LocalCosmos.await("the first page", limit)(cosmos.count("replica") > 0)
    // While the container is read, at the seam, behind it, and across a failure in each.
    cosmos.write(
      "events-source",
      orders(0 until documents / 4, 1) ++ deleted(documents / 4 until documents / 2) ++
        orders(documents until documents + 100, 2)
    )
    replicated(job)
    cosmos.admin("POST", "split", """{"database":"orders","container":"events-source","partition":0}""")
    cosmos.write("events-source", deleted(0 until documents by 7) ++ orders(0 until 100, 3))
    replicated(job)
    job.cancel().get()
    Failing.failures.get shouldBe 2

  test("what cannot be read is refused when the job is defined"):
    val options = cosmos.options("events-source")
    def refused(source: => CosmosDBSource[?]) = (the[CosmosException] thrownBy source).getMessage
    val all = options + ("scan.change-feed.mode" -> "all-versions-and-deletes", "scan.startup.mode" -> "latest")
    refused(CosmosDBSource[Placed](all, "events-source")) should (include("delete") and include("changes"))
    Seq(Startup.Earliest, Startup.Timestamp(Instant.EPOCH)).foreach: start =>
      refused(source(options, start)) should
        (include("latest") and include("initial"))
    refused(CosmosDBSource[Placed](options, "events-source", Startup.Initial)) should include("latest-version")
    CosmosDBSource.raw(all, "events-source").toString should include("all-versions-and-deletes")
    CosmosDBSource.of(all, "events-source", RecordReader.documents[Placed].withoutDeletes).toString should
      include("all-versions-and-deletes")
    // Without a mode it is the latest versions, as everywhere.
    CosmosDBSource.changes[Placed](options, "events-source").toString should
      (include("scan.change-feed.mode=latest-version") and include("scan.startup.mode=earliest"))
