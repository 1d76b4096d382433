package io.cosmosflink.core;

import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;

/** Options as text that may be shown. */
@Internal
public final class OptionText {
    private static final String HIDDEN = "[redacted]";

    /** What a job looks for in the container, which is data like what it finds, and may be long. */
    private static final Set<String> DATA = Set.of("scan.query-parameters", "scan.read-many");

    /** Names of the options that the core knows and does not call secret; null where there is no core. */
    private static final class Harmless {
        static final Set<String> NAMES = names();

        private static Set<String> names() {
            try {
                return NativeCore.get().optionTable().stream()
                        .filter(option -> !option.secret())
                        .map(CoreOption::name)
                        .collect(Collectors.toUnmodifiableSet());
            } catch (UnsatisfiedLinkError e) {
                return null;
            }
        }
    }

    private OptionText() {}

    /**
     * The options in the order of their names, such as {@code {auth.secret-key=[redacted], database=orders}}. The core's option
     * table says what is secret. A name that it does not have may be a secret's, misspelt, so its value is not shown either. Of the values of a
     * query's parameters and of a list of keys only the length is shown.
     */
    public static String of(Map<String, String> options) {
        TreeMap<String, String> shown = new TreeMap<>(options);
        shown.replaceAll((name, value) -> shown(name, value));
        return shown.toString();
    }

    private static String shown(String name, String value) {
        if (isSecret(name)) {
            return HIDDEN;
        }
        return DATA.contains(name) ? "[" + value.length() + " characters]" : value;
    }

    private static boolean isSecret(String name) {
        Set<String> harmless = Harmless.NAMES;
        // Without a core nobody knows: all of the authentication is kept back, and what may be no option's name.
        return harmless == null
                ? !name.matches(
                        "endpoint|database|container|consistency|(scan|sink|json|job|retry|failover|hedging)\\..*")
                : !harmless.contains(name);
    }
}
