package io.cosmosflink.scaladsl.jobs

import io.cosmosflink.core.Arguments
import io.cosmosflink.core.Core.Role
import io.cosmosflink.core.CosmosException.Kind
import io.cosmosflink.scaladsl.{
  ChangeRecord,
  CosmosDBOptions,
  CosmosDBSink,
  CosmosDBSource,
  CosmosError,
  Document,
  Write
}
import org.apache.flink.api.common.eventtime.WatermarkStrategy
import org.apache.flink.configuration.{
  CheckpointingOptions,
  Configuration,
  ExternalizedCheckpointRetention,
  PipelineOptions,
  RestartStrategyOptions
}
import org.apache.flink.core.execution.CheckpointingMode
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment

import java.time.Duration

import scala.concurrent.duration.*
import scala.jdk.CollectionConverters.*

/** Event time of both jobs. */
object Watermarks:
  /** The service's time never goes back within a feed range; a range without changes does not hold the others up. */
  def ofService: WatermarkStrategy[ChangeRecord] =
    WatermarkStrategy.forMonotonousTimestamps[ChangeRecord]().withIdleness(Duration.ofSeconds(10))

/** A job's options, checked, and what both jobs build out of them in the same way.
  *
  * @param options
  *   with all defaults
  */
final case class JobSettings private (
    options: CosmosDBOptions,
    name: Option[String],
    parallelism: Option[Int],
    checkpointInterval: FiniteDuration,
    checkpointDirectory: Option[String],
    containers: JobSettings.Containers,
    countRepeats: Boolean,
    delivery: DeliverySettings
):
  /** Puts what a job of this pipeline needs into an environment; what the cluster's own configuration sets otherwise stays. */
  def configure(env: StreamExecutionEnvironment): StreamExecutionEnvironment =
    val settings = Configuration()
      // Nothing may cross an edge or sit in state through a generic serializer.
      .set(PipelineOptions.GENERIC_TYPES, java.lang.Boolean.FALSE)
      // All elements are immutable.
      .set(PipelineOptions.OBJECT_REUSE, java.lang.Boolean.TRUE)
      .set(CheckpointingOptions.CHECKPOINTING_INTERVAL, Duration.ofMillis(checkpointInterval.toMillis))
      .set(CheckpointingOptions.CHECKPOINTING_CONSISTENCY_MODE, CheckpointingMode.EXACTLY_ONCE)
      .set(
        CheckpointingOptions.EXTERNALIZED_CHECKPOINT_RETENTION,
        ExternalizedCheckpointRetention.RETAIN_ON_CANCELLATION
      )
      // Their state is a language's own where records are in flight; without them a job of either language restores it.
      .set(CheckpointingOptions.ENABLE_UNALIGNED, java.lang.Boolean.FALSE)
      // A consumer that is down holds checkpoints back; that alone is no reason to fail.
      .set(CheckpointingOptions.TOLERABLE_FAILURE_NUMBER, Integer.valueOf(10))
      .set(RestartStrategyOptions.RESTART_STRATEGY, "exponential-delay")
      .set(RestartStrategyOptions.RESTART_STRATEGY_EXPONENTIAL_DELAY_INITIAL_BACKOFF, Duration.ofSeconds(1))
      .set(RestartStrategyOptions.RESTART_STRATEGY_EXPONENTIAL_DELAY_MAX_BACKOFF, Duration.ofSeconds(30))
      .set(RestartStrategyOptions.RESTART_STRATEGY_EXPONENTIAL_DELAY_RESET_BACKOFF_THRESHOLD, Duration.ofMinutes(5))
      // More than half an hour of failures at once: a key that was rotated, or a role, takes minutes to arrive everywhere.
      .set(RestartStrategyOptions.RESTART_STRATEGY_EXPONENTIAL_DELAY_ATTEMPTS, Integer.valueOf(80))
    checkpointDirectory.foreach(settings.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, _))
    env.configure(settings)
    parallelism.foreach(env.setParallelism)
    env

  /** Everything that changes in a container. */
  def source(container: String): CosmosDBSource[ChangeRecord] = CosmosDBSource.raw(options, container)

  /** Upserts into a container. */
  def sink(container: String): CosmosDBSink[Document] =
    // Dead letters too: whatever the job's options say of other records.
    CosmosDBSink.of(options, container)((document: Document) => Write.Upsert(document))

object JobSettings:
  /** The containers of the pipeline, in the order in which an order passes them. */
  final case class Containers(source: String, target: String, output: String, deadLetter: String)

  /** Runs a job of this name; the one place where what is wrong becomes an exception, for Flink. */
  def run(name: String, arguments: Array[String])(define: (StreamExecutionEnvironment, JobSettings) => Unit): Unit =
    val settings = of(arguments.toSeq, sys.env).fold(error => throw error.toException, identity)
    val env = settings.configure(StreamExecutionEnvironment.getExecutionEnvironment)
    define(env, settings)
    env.execute(settings.name.getOrElse(name))
    ()

  /** Settings from `--name value` arguments over the environment. */
  def of(arguments: Seq[String], environment: Map[String, String]): Either[CosmosError, JobSettings] =
    for
      parsed <- parse(arguments)
      resolved <- CosmosDBOptions.resolve(parsed, environment)
      options <- resolved.validated(Role.JOB)
      settings <- of(options)
    yield settings

  private def of(options: CosmosDBOptions): Either[CosmosError, JobSettings] =
    def text(name: String) = options.get(name).filter(_.nonEmpty)
    def millis(name: String) = options.number(name).map(_.millis)
    for
      parallelism <- options.number("job.parallelism")
      interval <- millis("job.checkpoint-interval-ms")
      source <- options.require("job.source-container")
      target <- options.require("job.target-container")
      output <- options.require("job.output-container")
      deadLetter <- options.require("job.dead-letter-container")
      countRepeats <- options.require("job.count-repeats")
      transport <- options.require("job.transport")
      consumer <- transport match
        case "tcp" => options.require("job.consumer-tcp").flatMap(config(Consumer.tcp))
        case _ => options.require("job.consumer-url").flatMap(config(Consumer.http))
      batchSize <- options.number("job.consumer-batch-size")
      timeout <- millis("job.consumer-timeout-ms")
      deadline <- millis("job.consumer-deadline-ms")
    yield JobSettings(
      options,
      text("job.name"),
      Option.when(parallelism > 0)(parallelism.toInt),
      interval,
      text("job.checkpoint-dir"),
      Containers(source, target, output, deadLetter),
      countRepeats.toBoolean,
      DeliverySettings(consumer, batchSize.toInt, timeout, deadline)
    )

  private def parse(arguments: Seq[String]): Either[CosmosError, Map[String, String]] =
    try Right(Arguments.parse(arguments*).asScala.toMap)
    catch case e: IllegalArgumentException => Left(mistake(e.getMessage))

  private def config[A](check: String => Either[String, A])(text: String): Either[CosmosError, A] =
    check(text).left.map(mistake)

  private def mistake(message: String): CosmosError = CosmosError(Kind.CONFIG, message)
