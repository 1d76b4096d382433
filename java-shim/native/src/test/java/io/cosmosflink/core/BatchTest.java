package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

class BatchTest {
    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
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
        assertThatThrownBy(() -> new Batch().bytes())
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("no operations");
        assertThatThrownBy(() -> new Batch().delete(""))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("no id");
        Batch many = new Batch();
        for (int n = 0; n <= Batch.MAX_OPERATIONS; n++) {
            many.delete("d" + n);
        }
        assertThatThrownBy(many::bytes)
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("101 operations");
        byte[] one = new Batch().delete("a").bytes();
        assertThatThrownBy(() -> new Operation(OperationKind.BATCH, "", "", "", one).encode())
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("no partition key");
        assertThat(new Operation(OperationKind.BATCH, "", "[\"k\"]", "", one).encode())
                .isNotEmpty();
    }
}
