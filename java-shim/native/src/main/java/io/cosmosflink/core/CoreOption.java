package io.cosmosflink.core;

/**
 * One row of the core's option table.
 *
 * @param name such as {@code scan.page-size}
 * @param variable environment variable, empty for none
 * @param type what a value looks like, in words; begins with {@code duration} or {@code size} where it has a unit
 * @param defaultValue empty for none
 * @param group {@code connection}, {@code source}, {@code sink} or {@code job}
 * @param meaning one or two sentences
 * @param secret whether the value must never be shown
 * @param required whether there is no way without it
 * @param former an earlier name, which is an error now; empty for none
 */
@Internal
public record CoreOption(
        String name,
        String variable,
        String type,
        String defaultValue,
        String group,
        String meaning,
        boolean secret,
        boolean required,
        String former) {}
