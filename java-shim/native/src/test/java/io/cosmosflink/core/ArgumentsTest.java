package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.Map;
import org.junit.jupiter.api.Test;

class ArgumentsTest {
    @Test
    void namesAndValuesTakeTurns() {
        assertThat(Arguments.parse()).isEmpty();
        assertThat(Arguments.parse("--job.name", "a b", "-job.parallelism", "-1", "--job.name", ""))
                .isEqualTo(Map.of("job.name", "", "job.parallelism", "-1"));
    }

    @Test
    void whatIsWrongIsNamedAndNoValueIsShown() {
        assertThatThrownBy(() -> Arguments.parse("--a", "1", "c2VjcmV0"))
                .isInstanceOf(IllegalArgumentException.class)
                .hasMessage("argument 3 does not begin with --; give options as --name value");
        assertThatThrownBy(() -> Arguments.parse("--"))
                .hasMessage("argument 1 does not begin with --; give options as --name value");
        assertThatThrownBy(() -> Arguments.parse("--key=c2VjcmV0"))
                .hasMessage("argument --key has its value behind a =; give it as --key VALUE");
        assertThatThrownBy(() -> Arguments.parse("--a", "--b", "1"))
                .hasMessage("argument --a has no value; give it as --a VALUE");
        assertThatThrownBy(() -> Arguments.parse("--a")).hasMessage("argument --a has no value; give it as --a VALUE");
    }
}
