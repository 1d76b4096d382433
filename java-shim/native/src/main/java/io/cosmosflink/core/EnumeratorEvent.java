package io.cosmosflink.core;

import java.util.List;

/** What happens to a split enumerator; {@link Core.EnumeratorHandle#coordinate} says what is to be done about it. */
@Internal
public sealed interface EnumeratorEvent {
    /** The enumerator was started. */
    record Started() implements EnumeratorEvent {}

    /**
     * A look for feed ranges has ended.
     *
     * @param discovery what {@link Core.EnumeratorHandle#discover} gave, well or not
     */
    @SuppressWarnings("ArrayRecordComponent")
    record Discovered(byte[] discovery) implements EnumeratorEvent {}

    /**
     * A reader is there and takes splits.
     *
     * @param subtask its number
     * @param reported the splits that it was restored with, where Flink reports them in place of giving them back to it; else none
     */
    record ReaderRegistered(int subtask, List<SplitEntry> reported) implements EnumeratorEvent {}

    /**
     * A reader begins again from a checkpoint that does not hold these splits.
     *
     * @param subtask its number
     * @param splits also none
     */
    record SplitsBack(int subtask, List<SplitEntry> splits) implements EnumeratorEvent {}

    /** A reader asks for a split. */
    record SplitRequested(int subtask) implements EnumeratorEvent {}

    /**
     * A reader is so far behind now; {@link LagReports} says when it says so.
     *
     * @param subtask its number
     * @param lagMillis not negative
     */
    record LagReported(int subtask, long lagMillis) implements EnumeratorEvent {}

    /** A checkpoint asks for the state: the actions hold it. */
    record CheckpointTaken(long id) implements EnumeratorEvent {}

    /** A checkpoint is complete. */
    record CheckpointCompleted(long id) implements EnumeratorEvent {}

    /** A checkpoint was given up. */
    record CheckpointAborted(long id) implements EnumeratorEvent {}

    /** Nothing is to be done from now on. */
    record Closed() implements EnumeratorEvent {}

    /** Another source goes on behind this one: the actions hold the state that it begins with. */
    record Followed() implements EnumeratorEvent {}
}
