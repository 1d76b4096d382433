package io.cosmosflink.core;

/**
 * A split as the core describes it.
 *
 * @param id stable name
 * @param ordinal place in the order of discovery, from 0; decides which reader owns the split
 * @param assigned whether the enumerator has given it to a reader
 * @param description for logs
 * @param split the core's own versioned bytes: feed range, mode, start and continuation token. Never changed after construction.
 */
@Internal
@SuppressWarnings("ArrayRecordComponent")
public record SplitEntry(String id, int ordinal, boolean assigned, String description, byte[] split) {
    /** The same split with the flag as given. */
    public SplitEntry withAssigned(boolean now) {
        return now == assigned ? this : new SplitEntry(id, ordinal, now, description, split);
    }

    /** The same split at another position. */
    public SplitEntry withSplit(byte[] position) {
        return new SplitEntry(id, ordinal, assigned, description, position);
    }
}
