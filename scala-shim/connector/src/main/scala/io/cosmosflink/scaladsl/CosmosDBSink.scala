package io.cosmosflink.scaladsl

import io.cosmosflink.core.Core.Role
import io.cosmosflink.core.{Core, NativeCore}
import org.apache.flink.annotation.PublicEvolving
import org.apache.flink.api.common.serialization.SerializationSchema
import org.apache.flink.api.connector.sink2.{StatefulSinkWriter, WriterInitContext}
import org.apache.flink.connector.base.sink.AsyncSinkBase
import org.apache.flink.connector.base.sink.writer.{BufferedRequestState, ElementConverter}
import org.apache.flink.core.io.SimpleVersionedSerializer
import org.apache.flink.streaming.api.lineage.{LineageVertex, LineageVertexProvider}

import java.util.{Collection, List as JavaList}

/** Writes documents in bulk, at least once: with upserts under deterministic ids each document is stored once. Writes of one document keep
  * their order. What a checkpoint covers is written. What the service refuses for good fails the job, is skipped
  * and counted, or goes to a dead-letter container, as `sink.failure-mode` says.
  *
  * {{{
  * final case class Order(id: String, @partitionKey region: String) derives JsonEncoder, DocumentKey
  *
  * orders.sinkTo(CosmosDBSink[Order](options, container = "events-processed"))
  * }}}
  */
@PublicEvolving
final class CosmosDBSink[T] private (
    options: CosmosDBOptions,
    converter: ElementConverter[T, CosmosDBRequestEntry],
    core: Core.Provider
) extends AsyncSinkBase[T, CosmosDBRequestEntry](
      converter,
      CosmosDBSink.knob(options, "sink.buffer-flush.max-rows").toInt,
      CosmosDBSink.knob(options, "sink.max-in-flight-requests").toInt,
      CosmosDBSink.knob(options, "sink.max-buffered-requests").toInt,
      CosmosDBSink.knob(options, "sink.buffer-flush.max-size"),
      CosmosDBSink.knob(options, "sink.buffer-flush.interval"),
      CosmosDBSink.knob(options, "sink.max-record-size")
    ),
      LineageVertexProvider:
  override def createWriter(
      context: WriterInitContext
  ): StatefulSinkWriter[T, BufferedRequestState[CosmosDBRequestEntry]] = restoreWriter(context, JavaList.of())

  override def restoreWriter(
      context: WriterInitContext,
      states: Collection[BufferedRequestState[CosmosDBRequestEntry]]
  ): StatefulSinkWriter[T, BufferedRequestState[CosmosDBRequestEntry]] =
    val core = Failures.core(this.core)
    // Flink opens a converter with another class in 1.20 than since 2.0.
    converter match
      case ours: Started => ours.started(context)
      case _ => ()
    CosmosDBSinkWriter.open(converter, context, core, options.validatedOnCluster(core, Role.SINK), states)

  override def getWriterStateSerializer: SimpleVersionedSerializer[BufferedRequestState[CosmosDBRequestEntry]] =
    CosmosDBWriterStateSerializer()

  /** What is written, for tools that follow data from job to job: the container, by endpoint, database and name. */
  override def getLineageVertex: LineageVertex = Lineage.ofSink(options)

  override def toString: String = s"CosmosDBSink{$options}"

/** Sinks. All throw a `CosmosException` of kind CONFIG when an option is unknown, missing or wrong; `options.validated` says so as a value.
  * `container` goes before the option `container`.
  */
object CosmosDBSink:
  /** Writes models as the option `sink.write-strategy` says: upserts them, unless it is set. */
  def apply[T: JsonEncoder: DocumentKey](options: CosmosDBOptions, container: String): CosmosDBSink[T] =
    of(options, container)(document => Write.Default(document))

  /** Does with each document what the element says. */
  def writes[T: JsonEncoder: DocumentKey](options: CosmosDBOptions, container: String): CosmosDBSink[Write[T]] =
    of(options, container)(identity[Write[T]])

  /** Writes documents that are JSON already, as the option `sink.write-strategy` says. */
  def documents(options: CosmosDBOptions, container: String): CosmosDBSink[Document] =
    apply[Document](options, container)

  /** Makes a write out of each element. */
  def of[T, D: JsonEncoder: DocumentKey](options: CosmosDBOptions, container: String)(
      write: T => Write[D]
  ): CosmosDBSink[T] = create(options, container, write, () => NativeCore.get())

  /** Makes a write out of each element with a converter that is opened first. */
  def converting[T, D: JsonEncoder: DocumentKey](
      options: CosmosDBOptions,
      container: String,
      converter: WriteConverter[T, D]
  ): CosmosDBSink[T] = from(options, container, WritesOf(converter), () => NativeCore.get())

  /** Writes, as the option `sink.write-strategy` says, the documents that one of Flink's schemas makes: JSON objects in UTF-8. A document's key is what
    * it has at the container's paths, its id what the option `sink.id` says, its own field `id` unless set.
    */
  def serializing[T](options: CosmosDBOptions, container: String, schema: SerializationSchema[T]): CosmosDBSink[T] =
    from(options, container, SerializedBy(schema), () => NativeCore.get())

  private[scaladsl] def create[T, D: JsonEncoder: DocumentKey](
      options: CosmosDBOptions,
      container: String,
      write: T => Write[D],
      core: Core.Provider
  ): CosmosDBSink[T] = from(options, container, converter(write), core)

  private[scaladsl] def from[T](
      options: CosmosDBOptions,
      container: String,
      converter: ElementConverter[T, CosmosDBRequestEntry],
      core: Core.Provider
  ): CosmosDBSink[T] =
    (options + ("container" -> container)).validatedIfPossible(core, Role.SINK) match
      case Right(checked) => new CosmosDBSink(checked, converter, core)
      case Left(error) => throw error.toException

  private[scaladsl] def converter[T, D: JsonEncoder: DocumentKey](
      write: T => Write[D]
  ): ElementConverter[T, CosmosDBRequestEntry] = (element, _) => CosmosDBRequestEntry(Write.encoded(write(element)))

  /** A number for the base class. Without a core at the client it is not known yet, so it is 0: the writer takes all numbers from the
    * options that the cluster's core validates.
    */
  private def knob(options: CosmosDBOptions, name: String): Long =
    options.number(name).fold(_ => 0L, number => math.max(0L, math.min(number, Int.MaxValue.toLong)))
