package io.cosmosflink.scaladsl

import io.cosmosflink.core.Operation
import io.cosmosflink.core.PartitionKeys
import org.apache.flink.api.common.JobStatus
import org.apache.flink.api.common.eventtime.WatermarkStrategy
import org.apache.flink.api.common.functions.MapFunction
import org.apache.flink.configuration.{Configuration, RestartStrategyOptions}
import org.apache.flink.core.execution.{JobClient, SavepointFormatType}
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink
import org.apache.flink.streaming.util.TestStreamEnvironment
import org.apache.flink.test.util.MiniClusterWithClientResource
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers
import org.scalatest.{BeforeAndAfterAll, BeforeAndAfterEach}

import java.nio.charset.StandardCharsets.UTF_8
import java.nio.file.Files
import java.time.Duration
import java.util.concurrent.{ConcurrentLinkedQueue, TimeUnit}

import scala.concurrent.duration.*
import scala.jdk.CollectionConverters.*
import scala.util.{Failure, Try}

object HandoverITCase:
  final case class Order(id: String, customerId: String) derives JsonDecoder, FlinkType

  /** Remembers what came by. */
  final class Seen extends MapFunction[Order, Order]:
    override def map(order: Order): Order =
      Seen.ids.add(order.id)
      order

  object Seen:
    val ids = ConcurrentLinkedQueue[String]()

/** A job begins where another reader has stopped, and leaves leases from which the next one goes on. */
final class HandoverITCase extends AnyFunSuite, Matchers, BeforeAndAfterAll, BeforeAndAfterEach:
  import HandoverITCase.*

  private val limit = 60.seconds
  private val cluster = MiniClusterWithClientResource(
    MiniClusterResourceConfiguration.Builder().setNumberTaskManagers(1).setNumberSlotsPerTaskManager(4).build()
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
    cosmos = LocalCosmos.start("events-source:/customerId:3", "leases:/id:1")
    Seen.ids.clear()

  override protected def afterEach(): Unit =
    jobs.filterNot(_.getJobStatus.get.isGloballyTerminalState).foreach(_.cancel().get())
    jobs = Nil
    cosmos.close()

  private val publishing =
    CosmosDBOptions("scan.lease.container" -> "leases", "scan.lease.prefix" -> "shop")

  private def run(startup: Startup, more: CosmosDBOptions): JobClient =
    val settings = Configuration()
    settings.set(RestartStrategyOptions.RESTART_STRATEGY, "fixed-delay")
    settings.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_ATTEMPTS, Int.box(1000))
    settings.set(RestartStrategyOptions.RESTART_STRATEGY_FIXED_DELAY_DELAY, Duration.ofMillis(100))
    val env = StreamExecutionEnvironment.getExecutionEnvironment(settings)
    env.setParallelism(2)
    env.enableCheckpointing(200)
    val options = cosmos.options("events-source") +
      ("scan.lease.expiration" -> "1000", "scan.lease.renew-interval" -> "200") ++ more
    val source = CosmosDBSource[Order](options, container = "events-source", startup = startup)
    env
      .fromSource(source, WatermarkStrategy.noWatermarks[Order], "source")
      .uid("source")
      .map(Seen())
      .returns(FlinkType[Order].info)
      .sinkTo(DiscardingSink[Order]())
    val job = env.executeAsync("handover")
    jobs = job :: jobs
    job

  private def write(range: Range): Unit =
    cosmos.write(
      "events-source",
      range.map: i =>
        Operation.upsert(
          s"o$i",
          PartitionKeys.json(s"c${i % 97}"),
          s"""{"id":"o$i","customerId":"c${i % 97}"}""".getBytes(UTF_8)
        )
    )

  private def seen(range: Range): Unit =
    LocalCosmos.await(s"${range.size} records", limit)(Seen.ids.size >= range.size)
    Seen.ids.asScala.toList.sorted shouldBe range.map(i => s"o$i").toList.sorted
    Seen.ids.clear()

  /** The owners in the lease container, `null` for a lease that is free; empty while the leases are not complete. */
  private def owners: List[String] =
    val documents = cosmos.read("leases").values.toList
    val ids = documents.flatMap(_.get("id")).collect { case Json.Str(id) => id }
    if !ids.exists(_.endsWith(".info")) then Nil
    else
      documents
        .flatMap(_.get("Owner"))
        .map:
          case Json.Str(owner) => owner
          case _ => "null"

  private def stop(job: JobClient): Unit =
    val folder = Files.createTempDirectory("savepoints").toUri.toString
    job.stopWithSavepoint(false, folder, SavepointFormatType.CANONICAL).get(60, TimeUnit.SECONDS)
    job.getJobExecutionResult.get(60, TimeUnit.SECONDS)

  test("a job goes on from the leases that another one left"):
    write(0 until 200)
    val first = run(Startup.Earliest, publishing)
    seen(0 until 200)
    LocalCosmos.await("the leases", limit)(owners.size == 3)
    owners.distinct shouldBe List(s"cosmosflink-${first.getJobID}")
    stop(first)
    // It might only be starting again: they are free once they have expired.
    owners shouldBe List.fill(3)(s"cosmosflink-${first.getJobID}")
    write(200 until 260)
    val second = run(Startup.Leases, publishing)
    seen(200 until 260)
    LocalCosmos.await("the leases to be the second job's", limit):
      owners == List.fill(3)(s"cosmosflink-${second.getJobID}")

  test("the second of two jobs with one prefix ends for good"):
    // A job that the machine holds up does not lose its leases.
    val patient = publishing + ("scan.lease.expiration" -> "60000")
    val first = run(Startup.Latest, patient)
    LocalCosmos.await("the leases", limit)(owners.size == 3)
    val second = run(Startup.Latest, patient)
    Try(second.getJobExecutionResult.get(60, TimeUnit.SECONDS)) match
      case Failure(e) =>
        Iterator.iterate(e)(_.getCause).takeWhile(_ != null).map(_.toString).mkString should
          include("two jobs must not publish under one prefix")
      case other => fail(s"the job ended with $other")
    first.getJobStatus.get shouldBe JobStatus.RUNNING
