package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Page;
import java.util.Set;
import org.apache.flink.connector.base.source.reader.RecordsWithSplitIds;

/** One fetch: one page as one element, or nothing. */
final class PageRecords implements RecordsWithSplitIds<Page> {
    private final Page page;
    private final Runnable recycle;
    private boolean split;
    private boolean taken;

    private PageRecords(Page page, Runnable recycle) {
        this.page = page;
        this.recycle = recycle;
    }

    static PageRecords nothing() {
        return new PageRecords(null, () -> {});
    }

    static PageRecords of(Page page, Runnable recycle) {
        return new PageRecords(page, recycle);
    }

    @Override
    public String nextSplit() {
        if (page == null || split) {
            return null;
        }
        split = true;
        return page.splitId();
    }

    @Override
    public Page nextRecordFromSplit() {
        if (page == null || taken) {
            return null;
        }
        taken = true;
        return page;
    }

    @Override
    public Set<String> finishedSplits() {
        return page != null && page.finished() ? Set.of(page.splitId()) : Set.of();
    }

    @Override
    public void recycle() {
        recycle.run();
    }
}
