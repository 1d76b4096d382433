package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.Finality;
import io.cosmosflink.core.SplitEntry;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.LongSupplier;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.api.connector.source.SplitsAssignment;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Finds the feed ranges of a container and gives each to one reader: the reader {@code ordinal mod parallelism}, so that the load is
 * even and the owner of a split the same after any failure.
 *
 * <p>After a regional failover this object is not restored, only the readers are. It needs no restoring: splits given out since the
 * last checkpoint come back through {@link #addSplitsBack}, the others are in the readers' own state.
 */
final class CosmosDBSplitEnumerator implements SplitEnumerator<CosmosDBSplit, CosmosDBSourceState> {
    private static final Logger LOG = LoggerFactory.getLogger(CosmosDBSplitEnumerator.class);

    private final SplitEnumeratorContext<CosmosDBSplit> context;
    private final Core core;
    private final CosmosDBOptions options;
    private final boolean fresh;
    /** By ordinal. Touched by the coordinator's thread only. */
    private final Map<Integer, SplitEntry> splits = new TreeMap<>();

    /** What a discovery, which runs on another thread, starts from. Replaced, never changed. */
    private volatile List<SplitEntry> known = List.of();

    private final AtomicBoolean discovering = new AtomicBoolean();
    private final UnassignedSplits unassigned;
    private final LongSupplier unassignedHere =
            () -> known.stream().filter(s -> !s.assigned()).count();

    /** Guards the two below. Nothing that may wait is done under it: a {@link #close} that takes long fails the job. */
    private final Object lifecycle = new Object();

    private Core.EnumeratorHandle handle;
    private boolean closed;
    /** Whether it is the first one of its source. Touched by the coordinator's thread only. */
    private boolean first;

    /**
     * @param options validated
     * @param restored null for a job that starts without a checkpoint
     * @param unassigned the gauge of this enumerator and of those before it
     */
    CosmosDBSplitEnumerator(
            SplitEnumeratorContext<CosmosDBSplit> context,
            Core core,
            CosmosDBOptions options,
            CosmosDBSourceState restored,
            UnassignedSplits unassigned) {
        this.context = context;
        this.core = core;
        this.options = options;
        this.unassigned = unassigned;
        this.fresh = restored == null || restored.splits().isEmpty();
        if (restored != null) {
            restored.splits().forEach(s -> splits.put(s.ordinal(), s));
        }
        known = List.copyOf(splits.values());
    }

    @Override
    public void start() {
        first = unassigned.follow(unassignedHere);
        context.metricGroup().setUnassignedSplitsGauge(unassigned);
        long interval = options.number("source.discovery-interval-ms");
        if (interval > 0) {
            context.callAsync(this::discover, this::onDiscovered, 0, interval);
        } else if (fresh) {
            context.callAsync(this::discover, this::onDiscovered);
        }
    }

    /** Runs on a worker thread: the network may be slow, the coordinator must not be. One at a time. */
    private List<SplitEntry> discover() {
        if (!discovering.compareAndSet(false, true)) {
            return List.of();
        }
        try {
            Core.EnumeratorHandle open = handle();
            return open == null ? List.of() : open.discoverSplits(known);
        } catch (CosmosException e) {
            if (e.kind() == CosmosException.Kind.CLOSED) {
                openAnew();
            }
            throw e;
        } finally {
            discovering.set(false);
            core.drainLog(true);
        }
    }

    /** The handle, open; null when there is nothing to do any more. */
    private Core.EnumeratorHandle handle() {
        Core.EnumeratorHandle opening;
        synchronized (lifecycle) {
            if (closed || handle != null) {
                return handle;
            }
        }
        opening = core.openEnumerator(options.toMap());
        synchronized (lifecycle) {
            if (closed) {
                opening.close();
                return null;
            }
            handle = opening;
        }
        try {
            opening.awaitOpen();
            return opening;
        } catch (InterruptedException e) {
            openAnew();
            Thread.currentThread().interrupt();
            return null;
        } catch (CosmosException e) {
            openAnew();
            throw e;
        }
    }

    /** What is closed stays so: the next discovery begins with a handle of its own. */
    private void openAnew() {
        synchronized (lifecycle) {
            handle = null;
        }
    }

    private void onDiscovered(List<SplitEntry> found, Throwable failure) {
        if (failure != null) {
            onDiscoveryFailed(failure);
            return;
        }
        for (SplitEntry split : found) {
            SplitEntry before = splits.putIfAbsent(split.ordinal(), split.withAssigned(false));
            if (before != null && !before.id().equals(split.id())) {
                throw new IllegalStateException("the core gave ordinal " + split.ordinal() + " to split " + split.id()
                        + " and to " + before.id() + "; report this as a bug of cosmosflink");
            }
        }
        if (!found.isEmpty()) {
            LOG.info("found {} splits, {} in all", found.size(), splits.size());
            assignPending();
        }
    }

    private void onDiscoveryFailed(Throwable failure) {
        synchronized (lifecycle) {
            if (closed) {
                return;
            }
        }
        boolean begun = !splits.isEmpty();
        Finality finality = Finality.of(options.toMap(), first && fresh && !begun);
        if (begun && !(failure instanceof CosmosException e && finality.isFinal(e))) {
            // The readers go on without.
            LOG.warn("cannot look for new feed ranges, will try again: {}", failure.getMessage(), failure);
            return;
        }
        throw Failures.open(
                "cannot find the feed ranges of container "
                        + options.get("cosmos.container").orElse("?"),
                failure,
                finality);
    }

    @Override
    public void addReader(int subtask) {
        assignPending();
    }

    @Override
    public void handleSplitRequest(int subtask, String host) {
        // Splits are pushed to their owner, not asked for.
    }

    @Override
    public void addSplitsBack(List<CosmosDBSplit> back, int subtask) {
        for (CosmosDBSplit split : back) {
            splits.put(split.ordinal(), split.entry().withAssigned(false));
        }
        assignPending();
    }

    private void assignPending() {
        Map<Integer, List<CosmosDBSplit>> assignment = new HashMap<>();
        int parallelism = context.currentParallelism();
        for (SplitEntry split : splits.values()) {
            int owner = split.ordinal() % parallelism;
            if (!split.assigned() && context.registeredReaders().containsKey(owner)) {
                assignment.computeIfAbsent(owner, o -> new ArrayList<>()).add(new CosmosDBSplit(split));
            }
        }
        if (!assignment.isEmpty()) {
            LOG.info("assigning {}", assignment);
            context.assignSplits(new SplitsAssignment<>(assignment));
            assignment
                    .values()
                    .forEach(list ->
                            list.forEach(s -> splits.put(s.ordinal(), s.entry().withAssigned(true))));
        }
        known = List.copyOf(splits.values());
    }

    @Override
    public CosmosDBSourceState snapshotState(long checkpoint) {
        return new CosmosDBSourceState(splits.values().stream()
                .sorted(Comparator.comparingInt(SplitEntry::ordinal))
                .toList());
    }

    /** Ends a discovery, or an opening, that is under way. */
    @Override
    public void close() {
        Core.EnumeratorHandle open;
        synchronized (lifecycle) {
            closed = true;
            open = handle;
            handle = null;
        }
        unassigned.forget(unassignedHere);
        if (open != null) {
            open.close();
        }
        core.drainLog(true);
    }
}
