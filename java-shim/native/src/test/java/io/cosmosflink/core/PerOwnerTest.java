package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;

class PerOwnerTest {
    private final PerOwner<Object, Object> things = new PerOwner<>();

    @Test
    void anOwnerHasOneThingHoweverOftenItIsAskedFor() {
        Object owner = new Object();
        Object thing = things.of(owner, Object::new);
        assertThat(things.of(owner, Object::new)).isSameAs(thing);
        assertThat(things.of(new Object(), Object::new)).isNotSameAs(thing);
    }
}
