package io.cosmosflink.scaladsl

import io.cosmosflink.core.Operation
import org.apache.flink.api.common.RuntimeExecutionMode
import org.apache.flink.api.common.eventtime.WatermarkStrategy
import org.apache.flink.api.connector.source.{Boundedness, Source, SplitEnumerator}
import org.apache.flink.configuration.Configuration
import org.apache.flink.connector.base.source.hybrid.HybridSource
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
import org.apache.flink.streaming.util.TestStreamEnvironment
import org.apache.flink.test.util.MiniClusterWithClientResource
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers
import org.scalatest.{BeforeAndAfterAll, BeforeAndAfterEach}

import java.nio.charset.StandardCharsets.UTF_8

import scala.jdk.CollectionConverters.*
import scala.util.Using

object BoundedITCase:
  type Enumerator = SplitEnumerator[CosmosDBSplit, CosmosDBSourceState]

  val ids: RecordReader[String] = (record, emit) => Right(emit(record.id))

  /** The change feed from where the source before stops. */
  final class Behind(options: CosmosDBOptions)
      extends HybridSource.SourceFactory[String, CosmosDBSource[String], Enumerator]:
    override def create(context: HybridSource.SourceSwitchContext[Enumerator]): CosmosDBSource[String] =
      CosmosDBSource.of(options, "c", ids, StartFrom.Behind(context.getPreviousEnumerator))

/** Sources that end, in streaming and in batch mode, and what goes on behind them. */
final class BoundedITCase extends AnyFunSuite, Matchers, BeforeAndAfterAll, BeforeAndAfterEach:
  import BoundedITCase.*

  private val documents = 2000

  /** Fewer slots than the jobs have readers. */
  private val cluster = MiniClusterWithClientResource(
    MiniClusterResourceConfiguration.Builder().setNumberTaskManagers(1).setNumberSlotsPerTaskManager(2).build()
  )

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

  override protected def afterEach(): Unit = cosmos.close()

  private def orders(numbers: Range): Seq[Operation] = numbers.map: i =>
    Operation.upsert(
      s"o$i",
      s"""["c${i % 97}"]""",
      s"""{"id":"o$i","customerId":"c${i % 97}","amount":$i}""".getBytes(UTF_8)
    )

  private def environment(mode: RuntimeExecutionMode, parallelism: Int): StreamExecutionEnvironment =
    val env = StreamExecutionEnvironment.getExecutionEnvironment(Configuration())
    env.setRuntimeMode(mode)
    env.setParallelism(parallelism)
    env

  /** Runs a job to its end. */
  private def run(env: StreamExecutionEnvironment, source: Source[String, ?, ?]): Seq[String] =
    env.fromSource(source, WatermarkStrategy.noWatermarks[String], "source").executeAndCollect(100_000).asScala.toSeq

  private def source(options: (String, String)*): CosmosDBSource[String] =
    CosmosDBSource.of(cosmos.options("c").+(options*), "c", ids)

  test("in batch mode each document comes once, also with more readers than slots and splits"):
    val bounded = CosmosDBSource.of(cosmos.options("c"), "c", ids, stop = StopAt.Start)
    bounded.getBoundedness shouldBe Boundedness.BOUNDED
    val read = run(environment(RuntimeExecutionMode.BATCH, 6), bounded)
    read.size shouldBe documents
    read.toSet shouldBe (0 until documents).map(i => s"o$i").toSet

  test("a query is read in batch mode"):
    val query = source(
      "source.query" -> "SELECT c.id FROM c WHERE c.amount < @most",
      "source.query-parameters" -> """{"@most": 500}"""
    )
    run(environment(RuntimeExecutionMode.BATCH, 2), query).sorted shouldBe (0 until 500).map(i => s"o$i").sorted

  test("documents are read by key"):
    val keys = Seq(3, 700, 1999).map(i => s"""{"id":"o$i","partitionKey":["c${i % 97}"]}""").mkString("[", ",", "]")
    val read = run(environment(RuntimeExecutionMode.BATCH, 2), source("source.read-many" -> keys))
    read.sorted shouldBe Seq("o1999", "o3", "o700")

  test("the change feed goes on behind a query without a gap"):
    val first = source("source.query" -> "SELECT * FROM c", "source.stop" -> "start")
    val hybrid = HybridSource
      .builder[String, Enumerator](first)
      .addSource[Enumerator, CosmosDBSource[String]](Behind(cosmos.options("c")), Boundedness.CONTINUOUS_UNBOUNDED)
      .build()
    val env = environment(RuntimeExecutionMode.STREAMING, 2)
    env.enableCheckpointing(100)
    val stream = env.fromSource(hybrid, WatermarkStrategy.noWatermarks[String], "hybrid", FlinkType[String].info)
    Using.resource(stream.executeAndCollect("hybrid")): read =>
      val seen = scala.collection.mutable.Set.empty[String]
      while seen.size < documents do seen += read.next()
      cosmos.write("c", orders(documents until documents + 300))
      while seen.size < documents + 300 do seen += read.next()
      seen.toSet shouldBe (0 until documents + 300).map(i => s"o$i").toSet
