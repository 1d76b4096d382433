package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

class PatchTest {
    private static String text(Patch patch) {
        return new String(patch.bytes(), StandardCharsets.UTF_8);
    }

    /** What lies at the key's paths of a patch is no key: it would write into another partition. */
    @Test
    void aPatchSaysWhichDocumentItChanges() {
        byte[] patch = new Patch().set("/n", 1).bytes();
        for (OperationKind kind : new OperationKind[] {OperationKind.PATCH, OperationKind.PATCH_IF_EXISTS}) {
            assertThat(new Operation(kind, "a", "[\"k\"]", "", patch).encode()).isNotEmpty();
            assertThatThrownBy(() -> new Operation(kind, "a", "", "", patch).encode())
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining(kind + " has no partition key");
            assertThatThrownBy(() -> new Operation(kind, "", "[\"k\"]", "", patch).encode())
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining(kind + " has no id");
        }
        assertThat(new Operation(OperationKind.DEFAULT, "", "", "", patch).encode())
                .isNotEmpty();
    }

    @Test
    void aPatchIsTheServicesOwnJson() {
        Patch patch = new Patch()
                .set("/a", "x\"ä")
                .set("/b", null)
                .add("/list/-", true)
                .replace("/at", Patch.json("{\"x\":[1]}"))
                .remove("/gone")
                .increment("/n", 1)
                .increment("/m", -0.5)
                .increment("/d", new BigDecimal("1.10"))
                .move("/old", "/new")
                .when("FROM c WHERE c.k = \"v\"");
        assertThat(text(patch))
                .isEqualTo("{\"operations\":["
                        + "{\"op\":\"set\",\"path\":\"/a\",\"value\":\"x\\\"ä\"},"
                        + "{\"op\":\"set\",\"path\":\"/b\",\"value\":null},"
                        + "{\"op\":\"add\",\"path\":\"/list/-\",\"value\":true},"
                        + "{\"op\":\"replace\",\"path\":\"/at\",\"value\":{\"x\":[1]}},"
                        + "{\"op\":\"remove\",\"path\":\"/gone\"},"
                        + "{\"op\":\"incr\",\"path\":\"/n\",\"value\":1},"
                        + "{\"op\":\"incr\",\"path\":\"/m\",\"value\":-0.5},"
                        + "{\"op\":\"incr\",\"path\":\"/d\",\"value\":1.10},"
                        + "{\"op\":\"move\",\"from\":\"/old\",\"path\":\"/new\"}"
                        + "],\"condition\":\"FROM c WHERE c.k = \\\"v\\\"\"}");
        assertThat(patch.isEmpty()).isFalse();
    }

    @Test
    void whatNoPatchCanDoIsRefusedWhereItIsWritten() {
        for (String path : new String[] {"/id", "/_ts", "/_etag/x", "a", "/", "", null}) {
            assertThatThrownBy(() -> new Patch().set(path, 1))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining(String.valueOf(path));
            assertThatThrownBy(() -> new Patch().move(path, "/b")).isInstanceOf(IllegalArgumentException.class);
        }
        assertThatThrownBy(() -> new Patch().bytes()).hasMessageContaining("no operations");
        assertThatThrownBy(() -> new Patch().set("/a", Double.NaN)).hasMessageContaining("NaN");
        assertThatThrownBy(() -> new Patch().set("/a", new Object())).hasMessageContaining("java.lang.Object");
        assertThatThrownBy(() -> new Patch().set("/a", "\ud800")).hasMessageContaining("surrogate");
        assertThatThrownBy(() -> new Patch().when(" ")).hasMessageContaining("FROM c");
        // Names that only begin alike.
        assertThat(Stream.of("/ids", "/_tsx", "/x/id"))
                .allSatisfy(path -> assertThat(text(new Patch().remove(path))).contains(path));
    }
}
