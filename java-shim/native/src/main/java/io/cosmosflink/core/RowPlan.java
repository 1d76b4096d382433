package io.cosmosflink.core;

import java.util.List;

/**
 * How documents become rows: the PLAN frame of {@code docs/boundary.md}. Which columns there are, where their values are found, and of which types they
 * are. The core checks it when a reader opens.
 */
@Internal
public final class RowPlan {
    /** What becomes of a value that does not fit its column. */
    public enum OnError {
        FAIL(1),
        NULL_FIELD(2),
        SKIP_ROW(3);

        final int number;

        OnError(int number) {
            this.number = number;
        }
    }

    /** How timestamps are written that are text. */
    public enum TimestampFormat {
        SQL(1),
        ISO_8601(2);

        final int number;

        TimestampFormat(int number) {
            this.number = number;
        }
    }

    /** What a number in a column of timestamps counts since the epoch. */
    public enum TimestampUnit {
        /** Nothing: a number does not fit. */
        NONE(0),
        SECONDS(1),
        MILLISECONDS(2),
        MICROSECONDS(3),
        NANOSECONDS(4);

        final int number;

        TimestampUnit(int number) {
            this.number = number;
        }
    }

    /** Of which kind the rows are. */
    public enum Changelog {
        /** Each version is inserted, a delete has no row. */
        APPEND(1),
        /** A creation is inserted, every other version is an update, a delete a delete. */
        UPSERT(2),
        /** Each version is inserted, deletes too. */
        LOG(3);

        final int number;

        Changelog(int number) {
            this.number = number;
        }
    }

    /** Where the value of a column comes from that stands in no document. */
    public enum Metadata {
        TIMESTAMP(1),
        ID(2),
        PARTITION_KEY(3),
        LSN(4),
        OPERATION(5),
        COMMIT_TIME(6),
        TTL_EXPIRED(7),
        ARRIVAL_TIME(8),
        SPLIT(9);

        final int number;

        Metadata(int number) {
            this.number = number;
        }
    }

    private static final int PATH = 0;
    private static final int CONSTANT = 10;

    private final FrameWriter head = FrameWriter.frame(FrameKind.PLAN);
    private final FrameWriter columns = new FrameWriter(256);
    private int count;
    /** Those that only the filter needs; null while columns are those of the row. */
    private FrameWriter hidden;

    private int hiddenCount;
    private RowPredicate filter;

    /** @param failOnMissing whether a field that is missing does not fit */
    public RowPlan(
            boolean failOnMissing, OnError onError, TimestampFormat format, TimestampUnit unit, Changelog changelog) {
        head.u8(failOnMissing ? 1 : 0)
                .u8(onError.number)
                .u8(format.number)
                .u8(unit.number)
                .u8(changelog.number);
    }

    /**
     * A column of the document.
     *
     * @param name for messages
     * @param path names of fields from the outside in; empty for the whole document
     */
    public RowPlan path(String name, List<String> path, Type type) {
        FrameWriter out = column(name).u8(PATH).u32(path.size());
        path.forEach(out::str);
        return typed(type);
    }

    /** A column of what is known besides the document; {@code docs/boundary.md} has the type of each. */
    public RowPlan metadata(String name, Metadata metadata, Type type) {
        column(name).u8(metadata.number);
        return typed(type);
    }

    /** A column that is the same in all rows, a {@link Type#string}. */
    public RowPlan constant(String name, String value) {
        column(name).u8(CONSTANT).str(value);
        return typed(Type.string(false));
    }

    /** The columns that are added from now on are those of the filter alone, and in no row. Their numbers go on from those of the row. */
    public RowPlan hidden() {
        hidden = new FrameWriter(64);
        return this;
    }

    /** How many columns there are, those of the filter alone included: the number of the next one. */
    public int count() {
        return count + hiddenCount;
    }

    /** What must be true of a row; the numbers of its operands are those of the columns in the order in which they were added. */
    public RowPlan filter(RowPredicate predicate) {
        filter = predicate;
        return this;
    }

    private FrameWriter column(String name) {
        return (hidden == null ? columns : hidden).str(name);
    }

    private RowPlan typed(Type type) {
        if (hidden == null) {
            columns.raw(type.bytes);
            count++;
        } else {
            hidden.raw(type.bytes);
            hiddenCount++;
        }
        return this;
    }

    /** The PLAN frame. */
    public byte[] frame() {
        FrameWriter out = new FrameWriter(head.length() + columns.length() + 4)
                .raw(head.toBytes())
                .u32(count)
                .raw(columns.toBytes());
        if (filter != null) {
            out.u32(hiddenCount).raw(hidden == null ? new byte[0] : hidden.toBytes());
            filter.write(out);
        }
        return out.toBytes();
    }

    /** The type of a column, an element or a field. Each may be null or not. */
    public static final class Type {
        private static final int NULLABLE = 1;

        private final byte[] bytes;

        private Type(byte[] bytes) {
            this.bytes = bytes;
        }

        /** As a frame has it. */
        byte[] bytes() {
            return bytes;
        }

        public static Type bool(boolean nullable) {
            return of(1, nullable);
        }

        public static Type tinyint(boolean nullable) {
            return of(2, nullable);
        }

        public static Type smallint(boolean nullable) {
            return of(3, nullable);
        }

        public static Type integer(boolean nullable) {
            return of(4, nullable);
        }

        public static Type bigint(boolean nullable) {
            return of(5, nullable);
        }

        public static Type real(boolean nullable) {
            return of(6, nullable);
        }

        public static Type doublePrecision(boolean nullable) {
            return of(7, nullable);
        }

        /** @param precision 1 to 38 */
        public static Type decimal(int precision, int scale, boolean nullable) {
            return new Type(head(8, nullable).u8(precision).u8(scale).toBytes());
        }

        /** Text, or the JSON of another value as it stands. */
        public static Type string(boolean nullable) {
            return of(9, nullable);
        }

        /** Text in base64. */
        public static Type binary(boolean nullable) {
            return of(10, nullable);
        }

        public static Type date(boolean nullable) {
            return of(11, nullable);
        }

        /** @param precision 0 to 9 */
        public static Type time(int precision, boolean nullable) {
            return new Type(head(12, nullable).u8(precision).toBytes());
        }

        /** @param precision 0 to 9 */
        public static Type timestamp(int precision, boolean nullable) {
            return new Type(head(13, nullable).u8(precision).toBytes());
        }

        /** @param precision 0 to 9 */
        public static Type instant(int precision, boolean nullable) {
            return new Type(head(14, nullable).u8(precision).toBytes());
        }

        public static Type array(Type element, boolean nullable) {
            return new Type(head(15, nullable).raw(element.bytes).toBytes());
        }

        public static Type map(Type key, Type value, boolean nullable) {
            return new Type(head(16, nullable).raw(key.bytes).raw(value.bytes).toBytes());
        }

        public static Type row(List<Field> fields, boolean nullable) {
            FrameWriter out = head(17, nullable).u32(fields.size());
            for (Field field : fields) {
                out.str(field.name).raw(field.type.bytes);
            }
            return new Type(out.toBytes());
        }

        /** Of Flink 2.1 and newer. */
        public static Type variant(boolean nullable) {
            return of(18, nullable);
        }

        /** A string that is the value's JSON as it stands, a text with its quotes. */
        public static Type rawJson(boolean nullable) {
            return of(19, nullable);
        }

        private static Type of(int code, boolean nullable) {
            return new Type(head(code, nullable).toBytes());
        }

        private static FrameWriter head(int code, boolean nullable) {
            return new FrameWriter(16).u8(code).u8(nullable ? NULLABLE : 0);
        }
    }

    /** A field of a row inside a row. */
    public record Field(String name, Type type) {}
}
