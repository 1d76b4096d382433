package io.cosmosflink.core;

import java.util.LinkedHashMap;
import java.util.Map;

/** The arguments of a job. Flink's own parser is in one package in version 1 and in another in version 2. */
@PublicEvolving
public final class Arguments {
    private Arguments() {}

    /**
     * Reads {@code --name value} pairs. A value may be a negative number, and otherwise begins with no hyphen. Of a name that is
     * given twice, the last value counts.
     *
     * @throws IllegalArgumentException when an argument is neither name nor value, or a name has no value; it never shows a value,
     *     which may be a key
     */
    public static Map<String, String> parse(String... arguments) {
        Map<String, String> values = new LinkedHashMap<>();
        for (int i = 0; i < arguments.length; i += 2) {
            String name = name(arguments[i]);
            if (name.isEmpty()) {
                throw new IllegalArgumentException(
                        "argument " + (i + 1) + " does not begin with --; give options as --name value");
            }
            int equals = name.indexOf('=');
            if (equals >= 0) {
                String option = name.substring(0, equals);
                throw new IllegalArgumentException(
                        "argument --" + option + " has its value behind a =; give it as --" + option + " VALUE");
            }
            if (i + 1 == arguments.length || !isValue(arguments[i + 1])) {
                throw new IllegalArgumentException(
                        "argument --" + name + " has no value; give it as --" + name + " VALUE");
            }
            values.put(name, arguments[i + 1]);
        }
        return values;
    }

    /** What follows the hyphens; empty where there are none. */
    private static String name(String argument) {
        if (argument.startsWith("--")) {
            return argument.substring(2);
        }
        return argument.startsWith("-") ? argument.substring(1) : "";
    }

    private static boolean isValue(String argument) {
        return !argument.startsWith("-") || argument.matches("-[0-9.].*");
    }
}
