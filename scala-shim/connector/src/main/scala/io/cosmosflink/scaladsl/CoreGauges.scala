package io.cosmosflink.scaladsl

import io.cosmosflink.core.{Core, LiveMetrics, Page, ReaderMetrics}
import org.apache.flink.metrics.groups.SourceReaderMetricGroup
import org.apache.flink.metrics.{Gauge, MetricGroup}

import scala.jdk.CollectionConverters.*

/** The core's metrics as gauges. */
private[scaladsl] object CoreGauges:
  /** Registers them in the group `cosmosdb` of an operator. */
  def register(operator: MetricGroup, metrics: LiveMetrics): Unit =
    val group = operator.addGroup("cosmosdb")
    for metric <- metrics.gauges.asScala do group.gauge[Number, Gauge[Number]](metric.name, () => metrics.value(metric))

/** The metrics of a reader: FLIP-33's and the core's. The task's thread calls the methods. */
final private[scaladsl] class SourceMetrics(core: Core, group: SourceReaderMetricGroup):
  val ofCore: ReaderMetrics = ReaderMetrics(core)
  CoreGauges.register(group, ofCore)
  // No pendingBytes and no pendingRecords: they mean what the service still holds, of which it says neither.
  group.gauge[Long, Gauge[Long]]("currentFetchEventTimeLag", () => ofCore.fetchLagMillis)

  private val recordsIn = group.getIOMetricGroup.getNumRecordsInCounter
  private val bytesIn = group.getIOMetricGroup.getNumBytesInCounter
  private val errors = group.getNumRecordsInErrorsCounter

  /** Flink has counted the page as one record already. */
  def emitted(page: Page): Unit =
    recordsIn.inc(page.count - 1L)
    bytesIn.inc(page.length.toLong)
    errors.inc(ofCore.newlyLeftOut())

  /** A document of a page could not be decoded.
    *
    * @param byCore
    *   whether the core has counted it
    */
  def undecodable(byCore: Boolean): Unit =
    errors.inc()
    ofCore.undecodable(byCore)
