package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.core.RowPredicate;
import io.cosmosflink.core.RowPredicate.Comparison;
import io.cosmosflink.core.RowPredicate.Literal;
import io.cosmosflink.core.RowPredicate.Operand;
import io.cosmosflink.core.RowPredicate.Part;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.ZoneOffset;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;
import java.util.function.Predicate;
import org.apache.flink.table.data.DecimalData;
import org.apache.flink.table.expressions.CallExpression;
import org.apache.flink.table.expressions.FieldReferenceExpression;
import org.apache.flink.table.expressions.NestedFieldReferenceExpression;
import org.apache.flink.table.expressions.ResolvedExpression;
import org.apache.flink.table.expressions.ValueLiteralExpression;
import org.apache.flink.table.functions.BuiltInFunctionDefinitions;
import org.apache.flink.table.functions.FunctionDefinition;
import org.apache.flink.table.types.logical.DecimalType;
import org.apache.flink.table.types.logical.LocalZonedTimestampType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.LogicalTypeFamily;
import org.apache.flink.table.types.logical.LogicalTypeRoot;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.TimestampType;
import org.apache.flink.table.types.logical.VarCharType;

/** From Flink's expressions to predicates that the core judges as Flink's own code would. What is not sure to be the same stays with Flink. */
final class Conditions {
    /** So many digits have the whole numbers of a type. */
    private static final Map<LogicalTypeRoot, Integer> DIGITS = Map.of(
            LogicalTypeRoot.TINYINT, 3,
            LogicalTypeRoot.SMALLINT, 5,
            LogicalTypeRoot.INTEGER, 10,
            LogicalTypeRoot.BIGINT, 19);

    private static final Map<FunctionDefinition, Comparison> COMPARISONS = Map.of(
            BuiltInFunctionDefinitions.EQUALS, Comparison.EQUAL,
            BuiltInFunctionDefinitions.NOT_EQUALS, Comparison.NOT_EQUAL,
            BuiltInFunctionDefinitions.LESS_THAN, Comparison.LESS,
            BuiltInFunctionDefinitions.LESS_THAN_OR_EQUAL, Comparison.LESS_OR_EQUAL,
            BuiltInFunctionDefinitions.GREATER_THAN, Comparison.GREATER,
            BuiltInFunctionDefinitions.GREATER_THAN_OR_EQUAL, Comparison.GREATER_OR_EQUAL);

    /** Flink has powers of ten as longs. */
    private static final int MAX_COMPACT_PRECISION = 18;

    /** What all conditions of a scan have at most, and how deep one may be; more than that is no condition but data. */
    private static final int MAX_PARTS = 10_000;

    private static final int MAX_DEPTH = 32;

    private final Function<int[], Optional<Reference>> columns;
    /** Of all conditions so far: together they are one filter for the core. */
    private int parts;

    /** @param columns what a field of the scan is, by its number and those of the fields inside of it */
    Conditions(Function<int[], Optional<Reference>> columns) {
        this.columns = columns;
    }

    /**
     * A value that a condition is about.
     *
     * @param position of the column in the table, and of fields inside of it
     */
    record Reference(List<Integer> position, LogicalType type) {}

    /** A predicate over columns that have no numbers yet. */
    interface Condition {
        RowPredicate of(Function<Reference, Operand> operands);
    }

    private record Compared(Comparison comparison, Reference reference, Literal literal) implements Condition {
        @Override
        public RowPredicate of(Function<Reference, Operand> operands) {
            return RowPredicate.compare(comparison, operands.apply(reference), literal);
        }
    }

    /** A value behind casts that leave it as it is, and the type that they make of it. */
    private record Value(Reference reference, LogicalType type) {}

    /**
     * The predicate; empty when it stays with Flink.
     *
     * @param taken whether a predicate may be taken at all
     */
    Optional<Condition> of(ResolvedExpression expression, Predicate<Condition> taken) {
        int before = parts;
        Optional<Condition> found =
                Optional.ofNullable(condition(expression, 0)).filter(taken);
        if (found.isEmpty()) {
            // It is no part of the filter.
            parts = before;
        }
        return found;
    }

    private Condition condition(ResolvedExpression expression, int depth) {
        if (depth > MAX_DEPTH || ++parts > MAX_PARTS) {
            return null;
        }
        if (!(expression instanceof CallExpression call)) {
            return isSet(expression);
        }
        FunctionDefinition function = call.getFunctionDefinition();
        List<ResolvedExpression> arguments = call.getResolvedChildren();
        if (function == BuiltInFunctionDefinitions.AND || function == BuiltInFunctionDefinitions.OR) {
            return several(call, depth);
        }
        if (function == BuiltInFunctionDefinitions.NOT) {
            return around(arguments.get(0), depth, RowPredicate::not);
        }
        if (function == BuiltInFunctionDefinitions.IS_TRUE) {
            return around(arguments.get(0), depth, inner -> RowPredicate.is(true, inner));
        }
        if (function == BuiltInFunctionDefinitions.IS_FALSE) {
            return around(arguments.get(0), depth, inner -> RowPredicate.is(false, inner));
        }
        if (function == BuiltInFunctionDefinitions.IS_NOT_TRUE) {
            return around(arguments.get(0), depth, inner -> RowPredicate.not(RowPredicate.is(true, inner)));
        }
        if (function == BuiltInFunctionDefinitions.IS_NOT_FALSE) {
            return around(arguments.get(0), depth, inner -> RowPredicate.not(RowPredicate.is(false, inner)));
        }
        if (function == BuiltInFunctionDefinitions.IS_NULL) {
            Value value = value(arguments.get(0));
            return value == null ? null : operands -> RowPredicate.isNull(operands.apply(value.reference()));
        }
        if (function == BuiltInFunctionDefinitions.IS_NOT_NULL) {
            Value value = value(arguments.get(0));
            return value == null
                    ? null
                    : operands -> RowPredicate.not(RowPredicate.isNull(operands.apply(value.reference())));
        }
        if (COMPARISONS.containsKey(function)) {
            return compared(COMPARISONS.get(function), arguments.get(0), arguments.get(1));
        }
        if (function == BuiltInFunctionDefinitions.BETWEEN) {
            return between(arguments);
        }
        if (function == BuiltInFunctionDefinitions.NOT_BETWEEN) {
            Condition inside = between(arguments);
            return inside == null ? null : operands -> RowPredicate.not(inside.of(operands));
        }
        if (function == BuiltInFunctionDefinitions.IN) {
            List<Condition> equal = new ArrayList<>();
            for (ResolvedExpression literal : arguments.subList(1, arguments.size())) {
                Condition one = compared(Comparison.EQUAL, arguments.get(0), literal);
                if (one == null) {
                    return null;
                }
                equal.add(one);
            }
            return any(equal);
        }
        if (function == BuiltInFunctionDefinitions.LIKE && arguments.size() == 2) {
            return like(arguments.get(0), arguments.get(1));
        }
        return isSet(expression);
    }

    private Condition around(ResolvedExpression argument, int depth, Function<RowPredicate, RowPredicate> outer) {
        Condition inner = condition(argument, depth + 1);
        return inner == null ? null : operands -> outer.apply(inner.of(operands));
    }

    /** All arguments of an AND or OR and of those in it, of which Flink makes a chain. */
    private Condition several(CallExpression call, int depth) {
        FunctionDefinition function = call.getFunctionDefinition();
        List<Condition> found = new ArrayList<>();
        Deque<ResolvedExpression> open = new ArrayDeque<>(List.of(call));
        while (!open.isEmpty()) {
            ResolvedExpression next = open.pop();
            if (next instanceof CallExpression inner && inner.getFunctionDefinition() == function) {
                List<ResolvedExpression> arguments = inner.getResolvedChildren();
                for (int i = arguments.size() - 1; i >= 0; i--) {
                    open.push(arguments.get(i));
                }
                continue;
            }
            Condition one = condition(next, depth + 1);
            if (one == null) {
                return null;
            }
            found.add(one);
        }
        return function == BuiltInFunctionDefinitions.OR ? any(found) : all(found);
    }

    private static Condition all(List<Condition> conditions) {
        return operands -> RowPredicate.all(
                conditions.stream().map(one -> one.of(operands)).toList());
    }

    /** One of them; those that are about one value are a list of what it may equal, as they were in SQL. */
    private static Condition any(List<Condition> conditions) {
        Map<Reference, List<Literal>> listed = new LinkedHashMap<>();
        List<Condition> found = new ArrayList<>();
        for (Condition one : conditions) {
            if (one instanceof Compared equal && equal.comparison() == Comparison.EQUAL) {
                listed.computeIfAbsent(equal.reference(), reference -> new ArrayList<>())
                        .add(equal.literal());
            } else {
                found.add(one);
            }
        }
        listed.forEach((reference, literals) -> found.add(operands -> literals.size() == 1
                ? RowPredicate.compare(Comparison.EQUAL, operands.apply(reference), literals.get(0))
                : RowPredicate.in(operands.apply(reference), literals)));
        return found.size() == 1
                ? found.get(0)
                : operands -> RowPredicate.any(
                        found.stream().map(one -> one.of(operands)).toList());
    }

    private Condition between(List<ResolvedExpression> arguments) {
        Condition low = compared(Comparison.GREATER_OR_EQUAL, arguments.get(0), arguments.get(1));
        Condition high = compared(Comparison.LESS_OR_EQUAL, arguments.get(0), arguments.get(2));
        return low == null || high == null ? null : all(List.of(low, high));
    }

    private Condition isSet(ResolvedExpression expression) {
        Value value = value(expression);
        return value == null || !value.type().is(LogicalTypeRoot.BOOLEAN)
                ? null
                : operands -> RowPredicate.isSet(operands.apply(value.reference()));
    }

    private Condition compared(Comparison comparison, ResolvedExpression left, ResolvedExpression right) {
        if (left instanceof ValueLiteralExpression) {
            return right instanceof ValueLiteralExpression ? null : compared(comparison.mirrored(), right, left);
        }
        if (!(right instanceof ValueLiteralExpression literal) || literal.isNull() || ++parts > MAX_PARTS) {
            return null;
        }
        Value value = value(left);
        if (value == null) {
            return null;
        }
        boolean ordering = comparison != Comparison.EQUAL && comparison != Comparison.NOT_EQUAL;
        if (ordering && value.type().is(LogicalTypeRoot.BOOLEAN)) {
            return null;
        }
        Literal found = literal(value.type(), literal, !ordering);
        return found == null ? null : new Compared(comparison, value.reference(), found);
    }

    /** @param equality whether it is compared for being equal, or another one, alone */
    private static Literal literal(LogicalType type, ValueLiteralExpression literal, boolean equality) {
        LogicalType of = literal.getOutputDataType().getLogicalType();
        return switch (type.getTypeRoot()) {
            case BOOLEAN -> literal.getValueAs(Boolean.class).map(Literal::bool).orElse(null);
            case CHAR, VARCHAR ->
                of.is(LogicalTypeFamily.CHARACTER_STRING)
                        ? text(literal).map(Literal::text).orElse(null)
                        : null;
            case TINYINT, SMALLINT, INTEGER, BIGINT, DECIMAL -> exact(of, literal);
            case FLOAT, DOUBLE -> floating(type.is(LogicalTypeRoot.FLOAT), of, literal, equality);
            case DATE ->
                literal.getValueAs(LocalDate.class)
                        .map(date -> Literal.whole(date.toEpochDay()))
                        .orElse(null);
            case TIME_WITHOUT_TIME_ZONE ->
                literal.getValueAs(LocalTime.class)
                        .map(time -> Literal.whole(time.toNanoOfDay() / 1_000_000))
                        .orElse(null);
            case TIMESTAMP_WITHOUT_TIME_ZONE ->
                of instanceof TimestampType time && keeps(((TimestampType) type).getPrecision(), time.getPrecision())
                        ? literal.getValueAs(LocalDateTime.class)
                                .map(local -> moment(local.toInstant(ZoneOffset.UTC)))
                                .orElse(null)
                        : null;
            case TIMESTAMP_WITH_LOCAL_TIME_ZONE ->
                of instanceof LocalZonedTimestampType time
                                && keeps(((LocalZonedTimestampType) type).getPrecision(), time.getPrecision())
                        ? literal.getValueAs(Instant.class)
                                .map(Conditions::moment)
                                .orElse(null)
                        : null;
            default -> null;
        };
    }

    private static Literal moment(Instant time) {
        // Rounds towards the past, and the nanoseconds go on from there.
        return Literal.moment(time.toEpochMilli(), time.getNano() % 1_000_000);
    }

    /** A text of whole characters: half of one has no bytes. */
    private static Optional<String> text(ValueLiteralExpression literal) {
        return literal.getValueAs(String.class)
                .filter(text -> StandardCharsets.UTF_8.newEncoder().canEncode(text));
    }

    private static Literal exact(LogicalType of, ValueLiteralExpression literal) {
        if (of.is(LogicalTypeFamily.INTEGER_NUMERIC)) {
            return literal.getValueAs(Number.class)
                    .map(value -> Literal.whole(value.longValue()))
                    .orElse(null);
        }
        if (!of.is(LogicalTypeRoot.DECIMAL)) {
            return null;
        }
        return literal.getValueAs(BigDecimal.class)
                .map(value -> value.scale() < 0 ? value.setScale(0) : value)
                .filter(value ->
                        value.precision() <= DecimalType.MAX_PRECISION && value.scale() <= DecimalType.MAX_PRECISION)
                .map(Literal::decimal)
                .orElse(null);
    }

    /**
     * As Java promotes numbers, and as Flink compares a floating point number with a decimal one. Whether -0 equals 0 depends on whether Flink looks it up in a set,
     * as it does for a list of values, which nobody sees here any more.
     */
    private static Literal floating(boolean single, LogicalType of, ValueLiteralExpression literal, boolean equality) {
        if (equality
                && !of.is(LogicalTypeRoot.DECIMAL)
                && literal.getValueAs(Number.class).map(Number::doubleValue).orElse(0.0) == 0) {
            return null;
        }
        return switch (of.getTypeRoot()) {
            case TINYINT, SMALLINT, INTEGER, BIGINT ->
                literal.getValueAs(Number.class)
                        .map(Number::longValue)
                        .map(value -> Literal.real(single ? (double) (float) (long) value : (double) value))
                        .orElse(null);
            case FLOAT -> literal.getValueAs(Float.class).map(Literal::real).orElse(null);
            case DOUBLE -> literal.getValueAs(Double.class).map(Literal::real).orElse(null);
            case DECIMAL ->
                literal.getValueAs(BigDecimal.class)
                        .map(value -> DecimalData.fromBigDecimal(
                                value, ((DecimalType) of).getPrecision(), ((DecimalType) of).getScale()))
                        .map(value -> Literal.ordered(doubleValue(value)))
                        .orElse(null);
            default -> null;
        };
    }

    private static double doubleValue(DecimalData decimal) {
        return decimal.precision() <= MAX_COMPACT_PRECISION
                ? (double) decimal.toUnscaledLong()
                        / BigDecimal.TEN.pow(decimal.scale()).longValueExact()
                : decimal.toBigDecimal().doubleValue();
    }

    /** Patterns that say how a text begins, ends or what it contains: those of which Flink makes no regular expression either. */
    private Condition like(ResolvedExpression text, ResolvedExpression pattern) {
        Value value = value(text);
        if (value == null
                || !value.type().is(LogicalTypeFamily.CHARACTER_STRING)
                || !(pattern instanceof ValueLiteralExpression literal)) {
            return null;
        }
        String like = text(literal).orElse(null);
        if (like == null || like.indexOf('_') >= 0 || like.indexOf('\\') >= 0) {
            return null;
        }
        boolean open = like.startsWith("%");
        boolean openEnd = like.length() > 1 && like.endsWith("%");
        String inner = like.substring(open ? 1 : 0, like.length() - (openEnd ? 1 : 0));
        if (inner.isEmpty() || inner.indexOf('%') >= 0) {
            return null;
        }
        Reference reference = value.reference();
        if (!open && !openEnd) {
            return new Compared(Comparison.EQUAL, reference, Literal.text(inner));
        }
        Part part = open && openEnd ? Part.ANYWHERE : open ? Part.END : Part.START;
        return operands -> RowPredicate.has(part, operands.apply(reference), inner);
    }

    private Value value(ResolvedExpression expression) {
        Reference reference = null;
        if (expression instanceof FieldReferenceExpression field) {
            reference = columns.apply(new int[] {field.getFieldIndex()}).orElse(null);
        } else if (expression instanceof NestedFieldReferenceExpression field) {
            reference = columns.apply(field.getFieldIndices()).orElse(null);
        } else if (expression instanceof CallExpression call) {
            FunctionDefinition function = call.getFunctionDefinition();
            if (function == BuiltInFunctionDefinitions.CAST) {
                Value value = value(call.getResolvedChildren().get(0));
                LogicalType to = call.getOutputDataType().getLogicalType();
                return value != null && leaves(value.type(), to) ? new Value(value.reference(), to) : null;
            }
            if (function == BuiltInFunctionDefinitions.GET) {
                return field(call.getResolvedChildren());
            }
        }
        // Of what is no single value, each field is looked at alone.
        return reference == null || isComposite(reference.type()) ? null : new Value(reference, reference.type());
    }

    private static boolean isComposite(LogicalType type) {
        return switch (type.getTypeRoot()) {
            case ROW, ARRAY, MAP, MULTISET, STRUCTURED_TYPE, DISTINCT_TYPE, RAW -> true;
            default -> false;
        };
    }

    /** A field of a row, by its name. */
    private Value field(List<ResolvedExpression> arguments) {
        List<Integer> path = new ArrayList<>();
        ResolvedExpression row = arguments.get(0);
        if (row instanceof FieldReferenceExpression field) {
            path.add(field.getFieldIndex());
        } else if (row instanceof NestedFieldReferenceExpression field) {
            Arrays.stream(field.getFieldIndices()).forEach(path::add);
        } else {
            return null;
        }
        LogicalType type = row.getOutputDataType().getLogicalType();
        if (!(type instanceof RowType of) || !(arguments.get(1) instanceof ValueLiteralExpression name)) {
            return null;
        }
        int index = name.getValueAs(String.class).map(of::getFieldIndex).orElse(-1);
        if (index < 0) {
            return null;
        }
        path.add(index);
        return columns.apply(path.stream().mapToInt(Integer::intValue).toArray())
                .filter(reference -> !isComposite(reference.type()))
                .map(reference -> new Value(reference, reference.type()))
                .orElse(null);
    }

    /** Whether a cast leaves every value as it is, also one that is longer than its type says, which is read all the same. */
    private static boolean leaves(LogicalType from, LogicalType to) {
        if (from.copy(true).equals(to.copy(true))) {
            return true;
        }
        Integer digits = DIGITS.get(from.getTypeRoot());
        return switch (to.getTypeRoot()) {
            case VARCHAR ->
                from.is(LogicalTypeFamily.CHARACTER_STRING) && ((VarCharType) to).getLength() == VarCharType.MAX_LENGTH;
            case SMALLINT, INTEGER, BIGINT -> digits != null && digits <= DIGITS.get(to.getTypeRoot());
            case DECIMAL -> {
                DecimalType decimal = (DecimalType) to;
                int whole = decimal.getPrecision() - decimal.getScale();
                if (from instanceof DecimalType smaller) {
                    yield smaller.getScale() <= decimal.getScale()
                            && smaller.getPrecision() - smaller.getScale() <= whole;
                }
                yield digits != null && digits <= whole;
            }
            case DOUBLE -> from.is(LogicalTypeRoot.FLOAT);
            case TIMESTAMP_WITHOUT_TIME_ZONE ->
                from instanceof TimestampType time && widens(time.getPrecision(), ((TimestampType) to).getPrecision());
            case TIMESTAMP_WITH_LOCAL_TIME_ZONE ->
                from instanceof LocalZonedTimestampType time
                        && widens(time.getPrecision(), ((LocalZonedTimestampType) to).getPrecision());
            default -> false;
        };
    }

    /** Whether a cast leaves moments as they are, which have milliseconds, or nanoseconds, whatever else their precision says. */
    private static boolean widens(int from, int to) {
        return to == TimestampType.MAX_PRECISION || from <= 3 && to >= 3;
    }

    /** Whether a moment is compared as it is with one of another precision: Flink may cast it to the larger one of them before. */
    private static boolean keeps(int from, int to) {
        return to <= from || widens(from, to);
    }
}
