import com.azure.cosmos.CosmosAsyncClient;
import com.azure.cosmos.CosmosAsyncContainer;
import com.azure.cosmos.CosmosClientBuilder;
import com.azure.cosmos.models.CosmosBulkItemResponse;
import com.azure.cosmos.models.CosmosBulkOperationResponse;
import com.azure.cosmos.models.CosmosBulkOperations;
import com.azure.cosmos.models.CosmosItemOperation;
import com.azure.cosmos.models.PartitionKey;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import reactor.core.publisher.Flux;

/**
 * What a team would write with the vendor's SDK for Java: {@code BulkLoop CONTAINER WARM COUNT DISTINCT BYTES KEYS} upserts DISTINCT orders of about as many
 * bytes again and again through {@code executeBulkOperations}, as one stream. The first WARM are not measured, so that the JVM has compiled what
 * runs. Prints one line of JSON: documents, CPU seconds of the process, seconds, peak of resident memory in MiB. The account is COSMOS_URI,
 * COSMOS_KEY_FILE and COSMOS_DB.
 */
public final class BulkLoop {
    private BulkLoop() {}

    public static void main(String[] arguments) throws Exception {
        long warm = Long.parseLong(arguments[1]);
        long count = Long.parseLong(arguments[2]);
        long distinct = Long.parseLong(arguments[3]);
        List<Order.Line> lines = Order.lines(Integer.parseInt(arguments[4]));
        int keys = Integer.parseInt(arguments[5]);
        try (CosmosAsyncClient client = new CosmosClientBuilder()
                .endpoint(System.getenv("COSMOS_URI"))
                .key(Files.readString(Path.of(System.getenv("COSMOS_KEY_FILE"))).strip())
                .gatewayMode()
                .contentResponseOnWriteEnabled(false)
                .buildAsyncClient()) {
            CosmosAsyncContainer container =
                    client.getDatabase(System.getenv("COSMOS_DB")).getContainer(arguments[0]);
            write(container, warm, distinct, lines, keys);
            long began = System.nanoTime();
            double cpu = cpuSeconds();
            long written = write(container, count, distinct, lines, keys);
            System.out.printf(
                    Locale.ROOT,
                    "{\"documents\":%d,\"cpuSeconds\":%.2f,\"seconds\":%.3f,\"peakMib\":%.0f}%n",
                    written,
                    cpuSeconds() - cpu,
                    (System.nanoTime() - began) / 1e9,
                    peakMib());
        }
        // Its threads need not end by themselves.
        System.exit(0);
    }

    private static long write(
            CosmosAsyncContainer container, long count, long distinct, List<Order.Line> lines, int keys) {
        Flux<CosmosItemOperation> operations = Flux.generate(() -> 0L, (i, sink) -> {
            if (i == count) {
                sink.complete();
                return i;
            }
            Order order = new Order(i % distinct, keys, lines);
            sink.next(CosmosBulkOperations.getUpsertItemOperation(order, new PartitionKey(order.customerId)));
            return i + 1;
        });
        Long written = container
                .executeBulkOperations(operations)
                .doOnNext(BulkLoop::check)
                .count()
                .block();
        return written == null ? 0 : written;
    }

    private static void check(CosmosBulkOperationResponse<Object> answer) {
        CosmosBulkItemResponse response = answer.getResponse();
        if (response == null || !response.isSuccessStatusCode()) {
            throw new IllegalStateException("an operation was not carried out", answer.getException());
        }
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
