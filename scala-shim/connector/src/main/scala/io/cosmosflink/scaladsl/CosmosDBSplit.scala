package io.cosmosflink.scaladsl

import io.cosmosflink.core.{Core, CosmosException, SplitEntry}
import org.apache.flink.api.connector.source.SourceSplit
import org.apache.flink.core.io.SimpleVersionedSerializer

import java.util.Arrays

import scala.jdk.CollectionConverters.*

/** A feed range and a position in its change feed.
  *
  * @param id
  *   stable name
  * @param ordinal
  *   place in the order of discovery; decides which reader owns the split
  * @param description
  *   for logs
  * @param position
  *   the core's own bytes: feed range, start and continuation token
  */
final case class CosmosDBSplit(id: String, ordinal: Int, description: String, position: Array[Byte])
    extends SourceSplit:
  override def splitId: String = id

  private[scaladsl] def entry: SplitEntry = SplitEntry(id, ordinal, true, description, position)

  override def equals(other: Any): Boolean = other match
    case that: CosmosDBSplit => id == that.id && ordinal == that.ordinal && Arrays.equals(position, that.position)
    case _ => false

  override def hashCode: Int = id.hashCode

  override def toString: String = s"split $ordinal ($description)"

object CosmosDBSplit:
  private[scaladsl] def of(entry: SplitEntry): CosmosDBSplit =
    CosmosDBSplit(entry.id, entry.ordinal, entry.description, entry.split)

/** A split that an enumerator knows, and whether a reader has it. */
final case class KnownSplit(split: CosmosDBSplit, assigned: Boolean):
  private[scaladsl] def entry: SplitEntry = split.entry.withAssigned(assigned)

/** What an enumerator knows: every split ever found, in the order of their ordinals. */
final case class CosmosDBSourceState(splits: Vector[KnownSplit])

object CosmosDBSourceState:
  private[scaladsl] def of(entries: Iterable[SplitEntry]): CosmosDBSourceState =
    CosmosDBSourceState(entries.map(known).toVector)

  private[scaladsl] def known(entry: SplitEntry): KnownSplit = KnownSplit(CosmosDBSplit.of(entry), entry.assigned)

/** The core's split bytes as they are: they carry their own version, which the core checks. */
final private[scaladsl] class CosmosDBSplitSerializer(core: Core.Provider)
    extends SimpleVersionedSerializer[CosmosDBSplit]:
  override def getVersion: Int = 1

  override def serialize(split: CosmosDBSplit): Array[Byte] = split.position

  override def deserialize(version: Int, bytes: Array[Byte]): CosmosDBSplit =
    Failures.checkVersion("splits", version, getVersion)
    restored("a split")(CosmosDBSplit.of(core.get().describeSplit(bytes)))

/** The enumerator's state in the core's durable form. */
final private[scaladsl] class CosmosDBSourceStateSerializer(core: Core.Provider)
    extends SimpleVersionedSerializer[CosmosDBSourceState]:
  override def getVersion: Int = 1

  override def serialize(state: CosmosDBSourceState): Array[Byte] =
    core.get().encodeEnumeratorState(state.splits.map(_.entry).asJava)

  override def deserialize(version: Int, bytes: Array[Byte]): CosmosDBSourceState =
    Failures.checkVersion("the enumerator's state", version, getVersion)
    restored("the enumerator")(CosmosDBSourceState.of(core.get().decodeEnumeratorState(bytes).asScala))

private[scaladsl] def restored[A](what: String)(body: => A): A =
  try body
  catch case e: CosmosException => throw Failures.restore(s"cannot restore $what: ${e.getMessage}", e)
