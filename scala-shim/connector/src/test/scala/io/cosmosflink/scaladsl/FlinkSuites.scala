package io.cosmosflink.scaladsl

import io.cosmosflink.core.Operation
import org.apache.flink.api.common.typeinfo.TypeInformation
import org.apache.flink.api.connector.sink2.Sink
import org.apache.flink.api.connector.source.{Boundedness, Source}
import org.apache.flink.connector.testframe.TestResource
import org.apache.flink.connector.testframe.environment.MiniClusterTestEnvironment
import org.apache.flink.connector.testframe.external.sink.{DataStreamSinkV2ExternalContext, TestingSinkSettings}
import org.apache.flink.connector.testframe.external.source.{DataStreamSourceExternalContext, TestingSourceSettings}
import org.apache.flink.connector.testframe.external.{
  ExternalContextFactory,
  ExternalSystemDataReader,
  ExternalSystemSplitDataWriter
}
import org.apache.flink.connector.testframe.junit.annotations.{TestContext, TestEnv, TestExternalSystem, TestSemantics}
import org.apache.flink.connector.testframe.testsuites.{SinkTestSuiteBase, SourceTestSuiteBase}
import org.apache.flink.core.execution.CheckpointingMode

import java.net.URL
import java.time.Duration
import java.util.List as JavaList
import java.util.concurrent.atomic.AtomicInteger

import scala.jdk.CollectionConverters.*

/** A document of the suites. */
final case class Item(id: String, @partitionKey pk: String, value: String) derives JsonDecoder, JsonEncoder, DocumentKey

/** A local Cosmos with a container for each test of a suite. */
final class ManyContainers extends TestResource:
  private val containers = 32
  private val next = AtomicInteger()
  private var started: Option[LocalCosmos] = None

  override def startUp(): Unit =
    started = Some(LocalCosmos.start((0 until containers).map(i => s"c$i:/pk:4")*))

  override def tearDown(): Unit = started.foreach(_.close())

  def cosmos: LocalCosmos = started.get

  /** A container that no other test uses. */
  def container(): String =
    val number = next.getAndIncrement()
    assert(number < containers, s"only $containers containers; declare more")
    s"c$number"

/** Flink's own suite for sources: savepoints, rescaling, metrics, lost TaskManagers; without an end, and up to the start. */
final class SourceSuite extends SourceTestSuiteBase[String]:
  @TestSemantics
  val semantics: Array[CheckpointingMode] = Array(CheckpointingMode.EXACTLY_ONCE)

  @TestEnv
  val cluster = MiniClusterTestEnvironment()

  @TestExternalSystem
  val containers = ManyContainers()

  @TestContext
  val contexts: ExternalContextFactory[SourceContext] = _ => SourceContext(containers)

/** One container; each writer writes one partition key, within which the feed keeps the order. */
final class SourceContext(containers: ManyContainers) extends DataStreamSourceExternalContext[String]:
  private val container = containers.container()
  private val writers = AtomicInteger()

  override def createSource(settings: TestingSourceSettings): Source[String, ?, ?] =
    val bounded = if settings.getBoundedness == Boundedness.BOUNDED then Bounded.Latest else Bounded.Unbounded
    val values: RecordReader[String] = (record, emit) =>
      JsonDecoder[Item].decode(record.document).map(item => emit(item.value))
    val options = containers.cosmos.options(container) + ("scan.discovery-interval" -> "200")
    CosmosDBSource.of(options, container, values, bounded = bounded)

  override def createSourceSplitDataWriter(settings: TestingSourceSettings): ExternalSystemSplitDataWriter[String] =
    new ExternalSystemSplitDataWriter[String]:
      private val key = s"k${writers.getAndIncrement()}"
      private var written = 0

      override def writeRecords(records: JavaList[String]): Unit =
        val operations = records.asScala.toSeq.map: value =>
          written += 1
          val item = Item(s"$key-$written", key, value)
          Operation.upsert(item.id, PartitionKey(key).json, JsonEncoder[Item].encode(item))
        containers.cosmos.write(container, operations)

      override def close(): Unit = ()

  override def generateTestData(settings: TestingSourceSettings, split: Int, seed: Long): JavaList[String] =
    (0 until 150).map(i => s"$split-$seed-$i").asJava

  override def getProducedType: TypeInformation[String] = FlinkType[String].info
  override def getConnectorJarPaths: JavaList[URL] = JavaList.of()
  override def close(): Unit = ()

/** Flink's own suite for sinks. Upserts under the record's own id make at-least-once as good as exactly-once. */
final class SinkSuite extends SinkTestSuiteBase[String]:
  @TestSemantics
  val semantics: Array[CheckpointingMode] = Array(CheckpointingMode.EXACTLY_ONCE, CheckpointingMode.AT_LEAST_ONCE)

  @TestEnv
  val cluster = MiniClusterTestEnvironment()

  @TestExternalSystem
  val containers = ManyContainers()

  @TestContext
  val contexts: ExternalContextFactory[SinkContext] = _ => SinkContext(containers)

final class SinkContext(containers: ManyContainers) extends DataStreamSinkV2ExternalContext[String]:
  private val container = containers.container()

  override def createSink(settings: TestingSinkSettings): Sink[String] =
    CosmosDBSink.of[String, Item](containers.cosmos.options(container), container): id =>
      Write.Upsert(Item(id, id, id))

  /** Gives each document once. */
  override def createSinkDataReader(settings: TestingSinkSettings): ExternalSystemDataReader[String] =
    new ExternalSystemDataReader[String]:
      private var seen = Set.empty[Json]

      override def poll(limit: Duration): JavaList[String] =
        val ids = containers.cosmos.read(container).values.flatMap(_.get("id")).toSet
        val fresh = ids -- seen
        seen = ids
        fresh.toList.collect { case Json.Str(id) => id }.asJava

      override def close(): Unit = ()

  override def generateTestData(settings: TestingSinkSettings, seed: Long): JavaList[String] =
    (0 until 300).map(i => s"$seed-$i").asJava

  override def getProducedType: TypeInformation[String] = FlinkType[String].info
  override def getConnectorJarPaths: JavaList[URL] = JavaList.of()
  override def close(): Unit = ()
