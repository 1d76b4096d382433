package io.cosmosflink.jobs;

import io.cosmosflink.connector.cosmosdb.CosmosDBRecord;
import java.time.Instant;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.metrics.Counter;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.ProcessFunction;
import org.apache.flink.util.Collector;
import org.apache.flink.util.OutputTag;

/**
 * The primary job of the pipeline: reads the orders of {@code job.source-container}, checks and enriches them and upserts them into
 * {@code job.target-container}; what cannot be used goes to {@code job.dead-letter-container}.
 */
final class OrderProcessing {
    /** The job's name in Flink unless an option gives another. */
    static final String NAME = "cosmosflink-sink";

    static final OutputTag<OutgoingDocument> BAD = new OutputTag<>("bad-records", Types.POJO(OutgoingDocument.class));

    private OrderProcessing() {}

    /** The operators. Their uids are in savepoints: they stay. */
    static void define(StreamExecutionEnvironment env, JobSettings settings) {
        SingleOutputStreamOperator<CosmosDBRecord> orders = env.fromSource(
                        settings.source("job.source-container"), Watermarks.ofService(), "orders")
                .uid("orders");
        if (settings.flag("job.count-repeats")) {
            orders = Repeats.count(orders);
        }
        SingleOutputStreamOperator<OutgoingDocument> processed = orders.process(
                        new Process(settings.text("job.source-container")))
                .returns(Types.POJO(OutgoingDocument.class))
                .name("enrich")
                .uid("process");
        processed
                .sinkTo(settings.sink("job.target-container"))
                .name("processed")
                .uid("processed");
        processed
                .getSideOutput(BAD)
                .sinkTo(settings.sink("job.dead-letter-container"))
                .name("dead-letters")
                .uid("dead-letters");
    }

    /** Sends each record on one of the two ways. */
    static final class Process extends ProcessFunction<CosmosDBRecord, OutgoingDocument> {
        private static final long serialVersionUID = 1L;

        private final String container;
        private transient Counter bad;

        Process(String container) {
            this.container = container;
        }

        @Override
        public void open(OpenContext context) {
            bad = getRuntimeContext().getMetricGroup().counter("badRecords");
        }

        @Override
        public void processElement(CosmosDBRecord record, Context context, Collector<OutgoingDocument> out) {
            if (record.deleted()) {
                return;
            }
            Instant now = Instant.now();
            try {
                out.collect(Orders.process(record.document, now));
            } catch (BadRecordException e) {
                bad.inc();
                context.output(
                        BAD,
                        Orders.deadLetter(
                                container,
                                record.id,
                                record.partitionKey,
                                record.document,
                                "process",
                                e.getMessage(),
                                now));
            }
        }
    }
}
