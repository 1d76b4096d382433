package io.cosmosflink.scaladsl.sql

import io.cosmosflink.core.Operation
import io.cosmosflink.readme.OrdersSql
import io.cosmosflink.scaladsl.{Json, LocalCosmos}
import org.apache.flink.table.api.{EnvironmentSettings, TableEnvironment}
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers

import java.nio.charset.StandardCharsets.UTF_8

import scala.util.Using

/** The job of docs/sql.md, over the jar that the SQL client takes. */
final class OrdersSqlITCase extends AnyFunSuite, Matchers:
  private def order(number: Int, status: String): Operation =
    val json = s"""{"id":"o$number","customerId":"c1","status":"$status","amount":12.5}"""
    Operation.upsert(s"o$number", """["c1"]""", json.getBytes(UTF_8))

  test("a job in Scala writes SQL"):
    Using.resource(LocalCosmos.start("orders:/customerId:2", "open-orders:/customerId:2")): cosmos =>
      cosmos.write("orders", Seq(order(1, "open"), order(2, "shipped"), order(3, "open")))
      val tables = TableEnvironment.create(EnvironmentSettings.inStreamingMode())
      val result = OrdersSql.define(
        tables,
        cosmos.endpoint,
        "database" -> LocalCosmos.database,
        "auth.key-file" -> cosmos.keyFile.toString,
        "scan.bounded.mode" -> "latest"
      )
      result.await()
      val open = cosmos.read("open-orders")
      open.keySet shouldBe Set("""["c1"]o1""", """["c1"]o3""")
      open.values.foreach(_.get("status") shouldBe Some(Json.Str("open")))
