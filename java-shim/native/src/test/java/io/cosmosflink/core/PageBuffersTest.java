package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;

import io.cosmosflink.core.TestPages.Item;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import org.junit.jupiter.api.Test;

class PageBuffersTest {
    /** Hands out its pages as the core does. */
    private static final class Pages extends IdleSource {
        final Deque<byte[]> pages = new ArrayDeque<>();
        int calls;

        void add(int documentBytes) {
            Item item = new Item("a", "[1]", 1, 0, "x".repeat(documentBytes));
            pages.add(TestPages.page("s", new byte[] {1}, 0, 0, List.of(item)));
        }

        @Override
        public int nextPage(byte[] into, long timeoutMillis) {
            calls++;
            byte[] page = pages.peek();
            if (page == null) {
                return 0;
            }
            if (page.length > into.length) {
                return -page.length;
            }
            System.arraycopy(page, 0, into, 0, page.length);
            return pages.remove().length;
        }
    }

    private final Pages source = new Pages();
    private final PageBuffers buffers = new PageBuffers();

    @Test
    void aPageThatNeedsMoreRoomIsAskedForAgainAndTheNextOnesAreNot() {
        source.add(100);
        source.add(1 << 20);
        source.add(1 << 20);
        source.add(100);
        Page small = buffers.next(source, 1000);
        assertThat(source.calls).isEqualTo(1);
        Page large = buffers.next(source, 1000);
        assertThat(source.calls).isEqualTo(3);
        // A new buffer, since both are in use, and it is as large as the largest page.
        Page another = buffers.next(source, 1000);
        assertThat(source.calls).isEqualTo(4);
        assertThat(large.records().at(0).document()).hasSize(1 << 20);
        assertThat(another.bytes()).isNotSameAs(large.bytes());
        buffers.give(another);
        assertThat(buffers.next(source, 1000).bytes()).isSameAs(another.bytes());
        assertThat(small.records().at(0).document()).hasSize(100);
    }

    @Test
    void aPageThatIsKeptHasAnArrayOfItsVerySize() {
        PageBuffers kept = new PageBuffers(true);
        byte[] frame = TestPages.rows("s", new byte[] {1}, 0, List.of(new byte[16]), List.of(5L));
        source.pages.add(frame);
        source.pages.add(frame);
        Page page = kept.next(source, 1000);
        assertThat(source.calls).isEqualTo(2);
        assertThat(page.bytes()).isEqualTo(frame);
        kept.give(page);
        Page another = kept.next(source, 1000);
        assertThat(another.bytes()).isEqualTo(frame).isNotSameAs(page.bytes());
        assertThat(kept.next(source, 1000)).isNull();
    }

    @Test
    void aWaitThatEndsWithoutAPageKeepsItsBuffer() {
        source.add(100);
        Page page = buffers.next(source, 1000);
        buffers.give(page);
        assertThat(buffers.next(source, 1000)).isNull();
        source.add(100);
        assertThat(buffers.next(source, 1000).bytes()).isSameAs(page.bytes());
    }
}
