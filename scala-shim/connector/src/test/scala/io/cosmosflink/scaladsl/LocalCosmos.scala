package io.cosmosflink.scaladsl

import io.cosmosflink.core.{
  Core,
  EnumeratorActions,
  EnumeratorEvent,
  NativeCore,
  Operation,
  OperationBatch,
  PageBuffers,
  SplitEntry
}

import java.net.{URI, URLEncoder}
import java.net.http.{HttpClient, HttpRequest, HttpResponse}
import java.nio.charset.StandardCharsets.UTF_8
import java.nio.file.{Files, Path}
import java.time.format.DateTimeFormatter
import java.time.{ZonedDateTime, ZoneOffset}
import java.util.Base64
import java.util.concurrent.TimeUnit
import javax.crypto.Mac
import javax.crypto.spec.SecretKeySpec

import scala.concurrent.duration.*
import scala.jdk.CollectionConverters.*
import scala.util.Using

/** A local Cosmos of a test's own, started and stopped with it, and a small client that writes and reads through the core. */
final class LocalCosmos private (process: Process, val keyFile: Path, val endpoint: String) extends AutoCloseable:
  private val http = HttpClient.newHttpClient()

  /** Connection options for one container. */
  def options(container: String): CosmosDBOptions = CosmosDBOptions(
    "endpoint" -> endpoint,
    "database" -> LocalCosmos.database,
    "container" -> container,
    "auth.key-file" -> keyFile.toString,
    "scan.poll-interval" -> "100"
  )

  /** Writes and waits, one request after the other and so in order; every write must be fine. */
  def write(container: String, operations: Seq[Operation]): Unit =
    Using.resource(NativeCore.get().openSink(options(container).toJava)): sink =>
      sink.awaitOpen()
      val batch = OperationBatch()
      operations
        .grouped(100)
        .foreach: some =>
          batch.clear()
          some.foreach(operation => batch.add(operation.encode()))
          sink.submit(0, batch)
          val ended = Iterator.continually(sink.pollCompletions(1000)).dropWhile(_.isEmpty).next()
          assert(ended.get(0).failures.isEmpty, ended)

  /** Every document of a container, by partition key and id. */
  def read(container: String): Map[String, Json] =
    val core = NativeCore.get()
    Using.Manager { use =>
      val enumerator = use(core.openEnumerator(options(container).toJava, Array.emptyByteArray, true))
      val source = use(core.openSource(options(container).toJava))
      source.awaitOpen()
      source.addSplits(LocalCosmos.splits(enumerator))
      val buffers = PageBuffers()
      val documents = Map.newBuilder[String, Json]
      var seen = Set.empty[String]
      while seen.size < count(container) do
        val page = buffers.next(source, 5000)
        assert(page != null, s"no page in 5 s after ${seen.size} documents")
        val record = page.records
        (0 until page.count).foreach: i =>
          record.at(i)
          seen += record.partitionKey + record.id
          documents += (record.partitionKey + record.id -> Json.parse(record.document).orThrow)
        buffers.give(page)
      documents.result()
    }.get

  /** Documents in a container now. */
  def count(container: String): Long = partitions(container).sum

  /** Documents in each partition of a container; nothing when there is no such container. */
  def partitions(container: String): Seq[Long] =
    for
      case Json.Arr(containers) <- admin("GET", "stats", "").get("containers").toSeq
      one <- containers if one.get("container").contains(Json.Str(container))
      case Json.Arr(partitions) <- one.get("partitions").toSeq
      partition <- partitions
      case Json.Num(documents) <- partition.get("documents").toSeq
    yield documents.toLong

  /** Deletes a container, as an administrator would do it. */
  def delete(container: String): Unit =
    val path = s"dbs/${LocalCosmos.database}/colls/$container"
    manage("DELETE", path, path, "", 204)

  /** Creates a container. */
  def create(container: String, partitionKeyPath: String): Unit =
    val key = s"""{"paths":["$partitionKeyPath"],"kind":"Hash","version":2}"""
    val database = s"dbs/${LocalCosmos.database}"
    manage("POST", s"$database/colls", database, s"""{"id":"$container","partitionKey":$key}""", 201)

  /** A request of the service's management interface, signed with the account key. */
  private def manage(method: String, path: String, link: String, body: String, expected: Int): Unit =
    val date = DateTimeFormatter.RFC_1123_DATE_TIME.format(ZonedDateTime.now(ZoneOffset.UTC))
    val text = s"${method.toLowerCase}\ncolls\n$link\n${date.toLowerCase}\n\n"
    val mac = Mac.getInstance("HmacSHA256")
    mac.init(SecretKeySpec(Base64.getDecoder.decode(Files.readString(keyFile).trim), "HmacSHA256"))
    val signature = Base64.getEncoder.encodeToString(mac.doFinal(text.getBytes(UTF_8)))
    val request = HttpRequest
      .newBuilder(URI.create(endpoint).resolve(s"/$path"))
      .header("authorization", URLEncoder.encode(s"type=master&ver=1.0&sig=$signature", UTF_8))
      .header("x-ms-date", date)
      .header("x-ms-version", "2018-12-31")
      .method(method, HttpRequest.BodyPublishers.ofString(body))
      .build()
    val response = http.send(request, HttpResponse.BodyHandlers.ofString)
    assert(response.statusCode == expected, s"$method $path: ${response.statusCode} ${response.body}")

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

  /** All splits of a container, as the only reader there is gets them. */
  def splits(enumerator: Core.EnumeratorHandle): java.util.List[SplitEntry] =
    val found = EnumeratorEvent.Discovered(enumerator.discover())
    enumerator.coordinate(Core.Readers(1, java.util.List.of(0)), found).actions.asScala.toList match
      case List(assign: EnumeratorActions.Assign) => assign.splits.get(0)
      case other => throw AssertionError(other.toString)

  /** @param containers
    *   as the server's `--container` takes them, such as `events-source:/customerId:4`; what begins with `--` is an option of the server's,
    *   such as `--all-versions`
    */
  def start(containers: String*): LocalCosmos =
    val binary = Path.of(sys.props("cosmosflink.cosmos-local"))
    assert(Files.isExecutable(binary), s"$binary is missing; build it: cargo build --release -p cosmos-local")
    val folder = Files.createTempDirectory("local-cosmos")
    val (ready, keyFile, log) = (folder.resolve("ready.json"), folder.resolve("key"), folder.resolve("log"))
    val command = Seq(binary.toString, "--listen", "127.0.0.1:0", "--database", database) ++
      Seq("--key-file", keyFile.toString, "--ready-file", ready.toString) ++ containers.flatMap: container =>
        if container.startsWith("--") then Seq(container) else Seq("--container", container)
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
