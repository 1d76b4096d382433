package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.math.BigDecimal;
import org.junit.jupiter.api.Test;

class PartitionKeysTest {
    @Test
    void componentsAreJson() {
        assertThat(PartitionKeys.json("eu")).isEqualTo("[\"eu\"]");
        assertThat(PartitionKeys.json("a\"\\\b\t\n\f\r\u0001é\ud83d\ude00", 7L, new BigDecimal("1.10"), true, null))
                .isEqualTo("[\"a\\\"\\\\\\b\\t\\n\\f\\r\\u0001é\ud83d\ude00\",7,1.10,true,null]");
    }

    @Test
    void whatCannotBeAComponentIsNamed() {
        assertThatThrownBy(() -> PartitionKeys.json(new int[0])).hasMessageContaining("[I");
        assertThatThrownBy(() -> PartitionKeys.json(Double.NaN)).hasMessageContaining("NaN");
        assertThatThrownBy(() -> PartitionKeys.json(Float.POSITIVE_INFINITY)).hasMessageContaining("Infinity");
        assertThatThrownBy(() -> PartitionKeys.json("a\ud800b"))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("half a surrogate pair (\\ud800)");
    }

    @Test
    void nullAndUndefinedAreTwoKeysAndAContainerMayHaveNone() {
        assertThat(PartitionKeys.json((Object) null)).isEqualTo("[null]");
        assertThat(PartitionKeys.json(PartitionKeys.UNDEFINED)).isEqualTo("[{}]");
        assertThat(PartitionKeys.json("a", PartitionKeys.UNDEFINED, null)).isEqualTo("[\"a\",{},null]");
        assertThat(PartitionKeys.json()).isEqualTo("[]").isEqualTo(PartitionKeys.NONE);
    }

    @Test
    void stateOfANewerConnectorIsRefused() throws IOException {
        StateVersions.check("splits", 1, 1);
        assertThatThrownBy(() -> StateVersions.check("splits", 2, 1))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("splits in version 2; this connector reads 1 to 1");
        assertThatThrownBy(() -> StateVersions.check("splits", 0, 1)).hasMessageContaining("version 0");
    }
}
