package io.cosmosflink.scaladsl

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

/** The entries of a converter's writes. */
final private[scaladsl] class WritesOf[T, D: JsonEncoder: DocumentKey](converter: WriteConverter[T, D])
    extends ElementConverter[T, CosmosDBRequestEntry]:
  def started(context: WriterInitContext): Unit = converter.open:
    new SerializationSchema.InitializationContext:
      override def getMetricGroup: MetricGroup = context.metricGroup.addGroup("converter")
      override def getUserCodeClassLoader: UserCodeClassLoader = context.getUserCodeClassLoader

  override def apply(element: T, context: SinkWriter.Context): CosmosDBRequestEntry =
    CosmosDBRequestEntry(Write.encoded(converter.write(element)))
