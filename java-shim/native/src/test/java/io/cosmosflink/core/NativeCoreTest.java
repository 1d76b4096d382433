package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.cosmosflink.core.Core.Role;
import io.cosmosflink.core.CosmosException.Kind;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.Test;

/** The real library, as far as it goes without a service. */
class NativeCoreTest {
    private final Core core = NativeCore.get();

    private static Map<String, String> options(String... more) {
        Map<String, String> options = new HashMap<>(Map.of(
                "endpoint",
                "http://localhost:1/",
                "database",
                "d",
                "container",
                "c",
                "auth.secret-key",
                "c2VjcmV0",
                "request-timeout",
                "1000"));
        for (int i = 0; i < more.length; i += 2) {
            options.put(more[i], more[i + 1]);
        }
        return options;
    }

    @Test
    void theTableHasEveryOptionOnce() {
        List<CoreOption> table = core.optionTable();
        assertThat(table).extracting(CoreOption::name).doesNotHaveDuplicates().contains("endpoint", "job.name");
        assertThat(table)
                .filteredOn(CoreOption::secret)
                .extracting(CoreOption::name)
                .contains("auth.secret-key");
        assertThat(table)
                .filteredOn(o -> o.name().equals("endpoint"))
                .singleElement()
                .satisfies(o -> {
                    assertThat(o.variable()).isEqualTo("COSMOS_URI");
                    assertThat(o.required()).isTrue();
                });
    }

    @Test
    void argumentsGoBeforeTheEnvironment() {
        Map<String, String> given = core.resolveOptions(
                Map.of("database", "argument"),
                Map.of("COSMOS_DB", "variable", "COSMOS_URI", "https://a.example/", "PATH", "/bin"));
        assertThat(given).containsOnly(Map.entry("database", "argument"), Map.entry("endpoint", "https://a.example/"));
    }

    @Test
    void defaultsAreFilledIn() {
        assertThat(core.validateOptions(Role.SOURCE, options()))
                .containsEntry("scan.page-size", "1000")
                .containsEntry("container", "c");
    }

    @Test
    void wrongOptionsAreNamedAndSecretsAreNot() {
        assertKind(Kind.CONFIG, () -> core.validateOptions(Role.SOURCE, options("scan.page-size", "none")))
                .hasMessageContainingAll("scan.page-size", "none")
                .hasMessageNotContaining("c2VjcmV0");
        assertKind(Kind.CONFIG, () -> core.validateOptions(Role.SINK, options("sink.nothing", "1")))
                .hasMessageContaining("sink.nothing");
    }

    @Test
    void foreignStateIsRefused() {
        assertKind(Kind.STATE, () -> core.describeSplit(new byte[] {1, 2, 3}));
        assertKind(Kind.STATE, () -> core.openEnumerator(options(), new byte[] {1, 2, 3}, true));
    }

    @Test
    void enumeratorStateOfNothingIsNothing() {
        Core.Readers nobody = new Core.Readers(1, List.of());
        byte[] state = new byte[0];
        for (int i = 0; i < 2; i++) {
            try (Core.EnumeratorHandle enumerator = core.openEnumerator(options(), state, true)) {
                assertThat(enumerator
                                .coordinate(nobody, new EnumeratorEvent.Started())
                                .actions())
                        .containsExactly(new EnumeratorActions.Discover(60_000));
                state = enumerator
                        .coordinate(nobody, new EnumeratorEvent.CheckpointTaken(1))
                        .state()
                        .orElseThrow();
            }
        }
        assertThat(state).containsExactly('C', 'F', 'E', 1, 0, 0, 0, 0);
    }

    /** What a look fails of is for the coordinator to judge. */
    @Test
    void aLookAtADeadEndpointFailsTheJob() throws Exception {
        try (Core.EnumeratorHandle enumerator = core.openEnumerator(options(), new byte[0], true)) {
            var found = new EnumeratorEvent.Discovered(enumerator.discover());
            var actions = enumerator
                    .coordinate(new Core.Readers(1, List.of(0)), found)
                    .actions();
            assertThat(actions).singleElement().isInstanceOfSatisfying(EnumeratorActions.Fail.class, fail -> {
                assertThat(fail.ends()).isFalse();
                assertThat(fail.failure().kind()).isEqualTo(Kind.TRANSIENT);
                assertThat(fail.failure())
                        .hasMessageContainingAll("cannot find the feed ranges of container c", "localhost:1");
            });
        }
    }

    /** The endpoint accepts the connection and never answers. */
    @Test
    void anInterruptOrACloseEndsTheWaitForALook() throws Exception {
        try (ServerSocket silent = new ServerSocket(0, 16, InetAddress.getLoopbackAddress())) {
            Map<String, String> options =
                    options("endpoint", "http://127.0.0.1:" + silent.getLocalPort() + "/", "request-timeout", "60000");
            Core.EnumeratorHandle enumerator = core.openEnumerator(options, new byte[0], true);
            assertThat(enumerator.discover(1)).isEmpty();
            Thread.currentThread().interrupt();
            assertThatThrownBy(enumerator::discover).isInstanceOf(InterruptedException.class);
            CompletableFuture<byte[]> look = CompletableFuture.supplyAsync(() -> enumerator.discover(60_000));
            // Decisions do not wait for the look.
            Core.Readers nobody = new Core.Readers(1, List.of());
            assertThat(enumerator
                            .coordinate(nobody, new EnumeratorEvent.SplitRequested(0))
                            .actions())
                    .isEmpty();
            enumerator.close();
            enumerator.close();
            assertThatThrownBy(() -> look.get(10, TimeUnit.SECONDS))
                    .cause()
                    .isInstanceOfSatisfying(
                            CosmosException.class, e -> assertThat(e.kind()).isEqualTo(Kind.CLOSED));
            assertThat(enumerator.coordinate(nobody, new EnumeratorEvent.Started()))
                    .isEqualTo(EnumeratorActions.NONE);
        }
    }

    @Test
    void aDeadEndpointIsATransientFailureThatNamesIt() {
        assertKind(Kind.TRANSIENT, () -> core.openSource(options()).awaitOpen()).hasMessageContaining("localhost:1");
        core.drainLog(true);
    }

    /** The endpoint accepts the connection and never answers. */
    @Test
    void anInterruptEndsAnOpening() throws Exception {
        try (ServerSocket silent = new ServerSocket(0, 16, InetAddress.getLoopbackAddress())) {
            Map<String, String> options =
                    options("endpoint", "http://127.0.0.1:" + silent.getLocalPort() + "/", "request-timeout", "60000");
            CompletableFuture<Thread> opener = new CompletableFuture<>();
            CompletableFuture<Core.SourceHandle> closed = new CompletableFuture<>();
            Thread thread = new Thread(() -> {
                opener.complete(Thread.currentThread());
                Core.SourceHandle source = core.openSource(options);
                try {
                    source.awaitOpen();
                    closed.completeExceptionally(new AssertionError("it was opened"));
                } catch (InterruptedException e) {
                    closed.complete(source);
                } catch (Throwable t) {
                    closed.completeExceptionally(t);
                }
            });
            thread.start();
            opener.get(10, TimeUnit.SECONDS).interrupt();
            assertKind(Kind.CLOSED, closed.get(10, TimeUnit.SECONDS)::metrics);
            thread.join(10_000);
        }
    }

    /** What needs the network waits for the handle, and {@code wakeUp} and {@code close} end the wait. */
    @Test
    void aHandleThatIsNotOpenYetCanBeWokenUpAndClosed() throws Exception {
        try (ServerSocket silent = new ServerSocket(0, 16, InetAddress.getLoopbackAddress())) {
            byte[] options = Frames.map(
                    options("endpoint", "http://127.0.0.1:" + silent.getLocalPort() + "/", "request-timeout", "60000"));
            long handle = Natives.openSource(options, 1, new byte[0]);
            assertThat(Natives.awaitOpen(handle, 1)).isZero();
            CoreMetric requests = CoreMetric.named(Frames.metricTable(Natives.metricTable()), "requests");
            assertThat(CoreMetrics.decode(Natives.metrics(handle)).get(requests))
                    .isEqualTo(0L);
            Natives.wakeUp(handle);
            assertThat(Natives.nextPage(handle, new byte[0], 60_000)).isZero();
            Natives.close(handle);
            assertKind(Kind.CLOSED, () -> Natives.awaitOpen(handle, 60_000));
        }
    }

    @Test
    void aHandleThatWasNeverGivenIsAnException() {
        assertKind(Kind.CLOSED, () -> Natives.metrics(12345));
        assertKind(Kind.CLOSED, () -> Natives.nextPage(-1, new byte[0], 0));
        assertKind(Kind.BAD_REQUEST, () -> Natives.nextPage(-1, null, 0));
    }

    private static org.assertj.core.api.AbstractThrowableAssert<?, ?> assertKind(Kind kind, ThrowingCallable call) {
        return assertThatThrownBy(call).isInstanceOfSatisfying(CosmosException.class, e -> assertThat(e.kind())
                .isEqualTo(kind));
    }
}
