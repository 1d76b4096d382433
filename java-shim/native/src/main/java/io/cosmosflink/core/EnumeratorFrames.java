package io.cosmosflink.core;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** The EVENT and ACTIONS frames. A DISCOVERY frame is the core's own affair. */
final class EnumeratorFrames {
    private EnumeratorFrames() {}

    static byte[] event(Core.Readers readers, EnumeratorEvent event) {
        FrameWriter out = FrameWriter.frame(FrameKind.EVENT)
                .u32(readers.parallelism())
                .u32(readers.registered().size());
        readers.registered().forEach(out::u32);
        if (event instanceof EnumeratorEvent.Started) {
            out.u8(1);
        } else if (event instanceof EnumeratorEvent.Discovered discovered) {
            out.u8(2).blob(discovered.discovery());
        } else if (event instanceof EnumeratorEvent.ReaderRegistered registered) {
            splits(out.u8(3).u32(registered.subtask()), registered.reported());
        } else if (event instanceof EnumeratorEvent.SplitsBack back) {
            splits(out.u8(4).u32(back.subtask()), back.splits());
        } else if (event instanceof EnumeratorEvent.SplitRequested requested) {
            out.u8(5).u32(requested.subtask());
        } else if (event instanceof EnumeratorEvent.CheckpointTaken taken) {
            out.u8(6).u64(taken.id());
        } else if (event instanceof EnumeratorEvent.CheckpointCompleted completed) {
            out.u8(7).u64(completed.id());
        } else if (event instanceof EnumeratorEvent.CheckpointAborted aborted) {
            out.u8(8).u64(aborted.id());
        } else if (event instanceof EnumeratorEvent.LagReported lag) {
            out.u8(11).u32(lag.subtask()).u64(lag.lagMillis());
        } else if (event instanceof EnumeratorEvent.Closed) {
            out.u8(9);
        } else {
            out.u8(10);
        }
        return out.toBytes();
    }

    private static void splits(FrameWriter out, List<SplitEntry> splits) {
        out.u32(splits.size());
        splits.forEach(split -> out.blob(split.split()));
    }

    static EnumeratorActions actions(byte[] frame) {
        FrameReader in = FrameReader.open(frame, FrameKind.ACTIONS);
        int unassigned = in.u32();
        int n = in.count(1);
        List<EnumeratorActions.Action> out = new ArrayList<>(n);
        for (int i = 0; i < n; i++) {
            out.add(action(in));
        }
        return new EnumeratorActions(unassigned, List.copyOf(out));
    }

    private static EnumeratorActions.Action action(FrameReader in) {
        int kind = in.u8();
        return switch (kind) {
            case 1 -> new EnumeratorActions.Discover(in.u64());
            case 2 -> new EnumeratorActions.Assign(assignment(in));
            case 3 -> fail(in);
            case 4 -> new EnumeratorActions.State(in.blob());
            case 5 -> new EnumeratorActions.NoMoreSplits(subtasks(in));
            case 6 -> new EnumeratorActions.Backlog(in.u8() != 0);
            default -> throw FrameReader.state("action " + kind + " of an enumerator is not known to this jar");
        };
    }

    private static List<Integer> subtasks(FrameReader in) {
        int n = in.count(4);
        List<Integer> out = new ArrayList<>(n);
        for (int i = 0; i < n; i++) {
            out.add(in.u32());
        }
        return List.copyOf(out);
    }

    private static Map<Integer, List<SplitEntry>> assignment(FrameReader in) {
        int n = in.count(8);
        Map<Integer, List<SplitEntry>> out = new TreeMap<>();
        for (int i = 0; i < n; i++) {
            int subtask = in.u32();
            out.put(subtask, Frames.entries(in));
        }
        return out;
    }

    private static EnumeratorActions.Fail fail(FrameReader in) {
        int kind = in.u8();
        boolean ends = (in.u8() & 1) != 0;
        int status = in.u16();
        int subStatus = in.u32();
        String activityId = in.str();
        return new EnumeratorActions.Fail(new CosmosException(in.str(), kind, status, subStatus, activityId), ends);
    }
}
