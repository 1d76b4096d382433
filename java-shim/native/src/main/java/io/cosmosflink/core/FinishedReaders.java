package io.cosmosflink.core;

import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * Which readers of a source that ends have read all of their splits. Flink's {@code HybridSource} keeps a reader among those that have finished
 * when the reader is restored from a checkpoint in which it had not (2.3.0): it would switch to the next source while that reader still
 * reads, and what the reader has not read would be lost. Used by one thread.
 */
@Internal
public final class FinishedReaders {
    private final Set<Integer> finished = new HashSet<>();

    /** A reader is there, for the first time or anew: it may have splits. */
    public void registered(int subtask) {
        finished.remove(subtask);
    }

    /** A reader has read all of its splits, and gets no others. */
    public void finished(int subtask) {
        finished.add(subtask);
    }

    /**
     * The readers that may have splits still, or are not there.
     *
     * @param readers those that are there
     */
    public List<Integer> unfinished(Core.Readers readers) {
        return IntStream.range(0, readers.parallelism())
                .filter(subtask ->
                        !finished.contains(subtask) || !readers.registered().contains(subtask))
                .boxed()
                .toList();
    }
}
