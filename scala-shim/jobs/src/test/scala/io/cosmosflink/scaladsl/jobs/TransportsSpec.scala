package io.cosmosflink.scaladsl.jobs

import com.sun.net.httpserver.HttpServer
import org.scalatest.concurrent.ScalaFutures
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers
import org.scalatest.time.{Millis, Seconds, Span}

import java.net.{InetAddress, InetSocketAddress, ServerSocket, URI}

import scala.concurrent.duration.*
import scala.io.Source
import scala.util.Using

/** What becomes of the consumer's answers. */
class TransportsSpec extends AnyFunSuite with Matchers with ScalaFutures:
  given PatienceConfig = PatienceConfig(Span(20, Seconds), Span(5, Millis))
  private val batch = List("{}".getBytes, "{}".getBytes)

  for (status, expected) <- List(
      200 -> "Taken",
      204 -> "Taken",
      400 -> "Refused",
      413 -> "Refused",
      503 -> "Failed",
      401 -> "Failed"
    )
  do
    test(s"http $status is $expected"):
      val server = HttpServer.create(InetSocketAddress(InetAddress.getLoopbackAddress, 0), 0)
      server.createContext(
        "/events",
        exchange =>
          exchange.getRequestBody.readAllBytes()
          exchange.sendResponseHeaders(status, -1)
          exchange.close()
      )
      server.start()
      try
        val url = URI(s"http://localhost:${server.getAddress.getPort}/events")
        Using.resource(HttpTransport(url, 5.seconds)): transport =>
          transport.send(batch).futureValue.productPrefix shouldBe expected
      finally server.stop(0)

  test("no server is worth another attempt, and the answer names the address"):
    val port = Using.resource(ServerSocket(0, 1, InetAddress.getLoopbackAddress))(_.getLocalPort)
    Using.resource(HttpTransport(URI(s"http://localhost:$port/events"), 5.seconds)): transport =>
      transport.send(batch).futureValue should matchPattern { case Answer.Failed(why) if why.contains(s":$port") => }
    Using.resource(TcpTransport("localhost", port, 5.seconds, 1)): transport =>
      transport.send(batch).futureValue should matchPattern { case Answer.Failed(why) if why.contains(s":$port") => }

  test("a fatal error is an answer too"):
    val fatal = new IndexedSeq[Array[Byte]]:
      def length: Int = throw NoClassDefFoundError("a/Lost")
      def apply(i: Int): Array[Byte] = throw NoClassDefFoundError("a/Lost")
    List(HttpTransport(URI("http://localhost:1/events"), 5.seconds), TcpTransport("localhost", 1, 5.seconds, 1))
      .foreach:
        Using.resource(_): transport =>
          transport.send(fatal).futureValue should matchPattern { case Answer.Failed(why) if why.contains("a/Lost") => }

  for (line, expected) <- List(
      """{"accepted":2}""" -> "Taken",
      """{"error":"no"}""" -> "Refused",
      """{"error":{"code":7}}""" -> "Refused",
      "nonsense" -> "Failed",
      "" -> "Failed"
    )
  do
    test(s"tcp '$line' is $expected"):
      Using.resource(ServerSocket(0, 5, InetAddress.getLoopbackAddress)): server =>
        val thread = Thread: () =>
          Using.resource(server.accept()): socket =>
            // Nothing: the connection closes without an answer.
            if Source.fromInputStream(socket.getInputStream, "UTF-8").getLines().next() == "[{},{}]" && line.nonEmpty
            then socket.getOutputStream.write(s"$line\n".getBytes)
        thread.setDaemon(true)
        thread.start()
        Using.resource(TcpTransport("localhost", server.getLocalPort, 5.seconds, 1)): transport =>
          transport.send(batch).futureValue.productPrefix shouldBe expected

  test("a connection is used again"):
    Using.resource(ServerSocket(0, 5, InetAddress.getLoopbackAddress)): server =>
      val thread = Thread: () =>
        // Only one connection is ever accepted.
        Using.resource(server.accept()): socket =>
          Source
            .fromInputStream(socket.getInputStream, "UTF-8")
            .getLines()
            .foreach: _ =>
              socket.getOutputStream.write("{\"accepted\":2}\n".getBytes)
      thread.setDaemon(true)
      thread.start()
      Using.resource(TcpTransport("localhost", server.getLocalPort, 5.seconds, 2)): transport =>
        for _ <- 1 to 3 do transport.send(batch).futureValue shouldBe Answer.Taken
