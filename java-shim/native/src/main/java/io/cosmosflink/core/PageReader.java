package io.cosmosflink.core;

import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/**
 * Takes pages of all splits of one reader out of the core, which fetches them ahead and concurrently.
 *
 * <p>One thread, the fetcher's, calls everything but {@link #wakeUp} and {@link #give}. What may wait, the opening too, waits in {@link
 * #next}: nothing else is woken up when the reader closes.
 */
@Internal
public final class PageReader implements AutoCloseable {
    /** Long enough to cost nothing, short enough that the core's log is not late. */
    private static final long WAIT_MILLIS = 1000;

    private final Core core;
    private final Map<String, String> options;
    private final ReaderMetrics metrics;
    private final Core.Peers peers;
    private final LagReports lag;
    private final LeaseProgress leases;
    private final boolean leavesOut;
    /** How pages of rows are made; null for pages of records. */
    private final byte[] plan;

    private final PageBuffers buffers;
    private volatile Core.SourceHandle handle;
    private volatile boolean woken;
    private boolean opened;
    /** What the core has not been told yet, because it is not open. */
    private final List<SplitEntry> added = new ArrayList<>();

    private final Set<String> paused = new TreeSet<>();
    /** The splits that are paused now, by id. */
    private final Set<String> heldBack = new HashSet<>();

    /**
     * @param options validated
     * @param peers the readers of the source
     * @param lag whom to tell how far this one is behind
     * @param leases what of its progress is published
     */
    public PageReader(
            Core core,
            Map<String, String> options,
            ReaderMetrics metrics,
            Core.Peers peers,
            LagReports lag,
            LeaseProgress leases) {
        this(core, options, metrics, peers, lag, leases, null);
    }

    /** @param plan how pages of rows are made, see {@link RowPlan}; null for pages of records */
    public PageReader(
            Core core,
            Map<String, String> options,
            ReaderMetrics metrics,
            Core.Peers peers,
            LagReports lag,
            LeaseProgress leases,
            byte[] plan) {
        this.plan = plan;
        this.buffers = new PageBuffers(plan != null);
        this.peers = peers;
        this.lag = lag;
        this.core = core;
        this.options = options;
        this.metrics = metrics;
        this.leases = leases;
        this.leavesOut = DecodePolicy.of(options) == DecodePolicy.SKIP;
    }

    /**
     * Reads more splits. The first begin to open the core.
     *
     * @throws CosmosException when an option is wrong, or a split is of another container or read already
     */
    public void addSplits(Collection<SplitEntry> splits) {
        added.addAll(splits);
        if (handle == null) {
            handle = plan == null ? core.openSource(options, peers) : core.openRowSource(options, peers, plan);
        } else if (opened) {
            tell();
        }
    }

    /** Holds splits back and lets others go on, by split id. */
    public void pauseOrResume(Collection<String> pause, Collection<String> resume) {
        heldBack.removeAll(resume);
        heldBack.addAll(pause);
        if (opened) {
            handle.pauseOrResumeSplits(pause, resume);
        } else {
            paused.addAll(pause);
            paused.removeAll(resume);
        }
    }

    /**
     * The next page; null when none came in about a second, when there is no split, or when the reader was woken up.
     *
     * @throws CosmosException what ended the opening, or the reading of a split
     */
    public Page next() {
        Core.SourceHandle open = handle;
        if (open == null || woken) {
            woken = false;
            return null;
        }
        try {
            Page page = ready(open) ? buffers.next(open, WAIT_MILLIS) : null;
            core.drainLog(false);
            if (opened) {
                lag.look(() -> metrics.lagMillis(heldBack));
            }
            if (page == null) {
                woken = false;
            } else {
                metrics.fetched(page, open, leavesOut);
                if (page.finished()) {
                    heldBack.remove(page.splitId());
                }
            }
            return page;
        } catch (CosmosException e) {
            core.drainLog(true);
            throw e;
        }
    }

    /** Whether the core is open and knows all splits; waits for it as for a page. */
    private boolean ready(Core.SourceHandle open) {
        if (!opened) {
            if (!open.awaitOpen(WAIT_MILLIS)) {
                return false;
            }
            opened = true;
            metrics.follow(open);
            leases.follow(open);
            tell();
        }
        return true;
    }

    private void tell() {
        handle.addSplits(List.copyOf(added));
        added.clear();
        if (!paused.isEmpty()) {
            handle.pauseOrResumeSplits(List.copyOf(paused), List.of());
            paused.clear();
        }
    }

    /** A page is not used any more. From any thread. */
    public void give(Page page) {
        buffers.give(page);
    }

    /** Makes {@link #next} return at once. From any thread. */
    public void wakeUp() {
        woken = true;
        Core.SourceHandle open = handle;
        if (open != null) {
            try {
                open.wakeUp();
            } catch (CosmosException e) {
                if (e.kind() != CosmosException.Kind.CLOSED) {
                    throw e;
                }
            }
        }
    }

    @Override
    public void close() {
        if (handle != null) {
            metrics.forget(handle);
            leases.forget(handle);
            handle.close();
        }
        core.drainLog(true);
    }
}
