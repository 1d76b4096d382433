package io.cosmosflink.scaladsl

import org.apache.flink.api.connector.source.Boundedness
import org.apache.flink.streaming.api.lineage.{LineageVertex, SourceLineageVertex}
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers

import scala.jdk.CollectionConverters.*

final class LineageSpec extends AnyFunSuite, Matchers:
  private val options = CosmosDBOptions(
    "endpoint" -> "https://Account.documents.azure.com:443/",
    "database" -> "orders",
    "auth.secret-key" -> "c2VjcmV0"
  )

  private def isTheContainer(vertex: LineageVertex) = vertex.datasets.asScala.toList match
    case List(dataset) =>
      dataset.namespace shouldBe "https://account.documents.azure.com:443"
      dataset.name shouldBe "orders/events"
      dataset.facets.isEmpty shouldBe true
    case other => fail(other.toString)

  test("a source names its container"):
    CosmosDBSource.raw(options, "events").getLineageVertex match
      case vertex: SourceLineageVertex =>
        vertex.boundedness shouldBe Boundedness.CONTINUOUS_UNBOUNDED
        isTheContainer(vertex)
      case other => fail(other.toString)

  test("a sink names its container"):
    isTheContainer(CosmosDBSink.documents(options, "events").getLineageVertex)
