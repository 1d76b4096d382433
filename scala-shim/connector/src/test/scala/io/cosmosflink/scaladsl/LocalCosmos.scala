package io.cosmosflink.scaladsl

import io.cosmosflink.core.{NativeRuntime, Operation, OperationBatch, Outcome, Page}

import java.net.URI
import java.net.http.{HttpClient, HttpRequest, HttpResponse}
import java.nio.file.{Files, Path}
import java.util.concurrent.TimeUnit

import scala.concurrent.duration.*
import scala.jdk.CollectionConverters.*
import scala.util.Using

/** A local Cosmos of a test's own, started and stopped with it, and a small client that writes and reads through the core. */
final class LocalCosmos private (process: Process, val keyFile: Path, val endpoint: String) extends AutoCloseable:
  private val http = HttpClient.newHttpClient()

  /** Connection options for one container. */
  def options(container: String): CosmosDBOptions = CosmosDBOptions(
    "cosmos.endpoint" -> endpoint,
    "cosmos.database" -> LocalCosmos.database,
    "cosmos.container" -> container,
    "cosmos.auth.key-file" -> keyFile.toString,
    "source.poll-interval-ms" -> "100"
  )

  /** Writes and waits, one request after the other and so in order; every outcome must be fine. */
  def write(container: String, operations: Seq[Operation]): Unit =
    Using.resource(NativeRuntime.get().openSink(options(container).toJava)): sink =>
      val batch = OperationBatch()
      operations
        .grouped(100)
        .foreach: some =>
          batch.clear()
          some.zipWithIndex.foreach((operation, i) => batch.add(i, operation.encode()))
          sink.submit(batch)
          var pending = some.size
          while pending > 0 do
            sink
              .pollOutcomes(1000, 1000)
              .forEach: outcome =>
                assert(outcome.result == Outcome.Result.OK, outcome)
                pending -= 1

  /** Every document of a container, by partition key and id. */
  def read(container: String): Map[String, Json] =
    val core = NativeRuntime.get()
    Using.Manager { use =>
      val enumerator = use(core.openEnumerator(options(container).toJava))
      val source = use(core.openSource(options(container).toJava))
      source.addSplits(enumerator.discoverSplits(java.util.List.of()))
      val documents = Map.newBuilder[String, Json]
      var seen = Set.empty[String]
      while seen.size < count(container) do
        val buffer = new Array[Byte](source.nextPage(5000))
        assert(buffer.nonEmpty, s"no page in 5 s after ${seen.size} documents")
        val page = Page(buffer, source.takePage(buffer))
        val record = page.records
        (0 until page.count).foreach: i =>
          record.at(i)
          seen += record.partitionKey + record.id
          documents += (record.partitionKey + record.id -> Json.parse(record.document).orThrow)
      documents.result()
    }.get

  /** Documents in a container now. */
  def count(container: String): Long =
    val counts = for
      case Json.Arr(containers) <- admin("GET", "stats", "").get("containers").toSeq
      one <- containers if one.get("container").contains(Json.Str(container))
      case Json.Arr(partitions) <- one.get("partitions").toSeq
      partition <- partitions
      case Json.Num(documents) <- partition.get("documents").toSeq
    yield documents.toLong
    counts.sum

  /** An admin request of the server. */
  def admin(method: String, action: String, body: String): Json =
    val request = HttpRequest
      .newBuilder(URI.create(endpoint).resolve(s"/_local/$action"))
      .method(method, HttpRequest.BodyPublishers.ofString(body))
      .build()
    val response = http.send(request, HttpResponse.BodyHandlers.ofByteArray)
    assert(response.statusCode == 200, s"$action: ${response.statusCode} ${String(response.body)}")
    Json.parse(response.body).orThrow

  override def close(): Unit =
    process.destroy()
    if !process.waitFor(5, TimeUnit.SECONDS) then process.destroyForcibly()

extension [A](result: Either[DecodeError, A])
  def orThrow: A = result.fold(e => throw IllegalArgumentException(e.message), identity)

object LocalCosmos:
  val database = "orders"

  /** @param containers as the server's `--container` takes them, such as `events-source:/customerId:4` */
  def start(containers: String*): LocalCosmos =
    val binary = Path.of(sys.props("cosmosflink.cosmos-local"))
    assert(Files.isExecutable(binary), s"$binary is missing; build it: cargo build --release -p cosmos-local")
    val folder = Files.createTempDirectory("local-cosmos")
    val (ready, keyFile, log) = (folder.resolve("ready.json"), folder.resolve("key"), folder.resolve("log"))
    val command = Seq(binary.toString, "--listen", "127.0.0.1:0", "--database", database) ++
      Seq("--key-file", keyFile.toString, "--ready-file", ready.toString) ++ containers.flatMap(Seq("--container", _))
    val process = ProcessBuilder(command.asJava).redirectErrorStream(true).redirectOutput(log.toFile).start()
    try
      await("the local Cosmos to listen", 20.seconds):
        assert(process.isAlive, s"the local Cosmos ended with ${process.exitValue}: ${Files.readString(log)}")
        Files.exists(ready) && Files.readString(ready).trim.endsWith("}")
      Json.parse(Files.readAllBytes(ready)).orThrow.get("endpoint") match
        case Some(Json.Str(endpoint)) => new LocalCosmos(process, keyFile, endpoint)
        case other => throw AssertionError(s"the local Cosmos says that its endpoint is $other")
    catch
      case e: Throwable =>
        process.destroyForcibly()
        throw e

  /** Waits for a condition, asked every 50 ms. */
  def await(what: String, limit: FiniteDuration)(condition: => Boolean): Unit =
    val deadline = limit.fromNow
    while !condition do
      assert(deadline.hasTimeLeft(), s"waited $limit for $what")
      Thread.sleep(50)
