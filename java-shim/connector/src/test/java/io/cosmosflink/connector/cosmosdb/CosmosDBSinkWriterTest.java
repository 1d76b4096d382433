package io.cosmosflink.connector.cosmosdb;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.Outcome;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.apache.flink.connector.base.sink.writer.BufferedRequestState;
import org.apache.flink.connector.base.sink.writer.RequestEntryWrapper;
import org.apache.flink.connector.base.sink.writer.TestSinkInitContext;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(30)
class CosmosDBSinkWriterTest {
    private final FakeRuntime core = new FakeRuntime();
    private final TestSinkInitContext context = new TestSinkInitContext();
    private CosmosDBSinkWriter<String> writer;

    private static final CosmosDBElementConverter<String> CONVERTER = CosmosDBElementConverter.<String>builder()
            .id(s -> s)
            .partitionKey(s -> "k")
            .document(s -> ("{\"id\":\"" + s + "\"}").getBytes(StandardCharsets.UTF_8))
            .build();

    @BeforeEach
    void open() {
        writer = open(List.of());
    }

    private CosmosDBSinkWriter<String> open(List<BufferedRequestState<CosmosDBRequestEntry>> states) {
        return CosmosDBSinkWriter.open(CONVERTER, context, core, FakeRuntime.options(), states);
    }

    @AfterEach
    void close() {
        writer.close();
    }

    private static Outcome ok(long batch, int index) {
        return outcome(batch, index, Outcome.Result.OK);
    }

    private static Outcome outcome(long batch, int index, Outcome.Result result) {
        boolean ok = result == Outcome.Result.OK;
        return new Outcome(
                batch << 20 | index,
                result,
                ok ? CosmosException.Kind.UNKNOWN : CosmosException.Kind.CONFLICT,
                ok ? 200 : 409,
                0,
                1,
                1,
                "act-1",
                ok ? "" : "it exists");
    }

    private void write(String... values) throws Exception {
        for (String value : values) {
            writer.write(value, null);
        }
    }

    @Test
    void aBatchIsCompleteWhenEveryOperationHasItsOutcomeInWhateverOrder() throws Exception {
        write("a", "b", "c", "d");
        assertThat(core.sink.submitted).containsExactly(2, 2);
        core.sink.answer(ok(0, 1));
        core.sink.answer(ok(1, 1), ok(1, 0), ok(0, 0));
        core.sink.onSubmit = batch -> List.of(ok(batch, 0));
        write("e");
        writer.flush(true);
        assertThat(core.sink.submitted).containsExactly(2, 2, 1);
        assertThat(writer.snapshotState(1))
                .allSatisfy(s -> assertThat(s.getBufferedRequestEntries()).isEmpty());
    }

    @Test
    void whatIsBufferedIsInTheState() throws Exception {
        write("a");
        List<BufferedRequestState<CosmosDBRequestEntry>> state = writer.snapshotState(1);
        assertThat(state.get(0).getBufferedRequestEntries())
                .extracting(RequestEntryWrapper::getRequestEntry)
                .extracting(e -> e.operation().id())
                .containsExactly("a");
        var serializer = new CosmosDBWriterStateSerializer();
        BufferedRequestState<CosmosDBRequestEntry> copy = serializer.deserialize(1, serializer.serialize(state.get(0)));
        writer.close();
        writer = open(List.of(copy));
        core.sink.onSubmit = batch -> List.of(ok(batch, 0));
        writer.flush(true);
        assertThat(core.sink.submitted.poll(5, TimeUnit.SECONDS)).isEqualTo(1);
    }

    @Test
    void aFailedOperationFailsTheJobWithAllThatIsKnown() throws Exception {
        write("a", "b");
        core.sink.answer(outcome(0, 1, Outcome.Result.FAILED), ok(0, 0));
        assertThatThrownBy(() -> writer.flush(true))
                .hasStackTraceContaining("id 'b'")
                .hasStackTraceContaining("409/0")
                .hasStackTraceContaining("act-1")
                .hasStackTraceContaining("it exists")
                .hasStackTraceContaining("use upsert");
        assertThat(context.metricGroup().getNumRecordsSendErrorsCounter().getCount())
                .isOne();
    }

    @Test
    void skippedAndDeadLetteredOperationsAreCountedAndTheJobGoesOn() throws Exception {
        write("a", "b");
        core.sink.answer(outcome(0, 0, Outcome.Result.SKIPPED), outcome(0, 1, Outcome.Result.DEAD_LETTERED));
        writer.flush(true);
        assertThat(context.metricGroup().getNumRecordsSendErrorsCounter().getCount())
                .isEqualTo(2);
    }

    @Test
    void anOutcomeThatNobodyAskedForEndsTheWriterInsteadOfHangingIt() throws Exception {
        write("a", "b");
        core.sink.answer(ok(77, 0));
        assertThatThrownBy(() -> writer.flush(true)).hasStackTraceContaining("not in flight");
    }

    @Test
    void anErrorOnTheCompletionThreadEndsTheWriterInsteadOfHangingIt() throws Exception {
        write("a", "b");
        core.sink.fatal = new OutOfMemoryError("asked for");
        assertThatThrownBy(() -> writer.flush(true)).hasStackTraceContaining("asked for");
    }

    @Test
    void closeEndsTheThreadAndTheHandle() throws Exception {
        assertThat(threads()).isOne();
        writer.close();
        assertThat(core.sink.closed).isTrue();
        LocalCosmos.await("the thread to end", Duration.ofSeconds(5), () -> threads() == 0);
    }

    private static long threads() {
        return Thread.getAllStackTraces().keySet().stream()
                .filter(t -> t.getName().startsWith("cosmosdb-sink-completion"))
                .count();
    }

    @Test
    void aContainerThatIsMissingIsUnrecoverable() {
        core.openFailure = FakeRuntime.failure(3, "no such container");
        assertThatThrownBy(() -> open(List.of())).isInstanceOf(CosmosDBUnrecoverableException.class);
        core.openFailure = FakeRuntime.failure(5, "no answer");
        assertThatThrownBy(() -> open(List.of()))
                .isNotInstanceOf(CosmosDBUnrecoverableException.class)
                .hasMessageContaining("no answer");
    }

    @Test
    void keysAreJson() {
        var converter = CosmosDBElementConverter.<String>builder()
                .id(s -> s)
                .partitionKey(s -> "a\"b")
                .partitionKey(s -> 7L)
                .partitionKey(s -> true)
                .partitionKey(s -> null)
                .document(s -> new byte[0])
                .build();
        Operation operation = converter.apply("x", null).operation();
        assertThat(operation.partitionKey()).isEqualTo("[\"a\\\"b\",7,true,null]");
        assertThatThrownBy(() -> CONVERTER.apply("", null)).hasMessageContaining("id");
        assertThatThrownBy(() ->
                        CosmosDBElementConverter.<String>builder().id(s -> s).build())
                .hasMessageContainingAll("partitionKey", "document");
    }
}
