package io.cosmosflink.core;

import java.nio.charset.StandardCharsets;
import java.util.List;

/** PAGE frames as the core builds them, for tests without the core. */
public final class TestPages {
    private TestPages() {}

    /** A record of a page; the document is {@code {"id":..}}. */
    public record Item(
            String id, String partitionKey, long seconds, int change, String document, String previous, int flags) {
        public Item(String id, String partitionKey, long seconds, int change, String document) {
            this(id, partitionKey, seconds, change, document, "", 0);
        }

        /** A record of which the core knows no id. */
        public static Item undecodable(String document, long seconds) {
            return new Item("", "[\"k\"]", seconds, 0, document, "", 1);
        }

        public static Item deleted(String id, long seconds, String previous, boolean expired) {
            return new Item(id, "[\"k\"]", seconds, 3, "", previous, expired ? 2 : 0);
        }

        public static Item of(String id, long seconds) {
            return new Item(id, "[\"k\"]", seconds, 0, "{\"id\":\"" + id + "\"}");
        }
    }

    public static byte[] page(String splitId, byte[] after, int flags, long arrivedMillis, List<Item> items) {
        return page(splitId, after, List.of(), flags, arrivedMillis, items);
    }

    /** The last page of a split, without records; the children go on in its place. */
    public static byte[] last(String splitId, byte[] after, List<SplitEntry> children) {
        return page(splitId, after, children, 2, 0, List.of());
    }

    /**
     * A page of rows.
     *
     * @param rows the bytes of each, a multiple of 8
     * @param seconds the {@code _ts} of each
     */
    public static byte[] rows(String splitId, byte[] after, long arrivedMillis, List<byte[]> rows, List<Long> seconds) {
        int head = 32 + 4 + splitId.getBytes(StandardCharsets.UTF_8).length + 4 + after.length + 4;
        int first = (head + 7) / 8 * 8;
        int table = first + rows.stream().mapToInt(row -> row.length).sum();
        FrameWriter out = FrameWriter.frame(FrameKind.ROWS)
                .u32(rows.size())
                .u32(table)
                .u32(0)
                .u64(arrivedMillis)
                .u64(seconds.stream().mapToLong(Long::longValue).max().orElse(0))
                .str(splitId)
                .blob(after)
                .blob(new byte[0])
                .raw(new byte[first - head]);
        rows.forEach(out::raw);
        int at = first;
        for (int i = 0; i < rows.size(); i++) {
            byte[] row = rows.get(i);
            out.u32(at).u32(row.length).u64(seconds.get(i) * 1000).u8(row[0]).raw(new byte[7]);
            at += row.length;
        }
        return out.toBytes();
    }

    private static byte[] page(
            String splitId, byte[] after, List<SplitEntry> children, int flags, long arrivedMillis, List<Item> items) {
        byte[] goOn = children.isEmpty() ? new byte[0] : Frames.splits(children);
        FrameWriter head = FrameWriter.frame(FrameKind.PAGE);
        long newest = items.stream().mapToLong(Item::seconds).max().orElse(0);
        int table = 32 + 4 + splitId.getBytes(StandardCharsets.UTF_8).length + 4 + after.length + 4 + goOn.length;
        head.u32(items.size())
                .u32(table)
                .u32(flags)
                .u64(arrivedMillis)
                .u64(newest)
                .str(splitId)
                .blob(after)
                .blob(goOn);
        FrameWriter bytes = new FrameWriter(64);
        int at = table + 64 * items.size();
        for (Item item : items) {
            for (String text : List.of(item.document, item.id, item.partitionKey)) {
                byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
                head.u32(at + bytes.length()).u32(utf8.length);
                bytes.raw(utf8);
            }
            head.u64(item.seconds)
                    .u64(-1)
                    .u64(-1)
                    .u8(item.change)
                    .u8(item.flags)
                    .raw(new byte[6]);
            byte[] previous = item.previous.getBytes(StandardCharsets.UTF_8);
            head.u32(at + bytes.length()).u32(previous.length);
            bytes.raw(previous);
        }
        return head.raw(bytes.toBytes()).toBytes();
    }
}
