package io.cosmosflink.connector.cosmosdb;

import static io.cosmosflink.connector.cosmosdb.FakeCore.split;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowable;

import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.SplitEntry;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;
import org.apache.flink.connector.testutils.source.reader.TestingSplitEnumeratorContext;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class CosmosDBSplitEnumeratorTest {
    private final FakeCore core = new FakeCore();
    private final TestingSplitEnumeratorContext<CosmosDBSplit> context = new TestingSplitEnumeratorContext<>(2);
    private final UnassignedSplits unassigned = new UnassignedSplits();
    private CosmosDBSplitEnumerator enumerator = enumerator(FakeCore.options(), null);

    private CosmosDBSplitEnumerator enumerator(CosmosDBOptions options, CosmosDBSourceState state) {
        return new CosmosDBSplitEnumerator(context, core, options, state, unassigned);
    }

    @AfterEach
    void close() {
        enumerator.close();
    }

    private void discover(SplitEntry... found) throws Exception {
        core.enumerator.next = List.of(found);
        if (context.getExecutorService().getActivePeriodicScheduledTask().isEmpty()) {
            enumerator.start();
        }
        context.triggerAllActions();
    }

    private void register(int subtask) {
        context.registerReader(subtask, "host");
        enumerator.addReader(subtask);
    }

    private List<Integer> assignedTo(int subtask) {
        var state = context.getSplitAssignments().get(subtask);
        return state == null
                ? List.of()
                : state.getAssignedSplits().stream().map(CosmosDBSplit::ordinal).toList();
    }

    @Test
    void splitsAreSpreadEvenlyAndWaitForTheirOwner() throws Exception {
        register(0);
        discover(split(0, 0), split(1, 0), split(2, 0), split(3, 0), split(4, 0));
        assertThat(assignedTo(0)).containsExactly(0, 2, 4);
        assertThat(assignedTo(1)).isEmpty();
        register(1);
        assertThat(assignedTo(1)).containsExactly(1, 3);
        assertThat(enumerator.snapshotState(1).splits()).hasSize(5).allMatch(SplitEntry::assigned);
    }

    @Test
    void laterDiscoveriesAddOnlyWhatIsNew() throws Exception {
        register(0);
        register(1);
        discover(split(0, 0));
        discover(split(0, 0), split(1, 0));
        assertThat(core.enumerator.known).extracting(SplitEntry::id).containsExactly("s0");
        assertThat(assignedTo(0)).containsExactly(0);
        assertThat(assignedTo(1)).containsExactly(1);
    }

    @Test
    void afterARegionalFailoverSplitsGoBackToTheSameReader() throws Exception {
        register(0);
        register(1);
        discover(split(0, 0), split(1, 0));
        // The reader is gone while its splits come back; empty lists come too.
        context.registeredReaders().remove(1);
        context.getSplitAssignments().clear();
        enumerator.addSplitsBack(List.of(), 0);
        enumerator.addSplitsBack(List.of(new CosmosDBSplit(split(1, 7))), 1);
        assertThat(enumerator.snapshotState(2).splits())
                .extracting(SplitEntry::assigned)
                .containsExactly(true, false);
        // Twice, as two failovers in a row do it.
        enumerator.addSplitsBack(List.of(new CosmosDBSplit(split(1, 7))), 1);
        register(1);
        assertThat(context.getSplitAssignments().get(1).getAssignedSplits())
                .containsExactly(new CosmosDBSplit(split(1, 7)));
        assertThat(assignedTo(0)).isEmpty();
    }

    @Test
    void restoredSplitsAreNotGivenOutTwice() throws Exception {
        enumerator = enumerator(
                FakeCore.options(),
                new CosmosDBSourceState(
                        List.of(split(0, 5).withAssigned(true), split(1, 0).withAssigned(false))));
        register(0);
        register(1);
        discover(split(2, 0));
        assertThat(core.enumerator.known).hasSize(2);
        assertThat(assignedTo(0)).containsExactly(2);
        assertThat(assignedTo(1)).containsExactly(1);
    }

    @Test
    void withoutAnIntervalItLooksOnceAndNotAfterARestore() throws Exception {
        CosmosDBOptions once = FakeCore.options().with("source.discovery-interval-ms", "0");
        enumerator =
                enumerator(once, new CosmosDBSourceState(List.of(split(0, 5).withAssigned(true))));
        enumerator.start();
        context.triggerAllActions();
        assertThat(core.enumerator.known).isNull();

        enumerator = enumerator(once, null);
        core.enumerator.next = List.of(split(0, 0));
        enumerator.start();
        context.triggerAllActions();
        assertThat(enumerator.snapshotState(1).splits()).hasSize(1);
    }

    @Test
    void aFirstDiscoveryThatFailsForGoodEndsTheJob() {
        core.openFailure = FakeCore.failure(3, "no such container");
        enumerator = enumerator(FakeCore.options().with("source.discovery-interval-ms", "0"), null);
        enumerator.start();
        assertThatThrownBy(context::triggerAllActions)
                .isInstanceOf(CosmosDBUnrecoverableException.class)
                .hasMessageContainingAll("orders", "no such container");
    }

    @Test
    void aLaterDiscoveryThatFailsIsTriedAgain() throws Exception {
        register(0);
        discover(split(0, 0));
        core.enumerator.failure = FakeCore.failure(5, "no answer");
        discover();
        core.enumerator.failure = null;
        discover(split(2, 0));
        assertThat(assignedTo(0)).containsExactly(0, 2);
    }

    @Test
    void aLaterDiscoveryThatFailsForGoodEndsTheJob() throws Exception {
        register(0);
        discover(split(0, 0));
        core.enumerator.failure = FakeCore.failure(11, "the container was created anew");
        ScheduledFuture<?> periodic = context.getExecutorService()
                .getActivePeriodicScheduledTask()
                .iterator()
                .next();
        discover();
        assertThatThrownBy(() -> periodic.get(1, TimeUnit.SECONDS))
                .cause()
                .isInstanceOf(CosmosDBUnrecoverableException.class)
                .hasMessageContaining("the container was created anew");
    }

    @Test
    void aKeyThatIsRefusedLaterIsTriedAgain() throws Exception {
        register(0);
        discover(split(0, 0));
        core.enumerator.failure = FakeCore.failure(2, "the key is refused");
        discover();
        core.enumerator.failure = null;
        discover(split(2, 0));
        assertThat(assignedTo(0)).containsExactly(0, 2);
    }

    @Test
    void anOpeningThatFailedIsTriedAnew() throws Exception {
        enumerator = enumerator(
                FakeCore.options(), new CosmosDBSourceState(List.of(split(0, 5).withAssigned(true))));
        core.openFailure = FakeCore.failure(5, "no answer");
        register(0);
        discover();
        assertThat(core.enumerator.closed).isTrue();
        core.openFailure = null;
        discover(split(2, 0));
        assertThat(assignedTo(0)).containsExactly(2);
    }

    /** The handle of an interrupted opening is closed; a discovery with it would fail for ever. */
    @Test
    void aDiscoveryAfterAnInterruptedOneBeginsAnew() throws Exception {
        core.openingHangs = true;
        enumerator.start();
        Thread worker = new Thread(() -> {
            try {
                context.triggerAllActions();
            } catch (Throwable e) {
                throw new AssertionError(e);
            }
        });
        worker.start();
        LocalCosmos.await("the call to wait", Duration.ofSeconds(10), () -> core.enumerator.waiting.get() == 1);
        worker.interrupt();
        worker.join(5000);
        assertThat(core.enumerator.closed).isTrue();
        core.openingHangs = false;
        register(0);
        discover(split(0, 0));
        assertThat(assignedTo(0)).containsExactly(0);
    }

    /** Only who has closed the enumerator may ignore that it is closed. */
    @Test
    void aHandleThatIsClosedByNobodyIsOpenedAgain() throws Exception {
        register(0);
        discover(split(0, 0));
        core.enumerator.closed = true;
        discover(split(2, 0));
        assertThat(assignedTo(0)).containsExactly(0);
        discover(split(2, 0));
        assertThat(assignedTo(0)).containsExactly(0, 2);
    }

    private Throwable firstDiscovery(CosmosDBOptions options) {
        enumerator = enumerator(options.with("source.discovery-interval-ms", "0"), null);
        enumerator.start();
        return catchThrowable(context::triggerAllActions);
    }

    /** A restart before the first checkpoint, when the key in the file may be on its way. */
    @Test
    void aRefusedKeyEndsAJobAtItsFirstStartOnly() {
        core.openFailure = new CosmosException("refused", CosmosException.Kind.AUTH, 401, 0, "");
        assertThat(firstDiscovery(FakeCore.options())).isInstanceOf(CosmosDBUnrecoverableException.class);
        assertThat(firstDiscovery(FakeCore.options()))
                .isNotInstanceOf(CosmosDBUnrecoverableException.class)
                .hasMessageContaining("refused");
        assertThat(firstDiscovery(FakeCore.options().with("cosmos.auth.key", "c2VjcmV0")))
                .as("the job graph brings the same key each time")
                .isInstanceOf(CosmosDBUnrecoverableException.class);
    }

    @Test
    void closeEndsADiscoveryThatHangs() throws Exception {
        core.enumerator.hangs = true;
        closesAtOnce();
    }

    @Test
    void closeEndsAnOpeningThatHangs() throws Exception {
        core.openingHangs = true;
        closesAtOnce();
    }

    /** The context runs what is called asynchronously in the thread that triggers it. */
    private void closesAtOnce() throws Exception {
        enumerator.start();
        Thread worker = new Thread(() -> {
            try {
                context.triggerAllActions();
            } catch (Throwable e) {
                throw new AssertionError(e);
            }
        });
        worker.start();
        LocalCosmos.await("the call to wait", Duration.ofSeconds(10), () -> core.enumerator.waiting.get() == 1);
        long began = System.nanoTime();
        enumerator.close();
        worker.join(1000);
        assertThat(worker.isAlive()).isFalse();
        assertThat(Duration.ofNanos(System.nanoTime() - began)).isLessThan(Duration.ofSeconds(1));
    }

    @Test
    void theGaugeFollowsTheEnumeratorThatLives() throws Exception {
        discover(split(0, 0), split(1, 0));
        assertThat(unassigned.getValue()).isEqualTo(2);
        CosmosDBSplitEnumerator next = enumerator(
                FakeCore.options(),
                new CosmosDBSourceState(
                        List.of(split(0, 0).withAssigned(true), split(1, 0), split(2, 0), split(3, 0))));
        next.start();
        assertThat(unassigned.getValue()).isEqualTo(3);
        // The old one may be closed late.
        enumerator.close();
        assertThat(unassigned.getValue()).isEqualTo(3);
        next.close();
        assertThat(unassigned.getValue()).isZero();
    }

    @Test
    void closeClosesTheHandle() throws Exception {
        discover(split(0, 0));
        enumerator.close();
        enumerator.close();
        assertThat(core.enumerator.closed).isTrue();
    }
}
