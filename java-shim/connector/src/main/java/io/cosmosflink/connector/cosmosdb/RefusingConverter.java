package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.RecordFailures;
import io.cosmosflink.core.UnwritableRecordException;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.connector.base.sink.writer.ElementConverter;

/**
 * Makes an entry out of every record, also of one that its converter throws on or that is too large: that one's entry says why. To
 * throw would fail the job at this record's every replay, whatever the failure mode. The converter has been opened.
 */
final class RefusingConverter<IN> implements ElementConverter<IN, CosmosDBRequestEntry> {
    private static final long serialVersionUID = 1L;

    private final ElementConverter<IN, CosmosDBRequestEntry> converter;
    private final long maxRecordBytes;

    RefusingConverter(ElementConverter<IN, CosmosDBRequestEntry> converter, long maxRecordBytes) {
        this.converter = converter;
        this.maxRecordBytes = maxRecordBytes;
    }

    @Override
    public CosmosDBRequestEntry apply(IN element, SinkWriter.Context context) {
        try {
            CosmosDBRequestEntry entry = converter.apply(element, context);
            if (entry == null) {
                throw new IllegalArgumentException("the element converter gave null");
            }
            return entry.within(maxRecordBytes);
        } catch (RuntimeException | StackOverflowError e) {
            if (!RecordFailures.isOfRecord(e)) {
                throw e;
            }
            return CosmosDBRequestEntry.refused(UnwritableRecordException.of(e));
        }
    }
}
