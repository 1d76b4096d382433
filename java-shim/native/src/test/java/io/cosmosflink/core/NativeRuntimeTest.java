package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.cosmosflink.core.CosmosException.Kind;
import io.cosmosflink.core.CosmosRuntime.Role;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.Test;

/** The real library, as far as it goes without a service. */
class NativeRuntimeTest {
    private final CosmosRuntime core = NativeRuntime.get();

    private static Map<String, String> options(String... more) {
        Map<String, String> options = new HashMap<>(Map.of(
                "cosmos.endpoint",
                "http://localhost:1/",
                "cosmos.database",
                "d",
                "cosmos.container",
                "c",
                "cosmos.auth.key",
                "c2VjcmV0",
                "cosmos.request-timeout-ms",
                "1000"));
        for (int i = 0; i < more.length; i += 2) {
            options.put(more[i], more[i + 1]);
        }
        return options;
    }

    @Test
    void theTableHasEveryOptionOnce() {
        List<CoreOption> table = core.optionTable();
        assertThat(table).extracting(CoreOption::name).doesNotHaveDuplicates().contains("cosmos.endpoint", "job.name");
        assertThat(table)
                .filteredOn(CoreOption::secret)
                .extracting(CoreOption::name)
                .contains("cosmos.auth.key");
        assertThat(table)
                .filteredOn(o -> o.name().equals("cosmos.endpoint"))
                .singleElement()
                .satisfies(o -> {
                    assertThat(o.variable()).isEqualTo("COSMOS_URI");
                    assertThat(o.required()).isTrue();
                });
    }

    @Test
    void argumentsGoBeforeTheEnvironment() {
        Map<String, String> given = core.resolveOptions(
                Map.of("cosmos.database", "argument"),
                Map.of("COSMOS_DB", "variable", "COSMOS_URI", "https://a.example/", "PATH", "/bin"));
        assertThat(given)
                .containsOnly(
                        Map.entry("cosmos.database", "argument"), Map.entry("cosmos.endpoint", "https://a.example/"));
    }

    @Test
    void defaultsAreFilledIn() {
        assertThat(core.validateOptions(Role.SOURCE, options()))
                .containsEntry("source.page-size", "1000")
                .containsEntry("cosmos.container", "c");
    }

    @Test
    void wrongOptionsAreNamedAndSecretsAreNot() {
        assertKind(Kind.CONFIG, () -> core.validateOptions(Role.SOURCE, options("source.page-size", "none")))
                .hasMessageContainingAll("source.page-size", "none")
                .hasMessageNotContaining("c2VjcmV0");
        assertKind(Kind.CONFIG, () -> core.validateOptions(Role.SINK, options("sink.nothing", "1")))
                .hasMessageContaining("sink.nothing");
    }

    @Test
    void foreignStateIsRefused() {
        assertKind(Kind.STATE, () -> core.describeSplit(new byte[] {1, 2, 3}));
        assertKind(Kind.STATE, () -> core.decodeEnumeratorState(new byte[0]));
    }

    @Test
    void enumeratorStateOfNothingIsNothing() {
        assertThat(core.decodeEnumeratorState(core.encodeEnumeratorState(List.of())))
                .isEmpty();
    }

    @Test
    void aDeadEndpointIsATransientFailureThatNamesIt() {
        assertKind(Kind.TRANSIENT, () -> core.openEnumerator(options())).hasMessageContaining("localhost:1");
        core.drainLog(true);
    }

    @Test
    void aHandleThatWasNeverGivenIsAnException() {
        assertKind(Kind.CLOSED, () -> CosmosCore.metrics(12345));
        assertKind(Kind.CLOSED, () -> CosmosCore.nextPage(-1, 0));
    }

    private static org.assertj.core.api.AbstractThrowableAssert<?, ?> assertKind(Kind kind, ThrowingCallable call) {
        return assertThatThrownBy(call).isInstanceOfSatisfying(CosmosException.class, e -> assertThat(e.kind())
                .isEqualTo(kind));
    }
}
