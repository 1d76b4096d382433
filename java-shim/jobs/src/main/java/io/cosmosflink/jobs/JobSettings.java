package io.cosmosflink.jobs;

import io.cosmosflink.connector.cosmosdb.CosmosDBDeserializationSchema;
import io.cosmosflink.connector.cosmosdb.CosmosDBElementConverter;
import io.cosmosflink.connector.cosmosdb.CosmosDBOptions;
import io.cosmosflink.connector.cosmosdb.CosmosDBRecord;
import io.cosmosflink.connector.cosmosdb.CosmosDBSink;
import io.cosmosflink.connector.cosmosdb.CosmosDBSource;
import io.cosmosflink.core.Arguments;
import io.cosmosflink.core.Core.Role;
import io.cosmosflink.core.OperationKind;
import java.time.Duration;
import java.util.Map;
import java.util.function.BiConsumer;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.ExternalizedCheckpointRetention;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.core.execution.CheckpointingMode;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/** A job's options, and what both jobs build out of them in the same way. */
final class JobSettings {
    private final CosmosDBOptions options;

    private JobSettings(CosmosDBOptions options) {
        this.options = options;
    }

    /** Options from {@code --name value} arguments and the environment, checked. */
    static JobSettings of(String[] arguments, Map<String, String> environment) {
        CosmosDBOptions given = CosmosDBOptions.fromEnvironmentAndArguments(Arguments.parse(arguments), environment);
        return new JobSettings(given.validated(Role.JOB));
    }

    /** Runs a job: reads its options, sets up the environment, has its operators defined and executes them. */
    static void run(String name, String[] arguments, BiConsumer<StreamExecutionEnvironment, JobSettings> define)
            throws Exception {
        JobSettings settings = of(arguments, System.getenv());
        StreamExecutionEnvironment env = settings.configure(StreamExecutionEnvironment.getExecutionEnvironment());
        define.accept(env, settings);
        env.execute(settings.jobName(name));
    }

    /** All of them, defaults included. */
    CosmosDBOptions options() {
        return options;
    }

    String text(String option) {
        return options.require(option);
    }

    long number(String option) {
        return options.number(option);
    }

    boolean flag(String option) {
        return Boolean.parseBoolean(text(option));
    }

    String jobName(String otherwise) {
        return options.get("job.name").filter(name -> !name.isEmpty()).orElse(otherwise);
    }

    /** Puts what a job of this pipeline needs into an environment; what the cluster's own configuration sets otherwise stays. */
    StreamExecutionEnvironment configure(StreamExecutionEnvironment env) {
        Configuration settings = new Configuration();
        // Nothing may cross an edge or sit in state through a generic serializer.
        settings.set(PipelineOptions.GENERIC_TYPES, false);
        // No function of these jobs keeps or changes an element after it was handed on.
        settings.set(PipelineOptions.OBJECT_REUSE, true);
        settings.set(
                CheckpointingOptions.CHECKPOINTING_INTERVAL, Duration.ofMillis(number("job.checkpoint-interval-ms")));
        settings.set(CheckpointingOptions.CHECKPOINTING_CONSISTENCY_MODE, CheckpointingMode.EXACTLY_ONCE);
        settings.set(
                CheckpointingOptions.EXTERNALIZED_CHECKPOINT_RETENTION,
                ExternalizedCheckpointRetention.RETAIN_ON_CANCELLATION);
        // Their state is a language's own where records are in flight; without them a job of either language restores
        // it.
        settings.set(CheckpointingOptions.ENABLE_UNALIGNED, false);
        // A consumer that is down holds checkpoints back; that alone is no reason to fail.
        settings.set(CheckpointingOptions.TOLERABLE_FAILURE_NUMBER, 10);
        options.get("job.checkpoint-dir")
                .filter(dir -> !dir.isEmpty())
                .ifPresent(dir -> settings.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, dir));
        settings.set(RestartStrategyOptions.RESTART_STRATEGY, "exponential-delay");
        settings.set(RestartStrategyOptions.RESTART_STRATEGY_EXPONENTIAL_DELAY_INITIAL_BACKOFF, Duration.ofSeconds(1));
        settings.set(RestartStrategyOptions.RESTART_STRATEGY_EXPONENTIAL_DELAY_MAX_BACKOFF, Duration.ofSeconds(30));
        settings.set(
                RestartStrategyOptions.RESTART_STRATEGY_EXPONENTIAL_DELAY_RESET_BACKOFF_THRESHOLD,
                Duration.ofMinutes(5));
        // More than half an hour of failures at once: a key that was rotated, or a role, takes minutes to arrive
        // everywhere.
        settings.set(RestartStrategyOptions.RESTART_STRATEGY_EXPONENTIAL_DELAY_ATTEMPTS, 80);
        env.configure(settings);
        int parallelism = Math.toIntExact(number("job.parallelism"));
        if (parallelism > 0) {
            env.setParallelism(parallelism);
        }
        return env;
    }

    /** Everything that changes in the container that an option names. */
    CosmosDBSource<CosmosDBRecord> source(String containerOption) {
        return CosmosDBSource.<CosmosDBRecord>builder()
                .options(options)
                .container(text(containerOption))
                .deserializer(CosmosDBDeserializationSchema.raw())
                .build();
    }

    /** Upserts into the container that an option names. */
    CosmosDBSink<OutgoingDocument> sink(String containerOption) {
        return CosmosDBSink.<OutgoingDocument>builder()
                .options(options)
                .container(text(containerOption))
                .converter(CosmosDBElementConverter.<OutgoingDocument>builder()
                        .id(d -> d.id)
                        .partitionKey(d -> d.partitionKey)
                        .document(d -> d.document)
                        // Dead letters too: whatever the job's options say of other records.
                        .operation(d -> OperationKind.UPSERT)
                        .build())
                .build();
    }
}
