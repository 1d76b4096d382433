package io.cosmosflink.scaladsl

import io.cosmosflink.core.{Core, CosmosException, SplitEntry}
import org.apache.flink.annotation.Internal
import org.apache.flink.api.connector.source.SourceSplit
import org.apache.flink.core.io.SimpleVersionedSerializer

import java.io.IOException
import java.util.Arrays

/** A feed range and a position in its change feed.
  *
  * @param id
  *   stable name
  * @param ordinal
  *   place in the order of discovery
  * @param description
  *   for logs
  * @param position
  *   the core's own bytes: feed range, start and continuation token
  */
@Internal
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

/** What an enumerator knows, as the core's own durable bytes: every split ever found, each with whether a reader has it. */
@Internal
final class CosmosDBSourceState private[scaladsl] (private[scaladsl] val bytes: Array[Byte]) extends Serializable:
  override def equals(other: Any): Boolean = other match
    case that: CosmosDBSourceState => Arrays.equals(bytes, that.bytes)
    case _ => false

  override def hashCode: Int = Arrays.hashCode(bytes)

  override def toString: String = s"state of ${bytes.length} bytes"

/** The core's split bytes as they are: they carry their own version, which the core checks. */
final private[scaladsl] class CosmosDBSplitSerializer(core: Core.Provider)
    extends SimpleVersionedSerializer[CosmosDBSplit]:
  override def getVersion: Int = 1

  override def serialize(split: CosmosDBSplit): Array[Byte] = split.position

  override def deserialize(version: Int, bytes: Array[Byte]): CosmosDBSplit =
    Failures.checkVersion("splits", version, getVersion)
    restored("a split")(CosmosDBSplit.of(Failures.core(core).describeSplit(bytes)))

/** The enumerator's state as it is: the bytes carry their own version, which the core checks when an enumerator begins with them. */
private[scaladsl] object CosmosDBSourceStateSerializer extends SimpleVersionedSerializer[CosmosDBSourceState]:
  override def getVersion: Int = 1

  override def serialize(state: CosmosDBSourceState): Array[Byte] = state.bytes

  override def deserialize(version: Int, bytes: Array[Byte]): CosmosDBSourceState =
    Failures.checkVersion("the enumerator's state", version, getVersion)
    // To the core no bytes are no state: the job would begin anew.
    if bytes.isEmpty then
      val message = "cannot restore the enumerator: its state is empty"
      throw Failures.restore(message, IOException(message))
    CosmosDBSourceState(bytes)

private[scaladsl] def restored[A](what: String)(body: => A): A =
  try body
  catch case e: CosmosException => throw Failures.restore(s"cannot restore $what: ${e.getMessage}", e)
