package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

class DocumentsTest {
    private static String withTimeToLive(String document, int seconds) {
        byte[] bytes = document.getBytes(StandardCharsets.UTF_8);
        byte[] before = bytes.clone();
        String out = new String(Documents.withTimeToLive(bytes, seconds), StandardCharsets.UTF_8);
        assertThat(bytes).isEqualTo(before);
        return out;
    }

    @Test
    void aTimeToLiveIsAFieldMore() {
        assertThat(withTimeToLive("{\"a\":{\"b\":1}}", 60)).isEqualTo("{\"a\":{\"b\":1},\"ttl\":60}");
        assertThat(withTimeToLive("{}", -1)).isEqualTo("{\"ttl\":-1}");
        assertThat(withTimeToLive(" { \n} \n", 1)).isEqualTo(" { \n\"ttl\":1}");
        for (int seconds : new int[] {0, -2}) {
            assertThatThrownBy(() -> withTimeToLive("{}", seconds)).hasMessageContaining(String.valueOf(seconds));
        }
        for (String document : new String[] {"", " ", "[1]", "null"}) {
            assertThatThrownBy(() -> withTimeToLive(document, 1)).isInstanceOf(IllegalArgumentException.class);
        }
    }

    /** {@code printf 's2:c1v1:7' | sha256sum}, as the core's own test has it. */
    @Test
    void aHashedIdIsThatOfTheCore() {
        assertThat(Documents.hashedId("c1", 7)).isEqualTo("2e802f298aa168b8cb42369fb22355e7");
        assertThat(Documents.hashedId("7")).isNotEqualTo(Documents.hashedId(7));
        assertThat(Documents.hashedId("ab", "c")).isNotEqualTo(Documents.hashedId("a", "bc"));
        assertThat(Documents.hashedId((Object) null)).hasSize(32);
        assertThatThrownBy(Documents::hashedId).isInstanceOf(IllegalArgumentException.class);
        assertThatThrownBy(() -> Documents.hashedId(new Object())).hasMessageContaining("java.lang.Object");
    }
}
