package io.cosmosflink.connector.cosmosdb;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import io.cosmosflink.core.RecordView;
import java.io.IOException;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.util.Collector;

/** The ready schemas. */
final class Schemas {
    private Schemas() {}

    /** Shared: mappers are thread-safe once configured. Numbers keep every digit. */
    static final ObjectMapper MAPPER = JsonMapper.builder()
            .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
            .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
            .build();

    private abstract static class OfDocument<T> implements CosmosDBDeserializationSchema<T> {
        private static final long serialVersionUID = 1L;

        @Override
        public final void deserialize(RecordView record, Collector<T> out) throws IOException {
            if (record.change() != RecordView.Change.DELETE) {
                out.collect(read(record));
            }
        }

        abstract T read(RecordView record) throws IOException;
    }

    static final class Text extends OfDocument<String> {
        private static final long serialVersionUID = 1L;

        @Override
        String read(RecordView record) {
            return record.text();
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
            return MAPPER.readTree(record.buffer(), record.documentOffset(), record.documentLength());
        }

        @Override
        public TypeInformation<JsonNode> getProducedType() {
            return JsonNodeTypeInfo.INSTANCE;
        }
    }

    static final class Pojo<T> extends OfDocument<T> {
        private static final long serialVersionUID = 1L;
        private final Class<T> type;

        Pojo(Class<T> type) {
            this.type = type;
            // Fails here, in the user's own line, if Flink cannot treat it as a POJO.
            Types.POJO(type);
        }

        @Override
        T read(RecordView record) throws IOException {
            return MAPPER.readValue(record.buffer(), record.documentOffset(), record.documentLength(), type);
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
        public TypeInformation<CosmosDBRecord> getProducedType() {
            return Types.POJO(CosmosDBRecord.class);
        }
    }
}
