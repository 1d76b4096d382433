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
import java.util.Locale;
import java.util.Objects;
import java.util.concurrent.atomic.LongAdder;
import reactor.core.publisher.Flux;

/**
 * What a team would write with the vendor's SDK for Java: {@code FeedLoop CONTAINER WARM COUNT} pulls the change feed of a container from the
 * beginning, all feed ranges at once, in pages of 1000, as {@code JsonNode}, again and again. The first WARM documents are not measured, so
 * that the JVM has compiled what runs; then it reads on to the end of the pass in which COUNT more are there. Prints one line of JSON:
 * documents, CPU seconds of the process, seconds, peak of resident memory in MiB. The account is COSMOS_URI, COSMOS_KEY_FILE and COSMOS_DB.
 */
public final class FeedLoop {
    private FeedLoop() {}

    public static void main(String[] arguments) throws Exception {
        long warm = Long.parseLong(arguments[1]);
        long count = Long.parseLong(arguments[2]);
        try (CosmosAsyncClient client = new CosmosClientBuilder()
                .endpoint(System.getenv("COSMOS_URI"))
                .key(Files.readString(Path.of(System.getenv("COSMOS_KEY_FILE"))).strip())
                .gatewayMode()
                .buildAsyncClient()) {
            CosmosAsyncContainer container =
                    client.getDatabase(System.getenv("COSMOS_DB")).getContainer(arguments[0]);
            List<FeedRange> ranges = Objects.requireNonNull(container.getFeedRanges().block());
            for (long read = 0; read < warm; ) {
                read += pass(container, ranges);
            }
            long began = System.nanoTime();
            double cpu = cpuSeconds();
            long read = 0;
            while (read < count) {
                read += pass(container, ranges);
            }
            System.out.printf(
                    Locale.ROOT,
                    "{\"documents\":%d,\"cpuSeconds\":%.2f,\"seconds\":%.3f,\"peakMib\":%.0f}%n",
                    read,
                    cpuSeconds() - cpu,
                    (System.nanoTime() - began) / 1e9,
                    peakMib());
        }
    }

    /** Reads all ranges to their end once; returns how many documents came. */
    private static long pass(CosmosAsyncContainer container, List<FeedRange> ranges) {
        LongAdder read = new LongAdder();
        Flux.fromIterable(ranges)
                .flatMap(
                        range -> container
                                .queryChangeFeed(
                                        CosmosChangeFeedRequestOptions.createForProcessingFromBeginning(range)
                                                .setMaxItemCount(1000),
                                        JsonNode.class)
                                .byPage()
                                .doOnNext((FeedResponse<JsonNode> page) -> read.add(page.getResults().size())),
                        ranges.size())
                .blockLast();
        if (read.sum() == 0) {
            throw new IllegalStateException("the container has no documents");
        }
        return read.sum();
    }

    /** As the kernel counts it (proc(5), in ticks of 10 ms). */
    private static double cpuSeconds() throws Exception {
        String stat = Files.readString(Path.of("/proc/self/stat"));
        String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
        return (Long.parseLong(fields[11]) + Long.parseLong(fields[12])) / 100.0;
    }

    private static double peakMib() throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmHWM:")) {
                return Long.parseLong(line.replaceAll("\\D", "")) / 1024.0;
            }
        }
        throw new IllegalStateException("no VmHWM");
    }
}
