package io.cosmosflink.connector.cosmosdb;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.NullNode;
import java.io.IOException;
import org.apache.flink.annotation.Internal;
import org.apache.flink.annotation.PublicEvolving;
import org.apache.flink.api.common.ExecutionConfig;
import org.apache.flink.api.common.serialization.SerializerConfig;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializer;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.base.TypeSerializerSingleton;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** Type of a JSON tree: it crosses edges as its own JSON text, never through Kryo. */
@PublicEvolving
public final class JsonNodeTypeInfo extends TypeInformation<JsonNode> {
    private static final long serialVersionUID = 1L;

    public static final JsonNodeTypeInfo INSTANCE = new JsonNodeTypeInfo();

    private JsonNodeTypeInfo() {}

    @Override
    public boolean isBasicType() {
        return false;
    }

    @Override
    public boolean isTupleType() {
        return false;
    }

    @Override
    public int getArity() {
        return 1;
    }

    @Override
    public int getTotalFields() {
        return 1;
    }

    @Override
    public Class<JsonNode> getTypeClass() {
        return JsonNode.class;
    }

    @Override
    public boolean isKeyType() {
        return false;
    }

    @Override
    public TypeSerializer<JsonNode> createSerializer(SerializerConfig config) {
        return Serializer.INSTANCE;
    }

    /** Flink 1.20 asks for the serializer in this way; it implements no other. Flink 2 has no such method, so nothing is overridden. */
    public TypeSerializer<JsonNode> createSerializer(ExecutionConfig config) {
        return Serializer.INSTANCE;
    }

    @Override
    public String toString() {
        return "JsonNode";
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof JsonNodeTypeInfo;
    }

    @Override
    public int hashCode() {
        return JsonNodeTypeInfo.class.hashCode();
    }

    @Override
    public boolean canEqual(Object other) {
        return other instanceof JsonNodeTypeInfo;
    }

    /** A length and UTF-8 JSON. */
    @Internal
    public static final class Serializer extends TypeSerializerSingleton<JsonNode> {
        private static final long serialVersionUID = 1L;

        static final Serializer INSTANCE = new Serializer();

        @Override
        public boolean isImmutableType() {
            return false;
        }

        @Override
        public JsonNode createInstance() {
            return NullNode.getInstance();
        }

        @Override
        public JsonNode copy(JsonNode from) {
            return from.deepCopy();
        }

        @Override
        public JsonNode copy(JsonNode from, JsonNode reuse) {
            return copy(from);
        }

        @Override
        public int getLength() {
            return -1;
        }

        @Override
        public void serialize(JsonNode node, DataOutputView out) throws IOException {
            byte[] bytes = Schemas.Json.MAPPER.writeValueAsBytes(node);
            out.writeInt(bytes.length);
            out.write(bytes);
        }

        @Override
        public JsonNode deserialize(DataInputView in) throws IOException {
            byte[] bytes = new byte[in.readInt()];
            in.readFully(bytes);
            return Schemas.Json.MAPPER.readTree(bytes);
        }

        @Override
        public JsonNode deserialize(JsonNode reuse, DataInputView in) throws IOException {
            return deserialize(in);
        }

        @Override
        public void copy(DataInputView in, DataOutputView out) throws IOException {
            int length = in.readInt();
            out.writeInt(length);
            out.write(in, length);
        }

        @Override
        public TypeSerializerSnapshot<JsonNode> snapshotConfiguration() {
            return new Snapshot();
        }
    }

    /** Nothing to remember: the serializer has no configuration. */
    @Internal
    public static final class Snapshot extends SimpleTypeSerializerSnapshot<JsonNode> {
        public Snapshot() {
            super(() -> Serializer.INSTANCE);
        }
    }
}
