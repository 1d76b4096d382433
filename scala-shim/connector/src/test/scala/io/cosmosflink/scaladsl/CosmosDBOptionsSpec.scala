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
      .resolve(Map("database" -> "a", "COSMOS_URI" -> "https://a.example/"), Map("COSMOS_DB" -> "b"))
      .map(o => (o.get("database"), o.get("endpoint"))) shouldBe
      Right((Some("a"), Some("https://a.example/")))

  test("what is wrong is a value of its kind"):
    CosmosDBOptions.resolve(Map("databse" -> "a"), Map.empty) match
      case Left(CosmosError(Kind.CONFIG, message)) => message should include("databse")
      case other => fail(s"$other")
    CosmosDBOptions("database" -> "a").validated(Role.SINK) match
      case Left(CosmosError(Kind.CONFIG, message)) => message should include("endpoint")
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
    val options = CosmosDBOptions("endpoint" -> "https://a.example/", "auth.secret-key" -> secret) +
      ("database" -> "d") + ("container" -> "c")
    options.validated(Role.SINK).flatMap(_.number("sink.buffer-flush.max-rows")).isRight shouldBe true
    options.number("sink.buffer-flush.max-rows").isLeft shouldBe true

  test("what is not in the option table may be a secret, misspelt or by its variable, and is not shown"):
    val options = CosmosDBOptions("auth.account-key" -> secret, "COSMOS_KEY" -> secret, "database" -> "d")
    options.toString shouldBe
      "CosmosDBOptions{COSMOS_KEY=[redacted], auth.account-key=[redacted], database=d}"

  test("what the option table calls secret is not shown"):
    val options = CosmosDBOptions(
      "auth.secret-key" -> secret,
      "auth.key-file" -> "/run/key",
      "database" -> "d"
    )
    options.toString shouldBe
      "CosmosDBOptions{auth.key-file=/run/key, auth.secret-key=[redacted], database=d}"

  test("what a source reads, and what that may cost, has types"):
    val query = CosmosDBOptions.empty.withQuery("SELECT * FROM c WHERE c.n > @least", "@least" -> Json.num(100))
    query.values shouldBe Map(
      "scan.query" -> "SELECT * FROM c WHERE c.n > @least",
      "scan.query-parameters" -> """{"@least":100}"""
    )
    CosmosDBOptions.empty.withQuery("SELECT * FROM c").values shouldBe Map("scan.query" -> "SELECT * FROM c")
    val keys = CosmosDBOptions.empty.withReadMany("a\"b" -> PartitionKey("eu", 7), "c" -> PartitionKey.none)
    keys.get("scan.read-many") shouldBe
      Some("""[{"id":"a\"b","partitionKey":["eu",7]},{"id":"c","partitionKey":[]}]""")
    CosmosDBOptions.empty.withRequestUnitsPerSecond(400).withBacklogThreshold(Duration.ofMinutes(1)).values shouldBe
      Map("scan.request-units-per-second" -> "400", "scan.backlog-threshold" -> "60000")

  // Flink logs the source of a HybridSource as text.
  test("what a job looks for is not shown"):
    val options = CosmosDBOptions(
      "scan.query" -> "SELECT * FROM c WHERE c.customer = @who",
      "scan.query-parameters" -> """{"@who":"ann"}""",
      "scan.read-many" -> """[{"id":"ann"}]"""
    )
    options.toString shouldBe
      "CosmosDBOptions{scan.query=SELECT * FROM c WHERE c.customer = @who, " +
      "scan.query-parameters=[14 characters], scan.read-many=[14 characters]}"

  test("source and sink travel in the job graph, and show no secret"):
    val options =
      CosmosDBOptions("endpoint" -> "https://a.example/", "auth.secret-key" -> secret, "database" -> "d")
    val source = CosmosDBSource[Models.Order](options, container = "orders", startup = Startup.Latest)
    val sink = CosmosDBSink[Models.Order](options, container = "orders")
    val (raw, documents) = (CosmosDBSource.raw(options, "orders"), CosmosDBSink.documents(options, "orders"))
    Seq[java.io.Serializable](source, sink, raw, documents).foreach: one =>
      InstantiationUtil.clone(one).toString shouldBe one.toString
      one.toString should (include("[redacted]") and include("container=orders") and not include secret)
    source.toString should include("scan.startup.mode=latest")
    source.getProducedType shouldBe FlinkType[Models.Order].info

  test("a wrong option fails where the source is made"):
    val options =
      CosmosDBOptions("endpoint" -> "https://a.example/", "auth.secret-key" -> secret, "database" -> "d")
    val thrown = the[CosmosException] thrownBy CosmosDBSource.raw(options + ("scan.page-size" -> "-1"), "orders")
    thrown.kind shouldBe Kind.CONFIG
    thrown.getMessage should include("scan.page-size")

  test("without a library at the client the cluster checks the options"):
    val source = CosmosDBSource.create(
      CosmosDBOptions("endpoint" -> "https://a.example/"),
      "orders",
      RecordReader.raw,
      Startup.Configured,
      EventTime.ofService,
      () => throw UnsatisfiedLinkError("not here")
    )
    source.toString should (include("https://a.example/") and not include "scan.page-size")
