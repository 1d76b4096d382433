package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.connector.cosmosdb.CosmosDBRowFormat;
import io.cosmosflink.core.Core;
import io.cosmosflink.core.RowsView;
import java.util.Map;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.core.memory.MemorySegment;
import org.apache.flink.core.memory.MemorySegmentFactory;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.binary.BinaryRowData;

/** Flink's own rows, each of which points into the array of its page: nothing is parsed or copied. A row that is kept keeps its page. */
final class RowDataFormat implements CosmosDBRowFormat<RowData> {
    private static final long serialVersionUID = 1L;

    private final byte[] plan;
    private final int columns;
    private final TypeInformation<RowData> type;
    private final RowLayout layout;
    private final byte[] asked;

    /**
     * @param plan a PLAN frame
     * @param columns how many the plan has; none where only the number of rows counts
     * @param asked the PLAN frame whose filter the service is asked with; null where the options have the query
     */
    RowDataFormat(byte[] plan, int columns, TypeInformation<RowData> type, RowLayout layout, byte[] asked) {
        this.layout = layout;
        this.asked = asked;
        this.plan = plan;
        this.columns = columns;
        this.type = type;
    }

    @Override
    public byte[] plan() {
        return plan;
    }

    @Override
    public String refusal(Core core) {
        return layout.refusal(core);
    }

    /** The service leaves out what is sure not to pass. */
    @Override
    public Map<String, String> options(Core core) {
        if (asked == null) {
            return Map.of();
        }
        Core.Query query = core.documentQuery(asked);
        return query.parameters().isEmpty()
                ? Map.of("scan.query", query.text())
                : Map.of("scan.query", query.text(), "scan.query-parameters", query.parameters());
    }

    @Override
    public Rows<RowData> rows(RowsView view) {
        MemorySegment[] page = {MemorySegmentFactory.wrap(view.bytes())};
        return index -> {
            BinaryRowData row = new BinaryRowData(columns);
            row.pointTo(page, view.offset(index), view.length(index));
            return row;
        };
    }

    @Override
    public TypeInformation<RowData> getProducedType() {
        return type;
    }
}
