package io.cosmosflink.scaladsl.jobs

import java.io.{BufferedReader, ByteArrayOutputStream, EOFException, InputStreamReader, IOException, OutputStream}
import java.net.http.{HttpClient, HttpRequest, HttpResponse}
import java.net.{InetSocketAddress, Socket, URI}
import java.nio.charset.StandardCharsets.UTF_8
import java.util.concurrent.atomic.AtomicInteger
import java.util.concurrent.{CompletionException, ConcurrentLinkedDeque, Executors, ThreadFactory}

import io.cosmosflink.scaladsl.Json

import scala.annotation.tailrec
import scala.concurrent.duration.FiniteDuration
import scala.concurrent.{ExecutionContext, Future}
import scala.jdk.DurationConverters.*
import scala.jdk.FutureConverters.*
import scala.util.control.NonFatal
import scala.util.{Failure, Success, Try}

/** Where the consumer is. */
enum Consumer:
  case Http(url: URI)
  case Tcp(host: String, port: Int)

  /** A way there, with room for so many batches at one time. */
  def connect(timeout: FiniteDuration, connections: Int): Transport = this match
    case Http(url) => HttpTransport(url, timeout)
    case Tcp(host, port) => TcpTransport(host, port, timeout, connections)

object Consumer:
  private val address = "(.+):([0-9]{1,5})".r

  /** `host:port` of the option `job.consumer-tcp`. */
  def tcp(text: String): Either[String, Consumer] = text match
    case address(host, port) => Right(Tcp(host, port.toInt))
    case _ => Left(s"job.consumer-tcp is '$text'; expected host:port")

  /** The URL of the option `job.consumer-url`. */
  def http(text: String): Either[String, Consumer] =
    Try(Http(URI(text))).toEither.left.map(e => s"job.consumer-url is '$text'; expected a URL: ${e.getMessage}")

/** What the consumer says to a batch. */
enum Answer:
  case Taken

  /** It will not take the batch however often it is sent. */
  case Refused(why: String)

  /** Worth another attempt. */
  case Failed(why: String)

/** A way to the consumer. */
trait Transport extends AutoCloseable:
  /** Sends one batch. The future does not fail: what goes wrong is an answer too. */
  def send(events: Seq[Array[Byte]]): Future[Answer]

  def close(): Unit

object Transport:
  /** The events as one JSON array. */
  def array(events: Seq[Array[Byte]]): Array[Byte] =
    val out = ByteArrayOutputStream(2 + events.iterator.map(_.length + 1).sum)
    out.write('[')
    events.iterator.zipWithIndex.foreach: (event, i) =>
      if i > 0 then out.write(',')
      out.writeBytes(event)
    out.write(']')
    out.toByteArray

  def daemons(name: String): ThreadFactory =
    val number = AtomicInteger()
    task =>
      val thread = Thread(task, s"$name-${number.incrementAndGet()}")
      thread.setDaemon(true)
      thread

/** Posts JSON arrays over connections that the client keeps open. */
final class HttpTransport(url: URI, timeout: FiniteDuration) extends Transport:
  private val threads = Executors.newFixedThreadPool(2, Transport.daemons("consumer-http"))
  private val client = HttpClient
    .newBuilder()
    .version(HttpClient.Version.HTTP_1_1)
    .connectTimeout(timeout.toJava)
    .executor(threads)
    .build()

  def send(events: Seq[Array[Byte]]): Future[Answer] =
    Future
      .fromTry(Try(client.sendAsync(request(events), HttpResponse.BodyHandlers.ofString())))
      .flatMap(_.asScala)(using ExecutionContext.parasitic)
      .transform(answer => Success(judge(answer)))(using ExecutionContext.parasitic)

  private def request(events: Seq[Array[Byte]]) = HttpRequest
    .newBuilder(url)
    .timeout(timeout.toJava)
    .header("Content-Type", "application/json")
    .POST(HttpRequest.BodyPublishers.ofByteArray(Transport.array(events)))
    .build()

  private def judge(answer: Try[HttpResponse[String]]): Answer = answer match
    case Success(response) if response.statusCode / 100 == 2 => Answer.Taken
    case Success(response) =>
      val why = s"the consumer at $url answered ${response.statusCode}: ${response.body.take(300)}"
      response.statusCode match
        case 400 | 413 | 415 | 422 => Answer.Refused(why)
        case _ => Answer.Failed(why)
    case Failure(e: CompletionException) if e.getCause != null => judge(Failure(e.getCause))
    // The client's own exceptions do not name the address, and often nothing at all.
    case Failure(e) => Answer.Failed(s"the consumer at $url cannot be reached: $e")

  def close(): Unit = threads.shutdownNow(): Unit

/** One line of JSON per batch, one line of JSON back for each; as many connections as batches at one time. */
final class TcpTransport(host: String, port: Int, timeout: FiniteDuration, connections: Int) extends Transport:
  private val threads = Executors.newFixedThreadPool(connections, Transport.daemons("consumer-tcp"))
  private val execution = ExecutionContext.fromExecutorService(threads)
  private val idle = ConcurrentLinkedDeque[Connection]()
  @volatile private var closed = false

  private final class Connection(socket: Socket, in: BufferedReader, out: OutputStream) extends AutoCloseable:
    def ask(line: Array[Byte]): String =
      out.write(line)
      out.flush()
      Option(in.readLine()).getOrElse(throw EOFException("it closed the connection without an answer"))

    def close(): Unit =
      try socket.close()
      catch case _: IOException => () // It is given up anyway.

  def send(events: Seq[Array[Byte]]): Future[Answer] =
    Future(exchange(Transport.array(events) :+ '\n'.toByte))(using execution)
      .recover { case NonFatal(e) => Answer.Failed(s"the consumer at $host:$port cannot be reached: $e") }(using
        ExecutionContext.parasitic
      )

  private def exchange(line: Array[Byte]): Answer =
    val connection = Option(idle.poll()).getOrElse(connect())
    Try(judge(connection.ask(line))) match
      case Success(Answer.Taken) =>
        idle.push(connection)
        if closed then closeIdle()
        Answer.Taken
      case other =>
        // The consumer may close after an error; a new connection is cheap then.
        connection.close()
        other.get

  private def judge(answer: String): Answer = Json.parse(answer.getBytes(UTF_8)) match
    case Right(json) =>
      json.get("error") match
        case None => Answer.Taken
        case Some(Json.Str(why)) => Answer.Refused(s"the consumer at $host:$port refused a batch: $why")
        case Some(why) => Answer.Refused(s"the consumer at $host:$port refused a batch: $why")
    case Left(error) => Answer.Failed(s"the consumer at $host:$port answered no JSON: ${error.message}")

  private def connect(): Connection =
    val socket = Socket()
    try
      socket.setTcpNoDelay(true)
      socket.setSoTimeout(timeout.toMillis.toInt)
      socket.connect(InetSocketAddress(host, port), timeout.toMillis.toInt)
      Connection(socket, BufferedReader(InputStreamReader(socket.getInputStream, UTF_8)), socket.getOutputStream)
    catch
      case e: IOException =>
        socket.close()
        throw e

  @tailrec private def closeIdle(): Unit = Option(idle.poll()) match
    case Some(connection) =>
      connection.close()
      closeIdle()
    case None => ()

  def close(): Unit =
    closed = true
    threads.shutdownNow(): Unit
    closeIdle()
