package io.cosmosflink.scaladsl

import org.apache.flink.api.common.eventtime.WatermarkStrategy
import org.apache.flink.api.common.functions.{FilterFunction, FlatMapFunction, MapFunction}
import org.apache.flink.api.connector.source.{Boundedness, SplitEnumerator}
import org.apache.flink.api.java.functions.KeySelector
import org.apache.flink.connector.base.source.hybrid.HybridSource
import org.apache.flink.streaming.api.datastream.{DataStream, KeyedStream, SingleOutputStreamOperator}
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
import org.apache.flink.streaming.api.functions.ProcessFunction
import org.apache.flink.util.{Collector, OutputTag}

import java.time.Duration

extension (env: StreamExecutionEnvironment)
  /** A stream of a container's changes. Unless told otherwise, a feed range without changes holds event time back for ten seconds only. */
  def cosmos[T](
      source: CosmosDBSource[T],
      name: String,
      watermarks: WatermarkStrategy[T] =
        WatermarkStrategy.forMonotonousTimestamps[T]().withIdleness(Duration.ofSeconds(10))
  ): SingleOutputStreamOperator[T] = env.fromSource(source, watermarks, name, source.getProducedType)

extension [T](first: CosmosDBSource[T])
  /** A source that ends, and behind it the change feed from where it stops, without a gap: it needs [[Bounded.Latest]]. What was changed while it
    * read may come twice.
    *
    * {{{
    * val table = CosmosDBSource[Order](account.withQuery("SELECT * FROM c"), "orders", bounded = Bounded.Latest)
    * val source = table.followedBy(start => CosmosDBSource[Order](account, "orders", startup = start))
    * }}}
    *
    * @param changes
    *   makes the second source of where it is to begin, once the first has ended; travels in the job graph
    */
  def followedBy(changes: Startup => CosmosDBSource[T]): HybridSource[T] = HybridSource
    .builder[T, Enumerator](first)
    .addSource[Enumerator, CosmosDBSource[T]](Changes(changes), Boundedness.CONTINUOUS_UNBOUNDED)
    .build()

private type Enumerator = SplitEnumerator[CosmosDBSplit, CosmosDBSourceState]

final private class Changes[T](make: Startup => CosmosDBSource[T])
    extends HybridSource.SourceFactory[T, CosmosDBSource[T], Enumerator]:
  override def create(context: HybridSource.SourceSwitchContext[Enumerator]): CosmosDBSource[T] =
    make(Startup.Behind(context.getPreviousEnumerator))

/** Flink's operators with types from [[FlinkType]], so that nothing falls back to Kryo. */
extension [T](stream: DataStream[T])
  def mapTo[U: FlinkType](f: T => U): SingleOutputStreamOperator[U] =
    stream.map((value => f(value)): MapFunction[T, U], FlinkType[U].info)

  def flatMapTo[U: FlinkType](f: T => IterableOnce[U]): SingleOutputStreamOperator[U] =
    stream.flatMap(
      ((value, out) => f(value).iterator.foreach(out.collect)): FlatMapFunction[T, U],
      FlinkType[U].info
    )

  def filterBy(f: T => Boolean): SingleOutputStreamOperator[T] = stream.filter((value => f(value)): FilterFunction[T])

  /** Refuses a type whose equality its bytes do not follow: Flink would look for its state in the wrong place. */
  def keyedBy[K: FlinkType](f: T => K): KeyedStream[T, K] =
    val key = FlinkType[K].info
    if !key.isKeyType then
      throw IllegalArgumentException(
        s"$key cannot be a key: values can be equal and differ in their bytes, or the other way round; use a String of it"
      )
    stream.keyBy((value => f(value)): KeySelector[T, K], key)

  /** Runs a process function. */
  def processTo[U: FlinkType](function: ProcessFunction[T, U]): SingleOutputStreamOperator[U] =
    stream.process(function, FlinkType[U].info)

  /** Sends each element on one of two ways: `Right` into the stream that is returned, `Left` into its side output `left`. */
  def divert[L, R: FlinkType](left: OutputTag[L])(f: T => Either[L, R]): SingleOutputStreamOperator[R] =
    stream.processTo(Divert(left, f))

/** A side output with its type. */
def sideOutput[T: FlinkType](name: String): OutputTag[T] = OutputTag(name, FlinkType[T].info)

final private class Divert[T, L, R](left: OutputTag[L], f: T => Either[L, R]) extends ProcessFunction[T, R]:
  override def processElement(value: T, context: ProcessFunction[T, R]#Context, out: Collector[R]): Unit =
    f(value) match
      case Right(kept) => out.collect(kept)
      case Left(other) => context.output(left, other)
