package io.cosmosflink.connector.cosmosdb;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonMappingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.exc.InvalidDefinitionException;
import com.fasterxml.jackson.databind.json.JsonMapper;
import io.cosmosflink.core.NotOfRecordException;
import io.cosmosflink.core.RecordFailures;
import io.cosmosflink.core.RecordView;
import java.io.IOException;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.util.Collector;
import org.apache.flink.util.function.SerializableSupplier;

/** The ready schemas. */
final class Schemas {
    private Schemas() {}

    /**
     * Jackson as the job brings it: a tree is of the job's own class, and a POJO may carry Jackson's annotations, so that the connector can
     * neither bring nor rename one. Nothing but {@link Tree} and {@link Pojo} needs it.
     */
    static final class Json {
        /** Shared: mappers are thread-safe once configured. Numbers keep every digit. */
        static final ObjectMapper MAPPER = JsonMapper.builder()
                .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
                .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
                .build();

        private Json() {}
    }

    /**
     * Fails in the user's own line where the job has no Jackson.
     *
     * @param schema what needs it
     */
    static void requireJackson(String schema) {
        try {
            Class.forName("com.fasterxml.jackson.databind.json.JsonMapper", false, Schemas.class.getClassLoader());
        } catch (ClassNotFoundException e) {
            throw new IllegalStateException(
                    schema + " needs Jackson, and there is none; add com.fasterxml.jackson.core:jackson-databind,"
                            + " 2.12 or newer, to the job",
                    e);
        }
    }

    private abstract static class OfDocument<T> implements CosmosDBDeserializationSchema<T> {
        private static final long serialVersionUID = 1L;

        @Override
        public final void deserialize(RecordView record, Collector<T> out) throws IOException {
            if (record.change() != RecordView.Change.DELETE) {
                out.collect(read(record));
            }
        }

        @Override
        public final boolean readsDeletes() {
            return false;
        }

        abstract T read(RecordView record) throws IOException;
    }

    /** Changes, whose documents another schema reads. */
    static final class Changes<T> implements CosmosDBDeserializationSchema<CosmosDBChange<T>> {
        private static final long serialVersionUID = 1L;
        private final CosmosDBDeserializationSchema<T> documents;

        Changes(CosmosDBDeserializationSchema<T> documents) {
            this.documents = documents;
        }

        @Override
        public void open(DeserializationSchema.InitializationContext context) throws Exception {
            documents.open(context);
        }

        @Override
        public void deserialize(RecordView record, Collector<CosmosDBChange<T>> out) throws IOException {
            emit(record, this::read, out);
        }

        /** Of the document and the one before it one may be readable: only what is not is handed on as it is. */
        @Override
        public void deserializeRaw(RecordView record, Throwable error, Collector<CosmosDBChange<T>> out)
                throws IOException {
            emit(record, part -> readOrRaw(part, error), out);
        }

        private void emit(RecordView record, Reading<T> reading, Collector<CosmosDBChange<T>> out) throws IOException {
            CosmosDBChange<T> change = CosmosDBChange.of(record);
            if (!change.deleted()) {
                change.document = reading.of(record);
                if (change.document == null) {
                    return;
                }
            }
            RecordView before = record.previous();
            if (before != null) {
                change.previous = reading.of(before);
            }
            out.collect(change);
        }

        private T read(RecordView part) throws IOException {
            One<T> one = new One<>();
            documents.deserialize(part, one);
            return value(one);
        }

        private T readOrRaw(RecordView part, Throwable error) throws IOException {
            Throwable why = error;
            if (!part.undecodable()) {
                try {
                    return read(part);
                } catch (Throwable e) {
                    if (!RecordFailures.isOfRecord(e)) {
                        throw e;
                    }
                    why = e;
                }
            }
            One<T> one = new One<>();
            documents.deserializeRaw(part, why, one);
            return value(one);
        }

        /** What the schema has emitted, or null. */
        private T value(One<T> one) {
            if (one.count > 1) {
                throw new NotOfRecordException(
                        documents.getClass().getName()
                                + " emits several elements for one document, and a change has one; give changes() a schema that emits one",
                        null);
            }
            return one.value;
        }

        private interface Reading<T> {
            /** What is made of a document, or of the one before it; null where that is nothing. */
            T of(RecordView part) throws IOException;
        }

        private static final class One<T> implements Collector<T> {
            private T value;
            private int count;

            @Override
            public void collect(T element) {
                value = element;
                count++;
            }

            @Override
            public void close() {}
        }

        @Override
        public TypeInformation<CosmosDBChange<T>> getProducedType() {
            return CosmosDBChange.type(documents.getProducedType());
        }
    }

    /** What another schema makes of the documents. */
    static final class WithoutDeletes<T> implements CosmosDBDeserializationSchema<T> {
        private static final long serialVersionUID = 1L;
        private final CosmosDBDeserializationSchema<T> documents;

        WithoutDeletes(CosmosDBDeserializationSchema<T> documents) {
            this.documents = documents;
        }

        @Override
        public void open(DeserializationSchema.InitializationContext context) throws Exception {
            documents.open(context);
        }

        @Override
        public void deserialize(RecordView record, Collector<T> out) throws IOException {
            if (record.change() != RecordView.Change.DELETE) {
                documents.deserialize(record, out);
            }
        }

        @Override
        public void deserializeRaw(RecordView record, Throwable error, Collector<T> out) throws IOException {
            if (record.change() != RecordView.Change.DELETE) {
                documents.deserializeRaw(record, error, out);
            }
        }

        @Override
        public TypeInformation<T> getProducedType() {
            return documents.getProducedType();
        }
    }

    static final class Text extends OfDocument<String> {
        private static final long serialVersionUID = 1L;

        @Override
        String read(RecordView record) {
            return record.text();
        }

        @Override
        public void deserializeRaw(RecordView record, Throwable error, Collector<String> out) throws IOException {
            deserialize(record, out);
        }

        @Override
        public TypeInformation<String> getProducedType() {
            return Types.STRING;
        }
    }

    static final class Tree extends OfDocument<JsonNode> {
        private static final long serialVersionUID = 1L;

        @Override
        JsonNode read(RecordView record) throws IOException {
            return Json.MAPPER.readTree(record.buffer(), record.documentOffset(), record.documentLength());
        }

        @Override
        public TypeInformation<JsonNode> getProducedType() {
            return JsonNodeTypeInfo.INSTANCE;
        }
    }

    static final class Foreign<T> implements CosmosDBDeserializationSchema<T> {
        private static final long serialVersionUID = 1L;

        private final DeserializationSchema<T> schema;

        Foreign(DeserializationSchema<T> schema) {
            this.schema = schema;
        }

        @Override
        public void open(DeserializationSchema.InitializationContext context) throws Exception {
            schema.open(context);
        }

        @Override
        public boolean readsDeletes() {
            return false;
        }

        @Override
        public void deserialize(RecordView record, Collector<T> out) throws IOException {
            if (record.change() != RecordView.Change.DELETE) {
                schema.deserialize(record.document(), out);
            }
        }

        @Override
        public TypeInformation<T> getProducedType() {
            return schema.getProducedType();
        }
    }

    static final class Pojo<T> extends OfDocument<T> {
        private static final long serialVersionUID = 1L;
        private final Class<T> type;
        private final SerializableSupplier<ObjectMapper> mapper;
        private transient ObjectReader reader;

        Pojo(Class<T> type, SerializableSupplier<ObjectMapper> mapper) {
            requireJackson("pojo(" + type.getSimpleName() + ".class)");
            this.type = type;
            this.mapper = mapper;
            // Fails here, in the user's own line, if Flink cannot treat it as a POJO.
            Types.POJO(type);
        }

        /** Fails for a field of a type that the mapper cannot read: no document could be. */
        @Override
        public void open(DeserializationSchema.InitializationContext context) throws IOException {
            ObjectMapper json = mapper == null ? Json.MAPPER : mapper.get();
            reader = json.readerFor(type);
            try {
                ReadableTypes.check(json, type);
            } catch (JsonMappingException e) {
                throw new CosmosDBUnrecoverableException(unreadable(e), e);
            }
        }

        @Override
        T read(RecordView record) throws IOException {
            T value;
            try {
                value = reader.readValue(record.buffer(), record.documentOffset(), record.documentLength());
            } catch (InvalidDefinitionException e) {
                throw new NotOfRecordException(unreadable(e), e);
            }
            if (value == null) {
                // A stream has no element that is nothing: its serializer would fail, again after each restart.
                throw new IOException("it is null, and no " + type.getSimpleName()
                        + " can be made of that; leave such rows out in the query, as with WHERE NOT IS_NULL(..)");
            }
            return value;
        }

        private String unreadable(JsonMappingException e) {
            return "no document can be read as " + type.getName() + ": " + e.getOriginalMessage()
                    + "; give pojo a mapper that knows the type, such as one with its module registered";
        }

        @Override
        public TypeInformation<T> getProducedType() {
            return Types.POJO(type);
        }
    }

    static final class Raw implements CosmosDBDeserializationSchema<CosmosDBRecord> {
        private static final long serialVersionUID = 1L;

        @Override
        public void deserialize(RecordView record, Collector<CosmosDBRecord> out) {
            out.collect(CosmosDBRecord.of(record));
        }

        @Override
        public void deserializeRaw(RecordView record, Throwable error, Collector<CosmosDBRecord> out) {
            deserialize(record, out);
        }

        @Override
        public TypeInformation<CosmosDBRecord> getProducedType() {
            return Types.POJO(CosmosDBRecord.class);
        }
    }
}
