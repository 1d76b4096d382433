package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.Finality;
import io.cosmosflink.core.LagReports;
import io.cosmosflink.core.LeaseProgress;
import io.cosmosflink.core.Page;
import io.cosmosflink.core.PageReader;
import io.cosmosflink.core.ReaderMetrics;
import java.io.IOException;
import java.util.Collection;
import java.util.List;
import org.apache.flink.connector.base.source.reader.RecordsWithSplitIds;
import org.apache.flink.connector.base.source.reader.splitreader.SplitReader;
import org.apache.flink.connector.base.source.reader.splitreader.SplitsAddition;
import org.apache.flink.connector.base.source.reader.splitreader.SplitsChange;

/** A {@link PageReader} for all splits of one reader. */
final class CosmosDBSplitReader implements SplitReader<Page, CosmosDBSplit> {
    private final PageReader pages;
    private final String failure;
    private final Finality finality;

    /** @param plan how rows are made; null for records */
    CosmosDBSplitReader(
            Core core,
            CosmosDBOptions options,
            ReaderMetrics metrics,
            Core.Peers peers,
            LagReports lag,
            LeaseProgress leases,
            byte[] plan) {
        pages = new PageReader(core, options.toMap(), metrics, peers, lag, leases, plan);
        failure = "cannot read the change feed of container "
                + options.get("container").orElse("?");
        finality = Finality.of(options.toMap(), false);
    }

    @Override
    public void handleSplitsChanges(SplitsChange<CosmosDBSplit> change) {
        if (!(change instanceof SplitsAddition)) {
            throw new UnsupportedOperationException(
                    "cannot handle a " + change.getClass().getName());
        }
        try {
            pages.addSplits(change.splits().stream().map(CosmosDBSplit::entry).toList());
        } catch (CosmosException e) {
            throw Failures.open(failure, e, finality);
        }
    }

    @Override
    public RecordsWithSplitIds<Page> fetch() throws IOException {
        try {
            Page page = pages.next();
            return page == null ? PageRecords.nothing() : PageRecords.of(page, () -> pages.give(page));
        } catch (CosmosException e) {
            throw Failures.running(failure, e, finality);
        }
    }

    @Override
    public void pauseOrResumeSplits(Collection<CosmosDBSplit> pause, Collection<CosmosDBSplit> resume) {
        pages.pauseOrResume(ids(pause), ids(resume));
    }

    private static List<String> ids(Collection<CosmosDBSplit> splits) {
        return splits.stream().map(CosmosDBSplit::splitId).toList();
    }

    @Override
    public void wakeUp() {
        pages.wakeUp();
    }

    @Override
    public void close() {
        pages.close();
    }
}
