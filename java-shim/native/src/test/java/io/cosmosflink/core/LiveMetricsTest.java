package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;

import io.cosmosflink.core.TestPages.Item;
import java.util.List;
import org.junit.jupiter.api.Test;

class LiveMetricsTest {
    private static final Core CORE = NativeCore.get();

    /** Its metrics are all of one number. */
    private static final class Source extends IdleSource {
        long count;
        int asked;
        boolean closed;

        @Override
        public CoreMetrics metrics() {
            if (closed) {
                throw new CosmosException("the handle is closed", CosmosException.Kind.CLOSED);
            }
            asked++;
            List<CoreMetric> table = CORE.metricTable();
            FrameWriter frame = FrameWriter.frame(FrameKind.METRICS).u32(table.size());
            table.forEach(row -> frame.u64(row.decimal() ? Double.doubleToLongBits(count) : count));
            frame.u32(1).str("split").u64(1000 * count).u64(count);
            return CoreMetrics.decode(frame.toBytes());
        }

        @Override
        public void close() {
            closed = true;
        }
    }

    private final Source source = new Source();

    private static Number value(LiveMetrics metrics, String name) {
        return metrics.value(CoreMetric.named(metrics.gauges(), name));
    }

    /** What dashboards are built on. */
    @Test
    void theGaugesOfBothRolesAreKnownByName() {
        assertThat(new LiveMetrics(CORE, Core.Role.SOURCE).gauges())
                .extracting(CoreMetric::name)
                .containsExactlyInAnyOrder(
                        "requests",
                        "requestUnits",
                        "throttled",
                        "retries",
                        "bytesReceived",
                        "bytesSent",
                        "bufferedBytes",
                        "requestsInFlight",
                        "heldMillis",
                        "requestLatencyP50Ms",
                        "requestLatencyP99Ms",
                        "lagSeconds",
                        "budgetMillis",
                        "splits",
                        "splitsPaused",
                        "undecodable",
                        "nulledFields",
                        "filteredDocuments",
                        "leasesHeld",
                        "leaseRequests",
                        "leaseFailures");
        assertThat(new LiveMetrics(CORE, Core.Role.SINK).gauges())
                .extracting(CoreMetric::name)
                .containsExactlyInAnyOrder(
                        "requests",
                        "requestUnits",
                        "throttled",
                        "retries",
                        "bytesReceived",
                        "bytesSent",
                        "bufferedBytes",
                        "requestsInFlight",
                        "heldMillis",
                        "requestLatencyP50Ms",
                        "requestLatencyP99Ms",
                        "budgetMillis",
                        "operationsWaiting",
                        "failed",
                        "skipped",
                        "deadLettered",
                        "superseded",
                        "bulkRequests",
                        "pointRequests",
                        "bulkRefused",
                        "bulkOff",
                        "partitionsSlowed",
                        "partitionsHeld");
    }

    @Test
    void onlyTheseGaugesAreDoubles() {
        assertThat(CORE.metricTable().stream().filter(CoreMetric::decimal))
                .extracting(CoreMetric::name)
                .containsExactlyInAnyOrder("requestUnits", "lagSeconds", "requestLatencyP50Ms", "requestLatencyP99Ms");
    }

    @Test
    void allGaugesOfOneLookShareASnapshotAndAClosedHandleLeavesItsLastValues() {
        LiveMetrics metrics = new LiveMetrics(CORE, Core.Role.SOURCE);
        assertThat(value(metrics, "requests")).isEqualTo(0L);
        assertThat(value(metrics, "requestUnits")).isEqualTo(0.0);
        metrics.follow(source);
        source.count = 7;
        assertThat(metrics.gauges()).extracting(metrics::value).allSatisfy(v -> assertThat(v.intValue())
                .isEqualTo(7));
        assertThat(source.asked).isOne();
        source.count = 3;
        metrics.forget(source);
        source.close();
        assertThat(value(metrics, "lagSeconds")).as("the very last").isEqualTo(3.0);
    }

    @Test
    void aHandleThatWasClosedByOthersIsNotAskedAgain() {
        LiveMetrics metrics = new LiveMetrics(CORE, Core.Role.SINK);
        source.close();
        metrics.follow(source);
        assertThat(value(metrics, "failed")).isEqualTo(0L);
        source.closed = false;
        assertThat(value(metrics, "failed")).isEqualTo(0L);
        assertThat(source.asked).isZero();
    }

    @Test
    void documentsThatTheJobCouldNotUseAreUndecodableToo() {
        ReaderMetrics metrics = new ReaderMetrics(CORE);
        metrics.follow(source);
        source.count = 2;
        metrics.undecodable(true);
        metrics.undecodable(false);
        assertThat(value(metrics, "undecodable")).isEqualTo(3L);
        assertThat(value(metrics, "splits")).isEqualTo(2L);
    }

    @Test
    void whatTheCoreLeavesOutIsCountedOnceAndASecondHandleBeginsAtZero() {
        ReaderMetrics metrics = new ReaderMetrics(CORE);
        byte[] frame = TestPages.page("s", new byte[] {1}, 0, 5_000_000, List.of(Item.of("a", 4_000)));
        Page page = new Page(frame, frame.length);
        source.count = 3;
        metrics.fetched(page, source, true);
        assertThat(metrics.fetchLagMillis()).isEqualTo(1_000_000);
        assertThat(metrics.newlyLeftOut()).isEqualTo(3);
        assertThat(metrics.newlyLeftOut()).isZero();
        Source second = new Source();
        second.count = 4;
        metrics.fetched(page, second, true);
        assertThat(metrics.newlyLeftOut()).isEqualTo(4);
        second.count = 9;
        metrics.fetched(page, second, false);
        assertThat(metrics.newlyLeftOut()).isZero();
    }
}
