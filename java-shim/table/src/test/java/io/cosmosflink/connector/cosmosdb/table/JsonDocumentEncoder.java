package io.cosmosflink.connector.cosmosdb.table;

import java.io.Serializable;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.types.logical.LogicalType;

/**
 * Documents out of some of a row's columns, each at its path. A column that is null is null in the document; the core leaves it out where {@code
 * sink.null-policy} asks for that.
 */
final class JsonDocumentEncoder implements DocumentEncoder {
    private static final long serialVersionUID = 1L;

    private final Part document;

    private JsonDocumentEncoder(Part document) {
        this.document = document;
    }

    /**
     * A column of a row.
     *
     * @param position in the row
     * @param path names of fields from the outside in; empty for the whole document
     */
    record Column(String name, int position, List<String> path, LogicalType type) {}

    /**
     * @param columns those that are written
     * @param constants fields at the top that are the same in all documents, with their JSON
     * @throws ValidationException when two columns stand in each other's way, or one has a type that JSON does not have
     */
    static JsonDocumentEncoder of(List<Column> columns, Map<String, String> constants, boolean sqlTimestamps) {
        JsonValues values = new JsonValues(sqlTimestamps);
        Fields fields = new Fields("");
        for (Column column : columns) {
            if (column.path().isEmpty()) {
                return new JsonDocumentEncoder(whole(columns, constants));
            }
            fields.add(column, 0, values);
        }
        constants.forEach((name, json) -> fields.add(name, json));
        return new JsonDocumentEncoder(fields.object());
    }

    /** One column is all of the document. */
    private static Part whole(List<Column> columns, Map<String, String> constants) {
        Column column = columns.get(0);
        if (columns.size() > 1 || !constants.isEmpty()) {
            throw new ValidationException(
                    "a column is the whole document (its path is empty), and there are others: "
                            + String.join(
                                    ", ", columns.stream().map(Column::name).toList())
                            + "; what is written is either one document or columns, so give the table that is written one or the others");
        }
        RowData.FieldGetter getter = RowData.createFieldGetter(column.type(), column.position());
        boolean variant = PlanTypes.isVariant(column.type());
        String name = column.name();
        return (out, row) -> {
            Object value = getter.getFieldOrNull(row);
            if (value == null) {
                throw new IllegalArgumentException(
                        "column '" + name + "', the whole document, is null; a document is a JSON object");
            }
            out.raw((variant ? VariantJson.json(value) : value.toString()).getBytes(StandardCharsets.UTF_8));
        };
    }

    @Override
    public byte[] encode(RowData row) {
        JsonBytes out = new JsonBytes();
        document.write(out, row);
        return out.toBytes();
    }

    /** What writes a part of the document. */
    @FunctionalInterface
    private interface Part extends Serializable {
        void write(JsonBytes out, RowData row);
    }

    /** The fields of an object, while they are being found. */
    private static final class Fields {
        /** Where the object is, for messages. */
        private final String pointer;
        /** In the order of the columns, so that documents look alike and like the table. */
        private final Map<String, Object> members = new LinkedHashMap<>();

        Fields(String pointer) {
            this.pointer = pointer;
        }

        void add(Column column, int depth, JsonValues values) {
            String name = column.path().get(depth);
            if (depth + 1 == column.path().size()) {
                JsonValues.Writer writer = values.of(column.name(), column.type());
                RowData.FieldGetter getter = RowData.createFieldGetter(column.type(), column.position());
                Part part = (out, row) -> writer.write(out, getter.getFieldOrNull(row));
                if (members.putIfAbsent(name, part) != null) {
                    throw clash(column, name);
                }
                return;
            }
            Object inner = members.computeIfAbsent(name, absent -> new Fields(pointer + "/" + absent));
            if (!(inner instanceof Fields object)) {
                throw clash(column, name);
            }
            object.add(column, depth + 1, values);
        }

        void add(String name, String json) {
            byte[] bytes = json.getBytes(StandardCharsets.UTF_8);
            Part part = (out, row) -> out.raw(bytes);
            if (members.putIfAbsent(name, part) != null) {
                throw new ValidationException(
                        "'/" + name + "' is a column already, and is written otherwise; give it another name");
            }
        }

        private ValidationException clash(Column column, String name) {
            return new ValidationException("column '" + column.name() + "' is at " + ColumnPaths.pointer(column.path())
                    + ", and another one is at " + pointer + "/" + name + " or inside of it; a field is one column");
        }

        Part object() {
            byte[][] names = new byte[members.size()][];
            Part[] parts = new Part[members.size()];
            int at = 0;
            for (Map.Entry<String, Object> member : members.entrySet()) {
                names[at] = new JsonBytes()
                        .string(member.getKey().getBytes(StandardCharsets.UTF_8))
                        .raw(':')
                        .toBytes();
                parts[at++] = member.getValue() instanceof Fields object ? object.object() : (Part) member.getValue();
            }
            return (out, row) -> {
                for (int i = 0; i < parts.length; i++) {
                    out.raw(i == 0 ? '{' : ',').raw(names[i]);
                    parts[i].write(out, row);
                }
                out.raw(parts.length == 0 ? "{}" : "}");
            };
        }
    }
}
