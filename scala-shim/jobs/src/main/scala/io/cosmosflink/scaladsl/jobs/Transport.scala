package io.cosmosflink.scaladsl.jobs

import java.io.{BufferedReader, ByteArrayOutputStream, EOFException, InputStreamReader, IOException, OutputStream}
import java.net.http.{HttpClient, HttpRequest, HttpResponse}
import java.net.{InetSocketAddress, Socket, URI}
import java.nio.charset.StandardCharsets.UTF_8
import java.util.concurrent.atomic.AtomicInteger
import java.util.concurrent.{
  CompletableFuture,
  CompletionException,
  ConcurrentLinkedDeque,
  ExecutionException,
  Executors,
  ThreadFactory
}

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

  /** An answer whatever happens: a `Future` whose body meets a fatal error, such as no memory, never completes. */
  private[jobs] def answer(consumer: String)(body: => Answer): Answer =
    try body
    catch case e: Throwable => unreachable(consumer, e)

  private[jobs] def unreachable(consumer: String, e: Throwable): Answer =
    Answer.Failed(s"the consumer at $consumer cannot be reached: $e")

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
    val response =
      try client.sendAsync(request(events), HttpResponse.BodyHandlers.ofString())
      catch case e: Throwable => CompletableFuture.failedFuture(e)
    response.asScala
      .transform(answer => Success(Transport.answer(url.toString)(judge(answer))))(using ExecutionContext.parasitic)

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
    // What the client, or Scala's futures around an Error, have wrapped.
    case Failure(e @ (_: CompletionException | _: ExecutionException)) if e.getCause != null =>
      judge(Failure(e.getCause))
    // The client's own exceptions do not name the address, and often nothing at all.
    case Failure(e) => Transport.unreachable(url.toString, e)

  def close(): Unit = threads.shutdownNow(): Unit

/** One line of JSON per batch, one line of JSON back for each; as many connections as batches at one time. */
final class TcpTransport(host: String, port: Int, timeout: FiniteDuration, connections: Int) extends Transport:
  private val threads = Executors.newFixedThreadPool(connections, Transport.daemons("consumer-tcp"))
  private val execution = ExecutionContext.fromExecutorService(threads)
  private val consumer = s"$host:$port"
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
    Future(Transport.answer(consumer)(exchange(Transport.array(events) :+ '\n'.toByte)))(using execution)
      // After close there is no thread to run it.
      .recover { case NonFatal(e) => Transport.unreachable(consumer, e) }(using ExecutionContext.parasitic)

  private def exchange(line: Array[Byte]): Answer =
    val connection = Option(idle.poll()).getOrElse(connect())
    val answer = Transport.answer(consumer)(judge(connection.ask(line)))
    if answer == Answer.Taken then
      idle.push(connection)
      if closed then closeIdle()
    // The consumer may close after an error; a new connection is cheap then.
    else connection.close()
    answer

  private def judge(answer: String): Answer = Json.parse(answer.getBytes(UTF_8)) match
    case Right(json) =>
      json.get("error") match
        case None => Answer.Taken
        case Some(Json.Str(why)) => Answer.Refused(s"the consumer at $consumer refused a batch: $why")
        case Some(why) => Answer.Refused(s"the consumer at $consumer refused a batch: $why")
    case Left(error) => Answer.Failed(s"the consumer at $consumer answered no JSON: ${error.message}")

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
