package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.RecordView;
import java.io.Serializable;
import org.apache.flink.annotation.PublicEvolving;
import org.apache.flink.api.common.eventtime.TimestampAssigner;

/** Gives a record its event time. */
@PublicEvolving
@FunctionalInterface
public interface CosmosDBTimestampExtractor<T> extends Serializable {
    /**
     * @param value what the deserialization schema made of the record
     * @param record the record itself, valid during this call
     * @return epoch millis, or {@link TimestampAssigner#NO_TIMESTAMP} for none
     */
    long extract(T value, RecordView record);

    /** The service's {@code _ts}, which counts whole seconds. A row of a query that does not select it has no event time. */
    static <T> CosmosDBTimestampExtractor<T> serviceTime() {
        return (value, record) -> {
            long seconds = record.timestampSeconds();
            return seconds == 0 ? TimestampAssigner.NO_TIMESTAMP : seconds * 1000;
        };
    }
}
