package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.cosmosflink.connector.cosmosdb.CosmosDBUnrecoverableException;
import io.cosmosflink.core.Core;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.CosmosException.Kind;
import io.cosmosflink.core.NativeCore;
import io.cosmosflink.core.Page;
import io.cosmosflink.core.TestPages;
import java.lang.reflect.Proxy;
import java.util.List;
import java.util.Map;
import org.apache.flink.table.connector.source.lookup.AsyncLookupFunctionProvider;
import org.apache.flink.util.FlinkRuntimeException;
import org.junit.jupiter.api.Test;

/** What a lookup join fails with when it is opened: for good where a restart does not help. */
class LookupCoreTest {
    private static LookupCore lookups(String... options) {
        Map<String, String> all = options.length == 0 ? Map.of() : Map.of(options[0], options[1]);
        RowLayout layout = new RowLayout(Tables.information(RowLayout.TYPE));
        return new LookupCore(all, new byte[0], 0, new int[0], List.of(), layout, false, false);
    }

    /** Makes rows as the library does, or as another one, and opens nothing. */
    private static Core core(boolean layout, CosmosException failure) {
        return (Core) Proxy.newProxyInstance(
                LookupCoreTest.class.getClassLoader(),
                new Class<?>[] {Core.class},
                (proxy, method, arguments) -> switch (method.getName()) {
                    case "decodeRows" ->
                        layout
                                ? NativeCore.get().decodeRows((byte[]) arguments[0], documents(arguments[1]))
                                : otherRows();
                    case "openLookup" -> throw failure;
                    default -> null;
                });
    }

    @SuppressWarnings("unchecked")
    private static List<String> documents(Object argument) {
        return (List<String>) argument;
    }

    private static Page otherRows() {
        byte[] rows = TestPages.rows("", new byte[0], 0, List.of(new byte[16]), List.of(0L));
        return new Page(rows, rows.length);
    }

    private static CosmosException failure(Kind kind, int status) {
        return new CosmosException("the service said no", kind, status, 0, "");
    }

    private static void endsTheJob(LookupCore lookups, Core.Provider core, String why) {
        assertThatThrownBy(() -> lookups.open(core, null))
                .isInstanceOf(CosmosDBUnrecoverableException.class)
                .hasMessageContaining(why);
    }

    private static void isTriedAgain(LookupCore lookups, Core.Provider core) {
        assertThatThrownBy(() -> lookups.open(core, null))
                .isInstanceOf(FlinkRuntimeException.class)
                .hasMessageContaining("the service said no");
    }

    @Test
    void whatARestartDoesNotMendEndsTheJob() {
        CosmosException gone = failure(Kind.NOT_FOUND, 404);
        endsTheJob(
                lookups("container", "customers"),
                () -> core(true, gone),
                "cannot look up in container customers: the service said no");
        CosmosException refused = failure(Kind.AUTH, 401);
        endsTheJob(lookups("auth.secret-key", "x"), () -> core(true, refused), "the service said no");
        endsTheJob(lookups(), () -> core(false, gone), "another layout");
        endsTheJob(
                lookups(),
                () -> {
                    throw new UnsatisfiedLinkError("of another platform");
                },
                "cannot load the native core: of another platform");
    }

    @Test
    void whatMayPassIsTriedAgain() {
        CosmosException late = failure(Kind.TRANSIENT, 503);
        isTriedAgain(lookups(), () -> core(true, late));
        // The file may have another key by then.
        CosmosException refused = failure(Kind.AUTH, 401);
        isTriedAgain(lookups("auth.key-file", "/run/secrets/key"), () -> core(true, refused));
    }

    /** A client on another platform plans the join all the same. */
    @Test
    void aLookUpIsPlannedWithoutACore() {
        Core.Provider none = () -> {
            throw new UnsatisfiedLinkError("of another platform");
        };
        assertThat(new LookupSettings(Map.of(), true, null, null).provider(lookups(), none))
                .isInstanceOf(AsyncLookupFunctionProvider.class);
    }
}
