package io.cosmosflink.scaladsl

import io.cosmosflink.core.Operation
import org.apache.flink.api.common.eventtime.WatermarkStrategy
import org.apache.flink.api.common.functions.MapFunction
import org.apache.flink.configuration.{CheckpointingOptions, Configuration}
import org.apache.flink.core.execution.JobClient
import org.apache.flink.metrics.Metric
import org.apache.flink.runtime.testutils.{InMemoryReporter, MiniClusterResourceConfiguration}
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink
import org.apache.flink.streaming.util.TestStreamEnvironment
import org.apache.flink.test.util.MiniClusterWithClientResource
import org.scalatest.BeforeAndAfterAll
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers

import java.nio.charset.StandardCharsets.UTF_8
import java.time.Duration
import java.util.concurrent.atomic.AtomicLong

import scala.concurrent.duration.*
import scala.jdk.CollectionConverters.*

object AutoscalerITCase:
  final case class Numbered(id: String) derives JsonDecoder, FlinkType

  /** Takes as many records as the test allows. */
  final class Slow extends MapFunction[Numbered, Numbered]:
    override def map(value: Numbered): Numbered =
      while Slow.seen.get >= Slow.allowed.get do Thread.sleep(1)
      Slow.seen.incrementAndGet()
      value

  object Slow:
    val allowed = AtomicLong()
    val seen = AtomicLong()

/** What an autoscaler sees of a job that is too slow, and what Flink is told of its backlog. */
final class AutoscalerITCase extends AnyFunSuite, Matchers, BeforeAndAfterAll:
  import AutoscalerITCase.*

  private val limit = 60.seconds
  private val reporter = InMemoryReporter.create()
  private val cluster = MiniClusterWithClientResource(
    MiniClusterResourceConfiguration
      .Builder()
      .setConfiguration(reporter.addToConfiguration(Configuration()))
      .setNumberTaskManagers(1)
      .setNumberSlotsPerTaskManager(1)
      .build()
  )

  override protected def beforeAll(): Unit =
    cluster.before()
    TestStreamEnvironment.setAsContext(cluster.getMiniCluster, 1)

  override protected def afterAll(): Unit =
    TestStreamEnvironment.unsetAsContext()
    cluster.after()

  private def metrics(job: JobClient, name: String): Seq[Metric] =
    reporter.findMetrics(job.getJobID, s".*\\.$name").values.asScala.toSeq

  private def sum(job: JobClient, name: String) = Gauges.sum(reporter, job, s".*\\.$name")

  private def write(cosmos: LocalCosmos, prefix: String, count: Int): Unit =
    val operations = (0 until count).map: i =>
      Operation.upsert(s"$prefix$i", "[\"k\"]", s"""{"id":"$prefix$i","pk":"k"}""".getBytes(UTF_8))
    cosmos.write("events-source", operations)

  test("the lag grows as the container says and falls after, and Flink hears of the backlog"):
    val cosmos = LocalCosmos.start("events-source:/pk:1")
    val settings = Configuration()
    settings.set(CheckpointingOptions.CHECKPOINTING_INTERVAL, Duration.ofMillis(100))
    // No checkpoints in a backlog.
    settings.set(CheckpointingOptions.CHECKPOINTING_INTERVAL_DURING_BACKLOG, Duration.ZERO)
    val env = StreamExecutionEnvironment.getExecutionEnvironment(settings)
    env.setParallelism(1)
    val options = cosmos.options("events-source") ++ CosmosDBOptions(
      "scan.page-size" -> "20",
      "scan.prefetch-size" -> "1048576",
      "scan.backlog-threshold" -> "2000"
    )
    env
      .fromSource(CosmosDBSource[Numbered](options, "events-source"), WatermarkStrategy.noWatermarks(), "source")
      .map(Slow())
      .returns(FlinkType[Numbered].info)
      .sinkTo(DiscardingSink())
    val job = env.executeAsync()
    def checkpoints = sum(job, "numberOfCompletedCheckpoints").toLong
    try
      LocalCosmos.await("checkpoints of an idle job", limit)(checkpoints > 2)
      write(cosmos, "a", 2000)
      // A few pages are on their way through Flink, until there is room for no more.
      var (standing, times) = (0.0, 0)
      LocalCosmos.await("a lag that stands still", limit):
        val now = sum(job, "pendingRecords")
        times = if now == standing then times + 1 else 0
        standing = now
        now > 1800 && times > 20
      withClue("each is added up: ")(metrics(job, "pendingRecords").size shouldBe 1)
      metrics(job, "pendingBytes").size shouldBe 1
      val before = sum(job, "pendingRecords")
      val bytes = sum(job, "pendingBytes")
      before should be < 2000.0
      bytes should be > before * 100

      write(cosmos, "b", 1000)
      LocalCosmos.await("what was written meanwhile", limit)(sum(job, "pendingRecords") == before + 1000)
      sum(job, "pendingBytes") should be > bytes * 1.3
      withClue("of the one split: ")(sum(job, "lagRecords") shouldBe before + 1000)

      // It goes on, slower than it has to, and takes checkpoints until Flink has heard that it is behind.
      LocalCosmos.await("a lag", limit)(sum(job, "lagSeconds") > 8)
      var (last, since) = (-1L, Deadline.now)
      LocalCosmos.await("a second of progress without checkpoints", limit):
        Slow.allowed.addAndGet(10)
        if checkpoints != last then
          last = checkpoints
          since = Deadline.now
        Deadline.now - since > 1.second
      Slow.seen.get should be > 100L
      LocalCosmos.await("a lag that falls", limit)(sum(job, "pendingRecords") < before + 950)

      Slow.allowed.set(Long.MaxValue)
      LocalCosmos.await("the end of the lag", limit):
        sum(job, "pendingRecords") == 0 && sum(job, "lagSeconds") == 0
      Slow.seen.get should be >= 3000L
      val after = checkpoints
      LocalCosmos.await("checkpoints behind the backlog", limit)(checkpoints > after + 2)
      withClue("no lag while idle: ")(sum(job, "pendingRecords") shouldBe 0)
      sum(job, "pendingBytes") shouldBe 0
    finally
      Slow.allowed.set(Long.MaxValue)
      job.cancel().get()
      cosmos.close()
