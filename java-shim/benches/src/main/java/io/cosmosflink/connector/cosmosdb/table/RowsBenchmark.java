package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.connector.cosmosdb.CosmosDBRowFormat;
import io.cosmosflink.core.DocumentFrame;
import io.cosmosflink.core.RowsView;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.flink.formats.common.TimestampFormat;
import org.apache.flink.formats.json.JsonParserRowDataDeserializationSchema;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.binary.BinaryRowData;
import org.apache.flink.table.data.binary.BinarySegmentUtils;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.runtime.typeutils.RowDataSerializer;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.RowType;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OperationsPerInvocation;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;
import org.openjdk.jmh.infra.Blackhole;

/**
 * A page of documents that becomes rows: by the core, over the boundary and back, and by flink-json's streaming parser. Time is that of one document. The
 * serial collector works in the thread that is measured, so that what is collected counts.
 *
 * <p>The core is charged for more than it does in a job: there the documents come from the network, and not out of the JVM, its decoder lives as long
 * as the reader, and it has no text to check for UTF-8 a second time.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@OperationsPerInvocation(RowsBenchmark.DOCUMENTS)
@Fork(
        value = 1,
        jvmArgsAppend = {
            "-XX:+UseSerialGC",
            "-Xms1g",
            "-Xmx1g",
            "--add-opens=java.base/java.lang=ALL-UNNAMED",
            "--add-opens=java.base/java.util=ALL-UNNAMED"
        })
@Warmup(iterations = 5, time = 2)
@Measurement(iterations = 5, time = 2)
public class RowsBenchmark {
    static final int DOCUMENTS = 1000;

    private static final String LINE = "{\"sku\":\"sku-004711\",\"quantity\":2,\"price\":19.99,\"gift\":false}";

    /** The size of the documents. */
    @Param({"430", "1024", "10240"})
    public int bytes;

    /** How many columns the table has: five, or all that the documents have. */
    @Param({"5", "all"})
    public String columns;

    private byte[][] documents;
    private DocumentFrame frame;
    private byte[] plan;
    private CosmosDBRowFormat<RowData> format;
    private JsonParserRowDataDeserializationSchema json;
    private RowDataSerializer serializer;

    @Setup
    @SuppressWarnings("deprecation") // without a context, of which it needs nothing
    public void prepare() throws Exception {
        boolean few = columns.equals("5");
        List<String> texts = new ArrayList<>();
        for (int i = 0; i < DOCUMENTS; i++) {
            texts.add(bytes == 430 ? order(i) : wide(i, bytes == 1024 ? 0 : 560));
        }
        DataType table = bytes == 430 ? orders(few) : wides(few);
        documents = texts.stream()
                .map(text -> text.getBytes(StandardCharsets.UTF_8))
                .toArray(byte[][]::new);
        frame = new DocumentFrame(texts);
        plan = RowLayout.plan(table);
        RowType type = (RowType) table.getLogicalType();
        InternalTypeInfo<RowData> info = InternalTypeInfo.of(type);
        format = new RowDataFormat(plan, type.getFieldCount(), info, new RowLayout(info), null);
        json = new JsonParserRowDataDeserializationSchema(type, info, false, false, TimestampFormat.ISO_8601);
        json.open(null);
        serializer = new RowDataSerializer(type);
        compare();
    }

    /** Both make the same rows. */
    private void compare() throws Exception {
        RowsView view = frame.rows(plan).rows();
        CosmosDBRowFormat.Rows<RowData> rows = format.rows(view);
        if (view.count() != DOCUMENTS) {
            throw new AssertionError(view.count() + " rows of " + DOCUMENTS + " documents");
        }
        for (int i = 0; i < DOCUMENTS; i++) {
            byte[] expected = bytesOf(serializer.toBinaryRow(json.deserialize(documents[i])));
            byte[] found = bytesOf((BinaryRowData) rows.row(i));
            if (!Arrays.equals(expected, found)) {
                throw new AssertionError("another row of " + new String(documents[i], StandardCharsets.UTF_8));
            }
        }
    }

    private static byte[] bytesOf(BinaryRowData row) {
        return BinarySegmentUtils.copyToBytes(row.getSegments(), row.getOffset(), row.getSizeInBytes());
    }

    @Benchmark
    public void core(Blackhole sink) {
        RowsView view = frame.rows(plan).rows();
        CosmosDBRowFormat.Rows<RowData> rows = format.rows(view);
        for (int i = 0; i < view.count(); i++) {
            sink.consume(rows.row(i));
            sink.consume(view.timestampMillis(i));
        }
    }

    @Benchmark
    public void flinkJson(Blackhole sink) throws Exception {
        for (byte[] document : documents) {
            sink.consume(json.deserialize(document));
        }
    }

    /** The same, in the form that the core's rows have. */
    @Benchmark
    public void flinkJsonBinary(Blackhole sink) throws Exception {
        for (byte[] document : documents) {
            sink.consume(serializer.toBinaryRow(json.deserialize(document)));
        }
    }

    // The documents and tables of tests/bench/benches/core.rs.

    private static String order(int i) {
        return String.format(
                Locale.ROOT,
                "{\"id\":\"%08x-5717-4562-b3fc-2c963f66afa6\",\"customerId\":\"customer-%05d\",\"amount\":%d.%02d,\"currency\":\"EUR\","
                        + "\"createdAt\":\"2026-11-24T10:15:30.123Z\",\"source\":\"eu-west\",\"lines\":[%s,%s],\"_rid\":\"AAAAAYAAAAECAAAAAAAAAA==\","
                        + "\"_self\":\"dbs/AAAAAQ==/colls/AAAAAYAAAAE=/docs/AA==/\",\"_etag\":\"\\\"00000000-0000-0000\\\"\",\"_ts\":1795517269}",
                i,
                i % 64,
                i % 900,
                i % 100,
                LINE,
                LINE);
    }

    private static DataType orders(boolean few) {
        List<DataTypes.Field> fields = new ArrayList<>(List.of(
                DataTypes.FIELD("id", DataTypes.STRING()),
                DataTypes.FIELD("customerId", DataTypes.STRING()),
                DataTypes.FIELD("amount", DataTypes.DECIMAL(10, 2)),
                DataTypes.FIELD("createdAt", DataTypes.TIMESTAMP_LTZ(3)),
                DataTypes.FIELD("_ts", DataTypes.BIGINT())));
        if (!few) {
            DataType line = DataTypes.ROW(
                    DataTypes.FIELD("sku", DataTypes.STRING()),
                    DataTypes.FIELD("quantity", DataTypes.INT()),
                    DataTypes.FIELD("price", DataTypes.DECIMAL(10, 2)),
                    DataTypes.FIELD("gift", DataTypes.BOOLEAN()));
            fields.addAll(List.of(
                    DataTypes.FIELD("currency", DataTypes.STRING()),
                    DataTypes.FIELD("source", DataTypes.STRING()),
                    DataTypes.FIELD("lines", DataTypes.ARRAY(line)),
                    DataTypes.FIELD("_etag", DataTypes.STRING())));
        }
        return DataTypes.ROW(fields.toArray(DataTypes.Field[]::new));
    }

    /** A document of fifty fields: 1 KB and, for each of the 16 that are texts, so many bytes more. */
    private static String wide(int i, int more) {
        String fields = IntStream.range(0, 48)
                .mapToObj(n -> String.format(Locale.ROOT, "\"field%02d\":", n)
                        + switch (n % 3) {
                            case 0 -> String.format(Locale.ROOT, "\"%04d%s\"", (i + n) % 10_000, "x".repeat(more));
                            case 1 -> String.valueOf(i * 31 + n);
                            default -> String.format(Locale.ROOT, "%d.%02d", i % 900, n);
                        })
                .collect(Collectors.joining(","));
        return String.format(
                Locale.ROOT,
                "{\"id\":\"%08x\",\"customerId\":\"customer-%05d\",%s,\"_etag\":\"\\\"00000000-0000-0000\\\"\",\"_ts\":1795517269}",
                i,
                i % 64,
                fields);
    }

    private static DataType wides(boolean few) {
        List<DataTypes.Field> fields = new ArrayList<>();
        fields.add(DataTypes.FIELD("id", DataTypes.STRING()));
        if (!few) {
            fields.add(DataTypes.FIELD("customerId", DataTypes.STRING()));
        }
        for (int n : few ? new int[] {0, 13, 26, 45} : IntStream.range(0, 48).toArray()) {
            DataType type =
                    switch (n % 3) {
                        case 0 -> DataTypes.STRING();
                        case 1 -> DataTypes.BIGINT();
                        default -> DataTypes.DECIMAL(10, 2);
                    };
            fields.add(DataTypes.FIELD(String.format(Locale.ROOT, "field%02d", n), type));
        }
        return DataTypes.ROW(fields.toArray(DataTypes.Field[]::new));
    }
}
