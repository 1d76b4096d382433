package io.cosmosflink.readme

import io.cosmosflink.scaladsl.*
import org.apache.flink.api.common.RuntimeExecutionMode
import org.apache.flink.api.common.eventtime.WatermarkStrategy
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment

import OrdersJob.{account, Order}

/** The code of docs/bounded.md: each block there stands here, which `cargo xtask test` compares and compiles. */
object BoundedJobs:
  def upToTheStart(env: StreamExecutionEnvironment): Unit =
    env.setRuntimeMode(RuntimeExecutionMode.BATCH)
    env.cosmos(CosmosDBSource[Order](account, container = "events-source", bounded = Bounded.Latest), "orders").print()
    env.execute("catch up and stop")

  val openOrders: CosmosDBSource[Order] =
    val query =
      account.withQuery("SELECT c.id, c.region, c.amount FROM c WHERE c.amount > @least", "@least" -> Json.num(100))
    CosmosDBSource[Order](query, container = "events-source")

  val byKey: CosmosDBSource[Order] =
    val keys = account.withReadMany("order-7" -> PartitionKey("eu"), "order-8" -> PartitionKey("us"))
    CosmosDBSource[Order](keys, container = "events-source")

  def tableThenChanges(env: StreamExecutionEnvironment): Unit =
    val table = CosmosDBSource[Order](account.withQuery("SELECT * FROM c"), "events-source", bounded = Bounded.Latest)
    val source = table.followedBy(start => CosmosDBSource[Order](account, "events-source", startup = start))
    env
      .fromSource(source, WatermarkStrategy.noWatermarks[Order], "orders", FlinkType[Order].info)
      .uid("orders")
