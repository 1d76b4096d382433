package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
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
    void aDocumentThatIsNoTextIsKeptAsBase64() {
        assertThat(DeadLetter.base64(utf8("{\"id\":\"\u00f6\ud83d\ude00\"}"))).isEmpty();
        byte[] binary = {'{', (byte) 0xff, (byte) 0xfe};
        assertThat(DeadLetter.base64(binary)).contains("e//+");
        byte[] large = new byte[2 * 1024 * 1024];
        Arrays.fill(large, (byte) 0x80);
        String text = DeadLetter.base64(large).orElseThrow();
        assertThat(Base64.getDecoder().decode(text)).hasSize(DeadLetter.MAX_BINARY);
        assertThat(text.length()).isLessThan(DeadLetter.MAX_BYTES - 64 * 1024);
    }

    @Test
    void textsBesideTheDocumentAreBounded() {
        assertThat(DeadLetter.text("no")).isEqualTo("no");
        assertThat(6 * DeadLetter.text("\u0001".repeat(3_000_000)).length()).isBetween(8 * 1024 - 6, 8 * 1024);
        assertThat(DeadLetter.text("x" + "\ud83d\ude00".repeat(10_000))).endsWith("\ude00");
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
