package io.cosmosflink.scaladsl

import io.cosmosflink.core.CoreMetrics.Field
import io.cosmosflink.core.{CoreMetrics, CosmosRuntime, Page}
import org.apache.flink.metrics.groups.SourceReaderMetricGroup
import org.apache.flink.metrics.{Gauge, MetricGroup}

import scala.concurrent.duration.*

/** Gauges of a handle's metrics in the group `cosmosdb`; the snapshot behind them is at most a second old.
  *
  * @param more
  *   gauges of one sort of handle, by name
  */
private[scaladsl] class CoreGauges(parent: MetricGroup, more: (String, CoreMetrics => Long | Double)*):
  @volatile private var handle: Option[CosmosRuntime.Handle] = None
  private var snapshot = CoreMetrics.NONE
  private var fresh = Deadline.now

  private val group = parent.addGroup("cosmosdb")
  (CoreGauges.common ++ more).foreach: (name, value) =>
    CoreGauges.register(group, name, () => value(current()))

  /** From now on the gauges show this handle. */
  final def follow(open: CosmosRuntime.Handle): Unit = handle = Some(open)

  /** The handle is about to be closed; the gauges keep their last values. */
  final def forget(): Unit =
    current()
    handle = None

  final def current(): CoreMetrics = synchronized:
    for open <- handle if (snapshot eq CoreMetrics.NONE) || fresh.isOverdue() do
      CosmosError.attempt(open.metrics) match
        // Closed in between: the last values stay.
        case Left(_) => handle = None
        case Right(now) =>
          snapshot = now
          fresh = 1.second.fromNow
    snapshot

private[scaladsl] object CoreGauges:
  private val common: Seq[(String, CoreMetrics => Long | Double)] = Seq(
    "requests" -> (_.get(Field.REQUESTS)),
    "requestUnits" -> (_.get(Field.REQUEST_CHARGE_MILLI) / 1000.0),
    "throttled" -> (_.get(Field.THROTTLED)),
    "retries" -> (_.get(Field.RETRIES)),
    "bytesReceived" -> (_.get(Field.BYTES_RECEIVED)),
    "bytesSent" -> (_.get(Field.BYTES_SENT)),
    "bufferedBytes" -> (_.get(Field.BYTES_BUFFERED)),
    "requestsInFlight" -> (_.get(Field.REQUESTS_IN_FLIGHT)),
    "requestLatencyP50Ms" -> (_.latencyMillis(0.5)),
    "requestLatencyP99Ms" -> (_.latencyMillis(0.99))
  )

  val ofSink: Seq[(String, CoreMetrics => Long | Double)] = Seq(
    "operationsWaiting" -> (_.get(Field.OPERATIONS_WAITING)),
    "failed" -> (_.get(Field.FAILED)),
    "skipped" -> (_.get(Field.SKIPPED)),
    "deadLettered" -> (_.get(Field.DEAD_LETTERED)),
    "bulkRequests" -> (_.get(Field.BULK_REQUESTS)),
    "pointRequests" -> (_.get(Field.POINT_REQUESTS))
  )

  val ofSource: Seq[(String, CoreMetrics => Long | Double)] = Seq(
    "lagSeconds" -> (_.get(Field.LAG_MILLIS) / 1000.0),
    "splits" -> (_.get(Field.SPLITS)),
    "splitsPaused" -> (_.get(Field.SPLITS_PAUSED))
  )

  def register(group: MetricGroup, name: String, value: () => Long | Double): Unit =
    group.gauge[Any, Gauge[Any]](name, () => value())
    ()

/** The metrics of a reader: FLIP-33's and the core's. */
final private[scaladsl] class SourceMetrics(group: SourceReaderMetricGroup)
    extends CoreGauges(group, CoreGauges.ofSource*):
  private val recordsIn = group.getIOMetricGroup.getNumRecordsInCounter
  private val bytesIn = group.getIOMetricGroup.getNumBytesInCounter
  private val errors = group.getNumRecordsInErrorsCounter
  @volatile private var fetchLagMillis = 0L
  group.setPendingBytesGauge(() => Long.box(current().get(Field.BYTES_BUFFERED)))
  CoreGauges.register(group, "currentFetchEventTimeLag", () => fetchLagMillis)

  /** On the fetcher's thread. */
  def fetched(page: Page): Unit =
    if page.newestSeconds > 0 then fetchLagMillis = math.max(0, page.arrivedMillis - page.newestSeconds * 1000)

  /** On the task's thread. Flink has counted the page as one record already. */
  def emitted(page: Page): Unit =
    recordsIn.inc(page.count - 1L)
    bytesIn.inc(page.length.toLong)

  def failed(): Unit = errors.inc()
