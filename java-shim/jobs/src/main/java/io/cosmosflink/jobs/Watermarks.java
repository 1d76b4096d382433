package io.cosmosflink.jobs;

import io.cosmosflink.connector.cosmosdb.CosmosDBRecord;
import java.time.Duration;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;

/** Event time of both jobs. */
final class Watermarks {
    private static final Duration IDLE = Duration.ofSeconds(10);

    private Watermarks() {}

    /** The service's time never goes back within a feed range; a range without changes does not hold the others up. */
    static WatermarkStrategy<CosmosDBRecord> ofService() {
        return WatermarkStrategy.<CosmosDBRecord>forMonotonousTimestamps().withIdleness(IDLE);
    }
}
