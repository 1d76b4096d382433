package io.cosmosflink.core;

import java.io.Serializable;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/**
 * Changes of parts of a document, which the service carries out together and in this order. Not thread-safe.
 *
 * <pre>{@code
 * new Patch().set("/status", "shipped").increment("/version", 1).when("FROM c WHERE c.version = 7")
 * }</pre>
 *
 * <p>A path names a field behind a slash, or one inside an object or an array ({@code /address/city}, {@code /items/0}, {@code /items/-} for
 * behind the last); {@code ~1} stands for a slash in a name, {@code ~0} for a tilde. A value is a string, a number, a boolean, null or {@link #json}. More
 * than ten operations travel as several patches, one behind the other: such a patch has no condition and no ETag.
 */
@PublicEvolving
public final class Patch implements Serializable {
    private static final long serialVersionUID = 1L;
    private static final Set<String> SYSTEM_FIELDS = Set.of("_rid", "_self", "_etag", "_attachments", "_ts");

    private final ArrayList<String> operations = new ArrayList<>();
    private String condition;

    /** A value that is JSON already. Made by {@link #json}. */
    @PublicEvolving
    public record Json(String text) implements Serializable {}

    /** A value that is JSON already, such as an object: exactly one. What is inside, the core checks. */
    public static Json json(String text) {
        return new Json(text);
    }

    /** Writes a value, whether or not the field is there. Of an array's item it writes the one at this index anew. */
    public Patch set(String path, Object value) {
        return with("set", path, value);
    }

    /** Writes a value, whether or not the field is there. An item of an array is put before the one at this index. */
    public Patch add(String path, Object value) {
        return with("add", path, value);
    }

    /** Writes a value; the service refuses the patch when the field is not there. */
    public Patch replace(String path, Object value) {
        return with("replace", path, value);
    }

    /**
     * Takes a field out; the service refuses the patch when it is not there, as it is not when the patch is replayed: {@code
     * set(path, null).remove(path)} does not mind.
     */
    public Patch remove(String path) {
        operations.add("{\"op\":\"remove\",\"path\":" + checked(path) + "}");
        return this;
    }

    /** Adds to a number, or makes the field of it. A replay adds once more: see {@code docs/writing.md}. */
    public Patch increment(String path, long by) {
        return with("incr", path, by);
    }

    /** Adds to a number, or makes the field of it. A replay adds once more: see {@code docs/writing.md}. */
    public Patch increment(String path, double by) {
        return with("incr", path, by);
    }

    /** Adds to a number, or makes the field of it. A replay adds once more: see {@code docs/writing.md}. */
    public Patch increment(String path, BigDecimal by) {
        return with("incr", path, java.util.Objects.requireNonNull(by, "the increment of " + path));
    }

    /** Takes the value at {@code from} out and writes it at {@code path}. */
    public Patch move(String from, String path) {
        operations.add("{\"op\":\"move\",\"from\":" + checked(from) + ",\"path\":" + checked(path) + "}");
        return this;
    }

    /**
     * Only where this holds, such as {@code FROM c WHERE c.version < 8}; where not, the document stays as it is, and the record counts as
     * superseded.
     */
    public Patch when(String predicate) {
        if (predicate == null || predicate.isBlank()) {
            throw new IllegalArgumentException(
                    "the condition of a patch is empty; leave it out, or write FROM c WHERE ..");
        }
        condition = predicate;
        return this;
    }

    /** Whether it changes nothing. */
    public boolean isEmpty() {
        return operations.isEmpty();
    }

    /** The patch as the service takes it. The core refuses an empty one, so that the record takes the way of {@code sink.failure-mode}. */
    public byte[] bytes() {
        StringBuilder out = new StringBuilder(64).append("{\"operations\":[");
        out.append(String.join(",", operations)).append(']');
        if (condition != null) {
            out.append(",\"condition\":");
            JsonText.quote(out, "the condition of a patch", condition);
        }
        return out.append('}').toString().getBytes(StandardCharsets.UTF_8);
    }

    private Patch with(String op, String path, Object value) {
        StringBuilder out = new StringBuilder(48);
        out.append("{\"op\":\"")
                .append(op)
                .append("\",\"path\":")
                .append(checked(path))
                .append(",\"value\":");
        append(out, path, value);
        operations.add(out.append('}').toString());
        return this;
    }

    private static void append(StringBuilder out, String path, Object value) {
        if (value instanceof String text) {
            JsonText.quote(out, "the value for " + path, text);
        } else if (value instanceof Json json) {
            if (json.text() != null) {
                Utf8.check("the value for " + path, json.text());
            }
            if (json.text() == null || !JsonText.isValue(json.text().getBytes(StandardCharsets.UTF_8))) {
                throw new IllegalArgumentException("the value for " + path + " is not exactly one JSON value: "
                        + RecordFailures.shortened(String.valueOf(json.text())));
            }
            out.append(json.text());
        } else if (value instanceof Double d && !Double.isFinite(d) || value instanceof Float f && !Float.isFinite(f)) {
            throw new IllegalArgumentException(
                    "the value for " + path + " is " + value + ", a number that JSON does not have");
        } else if (value instanceof Number || value instanceof Boolean || value == null) {
            out.append(value);
        } else {
            throw new IllegalArgumentException(
                    "the value for " + path + " is a " + value.getClass().getName()
                            + "; it must be a string, a number, a boolean, null or Patch.json(..)");
        }
    }

    /** The path in quotes. That it is not of the partition key, the core knows, which knows the container. */
    private static String checked(String path) {
        if (path == null || path.length() < 2 || path.charAt(0) != '/') {
            throw new IllegalArgumentException("a patch has the path '" + path
                    + "'; a path is / and the name of a field, such as /status or /address/city");
        }
        int end = path.indexOf('/', 1);
        String field = path.substring(1, end < 0 ? path.length() : end);
        if (field.equals("id") || SYSTEM_FIELDS.contains(field)) {
            throw new IllegalArgumentException("a patch changes '" + path + "', which no patch can");
        }
        StringBuilder out = new StringBuilder(path.length() + 2);
        JsonText.quote(out, "the path of a patch", path);
        return out.toString();
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Patch that
                && operations.equals(that.operations)
                && java.util.Objects.equals(condition, that.condition);
    }

    @Override
    public int hashCode() {
        return List.of(operations, condition == null ? "" : condition).hashCode();
    }

    @Override
    public String toString() {
        return "Patch" + operations + (condition == null ? "" : " when " + condition);
    }
}
