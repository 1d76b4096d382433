package io.cosmosflink.scaladsl.jobs

import org.apache.flink.configuration.{CheckpointingOptions, PipelineOptions}
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
import org.scalatest.EitherValues
import org.scalatest.funsuite.AnyFunSuite
import org.scalatest.matchers.should.Matchers

import java.net.URI
import java.time.Duration

/** What is not in `tests/cases`: what the settings do to an environment, and what they make of addresses. */
class JobSettingsSpec extends AnyFunSuite with Matchers with EitherValues:
  private val environment =
    Map("COSMOS_URI" -> "https://a.example/", "COSMOS_DB" -> "orders", "COSMOS_KEY" -> "c2VjcmV0")

  test("the jobs keep their checkpoints, and nothing goes through a generic serializer"):
    val arguments = List("--job.checkpoint-dir", "file:///checkpoints", "--job.checkpoint-interval-ms", "1000")
    val settings = JobSettings.of(arguments :+ "--job.parallelism" :+ "3", environment).value
    val env = settings.configure(StreamExecutionEnvironment())
    val configuration = env.getConfiguration
    configuration.get(CheckpointingOptions.CHECKPOINTING_INTERVAL) shouldBe Duration.ofSeconds(1)
    configuration.get(CheckpointingOptions.CHECKPOINTS_DIRECTORY) shouldBe "file:///checkpoints"
    configuration.get(CheckpointingOptions.EXTERNALIZED_CHECKPOINT_RETENTION).name shouldBe "RETAIN_ON_CANCELLATION"
    configuration.get(PipelineOptions.GENERIC_TYPES) shouldBe false
    env.getParallelism shouldBe 3

  test("a secret does not show"):
    JobSettings.of(Nil, environment).value.toString should not include "c2VjcmV0"

  test("what is wrong with the arguments is said without their values"):
    def message(arguments: String*) = JobSettings.of(arguments, environment).left.value.message
    message("--auth.secret-key", "c2VjcmV0", "--job.name", "a", "orders") shouldBe
      "argument 5 does not begin with --; give options as --name value"
    message("c2VjcmV0", "--job.name", "a") shouldBe "argument 1 does not begin with --; give options as --name value"
    Seq(Seq("--auth.secret-key=c2VjcmV0"), Seq("--auth.secret-key=c2VjcmV0", "x")).foreach: arguments =>
      message(arguments*) shouldBe
        "argument --auth.secret-key has its value behind a =; give it as --auth.secret-key VALUE"

  test("an address is a URL, or a host and a port"):
    JobSettings
      .of(List("--job.transport", "tcp", "--job.consumer-tcp", "h:1"), environment)
      .value
      .delivery
      .consumer shouldBe
      Consumer.Tcp("h", 1)
    Consumer.tcp("[::1]:8091").value shouldBe Consumer.Tcp("[::1]", 8091)
    Consumer.tcp("nowhere").left.value should include("'nowhere'")
    Consumer.tcp("h:").left.value should include("expected host:port")
    Consumer.http("http://localhost:1/events").value shouldBe Consumer.Http(URI("http://localhost:1/events"))
    Consumer.http("not a url").left.value should include("'not a url'")
