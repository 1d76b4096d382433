package io.cosmosflink.core;

import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Small frames to values and back. Pages and operations, the hot ones, are in {@link Page} and {@link OperationBatch}. */
final class Frames {
    private Frames() {}

    static byte[] map(Map<String, String> map) {
        FrameWriter out = FrameWriter.frame(FrameKind.MAP).u32(map.size());
        map.forEach((key, value) -> out.str(key).str(value));
        return out.toBytes();
    }

    static Map<String, String> map(byte[] frame) {
        FrameReader in = FrameReader.open(frame, FrameKind.MAP);
        int n = in.count(8);
        Map<String, String> out = new LinkedHashMap<>();
        for (int i = 0; i < n; i++) {
            out.put(in.str(), in.str());
        }
        return out;
    }

    static byte[] strings(Collection<String> values) {
        FrameWriter out = FrameWriter.frame(FrameKind.STRINGS).u32(values.size());
        values.forEach(out::str);
        return out.toBytes();
    }

    static byte[] splits(Collection<SplitEntry> splits) {
        FrameWriter out = FrameWriter.frame(FrameKind.SPLIT_LIST).u32(splits.size());
        for (SplitEntry s : splits) {
            out.str(s.id())
                    .u32(s.ordinal())
                    .u8(s.assigned() ? 1 : 0)
                    .str(s.description())
                    .blob(s.split());
        }
        return out.toBytes();
    }

    static List<SplitEntry> splits(byte[] frame) {
        return entries(FrameReader.open(frame, FrameKind.SPLIT_LIST));
    }

    /** A count and as many entries, as other frames hold them too. */
    static List<SplitEntry> entries(FrameReader in) {
        int n = in.count(17);
        List<SplitEntry> out = new ArrayList<>(n);
        for (int i = 0; i < n; i++) {
            String id = in.str();
            int ordinal = in.u32();
            boolean assigned = (in.u8() & 1) != 0;
            out.add(new SplitEntry(id, ordinal, assigned, in.str(), in.blob()));
        }
        return out;
    }

    static byte[] lookup(boolean alone, int[] columns) {
        FrameWriter out = FrameWriter.frame(FrameKind.LOOKUP).u8(alone ? 1 : 0).u32(columns.length);
        for (int column : columns) {
            out.u32(column);
        }
        return out.toBytes();
    }

    static List<String> strings(byte[] frame) {
        FrameReader in = FrameReader.open(frame, FrameKind.STRINGS);
        int n = in.count(4);
        List<String> out = new ArrayList<>(n);
        for (int i = 0; i < n; i++) {
            out.add(in.str());
        }
        return out;
    }

    /**
     * What a COMPLETIONS frame holds.
     *
     * @param room how often it has changed whether there is room for another batch: odd while there is none
     */
    record Completions(long room, List<Completion> completions) {}

    static Completions completions(byte[] frame) {
        FrameReader in = FrameReader.open(frame, FrameKind.COMPLETIONS);
        long room = in.u64();
        int n = in.count(20);
        List<Completion> out = new ArrayList<>(n);
        for (int i = 0; i < n; i++) {
            long submission = in.u64();
            double charge = in.f64();
            int failed = in.count(29);
            List<WriteFailure> failures = new ArrayList<>(failed);
            for (int f = 0; f < failed; f++) {
                failures.add(failure(in));
            }
            out.add(new Completion(submission, charge, List.copyOf(failures)));
        }
        return new Completions(room, out);
    }

    private static WriteFailure failure(FrameReader in) {
        int index = in.u32();
        WriteFailure.Result result = WriteFailure.Result.of(in.u8());
        CosmosException.Kind kind = CosmosException.Kind.of(in.u8());
        boolean outlivesRestart = (in.u8() & 1) != 0;
        return new WriteFailure(
                index,
                result,
                kind,
                outlivesRestart,
                in.u16(),
                in.u32(),
                in.u32(),
                in.str(),
                in.str(),
                WriteFailure.Target.of(in.blob()));
    }

    static List<Operation> operations(byte[] frame) {
        FrameReader in = FrameReader.open(frame, FrameKind.OPERATIONS);
        int n = in.count(17);
        List<Operation> out = new ArrayList<>(n);
        for (int i = 0; i < n; i++) {
            out.add(new Operation(OperationKind.of(in.u8()), in.str(), in.str(), in.str(), in.blob()));
        }
        return out;
    }

    static List<CoreOption> options(byte[] frame) {
        FrameReader in = FrameReader.open(frame, FrameKind.OPTIONS);
        int n = in.count(30);
        List<CoreOption> out = new ArrayList<>(n);
        for (int i = 0; i < n; i++) {
            out.add(new CoreOption(
                    in.str(), in.str(), in.str(), in.str(), in.str(), in.str(), in.u8() != 0, in.u8() != 0, in.str()));
        }
        return out;
    }

    static List<CoreMetric> metricTable(byte[] frame) {
        FrameReader in = FrameReader.open(frame, FrameKind.METRIC_TABLE);
        int n = in.count(14);
        List<CoreMetric> out = new ArrayList<>(n);
        for (int i = 0; i < n; i++) {
            out.add(new CoreMetric(i, in.str(), in.str(), in.u8(), in.u8() != 0, in.str()));
        }
        return out;
    }
}
