package io.cosmosflink.connector.cosmosdb;

import com.fasterxml.jackson.databind.DeserializationContext;
import com.fasterxml.jackson.databind.JavaType;
import com.fasterxml.jackson.databind.JsonDeserializer;
import com.fasterxml.jackson.databind.JsonMappingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.deser.BeanDeserializerBase;
import com.fasterxml.jackson.databind.deser.DefaultDeserializationContext;
import com.fasterxml.jackson.databind.deser.SettableBeanProperty;
import com.fasterxml.jackson.databind.deser.impl.UnsupportedTypeDeserializer;
import com.fasterxml.jackson.databind.deser.std.ContainerDeserializerBase;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.Iterator;
import java.util.Set;

/**
 * Looks, before there is a document, for the fields that a mapper cannot read. Jackson itself says so only once a document has such a
 * field, as for {@code java.time} without its module.
 */
final class ReadableTypes {
    private final DeserializationContext context;
    private final Set<JsonDeserializer<?>> seen = Collections.newSetFromMap(new IdentityHashMap<>());

    private ReadableTypes(DeserializationContext context) {
        this.context = context;
    }

    /** @throws JsonMappingException when the type, or one of its fields' types, cannot be read */
    static void check(ObjectMapper mapper, Class<?> type) throws JsonMappingException {
        DefaultDeserializationContext blueprint = (DefaultDeserializationContext) mapper.getDeserializationContext();
        DeserializationContext context = blueprint.createInstance(
                mapper.getDeserializationConfig(),
                mapper.treeAsTokens(mapper.createObjectNode()),
                mapper.getInjectableValues());
        JavaType root = mapper.constructType(type);
        new ReadableTypes(context).check(context.findRootValueDeserializer(root), root, type.getSimpleName());
    }

    private void check(JsonDeserializer<?> reads, JavaType type, String path) throws JsonMappingException {
        if (reads == null || !seen.add(reads)) {
            return;
        }
        if (reads instanceof UnsupportedTypeDeserializer) {
            context.reportBadDefinition(
                    type, path + " is of type " + type.toCanonical() + ", which the mapper cannot read");
        }
        JsonDeserializer<?> inner = reads.getDelegatee();
        if (inner != null) {
            check(inner, type, path);
        }
        if (reads instanceof BeanDeserializerBase bean) {
            for (Iterator<SettableBeanProperty> all = bean.properties(); all.hasNext(); ) {
                SettableBeanProperty property = all.next();
                check(property.getValueDeserializer(), property.getType(), path + "." + property.getName());
            }
        } else if (reads instanceof ContainerDeserializerBase<?> container) {
            JavaType content = type.getContentType();
            check(container.getContentDeserializer(), content == null ? type : content, path + "[]");
        }
    }
}
