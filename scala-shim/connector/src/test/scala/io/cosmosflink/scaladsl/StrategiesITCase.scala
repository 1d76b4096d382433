package io.cosmosflink.scaladsl

import org.apache.flink.api.common.serialization.SerializationSchema
import org.apache.flink.configuration.{Configuration, RestartStrategyOptions}
import org.apache.flink.runtime.testutils.MiniClusterResourceConfiguration
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
import org.apache.flink.test.util.MiniClusterWithClientResource
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers
import org.scalatest.{BeforeAndAfterAll, BeforeAndAfterEach}

import java.nio.charset.StandardCharsets.UTF_8

import scala.jdk.CollectionConverters.*
import scala.util.Try

object StrategiesITCase:
  final case class Item(id: String, @partitionKey region: String, n: Int, note: Option[String] = None)
      derives JsonEncoder,
        DocumentKey,
        FlinkType

  /** Opened before its first element, or it has no prefix. */
  final class Schema extends SerializationSchema[String]:
    @transient private var prefix: String | Null = null

    override def open(context: SerializationSchema.InitializationContext): Unit =
      if Option(context.getMetricGroup).isDefined then prefix = "o-"

    override def serialize(order: String): Array[Byte] =
      s"""{"order":"$prefix$order","region":"eu","n":2,"none":null}""".getBytes(UTF_8)

/** Write strategies through a job, and through the same job once more, as after a restore to before its first record. */
class StrategiesITCase extends AnyFunSuite, Matchers, BeforeAndAfterAll, BeforeAndAfterEach:
  import StrategiesITCase.*

  private val cluster = MiniClusterWithClientResource(
    MiniClusterResourceConfiguration.Builder().setNumberTaskManagers(1).setNumberSlotsPerTaskManager(2).build()
  )
  private var cosmos: LocalCosmos = scala.compiletime.uninitialized

  override protected def beforeAll(): Unit = cluster.before()
  override protected def afterAll(): Unit = cluster.after()
  override protected def beforeEach(): Unit = cosmos = LocalCosmos.start("c:/region:2")
  override protected def afterEach(): Unit = cosmos.close()

  private def environment(): StreamExecutionEnvironment =
    val env = StreamExecutionEnvironment.getExecutionEnvironment(
      Configuration().set(RestartStrategyOptions.RESTART_STRATEGY, "none")
    )
    env.setParallelism(1)
    env

  private def run(writes: Write[Item]*): Unit =
    val env = environment()
    env
      .fromData(writes.asJava, FlinkType[Write[Item]].info)
      .sinkTo(CosmosDBSink.writes[Item](cosmos.options("c"), container = "c"))
    env.execute("writes")
    ()

  private def stored: Map[String, Json] = cosmos.read("c").map((key, json) => key.stripPrefix("""["eu"]""") -> json)

  private def n(id: String): String = stored(id).get("n").mkString

  private def item(id: String, n: Int) = Item(id, "eu", n)

  private def messages(of: Try[Unit]): String =
    Iterator.iterate(of.failed.get)(_.getCause).takeWhile(_ != null).map(_.getMessage).mkString("\n")

  test("a replayed create is done, and another document is a conflict"):
    (1 to 2).foreach(_ => run(Write.Create(item("a", 1)), Write.Create(item("b", 1))))
    run(Write.Upsert(item("a", 7)))
    messages(Try(run(Write.Create(item("a", 1))))) should (include("CREATE of id 'a'") and include("409"))
    run(Write.CreateIgnoreExisting(item("a", 1)), Write.CreateIgnoreExisting(item("d", 1)))
    (n("a"), n("d")) shouldBe ("7", "1")

  test("patches and bulk updates change what they say, and leave what is not there"):
    val key = PartitionKey("eu")
    run(Write.Upsert(Item("a", "eu", 1, Some("kept"))))
    val once = Patch.increment("/n", 1).set("/seq", 5).when("FROM c WHERE NOT IS_DEFINED(c.seq) OR c.seq < 5")
    (1 to 2).foreach: _ =>
      run(
        Write.Patch("a", key, once),
        Write.PatchIfExists("missing", key, once),
        Write.ReplaceIfExists(item("missing", 1)),
        Write.BulkUpdate(item("b", 3))
      )
      (n("a"), n("b"), stored.size) shouldBe ("2", "3", 2)
    // A model without a note leaves the one that is stored.
    run(Write.BulkUpdate(item("a", 9)))
    stored("a").get("note") shouldBe Some(Json.Str("kept"))
    n("a") shouldBe "9"

  test("a batch is carried out whole and once"):
    run(Write.Upsert(item("from", 10)), Write.Upsert(item("to", 0)))
    def transfer(id: String): Write[Item] =
      val moves =
        Batch.create(item(id, 1)).patch("from", Patch.increment("/n", -1)).patch("to", Patch.increment("/n", 1))
      Write.Batch(PartitionKey("eu"), moves)
    (1 to 3).foreach: _ =>
      run(transfer("transfer-1"), transfer("transfer-2"))
      (n("from"), n("to")) shouldBe ("8", "2")
    run(Write.Upsert(item("transfer-3", 7)))
    messages(Try(run(transfer("transfer-3")))) should
      (include("operation 1 of 3, Create of document 'transfer-3'") and include("409"))
    (n("from"), n("to")) shouldBe ("8", "2")
    // Batches that write one document do not end each other's replay.
    def event(number: Int) =
      Write.Batch(PartitionKey("eu"), Batch.create(item(s"event-$number", 1)).upsert(item("summary", number)))
    (1 to 2).foreach: _ =>
      run(event(1), event(2))
      n("summary") shouldBe "2"
    val many = (0 to 100).foldLeft(Batch(Vector.empty))((batch, n) => batch.delete(s"d$n"))
    messages(Try(run(Write.Batch(PartitionKey("eu"), many)))) should include("101 operations")
    run(Write.Batch(PartitionKey("eu"), Batch.delete("from").upsert(item("to", 5))))
    stored.get("from") shouldBe None
    n("to") shouldBe "5"

  test("an ETag decides"):
    run(Write.Upsert(item("a", 1)), Write.Upsert(item("b", 1)))
    val old = stored.view.mapValues(_.get("_etag").collect { case Json.Str(etag) => etag }).toMap
    run(Write.Upsert(item("b", 7)))
    (1 to 2).foreach: _ =>
      run(
        Write.OverwriteIfNotModified(item("a", 2), old("a")),
        Write.OverwriteIfNotModified(item("b", 2), old("b")),
        Write.OverwriteIfNotModified(item("new", 2), None),
        Write.DeleteIfNotModified("b", PartitionKey("eu"), old("b"))
      )
      (n("a"), n("b"), n("new")) shouldBe ("2", "7", "2")

  test("a schema and the options say it all"):
    def write(order: String, options: (String, String)*): Unit =
      val env = environment()
      val all = cosmos.options("c") + ("sink.id" -> "{order}") ++ CosmosDBOptions(options*)
      env
        .fromData(java.util.List.of(order), FlinkType[String].info)
        .sinkTo(CosmosDBSink.serializing(all, container = "c", Schema()))
      env.execute("documents")
      ()
    write("1", "sink.null-policy" -> "drop")
    stored("o-1").get("none") shouldBe None
    run(Write.Upsert(item("o-1", 7)))
    write("1", "sink.write-strategy" -> "create-ignore-existing")
    n("o-1") shouldBe "7"
    write("1", "sink.write-strategy" -> "delete")
    stored shouldBe empty
