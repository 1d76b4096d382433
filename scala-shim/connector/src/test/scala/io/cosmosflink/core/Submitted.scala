package io.cosmosflink.core

/** Reads what a writer submits. */
object Submitted:
  /** The operations of a batch, in order. */
  def operations(batch: OperationBatch): List[Operation] =
    val in = FrameReader.open(batch.array(), batch.length(), FrameKind.OPERATIONS)
    List.fill(in.u32())(Operation(OperationKind.of(in.u8()), in.str(), in.str(), in.str(), in.blob()))
