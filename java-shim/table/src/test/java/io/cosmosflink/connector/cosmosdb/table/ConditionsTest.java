package io.cosmosflink.connector.cosmosdb.table;

import static io.cosmosflink.connector.cosmosdb.table.Tables.KEY;
import static io.cosmosflink.connector.cosmosdb.table.Tables.ORDERS;
import static org.apache.flink.table.functions.BuiltInFunctionDefinitions.AND;
import static org.apache.flink.table.functions.BuiltInFunctionDefinitions.BETWEEN;
import static org.apache.flink.table.functions.BuiltInFunctionDefinitions.CAST;
import static org.apache.flink.table.functions.BuiltInFunctionDefinitions.EQUALS;
import static org.apache.flink.table.functions.BuiltInFunctionDefinitions.GREATER_THAN;
import static org.apache.flink.table.functions.BuiltInFunctionDefinitions.IN;
import static org.apache.flink.table.functions.BuiltInFunctionDefinitions.IS_NOT_NULL;
import static org.apache.flink.table.functions.BuiltInFunctionDefinitions.IS_NOT_TRUE;
import static org.apache.flink.table.functions.BuiltInFunctionDefinitions.IS_NULL;
import static org.apache.flink.table.functions.BuiltInFunctionDefinitions.LESS_THAN;
import static org.apache.flink.table.functions.BuiltInFunctionDefinitions.LIKE;
import static org.apache.flink.table.functions.BuiltInFunctionDefinitions.NOT;
import static org.apache.flink.table.functions.BuiltInFunctionDefinitions.OR;
import static org.apache.flink.table.functions.BuiltInFunctionDefinitions.UPPER;
import static org.assertj.core.api.Assertions.assertThat;

import io.cosmosflink.core.NativeCore;
import io.cosmosflink.core.RowPlan;
import io.cosmosflink.core.RowPlan.Type;
import io.cosmosflink.core.RowPredicate;
import io.cosmosflink.core.RowPredicate.Comparison;
import io.cosmosflink.core.RowPredicate.Literal;
import io.cosmosflink.core.RowPredicate.Operand;
import io.cosmosflink.core.RowPredicate.Part;
import java.math.BigDecimal;
import java.time.LocalDateTime;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.UnaryOperator;
import org.apache.flink.api.common.RuntimeExecutionMode;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.ExecutionOptions;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.catalog.Column;
import org.apache.flink.table.connector.source.abilities.SupportsFilterPushDown;
import org.apache.flink.table.expressions.CallExpression;
import org.apache.flink.table.expressions.FieldReferenceExpression;
import org.apache.flink.table.expressions.NestedFieldReferenceExpression;
import org.apache.flink.table.expressions.ResolvedExpression;
import org.apache.flink.table.expressions.ValueLiteralExpression;
import org.apache.flink.table.functions.BuiltInFunctionDefinition;
import org.apache.flink.table.types.DataType;
import org.junit.jupiter.api.Test;

class ConditionsTest {
    private static final List<Column> COLUMNS = List.of(
            Column.physical("s", DataTypes.STRING()),
            Column.physical("i", DataTypes.INT()),
            Column.physical("f", DataTypes.FLOAT()),
            Column.physical("b", DataTypes.BOOLEAN()),
            Column.physical("ts", DataTypes.TIMESTAMP(6)),
            Column.physical("m", DataTypes.DECIMAL(10, 2)));

    private static ResolvedExpression field(int number) {
        Column column = COLUMNS.get(number);
        return new FieldReferenceExpression(column.getName(), column.getDataType(), 0, number);
    }

    private static ResolvedExpression literal(Object value, DataType type) {
        return new ValueLiteralExpression(value, type.notNull());
    }

    private static ResolvedExpression text(String value) {
        return literal(value, DataTypes.CHAR(Math.max(1, value.length())));
    }

    private static ResolvedExpression number(int value) {
        return literal(value, DataTypes.INT());
    }

    private static ResolvedExpression call(BuiltInFunctionDefinition function, ResolvedExpression... arguments) {
        return CallExpression.permanent(function, List.of(arguments), DataTypes.BOOLEAN());
    }

    private static ResolvedExpression cast(ResolvedExpression of, DataType to) {
        return CallExpression.permanent(CAST, List.of(of), to);
    }

    private static Operand operand(int column) {
        return new Operand(column, List.of());
    }

    private static RowPlan plan(UnaryOperator<RowPlan> columns) {
        return columns.apply(new RowPlan(
                false,
                RowPlan.OnError.FAIL,
                RowPlan.TimestampFormat.ISO_8601,
                RowPlan.TimestampUnit.NONE,
                RowPlan.Changelog.APPEND));
    }

    private static RowPlan all(RowPlan plan) {
        return plan.path("/s", List.of("s"), Type.string(true))
                .path("/i", List.of("i"), Type.integer(true))
                .path("/f", List.of("f"), Type.real(true))
                .path("/b", List.of("b"), Type.bool(true))
                .path("/ts", List.of("ts"), Type.timestamp(6, true))
                .path("/m", List.of("m"), Type.decimal(10, 2, true));
    }

    private static CosmosDBDynamicSource source() {
        return Tables.source(COLUMNS, List.of(), Map.of("scan.mode", "query"));
    }

    private static void becomes(ResolvedExpression condition, RowPredicate predicate) {
        CosmosDBDynamicSource source = source();
        SupportsFilterPushDown.Result result = source.applyFilters(List.of(condition));
        assertThat(result.getAcceptedFilters()).containsExactly(condition);
        assertThat(result.getRemainingFilters()).containsExactly(condition);
        byte[] expected = plan(plan -> all(plan).filter(RowPredicate.all(List.of(predicate))))
                .frame();
        assertThat(source.plan()).isEqualTo(expected);
        assertThat(((CosmosDBDynamicSource) source.copy()).plan()).isEqualTo(expected);
    }

    private static void stays(ResolvedExpression condition) {
        CosmosDBDynamicSource source = source();
        SupportsFilterPushDown.Result result = source.applyFilters(List.of(condition));
        assertThat(result.getAcceptedFilters()).isEmpty();
        assertThat(result.getRemainingFilters()).containsExactly(condition);
        assertThat(source.plan()).isEqualTo(plan(ConditionsTest::all).frame());
    }

    @Test
    void comparisonsHaveTheirColumnFirst() {
        becomes(
                call(LESS_THAN, number(5), field(1)),
                RowPredicate.compare(Comparison.GREATER, operand(1), Literal.whole(5)));
        becomes(
                call(EQUALS, field(0), text("ä")),
                RowPredicate.compare(Comparison.EQUAL, operand(0), Literal.text("ä")));
        becomes(
                call(GREATER_THAN, field(5), literal(new BigDecimal("1.5"), DataTypes.DECIMAL(2, 1))),
                RowPredicate.compare(Comparison.GREATER, operand(5), Literal.decimal(new BigDecimal("1.5"))));
        becomes(
                call(
                        EQUALS,
                        field(4),
                        literal(LocalDateTime.parse("1969-12-31T23:59:59.999456789"), DataTypes.TIMESTAMP(9))),
                RowPredicate.compare(Comparison.EQUAL, operand(4), Literal.moment(-1, 456_789)));
    }

    @Test
    void floatingPointNumbersAreComparedAsJavaDoes() {
        becomes(
                call(EQUALS, field(2), number(16_777_217)),
                RowPredicate.compare(Comparison.EQUAL, operand(2), Literal.real(16_777_216)));
        becomes(
                call(EQUALS, field(2), literal(new BigDecimal("0.1"), DataTypes.DECIMAL(2, 1))),
                RowPredicate.compare(Comparison.EQUAL, operand(2), Literal.ordered(0.1)));
        becomes(
                call(EQUALS, cast(field(2), DataTypes.DOUBLE()), number(16_777_217)),
                RowPredicate.compare(Comparison.EQUAL, operand(2), Literal.real(16_777_217)));
    }

    @Test
    void zeroIsComparedByOrder() {
        becomes(
                call(GREATER_THAN, field(2), number(0)),
                RowPredicate.compare(Comparison.GREATER, operand(2), Literal.real(0)));
        becomes(
                call(EQUALS, field(2), literal(new BigDecimal("0.0"), DataTypes.DECIMAL(2, 1))),
                RowPredicate.compare(Comparison.EQUAL, operand(2), Literal.ordered(0)));
    }

    @Test
    void alternativesOfOneValueAreAList() {
        ResolvedExpression one = call(EQUALS, field(0), text("a"));
        ResolvedExpression two = call(EQUALS, field(0), text("b"));
        RowPredicate listed = RowPredicate.in(operand(0), List.of(Literal.text("a"), Literal.text("b")));
        becomes(call(OR, one, two), listed);
        becomes(call(IN, field(0), text("a"), text("b")), listed);
        becomes(
                call(OR, call(OR, one, field(3)), two),
                RowPredicate.any(List.of(RowPredicate.isSet(operand(3)), listed)));
        ResolvedExpression chain = one;
        for (int i = 0; i < 3000; i++) {
            chain = call(OR, chain, two);
        }
        assertThat(source().applyFilters(List.of(chain)).getAcceptedFilters()).containsExactly(chain);
    }

    @Test
    void theRestOfTheLogic() {
        becomes(
                call(AND, call(NOT, call(IS_NOT_NULL, field(0))), call(IS_NOT_TRUE, field(3))),
                RowPredicate.all(List.of(
                        RowPredicate.not(RowPredicate.not(RowPredicate.isNull(operand(0)))),
                        RowPredicate.not(RowPredicate.is(true, RowPredicate.isSet(operand(3)))))));
        becomes(
                call(BETWEEN, field(1), number(1), number(2)),
                RowPredicate.all(List.of(
                        RowPredicate.compare(Comparison.GREATER_OR_EQUAL, operand(1), Literal.whole(1)),
                        RowPredicate.compare(Comparison.LESS_OR_EQUAL, operand(1), Literal.whole(2)))));
    }

    @Test
    void somePatternsAreTextsInATextAndOthersStay() {
        becomes(call(LIKE, field(0), text("a%")), RowPredicate.has(Part.START, operand(0), "a"));
        becomes(call(LIKE, field(0), text("%a")), RowPredicate.has(Part.END, operand(0), "a"));
        becomes(call(LIKE, field(0), text("%a%")), RowPredicate.has(Part.ANYWHERE, operand(0), "a"));
        becomes(call(LIKE, field(0), text("a")), RowPredicate.compare(Comparison.EQUAL, operand(0), Literal.text("a")));
        for (String pattern : List.of("a_", "a%b", "%", "%%", "", "a\\%", "%a%%")) {
            stays(call(LIKE, field(0), text(pattern)));
        }
    }

    @Test
    void whatNobodyIsSureOfStays() {
        stays(call(EQUALS, field(0), field(0)));
        stays(call(EQUALS, call(UPPER, field(0)), text("A")));
        stays(call(EQUALS, field(1), literal(1.5, DataTypes.DOUBLE())));
        stays(call(EQUALS, field(0), new ValueLiteralExpression(null, DataTypes.STRING())));
        stays(call(EQUALS, cast(field(0), DataTypes.VARCHAR(3)), text("abc")));
        stays(call(EQUALS, cast(field(1), DataTypes.SMALLINT()), number(1)));
        stays(call(GREATER_THAN, field(3), literal(true, DataTypes.BOOLEAN())));
        stays(call(EQUALS, field(0), text("\ud800")));
        // -0 is another value in a list, and the same one alone.
        stays(call(EQUALS, field(2), number(0)));
        stays(call(EQUALS, field(4), literal(LocalDateTime.parse("2026-01-01T00:00"), DataTypes.TIMESTAMP(7))));
        stays(call(OR, field(3), call(EQUALS, call(UPPER, field(0)), text("A"))));
        // A time with more digits than its type says is one to Flink, too.
        stays(call(
                EQUALS,
                cast(field(4), DataTypes.TIMESTAMP(7)),
                literal(LocalDateTime.parse("2026-01-01T00:00"), DataTypes.TIMESTAMP(7))));
    }

    @Test
    void aValueIsTakenFromTheRowThatHasItOrReadForTheFilterAlone() {
        ResolvedExpression city = new NestedFieldReferenceExpression(
                new String[] {"address", "city"}, new int[] {3, 0}, DataTypes.STRING());
        ResolvedExpression condition = call(EQUALS, city, text("Kiel"));
        CosmosDBDynamicSource source = Tables.source(ORDERS, List.of(), Map.of("scan.mode", "query"));
        source.applyFilters(List.of(condition, call(EQUALS, field(0), text("o1"))));

        source.applyProjection(
                new int[][] {{2}, {3}},
                DataTypes.ROW(ORDERS.get(2).getDataType(), ORDERS.get(3).getDataType()));
        Type address = Type.row(
                List.of(new RowPlan.Field("city", Type.string(true)), new RowPlan.Field("zip", Type.integer(true))),
                true);
        assertThat(source.plan())
                .isEqualTo(plan(plan -> plan.path("/amount", List.of("amount"), Type.decimal(20, 2, true))
                                .path("/address", List.of("address"), address)
                                .hidden()
                                .path("/id", List.of("id"), Type.string(false))
                                .filter(RowPredicate.all(List.of(
                                        RowPredicate.compare(
                                                Comparison.EQUAL, new Operand(1, List.of(0)), Literal.text("Kiel")),
                                        RowPredicate.compare(Comparison.EQUAL, operand(2), Literal.text("o1"))))))
                        .frame());

        source.applyProjection(new int[0][], DataTypes.ROW());
        assertThat(source.plan())
                .isEqualTo(plan(plan -> plan.hidden()
                                .path("/address", List.of("address"), address)
                                .path("/id", List.of("id"), Type.string(false))
                                .filter(RowPredicate.all(List.of(
                                        RowPredicate.compare(
                                                Comparison.EQUAL, new Operand(0, List.of(0)), Literal.text("Kiel")),
                                        RowPredicate.compare(Comparison.EQUAL, operand(1), Literal.text("o1"))))))
                        .frame());
    }

    @Test
    void inAChangelogOnlyConditionsOnTheKeyAreTaken() {
        ResolvedExpression key = call(OR, call(EQUALS, order(0), text("o1")), call(EQUALS, order(1), text("c1")));
        ResolvedExpression mixed =
                call(OR, call(EQUALS, order(0), text("o1")), call(GREATER_THAN, order(2), number(5)));
        List<ResolvedExpression> filters = new ArrayList<>(List.of(key, mixed, call(IS_NOT_NULL, order(2))));
        SupportsFilterPushDown.Result result =
                Tables.source(ORDERS, KEY, Map.of()).applyFilters(filters);
        assertThat(result.getAcceptedFilters()).containsExactly(key);
        assertThat(result.getRemainingFilters()).containsExactlyElementsOf(filters);
        assertThat(Tables.source(ORDERS, KEY, Map.of("scan.changelog-mode", "append"))
                        .applyFilters(filters)
                        .getAcceptedFilters())
                .containsExactlyElementsOf(filters);
        assertThat(Tables.source(ORDERS, KEY, Map.of("filter.handling.policy", "never"))
                        .applyFilters(filters)
                        .getAcceptedFilters())
                .isEmpty();
        CosmosDBDynamicSource marked = Tables.source(ORDERS, List.of(), Map.of());
        marked.applySourceWatermark();
        assertThat(marked.applyFilters(filters).getAcceptedFilters()).isEmpty();
    }

    private static ResolvedExpression order(int number) {
        Column column = ORDERS.get(number);
        return new FieldReferenceExpression(column.getName(), column.getDataType(), 0, number);
    }

    /** It is made where the job runs: state is bound to it, and a client may have no core. */
    @Test
    void theServiceIsAskedByTheCoreOfTheCluster() {
        CosmosDBDynamicSource source = source();
        ResolvedExpression condition = call(EQUALS, field(1), number(5));
        source.applyFilters(List.of(condition));
        assertThat(source.options()).containsEntry("scan.query", "SELECT * FROM c");
        RowLayout layout = new RowLayout(Tables.information(RowLayout.TYPE));
        RowDataFormat format = new RowDataFormat(source.plan(), 6, null, layout, source.asked());
        assertThat(format.options(NativeCore.get()))
                .containsEntry("scan.query", "SELECT * FROM c WHERE (c[\"i\"] = @p0000 OR IS_STRING(c[\"i\"]))")
                .containsEntry("scan.query-parameters", "{\"@p0000\":5}");
        assertThat(source().asked()).isNull();
        assertThat(new RowDataFormat(source.plan(), 6, null, layout, null).options(NativeCore.get()))
                .isEmpty();
    }

    private static CosmosDBDynamicSource reading(String onError, RuntimeExecutionMode mode) {
        return Tables.source(
                COLUMNS,
                List.of(),
                Map.of("scan.mode", "query", "json.on-error", onError),
                new Configuration().set(ExecutionOptions.RUNTIME_MODE, mode));
    }

    private static String query(String onError, RuntimeExecutionMode mode) {
        CosmosDBDynamicSource source = reading(onError, mode);
        source.applyFilters(List.of(call(IS_NULL, field(1)), call(EQUALS, field(0), text("x"))));
        return NativeCore.get().documentQuery(source.asked()).text();
    }

    private static Map<String, String> limited(String onError, RuntimeExecutionMode mode) {
        CosmosDBDynamicSource source = reading(onError, mode);
        source.applyLimit(3);
        Map<String, String> options = new TreeMap<>(source.options());
        options.remove("json.on-error");
        return options;
    }

    /** A job may go on with another policy for what fits no column, and state is bound to the query. */
    @Test
    void theQueryOfAStreamingJobIsOfNoPolicy() {
        String expected = query("fail", RuntimeExecutionMode.STREAMING);
        assertThat(expected).contains("c[\"s\"]");
        for (String policy : List.of("fail", "null-field", "skip-row")) {
            assertThat(query(policy, RuntimeExecutionMode.STREAMING)).isEqualTo(expected);
            assertThat(limited(policy, RuntimeExecutionMode.STREAMING))
                    .isEqualTo(limited("fail", RuntimeExecutionMode.STREAMING));
        }
        // A batch job never goes on, and asks for as little as its policy allows.
        assertThat(query("fail", RuntimeExecutionMode.BATCH)).contains("IS_NULL(c[\"i\"])");
        assertThat(query("null-field", RuntimeExecutionMode.BATCH)).isEqualTo(expected);
        assertThat(limited("fail", RuntimeExecutionMode.BATCH)).containsEntry("scan.query", "SELECT TOP 3 * FROM c");
    }

    private static ResolvedExpression listed(int numbers) {
        List<ResolvedExpression> arguments = new ArrayList<>(List.of(field(1)));
        for (int n = 0; n < numbers; n++) {
            arguments.add(number(n));
        }
        return call(IN, arguments.toArray(ResolvedExpression[]::new));
    }

    /** They are one filter for the core, which has a bound. */
    @Test
    void conditionsAreFewTogether() {
        CosmosDBDynamicSource source = source();
        ResolvedExpression small = call(EQUALS, field(0), text("x"));
        List<ResolvedExpression> filters = List.of(listed(6_000), listed(20_000), listed(6_001), small);
        SupportsFilterPushDown.Result result = source.applyFilters(filters);
        assertThat(result.getAcceptedFilters()).containsExactly(filters.get(0), small);
        assertThat(result.getRemainingFilters()).isEqualTo(filters);
    }
}
