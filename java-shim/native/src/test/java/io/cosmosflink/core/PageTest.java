package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.cosmosflink.core.TestPages.Item;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

class PageTest {
    private static final byte[] AFTER = {9, 8, 7};
    private static final byte[] FRAME = TestPages.page(
            "split-ä", AFTER, 1, 1_000_500, List.of(Item.of("a", 999), new Item("bä", "[\"eu\",1]", 1000, 3, "{}")));

    /** In a buffer that is longer, with another page's bytes behind. */
    private static byte[] inBuffer(byte[] frame) {
        byte[] buffer = new byte[frame.length + 100];
        Arrays.fill(buffer, (byte) 'x');
        System.arraycopy(frame, 0, buffer, 0, frame.length);
        return buffer;
    }

    @Test
    void aPageIsRead() {
        Page page = new Page(inBuffer(FRAME), FRAME.length);
        assertThat(page.count()).isEqualTo(2);
        assertThat(page.caughtUp()).isTrue();
        assertThat(page.splitId()).isEqualTo("split-ä");
        assertThat(page.split()).isEqualTo(AFTER);
        assertThat(page.arrivedMillis()).isEqualTo(1_000_500);
        assertThat(page.newestSeconds()).isEqualTo(1000);
        RecordView record = page.records();
        assertThat(record.at(1).id()).isEqualTo("bä");
        assertThat(record.partitionKey()).isEqualTo("[\"eu\",1]");
        assertThat(record.change()).isEqualTo(RecordView.Change.DELETE);
        assertThat(record.at(0).text()).isEqualTo("{\"id\":\"a\"}");
        assertThat(new String(record.document(), StandardCharsets.UTF_8)).isEqualTo(record.text());
        assertThat(record.timestampSeconds()).isEqualTo(999);
        assertThat(record.lsn()).isEqualTo(-1);
        assertThatThrownBy(() -> record.at(2)).isInstanceOf(IndexOutOfBoundsException.class);
    }

    @Test
    void theLastPageOfASplitNamesThoseThatGoOn() {
        List<SplitEntry> children = List.of(
                new SplitEntry("00-40", 3, true, "left", new byte[] {1}),
                new SplitEntry("40-FF", 3, true, "right", new byte[] {2, 3}));
        byte[] frame = TestPages.last("00-FF", AFTER, children);
        Page page = new Page(inBuffer(frame), frame.length);
        assertThat(page.finished()).isTrue();
        assertThat(page.caughtUp()).isFalse();
        assertThat(page.children()).usingRecursiveComparison().isEqualTo(children);
        assertThat(page.split()).isEqualTo(AFTER);
        byte[] done = TestPages.last("00-FF", AFTER, List.of());
        assertThat(new Page(done, done.length).children()).isEmpty();
        assertThat(new Page(FRAME, FRAME.length).finished()).isFalse();
    }

    @Test
    void whatWasBeforeIsARecordOfItsOwn() {
        byte[] frame = TestPages.page(
                "s",
                AFTER,
                0,
                0,
                List.of(
                        new Item("a", "[\"k\"]", 5, 2, "{\"n\":2}", "{\"n\":1}", 0),
                        Item.deleted("b", 6, "{\"n\":9}", true),
                        Item.deleted("c", 7, "", false)));
        RecordView record = new Page(inBuffer(frame), frame.length).records();
        RecordView before = record.at(0).previous();
        assertThat(before.text()).isEqualTo("{\"n\":1}");
        assertThat(new String(before.document(), StandardCharsets.UTF_8)).isEqualTo("{\"n\":1}");
        assertThat(before.change()).isEqualTo(RecordView.Change.UPSERT);
        assertThat(before.id()).isEqualTo("a");
        assertThat(before.previous()).isNull();
        assertThat(record.text()).isEqualTo("{\"n\":2}");
        assertThat(record.at(1).previous().text()).isEqualTo("{\"n\":9}");
        assertThat(record.previous().expired()).isFalse();
        assertThat(record.expired()).isTrue();
        assertThat(record.document()).isEmpty();
        assertThat(record.at(2).previous()).isNull();
        assertThat(record.expired()).isFalse();
    }

    @Test
    void aPageWithoutRecordsHasAPosition() {
        byte[] frame = TestPages.page("s", AFTER, 0, 0, List.of());
        Page page = new Page(frame, frame.length);
        assertThat(page.count()).isZero();
        assertThat(page.split()).isEqualTo(AFTER);
    }

    @Test
    void aCutPageIsRefusedAndNeverReadsTheOldBytesBehind() {
        for (int n = 0; n < FRAME.length; n++) {
            int length = n;
            assertThatThrownBy(() -> {
                        Page page = new Page(inBuffer(FRAME), length);
                        page.split();
                        for (int i = 0; i < page.count(); i++) {
                            page.records().at(i).text();
                            page.records().at(i).id();
                            page.records().at(i).partitionKey();
                        }
                    })
                    .as("%d of %d bytes", n, FRAME.length)
                    .isInstanceOf(CosmosException.class);
        }
    }
}
