package io.cosmosflink.connector.cosmosdb;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import io.cosmosflink.core.Batch;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.OperationKind;
import io.cosmosflink.core.Patch;
import io.cosmosflink.core.UnwritableRecordException;
import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

/** What a converter makes of an element, and what it refuses before there is one. */
class CosmosDBElementConverterTest {
    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static CosmosDBElementConverter.Builder<String> keyed() {
        return CosmosDBElementConverter.<String>builder().partitionKey(id -> "eu");
    }

    private static CosmosDBElementConverter.Builder<String> named() {
        return keyed().id(id -> id);
    }

    private static Operation made(CosmosDBElementConverter.Builder<String> converter) {
        return converter.build().apply("a", null).operation();
    }

    private static void isRefused(CosmosDBElementConverter.Builder<String> converter, String... why) {
        assertThatThrownBy(converter::build)
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContainingAll(why);
    }

    @Test
    void whatNoElementWouldUseIsRefused() {
        isRefused(keyed().batch(id -> new Batch()).timeToLive(id -> 60), "timeToLive", "no document");
        isRefused(named().patch(id -> new Patch()).timeToLive(id -> 60), "timeToLive", "no document");
        isRefused(
                named().document(CosmosDBElementConverterTest::utf8).batch(id -> new Batch()),
                "document and batch",
                "operation");
        isRefused(
                named().serializer(CosmosDBElementConverterTest::utf8).batch(id -> new Batch()),
                "document and batch",
                "operation");
        isRefused(
                named().document(CosmosDBElementConverterTest::utf8).patch(id -> new Patch()),
                "document and patch",
                "operation");
        isRefused(named().patch(id -> new Patch()).batch(id -> new Batch()), "has patch and batch", "operation");
        isRefused(named().batch(id -> new Batch()), "has id", "have their own");
        isRefused(keyed().batch(id -> new Batch()).ifMatch(id -> "e"), "has ifMatch", "have their own");
    }

    @Test
    void anElementMaySayWhatItIs() {
        for (OperationKind kind :
                new OperationKind[] {OperationKind.BATCH, OperationKind.PATCH, OperationKind.UPSERT}) {
            Operation made = made(named().document(CosmosDBElementConverterTest::utf8)
                    .patch(id -> new Patch().remove("/n"))
                    .batch(id -> new Batch().delete("b"))
                    .ifMatch(id -> kind == OperationKind.BATCH ? "" : "e")
                    .timeToLive(id -> null)
                    .operation(id -> kind));
            assertThat(made.type()).isEqualTo(kind);
            assertThat(made.id()).isEqualTo(kind == OperationKind.BATCH ? "" : "a");
        }
        // A batch beside deletes, which have an id.
        Operation delete = made(named().batch(id -> new Batch()).operation(id -> OperationKind.DELETE));
        assertThat(delete).isEqualTo(new Operation(OperationKind.DELETE, "a", "[\"eu\"]", "", delete.document()));
    }

    /** So that its letter holds the operations. */
    @Test
    void theCoreRefusesWhatHasBytes() {
        Batch many = new Batch();
        for (int n = 0; n <= Batch.MAX_OPERATIONS; n++) {
            many.delete("d" + n);
        }
        Operation made = made(keyed().batch(id -> many));
        assertThat(made.type()).isEqualTo(OperationKind.BATCH);
        assertThat(made.document()).isEqualTo(many.bytes());
        assertThat(made(keyed().batch(id -> new Batch())).document()).isEqualTo(utf8("[]"));
        CosmosDBElementConverter.Builder<String> keyless =
                CosmosDBElementConverter.<String>builder().serializer(CosmosDBElementConverterTest::utf8);
        Patch patch = new Patch().remove("/n");
        Operation patched = made(keyless.patch(id -> patch).operation(id -> OperationKind.PATCH));
        assertThat(patched.document()).isEqualTo(patch.bytes());
        assertThat(patched.id()).isEmpty();
        Operation batched = made(keyless.batch(id -> many).operation(id -> OperationKind.BATCH));
        assertThat(batched.document()).isEqualTo(many.bytes());
        assertThat(batched.partitionKey()).isEmpty();
    }

    @Test
    void whatHasNoBytesLeavesWhatIsKnown() {
        Batch batch = new Batch().delete("b");
        assertThat(refusal(keyed().batch(id -> batch)
                                .operation(id -> OperationKind.BATCH)
                                .ifMatch(id -> "\ud800"))
                        .document())
                .isEqualTo(batch.bytes());
        Patch patch = new Patch().remove("/n");
        assertThat(refusal(named().patch(id -> patch).ifMatch(id -> "\ud800")).document())
                .isEqualTo(patch.bytes());
        assertThat(refusal(named().document(CosmosDBElementConverterTest::utf8).operation(id -> {
                            throw new IllegalStateException("no kind");
                        }))
                        .document())
                .isEqualTo(utf8("a"));
    }

    private static UnwritableRecordException refusal(CosmosDBElementConverter.Builder<String> converter) {
        CosmosDBElementConverter<String> built = converter.build();
        return catchThrowableOfType(UnwritableRecordException.class, () -> built.apply("a", null));
    }
}
