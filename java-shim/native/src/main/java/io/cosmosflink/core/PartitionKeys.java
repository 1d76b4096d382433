package io.cosmosflink.core;

/** Partition keys in the form that operations carry: a JSON array of the components in the order of the container's paths. */
@PublicEvolving
public final class PartitionKeys {
    /**
     * The component of a document that has no value at a path of the key. It is not {@code null}, which is a value: the service
     * keeps documents without a value, and documents whose value is null, under two different keys.
     */
    public static final Undefined UNDEFINED = Undefined.UNDEFINED;

    /** The key of every document in a container without partition key paths. */
    public static final String NONE = "[]";

    /** The type of {@link #UNDEFINED}. */
    public enum Undefined {
        UNDEFINED;

        /** As the service writes it. */
        @Override
        public String toString() {
            return "{}";
        }
    }

    private PartitionKeys() {}

    /**
     * The key of these components, such as {@code ["tenant",7,null]}, or {@code ["tenant",{}]} with an {@link #UNDEFINED} one.
     *
     * @param components each a string, a number, a boolean, null or {@link #UNDEFINED}; none for a container without key paths
     * @throws IllegalArgumentException for anything else, for a number that JSON does not have, and for half a surrogate pair
     */
    public static String json(Object... components) {
        if (components.length == 0) {
            return NONE;
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
            JsonText.quote(out, "a partition key component", s);
        } else if (component instanceof Double d && !Double.isFinite(d)
                || component instanceof Float f && !Float.isFinite(f)) {
            throw new IllegalArgumentException(
                    "a partition key component is " + component + ", a number that JSON does not have");
        } else if (component == null
                || component == UNDEFINED
                || component instanceof Number
                || component instanceof Boolean) {
            out.append(component);
        } else {
            throw new IllegalArgumentException("a partition key component is a "
                    + component.getClass().getName()
                    + "; it must be a string, a number, a boolean, null or PartitionKeys.UNDEFINED");
        }
    }
}
