package io.cosmosflink.jobs;

import io.cosmosflink.connector.cosmosdb.CosmosDBRecord;
import java.time.Instant;
import java.util.concurrent.TimeUnit;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichFlatMapFunction;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.metrics.Counter;
import org.apache.flink.streaming.api.datastream.AsyncDataStream;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.util.Collector;

/**
 * The secondary job of the pipeline: reads the processed orders of {@code job.target-container}, delivers them to the consumer, and records in
 * {@code job.output-container} what the consumer has acknowledged. At least once: an event is in a checkpoint until it is recorded.
 */
final class OrderDelivery {
    /** The job's name in Flink unless an option gives another. */
    static final String NAME = "cosmosflink-source";

    private OrderDelivery() {}

    /** The operators. Their uids are in savepoints: they stay. */
    static void define(StreamExecutionEnvironment env, JobSettings settings) {
        DataStream<byte[]> events = env.fromSource(
                        settings.source("job.target-container"), Watermarks.ofService(), "processed")
                .uid("processed-orders")
                .flatMap(new Enrich())
                .returns(PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO)
                .name("enrich")
                .uid("enrich");
        Delivery delivery = Delivery.of(settings);
        // No time limit of the operator's own: the delivery has a deadline, and the job fails when it passes.
        AsyncDataStream.unorderedWait(events, delivery, 0, TimeUnit.MILLISECONDS, delivery.capacity())
                .returns(Types.POJO(OutgoingDocument.class))
                .name("deliver")
                .uid("deliver")
                .sinkTo(settings.sink("job.output-container"))
                .name("delivered")
                .uid("delivered");
    }

    /** Adds what the consumer wants to know, and drops what is no processed order. */
    private static final class Enrich extends RichFlatMapFunction<CosmosDBRecord, byte[]> {
        private static final long serialVersionUID = 1L;

        private transient Counter filtered;

        @Override
        public void open(OpenContext context) {
            filtered = getRuntimeContext().getMetricGroup().counter("filteredRecords");
        }

        @Override
        public void flatMap(CosmosDBRecord record, Collector<byte[]> out) {
            if (record.deleted()) {
                return;
            }
            try {
                out.collect(Orders.outgoing(record.document, Instant.now()).state());
            } catch (BadRecordException e) {
                filtered.inc();
            }
        }
    }
}
