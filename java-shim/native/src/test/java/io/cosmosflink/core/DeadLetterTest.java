package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

class DeadLetterTest {
    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** The same value as in the tests of the core. */
    @Test
    void anIdIsThatOfTheCoreInEveryRelease() {
        assertThat(DeadLetter.id("events", "[\"eu\"]", "a", "create", utf8("{\"id\":\"a\"}")))
                .isEqualTo("00d0545dbc742abbd1ea04715d1c3242");
    }

    @Test
    void otherPartsMakeAnotherLetter() {
        assertThat(DeadLetter.id("ab", "c", "", "", new byte[0]))
                .isNotEqualTo(DeadLetter.id("a", "bc", "", "", new byte[0]))
                .isNotEqualTo(DeadLetter.id("ab", "c", "", "", new byte[1]));
    }

    @Test
    void aLargeDocumentIsCutBetweenCharacters() {
        String pairs = "\ud83d\ude00".repeat(200_000);
        assertThat(DeadLetter.beginning(pairs)).isEqualTo(pairs.substring(0, 256 * 1024));
        String shifted = "x" + pairs;
        assertThat(DeadLetter.beginning(shifted)).isEqualTo(shifted.substring(0, 256 * 1024 - 1));
        assertThat(DeadLetter.beginning("x")).isEqualTo("x");
        assertThat(6 * 256 * 1024).isLessThan(DeadLetter.MAX_BYTES);
    }
}
