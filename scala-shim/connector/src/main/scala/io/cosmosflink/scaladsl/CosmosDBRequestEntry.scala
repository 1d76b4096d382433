package io.cosmosflink.scaladsl

import io.cosmosflink.core.{Operation, UnwritableRecordException}
import org.apache.flink.annotation.PublicEvolving
import org.apache.flink.connector.base.sink.writer.AsyncSinkWriterStateSerializer

import java.io.{DataInputStream, DataOutputStream, EOFException}
import java.util.Arrays

/** One write, encoded as the core takes it, or a record of which no write could be made.
  *
  * @param refusal
  *   why there is no write, for the stack trace of a job that fails; null for a write, and after a restore
  */
@PublicEvolving
final class CosmosDBRequestEntry private (
    val body: Array[Byte],
    @transient private[scaladsl] val refusal: UnwritableRecordException | Null
) extends java.io.Serializable:
  /** For messages and tests. */
  def operation: Operation = Operation.decode(body)

  /** This, or what stands for it when its document has more bytes than allowed. */
  private[scaladsl] def within(limit: Long): CosmosDBRequestEntry =
    // Most are smaller as a whole.
    if body.length <= limit || Operation.isRefused(body) then this
    else
      val bytes = Operation.documentLength(body)
      if bytes <= limit then this
      else CosmosDBRequestEntry.refused(UnwritableRecordException.tooLarge(body, bytes, limit))

  override def equals(other: Any): Boolean = other match
    case that: CosmosDBRequestEntry => Arrays.equals(body, that.body)
    case _ => false

  override def hashCode: Int = Arrays.hashCode(body)

object CosmosDBRequestEntry:
  def apply(body: Array[Byte]): CosmosDBRequestEntry = new CosmosDBRequestEntry(body, null)

  private[scaladsl] def refused(why: UnwritableRecordException): CosmosDBRequestEntry =
    new CosmosDBRequestEntry(why.encode(), why)

/** Buffered writes in a savepoint, each behind the core's frame head. */
final private[scaladsl] class CosmosDBWriterStateSerializer
    extends AsyncSinkWriterStateSerializer[CosmosDBRequestEntry]:
  override def getVersion: Int = 1

  override protected def serializeRequestToStream(entry: CosmosDBRequestEntry, out: DataOutputStream): Unit =
    val state = Operation.stateOf(entry.body)
    out.writeInt(state.length)
    out.write(state)

  override protected def deserializeRequestFromStream(size: Long, in: DataInputStream): CosmosDBRequestEntry =
    val length = in.readInt()
    val state = if length < 0 then Array.emptyByteArray else in.readNBytes(length)
    if state.length != length then throw EOFException(s"a buffered write of $length bytes ends after ${state.length}")
    restored("a buffered write")(CosmosDBRequestEntry(Operation.bodyOf(state)))
