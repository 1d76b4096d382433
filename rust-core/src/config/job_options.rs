//! The options of the demo's jobs. The connector reads none of them.

use super::row::Group::Job as J;
use super::row::{opt, OptionSpec, Type};

/// What the two jobs take besides the connector's own.
#[rustfmt::skip]
pub(super) const JOBS: &[OptionSpec] = &[
    opt(J, "job.name", "JOB_NAME", Type::Text, "", "Name of the job in Flink. Empty: the class's own."),
    opt(J, "job.parallelism", "JOB_PARALLELISM", Type::Int(0, 32_768), "0", "Parallelism of the job; 0 takes the cluster's default."),
    opt(J, "job.source-container", "COSMOS_SOURCE_CONTAINER", Type::Text, "events-source", "Container that the producer writes and the primary job reads."),
    opt(J, "job.target-container", "COSMOS_TARGET_CONTAINER", Type::Text, "events-processed", "Container that the primary job writes and the secondary job reads."),
    opt(J, "job.output-container", "COSMOS_OUTPUT_CONTAINER", Type::Text, "events-output", "Container in which the secondary job records what it delivered."),
    opt(J, "job.dead-letter-container", "COSMOS_DEAD_LETTER_CONTAINER", Type::Text, "dead-letter", "Container for records that the primary job cannot use."),
    opt(J, "job.checkpoint-interval-ms", "CHECKPOINT_INTERVAL_MS", Type::Int(10, 86_400_000), "30000", "Pause between two checkpoints, in milliseconds."),
    opt(J, "job.checkpoint-dir", "CHECKPOINT_DIR", Type::Text, "", "Folder or URL for checkpoints. Empty: the cluster's own setting."),
    opt(J, "job.count-repeats", "JOB_COUNT_REPEATS", Type::Bool, "false", "Whether the primary job counts, in Flink's state, the changes that are not newer than what it has seen of their document. Keeps a number and a time for each document. Not with all versions and deletes. A savepoint of a job that counts is restored by one that does not only with Flink's allowNonRestoredState."),
    opt(J, "job.transport", "CONSUMER_TRANSPORT", Type::Choice(&["http", "tcp"]), "http", "How the secondary job reaches the consumer."),
    opt(J, "job.consumer-url", "CONSUMER_URL", Type::Url, "http://localhost:8090/events", "Where batches are posted over HTTP."),
    opt(J, "job.consumer-tcp", "CONSUMER_TCP_ADDRESS", Type::Text, "localhost:8091", "host:port for the TCP transport, newline-delimited JSON."),
    opt(J, "job.consumer-batch-size", "CONSUMER_BATCH_SIZE", Type::Int(1, 10_000), "200", "Most events in one batch to the consumer."),
    opt(J, "job.consumer-timeout-ms", "CONSUMER_TIMEOUT_MS", Type::Int(100, 600_000), "10000", "Longest time for one batch to the consumer, in milliseconds."),
    opt(J, "job.consumer-deadline-ms", "CONSUMER_DEADLINE_MS", Type::Int(1000, 86_400_000), "300000", "How long a batch is offered to a consumer that is down before the job fails and restarts, in milliseconds."),
];
