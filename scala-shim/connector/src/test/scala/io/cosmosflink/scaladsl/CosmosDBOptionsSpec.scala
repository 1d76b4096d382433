package io.cosmosflink.scaladsl

import io.cosmosflink.core.Core.Role
import io.cosmosflink.core.CosmosException
import io.cosmosflink.core.CosmosException.Kind
import org.apache.flink.util.InstantiationUtil
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers

import java.time.Duration

/** Over the natives. */
final class CosmosDBOptionsSpec extends AnyFunSuite, Matchers:
  private val secret = "c2VjcmV0"

  test("arguments go before the environment, by option or by variable"):
    CosmosDBOptions
      .resolve(Map("cosmos.database" -> "a", "COSMOS_URI" -> "https://a.example/"), Map("COSMOS_DB" -> "b"))
      .map(o => (o.get("cosmos.database"), o.get("cosmos.endpoint"))) shouldBe
      Right((Some("a"), Some("https://a.example/")))

  test("what is wrong is a value of its kind"):
    CosmosDBOptions.resolve(Map("cosmos.databse" -> "a"), Map.empty) match
      case Left(CosmosError(Kind.CONFIG, message)) => message should include("cosmos.databse")
      case other => fail(s"$other")
    CosmosDBOptions("cosmos.database" -> "a").validated(Role.SINK) match
      case Left(CosmosError(Kind.CONFIG, message)) => message should include("cosmos.endpoint")
      case other => fail(s"$other")
    CosmosDBOptions.empty.require("a").left.map(_.message) shouldBe Left("option 'a' has no value; set it")
    CosmosDBOptions("a" -> "x").number("a").left.map(_.message) shouldBe Left("option 'a' is 'x', not a whole number")

  test("every kind of failure keeps its kind, in both directions"):
    Kind.values.foreach: kind =>
      val error = CosmosError(kind, "m", 429, 3, "act")
      CosmosError.of(error.toException) shouldBe error
      CosmosError.attempt(throw error.toException) shouldBe Left(error)
    an[IllegalStateException] should be thrownBy CosmosError.attempt(throw IllegalStateException("somebody else's"))

  test("defaults come from the core alone"):
    val options = CosmosDBOptions("cosmos.endpoint" -> "https://a.example/", "cosmos.auth.key" -> secret) +
      ("cosmos.database" -> "d") + ("cosmos.container" -> "c")
    options.validated(Role.SINK).flatMap(_.number("sink.max-batch-size")).isRight shouldBe true
    options.number("sink.max-batch-size").isLeft shouldBe true

  test("what is not in the option table may be a secret, misspelt or by its variable, and is not shown"):
    val options = CosmosDBOptions("cosmos.auth.account-key" -> secret, "COSMOS_KEY" -> secret, "cosmos.database" -> "d")
    options.toString shouldBe
      "CosmosDBOptions{COSMOS_KEY=[redacted], cosmos.auth.account-key=[redacted], cosmos.database=d}"

  test("what the option table calls secret is not shown"):
    val options = CosmosDBOptions(
      "cosmos.auth.key" -> secret,
      "cosmos.auth.key-file" -> "/run/key",
      "cosmos.database" -> "d"
    )
    options.toString shouldBe
      "CosmosDBOptions{cosmos.auth.key=[redacted], cosmos.auth.key-file=/run/key, cosmos.database=d}"

  test("what a source reads, and what that may cost, has types"):
    val query = CosmosDBOptions.empty.withQuery("SELECT * FROM c WHERE c.n > @least", "@least" -> Json.num(100))
    query.values shouldBe Map(
      "source.query" -> "SELECT * FROM c WHERE c.n > @least",
      "source.query-parameters" -> """{"@least":100}"""
    )
    CosmosDBOptions.empty.withQuery("SELECT * FROM c").values shouldBe Map("source.query" -> "SELECT * FROM c")
    val keys = CosmosDBOptions.empty.withReadMany("a\"b" -> PartitionKey("eu", 7), "c" -> PartitionKey.none)
    keys.get("source.read-many") shouldBe
      Some("""[{"id":"a\"b","partitionKey":["eu",7]},{"id":"c","partitionKey":[]}]""")
    CosmosDBOptions.empty.withRequestUnitsPerSecond(400).withBacklogThreshold(Duration.ofMinutes(1)).values shouldBe
      Map("source.request-units-per-second" -> "400", "source.backlog-threshold-ms" -> "60000")

  // Flink logs the source of a HybridSource as text.
  test("what a job looks for is not shown"):
    val options = CosmosDBOptions(
      "source.query" -> "SELECT * FROM c WHERE c.customer = @who",
      "source.query-parameters" -> """{"@who":"ann"}""",
      "source.read-many" -> """[{"id":"ann"}]"""
    )
    options.toString shouldBe
      "CosmosDBOptions{source.query=SELECT * FROM c WHERE c.customer = @who, " +
      "source.query-parameters=[14 characters], source.read-many=[14 characters]}"

  test("source and sink travel in the job graph, and show no secret"):
    val options =
      CosmosDBOptions("cosmos.endpoint" -> "https://a.example/", "cosmos.auth.key" -> secret, "cosmos.database" -> "d")
    val source = CosmosDBSource[Models.Order](options, container = "orders", start = StartFrom.Now)
    val sink = CosmosDBSink[Models.Order](options, container = "orders")
    val (raw, documents) = (CosmosDBSource.raw(options, "orders"), CosmosDBSink.documents(options, "orders"))
    Seq[java.io.Serializable](source, sink, raw, documents).foreach: one =>
      InstantiationUtil.clone(one).toString shouldBe one.toString
      one.toString should (include("[redacted]") and include("cosmos.container=orders") and not include secret)
    source.toString should include("source.start=now")
    source.getProducedType shouldBe FlinkType[Models.Order].info

  test("a wrong option fails where the source is made"):
    val options =
      CosmosDBOptions("cosmos.endpoint" -> "https://a.example/", "cosmos.auth.key" -> secret, "cosmos.database" -> "d")
    val thrown = the[CosmosException] thrownBy CosmosDBSource.raw(options + ("source.page-size" -> "-1"), "orders")
    thrown.kind shouldBe Kind.CONFIG
    thrown.getMessage should include("source.page-size")

  test("without a library at the client the cluster checks the options"):
    val source = CosmosDBSource.create(
      CosmosDBOptions("cosmos.endpoint" -> "https://a.example/"),
      "orders",
      RecordReader.raw,
      StartFrom.Configured,
      EventTime.ofService,
      () => throw UnsatisfiedLinkError("not here")
    )
    source.toString should (include("https://a.example/") and not include "source.page-size")
