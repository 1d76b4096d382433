package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Map;
import org.junit.jupiter.api.Test;

class PerOperatorTest {
    private final PerOperator<Object> things = new PerOperator<>();

    private Object of(String job, String operator) {
        return things.of(Map.of("<job_id>", job, "<operator_id>", operator), Object::new);
    }

    @Test
    void anOperatorHasOneThingHoweverOftenItIsMade() {
        Object thing = of("job", "source");
        assertThat(of("job", "source")).isSameAs(thing);
        assertThat(of("job", "other")).isNotSameAs(thing);
        assertThat(of("another", "source")).isNotSameAs(thing);
    }

    @Test
    void whereNothingNamesTheOperatorNothingIsShared() {
        Object thing = things.of(Map.of("<job_id>", "job"), Object::new);
        assertThat(things.of(Map.of("<job_id>", "job"), Object::new)).isNotSameAs(thing);
    }
}
