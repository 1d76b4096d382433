package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.Core.Role;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import org.apache.flink.annotation.PublicEvolving;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.connector.sink2.StatefulSinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.connector.base.sink.AsyncSinkBase;
import org.apache.flink.connector.base.sink.writer.BufferedRequestState;
import org.apache.flink.connector.base.sink.writer.ElementConverter;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.apache.flink.streaming.api.lineage.LineageVertex;
import org.apache.flink.streaming.api.lineage.LineageVertexProvider;

/**
 * Writes documents in bulk, at least once: with upserts under deterministic ids each document is stored once. Writes of one document
 * keep their order. What a checkpoint covers is written.
 */
@PublicEvolving
public final class CosmosDBSink<IN> extends AsyncSinkBase<IN, CosmosDBRequestEntry> implements LineageVertexProvider {
    private static final long serialVersionUID = 1L;

    private final CosmosDBOptions options;
    private final Core.Provider core;

    private CosmosDBSink(
            CosmosDBOptions options, Core.Provider core, ElementConverter<IN, CosmosDBRequestEntry> converter) {
        super(
                converter,
                knob(options, "sink.buffer-flush.max-rows"),
                knob(options, "sink.max-in-flight-requests"),
                knob(options, "sink.max-buffered-requests"),
                knob(options, "sink.buffer-flush.max-size"),
                knob(options, "sink.buffer-flush.interval"),
                knob(options, "sink.max-record-size"));
        this.options = options;
        this.core = core;
    }

    /**
     * A number for the base class. Without a core at the client it is not known yet, so it is 0: the writer takes all numbers from
     * the options that the cluster's core validates.
     */
    private static int knob(CosmosDBOptions options, String name) {
        try {
            long number = options.get(name).isPresent() ? options.number(name) : 0;
            return (int) Math.max(0, Math.min(number, Integer.MAX_VALUE));
        } catch (IllegalStateException e) {
            // No number at all: without a core at the client it is the cluster's that says so.
            return 0;
        }
    }

    public static <IN> Builder<IN> builder() {
        return new Builder<>();
    }

    @Override
    public StatefulSinkWriter<IN, BufferedRequestState<CosmosDBRequestEntry>> createWriter(WriterInitContext context) {
        return restoreWriter(context, List.of());
    }

    @Override
    public StatefulSinkWriter<IN, BufferedRequestState<CosmosDBRequestEntry>> restoreWriter(
            WriterInitContext context, Collection<BufferedRequestState<CosmosDBRequestEntry>> states) {
        Core core = Failures.core(this.core);
        return CosmosDBSinkWriter.open(
                getElementConverter(), context, core, options.validatedOnCluster(core, Role.SINK), states);
    }

    @Override
    public SimpleVersionedSerializer<BufferedRequestState<CosmosDBRequestEntry>> getWriterStateSerializer() {
        return new CosmosDBWriterStateSerializer(core);
    }

    /** What is written, for tools that follow data from job to job: the container, by endpoint, database and name. */
    @Override
    public LineageVertex getLineageVertex() {
        return Lineage.ofSink(options);
    }

    @Override
    public String toString() {
        return "CosmosDBSink{" + options + "}";
    }

    /** Collects what a sink needs; {@link #build} checks it. */
    @PublicEvolving
    public static final class Builder<IN> extends OptionsBuilder<Builder<IN>> {
        private ElementConverter<IN, CosmosDBRequestEntry> converter;

        private Builder() {}

        /** What is written for an element. Required; see {@link CosmosDBElementConverter#builder}. */
        public Builder<IN> converter(ElementConverter<IN, CosmosDBRequestEntry> elementConverter) {
            converter = elementConverter;
            return this;
        }

        /**
         * What is written for an element, by one of Flink's schemas that makes JSON: the document's key is what it has at the container's paths,
         * its id what the option {@code sink.id} says, its own field {@code id} unless set. In place of a converter.
         */
        public Builder<IN> serializer(SerializationSchema<IN> schema) {
            return converter(
                    CosmosDBElementConverter.<IN>builder().serializer(schema).build());
        }

        /**
         * What is done with an element that does not say so itself, such as {@code upsert} (the default), {@code create-ignore-existing} or {@code
         * patch}; {@code docs/writing.md} has them all.
         */
        public Builder<IN> writeStrategy(String strategy) {
            return option("sink.write-strategy", strategy);
        }

        /** Most records that are handed to the core at once. */
        public Builder<IN> bufferFlushMaxRows(int records) {
            return option("sink.buffer-flush.max-rows", records);
        }

        /** Most bytes that are handed to the core at once. */
        public Builder<IN> bufferFlushMaxSize(MemorySize size) {
            return option("sink.buffer-flush.max-size", size.getBytes());
        }

        /** Longest time that a record waits for others to be handed over with. */
        public Builder<IN> bufferFlushInterval(Duration interval) {
            return option("sink.buffer-flush.interval", interval.toMillis());
        }

        /**
         * Batches in flight, counted as so many times {@link #bufferFlushMaxRows} records that have not ended; those that a throttled partition holds up do
         * not count, as {@code docs/configuration.md} says.
         */
        public Builder<IN> maxInFlightRequests(int batches) {
            return option("sink.max-in-flight-requests", batches);
        }

        /** Records that are buffered before the job is held back. */
        public Builder<IN> maxBufferedRequests(int records) {
            return option("sink.max-buffered-requests", records);
        }

        /** Most bytes of a record: of its document, or of all operations of a transactional batch together. */
        public Builder<IN> maxRecordSize(MemorySize size) {
            return option("sink.max-record-size", size.getBytes());
        }

        /** {@code fail} (the default), {@code skip} or {@code dead-letter}. */
        public Builder<IN> failureMode(String mode) {
            return option("sink.failure-mode", mode);
        }

        /** Refused writes go to this container of the same database. */
        public Builder<IN> deadLetterContainer(String container) {
            return failureMode("dead-letter").option("sink.dead-letter-container", container);
        }

        private Builder<IN> option(String name, long value) {
            return option(name, Long.toString(value));
        }

        /**
         * @throws io.cosmosflink.core.CosmosException of kind CONFIG when an option is unknown, missing or wrong
         * @throws IllegalStateException when there is no converter
         */
        public CosmosDBSink<IN> build() {
            if (converter == null) {
                throw new IllegalStateException(
                        "a sink needs a converter; build one with CosmosDBElementConverter.builder()");
            }
            return new CosmosDBSink<>(options.validatedIfPossible(core, Role.SINK), core, converter);
        }

        @Override
        Builder<IN> self() {
            return this;
        }
    }
}
