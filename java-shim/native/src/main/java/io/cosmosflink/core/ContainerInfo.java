package io.cosmosflink.core;

import java.util.ArrayList;
import java.util.List;

/**
 * What a container is: the CONTAINER frame of {@code docs/boundary.md}.
 *
 * @param rid its resource id; one that is created anew has another
 * @param defaultTtl seconds after which documents expire that do not say otherwise; -1: these never do; 0: no document does
 * @param documents how many there are, -1 where the service does not say
 * @param bytes of them, -1 likewise
 * @param sampled documents that its columns were made of
 * @param keys where the parts of its partition key are, each as names from the outside in
 * @param columns of the table that it is
 * @param primaryKey names of columns; none where not every document has them
 */
@Internal
public record ContainerInfo(
        String rid,
        long defaultTtl,
        long documents,
        long bytes,
        int sampled,
        List<List<String>> keys,
        List<Column> columns,
        List<String> primaryKey) {

    /** @param path names of fields from the outside in */
    public record Column(String name, List<String> path, Type type) {}

    public record Field(String name, Type type) {}

    /** Of those of a plan, the ones that documents are inferred to have. */
    public enum Kind {
        BOOLEAN(1),
        BIGINT(5),
        DOUBLE(7),
        DECIMAL(8),
        STRING(9),
        TIMESTAMP(13),
        TIMESTAMP_LTZ(14),
        ARRAY(15),
        ROW(17),
        VARIANT(18);

        private static final Numbers<Kind> NUMBERS = new Numbers<>(values(), kind -> kind.number);

        final int number;

        Kind(int number) {
            this.number = number;
        }
    }

    /**
     * The type of a column, an element or a field.
     *
     * @param precision of a decimal or a timestamp
     * @param scale of a decimal
     * @param element of an array, else null
     * @param fields of a row
     */
    public record Type(Kind kind, boolean nullable, int precision, int scale, Type element, List<Field> fields) {}

    static ContainerInfo decode(byte[] frame) {
        FrameReader in = FrameReader.open(frame, FrameKind.CONTAINER);
        String rid = in.str();
        long defaultTtl = in.u64();
        long documents = in.u64();
        long bytes = in.u64();
        int sampled = in.u32();
        List<List<String>> keys = new ArrayList<>();
        for (int left = in.count(4); left > 0; left--) {
            keys.add(names(in));
        }
        List<Column> columns = new ArrayList<>();
        for (int left = in.count(10); left > 0; left--) {
            columns.add(new Column(in.str(), names(in), type(in)));
        }
        return new ContainerInfo(
                rid, defaultTtl, documents, bytes, sampled, List.copyOf(keys), List.copyOf(columns), names(in));
    }

    private static List<String> names(FrameReader in) {
        List<String> names = new ArrayList<>();
        for (int left = in.count(4); left > 0; left--) {
            names.add(in.str());
        }
        return List.copyOf(names);
    }

    private static Type type(FrameReader in) {
        int code = in.u8();
        boolean nullable = (in.u8() & 1) != 0;
        Kind kind = Kind.NUMBERS.get(code);
        if (kind == null) {
            throw FrameReader.state(
                    "type " + code + " of a container's column is not known; use the same version of jar and library");
        }
        return switch (kind) {
            case DECIMAL -> new Type(kind, nullable, in.u8(), in.u8(), null, List.of());
            case TIMESTAMP, TIMESTAMP_LTZ -> new Type(kind, nullable, in.u8(), 0, null, List.of());
            case ARRAY -> new Type(kind, nullable, 0, 0, type(in), List.of());
            case ROW -> {
                List<Field> fields = new ArrayList<>();
                for (int left = in.count(6); left > 0; left--) {
                    fields.add(new Field(in.str(), type(in)));
                }
                yield new Type(kind, nullable, 0, 0, null, List.copyOf(fields));
            }
            default -> new Type(kind, nullable, 0, 0, null, List.of());
        };
    }
}
