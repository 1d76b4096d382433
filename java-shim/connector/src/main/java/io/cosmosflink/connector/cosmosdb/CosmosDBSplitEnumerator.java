package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.EnumeratorActions;
import io.cosmosflink.core.EnumeratorActions.Action;
import io.cosmosflink.core.EnumeratorActions.Assign;
import io.cosmosflink.core.EnumeratorActions.Backlog;
import io.cosmosflink.core.EnumeratorActions.Discover;
import io.cosmosflink.core.EnumeratorActions.Fail;
import io.cosmosflink.core.EnumeratorActions.NoMoreSplits;
import io.cosmosflink.core.EnumeratorEvent;
import io.cosmosflink.core.FinishedReaders;
import io.cosmosflink.core.SplitEntry;
import java.io.IOException;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.function.LongSupplier;
import org.apache.flink.api.connector.source.ReaderInfo;
import org.apache.flink.api.connector.source.SourceEvent;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.api.connector.source.SplitsAssignment;
import org.apache.flink.api.connector.source.SupportsHandleExecutionAttemptSourceEvent;
import org.apache.flink.util.FlinkRuntimeException;

/**
 * Finds the feed ranges of a container and gives each to one reader. The core decides: what Flink calls becomes an event, and what is to
 * be done about it becomes calls of Flink.
 */
final class CosmosDBSplitEnumerator
        implements SplitEnumerator<CosmosDBSplit, CosmosDBSourceState>, SupportsHandleExecutionAttemptSourceEvent {
    private final SplitEnumeratorContext<CosmosDBSplit> context;
    private final Core core;
    private final CosmosDBOptions options;
    private final byte[] state;
    private final Function<ReaderInfo, List<CosmosDBSplit>> reported;
    private final UnassignedSplits gauge;
    private final LongSupplier unassignedHere = () -> this.unassigned;
    /** Null before the start. */
    private volatile Core.EnumeratorHandle handle;

    private volatile long unassigned;
    private volatile boolean closed;
    private final FinishedReaders finished = new FinishedReaders();
    /** What a source that goes on behind this one begins with; null where there is no such thing, or before all splits are known. */
    private byte[] following;
    /** Why there is no such thing; null where it is there, or before all splits are known. */
    private CosmosException noFollowing;

    /**
     * @param options validated
     * @param restored null for a job that starts without a checkpoint
     * @param reported the splits that a reader which registers was restored with, where Flink reports them; else none
     * @param gauge that of this enumerator and of those before it
     * @throws IOException when the state cannot be read
     */
    CosmosDBSplitEnumerator(
            SplitEnumeratorContext<CosmosDBSplit> context,
            Core core,
            CosmosDBOptions options,
            CosmosDBSourceState restored,
            Function<ReaderInfo, List<CosmosDBSplit>> reported,
            UnassignedSplits gauge)
            throws IOException {
        this.context = context;
        this.core = core;
        this.reported = reported;
        this.gauge = gauge;
        this.options = options;
        this.state = restored == null ? new byte[0] : restored.bytes();
        // Flink closes none that it has not started, and need not start one that it restores: nothing stays open here.
        try {
            core.openEnumerator(options.toMap(), state, false).close();
        } catch (CosmosException e) {
            throw Failures.restore("cannot restore the enumerator: " + e.getMessage(), e);
        }
    }

    @Override
    public void start() {
        handle = core.openEnumerator(options.toMap(), state, gauge.begin());
        gauge.follow(unassignedHere);
        context.metricGroup().setUnassignedSplitsGauge(gauge);
        coordinate(new EnumeratorEvent.Started());
    }

    @Override
    public void addReader(int subtask) {
        finished.registered(subtask);
        ReaderInfo reader = context.registeredReaders().get(subtask);
        List<CosmosDBSplit> splits = reader == null ? List.of() : reported.apply(reader);
        coordinate(new EnumeratorEvent.ReaderRegistered(subtask, entries(splits)));
    }

    @Override
    public void handleSplitRequest(int subtask, String host) {
        coordinate(new EnumeratorEvent.SplitRequested(subtask));
    }

    @Override
    public void handleSourceEvent(int subtask, SourceEvent event) {
        if (event instanceof LagEvent lag) {
            coordinate(new EnumeratorEvent.LagReported(subtask, lag.lagMillis()));
        } else if (event instanceof FinishedEvent) {
            finished.finished(subtask);
        }
    }

    /** With speculative execution, where the attempts of one reader read the same splits: what one of them says counts for all. */
    @Override
    public void handleSourceEvent(int subtask, int attempt, SourceEvent event) {
        handleSourceEvent(subtask, event);
    }

    @Override
    public void addSplitsBack(List<CosmosDBSplit> back, int subtask) {
        coordinate(new EnumeratorEvent.SplitsBack(subtask, entries(back)));
    }

    @Override
    public CosmosDBSourceState snapshotState(long checkpoint) {
        return coordinate(new EnumeratorEvent.CheckpointTaken(checkpoint))
                .state()
                .map(CosmosDBSourceState::new)
                .orElseThrow(() -> new IllegalStateException("a closed enumerator has no state"));
    }

    @Override
    public void notifyCheckpointComplete(long checkpoint) {
        coordinate(new EnumeratorEvent.CheckpointCompleted(checkpoint));
    }

    @Override
    public void notifyCheckpointAborted(long checkpoint) {
        coordinate(new EnumeratorEvent.CheckpointAborted(checkpoint));
    }

    /**
     * The state with which the change feed goes on where the splits of this enumerator stop, also when it is closed.
     *
     * @throws CosmosDBUnrecoverableException when its splits have no positions to stop at
     * @throws FlinkRuntimeException when a reader has not read all of its splits: the job begins anew from its last checkpoint then
     */
    CosmosDBSourceState following() {
        List<Integer> unfinished = finished.unfinished(readers());
        if (!unfinished.isEmpty()) {
            throw new FlinkRuntimeException("nothing may go on behind this source yet: its readers " + unfinished
                    + " were restored, and still read; the job begins anew from its last checkpoint");
        }
        if (following == null) {
            String why = noFollowing == null
                    ? "nothing can go on behind this source: its splits are not known yet"
                    : noFollowing.getMessage();
            throw new CosmosDBUnrecoverableException(why, noFollowing);
        }
        return new CosmosDBSourceState(following);
    }

    /** Ends a look for feed ranges that is under way. Flink calls it on a thread of its own, perhaps beside other calls. */
    @Override
    public void close() {
        closed = true;
        gauge.forget(unassignedHere);
        if (handle == null) {
            return;
        }
        try {
            coordinate(new EnumeratorEvent.Closed());
        } finally {
            handle.close();
            core.drainLog(true);
        }
    }

    private EnumeratorActions coordinate(EnumeratorEvent event) {
        EnumeratorActions actions = decided(event);
        actions.actions().forEach(this::perform);
        return actions;
    }

    private EnumeratorActions decided(EnumeratorEvent event) {
        if (handle == null) {
            throw new IllegalStateException("the enumerator has not been started");
        }
        EnumeratorActions actions = handle.coordinate(readers(), event);
        unassigned = actions.unassigned();
        core.drainLog(false);
        return actions;
    }

    private Core.Readers readers() {
        return new Core.Readers(
                context.currentParallelism(), context.registeredReaders().keySet());
    }

    /** Keeps what a source behind this one would begin with, or why it cannot: there need not be one, and it asks once this is closed. */
    private void keepFollowing() {
        if (following == null) {
            EnumeratorActions answer = decided(new EnumeratorEvent.Followed());
            following = answer.state().orElse(null);
            noFollowing = answer.failure().orElse(null);
        }
    }

    private void perform(Action action) {
        if (action instanceof Discover discover && discover.periodMillis() > 0) {
            context.callAsync(this::discover, this::onDiscovered, 0, discover.periodMillis());
        } else if (action instanceof Discover) {
            context.callAsync(this::discover, this::onDiscovered);
        } else if (action instanceof Assign assign) {
            Map<Integer, List<CosmosDBSplit>> assignment = new HashMap<>();
            assign.splits()
                    .forEach((subtask, splits) -> assignment.put(
                            subtask, splits.stream().map(CosmosDBSplit::new).toList()));
            context.assignSplits(new SplitsAssignment<>(assignment));
        } else if (action instanceof NoMoreSplits none) {
            none.subtasks().forEach(context::signalNoMoreSplits);
            keepFollowing();
        } else if (action instanceof Backlog backlog) {
            context.setIsProcessingBacklog(backlog.there());
        } else if (action instanceof Fail fail) {
            String message = fail.failure().getMessage();
            throw fail.ends()
                    ? new CosmosDBUnrecoverableException(message, fail.failure())
                    : new FlinkRuntimeException(message, fail.failure());
        }
    }

    /** Runs on a worker thread: the network may be slow, the coordinator must not be. */
    private byte[] discover() throws InterruptedException {
        try {
            return handle.discover();
        } finally {
            core.drainLog(true);
        }
    }

    private void onDiscovered(byte[] discovery, Throwable failure) {
        if (failure == null) {
            coordinate(new EnumeratorEvent.Discovered(discovery));
        } else if (!closed && !(failure instanceof InterruptedException)) {
            // What a look failed of is in what it gives: this is a bug, or the JVM's own.
            throw new FlinkRuntimeException("cannot look for feed ranges: " + failure.getMessage(), failure);
        }
    }

    private static List<SplitEntry> entries(List<CosmosDBSplit> splits) {
        return splits.stream().map(CosmosDBSplit::entry).toList();
    }
}
