package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.cosmosflink.core.RowPlan.Field;
import io.cosmosflink.core.RowPlan.Type;
import io.cosmosflink.core.RowPredicate.Comparison;
import io.cosmosflink.core.RowPredicate.Literal;
import io.cosmosflink.core.RowPredicate.Operand;
import io.cosmosflink.core.RowPredicate.Part;
import java.math.BigDecimal;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

class RowPlanTest {
    private static RowPlan plan() {
        return new RowPlan(
                true,
                RowPlan.OnError.SKIP_ROW,
                RowPlan.TimestampFormat.ISO_8601,
                RowPlan.TimestampUnit.MILLISECONDS,
                RowPlan.Changelog.UPSERT);
    }

    @Test
    void aPlanIsItsSettingsAndItsColumns() {
        byte[] frame = plan().path("/a/b", List.of("a", "b"), Type.bigint(true))
                .metadata("lsn", RowPlan.Metadata.LSN, Type.bigint(true))
                .constant("database", "orders")
                .frame();
        FrameReader in = FrameReader.open(frame, FrameKind.PLAN);
        assertThat(List.of(in.u8(), in.u8(), in.u8(), in.u8(), in.u8())).containsExactly(1, 3, 2, 2, 2);
        assertThat(in.u32()).isEqualTo(3);
        assertThat(in.str()).isEqualTo("/a/b");
        assertThat(in.u8()).as("a path").isZero();
        assertThat(in.u32()).isEqualTo(2);
        assertThat(List.of(in.str(), in.str())).containsExactly("a", "b");
        assertThat(List.of(in.u8(), in.u8())).as("a BIGINT that may be null").containsExactly(5, 1);
        assertThat(in.str()).isEqualTo("lsn");
        assertThat(in.u8()).isEqualTo(4);
        assertThat(List.of(in.u8(), in.u8())).containsExactly(5, 1);
        assertThat(in.str()).isEqualTo("database");
        assertThat(in.u8()).as("a constant").isEqualTo(10);
        assertThat(in.str()).isEqualTo("orders");
        assertThat(List.of(in.u8(), in.u8())).as("a STRING NOT NULL").containsExactly(9, 0);
        assertThat(in.remaining()).isZero();
    }

    @Test
    void typesHoldWhatBelongsToThem() {
        Type inner = Type.row(
                List.of(
                        new Field("price", Type.decimal(38, 10, false)),
                        new Field("tags", Type.map(Type.string(false), Type.array(Type.date(true), false), true))),
                true);
        byte[] frame = plan().path("/", List.of(), inner).frame();
        FrameReader in = FrameReader.open(frame, FrameKind.PLAN);
        in.skip(5 + 4);
        in.str();
        in.skip(1 + 4);
        byte[] type = new byte[in.remaining()];
        System.arraycopy(frame, in.position(), type, 0, type.length);
        FrameWriter expected = new FrameWriter(64)
                .u8(17)
                .u8(1)
                .u32(2)
                .str("price")
                .u8(8)
                .u8(0)
                .u8(38)
                .u8(10)
                .str("tags")
                .u8(16)
                .u8(1)
                .u8(9)
                .u8(0)
                .u8(15)
                .u8(0)
                .u8(11)
                .u8(1);
        assertThat(type).isEqualTo(expected.toBytes());
    }

    @Test
    void aPageOfRowsIsReadAndChecked() {
        byte[] frame = rows(48);
        Page page = new Page(frame, frame.length);
        RowsView rows = page.rows();
        assertThat(page.count()).isEqualTo(1);
        assertThat(page.splitId()).isEqualTo("s1");
        assertThat(rows.offset(0)).isEqualTo(48);
        assertThat(rows.length(0)).isEqualTo(16);
        assertThat(rows.timestampMillis(0)).isEqualTo(5000);
        assertThatThrownBy(page::records)
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("ROWS");

        byte[] beyond = rows(4096);
        assertThatThrownBy(() -> new Page(beyond, beyond.length).rows().length(0))
                .isInstanceOfSatisfying(
                        CosmosException.class, e -> assertThat(e.kind()).isEqualTo(CosmosException.Kind.STATE))
                .hasMessageContainingAll("16 bytes at 4096", "page of " + beyond.length);
    }

    /** A page of one row of 16 bytes; the head has 48 bytes. */
    private static byte[] rows(int rowOffset) {
        return FrameWriter.frame(FrameKind.ROWS)
                .u32(1)
                .u32(64)
                .u32(0)
                .u64(7)
                .u64(5)
                .str("s1")
                .blob(new byte[] {9, 9})
                .blob(new byte[0])
                .raw(new byte[16])
                .u32(rowOffset)
                .u32(16)
                .u64(5000)
                .u8(2)
                .raw(new byte[7])
                .toBytes();
    }

    @Test
    void aFilterStandsBehindTheColumns() {
        assertThat(plan().hidden().frame()).as("all rows pass").isEqualTo(plan().frame());
        Operand open = new Operand(8, List.of());
        byte[] filtered = plan().hidden()
                .path("open", List.of("open"), Type.bool(true))
                .filter(RowPredicate.any(List.of(
                        RowPredicate.isNull(open),
                        RowPredicate.isSet(open),
                        RowPredicate.not(RowPredicate.is(
                                true, RowPredicate.compare(Comparison.EQUAL, open, Literal.bool(true)))),
                        RowPredicate.all(List.of(
                                RowPredicate.compare(
                                        Comparison.GREATER,
                                        new Operand(2, List.of()),
                                        Literal.decimal(new BigDecimal("-10.50"))),
                                RowPredicate.compare(Comparison.NOT_EQUAL, new Operand(2, List.of()), Literal.whole(7)),
                                RowPredicate.compare(
                                        Comparison.GREATER_OR_EQUAL,
                                        new Operand(3, List.of()),
                                        Literal.moment(1_700_000_000_123L, 456_789)),
                                RowPredicate.in(
                                        new Operand(0, List.of()), List.of(Literal.text("a"), Literal.text("ä"))),
                                RowPredicate.has(Part.START, new Operand(1, List.of()), "an"))))))
                .frame();
        byte[] filter = Arrays.copyOfRange(filtered, plan().frame().length, filtered.length);
        byte[] golden = GoldenFrames.bytes("plan");
        assertThat(Arrays.copyOfRange(golden, golden.length - filter.length, golden.length))
                .isEqualTo(filter);
    }
}
