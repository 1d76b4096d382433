package io.cosmosflink.core;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * What a reader publishes of its progress as leases: the positions of its splits at a checkpoint, once that has completed.
 *
 * <p>The task's thread says what happens; the core may open before or after that, and more than once.
 */
@Internal
public final class LeaseProgress {
    /** More checkpoints than are ever under way at once. */
    static final int MOST_TAKEN = 64;

    private final boolean publishes;
    /** By checkpoint, those that have not completed. */
    private final TreeMap<Long, List<SplitEntry>> taken = new TreeMap<>();
    /** The last one that has completed; null before the first. */
    private Long completed;

    private List<SplitEntry> positions = List.of();
    /** Null while none is open. */
    private Core.SourceHandle open;

    /** @param options validated */
    public LeaseProgress(Map<String, String> options) {
        publishes = options.containsKey("scan.lease.container") && !"none".equals(options.get("scan.lease.format"));
    }

    /**
     * The options with the identity of the source, by which its leases are told from those of another job, and from those of another source of
     * the same job.
     *
     * @param variables those of a metric group of the source's operator, in which Flink names it and its job
     */
    public static Map<String, String> identified(Map<String, String> options, Map<String, String> variables) {
        String source = variables == null ? "" : PerOperator.name(variables);
        if (source.isEmpty()) {
            return options;
        }
        Map<String, String> out = new TreeMap<>(options);
        out.put("scan.lease.job", source);
        return out;
    }

    /** A checkpoint holds these positions of all splits of the reader. */
    public synchronized void taken(long checkpoint, Collection<SplitEntry> splits) {
        if (publishes) {
            taken.put(checkpoint, List.copyOf(splits));
            // Those that were aborted, of which nobody may ever say so.
            if (taken.size() > MOST_TAKEN) {
                taken.pollFirstEntry();
            }
        }
    }

    /** A checkpoint has completed: its positions are published. One that was not taken here says nothing. */
    public synchronized void completed(long checkpoint) {
        List<SplitEntry> splits = taken.get(checkpoint);
        taken.headMap(checkpoint, true).clear();
        if (splits != null) {
            completed = checkpoint;
            positions = splits;
            publish();
        }
    }

    /** The core is open. On the fetcher's thread. */
    synchronized void follow(Core.SourceHandle source) {
        open = source;
        publish();
    }

    /** The core is about to be closed. */
    synchronized void forget(Core.SourceHandle source) {
        if (open == source) {
            open = null;
        }
    }

    private void publish() {
        if (open != null && completed != null) {
            open.publish(completed, positions);
        }
    }
}
