package io.cosmosflink.connector.cosmosdb.table;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.flink.table.api.ValidationException;

/** Where the columns of a table have their values in a document: the options {@code fields.<column>.path}. */
final class ColumnPaths {
    static final String PREFIX = "fields.";
    private static final String SUFFIX = ".path";

    private ColumnPaths() {}

    /**
     * The path of each column, as the names of fields from the outside in; the field of the column's own name unless an option says another one.
     *
     * @param columns physical ones
     * @param options all of the table
     * @throws ValidationException when an option is of no column, or is no JSON pointer
     */
    static List<List<String>> of(List<String> columns, Map<String, String> options) {
        Map<String, List<String>> paths = new LinkedHashMap<>();
        columns.forEach(column -> paths.put(column, List.of(column)));
        options.forEach((key, value) -> {
            if (!key.startsWith(PREFIX)) {
                return;
            }
            String column = key.endsWith(SUFFIX) && key.length() > PREFIX.length() + SUFFIX.length()
                    ? key.substring(PREFIX.length(), key.length() - SUFFIX.length())
                    : null;
            if (column == null || !paths.containsKey(column)) {
                throw new ValidationException("the option '" + key + "' is of no column; there are "
                        + String.join(", ", columns) + ", whose paths are options such as '" + PREFIX
                        + (columns.isEmpty() ? "name" : columns.get(0)) + SUFFIX + "'");
            }
            paths.put(column, parse(key, value));
        });
        return List.copyOf(paths.values());
    }

    /** A JSON pointer through objects; empty for the whole document. */
    private static List<String> parse(String key, String pointer) {
        if (pointer.isEmpty()) {
            return List.of();
        }
        if (pointer.charAt(0) != '/') {
            throw new ValidationException("the option '" + key + "' is '" + pointer
                    + "'; a path is a JSON pointer such as /address/city, or empty for the whole document");
        }
        List<String> names = new ArrayList<>();
        for (String part : pointer.substring(1).split("/", -1)) {
            if (part.matches(".*~([^01].*|$)")) {
                throw new ValidationException("the option '" + key + "' is '" + pointer
                        + "'; in a JSON pointer ~ is written ~0, and / inside of a name ~1");
            }
            names.add(part.replace("~1", "/").replace("~0", "~"));
        }
        return List.copyOf(names);
    }

    /**
     * Refuses columns of one document that stand in each other's way.
     *
     * @param columns with their paths
     * @param constants fields at the top that are written besides
     */
    static void checkDisjoint(Map<String, List<String>> columns, Set<String> constants) {
        columns.forEach((column, path) -> {
            if (path.isEmpty() && columns.size() + constants.size() > 1) {
                throw new ValidationException(
                        "a column is the whole document (its path is empty), and there are others: "
                                + String.join(", ", columns.keySet())
                                + "; what is written is either one document or columns, so give the table that is written one or the others");
            }
            if (path.size() == 1 && constants.contains(path.get(0))) {
                throw new ValidationException(
                        "'" + pointer(path) + "' is a column already, and is written otherwise; give it another name");
            }
            columns.forEach((other, there) -> {
                if (!other.equals(column)
                        && there.size() >= path.size()
                        && path.equals(there.subList(0, path.size()))) {
                    throw new ValidationException("column '" + other + "' is at " + pointer(there) + ", and column '"
                            + column + "' is at " + pointer(path) + "; a field is one column");
                }
            });
        });
    }

    /** The path as a JSON pointer, for messages. */
    /** The option that says where a column is. */
    static String option(String column) {
        return PREFIX + column + SUFFIX;
    }

    /** The path as a JSON pointer. */
    static String pointer(List<String> path) {
        StringBuilder out = new StringBuilder();
        path.forEach(name -> out.append('/').append(name.replace("~", "~0").replace("/", "~1")));
        return out.toString();
    }
}
