package io.cosmosflink.jobs;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.Map;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.graph.StreamGraph;
import org.apache.flink.streaming.api.graph.StreamNode;
import org.junit.jupiter.api.Test;

class JobSettingsTest {
    private static final Map<String, String> ENVIRONMENT = Map.of(
            "COSMOS_URI",
            "https://a.example/",
            "COSMOS_DB",
            "orders",
            "COSMOS_KEY",
            "c2VjcmV0",
            "CHECKPOINT_INTERVAL_MS",
            "1000",
            "PATH",
            "/bin");

    @Test
    void bothJobsKeepTheirCheckpointsAndEveryOperatorHasItsUid() {
        JobSettings settings =
                JobSettings.of(new String[] {"--job.checkpoint-dir", "file:///checkpoints"}, ENVIRONMENT);
        StreamExecutionEnvironment env = settings.configure(new StreamExecutionEnvironment());
        OrderProcessing.define(env, settings);
        OrderDelivery.define(env, settings);
        StreamGraph graph = env.getStreamGraph();
        assertThat(graph.getStreamNodes())
                .filteredOn(node ->
                        !node.getInEdges().isEmpty() || !node.getOutEdges().isEmpty())
                .extracting(StreamNode::getTransformationUID)
                .doesNotContainNull()
                .doesNotHaveDuplicates();
        ReadableConfig configuration = env.getConfiguration();
        assertThat(configuration.get(CheckpointingOptions.CHECKPOINTING_INTERVAL))
                .isEqualTo(Duration.ofSeconds(1));
        assertThat(configuration.get(CheckpointingOptions.CHECKPOINTS_DIRECTORY))
                .isEqualTo("file:///checkpoints");
        assertThat(configuration
                        .get(CheckpointingOptions.EXTERNALIZED_CHECKPOINT_RETENTION)
                        .name())
                .isEqualTo("RETAIN_ON_CANCELLATION");
        assertThat(configuration.get(PipelineOptions.GENERIC_TYPES)).isFalse();
        assertThat(configuration.get(CheckpointingOptions.ENABLE_UNALIGNED))
                .as("their state would be one language's own")
                .isFalse();
    }

    /** So long may a key that was rotated, or a role, take to arrive everywhere. */
    @Test
    void sevenMinutesOfFailuresAtOnceDoNotEndAJob() {
        ReadableConfig configuration = JobSettings.of(new String[0], ENVIRONMENT)
                .configure(new StreamExecutionEnvironment())
                .getConfiguration();
        double pause = configuration
                .get(RestartStrategyOptions.RESTART_STRATEGY_EXPONENTIAL_DELAY_INITIAL_BACKOFF)
                .toMillis();
        long most = configuration
                .get(RestartStrategyOptions.RESTART_STRATEGY_EXPONENTIAL_DELAY_MAX_BACKOFF)
                .toMillis();
        double all = 0;
        for (int i = 0;
                i < configuration.get(RestartStrategyOptions.RESTART_STRATEGY_EXPONENTIAL_DELAY_ATTEMPTS);
                i++) {
            all += pause;
            pause = Math.min(
                    most,
                    pause
                            * configuration.get(
                                    RestartStrategyOptions.RESTART_STRATEGY_EXPONENTIAL_DELAY_BACKOFF_MULTIPLIER));
        }
        assertThat(Duration.ofMillis((long) all)).isGreaterThan(Duration.ofMinutes(7));
    }

    @Test
    void aStrayArgumentIsNamedByItsPlaceAndShowsNoSecret() {
        String[] arguments = {"--job.name", "a", "--auth.secret-key", "c2VjcmV0", "stray"};
        assertThatThrownBy(() -> JobSettings.of(arguments, Map.of()))
                .hasMessage("argument 5 does not begin with --; give options as --name value")
                .hasNoCause();
        assertThatThrownBy(() -> JobSettings.of(new String[] {"--auth.secret-key=c2VjcmV0"}, Map.of()))
                .hasMessage("argument --auth.secret-key has its value behind a =; give it as --auth.secret-key VALUE");
    }
}
