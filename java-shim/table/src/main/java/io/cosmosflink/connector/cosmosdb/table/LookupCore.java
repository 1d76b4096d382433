package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.connector.cosmosdb.Failures;
import io.cosmosflink.core.Answers;
import io.cosmosflink.core.Core;
import io.cosmosflink.core.CoreMetric;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.Finality;
import io.cosmosflink.core.LiveMetrics;
import io.cosmosflink.core.LookupKeys;
import io.cosmosflink.core.Lookups;
import io.cosmosflink.core.NativeCore;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import org.apache.flink.core.memory.MemorySegment;
import org.apache.flink.core.memory.MemorySegmentFactory;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.table.data.DecimalData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.data.binary.BinaryRowData;
import org.apache.flink.table.functions.FunctionContext;
import org.apache.flink.table.types.logical.DecimalType;
import org.apache.flink.table.types.logical.LocalZonedTimestampType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.TimestampType;

/** What both functions of a lookup join do: hand keys to the core, and make rows of its answers. Travels in the job graph. */
final class LookupCore implements Serializable {
    private static final long serialVersionUID = 1L;

    private final TreeMap<String, String> options;
    private final byte[] plan;
    private final int columns;
    private final int[] keys;
    private final ArrayList<LogicalType> types;
    private final RowLayout layout;
    private final boolean alone;
    private final boolean kept;

    private transient Lookups<Collection<RowData>> lookups;

    /**
     * @param options of the core
     * @param plan a PLAN frame
     * @param columns how many the plan has
     * @param keys those of them that are looked up by
     * @param types of these
     * @param alone whether one key is looked up after the other
     * @param kept whether rows stay in a cache
     */
    LookupCore(
            Map<String, String> options,
            byte[] plan,
            int columns,
            int[] keys,
            List<LogicalType> types,
            RowLayout layout,
            boolean alone,
            boolean kept) {
        this.options = new TreeMap<>(options);
        this.plan = plan;
        this.columns = columns;
        this.keys = keys;
        this.types = new ArrayList<>(types);
        this.layout = layout;
        this.alone = alone;
        this.kept = kept;
    }

    /** Whether a value of this type can be compared with what is in a document. */
    static boolean isKey(LogicalType type) {
        return switch (type.getTypeRoot()) {
            case CHAR,
                    VARCHAR,
                    BOOLEAN,
                    BINARY,
                    VARBINARY,
                    DECIMAL,
                    TINYINT,
                    SMALLINT,
                    INTEGER,
                    BIGINT,
                    FLOAT,
                    DOUBLE,
                    DATE,
                    TIME_WITHOUT_TIME_ZONE,
                    TIMESTAMP_WITHOUT_TIME_ZONE,
                    TIMESTAMP_WITH_LOCAL_TIME_ZONE -> true;
            default -> false;
        };
    }

    void open(FunctionContext context) throws InterruptedException {
        open(NativeCore::get, context.getMetricGroup());
    }

    void open(Core.Provider provider, MetricGroup metrics) throws InterruptedException {
        Core core = Failures.core(provider);
        String refusal = layout.refusal(core);
        if (refusal != null) {
            throw Failures.unsupported(refusal);
        }
        // Not in every Flink does a function hear whether the job has run before.
        Finality finality = Finality.of(options, false);
        try {
            lookups = Lookups.open(
                    core,
                    options,
                    plan,
                    alone,
                    keys,
                    this::rows,
                    (failure, outlivesRestart) -> Failures.request(failure, outlivesRestart, finality));
        } catch (CosmosException e) {
            throw Failures.open("cannot look up in container " + options.getOrDefault("container", "?"), e, finality);
        }
        register(metrics, lookups.metrics());
    }

    private static void register(MetricGroup operator, LiveMetrics metrics) {
        MetricGroup group = operator.addGroup("cosmosdb");
        for (CoreMetric metric : metrics.gauges()) {
            group.<Number, Gauge<Number>>gauge(metric.name(), () -> metrics.value(metric));
        }
    }

    /** @param key a value for each column that is looked up by */
    CompletableFuture<Collection<RowData>> lookUp(RowData key) {
        return lookups.lookUp(out -> write(key, out));
    }

    private void write(RowData key, LookupKeys out) {
        for (int i = 0; i < types.size(); i++) {
            if (key.isNullAt(i)) {
                out.none();
            } else {
                write(key, i, types.get(i), out);
            }
        }
    }

    private static void write(RowData key, int i, LogicalType type, LookupKeys out) {
        switch (type.getTypeRoot()) {
            case CHAR, VARCHAR -> out.text(key.getString(i).toBytes());
            case BOOLEAN -> out.bool(key.getBoolean(i));
            case BINARY, VARBINARY -> out.binary(key.getBinary(i));
            case DECIMAL -> {
                DecimalType decimal = (DecimalType) type;
                DecimalData value = key.getDecimal(i, decimal.getPrecision(), decimal.getScale());
                out.decimal(value.toBigDecimal());
            }
            case TINYINT -> out.whole(key.getByte(i));
            case SMALLINT -> out.whole(key.getShort(i));
            case INTEGER, DATE, TIME_WITHOUT_TIME_ZONE -> out.whole(key.getInt(i));
            case BIGINT -> out.whole(key.getLong(i));
            case FLOAT -> out.real(key.getFloat(i));
            case DOUBLE -> out.real(key.getDouble(i));
            case TIMESTAMP_WITHOUT_TIME_ZONE -> moment(key, i, ((TimestampType) type).getPrecision(), out);
            case TIMESTAMP_WITH_LOCAL_TIME_ZONE -> moment(key, i, ((LocalZonedTimestampType) type).getPrecision(), out);
            default -> throw new IllegalStateException("a key of type " + type.asSummaryString());
        }
    }

    private static void moment(RowData key, int i, int precision, LookupKeys out) {
        TimestampData value = key.getTimestamp(i, precision);
        out.moment(value.getMillisecond(), value.getNanoOfMillisecond());
    }

    /** On the completion thread. Rows point into the frame's array; those of a cache have bytes of their own, since each would keep all of the frame. */
    private Collection<RowData> rows(Answers answers, int answer) {
        int count = answers.rows(answer);
        if (count == 0) {
            return List.of();
        }
        MemorySegment[] frame = {MemorySegmentFactory.wrap(answers.bytes())};
        List<RowData> rows = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            BinaryRowData row = new BinaryRowData(columns);
            row.pointTo(frame, answers.offset(answer, i), answers.length(answer, i));
            rows.add(kept ? row.copy() : row);
        }
        return rows;
    }

    void close() {
        if (lookups != null) {
            lookups.close();
            lookups = null;
        }
    }
}
