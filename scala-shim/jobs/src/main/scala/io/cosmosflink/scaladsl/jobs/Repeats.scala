package io.cosmosflink.scaladsl.jobs

import io.cosmosflink.scaladsl.{keyedBy, ChangeRecord, FlinkType}
import org.apache.flink.api.common.functions.OpenContext
import org.apache.flink.api.common.state.{ListState, ListStateDescriptor, ValueState, ValueStateDescriptor}
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo
import org.apache.flink.metrics.Gauge
import org.apache.flink.runtime.state.{FunctionInitializationContext, FunctionSnapshotContext}
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction
import org.apache.flink.streaming.api.datastream.{DataStream, SingleOutputStreamOperator}
import org.apache.flink.streaming.api.functions.KeyedProcessFunction
import org.apache.flink.util.Collector

import scala.jdk.CollectionConverters.*

/** Hands every change on, and counts those that are not newer than what was seen of their document: repeats, which there must be none of.
  *
  * A change is newer by its number, or by its time: behind a merge of partitions numbers may begin anew, lower than before.
  *
  * Number and time of the last change of each document and the counts are in Flink's state. After a failure both go back to the checkpoint, as the source
  * does: what it reads again is no repeat, unless its position is not that of the checkpoint.
  */
private[jobs] object Repeats:
  /** The operator's name and uid. */
  val name = "repeats"

  /** Counts in a stream, which keeps its order by document. */
  def count(changes: DataStream[ChangeRecord]): SingleOutputStreamOperator[ChangeRecord] = changes
    .keyedBy(change => change.partitionKey.json + change.id)
    .process(Repeats(), changes.getType)
    .name(name)
    .uid(name)

  /** What is counted, in the order of the state. */
  private enum Count(val metric: String):
    case Documents extends Count("documents")
    case Updates extends Count("updates")
    case Repeats extends Count("repeats")

final private[jobs] class Repeats
    extends KeyedProcessFunction[String, ChangeRecord, ChangeRecord],
      CheckpointedFunction:
  import Repeats.Count

  /** Number and time, in seconds, of the last change that was newer. */
  @transient private var last: ValueState[Array[Long]] | Null = null
  @transient private var saved: ListState[Array[Long]] | Null = null
  @transient private var counts: Array[Long] = Array.emptyLongArray

  override def initializeState(context: FunctionInitializationContext): Unit =
    val parts = context.getOperatorStateStore.getListState(
      ListStateDescriptor("counts", PrimitiveArrayTypeInfo.LONG_PRIMITIVE_ARRAY_TYPE_INFO)
    )
    saved = parts
    // With another parallelism a subtask gets the counts of several, or of none.
    counts = parts.get.asScala.foldLeft(Array.ofDim[Long](Count.values.length)): (all, part) =>
      all.zip(part).map(_ + _)

  override def open(context: OpenContext): Unit =
    last =
      getRuntimeContext.getState(ValueStateDescriptor("last", PrimitiveArrayTypeInfo.LONG_PRIMITIVE_ARRAY_TYPE_INFO))
    for count <- Count.values do
      getRuntimeContext.getMetricGroup.gauge[Long, Gauge[Long]](count.metric, () => counts(count.ordinal))

  override def processElement(
      change: ChangeRecord,
      context: KeyedProcessFunction[String, ChangeRecord, ChangeRecord]#Context,
      out: Collector[ChangeRecord]
  ): Unit =
    val state = last.nn
    val lsn = change.lsn.getOrElse(-1L)
    val count = Option(state.value) match
      case None => Count.Documents
      case Some(before) if lsn > before(0) || change.timestamp > before(1) => Count.Updates
      case _ => Count.Repeats
    counts(count.ordinal) += 1
    if count != Count.Repeats then state.update(Array(lsn, change.timestamp))
    out.collect(change)

  /** Documents, updates and repeats of this subtask. */
  def counted: List[Long] = counts.toList

  override def snapshotState(context: FunctionSnapshotContext): Unit =
    saved.nn.update(java.util.List.of(counts.clone))
