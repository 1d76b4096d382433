package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.Core.Role;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.Finality;
import io.cosmosflink.core.LeaseProgress;
import io.cosmosflink.core.Reading;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import org.apache.flink.annotation.Internal;
import org.apache.flink.annotation.PublicEvolving;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.ReaderInfo;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.api.java.typeutils.ResultTypeQueryable;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.streaming.api.lineage.LineageVertex;
import org.apache.flink.streaming.api.lineage.LineageVertexProvider;
import org.apache.flink.util.UserCodeClassLoader;

/**
 * The change feed of a container. Each document's latest version arrives at least once per checkpointed position and exactly once in
 * Flink's state; documents of one feed range arrive in the order of their changes. It has no end unless {@link Builder#bounded} gives it one,
 * or a query is read in its place; then the source is bounded, and may also be run in batch mode. With {@link Builder#changeFeedMode} it is
 * every version of each document, and deletes.
 *
 * <pre>{@code
 * CosmosDBSource<String> source = CosmosDBSource.<String>builder()
 *     .endpoint("https://ACCOUNT.documents.azure.com:443/").keyFile("/run/secrets/cosmos-key")
 *     .database("orders").container("events-source")
 *     .deserializer(CosmosDBDeserializationSchema.string())
 *     .build();
 * }</pre>
 */
@PublicEvolving
public class CosmosDBSource<T>
        implements Source<T, CosmosDBSplit, CosmosDBSourceState>, ResultTypeQueryable<T>, LineageVertexProvider {
    private static final long serialVersionUID = 1L;

    private static final String REASSIGNMENT =
            "org.apache.flink.api.connector.source.SupportsSplitReassignmentOnRecovery";

    private final CosmosDBOptions options;
    private final Core.Provider core;
    /** Null where there are {@link #rows}. */
    private final CosmosDBDeserializationSchema<T> schema;
    /** Null where there is a {@link #schema}. */
    private final CosmosDBRowFormat<T> rows;

    private final CosmosDBTimestampExtractor<T> timestamps;
    /** The state to begin with, where it goes on behind another source; else null. */
    private final byte[] begin;
    /** The JobManager makes all enumerators of a job out of one source, and its metric group keeps the first gauge. */
    private transient UnassignedSplits unassigned;

    CosmosDBSource(Builder<T> builder) {
        this.options = builder.options.validatedIfPossible(builder.core, Role.SOURCE);
        this.core = builder.core;
        this.schema = builder.schema;
        this.rows = builder.rows;
        this.timestamps = builder.timestamps;
        this.begin = builder.begin;
    }

    public static <T> Builder<T> builder() {
        return new Builder<>();
    }

    @Override
    public Boundedness getBoundedness() {
        return Reading.isBounded(options.toMap()) ? Boundedness.BOUNDED : Boundedness.CONTINUOUS_UNBOUNDED;
    }

    @Override
    public SplitEnumerator<CosmosDBSplit, CosmosDBSourceState> createEnumerator(
            SplitEnumeratorContext<CosmosDBSplit> context) throws IOException {
        return restoreEnumerator(context, begin == null ? null : new CosmosDBSourceState(begin));
    }

    @Override
    public SplitEnumerator<CosmosDBSplit, CosmosDBSourceState> restoreEnumerator(
            SplitEnumeratorContext<CosmosDBSplit> context, CosmosDBSourceState state) throws IOException {
        Core core = Failures.core(this.core);
        return new CosmosDBSplitEnumerator(
                context, core, onCluster(core, context.metricGroup()), state, this::reportedBy, unassigned(context));
    }

    /** The splits that a reader which registers was restored with: none before Flink 2.2, where it reads on by itself. */
    List<CosmosDBSplit> reportedBy(ReaderInfo reader) {
        return List.of();
    }

    /** Whether this version of Flink can give restored splits to other readers. */
    static boolean reassigns() {
        try {
            Class.forName(REASSIGNMENT, false, CosmosDBSource.class.getClassLoader());
            return true;
        } catch (ClassNotFoundException e) {
            return false;
        }
    }

    private synchronized UnassignedSplits unassigned(SplitEnumeratorContext<?> context) {
        if (unassigned == null) {
            unassigned = UnassignedSplits.of(context.metricGroup());
        }
        return unassigned;
    }

    @Override
    public SimpleVersionedSerializer<CosmosDBSplit> getSplitSerializer() {
        return new CosmosDBSplitSerializer(core);
    }

    @Override
    public SimpleVersionedSerializer<CosmosDBSourceState> getEnumeratorCheckpointSerializer() {
        return new CosmosDBSourceStateSerializer();
    }

    @Override
    public SourceReader<T, CosmosDBSplit> createReader(SourceReaderContext context) throws Exception {
        Core core = Failures.core(this.core);
        CosmosDBOptions validated = onCluster(core, context.metricGroup());
        if (rows != null) {
            String refusal = rows.refusal(core);
            if (refusal != null) {
                throw new CosmosDBUnrecoverableException(refusal, null);
            }
            return new CosmosDBSourceReader<>(context, core, validated, rows);
        }
        schema.open(new DeserializationSchema.InitializationContext() {
            @Override
            public MetricGroup getMetricGroup() {
                return context.metricGroup().addGroup("deserializer");
            }

            @Override
            public UserCodeClassLoader getUserCodeClassLoader() {
                return context.getUserCodeClassLoader();
            }
        });
        return new CosmosDBSourceReader<>(context, core, validated, schema, timestamps);
    }

    /** The options, checked, with the identity of the job that runs. */
    private CosmosDBOptions onCluster(Core core, MetricGroup group) {
        CosmosDBOptions validated = withRows(core).validatedOnCluster(core, Role.SOURCE);
        return CosmosDBOptions.of(LeaseProgress.identified(validated.toMap(), group.getAllVariables()));
    }

    private CosmosDBOptions withRows(Core core) {
        if (rows == null) {
            return options;
        }
        try {
            return options.with(rows.options(core));
        } catch (CosmosException e) {
            throw Failures.open("no query can be made for the rows", e, Finality.of(options.toMap(), false));
        }
    }

    @Override
    public TypeInformation<T> getProducedType() {
        return rows == null ? schema.getProducedType() : rows.getProducedType();
    }

    /** What is read, for tools that follow data from job to job: the container, by endpoint, database and name. */
    @Override
    public LineageVertex getLineageVertex() {
        return Lineage.ofSource(options, getBoundedness());
    }

    @Override
    public String toString() {
        return "CosmosDBSource{" + options + "}";
    }

    /** Collects what a source needs; {@link #build} checks it. */
    @PublicEvolving
    public static final class Builder<T> extends OptionsBuilder<Builder<T>> {
        private CosmosDBDeserializationSchema<T> schema;
        private CosmosDBRowFormat<T> rows;
        private CosmosDBTimestampExtractor<T> timestamps = CosmosDBTimestampExtractor.serviceTime();
        private byte[] begin;

        private Builder() {}

        /** What becomes of a document. Required. */
        public Builder<T> deserializer(CosmosDBDeserializationSchema<T> deserializer) {
            schema = deserializer;
            return this;
        }

        /**
         * What another schema makes of a document's JSON, such as Flink's own for JSON, or for Avro in its JSON encoding. Deletes are left
         * out. See {@link CosmosDBDeserializationSchema#of}.
         */
        public Builder<T> deserializer(DeserializationSchema<T> deserializer) {
            return deserializer(CosmosDBDeserializationSchema.of(deserializer));
        }

        /** Rows that the core makes, in place of a deserializer. Their event time is the service's {@code _ts}. For the table connector. */
        @Internal
        public Builder<T> rows(CosmosDBRowFormat<T> format) {
            rows = format;
            return this;
        }

        /**
         * Request units per second that all readers of the source may use together for pages, in the long run; 0 does not limit them.
         */
        public Builder<T> requestUnitsPerSecond(long units) {
            return option("scan.request-units-per-second", Long.toString(units));
        }

        /** Lag of a reader from which on Flink is told that the source processes a backlog; zero never tells, nor does a source that ends. */
        public Builder<T> backlogThreshold(Duration lag) {
            return option("scan.backlog-threshold", Long.toString(lag.toMillis()));
        }

        /** Event time of a record; the service's {@code _ts} unless set. */
        public Builder<T> timestamps(CosmosDBTimestampExtractor<T> extractor) {
            timestamps = extractor;
            return this;
        }

        /**
         * What is read: {@code latest-version} (the default), or {@code all-versions-and-deletes}, which needs an account with continuous
         * backup and a {@link #startup} at {@code latest} or {@code initial}.
         */
        public Builder<T> changeFeedMode(String mode) {
            return option("scan.change-feed.mode", mode);
        }

        /**
         * Where to begin without a savepoint: {@code earliest} (the default), {@code latest}, {@code tokens}, {@code leases}, or, with all
         * versions and deletes, {@code initial}: with the container as it is, then with every change of it. At a time: {@link #startupAt}.
         */
        public Builder<T> startup(String mode) {
            return mode("scan.startup", mode);
        }

        /** Begins without a savepoint with what was changed from a moment on. The feed counts whole seconds. */
        public Builder<T> startupAt(Instant time) {
            return at("scan.startup", time);
        }

        /** Begins at the positions of a file, which the JobManager reads; {@link StartTokens} writes it. */
        public Builder<T> startupFromTokens(String file) {
            return startup("tokens").option("scan.startup.tokens-file", file);
        }

        /** Begins where the change feed processor has stopped whose leases {@link #leases} names. */
        public Builder<T> startupFromLeases() {
            return startup("leases");
        }

        /**
         * Publishes progress as leases of change feed processors, after each completed checkpoint; {@code scan.lease.format} says in which
         * form.
         *
         * @param container in the same database, unless {@code scan.lease.database} says another one
         * @param prefix of these leases; jobs and processors that read independently of each other need one each
         */
        public Builder<T> leases(String container, String prefix) {
            return option("scan.lease.container", container).option("scan.lease.prefix", prefix);
        }

        /**
         * Up to where to read: {@code unbounded} (the default: without end) or {@code latest}, which is what was written when the job looked for
         * its feed ranges first. All that was written before is delivered, and the job ends although writers go on. Up to a time: {@link
         * #boundedAt}.
         */
        public Builder<T> bounded(String mode) {
            return mode("scan.bounded", mode);
        }

        /** Reads up to what was written at a moment, and ends. The feed counts whole seconds. */
        public Builder<T> boundedAt(Instant time) {
            return at("scan.bounded", time);
        }

        private Builder<T> at(String what, Instant time) {
            return option(what + ".mode", "timestamp")
                    .option(what + ".timestamp-millis", Long.toString(time.toEpochMilli()));
        }

        private Builder<T> mode(String what, String mode) {
            if (!mode.equals("timestamp")) {
                // What an earlier call has set.
                options = options.without(what + ".timestamp-millis");
            }
            return option(what + ".mode", mode);
        }

        /**
         * Begins where another source of the same container stops, which {@link #bounded} {@code latest} has given positions: for the change
         * feed behind a query, or behind the feed up to a moment, in a {@code HybridSource}. What was changed while the first source read
         * may come twice, and nothing is missing.
         *
         * <pre>{@code
         * HybridSource.builder(CosmosDBSource.<Order>builder()....query("SELECT * FROM c").bounded("latest").build())
         *     .addSource(
         *         context -> CosmosDBSource.<Order>builder()....startBehind(context.getPreviousEnumerator()).build(),
         *         Boundedness.CONTINUOUS_UNBOUNDED)
         *     .build()
         * }</pre>
         *
         * @param previous what the context of the switch has; null after a restore, when the state says where to go on
         * @throws IllegalArgumentException when it is the enumerator of another kind of source
         * @throws CosmosDBUnrecoverableException when its splits have no positions to go on from, which no restart changes
         */
        public Builder<T> startBehind(SplitEnumerator<?, ?> previous) {
            if (previous instanceof CosmosDBSplitEnumerator before) {
                begin = before.following().bytes();
            } else if (previous != null) {
                throw new IllegalArgumentException("a source of Cosmos DB cannot go on behind "
                        + previous.getClass().getName() + "; give the enumerator of a CosmosDBSource");
            }
            return this;
        }

        /**
         * Reads the rows of a SQL query in place of the change feed. Each feed range answers for itself; with {@code ORDER BY}, {@code
         * DISTINCT}, {@code TOP} or {@code OFFSET LIMIT} one reader reads it all. Aggregates and {@code GROUP BY} are refused: they are Flink's.
         */
        public Builder<T> query(String sql) {
            return option("scan.query", sql);
        }

        /**
         * Reads documents by id and partition key in place of the change feed. One that is not there is passed over. A long list is better
         * given as a file ({@code scan.read-many-file}), since this one travels in the job graph.
         *
         * @param keys a JSON array of objects such as <code>{"id":"order-7","partitionKey":["eu"]}</code>
         */
        public Builder<T> readMany(String keys) {
            return option("scan.read-many", keys);
        }

        /** Values of the query's parameters: a JSON object such as <code>{"@status":"open"}</code>. */
        public Builder<T> queryParameters(String json) {
            return option("scan.query-parameters", json);
        }

        /**
         * @throws CosmosException of kind CONFIG when an option is unknown, missing or wrong, or the source has deletes and the
         *     deserializer makes nothing of them
         * @throws IllegalStateException when there is no deserializer
         */
        public CosmosDBSource<T> build() {
            if (schema == null && rows == null) {
                throw new IllegalStateException(
                        "a source needs a deserializer; CosmosDBDeserializationSchema has ready ones");
            }
            boolean deletes = options.get("scan.change-feed.mode")
                    .filter("all-versions-and-deletes"::equals)
                    .isPresent();
            if (deletes && schema != null && !schema.readsDeletes()) {
                throw new CosmosException(
                        "scan.change-feed.mode is all-versions-and-deletes, and the deserializer makes nothing of a delete, which has no document;"
                                + " wrap it: CosmosDBDeserializationSchema.changes(..) has deletes too, withoutDeletes(..) leaves them out",
                        CosmosException.Kind.CONFIG,
                        0,
                        0,
                        "");
            }
            return reassigns() ? ReassigningCosmosDBSource.of(this) : new CosmosDBSource<>(this);
        }

        @Override
        Builder<T> self() {
            return this;
        }
    }
}
