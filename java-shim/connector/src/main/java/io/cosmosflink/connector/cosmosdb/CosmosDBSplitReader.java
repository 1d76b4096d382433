package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.CosmosRuntime;
import io.cosmosflink.core.Page;
import io.cosmosflink.core.PageBuffers;
import java.io.IOException;
import java.util.Collection;
import java.util.List;
import org.apache.flink.connector.base.source.reader.RecordsWithSplitIds;
import org.apache.flink.connector.base.source.reader.splitreader.SplitReader;
import org.apache.flink.connector.base.source.reader.splitreader.SplitsAddition;
import org.apache.flink.connector.base.source.reader.splitreader.SplitsChange;

/** Takes pages of all splits of one reader out of the core, which fetches them ahead and concurrently. */
final class CosmosDBSplitReader implements SplitReader<Page, CosmosDBSplit> {
    /** Long enough to cost nothing, short enough that the core's log is not late. */
    private static final long WAIT_MILLIS = 1000;

    private final CosmosRuntime runtime;
    private final CosmosDBOptions options;
    private final SourceMetrics metrics;
    private final PageBuffers buffers = new PageBuffers();
    private volatile CosmosRuntime.SourceHandle handle;
    private volatile boolean woken;

    CosmosDBSplitReader(CosmosRuntime runtime, CosmosDBOptions options, SourceMetrics metrics) {
        this.runtime = runtime;
        this.options = options;
        this.metrics = metrics;
    }

    @Override
    public void handleSplitsChanges(SplitsChange<CosmosDBSplit> change) {
        if (!(change instanceof SplitsAddition)) {
            throw new UnsupportedOperationException(
                    "cannot handle a " + change.getClass().getName());
        }
        if (handle == null) {
            try {
                // Here, because this is the fetcher's thread: opening may use the network.
                handle = runtime.openSource(options.toMap());
            } catch (CosmosException e) {
                throw Failures.open("cannot open the source", e, false);
            }
            metrics.follow(handle);
        }
        handle.addSplits(change.splits().stream().map(CosmosDBSplit::entry).toList());
    }

    @Override
    public RecordsWithSplitIds<Page> fetch() throws IOException {
        CosmosRuntime.SourceHandle open = handle;
        if (open == null || woken) {
            woken = false;
            return PageRecords.nothing();
        }
        try {
            int size = open.nextPage(WAIT_MILLIS);
            runtime.drainLog(false);
            if (size == 0) {
                woken = false;
                return PageRecords.nothing();
            }
            byte[] buffer = buffers.take(size);
            Page page = new Page(buffer, open.takePage(buffer));
            metrics.fetched(page);
            return PageRecords.of(page, () -> buffers.give(buffer));
        } catch (CosmosException e) {
            runtime.drainLog(true);
            throw new IOException(
                    "cannot read the change feed of container "
                            + options.get("cosmos.container").orElse("?") + ": " + e.getMessage(),
                    e);
        }
    }

    @Override
    public void pauseOrResumeSplits(Collection<CosmosDBSplit> pause, Collection<CosmosDBSplit> resume) {
        if (handle != null) {
            handle.pauseOrResumeSplits(ids(pause), ids(resume));
        }
    }

    private static List<String> ids(Collection<CosmosDBSplit> splits) {
        return splits.stream().map(CosmosDBSplit::splitId).toList();
    }

    @Override
    public void wakeUp() {
        woken = true;
        CosmosRuntime.SourceHandle open = handle;
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
        metrics.forget();
        if (handle != null) {
            handle.close();
        }
        runtime.drainLog(true);
    }
}
