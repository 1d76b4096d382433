package io.cosmosflink.connector.cosmosdb;

import org.apache.flink.connector.base.sink.writer.strategy.RateLimitingStrategy;
import org.apache.flink.connector.base.sink.writer.strategy.RequestInfo;
import org.apache.flink.connector.base.sink.writer.strategy.ResultInfo;

/** A fixed number of batches in flight. Throttling is the core's: it sees every 429, this class none. */
final class FixedConcurrency implements RateLimitingStrategy {
    private final int maxBatchSize;
    private final int maxInFlight;
    private int inFlight;

    FixedConcurrency(int maxBatchSize, int maxInFlight) {
        this.maxBatchSize = maxBatchSize;
        this.maxInFlight = maxInFlight;
    }

    @Override
    public void registerInFlightRequest(RequestInfo request) {
        inFlight++;
    }

    @Override
    public void registerCompletedRequest(ResultInfo result) {
        inFlight = Math.max(0, inFlight - 1);
    }

    @Override
    public boolean shouldBlock(RequestInfo request) {
        return inFlight >= maxInFlight;
    }

    @Override
    public int getMaxBatchSize() {
        return maxBatchSize;
    }
}
