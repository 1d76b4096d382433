package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.CoreMetrics.Field;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.Finality;
import io.cosmosflink.core.Page;
import io.cosmosflink.core.PageBuffers;
import io.cosmosflink.core.SplitEntry;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import org.apache.flink.connector.base.source.reader.RecordsWithSplitIds;
import org.apache.flink.connector.base.source.reader.splitreader.SplitReader;
import org.apache.flink.connector.base.source.reader.splitreader.SplitsAddition;
import org.apache.flink.connector.base.source.reader.splitreader.SplitsChange;

/**
 * Takes pages of all splits of one reader out of the core, which fetches them ahead and concurrently.
 *
 * <p>The fetcher's thread calls everything but {@link #wakeUp}. What may wait, the opening too, waits in {@link #fetch}: nothing else is
 * woken up when the reader closes.
 */
final class CosmosDBSplitReader implements SplitReader<Page, CosmosDBSplit> {
    /** Long enough to cost nothing, short enough that the core's log is not late. */
    private static final long WAIT_MILLIS = 1000;

    private final Core core;
    private final CosmosDBOptions options;
    private final SourceMetrics metrics;
    private final boolean leavesOut;
    private final String container;
    private final Finality finality;
    private final PageBuffers buffers = new PageBuffers();
    private volatile Core.SourceHandle handle;
    private volatile boolean woken;
    private boolean opened;
    /** What the core has not been told yet, because it is not open. */
    private final List<SplitEntry> added = new ArrayList<>();

    private final Set<String> paused = new TreeSet<>();

    CosmosDBSplitReader(Core core, CosmosDBOptions options, SourceMetrics metrics) {
        this.core = core;
        this.options = options;
        this.metrics = metrics;
        this.leavesOut = DecodePolicy.of(options) == DecodePolicy.SKIP;
        this.container = options.get("cosmos.container").orElse("?");
        this.finality = Finality.of(options.toMap(), false);
    }

    @Override
    public void handleSplitsChanges(SplitsChange<CosmosDBSplit> change) {
        if (!(change instanceof SplitsAddition)) {
            throw new UnsupportedOperationException(
                    "cannot handle a " + change.getClass().getName());
        }
        added.addAll(change.splits().stream().map(CosmosDBSplit::entry).toList());
        try {
            if (handle == null) {
                handle = core.openSource(options.toMap());
            } else if (opened) {
                tell();
            }
        } catch (CosmosException e) {
            throw Failures.open("cannot read the change feed of container " + container, e, finality);
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

    @Override
    public RecordsWithSplitIds<Page> fetch() throws IOException {
        Core.SourceHandle open = handle;
        if (open == null || woken) {
            woken = false;
            return PageRecords.nothing();
        }
        try {
            Page page = ready(open) ? buffers.next(open, WAIT_MILLIS) : null;
            core.drainLog(false);
            if (page == null) {
                woken = false;
                return PageRecords.nothing();
            }
            metrics.fetched(page);
            if (leavesOut) {
                metrics.leftOut(open.metrics().get(Field.UNDECODABLE));
            }
            return PageRecords.of(page, () -> buffers.give(page));
        } catch (CosmosException e) {
            core.drainLog(true);
            throw Failures.running("cannot read the change feed of container " + container, e, finality);
        }
    }

    @Override
    public void pauseOrResumeSplits(Collection<CosmosDBSplit> pause, Collection<CosmosDBSplit> resume) {
        if (opened) {
            handle.pauseOrResumeSplits(ids(pause), ids(resume));
        } else {
            paused.addAll(ids(pause));
            ids(resume).forEach(paused::remove);
        }
    }

    private static List<String> ids(Collection<CosmosDBSplit> splits) {
        return splits.stream().map(CosmosDBSplit::splitId).toList();
    }

    @Override
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
            handle.close();
        }
        core.drainLog(true);
    }
}
