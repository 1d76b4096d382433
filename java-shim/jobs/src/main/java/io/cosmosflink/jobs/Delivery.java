package io.cosmosflink.jobs;

import io.cosmosflink.core.Operation;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.streaming.api.functions.async.ResultFuture;
import org.apache.flink.streaming.api.functions.async.RichAsyncFunction;

/**
 * Sends events to the consumer in batches and hands each on once its batch is acknowledged. What comes in is in the operator's state
 * until then, so it is the core's own form of an operation, which the job of any language restores.
 */
final class Delivery extends RichAsyncFunction<byte[], OutgoingDocument> {
    private static final long serialVersionUID = 1L;
    /** Batches on the wire at one time: enough to hide the round trip, few enough to be fair to other subtasks. */
    private static final int CONCURRENCY = 4;

    private final String transport;
    private final String address;
    private final int batchSize;
    private final long timeoutMillis;
    private final long deadlineMillis;
    private transient Batcher batcher;

    private Delivery(String transport, String address, int batchSize, long timeoutMillis, long deadlineMillis) {
        this.transport = transport;
        this.address = address;
        this.batchSize = batchSize;
        this.timeoutMillis = timeoutMillis;
        this.deadlineMillis = deadlineMillis;
    }

    static Delivery of(JobSettings settings) {
        String transport = settings.text("job.transport");
        return new Delivery(
                transport,
                settings.text("tcp".equals(transport) ? "job.consumer-tcp" : "job.consumer-url"),
                Math.toIntExact(settings.number("job.consumer-batch-size")),
                settings.number("job.consumer-timeout-ms"),
                settings.number("job.consumer-deadline-ms"));
    }

    /** Events under way: all that are on the wire, and as many again that fill the next batches. */
    int capacity() {
        return 2 * CONCURRENCY * batchSize;
    }

    @Override
    public void open(OpenContext context) {
        Duration timeout = Duration.ofMillis(timeoutMillis);
        Transport wire = "tcp".equals(transport)
                ? new TcpTransport(address, timeout, CONCURRENCY)
                : new HttpTransport(address, timeout);
        batcher = new Batcher(wire, batchSize, CONCURRENCY, Duration.ofMillis(deadlineMillis));
        getRuntimeContext().getMetricGroup().gauge("deliveryRetries", batcher::retries);
    }

    @Override
    public void asyncInvoke(byte[] state, ResultFuture<OutgoingDocument> result) {
        Operation event = Operation.decode(Operation.bodyOf(state));
        batcher.offer(event).whenComplete((nothing, failure) -> {
            try {
                if (failure != null) {
                    result.completeExceptionally(failure);
                } else {
                    result.complete(List.of(Orders.delivered(event.document(), Instant.now())));
                }
            } catch (Throwable e) {
                // Also an Error: it would stay in a future that nobody looks at, and the job would wait for ever.
                result.completeExceptionally(e);
            }
        });
    }

    @Override
    public void close() {
        if (batcher != null) {
            batcher.close();
        }
    }
}
