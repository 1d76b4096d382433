package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Submissions;
import org.apache.flink.connector.base.sink.writer.strategy.RateLimitingStrategy;
import org.apache.flink.connector.base.sink.writer.strategy.RequestInfo;
import org.apache.flink.connector.base.sink.writer.strategy.ResultInfo;

/**
 * Batches go out for as long as the core has room: it sees every 429 and knows how many records and bytes have not been written, this class
 * neither. A batch of which one record is left would count here like a whole one.
 */
final class CoreDecides implements RateLimitingStrategy {
    private final int maxBatchSize;
    private final Submissions.Room room;

    CoreDecides(int maxBatchSize, Submissions.Room room) {
        this.maxBatchSize = maxBatchSize;
        this.room = room;
    }

    @Override
    public void registerInFlightRequest(RequestInfo request) {}

    @Override
    public void registerCompletedRequest(ResultInfo result) {}

    @Override
    public boolean shouldBlock(RequestInfo request) {
        return room.isFull();
    }

    @Override
    public int getMaxBatchSize() {
        return maxBatchSize;
    }
}
