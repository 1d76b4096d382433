package io.cosmosflink.core

/** Reads what a writer submits. */
object Submitted:
  /** Token and operation of each, in order. */
  def operations(batch: OperationBatch): List[(Long, Operation)] =
    val in = FrameReader.open(batch.array(), batch.length(), FrameKind.OPERATIONS)
    List.fill(in.u32()):
      (in.u64(), Operation(OperationKind.of(in.u8()), in.str(), in.str(), in.str(), in.blob()))
