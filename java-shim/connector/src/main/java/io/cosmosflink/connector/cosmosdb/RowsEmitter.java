package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Page;
import io.cosmosflink.core.RowsView;
import org.apache.flink.api.connector.source.SourceOutput;
import org.apache.flink.connector.base.source.reader.RecordEmitter;

/** Emits a page of rows in one go and only then moves the split, as {@link PageEmitter} does. What does not fit, the core has dealt with. */
final class RowsEmitter<T> implements RecordEmitter<Page, T, CosmosDBSplitState> {
    private final CosmosDBRowFormat<T> format;
    private final SourceMetrics metrics;

    RowsEmitter(CosmosDBRowFormat<T> format, SourceMetrics metrics) {
        this.format = format;
        this.metrics = metrics;
    }

    @Override
    public void emitRecord(Page page, SourceOutput<T> output, CosmosDBSplitState state) {
        RowsView view = page.rows();
        CosmosDBRowFormat.Rows<T> rows = format.rows(view);
        for (int i = 0; i < view.count(); i++) {
            // Without one it is the smallest number, which is Flink's own sign for that.
            output.collect(rows.row(i), view.timestampMillis(i));
        }
        metrics.emitted(page);
        state.moveTo(page.split());
        if (page.finished()) {
            state.endWith(page.children());
        }
    }
}
