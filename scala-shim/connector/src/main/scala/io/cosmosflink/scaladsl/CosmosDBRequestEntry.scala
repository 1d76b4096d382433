package io.cosmosflink.scaladsl

import io.cosmosflink.core.Operation
import org.apache.flink.connector.base.sink.writer.AsyncSinkWriterStateSerializer

import java.io.{DataInputStream, DataOutputStream, EOFException}
import java.util.Arrays

/** One write, encoded as the core takes it. */
final case class CosmosDBRequestEntry(body: Array[Byte]) extends java.io.Serializable:
  /** For messages and tests. */
  def operation: Operation = Operation.decode(body)

  override def equals(other: Any): Boolean = other match
    case that: CosmosDBRequestEntry => Arrays.equals(body, that.body)
    case _ => false

  override def hashCode: Int = Arrays.hashCode(body)

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
