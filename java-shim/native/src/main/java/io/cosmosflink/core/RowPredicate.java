package io.cosmosflink.core;

import java.math.BigDecimal;
import java.util.List;

/**
 * What must be true of a row to pass: the predicate at the end of a PLAN frame ({@code docs/boundary.md}). The core judges it in SQL's logic of true, false
 * and unknown.
 */
@Internal
public abstract class RowPredicate {
    private RowPredicate() {}

    abstract void write(FrameWriter out);

    /** How a value is compared with a literal. */
    public enum Comparison {
        EQUAL(1),
        NOT_EQUAL(2),
        LESS(3),
        LESS_OR_EQUAL(4),
        GREATER(5),
        GREATER_OR_EQUAL(6);

        final int number;

        Comparison(int number) {
            this.number = number;
        }

        /** The same with both sides exchanged. */
        public Comparison mirrored() {
            return switch (this) {
                case EQUAL, NOT_EQUAL -> this;
                case LESS -> GREATER;
                case LESS_OR_EQUAL -> GREATER_OR_EQUAL;
                case GREATER -> LESS;
                case GREATER_OR_EQUAL -> LESS_OR_EQUAL;
            };
        }
    }

    /** Where a text has another one. */
    public enum Part {
        START(1),
        END(2),
        ANYWHERE(3);

        final int number;

        Part(int number) {
            this.number = number;
        }
    }

    /**
     * A value of a row.
     *
     * @param column the number of its column in the plan
     * @param fields the numbers of fields of rows inside of it, from the outside in
     */
    public record Operand(int column, List<Integer> fields) {
        private void write(FrameWriter out) {
            out.u32(column).u32(fields.size());
            fields.forEach(out::u32);
        }
    }

    /** A value that one of a row is compared with. */
    public static final class Literal {
        private final byte[] bytes;

        private Literal(FrameWriter out) {
            this.bytes = out.toBytes();
        }

        public static Literal bool(boolean value) {
            return new Literal(head(1).u8(value ? 1 : 0));
        }

        /** Of a whole or decimal number, a date in days, a time in milliseconds. */
        public static Literal whole(long value) {
            return new Literal(head(2).u64(value));
        }

        /** Of a floating point number, compared as {@code <} and {@code ==} do. */
        public static Literal real(double value) {
            return new Literal(head(3).u64(Double.doubleToRawLongBits(value)));
        }

        /** Of a floating point number, compared as {@link Double#compare} does. */
        public static Literal ordered(double value) {
            return new Literal(head(4).u64(Double.doubleToRawLongBits(value)));
        }

        /** Of a whole or decimal number: at most 38 digits, and no fewer behind the point than none. */
        public static Literal decimal(BigDecimal value) {
            return new Literal(
                    head(5).u8(value.scale()).str(value.unscaledValue().toString()));
        }

        public static Literal text(String value) {
            return new Literal(head(6).str(value));
        }

        /** @param nanos behind the milliseconds */
        public static Literal moment(long epochMillis, int nanos) {
            return new Literal(head(7).u64(epochMillis).u32(nanos));
        }

        private static FrameWriter head(int code) {
            return new FrameWriter(16).u8(code);
        }
    }

    public static RowPredicate all(List<RowPredicate> parts) {
        return several(1, parts);
    }

    public static RowPredicate any(List<RowPredicate> parts) {
        return several(2, parts);
    }

    public static RowPredicate not(RowPredicate inner) {
        return around(3, inner);
    }

    /** Whether it is true, or false; never unknown. */
    public static RowPredicate is(boolean truth, RowPredicate inner) {
        return around(truth ? 4 : 5, inner);
    }

    public static RowPredicate isNull(Operand operand) {
        return of(out -> operand.write(out.u8(6)));
    }

    /** A boolean itself. */
    public static RowPredicate isSet(Operand operand) {
        return of(out -> operand.write(out.u8(7)));
    }

    public static RowPredicate compare(Comparison comparison, Operand operand, Literal literal) {
        return of(out -> {
            operand.write(out.u8(8).u8(comparison.number));
            out.raw(literal.bytes);
        });
    }

    public static RowPredicate in(Operand operand, List<Literal> literals) {
        return of(out -> {
            operand.write(out.u8(9));
            out.u32(literals.size());
            literals.forEach(literal -> out.raw(literal.bytes));
        });
    }

    public static RowPredicate has(Part part, Operand operand, String text) {
        return of(out -> {
            operand.write(out.u8(10).u8(part.number));
            out.str(text);
        });
    }

    private static RowPredicate several(int code, List<RowPredicate> parts) {
        return of(out -> {
            out.u8(code).u32(parts.size());
            parts.forEach(part -> part.write(out));
        });
    }

    private static RowPredicate around(int code, RowPredicate inner) {
        return of(out -> inner.write(out.u8(code)));
    }

    private interface Writing {
        void to(FrameWriter out);
    }

    private static RowPredicate of(Writing writing) {
        return new RowPredicate() {
            @Override
            void write(FrameWriter out) {
                writing.to(out);
            }
        };
    }
}
