import com.azure.cosmos.CosmosAsyncClient;
import com.azure.cosmos.CosmosAsyncContainer;
import com.azure.cosmos.CosmosClientBuilder;
import com.azure.cosmos.models.CosmosBulkItemResponse;
import com.azure.cosmos.models.CosmosBulkOperations;
import com.azure.cosmos.models.CosmosItemOperation;
import com.azure.cosmos.models.PartitionKey;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.Serializable;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.connector.sink2.StatefulSinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.connector.base.sink.AsyncSinkBase;
import org.apache.flink.connector.base.sink.writer.AsyncSinkWriter;
import org.apache.flink.connector.base.sink.writer.AsyncSinkWriterStateSerializer;
import org.apache.flink.connector.base.sink.writer.BufferedRequestState;
import org.apache.flink.connector.base.sink.writer.ElementConverter;
import org.apache.flink.connector.base.sink.writer.ResultHandler;
import org.apache.flink.connector.base.sink.writer.config.AsyncSinkWriterConfiguration;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import reactor.core.publisher.Flux;

/**
 * The least that a team could write to upsert into a container with the vendor's SDK for Java in Flink: {@code write CONTAINER DISTINCT BYTES KEYS}
 * hands orders of a class of its own to {@code executeBulkOperations} from Flink's {@code AsyncSinkWriter}, until it is cancelled. Batches and buffers are as large
 * as the connector's. What the service turns away is given back to the writer, in whatever order. It has no order of writes, no dead letters and no
 * metrics of its own, which can only make it faster. The account comes from the environment.
 */
public final class PeerSinkJob {
    private PeerSinkJob() {}

    public static void main(String[] arguments) throws Exception {
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        Configuration settings = new Configuration();
        settings.set(PipelineOptions.OBJECT_REUSE, true);
        env.configure(settings);
        long distinct = Long.parseLong(arguments[2]);
        int bytes = Integer.parseInt(arguments[3]);
        int keys = Integer.parseInt(arguments[4]);
        env.fromSequence(0, Long.MAX_VALUE - 1)
                .map(new Orders(distinct, bytes, keys))
                .returns(TypeInformation.of(Order.class))
                .sinkTo(new Upserts(arguments[1], bytes));
        env.execute("cosmosflink-bench-peer-sink");
    }

    private static final class Orders implements org.apache.flink.api.common.functions.MapFunction<Long, Order> {
        private final long distinct;
        private final int bytes;
        private final int keys;
        private transient List<Order.Line> lines;

        Orders(long distinct, int bytes, int keys) {
            this.distinct = distinct;
            this.bytes = bytes;
            this.keys = keys;
        }

        @Override
        public Order map(Long i) {
            if (lines == null) {
                lines = Order.lines(bytes);
            }
            return new Order(i % distinct, keys, lines);
        }
    }

    /** An order in the writer's buffer; it becomes JSON when it is stored in a checkpoint or sent. */
    private static final class Entry implements Serializable {
        private final transient Order order;

        Entry(Order order) {
            this.order = order;
        }
    }

    private static final class Upserts extends AsyncSinkBase<Order, Entry> {
        private final String container;
        private final int bytes;

        Upserts(String container, int bytes) {
            super((ElementConverter<Order, Entry>) (order, context) -> new Entry(order), 500, 8, 10_000, 5 << 20, 50, 5 << 20);
            this.container = container;
            this.bytes = bytes;
        }

        @Override
        public StatefulSinkWriter<Order, BufferedRequestState<Entry>> createWriter(WriterInitContext context)
                throws IOException {
            return new Writer(getElementConverter(), context, container, bytes, Collections.emptyList());
        }

        @Override
        public StatefulSinkWriter<Order, BufferedRequestState<Entry>> restoreWriter(
                WriterInitContext context, Collection<BufferedRequestState<Entry>> states) throws IOException {
            return new Writer(getElementConverter(), context, container, bytes, states);
        }

        @Override
        public SimpleVersionedSerializer<BufferedRequestState<Entry>> getWriterStateSerializer() {
            return new Entries();
        }
    }

    private static final class Writer extends AsyncSinkWriter<Order, Entry> {
        private final CosmosAsyncClient client;
        private final CosmosAsyncContainer container;
        private final int bytes;

        Writer(
                ElementConverter<Order, Entry> converter,
                WriterInitContext context,
                String container,
                int bytes,
                Collection<BufferedRequestState<Entry>> states)
                throws IOException {
            super(
                    converter,
                    context,
                    AsyncSinkWriterConfiguration.builder()
                            .setMaxBatchSize(500)
                            .setMaxBatchSizeInBytes(5 << 20)
                            .setMaxInFlightRequests(8)
                            .setMaxBufferedRequests(10_000)
                            .setMaxTimeInBufferMS(50)
                            .setMaxRecordSizeInBytes(5 << 20)
                            .build(),
                    states);
            if (System.getenv("COSMOS_URI").startsWith("http:")) {
                System.setProperty("COSMOS.HTTP_CONNECTION_WITHOUT_TLS_ALLOWED", "true");
            }
            this.bytes = bytes;
            this.client = new CosmosClientBuilder()
                    .endpoint(System.getenv("COSMOS_URI"))
                    .key(Files.readString(Path.of(System.getenv("COSMOS_KEY_FILE"))).strip())
                    .gatewayMode()
                    .contentResponseOnWriteEnabled(false)
                    .buildAsyncClient();
            this.container = client.getDatabase(System.getenv("COSMOS_DB")).getContainer(container);
        }

        @Override
        protected void submitRequestEntries(List<Entry> entries, ResultHandler<Entry> handler) {
            Queue<Entry> again = new ConcurrentLinkedQueue<>();
            Flux<CosmosItemOperation> operations = Flux.fromIterable(entries)
                    .map(entry -> CosmosBulkOperations.getUpsertItemOperation(
                            entry.order, new PartitionKey(entry.order.customerId), entry));
            container
                    .<Entry>executeBulkOperations(operations)
                    .subscribe(
                            answer -> {
                                CosmosBulkItemResponse response = answer.getResponse();
                                if (response == null || !response.isSuccessStatusCode()) {
                                    again.add(answer.getOperation().getContext());
                                }
                            },
                            error -> handler.completeExceptionally(new IOException(error)),
                            () -> handler.retryForEntries(List.copyOf(again)));
        }

        @Override
        protected long getSizeInBytes(Entry entry) {
            return bytes;
        }

        @Override
        public void close() {
            super.close();
            client.close();
        }
    }

    private static final class Entries extends AsyncSinkWriterStateSerializer<Entry> {
        private static final ObjectMapper JSON = new ObjectMapper();

        @Override
        protected void serializeRequestToStream(Entry entry, DataOutputStream out) throws IOException {
            byte[] json = JSON.writeValueAsBytes(entry.order);
            out.writeInt(json.length);
            out.write(json);
        }

        @Override
        protected Entry deserializeRequestFromStream(long size, DataInputStream in) throws IOException {
            byte[] json = new byte[in.readInt()];
            in.readFully(json);
            return new Entry(JSON.readValue(json, Order.class));
        }

        @Override
        public int getVersion() {
            return 1;
        }
    }
}
