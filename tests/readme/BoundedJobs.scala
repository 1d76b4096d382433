package io.cosmosflink.readme

import io.cosmosflink.scaladsl.*
import org.apache.flink.api.common.RuntimeExecutionMode
import org.apache.flink.api.common.eventtime.WatermarkStrategy
import org.apache.flink.api.connector.source.{Boundedness, SplitEnumerator}
import org.apache.flink.connector.base.source.hybrid.HybridSource
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment

import OrdersJob.{account, Order}

/** The code of docs/bounded.md: each block there stands here, which `cargo xtask test` compares and compiles. */
object BoundedJobs:
  def upToTheStart(env: StreamExecutionEnvironment): Unit =
    env.setRuntimeMode(RuntimeExecutionMode.BATCH)
    env.cosmos(CosmosDBSource[Order](account, container = "events-source", stop = StopAt.Start), "orders").print()
    env.execute("catch up and stop")

  val openOrders: CosmosDBSource[Order] =
    val query = account + (
      "source.query" -> "SELECT c.id, c.region, c.amount FROM c WHERE c.amount > @least",
      "source.query-parameters" -> """{"@least": 100}"""
    )
    CosmosDBSource[Order](query, container = "events-source")

  val byKey: CosmosDBSource[Order] =
    val keys = account + (
      "source.read-many" ->
        """[{"id":"order-7","partitionKey":["eu"]},{"id":"order-8","partitionKey":["us"]}]"""
    )
    CosmosDBSource[Order](keys, container = "events-source")

  type Enumerator = SplitEnumerator[CosmosDBSplit, CosmosDBSourceState]

  final class Changes extends HybridSource.SourceFactory[Order, CosmosDBSource[Order], Enumerator]:
    override def create(context: HybridSource.SourceSwitchContext[Enumerator]): CosmosDBSource[Order] =
      CosmosDBSource[Order](
        account,
        container = "events-source",
        start = StartFrom.Behind(context.getPreviousEnumerator)
      )

  def tableThenChanges(env: StreamExecutionEnvironment): Unit =
    val table =
      CosmosDBSource[Order](account + ("source.query" -> "SELECT * FROM c"), "events-source", stop = StopAt.Start)
    val source = HybridSource
      .builder[Order, Enumerator](table)
      .addSource[Enumerator, CosmosDBSource[Order]](Changes(), Boundedness.CONTINUOUS_UNBOUNDED)
      .build()
    env
      .fromSource(source, WatermarkStrategy.noWatermarks[Order], "orders", FlinkType[Order].info)
      .uid("orders")
