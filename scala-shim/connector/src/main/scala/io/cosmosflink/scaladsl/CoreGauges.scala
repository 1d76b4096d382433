package io.cosmosflink.scaladsl

import io.cosmosflink.core.CoreMetrics.Field
import io.cosmosflink.core.{Core, CoreMetrics, Page}
import org.apache.flink.metrics.groups.SourceReaderMetricGroup
import org.apache.flink.metrics.{Gauge, MetricGroup}

import scala.concurrent.duration.*

/** Gauges of a handle's metrics in the group `cosmosdb`; the snapshot behind them is at most a second old.
  *
  * @param more
  *   gauges of one sort of handle, by name
  */
private[scaladsl] class CoreGauges(parent: MetricGroup, more: (String, CoreMetrics => Long | Double)*):
  @volatile private var handle: Option[Core.Handle] = None
  private var snapshot = CoreMetrics.NONE
  private var fresh = Deadline.now

  private val group = parent.addGroup("cosmosdb")
  (CoreGauges.common ++ more).foreach((name, value) => add(name, () => value(current())))

  /** One gauge more beside those of the core. */
  final protected def add(name: String, value: () => Long | Double): Unit = CoreGauges.register(group, name, value)

  /** From now on the gauges show this handle. */
  final def follow(open: Core.Handle): Unit = handle = Some(open)

  /** The handle is about to be closed; the gauges keep its last values, unless they show another one by now. */
  final def forget(closing: Core.Handle): Unit =
    if handle.exists(_ eq closing) then
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
    "heldMillis" -> (_.get(Field.HELD_MILLIS)),
    "requestLatencyP50Ms" -> (_.latencyMillis(0.5)),
    "requestLatencyP99Ms" -> (_.latencyMillis(0.99))
  )

  val ofSink: Seq[(String, CoreMetrics => Long | Double)] = Seq(
    "operationsWaiting" -> (_.get(Field.OPERATIONS_WAITING)),
    "failed" -> (_.get(Field.FAILED)),
    "skipped" -> (_.get(Field.SKIPPED)),
    "deadLettered" -> (_.get(Field.DEAD_LETTERED)),
    "bulkRequests" -> (_.get(Field.BULK_REQUESTS)),
    "pointRequests" -> (_.get(Field.POINT_REQUESTS)),
    "bulkRefused" -> (_.get(Field.BULK_REFUSED)),
    "bulkOff" -> (_.get(Field.BULK_OFF))
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

  /** What the core left out so far, and how much of it is counted as errors. */
  @volatile private var leftOut = 0L
  private var leftOutCounted = 0L

  /** Documents that the reader could not use. */
  @volatile private var unreadable = 0L

  // No pendingBytes and no pendingRecords: they mean what the service still holds, of which it says neither.
  CoreGauges.register(group, "currentFetchEventTimeLag", () => fetchLagMillis)
  add("undecodable", () => current().get(Field.UNDECODABLE) + unreadable)

  /** On the fetcher's thread. */
  def fetched(page: Page): Unit =
    if page.newestSeconds > 0 then fetchLagMillis = math.max(0, page.arrivedMillis - page.newestSeconds * 1000)

  /** On the task's thread. Flink has counted the page as one record already. */
  def emitted(page: Page): Unit =
    recordsIn.inc(page.count - 1L)
    bytesIn.inc(page.length.toLong)
    val now = leftOut
    // A second handle counts from 0 again.
    errors.inc(if now < leftOutCounted then now else now - leftOutCounted)
    leftOutCounted = now

  /** On the fetcher's thread, before the page that lacks them is handed over. */
  def coreLeftOut(documents: Long): Unit = leftOut = documents

  /** A document of a page could not be decoded. On the task's thread.
    *
    * @param byCore
    *   whether the core has counted it
    */
  def undecodable(byCore: Boolean): Unit =
    errors.inc()
    if !byCore then unreadable += 1
