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

    @Test
    void aPatchTravelsAlsoWhereItDoesNotSayWhichDocumentItChanges() {
        byte[] patch = new Patch().set("/n", 1).bytes();
        for (OperationKind kind : new OperationKind[] {OperationKind.PATCH, OperationKind.PATCH_IF_EXISTS}) {
            assertThat(new Operation(kind, "a", "[\"k\"]", "", patch).encode()).isNotEmpty();
            // The core refuses these, so that a dead letter has the patch.
            for (String[] missing : new String[][] {{"a", ""}, {"", "[\"k\"]"}}) {
                Operation operation = new Operation(kind, missing[0], missing[1], "", patch);
                assertThat(Operation.decode(operation.encode()).document()).isEqualTo(patch);
            }
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
        assertThat(text(new Patch())).as("the core refuses it").isEqualTo("{\"operations\":[]}");
        // A value stays in its place.
        for (String text : new String[] {
            "1},{\"op\":\"remove\",\"path\":\"/b\"",
            "{}}",
            "[1]]",
            "{},1",
            "\"a\",1",
            "\"a",
            "{\"a\":\"}",
            "\"\\\"",
            "",
            " ",
            null,
            "1 2"
        }) {
            assertThatThrownBy(() -> new Patch().set("/a", Patch.json(text)))
                    .as(String.valueOf(text))
                    .isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContainingAll("/a", "not exactly one JSON value");
        }
        assertThatThrownBy(() -> new Patch().set("/a", Patch.json("\"\ud800\"")))
                .hasMessageContaining("surrogate");
        assertThat(Stream.of("1", " -1.5e+3 ", "true", "null", "\"}\\\"{\"", "[]", "{\"a\":[{\"b\":\"]\"}]}\n"))
                .allSatisfy(json -> assertThat(text(new Patch().set("/a", Patch.json(json))))
                        .contains("\"value\":" + json + "}"));
        assertThatThrownBy(() -> new Patch().set("/a", Double.NaN)).hasMessageContaining("NaN");
        assertThatThrownBy(() -> new Patch().set("/a", new Object())).hasMessageContaining("java.lang.Object");
        assertThatThrownBy(() -> new Patch().set("/a", "\ud800")).hasMessageContaining("surrogate");
        assertThatThrownBy(() -> new Patch().when(" ")).hasMessageContaining("FROM c");
        // Names that only begin alike.
        assertThat(Stream.of("/ids", "/_tsx", "/x/id"))
                .allSatisfy(path -> assertThat(text(new Patch().remove(path))).contains(path));
    }
}
