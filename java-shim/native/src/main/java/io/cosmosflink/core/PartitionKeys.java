package io.cosmosflink.core;

/** Partition keys in the form that operations carry: a JSON array of the components in the order of the container's paths. */
public final class PartitionKeys {
    private PartitionKeys() {}

    /**
     * The key of these components, such as {@code ["tenant",7,null]}.
     *
     * @param components each a string, a number, a boolean or null; at least one
     * @throws IllegalArgumentException for anything else, and for a number that JSON does not have
     */
    public static String json(Object... components) {
        if (components.length == 0) {
            throw new IllegalArgumentException(
                    "a partition key has no component; give it one for each path of the container");
        }
        StringBuilder out = new StringBuilder(24).append('[');
        for (int i = 0; i < components.length; i++) {
            if (i > 0) {
                out.append(',');
            }
            append(out, components[i]);
        }
        return out.append(']').toString();
    }

    private static void append(StringBuilder out, Object component) {
        if (component instanceof String s) {
            quote(out, s);
        } else if (component instanceof Double d && !Double.isFinite(d)
                || component instanceof Float f && !Float.isFinite(f)) {
            throw new IllegalArgumentException(
                    "a partition key component is " + component + ", a number that JSON does not have");
        } else if (component == null || component instanceof Number || component instanceof Boolean) {
            out.append(component);
        } else {
            throw new IllegalArgumentException("a partition key component is a "
                    + component.getClass().getName() + "; it must be a string, a number, a boolean or null");
        }
    }

    private static void quote(StringBuilder out, String text) {
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            switch (c) {
                case '"' -> out.append("\\\"");
                case '\\' -> out.append("\\\\");
                case '\b' -> out.append("\\b");
                case '\t' -> out.append("\\t");
                case '\n' -> out.append("\\n");
                case '\f' -> out.append("\\f");
                case '\r' -> out.append("\\r");
                default -> {
                    if (c < ' ') {
                        out.append(String.format("\\u%04X", (int) c));
                    } else {
                        out.append(c);
                    }
                }
            }
        }
        out.append('"');
    }
}
