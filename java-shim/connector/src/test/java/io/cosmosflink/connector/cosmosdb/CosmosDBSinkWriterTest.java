package io.cosmosflink.connector.cosmosdb;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;
import static org.assertj.core.api.Assertions.tuple;

import io.cosmosflink.core.Completion;
import io.cosmosflink.core.Core;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.DocumentPlan;
import io.cosmosflink.core.NativeCore;
import io.cosmosflink.core.NotOfRecordException;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.OperationKind;
import io.cosmosflink.core.PartitionKeys;
import io.cosmosflink.core.RowPlan;
import io.cosmosflink.core.WriteFailure;
import java.lang.reflect.Proxy;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.flink.api.common.TaskInfo;
import org.apache.flink.api.common.TaskInfoImpl;
import org.apache.flink.connector.base.sink.writer.BufferedRequestState;
import org.apache.flink.connector.base.sink.writer.RequestEntryWrapper;
import org.apache.flink.connector.base.sink.writer.TestSinkInitContext;
import org.apache.flink.metrics.groups.SinkWriterMetricGroup;
import org.apache.flink.runtime.throwable.ThrowableClassifier;
import org.apache.flink.runtime.throwable.ThrowableType;
import org.apache.flink.streaming.runtime.tasks.TestProcessingTimeService;
import org.apache.flink.util.InstantiationUtil;
import org.apache.flink.util.SerializedThrowable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(30)
class CosmosDBSinkWriterTest {
    private static final Duration LIMIT = Duration.ofSeconds(10);
    private final FakeCore core = new FakeCore();
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
        return CosmosDBSinkWriter.open(CONVERTER, context, core, FakeCore.options(), states);
    }

    @AfterEach
    void close() {
        writer.close();
    }

    /** All of a batch is written. */
    private static Completion ok(long batch) {
        return new Completion(batch, 1, List.of());
    }

    private static Completion completion(long batch, WriteFailure... failures) {
        return new Completion(batch, 1, List.of(failures));
    }

    private static WriteFailure failure(int index, WriteFailure.Result result) {
        return new WriteFailure(index, result, CosmosException.Kind.CONFLICT, false, 409, 0, 1, "act-1", "it exists");
    }

    private void write(String... values) throws Exception {
        for (String value : values) {
            writer.write(value, null);
        }
    }

    @Test
    void batchesCompleteInWhateverOrder() throws Exception {
        write("a", "b", "c", "d");
        assertThat(core.sink.submitted).containsExactly(2, 2);
        core.sink.answer(ok(1));
        core.sink.answer(ok(0));
        core.sink.onSubmit = batch -> List.of(ok(batch));
        write("e");
        writer.flush(true);
        assertThat(core.sink.submitted).containsExactly(2, 2, 1);
        assertThat(writer.snapshotState(1))
                .allSatisfy(s -> assertThat(s.getBufferedRequestEntries()).isEmpty());
    }

    /** What is left of a batch may be one record of a partition that is throttled: how many batches there are says nothing. */
    @Test
    void batchesGoOutForAsLongAsTheCoreHasRoom() throws Exception {
        write("a", "b", "c", "d", "e", "f", "g", "h");
        assertThat(core.sink.submitted).as("none has ended").containsExactly(2, 2, 2, 2);
        core.sink.full(true);
        write("i", "j", "k");
        assertThat(core.sink.submitted).hasSize(4);
        core.sink.full(false);
        write("l");
        assertThat(core.sink.submitted).containsExactly(2, 2, 2, 2, 2, 2);
        answerAll();
        for (long batch = 0; batch < 6; batch++) {
            core.sink.answer(ok(batch));
        }
        writer.flush(true);
    }

    @Test
    void aTaskThatWaitsForRoomGoesOnWhenThereIsSomeAlthoughNoBatchHasEnded() throws Exception {
        core.sink.full(true);
        write("a", "b");
        Thread task = Thread.currentThread();
        Thread free = new Thread(() -> {
            // Not before the flush waits.
            while (task.getState() == Thread.State.RUNNABLE) {
                Thread.onSpinWait();
            }
            answerAll();
            core.sink.full(false);
        });
        free.start();
        writer.flush(true);
        free.join();
        assertThat(core.sink.submitted).containsExactly(2);
    }

    @Test
    void nothingOfABatchIsKeptHereOnceTheCoreHasIt() throws Exception {
        List<CosmosDBRequestEntry> batch =
                new ArrayList<>(List.of(CONVERTER.apply("a", null), CONVERTER.apply("b", null)));
        writer.submitRequestEntries(batch, null);
        assertThat(batch).isEmpty();
        assertThat(core.sink.operations).extracting(Operation::id).containsExactly("a", "b");
    }

    @Test
    void theWritersOfASinkAreToldWhoTheirPeersAre() {
        TestSinkInitContext third = new TestSinkInitContext() {
            @Override
            public TaskInfo getTaskInfo() {
                return new TaskInfoImpl("sink", 128, 2, 7, 0);
            }

            @Override
            public SinkWriterMetricGroup metricGroup() {
                return named(super.metricGroup(), Map.of("<job_id>", "job", "<operator_id>", "sink"));
            }
        };
        CosmosDBSinkWriter.open(CONVERTER, third, core, FakeCore.options(), List.of())
                .close();
        assertThat(core.sink.peers).isEqualTo(new Core.Peers(7, "job/sink"));
    }

    /** The same group with variables as they are in Flink. */
    private static SinkWriterMetricGroup named(SinkWriterMetricGroup group, Map<String, String> variables) {
        return (SinkWriterMetricGroup) Proxy.newProxyInstance(
                SinkWriterMetricGroup.class.getClassLoader(),
                new Class<?>[] {SinkWriterMetricGroup.class},
                (proxy, method, arguments) ->
                        method.getName().equals("getAllVariables") ? variables : method.invoke(group, arguments));
    }

    /** What a writer of the first release has left in a savepoint. These bytes must restore for ever. */
    private static final byte[] STATE = Base64.getDecoder()
            .decode("//////////8AAAADAAAAAAAAACEAAAAlAQAKAAEBAAAAYQUAAABbImsiXQAAAAAKAAAAeyJpZCI6ImEifQAAAAAAAA"
                    + "AuAAAAMgEACgADAgAAAMO2DAAAAFsiayIsNyxudWxsXQQAAAAiZTEiCwAAAHsiaWQiOiLDtiJ9AAAAAAAAABcAAAAb"
                    + "AQAKAAQBAAAAYwUAAABbImsiXQAAAAAAAAAA");

    @Test
    void theStateOfTheFirstReleaseRestoresAndIsWritten() throws Exception {
        var serializer = new CosmosDBWriterStateSerializer(() -> core);
        var state = serializer.deserialize(1, STATE);
        assertThat(serializer.serialize(state)).isEqualTo(STATE);
        writer.close();
        answerAll();
        writer = open(List.of(state));
        writer.flush(true);
        assertThat(core.sink.operations)
                .extracting(Operation::type, Operation::id, Operation::partitionKey, Operation::ifMatch)
                .containsExactly(
                        tuple(OperationKind.UPSERT, "a", "[\"k\"]", ""),
                        tuple(OperationKind.REPLACE, "ö", "[\"k\",7,null]", "\"e1\""),
                        tuple(OperationKind.DELETE, "c", "[\"k\"]", ""));
        assertThat(core.sink.operations)
                .extracting(o -> new String(o.document(), StandardCharsets.UTF_8))
                .containsExactly("{\"id\":\"a\"}", "{\"id\":\"ö\"}", "");
    }

    /** A savepoint has no plan: another one may be there when it is restored. */
    @Test
    void aRowIsKeptAsTheWriteThatIsMadeOfIt() throws Exception {
        byte[] plan = new DocumentPlan(RowPlan.TimestampFormat.ISO_8601, DocumentPlan.Deletion.DELETE)
                .path("id", List.of("id"), true, true, RowPlan.Type.string(false))
                .path("n", List.of("in", "n"), true, false, RowPlan.Type.doublePrecision(true))
                .frame();
        List<Operation> kept = new ArrayList<>();
        for (double n : new double[] {1.5, Double.NaN}) {
            // As Flink lays it out: kind and nulls, a short text, a number.
            byte[] row = ByteBuffer.allocate(24)
                    .order(ByteOrder.LITTLE_ENDIAN)
                    .putLong(0)
                    .putLong((0x81L << 56) | 'a')
                    .putDouble(n)
                    .array();
            CosmosDBRequestEntry entry = CosmosDBRequestEntry.ofRow(plan, row, 0, row.length);
            assertThat(entry.size()).isEqualTo(29);
            assertThat(entry.within(10)).isSameAs(entry);
            kept.add(state(entry)
                    .getBufferedRequestEntries()
                    .get(0)
                    .getRequestEntry()
                    .operation());
        }
        assertThat(kept).extracting(Operation::type).containsExactly(OperationKind.DEFAULT, OperationKind.REFUSED);
        assertThat(new String(kept.get(0).document(), StandardCharsets.UTF_8))
                .isEqualTo("{\"id\":\"a\",\"in\":{\"n\":1.5}}");
        assertThat(kept.get(1).ifMatch()).contains("column 'n' is NaN");
        CosmosDBRequestEntry large = CosmosDBRequestEntry.ofRow(plan, new byte[64], 0, 64);
        assertThat(large.within(1).refusal()).hasMessageContaining("too large");
    }

    @Test
    void aFailureOfTheSinkItselfNamesNoRecord() throws Exception {
        write("a", "b");
        core.sink.stalls = true;
        core.sink.answer(completion(
                0,
                new WriteFailure(
                        0,
                        WriteFailure.Result.FAILED,
                        CosmosException.Kind.TRANSIENT,
                        false,
                        0,
                        0,
                        1,
                        "",
                        "partition 3 holds 2 operations up")));
        assertThatThrownBy(() -> writer.flush(true))
                .hasStackTraceContaining("container orders: writing has failed: partition 3 holds 2 operations up");
    }

    private static BufferedRequestState<CosmosDBRequestEntry> state(CosmosDBRequestEntry... entries) throws Exception {
        var serializer = new CosmosDBWriterStateSerializer(NativeCore::get);
        return serializer.deserialize(
                1,
                serializer.serialize(new BufferedRequestState<>(Arrays.stream(entries)
                        .map(e -> new RequestEntryWrapper<>(e, e.size()))
                        .toList())));
    }

    private void answerAll() {
        core.sink.onSubmit = batch -> List.of(ok(batch));
    }

    @Test
    void aCheckpointWritesWhatWaits() throws Exception {
        answerAll();
        write("a");
        writer.flush(false);
        assertThat(core.sink.operations).extracting(Operation::id).containsExactly("a");
        assertThat(writer.snapshotState(1))
                .allSatisfy(s -> assertThat(s.getBufferedRequestEntries()).isEmpty());
    }

    @Test
    void stateOfAnEarlierReleaseIsWrittenFirst() throws Exception {
        writer.close();
        writer = open(List.of(state(CONVERTER.apply("old", null))));
        answerAll();
        write("new");
        writer.flush(false);
        assertThat(core.sink.operations).extracting(Operation::id).containsExactly("old", "new");
    }

    @Test
    void stateWithARecordThatIsTooLargeIsRestoredAndRefused() throws Exception {
        writer.close();
        String id = "x".repeat(9000);
        byte[] large = new byte[20_000];
        writer = open(List.of(state(
                CosmosDBRequestEntry.of(Operation.upsert("large", "[1]", large)),
                CosmosDBRequestEntry.of(Operation.upsert(id, "[1]", new byte[9999])))));
        answerAll();
        writer.flush(false);
        assertThat(core.sink.operations)
                .extracting(Operation::type, Operation::id)
                .containsExactly(tuple(OperationKind.REFUSED, "large"), tuple(OperationKind.UPSERT, id));
    }

    @Test
    void recordsThatCannotBeWrittenTakeTheFailureModesWayWithIdAndReason() throws Exception {
        writer.close();
        CosmosDBElementConverter<String> picky = CosmosDBElementConverter.<String>builder()
                .id(s -> s)
                .partitionKey(s -> s.equals("badkey") ? new int[0] : "k")
                .document(s -> switch (s) {
                    case "throws" -> throw new IllegalStateException("no amount");
                    case "deep" -> throw new StackOverflowError();
                    case "null" -> null;
                    case "large" -> new byte[10_001];
                    case "fits" -> new byte[10_000];
                    default -> "{}".getBytes(StandardCharsets.UTF_8);
                })
                .build();
        writer = CosmosDBSinkWriter.open(picky, context, core, FakeCore.options(), List.of());
        answerAll();
        write("throws", "deep", "null", "large", "fits", "badkey", "half\ud800", "good");
        writer.flush(false);
        assertThat(core.sink.operations)
                .extracting(Operation::type, Operation::id, Operation::partitionKey)
                .containsExactly(
                        tuple(OperationKind.REFUSED, "throws", "[\"k\"]"),
                        tuple(OperationKind.REFUSED, "deep", "[\"k\"]"),
                        tuple(OperationKind.REFUSED, "null", "[\"k\"]"),
                        tuple(OperationKind.REFUSED, "large", "[\"k\"]"),
                        tuple(OperationKind.DEFAULT, "fits", "[\"k\"]"),
                        tuple(OperationKind.REFUSED, "badkey", ""),
                        tuple(OperationKind.REFUSED, "half?", "[\"k\"]"),
                        tuple(OperationKind.DEFAULT, "good", "[\"k\"]"));
        assertThat(core.sink.operations.get(0).ifMatch()).isEqualTo("java.lang.IllegalStateException: no amount");
        assertThat(core.sink.operations.get(3).ifMatch()).contains("10001 bytes", "sink.max-record-size is 10000");
        assertThat(core.sink.operations.get(3).document()).hasSize(10_001);
        assertThat(core.sink.operations.get(5).document()).asString().isEqualTo("{}");
    }

    @Test
    void aConverterOfOnesOwnMayGiveNothingAtAll() throws Exception {
        writer.close();
        writer = CosmosDBSinkWriter.open((s, c) -> null, context, core, FakeCore.options(), List.of());
        answerAll();
        write("a");
        writer.flush(false);
        assertThat(core.sink.operations).singleElement().satisfies(o -> {
            assertThat(o.type()).isEqualTo(OperationKind.REFUSED);
            assertThat(o.ifMatch()).contains("gave null");
        });
    }

    @Test
    void aRefusedRecordFailsTheJobWithTheConvertersOwnFailure() throws Exception {
        writer.close();
        writer = CosmosDBSinkWriter.open(
                (s, c) -> {
                    throw new IllegalStateException("no amount in " + s);
                },
                context,
                core,
                FakeCore.options(),
                List.of());
        core.sink.onSubmit = batch -> List.of(completion(
                batch,
                new WriteFailure(
                        0,
                        WriteFailure.Result.FAILED,
                        CosmosException.Kind.BAD_REQUEST,
                        false,
                        0,
                        0,
                        0,
                        "",
                        core.sink.operations.get(0).ifMatch())));
        write("a");
        assertThatThrownBy(() -> writer.flush(true))
                .hasStackTraceContaining("no write could be made of the record with id ''")
                .hasStackTraceContaining("sink.failure-mode skip or dead-letter")
                .rootCause()
                .hasMessage("no amount in a");
    }

    @Test
    void anErrorThatIsNotTheRecordsEndsTheTask() {
        writer.close();
        writer = CosmosDBSinkWriter.open(
                (s, c) -> {
                    throw new NoClassDefFoundError("a/Lost");
                },
                context,
                core,
                FakeCore.options(),
                List.of());
        assertThatThrownBy(() -> write("a")).isInstanceOf(NoClassDefFoundError.class);
    }

    /** The base class would submit the batch again after 10 minutes, behind newer writes. */
    @Test
    void aBatchThatTakesLongIsNotSubmittedAgain() throws Exception {
        TestProcessingTimeService time = context.getTestProcessingTimeService();
        write("a", "b");
        time.setCurrentTime(
                time.getCurrentProcessingTime() + Duration.ofDays(3650).toMillis());
        core.sink.answer(ok(0));
        writer.flush(true);
        assertThat(core.sink.submitted).containsExactly(2);
        assertThat(time.getNumActiveTimers())
                .as("timers of batches that are done")
                .isLessThanOrEqualTo(1);
    }

    @Test
    void aSubmissionThatFailsFailsTheJobInsteadOfHangingIt() {
        core.sink.submitFailure = FakeCore.failure(11, "the frame is bad");
        assertThatThrownBy(() -> {
                    write("a", "b");
                    writer.flush(true);
                })
                .hasStackTraceContaining("cannot write to container orders: the frame is bad");
        core.sink.submitFailure = new IllegalStateException("not the core's own");
        writer.close();
        writer = open(List.of());
        assertThatThrownBy(() -> {
                    write("a", "b");
                    writer.flush(true);
                })
                .hasStackTraceContaining("not the core's own");
    }

    @Test
    void anOpeningThatHangsEndsWithTheTask() throws Exception {
        core.openingHangs = true;
        AtomicReference<Throwable> thrown = new AtomicReference<>();
        Thread task = new Thread(() -> {
            try {
                open(List.of()).close();
            } catch (Throwable e) {
                thrown.set(e);
            }
        });
        task.start();
        LocalCosmos.await("the opening", LIMIT, () -> core.sink.waiting.get() > 1);
        task.interrupt();
        task.join(2000);
        assertThat(task.isAlive()).isFalse();
        assertThat(thrown.get()).hasRootCauseInstanceOf(InterruptedException.class);
        assertThat(core.sink.closed).isTrue();
    }

    @Test
    void anInterruptedCloseEndsTooAndKeepsTheInterrupt() throws Exception {
        AtomicBoolean interrupted = new AtomicBoolean();
        Thread task = new Thread(() -> {
            Thread.currentThread().interrupt();
            writer.close();
            interrupted.set(Thread.currentThread().isInterrupted());
        });
        task.start();
        task.join(2000);
        assertThat(task.isAlive()).isFalse();
        assertThat(interrupted).isTrue();
        assertThat(core.sink.closed).isTrue();
        LocalCosmos.await("the thread to end", LIMIT, () -> threads() == 0);
    }

    @Test
    void aFailedOperationFailsTheJobWithAllThatIsKnown() throws Exception {
        write("a", "b");
        core.sink.answer(completion(0, failure(1, WriteFailure.Result.FAILED)));
        assertThatThrownBy(() -> writer.flush(true))
                .hasStackTraceContaining("id 'b'")
                .hasStackTraceContaining("409/0")
                .hasStackTraceContaining("act-1")
                .hasStackTraceContaining("it exists")
                .hasStackTraceContaining("use upsert");
        assertThat(context.metricGroup().getNumRecordsSendErrorsCounter().getCount())
                .isOne();
    }

    /** The other batch waits for a service that does not answer. */
    @Test
    void aFailureFailsTheJobAtOnceWhateverElseIsUnderWay() throws Exception {
        assertThatThrownBy(() -> {
                    write("a", "b", "c", "d");
                    core.sink.answer(completion(1, failure(1, WriteFailure.Result.FAILED)));
                    writer.flush(true);
                })
                .hasStackTraceContaining("id 'd'");
        // What comes later is no surprise to it.
        core.sink.answer(completion(0, failure(0, WriteFailure.Result.FAILED)));
        LocalCosmos.await(
                "the late completion",
                LIMIT,
                () -> context.metricGroup().getNumRecordsSendErrorsCounter().getCount() == 2);
        assertThat(threads()).isOne();
    }

    private Throwable failure(WriteFailure failed) {
        // Not before the batch is there: a completion of nothing would end the writer.
        core.sink.onSubmit = batch -> List.of(completion(batch, failed));
        return catchThrowable(() -> {
            write("a", "b");
            writer.flush(true);
        });
    }

    private static WriteFailure failed(CosmosException.Kind kind, boolean outlivesRestart, int status, int subStatus) {
        return new WriteFailure(
                1, WriteFailure.Result.FAILED, kind, outlivesRestart, status, subStatus, 1, "act-1", "why");
    }

    private static boolean ends(Throwable failure) {
        return ThrowableClassifier.findThrowableOfThrowableType(failure, ThrowableType.NonRecoverableError)
                .isPresent();
    }

    /** A recreated container, say, whose new writer goes on: the core knows, the numbers alone do not. */
    @Test
    void theCoreSaysWhetherAFailedWriteEndsTheJob() {
        assertThat(ends(failure(failed(CosmosException.Kind.NOT_FOUND, true, 404, 1003))))
                .isTrue();
        writer.close();
        writer = open(List.of());
        assertThat(ends(failure(failed(CosmosException.Kind.NOT_FOUND, false, 404, 1024))))
                .isFalse();
    }

    @Test
    void aKeyInTheJobGraphThatIsRefusedEndsTheJobAndOneInAFileDoesNot() {
        WriteFailure refused = failed(CosmosException.Kind.AUTH, false, 401, 0);
        assertThat(ends(failure(refused))).isFalse();
        writer.close();
        writer = CosmosDBSinkWriter.open(
                CONVERTER, context, core, FakeCore.options().with("auth.secret-key", "c2VjcmV0"), List.of());
        assertThat(ends(failure(refused))).isTrue();
    }

    private Throwable opening(CosmosDBOptions options, int attempt) {
        core.openFailure = new CosmosException("refused", CosmosException.Kind.AUTH, 401, 0, "");
        TestSinkInitContext restarted = new TestSinkInitContext() {
            @Override
            public TaskInfo getTaskInfo() {
                return new TaskInfoImpl("sink", 1, 0, 1, attempt);
            }
        };
        return catchThrowable(() -> CosmosDBSinkWriter.open(CONVERTER, restarted, core, options, List.of()));
    }

    /** There may be no checkpoint yet, and the key in the file, or the identity's role, be on its way. */
    @Test
    void aRefusedKeyEndsAJobAtItsFirstStartOnly() {
        assertThat(ends(opening(FakeCore.options(), 0))).isTrue();
        assertThat(ends(opening(FakeCore.options(), 1))).isFalse();
        assertThat(ends(opening(FakeCore.options().with("auth.secret-key", "c2VjcmV0"), 1)))
                .as("the job graph brings the same key each time")
                .isTrue();
    }

    /** What is larger than a message of the cluster, 10 MiB unless set, never reaches the JobManager. */
    @Test
    void theFailureOfALargeRecordIsSmall() throws Exception {
        writer.close();
        String large = "x".repeat(9 << 20);
        CosmosDBElementConverter<String> loud = CosmosDBElementConverter.<String>builder()
                .id(s -> s)
                .partitionKey(s -> large)
                .document(s -> {
                    throw new IllegalStateException(
                            "no amount in " + large, new IllegalArgumentException(large, new StackOverflowError()));
                })
                .build();
        writer = CosmosDBSinkWriter.open(loud, context, core, FakeCore.options(), List.of());
        core.sink.onSubmit = batch -> List.of(completion(
                batch,
                new WriteFailure(
                        0, WriteFailure.Result.FAILED, CosmosException.Kind.BAD_REQUEST, false, 0, 0, 0, "", "why")));
        Throwable failure = catchThrowable(() -> {
            write("a");
            writer.flush(true);
        });
        assertThat(failure).hasStackTraceContaining("no amount in");
        assertThat(InstantiationUtil.serializeObject(new SerializedThrowable(failure)))
                .hasSizeLessThan(1 << 20);
        writer.close();
        writer = CosmosDBSinkWriter.open(
                CosmosDBElementConverter.<String>builder()
                        .id(s -> s)
                        .partitionKey(s -> "k")
                        .document(s -> large.getBytes(StandardCharsets.UTF_8))
                        .build(),
                context,
                core,
                FakeCore.options(),
                List.of());
        Throwable tooLarge = catchThrowable(() -> {
            write("a");
            writer.flush(true);
        });
        assertThat(tooLarge).hasStackTraceContaining("too large");
        assertThat(InstantiationUtil.serializeObject(new SerializedThrowable(tooLarge)))
                .hasSizeLessThan(1 << 20);
    }

    @Test
    void whatEveryRecordWouldMeetEndsTheTask() {
        for (RuntimeException thrown : List.of(
                new NotOfRecordException("the registry is down", null),
                new IllegalStateException(new InterruptedException()))) {
            writer.close();
            writer = CosmosDBSinkWriter.open(
                    CosmosDBElementConverter.<String>builder()
                            .id(s -> s)
                            .partitionKey(s -> "k")
                            .document(s -> {
                                throw thrown;
                            })
                            .build(),
                    context,
                    core,
                    FakeCore.options(),
                    List.of());
            assertThatThrownBy(() -> write("a")).hasRootCause(thrown.getCause() == null ? thrown : thrown.getCause());
            assertThat(core.sink.operations).isEmpty();
        }
    }

    /** A client that has no core takes the options as they are; the cluster's refuses what is wrong. */
    @Test
    void numbersThatAreTooLargeAreNotTheClientsMatter() {
        CosmosDBSink.Builder<String> builder = CosmosDBSink.<String>builder()
                .options(FakeCore.options())
                .option("sink.buffer-flush.max-size", "99999999999")
                .option("sink.buffer-flush.max-rows", "many")
                .converter(CONVERTER);
        builder.core(() -> {
            throw new UnsatisfiedLinkError("no core here");
        });
        assertThat(builder.build()).isNotNull();
    }

    @Test
    void skippedAndDeadLetteredOperationsAreCountedAndTheJobGoesOn() throws Exception {
        write("a", "b");
        core.sink.answer(
                completion(0, failure(0, WriteFailure.Result.SKIPPED), failure(1, WriteFailure.Result.DEAD_LETTERED)));
        writer.flush(true);
        assertThat(context.metricGroup().getNumRecordsSendErrorsCounter().getCount())
                .isEqualTo(2);
    }

    @Test
    void aCompletionThatNobodyAskedForEndsTheWriterInsteadOfHangingIt() throws Exception {
        write("a", "b");
        core.sink.answer(ok(77));
        assertThatThrownBy(() -> writer.flush(true)).hasStackTraceContaining("not in flight");
    }

    @Test
    void aFailureOfAnOperationThatIsNotThereEndsTheWriterInsteadOfHangingIt() throws Exception {
        write("a", "b");
        core.sink.answer(completion(0, failure(2, WriteFailure.Result.SKIPPED)));
        assertThatThrownBy(() -> writer.flush(true)).hasStackTraceContaining("operation 2 of a submission of 2");
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
        core.openFailure = FakeCore.failure(3, "no such container");
        assertThatThrownBy(() -> open(List.of())).isInstanceOf(CosmosDBUnrecoverableException.class);
        core.openFailure = FakeCore.failure(5, "no answer");
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
                .partitionKey(s -> PartitionKeys.UNDEFINED)
                .document(s -> new byte[0])
                .build();
        Operation operation = converter.apply("x", null).operation();
        assertThat(operation.partitionKey()).isEqualTo("[\"a\\\"b\",7,true,null,{}]");
        var builder = CosmosDBElementConverter.<String>builder()
                .id(s -> s)
                .withoutPartitionKey()
                .document(s -> new byte[0]);
        assertThat(builder.build().apply("x", null).operation().partitionKey()).isEqualTo("[]");
        assertThatThrownBy(() -> builder.partitionKey(s -> s).build()).hasMessageContaining("withoutPartitionKey");
        assertThatThrownBy(() -> CONVERTER.apply("", null)).hasMessageContaining("id");
        assertThatThrownBy(() ->
                        CosmosDBElementConverter.<String>builder().id(s -> s).build())
                .hasMessageContainingAll("partitionKey", "document");
    }
}
