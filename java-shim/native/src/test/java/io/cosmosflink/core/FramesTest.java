package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class FramesTest {
    private static final byte[] DOCUMENT = "{\"id\":\"ä\"}".getBytes(StandardCharsets.UTF_8);

    @Test
    void aMapIsLaidOutAsTheBoundarySays() {
        byte[] frame = Frames.map(Map.of("k", "vä"));
        assertThat(HexFormat.of().formatHex(frame))
                .isEqualTo("0100" + "0200" + "01000000" + "01000000" + "6b" + "03000000" + "76c3a4");
        assertThat(Frames.map(frame)).containsExactly(Map.entry("k", "vä"));
    }

    @Test
    void splitsComeBackAsTheyWere() {
        SplitEntry split = new SplitEntry("id", 3, true, "a range", new byte[] {1, 2, 3});
        assertThat(Frames.splits(Frames.splits(List.of(split))))
                .usingRecursiveComparison()
                .isEqualTo(List.of(split));
    }

    @Test
    void operationsAreLaidOutAsTheBoundarySays() {
        OperationBatch batch = new OperationBatch();
        batch.add(new Operation(OperationKind.DELETE, "a", "[1]", "", new byte[0]).encode());
        assertThat(HexFormat.of().formatHex(Arrays.copyOf(batch.array(), batch.length())))
                .isEqualTo("0100" + "0600" + "01000000" + "04" + "01000000" + "61" + "03000000" + "5b315d" + "00000000"
                        + "00000000");
    }

    @Test
    void aBatchCanBeUsedAgain() {
        byte[] body = Operation.upsert("a", "[1]", DOCUMENT).encode();
        OperationBatch batch = new OperationBatch();
        batch.add(body);
        byte[] first = Arrays.copyOf(batch.array(), batch.length());
        batch.clear();
        batch.add(body);
        assertThat(Arrays.copyOf(batch.array(), batch.length())).isEqualTo(first);
        assertThat(batch.count()).isOne();
    }

    @Test
    void anOperationSurvivesAWritersState() {
        Operation operation = new Operation(OperationKind.REPLACE, "ä", "[\"x\",null]", "etag", DOCUMENT);
        byte[] body = Operation.bodyOf(Operation.stateOf(operation.encode()));
        assertThat(Operation.decode(body)).usingRecursiveComparison().isEqualTo(operation);
    }

    @Test
    void completionsAreRead() {
        byte[] frame = FrameWriter.frame(FrameKind.COMPLETIONS)
                .u64(5)
                .u32(2)
                .u64(8)
                .u64(Double.doubleToLongBits(6.29))
                .u32(0)
                .u64(9)
                .u64(Double.doubleToLongBits(1.5))
                .u32(1)
                .u32(3)
                .u8(4)
                .u8(7)
                .u8(1)
                .u16(409)
                .u32(5)
                .u32(2)
                .str("activity")
                .str("why")
                .blob(Operation.upsert("a", "[1]", new byte[0]).encode())
                .toBytes();
        WriteFailure failure = new WriteFailure(
                        3,
                        WriteFailure.Result.FAILED,
                        CosmosException.Kind.CONFLICT,
                        true,
                        409,
                        5,
                        2,
                        "activity",
                        "why")
                .of(new WriteFailure.Target(OperationKind.UPSERT, "a", "[1]"));
        assertThat(Frames.completions(frame).room()).isEqualTo(5);
        List<Completion> completions = Frames.completions(frame).completions();
        assertThat(completions)
                .containsExactly(new Completion(8, 6.29, List.of()), new Completion(9, 1.5, List.of(failure)));
        assertThat(completions.get(0).fatal()).isEmpty();
        assertThat(completions.get(1).fatal()).contains(failure);
    }

    @Test
    void metricsAreReadAsTheirTableSays() {
        byte[] table = FrameWriter.frame(FrameKind.METRIC_TABLE)
                .u32(2)
                .str("splits")
                .str("splits")
                .u8(1)
                .u8(0)
                .str("Splits.")
                .str("requestUnits")
                .str("RU")
                .u8(3)
                .u8(1)
                .str("Units.")
                .toBytes();
        List<CoreMetric> rows = Frames.metricTable(table);
        assertThat(rows)
                .containsExactly(
                        new CoreMetric(0, "splits", "splits", 1, false, "Splits."),
                        new CoreMetric(1, "requestUnits", "RU", 3, true, "Units."));
        assertThat(rows.get(0).isOf(Core.Role.SINK)).isFalse();
        assertThat(rows.get(1).isOf(Core.Role.SINK)).isTrue();
        CoreMetrics metrics = CoreMetrics.decode(FrameWriter.frame(FrameKind.METRICS)
                .u32(2)
                .u64(7)
                .u64(Double.doubleToLongBits(1.25))
                .u32(1)
                .str("00-FF")
                .u64(1500)
                .u64(42)
                .toBytes());
        assertThat(metrics.ofSplit("00-FF")).isEqualTo(new CoreMetrics.SplitLag(1500, 42));
        assertThat(metrics.ofSplit("00-7F")).isEqualTo(CoreMetrics.SplitLag.NONE);
        assertThat(rows).extracting(metrics::get).containsExactly(7L, 1.25);
        assertThat(rows).extracting(CoreMetrics.NONE::get).containsExactly(0L, 0.0);
    }

    /** State may be damaged anywhere: that is an exception that says so, never anything else. */
    @Test
    void everyCutFrameIsRefused() {
        byte[] splits = Frames.splits(List.of(new SplitEntry("id", 0, false, "d", DOCUMENT)));
        byte[] state = Operation.stateOf(Operation.upsert("a", "[1]", DOCUMENT).encode());
        for (int n = 0; n < splits.length; n++) {
            byte[] cut = Arrays.copyOf(splits, n);
            assertState(() -> Frames.splits(cut));
        }
        for (int n = 0; n < state.length; n++) {
            byte[] cut = Arrays.copyOf(state, n);
            assertState(() -> Operation.bodyOf(cut));
        }
    }

    @Test
    void newerAndForeignFramesAreRefused() {
        byte[] newer = Frames.strings(List.of());
        newer[0] = 2;
        assertThatThrownBy(() -> FrameReader.open(newer, FrameKind.STRINGS)).hasMessageContaining("version 2");
        assertThatThrownBy(() -> Frames.map(Frames.strings(List.of())))
                .hasMessageContaining("kind 3")
                .hasMessageContaining("MAP");
        byte[] many = FrameWriter.frame(FrameKind.MAP).u32(Integer.MAX_VALUE).toBytes();
        assertState(() -> Frames.map(many));
    }

    @Test
    void kindsOfTheFutureAreUnknown() {
        assertThat(new CosmosException("m", 99, 0, 0, null).kind()).isEqualTo(CosmosException.Kind.UNKNOWN);
        assertThat(new CosmosException("m", 12, 0, 0, "").kind()).isEqualTo(CosmosException.Kind.INTERNAL);
    }

    private static void assertState(org.assertj.core.api.ThrowableAssert.ThrowingCallable call) {
        assertThatThrownBy(call).isInstanceOfSatisfying(CosmosException.class, e -> assertThat(e.kind())
                .isEqualTo(CosmosException.Kind.STATE));
    }
}
