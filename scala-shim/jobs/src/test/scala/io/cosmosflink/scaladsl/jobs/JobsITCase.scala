package io.cosmosflink.scaladsl.jobs

import com.sun.net.httpserver.HttpServer
import io.cosmosflink.core.Operation
import io.cosmosflink.scaladsl.{Json, LocalCosmos}
import org.apache.flink.configuration.{Configuration, RestOptions}
import org.apache.flink.core.execution.JobClient
import org.apache.flink.metrics.{Counter, Gauge}
import org.apache.flink.runtime.testutils.{InMemoryReporter, MiniClusterResourceConfiguration}
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
import org.apache.flink.test.util.MiniClusterWithClientResource
import org.scalatest.{EitherValues, LoneElement}
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers

import java.net.{InetAddress, InetSocketAddress, ServerSocket, SocketException}
import java.nio.charset.StandardCharsets.UTF_8
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.atomic.AtomicInteger

import scala.concurrent.duration.*
import scala.io.Source
import scala.jdk.CollectionConverters.*
import scala.util.Using

/** Both jobs, one behind the other, from the producer's container to a consumer. */
class JobsITCase extends AnyFunSuite with Matchers with EitherValues with LoneElement:
  import JobsITCase.*

  test("orders reach the consumer over HTTP, though it takes none at first"):
    withPipeline: pipeline =>
      import pipeline.cosmos
      val (received, attempts, refused) = (ConcurrentHashMap.newKeySet[String](), AtomicInteger(), AtomicInteger())
      @volatile var up = false
      val server = HttpServer.create(InetSocketAddress(InetAddress.getLoopbackAddress, 0), 0)
      server.createContext(
        "/events",
        exchange =>
          take(exchange.getRequestBody.readAllBytes(), received)
          // Every fifth batch is taken but its answer is an error: it comes again.
          val taken = attempts.incrementAndGet() % 5 > 0 && up
          if !taken then refused.incrementAndGet()
          exchange.sendResponseHeaders(if taken then 200 else 503, -1)
          exchange.close()
      )
      server.start()
      try
        cosmos.write("events-source", good :+ order("no-amount", """{"id":"no-amount","customerId":"c1"}"""))
        pipeline.submit(
          "--job.consumer-url",
          s"http://localhost:${server.getAddress.getPort}/events",
          "--job.count-repeats",
          "true"
        )
        LocalCosmos.await("processed orders", limit)(cosmos.count("events-processed") == orders)
        LocalCosmos.await("attempts to deliver", limit)(attempts.get > 10)
        withClue("nothing was acknowledged yet: ")(cosmos.count("events-output") shouldBe 0)
        val whileDown = refused.get
        up = true
        LocalCosmos.await("recorded deliveries", limit)(cosmos.count("events-output") == orders)
        val List(source, sink) = pipeline.jobs: @unchecked
        pipeline.metric(sink, "enrich", "badRecords") shouldBe 1
        pipeline.metric(source, "enrich", "filteredRecords") shouldBe 0
        pipeline.metric(sink, Repeats.name, "documents") shouldBe orders + 1
        pipeline.metric(sink, Repeats.name, "repeats") shouldBe 0
        withClue("batches refused while the consumer was up: ")(refused.get should be > whileDown)
        withClue("each is a retry: ")(
          pipeline.metric(source, "deliver", "deliveryRetries") should be >= refused.get.toLong
        )
      finally server.stop(0)
      received should have size orders
      val delivered = cosmos.read("events-output").values
      delivered should have size orders
      delivered.foreach: record =>
        record.get("region") shouldBe Some(Json.Str("eu-west"))
        record.get("deliveredAt") should matchPattern { case Some(Json.Str(_)) => }
        record.get("amount") should matchPattern { case Some(Json.Num(text)) if BigDecimal(text).scale <= 2 => }
      val letter = cosmos.read("dead-letter").values.loneElement
      letter.get("container") shouldBe Some(Json.Str("events-source"))
      letter.get("message") shouldBe Some(Json.Str("source is missing; expected a text that is not empty"))
      letter.get("document").flatMap(_.get("id")) shouldBe Some(Json.Str("no-amount"))

  test("orders reach the consumer over TCP"):
    withPipeline: pipeline =>
      val received = ConcurrentHashMap.newKeySet[String]()
      pipeline.cosmos.write("events-source", good)
      Using.resource(ServerSocket(0, 50, InetAddress.getLoopbackAddress)): consumer =>
        daemon(serve(consumer, received))
        pipeline.submit("--job.transport", "tcp", "--CONSUMER_TCP_ADDRESS", s"localhost:${consumer.getLocalPort}")
        LocalCosmos.await("recorded deliveries", limit)(pipeline.cosmos.count("events-output") == orders)
      received should have size orders

  private def withPipeline(test: Pipeline => Unit): Unit =
    val reporter = InMemoryReporter.create()
    val cluster = MiniClusterWithClientResource(
      MiniClusterResourceConfiguration
        .Builder()
        .setConfiguration(reporter.addToConfiguration(Configuration().set(RestOptions.BIND_PORT, "0")))
        .setNumberTaskManagers(1)
        .setNumberSlotsPerTaskManager(4)
        .build()
    )
    cluster.before()
    try
      Using.resource(
        LocalCosmos.start(
          "events-source:/customerId:4",
          "events-processed:/region:2",
          "events-output:/region:2",
          "dead-letter:/container:1"
        )
      ): cosmos =>
        Using.resource(Pipeline(cosmos, reporter))(test)
    finally cluster.after()

  /** Both jobs on a cluster. */
  private final class Pipeline(val cosmos: LocalCosmos, reporter: InMemoryReporter) extends AutoCloseable:
    var jobs = List.empty[JobClient]

    def submit(more: String*): Unit =
      val arguments = List(
        "--endpoint",
        cosmos.endpoint,
        "--database",
        LocalCosmos.database,
        "--auth.key-file",
        cosmos.keyFile.toString,
        "--scan.poll-interval",
        "100",
        "--job.checkpoint-interval-ms",
        "500",
        "--job.parallelism",
        "2"
      )
      val settings = JobSettings.of(arguments ++ more, Map.empty).value
      for define <- List(OrderProcessing.define, OrderDelivery.define) do
        val env = settings.configure(StreamExecutionEnvironment.getExecutionEnvironment)
        define(env, settings)
        jobs ::= env.executeAsync()

    /** The sum of a metric over the subtasks of an operator. */
    def metric(job: JobClient, operator: String, name: String): Long =
      val found = reporter.findMetrics(job.getJobID, s".*\\.$operator\\..*\\.$name").values.asScala
      withClue(s"$operator has no metric $name: ")(found should have size 2)
      found.map {
        case counter: Counter => counter.getCount
        case gauge: Gauge[?] => gauge.getValue.toString.toLong
        case other => fail(s"$other")
      }.sum

    def close(): Unit = jobs.foreach(_.cancel().get())

object JobsITCase:
  private val orders = 2000
  private val limit = 90.seconds

  private val good: List[Operation] = List
    .range(0, orders)
    .map: i =>
      order(
        s"o$i",
        s"""{"id":"o$i","customerId":"c1","amount":$i.125,"currency":"eur","createdAt":"2026-01-01T00:00:00Z","source":"eu-west"}"""
      )

  private def order(id: String, document: String) = Operation.upsert(id, """["c1"]""", document.getBytes(UTF_8))

  private def take(batch: Array[Byte], received: java.util.Set[String]): Unit = Json.parse(batch) match
    case Right(Json.Arr(events)) => events.flatMap(_.get("id")).foreach(id => received.add(id.toString))
    case other => throw IllegalArgumentException(s"$other is no batch")

  private def serve(consumer: ServerSocket, received: java.util.Set[String]): Unit =
    try
      while true do
        val socket = consumer.accept()
        daemon:
          Using.resource(socket): socket =>
            Source
              .fromInputStream(socket.getInputStream, "UTF-8")
              .getLines()
              .foreach: line =>
                take(line.getBytes(UTF_8), received)
                socket.getOutputStream.write("{\"accepted\":1}\n".getBytes)
    catch case _: SocketException => () // Closed: the test is over.

  private def daemon(run: => Unit): Unit =
    val thread = Thread(() => run)
    thread.setDaemon(true)
    thread.start()
