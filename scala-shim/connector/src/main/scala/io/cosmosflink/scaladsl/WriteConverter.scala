package io.cosmosflink.scaladsl

import io.cosmosflink.core.{Operation, OperationKind}
import org.apache.flink.annotation.PublicEvolving
import org.apache.flink.api.common.serialization.SerializationSchema
import org.apache.flink.api.connector.sink2.{SinkWriter, WriterInitContext}
import org.apache.flink.connector.base.sink.writer.ElementConverter
import org.apache.flink.metrics.MetricGroup
import org.apache.flink.util.UserCodeClassLoader

import scala.annotation.unused

/** Makes writes out of elements, with what it sets up on each task first, such as counters or a schema. A plain function does where there is
  * nothing to set up.
  */
@PublicEvolving
trait WriteConverter[-T, +D] extends Serializable:
  /** Called once on each task before the first element, with a metric group of its own and the class loader of the job. */
  def open(@unused context: SerializationSchema.InitializationContext): Unit = ()

  /** The write that stands for an element. What it throws is this element's failure, with which the option `sink.failure-mode` deals. */
  def write(element: T): Write[D]

/** An element converter that is opened before its first element. Flink's own `open` takes another class in 1.20 than since 2.0. */
private[scaladsl] trait Started:
  def started(context: WriterInitContext): Unit

/** What a converter or a schema is opened with. */
final private class Opening(context: WriterInitContext) extends SerializationSchema.InitializationContext:
  override def getMetricGroup: MetricGroup = context.metricGroup.addGroup("converter")
  override def getUserCodeClassLoader: UserCodeClassLoader = context.getUserCodeClassLoader

/** The entries of a converter's writes. */
final private[scaladsl] class WritesOf[T, D: JsonEncoder: DocumentKey](converter: WriteConverter[T, D])
    extends ElementConverter[T, CosmosDBRequestEntry]
    with Started:
  override def started(context: WriterInitContext): Unit = converter.open(Opening(context))

  override def apply(element: T, context: SinkWriter.Context): CosmosDBRequestEntry =
    CosmosDBRequestEntry(Write.encoded(converter.write(element)))

/** The entries of a schema's documents. What is done with them, their ids and their keys are the core's to find. */
final private[scaladsl] class SerializedBy[T](schema: SerializationSchema[T])
    extends ElementConverter[T, CosmosDBRequestEntry]
    with Started:
  override def started(context: WriterInitContext): Unit = schema.open(Opening(context))

  override def apply(element: T, context: SinkWriter.Context): CosmosDBRequestEntry =
    val document = Option(schema.serialize(element)).getOrElse:
      throw IllegalArgumentException("the serialization schema gave null; leave the record out before the sink")
    CosmosDBRequestEntry(Operation(OperationKind.DEFAULT, "", "", "", document).encode())
