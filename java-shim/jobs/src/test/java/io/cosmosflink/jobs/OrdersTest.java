package io.cosmosflink.jobs;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class OrdersTest {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Instant NOW = Instant.parse("2026-01-01T00:00:10Z");
    private static final String GOOD =
            "{'id':'o1','customerId':'c1','amount':12.345,'currency':'eur','createdAt':'2026-01-01T00:00:00Z','source':'eu-west'";

    private static byte[] json(String text) {
        return text.replace('\'', '"').getBytes(StandardCharsets.UTF_8);
    }

    private static JsonNode read(OutgoingDocument document) throws IOException {
        return JSON.readTree(document.document);
    }

    @Test
    void anOrderIsEnrichedAndKeepsWhatItHas() throws Exception {
        OutgoingDocument processed = Orders.process(json(GOOD + ",'note':'n','_ts':1,'_etag':'e'}"), NOW);
        JsonNode document = read(processed);
        assertThat(processed.id).isEqualTo("o1");
        assertThat(processed.partitionKey)
                .isEqualTo("eu-west")
                .isEqualTo(document.get("region").asText());
        assertThat(document.get("amount").decimalValue()).isEqualByComparingTo("12.34");
        assertThat(document.get("currency").asText()).isEqualTo("EUR");
        assertThat(document.get("processedAt").asText()).isEqualTo("2026-01-01T00:00:10Z");
        assertThat(document.get("note").asText()).isEqualTo("n");
        assertThat(document.has("_ts") || document.has("_etag")).isFalse();
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "[] | not a JSON object",
                "{ | not JSON",
                "{\"id\":\"x\"} | customerId is missing",
                "{\"id\":7} | id is 7",
                "{\"id\":\" \"} | id is \" \"",
            })
    void aBadRecordSaysWhy(String document, String reason) {
        assertThatThrownBy(() -> Orders.process(document.getBytes(StandardCharsets.UTF_8), NOW))
                .isInstanceOf(BadRecordException.class)
                .hasMessageContaining(reason);
    }

    @Test
    void wrongFieldsSayWhy() {
        for (String[] wrong : new String[][] {
            {"'amount':12.345", "'amount':-1", "amount is -1"},
            {"'amount':12.345", "'amount':'12'", "amount is \"12\""},
            {"'eur'", "'euro'", "currency is 'EURO'"},
            {"'2026-01-01T00:00:00Z'", "'yesterday'", "createdAt is 'yesterday'"},
        }) {
            assertThatThrownBy(() -> Orders.process(json(GOOD.replace(wrong[0], wrong[1]) + "}"), NOW))
                    .isInstanceOf(BadRecordException.class)
                    .hasMessageContaining(wrong[2]);
        }
    }

    @Test
    void theConsumerGetsSizeAndTimeAndTheRecordOfDelivery() throws Exception {
        OutgoingDocument processed = Orders.process(json(GOOD + "}"), NOW);
        OutgoingDocument event = Orders.outgoing(processed.document, NOW.plusMillis(500));
        assertThat(read(event).get("size").asText()).isEqualTo("small");
        assertThat(read(event).get("pipelineMillis").asLong()).isEqualTo(10_500);
        OutgoingDocument record = Orders.delivered(event, NOW.plusSeconds(1));
        assertThat(record.partitionKey).isEqualTo("eu-west");
        assertThat(read(record).get("deliveredAt").asText()).isEqualTo("2026-01-01T00:00:11Z");
        assertThatThrownBy(() -> Orders.outgoing(json(GOOD + "}"), NOW)).hasMessageContaining("region is missing");
    }

    @Test
    void aSourceThatIsNoRegionGetsAZoneByCustomer() {
        assertThat(Orders.region(" EU-West ", "c")).isEqualTo("eu-west");
        assertThat(Orders.region("us-east-2", "c")).isEqualTo("us-east-2");
        assertThat(Orders.region("producer 1", "c")).startsWith("zone-").isEqualTo(Orders.region("x", "c"));
    }

    @Test
    void aDeadLetterIsTheSameTheSecondTime() throws IOException {
        OutgoingDocument first =
                Orders.deadLetter("events-source", "a/b", "[\"k\"]", json("{'x':1}"), "process", "why", NOW);
        OutgoingDocument again = Orders.deadLetter(
                "events-source", "a/b", "[\"k\"]", json("{'x':1}"), "process", "why", NOW.plusSeconds(5));
        OutgoingDocument other = Orders.deadLetter("events-source", "a/b", "[\"l\"]", json("{"), "process", "why", NOW);
        assertThat(first.id).isEqualTo(again.id).isNotEqualTo(other.id).doesNotContain("/");
        assertThat(first.partitionKey)
                .isEqualTo("events-source")
                .isEqualTo(read(first).get("container").asText());
        assertThat(read(first).get("document").get("x").asInt()).isOne();
        assertThat(read(other).get("document").asText()).isEqualTo("{");
    }
}
