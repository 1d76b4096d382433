package io.cosmosflink.connector.cosmosdb;

import static io.cosmosflink.connector.cosmosdb.FakeCore.split;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;

import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.EnumeratorActions;
import io.cosmosflink.core.EnumeratorActions.Action;
import io.cosmosflink.core.EnumeratorActions.Assign;
import io.cosmosflink.core.EnumeratorActions.Backlog;
import io.cosmosflink.core.EnumeratorActions.Discover;
import io.cosmosflink.core.EnumeratorActions.Fail;
import io.cosmosflink.core.EnumeratorActions.NoMoreSplits;
import io.cosmosflink.core.EnumeratorActions.State;
import io.cosmosflink.core.EnumeratorEvent;
import io.cosmosflink.core.EnumeratorEvent.CheckpointAborted;
import io.cosmosflink.core.EnumeratorEvent.CheckpointCompleted;
import io.cosmosflink.core.EnumeratorEvent.CheckpointTaken;
import io.cosmosflink.core.EnumeratorEvent.Closed;
import io.cosmosflink.core.EnumeratorEvent.Discovered;
import io.cosmosflink.core.EnumeratorEvent.Followed;
import io.cosmosflink.core.EnumeratorEvent.LagReported;
import io.cosmosflink.core.EnumeratorEvent.ReaderRegistered;
import io.cosmosflink.core.EnumeratorEvent.SplitRequested;
import io.cosmosflink.core.EnumeratorEvent.SplitsBack;
import io.cosmosflink.core.EnumeratorEvent.Started;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.IntStream;
import org.apache.flink.api.connector.source.ReaderInfo;
import org.apache.flink.api.connector.source.SourceEvent;
import org.apache.flink.api.connector.source.SupportsHandleExecutionAttemptSourceEvent;
import org.apache.flink.connector.testutils.source.reader.TestingSplitEnumeratorContext;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.metrics.groups.UnregisteredMetricsGroup;
import org.apache.flink.util.FlinkRuntimeException;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** What Flink calls becomes an event, and an action a call of Flink. What is decided in between is the core's, and tested there. */
class CosmosDBSplitEnumeratorTest {
    private final FakeCore core = new FakeCore();
    /** What Flink was told of a backlog. */
    private final List<Boolean> backlogs = new ArrayList<>();

    private final TestingSplitEnumeratorContext<CosmosDBSplit> context = new TestingSplitEnumeratorContext<>(2) {
        @Override
        public void setIsProcessingBacklog(boolean isProcessingBacklog) {
            backlogs.add(isProcessingBacklog);
        }
    };
    private final UnassignedSplits gauge = new UnassignedSplits();
    private CosmosDBSplitEnumerator enumerator;

    @BeforeEach
    void open() throws IOException {
        enumerator = enumerator(null, reader -> List.of());
    }

    private CosmosDBSplitEnumerator enumerator(
            CosmosDBSourceState state, Function<ReaderInfo, List<CosmosDBSplit>> reported) throws IOException {
        return new CosmosDBSplitEnumerator(context, core, FakeCore.options(), state, reported, gauge);
    }

    @AfterEach
    void close() {
        enumerator.close();
    }

    private void answer(Class<? extends EnumeratorEvent> to, int unassigned, Action... actions) {
        core.enumerator.decide =
                event -> new EnumeratorActions(unassigned, to.isInstance(event) ? List.of(actions) : List.of());
    }

    private EnumeratorEvent last() {
        return core.enumerator.events.get(core.enumerator.events.size() - 1);
    }

    @Test
    void eachCallIsAnEventWithTheReadersAsTheyAre() {
        enumerator.start();
        assertThat(last()).isEqualTo(new Started());
        assertThat(core.enumerator.readers.parallelism()).isEqualTo(2);
        assertThat(core.enumerator.readers.registered()).isEmpty();
        context.registerReader(1, "host");
        enumerator.addReader(1);
        assertThat(last()).isEqualTo(new ReaderRegistered(1, List.of()));
        assertThat(core.enumerator.readers.registered()).containsExactly(1);
        enumerator.handleSplitRequest(1, "host");
        assertThat(last()).isEqualTo(new SplitRequested(1));
        enumerator.addSplitsBack(List.of(), 0);
        assertThat(last()).isEqualTo(new SplitsBack(0, List.of()));
        var split = split(1, 7);
        enumerator.addSplitsBack(List.of(new CosmosDBSplit(split)), 1);
        assertThat(last()).isEqualTo(new SplitsBack(1, List.of(split)));
        enumerator.notifyCheckpointComplete(3);
        assertThat(last()).isEqualTo(new CheckpointCompleted(3));
        enumerator.notifyCheckpointAborted(4);
        assertThat(last()).isEqualTo(new CheckpointAborted(4));
        enumerator.close();
        assertThat(last()).isEqualTo(new Closed());
    }

    @Test
    void aBacklogIsWhatTheCoreMakesOfTheReadersLags() {
        answer(Started.class, 0, new Backlog(false));
        enumerator.start();
        assertThat(backlogs).containsExactly(false);
        answer(LagReported.class, 0, new Backlog(true));
        enumerator.handleSourceEvent(1, new LagEvent(90_000));
        assertThat(last()).isEqualTo(new LagReported(1, 90_000));
        assertThat(backlogs).containsExactly(false, true);
        // Of another connector, such as of a source before this one.
        enumerator.handleSourceEvent(1, new SourceEvent() {});
        assertThat(core.enumerator.events).hasSize(2);
    }

    /** Flink fails a job with concurrent attempts when a reader of an enumerator that does not take their events sends one. */
    @Test
    void withSpeculativeExecutionAnyAttemptOfAReaderIsHeard() {
        enumerator.start();
        assertThat(enumerator).isInstanceOfSatisfying(SupportsHandleExecutionAttemptSourceEvent.class, heard -> {
            heard.handleSourceEvent(1, 3, new LagEvent(90_000));
            assertThat(last()).isEqualTo(new LagReported(1, 90_000));
        });
    }

    @Test
    void anOperatorOfAJobHasOneGaugeHoweverManySourcesAreMadeOfIt() {
        var variables = Map.of("<job_id>", "job", "<operator_id>", "source");
        assertThat(UnassignedSplits.of(group(variables))).isSameAs(UnassignedSplits.of(group(variables)));
        var other = Map.of("<job_id>", "another", "<operator_id>", "source");
        assertThat(UnassignedSplits.of(group(other))).isNotSameAs(UnassignedSplits.of(group(variables)));
    }

    private static MetricGroup group(Map<String, String> variables) {
        return new UnregisteredMetricsGroup() {
            @Override
            public Map<String, String> getAllVariables() {
                return variables;
            }
        };
    }

    @Test
    void whatAReaderReportsComesWithItsRegistration() throws IOException {
        var split = split(3, 9);
        enumerator =
                enumerator(null, reader -> reader.getSubtaskId() == 1 ? List.of(new CosmosDBSplit(split)) : List.of());
        enumerator.start();
        context.registerReader(1, "host");
        enumerator.addReader(1);
        assertThat(last()).isEqualTo(new ReaderRegistered(1, List.of(split)));
        // It may be gone again by now.
        enumerator.addReader(0);
        assertThat(last()).isEqualTo(new ReaderRegistered(0, List.of()));
    }

    @Test
    void splitsAreAssignedToTheirReaders() {
        enumerator.start();
        context.registerReader(0, "host");
        context.registerReader(1, "host");
        answer(
                ReaderRegistered.class,
                0,
                new Assign(Map.of(0, List.of(split(0, 1), split(2, 3)), 1, List.of(split(1, 2)))));
        enumerator.addReader(0);
        assertThat(context.getSplitAssignments().get(0).getAssignedSplits())
                .containsExactly(new CosmosDBSplit(split(0, 1)), new CosmosDBSplit(split(2, 3)));
        assertThat(context.getSplitAssignments().get(1).getAssignedSplits())
                .containsExactly(new CosmosDBSplit(split(1, 2)));
    }

    @Test
    void readersAreToldThatNoSplitComesAnyMore() {
        enumerator.start();
        context.registerReader(0, "host");
        context.registerReader(1, "host");
        answer(ReaderRegistered.class, 0, new Assign(Map.of(0, List.of(split(0, 1)))), new NoMoreSplits(List.of(0)));
        enumerator.addReader(0);
        assertThat(context.getSplitAssignments().get(0).hasReceivedNoMoreSplitsSignal())
                .isTrue();
        answer(ReaderRegistered.class, 0, new NoMoreSplits(List.of(1)));
        enumerator.addReader(1);
        assertThat(context.getSplitAssignments().get(1).hasReceivedNoMoreSplitsSignal())
                .isTrue();
    }

    /** What another source would begin with is asked for in any case: a job in which none comes must not fail of the answer. */
    @Test
    void whyNothingCanGoOnBehindItIsSaidToWhoeverAsks() {
        enumerator.start();
        IntStream.range(0, context.currentParallelism()).forEach(subtask -> context.registerReader(subtask, "host"));
        finishAll();
        assertThatThrownBy(enumerator::following)
                .isInstanceOf(CosmosDBUnrecoverableException.class)
                .hasMessageContaining("not known yet");
        var why = FakeCore.failure(1, "it has no positions");
        answering(new Fail(why, true));
        enumerator.addReader(0);
        finishAll();
        assertThatThrownBy(enumerator::following)
                .isInstanceOf(CosmosDBUnrecoverableException.class)
                .hasMessage("it has no positions")
                .hasCause(why);
        answering(new State(new byte[] {7}));
        enumerator.addReader(0);
        enumerator.close();
        // It began anew, and has not said since that it has read all.
        assertThatThrownBy(enumerator::following)
                .isInstanceOf(FlinkRuntimeException.class)
                .hasMessageContaining("its readers [0]");
        finishAll();
        assertThat(enumerator.following().bytes()).containsExactly(7);
    }

    /** All readers have read all of their splits. */
    private void finishAll() {
        IntStream.range(0, context.currentParallelism())
                .forEach(subtask -> enumerator.handleSourceEvent(subtask, new FinishedEvent()));
    }

    /** No split comes any more, and this is the answer to the question for a source behind this one. */
    private void answering(Action action) {
        core.enumerator.decide = event -> new EnumeratorActions(
                0,
                event instanceof Followed
                        ? List.of(action)
                        : event instanceof ReaderRegistered ? List.of(new NoMoreSplits(List.of(0))) : List.of());
    }

    @Test
    void aLookRunsElsewhereAndItsResultComesBack() throws Exception {
        answer(Started.class, 0, new Discover(0));
        enumerator.start();
        assertThat(core.enumerator.events).hasSize(1);
        context.triggerAllActions();
        assertThat(last()).isInstanceOfSatisfying(Discovered.class, d -> assertThat(d.discovery())
                .isEqualTo(core.enumerator.discovery));
        assertThat(context.getExecutorService().getActivePeriodicScheduledTask())
                .isEmpty();
    }

    @Test
    void aPeriodicLookComesAgain() throws Exception {
        answer(Started.class, 0, new Discover(1000));
        enumerator.start();
        context.triggerAllActions();
        context.triggerAllActions();
        assertThat(core.enumerator.events)
                .filteredOn(Discovered.class::isInstance)
                .hasSize(2);
    }

    private Throwable failing(boolean ends) {
        var cause = FakeCore.failure(3, "no such container orders");
        answer(ReaderRegistered.class, 0, new Fail(cause, ends));
        Throwable failure = catchThrowable(() -> enumerator.addReader(0));
        assertThat(failure).hasCause(cause).hasMessage("no such container orders");
        return failure;
    }

    @Test
    void aFailureEndsTheJobForGoodOrNot() {
        enumerator.start();
        assertThat(failing(true)).isInstanceOf(CosmosDBUnrecoverableException.class);
        assertThat(failing(false)).isNotInstanceOf(CosmosDBUnrecoverableException.class);
    }

    @Test
    void theStateIsTheCoresOwnBytesAndComesBack() throws IOException {
        enumerator.start();
        answer(CheckpointTaken.class, 0, new State(new byte[] {7, 8}));
        CosmosDBSourceState state = enumerator.snapshotState(5);
        assertThat(last()).isEqualTo(new CheckpointTaken(5));
        assertThat(state.bytes()).containsExactly(7, 8);
        assertThat(core.enumerator.state).isEmpty();
        enumerator(state, reader -> List.of()).close();
        assertThat(core.enumerator.state).containsExactly(7, 8);
    }

    @Test
    void stateThatTheCoreRefusesEndsTheJob() {
        core.openFailure = FakeCore.failure(11, "the state has version 9");
        assertThatThrownBy(() -> enumerator(new CosmosDBSourceState(new byte[] {1}), reader -> List.of()))
                .isInstanceOf(IOException.class)
                .hasMessage("cannot restore the enumerator: the state has version 9")
                .hasCauseInstanceOf(CosmosDBUnrecoverableException.class);
    }

    @Test
    void onlyTheFirstEnumeratorOfASourceIsAtItsFirstStart() throws IOException {
        enumerator.start();
        assertThat(core.enumerator.firstStart).isTrue();
        CosmosDBSplitEnumerator next = enumerator(null, reader -> List.of());
        next.start();
        assertThat(core.enumerator.firstStart).isFalse();
        next.close();
    }

    @Test
    void whatIsNeverStartedHoldsNothing() throws IOException {
        // Flink closes only what it has started.
        CosmosDBSplitEnumerator restored = enumerator(new CosmosDBSourceState(new byte[] {1}), reader -> List.of());
        assertThat(core.enumerator.closed).isTrue();
        assertThatThrownBy(() -> restored.addReader(0)).hasMessageContaining("started");
    }

    private Thread looking() throws Exception {
        answer(Started.class, 0, new Discover(1000));
        core.enumerator.hangs = true;
        enumerator.start();
        // The context runs what is called asynchronously in the thread that triggers it.
        Thread worker = new Thread(() -> {
            try {
                context.triggerAllActions();
            } catch (Throwable e) {
                throw new AssertionError(e);
            }
        });
        worker.start();
        LocalCosmos.await("the call to wait", Duration.ofSeconds(10), () -> core.enumerator.waiting.get() == 1);
        return worker;
    }

    @Test
    void aLookAfterAnInterruptedOneIsHeard() throws Exception {
        Thread worker = looking();
        worker.interrupt();
        worker.join(5000);
        assertThat(worker.isAlive()).isFalse();
        assertThat(last()).isEqualTo(new Started());
        core.enumerator.hangs = false;
        context.triggerAllActions();
        assertThat(last()).isInstanceOf(Discovered.class);
    }

    @Test
    void closeEndsALookThatHangs() throws Exception {
        Thread worker = looking();
        long began = System.nanoTime();
        enumerator.close();
        worker.join(1000);
        assertThat(worker.isAlive()).isFalse();
        assertThat(Duration.ofNanos(System.nanoTime() - began)).isLessThan(Duration.ofSeconds(1));
        assertThat(last()).isEqualTo(new Closed());
    }

    @Test
    void aCoreThatBreaksFailsTheJob() {
        answer(Started.class, 0, new Discover(0));
        core.enumerator.failure = new CosmosException("a bug", CosmosException.Kind.INTERNAL, 0, 0, "");
        enumerator.start();
        assertThatThrownBy(context::triggerAllActions).hasMessageContaining("a bug");
    }

    @Test
    void nothingIsDoneOnceItIsClosed() {
        enumerator.start();
        enumerator.close();
        enumerator.close();
        assertThat(core.enumerator.closed).isTrue();
        context.registerReader(0, "host");
        enumerator.addReader(0);
        enumerator.addSplitsBack(List.of(), 0);
        assertThat(context.getSplitAssignments()).isEmpty();
        assertThatThrownBy(() -> enumerator.snapshotState(1)).hasMessageContaining("closed");
    }

    @Test
    void theGaugeFollowsTheEnumeratorThatLives() throws Exception {
        answer(Started.class, 2);
        enumerator.start();
        assertThat(gauge.getValue()).isEqualTo(2);
        CosmosDBSplitEnumerator next = enumerator(null, reader -> List.of());
        answer(Started.class, 3);
        next.start();
        assertThat(gauge.getValue()).isEqualTo(3);
        // The old one may be closed late.
        enumerator.close();
        assertThat(gauge.getValue()).isEqualTo(3);
        next.close();
        assertThat(gauge.getValue()).isZero();
    }
}
