package io.cosmosflink.core;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Reads what a writer submits. */
public final class SubmittedOperations {
    private SubmittedOperations() {}

    /** The operations of a batch, in order. */
    public static List<Operation> operations(OperationBatch batch) {
        return operations(Arrays.copyOf(batch.array(), batch.length()));
    }

    /** The operations of an OPERATIONS frame, in order. */
    static List<Operation> operations(byte[] frame) {
        FrameReader in = FrameReader.open(frame, FrameKind.OPERATIONS);
        List<Operation> all = new ArrayList<>();
        for (int left = in.u32(); left > 0; left--) {
            all.add(new Operation(OperationKind.of(in.u8()), in.str(), in.str(), in.str(), in.blob()));
        }
        return all;
    }
}
