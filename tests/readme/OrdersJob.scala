package io.cosmosflink.readme

import io.cosmosflink.scaladsl.*
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment

/** The job of README.md: what stands there is what lies between the two marks, which `cargo xtask test` compares and compiles. */
object OrdersJob:
  // readme:begin
  final case class Order(id: String, @partitionKey region: String, amount: BigDecimal)
      derives JsonDecoder,
        JsonEncoder,
        DocumentKey,
        FlinkType

  val account = CosmosDBOptions(
    "endpoint" -> "https://ACCOUNT.documents.azure.com:443/",
    "auth.key-file" -> "/run/cosmos/key",
    "database" -> "cosmosflink"
  )

  def define(env: StreamExecutionEnvironment): Unit =
    env
      .cosmos(CosmosDBSource[Order](account, container = "events-source", startup = Startup.Earliest), "orders")
      .uid("orders")
      .filterBy(_.amount > 0)
      .sinkTo(CosmosDBSink[Order](account, container = "events-processed"))
      .uid("processed")
  // readme:end
