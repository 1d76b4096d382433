package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.RowPlan;
import io.cosmosflink.core.RowsView;
import java.io.IOException;
import java.io.Serializable;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.util.Arrays;
import java.util.List;
import org.apache.flink.api.common.serialization.SerializerConfigImpl;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.data.DecimalData;
import org.apache.flink.table.data.GenericArrayData;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.types.DataType;

/** Whether the Flink at hand has its rows in the layout that the core writes: one row with what differs by type, made by both. */
final class RowLayout implements Serializable {
    private static final long serialVersionUID = 1L;

    /** The length in front of a serialised row. */
    private static final int LENGTH_BYTES = 4;

    static final DataType TYPE = DataTypes.ROW(
            DataTypes.FIELD("flag", DataTypes.BOOLEAN()),
            DataTypes.FIELD("number", DataTypes.INT()),
            DataTypes.FIELD("short", DataTypes.STRING()),
            DataTypes.FIELD("long", DataTypes.STRING()),
            DataTypes.FIELD("money", DataTypes.DECIMAL(20, 2)),
            DataTypes.FIELD("moment", DataTypes.TIMESTAMP(9)),
            DataTypes.FIELD("list", DataTypes.ARRAY(DataTypes.INT())),
            DataTypes.FIELD("inner", DataTypes.ROW(DataTypes.FIELD("count", DataTypes.BIGINT()))),
            DataTypes.FIELD("missing", DataTypes.DOUBLE()));

    private static final String DOCUMENT =
            """
            {"flag":true,"number":7,"short":"seven","long":"more than seven bytes","money":12345678901234567.25,
            "moment":"2026-01-01T00:00:00.123456789","list":[1,null,3],"inner":{"count":5}}""";

    private final TypeInformation<RowData> type;

    /** @param type Flink's for {@link #TYPE} */
    RowLayout(TypeInformation<RowData> type) {
        this.type = type;
    }

    /** The row of the document as Flink has it before it serialises it. */
    private static RowData row() {
        return GenericRowData.of(
                true,
                7,
                StringData.fromString("seven"),
                StringData.fromString("more than seven bytes"),
                DecimalData.fromBigDecimal(new BigDecimal("12345678901234567.25"), 20, 2),
                TimestampData.fromEpochMillis(1_767_225_600_123L, 456_789),
                new GenericArrayData(new Integer[] {1, null, 3}),
                GenericRowData.of(5L),
                null);
    }

    /** Why no row of the core can be used, or null. */
    String refusal(Core core) {
        byte[] ours = ofCore(core);
        byte[] flinks = ofFlink();
        return Arrays.equals(ours, flinks)
                ? null
                : "this version of Flink has its rows in another layout than the connector writes (" + flinks.length
                        + " and " + ours.length
                        + " bytes of the same row); use a version of the connector that supports this version of Flink";
    }

    /** The PLAN frame of a table of its own with these columns: each is the field of its name, and what does not fit fails. */
    static byte[] plan(DataType type) {
        RowPlan plan = new RowPlan(
                false,
                RowPlan.OnError.FAIL,
                RowPlan.TimestampFormat.ISO_8601,
                RowPlan.TimestampUnit.NONE,
                RowPlan.Changelog.APPEND);
        List<String> names = DataType.getFieldNames(type);
        List<DataType> types = DataType.getFieldDataTypes(type);
        for (int i = 0; i < names.size(); i++) {
            String name = names.get(i);
            plan.path(name, List.of(name), PlanTypes.of(name, types.get(i).getLogicalType()));
        }
        return plan.frame();
    }

    private static byte[] ofCore(Core core) {
        RowsView view = core.decodeRows(plan(TYPE), List.of(DOCUMENT)).rows();
        return Arrays.copyOfRange(view.bytes(), view.offset(0), view.offset(0) + view.length(0));
    }

    private byte[] ofFlink() {
        DataOutputSerializer out = new DataOutputSerializer(256);
        try {
            type.createSerializer(new SerializerConfigImpl()).serialize(row(), out);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        byte[] serialised = out.getCopyOfBuffer();
        return Arrays.copyOfRange(serialised, LENGTH_BYTES, serialised.length);
    }
}
