package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.connector.cosmosdb.CosmosDBRequestEntry;
import io.cosmosflink.connector.cosmosdb.CosmosDBRowConverter;
import io.cosmosflink.core.Core;
import java.io.IOException;
import java.io.UncheckedIOException;
import org.apache.flink.api.common.serialization.SerializerConfigImpl;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeutils.TypeSerializer;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.apache.flink.table.data.RowData;

/**
 * Hands rows to the core as Flink serialises them, which is a copy where they are binary already. The core makes the documents by the plan, finds id and
 * partition key in them, and does with a row that is inserted or updated what {@code sink.write-strategy} says. Not thread-safe.
 */
final class RowDataConverter implements CosmosDBRowConverter<RowData> {
    private static final long serialVersionUID = 1L;

    /** The length in front of a serialised row. */
    private static final int LENGTH_BYTES = 4;
    /** Above this the buffer is not kept for the next row. */
    private static final int KEEP = 1 << 20;

    private final byte[] plan;
    private final TypeInformation<RowData> type;
    private final RowLayout layout;
    private transient TypeSerializer<RowData> serializer;
    private transient DataOutputSerializer out;

    /**
     * @param plan a DOCUMENT_PLAN frame
     * @param type of the rows, of all columns of the plan
     */
    RowDataConverter(byte[] plan, TypeInformation<RowData> type, RowLayout layout) {
        this.plan = plan;
        this.type = type;
        this.layout = layout;
    }

    @Override
    public byte[] plan() {
        return plan;
    }

    @Override
    public String refusal(Core core) {
        return layout.refusal(core);
    }

    /** Throws what the serializer throws, for a row that it cannot write: the writer makes that the record's own failure. */
    @Override
    public CosmosDBRequestEntry apply(RowData row, SinkWriter.Context context) {
        if (out == null || out.getSharedBuffer().length > KEEP) {
            out = new DataOutputSerializer(1024);
        }
        if (serializer == null) {
            serializer = type.createSerializer(new SerializerConfigImpl());
        }
        out.clear();
        try {
            serializer.serialize(row, out);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return CosmosDBRequestEntry.ofRow(plan, out.getSharedBuffer(), LENGTH_BYTES, out.length() - LENGTH_BYTES);
    }
}
