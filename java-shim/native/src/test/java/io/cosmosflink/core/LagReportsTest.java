package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class LagReportsTest {
    private static final String THRESHOLD = "scan.backlog-threshold";

    private static List<Long> told(Map<String, String> options, long... lags) {
        List<Long> told = new ArrayList<>();
        LagReports reports = new LagReports(options, told::add);
        for (long millis : lags) {
            reports.look(() -> millis);
        }
        return told;
    }

    @Test
    void theEnumeratorHearsOfTheFirstLagAndOfThoseThatPassTheThresholdOrHalfOfIt() {
        assertThat(told(Map.of(THRESHOLD, "1000"), 10, 20, 499, 500, 700, 999, 1000, 90_000, 600, 500, 499, 0))
                .containsExactly(10L, 500L, 1000L, 600L, 499L);
    }

    @Test
    void withoutAThresholdNothingIsTold() {
        assertThat(told(Map.of(THRESHOLD, "0"), 0, 90_000)).isEmpty();
        assertThat(told(Map.of(), 0, 90_000)).isEmpty();
    }

    /** A {@code HybridSource} tells Flink of a backlog for as long as a part is read that ends. */
    @Test
    void nothingIsToldOfASourceThatEnds() {
        assertThat(told(Map.of(THRESHOLD, "1000", "scan.bounded.mode", "latest"), 0, 90_000))
                .isEmpty();
        assertThat(told(Map.of(THRESHOLD, "1000", "scan.query", "SELECT * FROM c"), 0, 90_000))
                .isEmpty();
        assertThat(told(Map.of(THRESHOLD, "1000", "scan.bounded.mode", "unbounded"), 90_000))
                .containsExactly(90_000L);
    }

    @Test
    void readersOfOneOperatorAreAGroupAndThoseWithoutANameAreAlone() {
        Map<String, String> variables = Map.of("<job_id>", "j", "<operator_id>", "o", "<host>", "h");
        assertThat(Core.Peers.of(4, variables)).isEqualTo(new Core.Peers(4, "j/o"));
        assertThat(Core.Peers.of(0, Map.of("<job_id>", "j"))).isEqualTo(Core.Peers.NONE);
    }
}
