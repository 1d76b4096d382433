package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

class UnwritableRecordExceptionTest {
    private static final byte[] DOCUMENT = "{}".getBytes(StandardCharsets.UTF_8);

    @Test
    void theOperationHoldsWhatIsKnown() {
        byte[] body = UnwritableRecordException.of(
                        new IllegalStateException("no amount"),
                        () -> "a",
                        () -> {
                            throw new StackOverflowError();
                        },
                        () -> DOCUMENT)
                .encode();
        assertThat(body[0]).as("op code of docs/boundary.md").isZero();
        assertThat(Operation.isRefused(body)).isTrue();
        assertThat(Operation.decode(body))
                .usingRecursiveComparison()
                .isEqualTo(new Operation(
                        OperationKind.REFUSED, "a", "", "java.lang.IllegalStateException: no amount", DOCUMENT));
    }

    @Test
    void whatSaysItItselfIsKept() {
        UnwritableRecordException mine = new UnwritableRecordException("why", null, "a", null, null);
        assertThat(UnwritableRecordException.of(mine)).isSameAs(mine);
        assertThat(UnwritableRecordException.of(mine, () -> "b", () -> "", () -> DOCUMENT))
                .isSameAs(mine);
        assertThat(mine.partitionKey()).isEmpty();
        assertThat(mine.document()).isEmpty();
    }

    @Test
    void longReasonsAndDocumentsAreCutAndSaySo() {
        String emoji = "\ud83d\ude00".repeat(5000);
        Operation cut = Operation.decode(
                new UnwritableRecordException("x" + emoji, null, "a", "", new byte[20 << 20]).encode());
        assertThat(cut.ifMatch()).hasSizeLessThan(4200).endsWith("..");
        assertThat(cut.document()).hasSize(16 << 20);
        byte[] body = Operation.upsert("a", "[1]", new byte[50]).encode();
        assertThat(Operation.documentLength(body)).isEqualTo(50);
        assertThat(UnwritableRecordException.tooLarge(body, 50, 40))
                .hasMessage("the document is too large: it has 50 bytes, and sink.max-record-size is 40");
        byte[] batch = new Operation(
                        OperationKind.BATCH,
                        "",
                        "[\"k\"]",
                        "",
                        new Batch().delete("a").bytes())
                .encode();
        assertThat(UnwritableRecordException.tooLarge(batch, 50, 40))
                .hasMessage(
                        "the batch, all of its operations together, is too large: it has 50 bytes, and sink.max-record-size is 40");
    }

    @Test
    void whatHasNoUtf8IsNeverWrittenAsAnotherDocument() {
        assertThatThrownBy(() -> Operation.upsert("a\ud800", "[1]", DOCUMENT).encode())
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("the id has half a surrogate pair (\\ud800)");
        assertThatThrownBy(() -> Operation.upsert("a", "[\"\udc00\"]", DOCUMENT).encode())
                .hasMessageContaining("the partition key has half a surrogate pair");
        assertThat(Operation.decode(Operation.upsert("\ud83d\ude00", "[1]", DOCUMENT)
                                .encode())
                        .id())
                .isEqualTo("\ud83d\ude00");
    }
}
