package io.cosmosflink.scaladsl

import io.cosmosflink.core.{Core, LiveMetrics, Page, PerOwner, ReaderMetrics}
import org.apache.flink.metrics.groups.SourceReaderMetricGroup
import org.apache.flink.metrics.{Gauge, MetricGroup}

import scala.jdk.CollectionConverters.*

/** The core's metrics as gauges. */
private[scaladsl] object CoreGauges:
  /** Registers them in the group `cosmosdb` of an operator. */
  def register(operator: MetricGroup, metrics: LiveMetrics): Unit =
    val group = operator.addGroup("cosmosdb")
    for metric <- metrics.gauges.asScala do group.gauge[Number, Gauge[Number]](metric.name, () => metrics.value(metric))

  /** Registers what is known of one split in the group `cosmosdb.split.ID` of an operator. No name ends like one of Flink's own: what sums
    * those up would count it twice.
    */
  def register(operator: MetricGroup, splitId: String, metrics: LiveMetrics): Unit =
    val group = operator.addGroup("cosmosdb").addGroup("split", splitId)
    group.gauge[Double, Gauge[Double]]("lagSeconds", () => metrics.ofSplit(splitId).lagMillis / 1000.0)
    group.gauge[Long, Gauge[Long]]("lagRecords", () => metrics.ofSplit(splitId).records)

/** The metrics of a reader: FLIP-33's and the core's. The task's thread calls the methods.
  *
  * A metric group keeps the first gauge of a name. Where several readers of one task follow one another, as in a `HybridSource`, they share
  * these, which show the reader that reads.
  */
final private[scaladsl] class SourceMetrics private (core: Core, group: SourceReaderMetricGroup):
  val ofCore: ReaderMetrics = ReaderMetrics(core)
  CoreGauges.register(group, ofCore)
  // The group holds this object by its gauges, which name it.
  group.setPendingRecordsGauge(() => this.ofCore.pendingRecords)
  group.setPendingBytesGauge(() => this.ofCore.pendingBytes)
  group.gauge[Long, Gauge[Long]]("currentFetchEventTimeLag", () => this.ofCore.fetchLagMillis)

  private val recordsIn = group.getIOMetricGroup.getNumRecordsInCounter
  private val bytesIn = group.getIOMetricGroup.getNumBytesInCounter
  private val errors = group.getNumRecordsInErrorsCounter

  private var splits = Set.empty[String]

  /** The reader has this split from now on. Its gauges stay when it ends, and show 0 from the next look at the core on. */
  def reads(splitId: String): Unit =
    if !splits(splitId) then
      splits += splitId
      CoreGauges.register(group, splitId, ofCore)

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

private[scaladsl] object SourceMetrics:
  private val all = PerOwner[SourceReaderMetricGroup, SourceMetrics]()

  /** Those of the readers with this group. */
  def of(core: Core, group: SourceReaderMetricGroup): SourceMetrics =
    all.of(group, () => new SourceMetrics(core, group))
