package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

class BatchTest {
    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(Batch batch) {
        return new String(batch.bytes(), StandardCharsets.UTF_8);
    }

    @Test
    void aBatchIsAnArrayOfOperations() {
        Batch batch = new Batch()
                .create("a", utf8("{\"id\":\"a\",\"n\":1.10}"))
                .upsert("b\"", utf8("{}"))
                .replace("c", utf8("{}"), "\"7\"")
                .delete("d")
                .delete("e", "x")
                .patch("f", new Patch().remove("/n"));
        assertThat(batch.size()).isEqualTo(6);
        assertThat(new String(batch.bytes(), StandardCharsets.UTF_8))
                .isEqualTo(
                        "[{\"operationType\":\"Create\",\"id\":\"a\",\"resourceBody\":{\"id\":\"a\",\"n\":1.10}},"
                                + "{\"operationType\":\"Upsert\",\"id\":\"b\\\"\",\"resourceBody\":{}},"
                                + "{\"operationType\":\"Replace\",\"id\":\"c\",\"resourceBody\":{},\"ifMatch\":\"\\\"7\\\"\"},"
                                + "{\"operationType\":\"Delete\",\"id\":\"d\"},"
                                + "{\"operationType\":\"Delete\",\"id\":\"e\",\"ifMatch\":\"x\"},"
                                + "{\"operationType\":\"Patch\",\"id\":\"f\",\"resourceBody\":{\"operations\":[{\"op\":\"remove\",\"path\":\"/n\"}]}}]");
    }

    @Test
    void whatNoBatchCanBeIsRefusedWhenItIsMade() {
        assertThatThrownBy(() -> new Batch().delete(null))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("no id");
        assertThatThrownBy(() -> new Batch().delete("\ud800")).hasMessageContaining("surrogate");
    }

    /** What the core refuses travels, so that the dead letter has it. */
    @Test
    void whatNoBatchCanBeTravelsToTheCore() {
        assertThat(text(new Batch())).isEqualTo("[]");
        assertThat(text(new Batch().delete(""))).isEqualTo("[{\"operationType\":\"Delete\",\"id\":\"\"}]");
        Batch many = new Batch();
        for (int n = 0; n <= Batch.MAX_OPERATIONS; n++) {
            many.delete("d" + n);
        }
        assertThat(text(many)).contains("\"d0\"", "\"d100\"");
        assertThat(text(new Batch().patch("a", new Patch()))).contains("{\"operations\":[]}");
        byte[] keyless = new Operation(OperationKind.BATCH, "", "", "", many.bytes()).encode();
        assertThat(Operation.decode(keyless).document()).isEqualTo(many.bytes());
    }

    /** Bytes that are no UTF-8 go as they are, for the core to refuse them. */
    @Test
    void aDocumentIsSentAsItIs() {
        byte[] broken = utf8("{\"id\":\"a\",\"x\":\"?\"}");
        broken[broken.length - 3] = (byte) 0xff;
        byte[] sent = new Batch().upsert("a", broken).bytes();
        byte[] head = utf8("[{\"operationType\":\"Upsert\",\"id\":\"a\",\"resourceBody\":");
        assertThat(sent).startsWith(head).endsWith(utf8("}]"));
        assertThat(java.util.Arrays.copyOfRange(sent, head.length, sent.length - 2))
                .isEqualTo(broken);
    }

    /** What would become an operation of its own is a text. */
    @Test
    void aDocumentDoesNotLeaveItsPlace() {
        String smuggled = "{\"id\":\"a\"}},{\"operationType\":\"Delete\",\"id\":\"z\"";
        assertThat(text(new Batch().upsert("a", utf8(smuggled))))
                .isEqualTo("[{\"operationType\":\"Upsert\",\"id\":\"a\",\"resourceBody\":\""
                        + smuggled.replace("\"", "\\\"") + "\"}]");
        for (String none :
                new String[] {"{},\"ifMatch\":\"\"", "{\"a\":\"}", "{} {}", "[{}]", "\"{}\"", "{", "", "1"}) {
            assertThat(text(new Batch().create("a", utf8(none))))
                    .as(none)
                    .contains(",\"resourceBody\":\"")
                    .endsWith("\"}]");
        }
        String object = " {\"a\":\"}\\\"{\",\"b\":[{\"c\":\"]\"}]}\n";
        assertThat(text(new Batch().create("a", utf8(object)))).contains(",\"resourceBody\":" + object + "}");
    }

    @Test
    void anETagThatIsNullIsNone() {
        byte[] document = utf8("{}");
        Patch patch = new Patch().remove("/n");
        Batch with = new Batch()
                .upsert("a", document, null)
                .replace("b", document, null)
                .delete("c", null)
                .patch("d", patch, null);
        Batch without = new Batch()
                .upsert("a", document)
                .replace("b", document)
                .delete("c")
                .patch("d", patch);
        assertThat(with).isEqualTo(without).hasSameHashCodeAs(without).hasToString(without.toString());
    }
}
