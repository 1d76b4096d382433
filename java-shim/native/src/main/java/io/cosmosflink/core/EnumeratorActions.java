package io.cosmosflink.core;

import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * What a split enumerator is to do, in this order.
 *
 * @param unassigned how many splits no reader has then
 * @param actions often none
 */
@Internal
public record EnumeratorActions(int unassigned, List<Action> actions) {
    /** Nothing to do. */
    public static final EnumeratorActions NONE = new EnumeratorActions(0, List.of());

    /** One thing to do. */
    public sealed interface Action {}

    /**
     * Look for feed ranges now.
     *
     * @param periodMillis and again each so many milliseconds; 0 only once
     */
    public record Discover(long periodMillis) implements Action {}

    /**
     * Give splits to readers, all of which are registered.
     *
     * @param splits by subtask; not empty
     */
    public record Assign(Map<Integer, List<SplitEntry>> splits) implements Action {}

    /**
     * Fail the job.
     *
     * @param failure why
     * @param ends whether for good, because a restart does not help
     */
    public record Fail(CosmosException failure, boolean ends) implements Action {}

    /**
     * Tell readers that no split comes any more, so that they end once they have read theirs. All of them are registered.
     *
     * @param subtasks not empty
     */
    public record NoMoreSplits(List<Integer> subtasks) implements Action {}

    /**
     * Say that the source processes a backlog, or that it does not.
     *
     * @param there whether it does
     */
    public record Backlog(boolean there) implements Action {}

    /**
     * The state that a checkpoint asked for.
     *
     * @param bytes the core's own durable form
     */
    @SuppressWarnings("ArrayRecordComponent")
    public record State(byte[] bytes) implements Action {}

    /** Why what was asked for cannot be, or the job is to fail; empty otherwise. */
    public Optional<CosmosException> failure() {
        return actions.stream()
                .filter(Fail.class::isInstance)
                .map(action -> ((Fail) action).failure())
                .findFirst();
    }

    /** The state, if a checkpoint asked for it, or a source that goes on behind this one. */
    public Optional<byte[]> state() {
        return actions.stream()
                .filter(State.class::isInstance)
                .map(action -> ((State) action).bytes())
                .findFirst();
    }
}
