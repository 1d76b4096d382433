import com.azure.cosmos.CosmosAsyncClient;
import com.azure.cosmos.CosmosAsyncContainer;
import com.azure.cosmos.CosmosClientBuilder;
import com.azure.cosmos.models.CosmosChangeFeedRequestOptions;
import com.azure.cosmos.models.FeedRange;
import com.azure.cosmos.models.FeedResponse;
import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.legacy.DiscardingSink;
import org.apache.flink.streaming.api.functions.source.legacy.RichParallelSourceFunction;

/**
 * The least that a team could write to read a container with the vendor's SDK for Java in Flink: {@code read CONTAINER} pulls each feed range
 * from the beginning again and again, in pages of 1000, as {@code JsonNode}, and emits each document, until it is cancelled. It keeps no
 * state, has no splits, no retries and no metrics of its own, which can only make it faster. The account comes from the environment.
 */
public final class PeerJob {
    private PeerJob() {}

    public static void main(String[] arguments) throws Exception {
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        Configuration settings = new Configuration();
        settings.set(PipelineOptions.OBJECT_REUSE, true);
        env.configure(settings);
        // Chained, with objects reused: no document is ever serialized. A source with a thread of its own is chained to a sink of its kind only.
        env.addSource(new Pull(arguments[1]), "documents", TypeInformation.of(JsonNode.class))
                .addSink(new DiscardingSink<>());
        env.execute("cosmosflink-bench-peer");
    }

    private static final class Pull extends RichParallelSourceFunction<JsonNode> {
        private final String name;
        private volatile boolean cancelled;

        Pull(String name) {
            this.name = name;
        }

        @Override
        public void run(SourceContext<JsonNode> context) throws Exception {
            int subtask = getRuntimeContext().getTaskInfo().getIndexOfThisSubtask();
            int parallelism = getRuntimeContext().getTaskInfo().getNumberOfParallelSubtasks();
            if (System.getenv("COSMOS_URI").startsWith("http:")) {
                System.setProperty("COSMOS.HTTP_CONNECTION_WITHOUT_TLS_ALLOWED", "true");
            }
            try (CosmosAsyncClient client = new CosmosClientBuilder()
                    .endpoint(System.getenv("COSMOS_URI"))
                    .key(Files.readString(Path.of(System.getenv("COSMOS_KEY_FILE"))).strip())
                    .gatewayMode()
                    .buildAsyncClient()) {
                CosmosAsyncContainer container =
                        client.getDatabase(System.getenv("COSMOS_DB")).getContainer(name);
                List<FeedRange> ranges = Objects.requireNonNull(container.getFeedRanges().block());
                while (!cancelled) {
                    for (int i = subtask; i < ranges.size() && !cancelled; i += parallelism) {
                        pull(container, ranges.get(i), context);
                    }
                }
            }
        }

        private void pull(CosmosAsyncContainer container, FeedRange range, SourceContext<JsonNode> context) {
            CosmosChangeFeedRequestOptions options = CosmosChangeFeedRequestOptions
                    .createForProcessingFromBeginning(range)
                    .setMaxItemCount(1000);
            // One page ahead: the blocking client's 256 pages do not fit into the heap of a TaskManager.
            for (FeedResponse<JsonNode> page :
                    container.queryChangeFeed(options, JsonNode.class).byPage().toIterable(1)) {
                synchronized (context.getCheckpointLock()) {
                    page.getResults().forEach(context::collect);
                }
                if (cancelled) {
                    return;
                }
            }
        }

        @Override
        public void cancel() {
            cancelled = true;
        }
    }
}
