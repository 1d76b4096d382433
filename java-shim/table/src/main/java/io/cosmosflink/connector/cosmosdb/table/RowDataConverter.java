package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.connector.cosmosdb.CosmosDBRequestEntry;
import io.cosmosflink.core.Documents;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.OperationKind;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.connector.base.sink.writer.ElementConverter;
import org.apache.flink.table.data.RowData;

/**
 * Makes a write out of a row. Id and partition key are left to the core, which finds them in the document; what is done with a row that is inserted or
 * updated is left to {@code sink.write-strategy}.
 */
final class RowDataConverter implements ElementConverter<RowData, CosmosDBRequestEntry> {
    private static final long serialVersionUID = 1L;

    /** Where a row has no such column. */
    static final int NONE = -1;

    private final DocumentEncoder written;
    /** Null for a table without a primary key, which has no deletes. */
    private final DocumentEncoder deleted;

    private final OperationKind delete;
    private final int etag;
    private final int timeToLive;

    /**
     * @param written the document of a row that is inserted or updated
     * @param deleted what names the document of a row that is deleted, and what is written over it; null where there are no deletes
     * @param delete what is done with that
     * @param etag where rows have the ETag that is expected, or {@link #NONE}
     * @param timeToLive where they have seconds to live, or {@link #NONE}
     */
    RowDataConverter(DocumentEncoder written, DocumentEncoder deleted, OperationKind delete, int etag, int timeToLive) {
        this.written = written;
        this.deleted = deleted;
        this.delete = delete;
        this.etag = etag;
        this.timeToLive = timeToLive;
    }

    /** Throws what the encoder throws, for a row of which no document can be made: the writer makes that the record's own failure. */
    @Override
    public CosmosDBRequestEntry apply(RowData row, SinkWriter.Context context) {
        return CosmosDBRequestEntry.of(
                switch (row.getRowKind()) {
                    case INSERT, UPDATE_AFTER -> operation(OperationKind.DEFAULT, row, written(row));
                    // Flink sends what was before an update where the primary key has more columns than the rows' own
                    // key: the update may
                    // have another primary key, and then it is another document.
                    case DELETE, UPDATE_BEFORE -> operation(delete, row, deleted(row));
                });
    }

    private Operation operation(OperationKind kind, RowData row, byte[] document) {
        String expected =
                etag == NONE || row.isNullAt(etag) ? "" : row.getString(etag).toString();
        return new Operation(kind, "", "", expected, document);
    }

    private byte[] written(RowData row) {
        byte[] document = written.encode(row);
        return timeToLive == NONE || row.isNullAt(timeToLive)
                ? document
                : Documents.withTimeToLive(document, row.getInt(timeToLive));
    }

    private byte[] deleted(RowData row) {
        if (deleted == null) {
            throw new IllegalStateException("a table without a primary key takes no deletes");
        }
        return deleted.encode(row);
    }
}
