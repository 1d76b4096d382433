package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.RecordView;
import java.io.Serializable;
import org.apache.flink.annotation.PublicEvolving;

/** Gives a record its event time. */
@PublicEvolving
@FunctionalInterface
public interface CosmosDBTimestampExtractor<T> extends Serializable {
    /**
     * @param value what the deserialization schema made of the record
     * @param record the record itself, valid during this call
     * @return epoch millis
     */
    long extract(T value, RecordView record);

    /** The service's {@code _ts}, which counts whole seconds. */
    static <T> CosmosDBTimestampExtractor<T> serviceTime() {
        return (value, record) -> record.timestampSeconds() * 1000;
    }
}
