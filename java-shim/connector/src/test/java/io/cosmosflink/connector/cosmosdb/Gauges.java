package io.cosmosflink.connector.cosmosdb;

import org.apache.flink.core.execution.JobClient;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.runtime.testutils.InMemoryReporter;

/** What a reporter has of the gauges of a job. */
final class Gauges {
    private Gauges() {}

    /**
     * All of these together.
     *
     * @param names an expression for their whole names
     */
    static double sum(InMemoryReporter reporter, JobClient job, String names) {
        return reporter.findMetrics(job.getJobID(), names).values().stream()
                .mapToDouble(metric -> ((Number) ((Gauge<?>) metric).getValue()).doubleValue())
                .sum();
    }
}
