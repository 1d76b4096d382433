package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.NativeCore;
import io.cosmosflink.core.SplitEntry;
import java.io.ByteArrayInputStream;
import java.io.DataInputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.annotation.PublicEvolving;
import org.apache.flink.api.common.ExecutionConfig;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.typeutils.base.array.BytePrimitiveArraySerializer;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.GlobalConfiguration;
import org.apache.flink.core.fs.CloseableRegistry;
import org.apache.flink.core.fs.FileSystem;
import org.apache.flink.core.fs.Path;
import org.apache.flink.core.plugin.PluginUtils;
import org.apache.flink.runtime.checkpoint.Checkpoints;
import org.apache.flink.runtime.checkpoint.OperatorState;
import org.apache.flink.runtime.checkpoint.OperatorSubtaskState;
import org.apache.flink.runtime.checkpoint.metadata.CheckpointMetadata;
import org.apache.flink.runtime.state.DefaultOperatorStateBackend;
import org.apache.flink.runtime.state.DefaultOperatorStateBackendBuilder;
import org.apache.flink.runtime.state.OperatorStateHandle;

/**
 * Writes the positions of a source into a file, from which another job begins with {@code scan.startup.mode=tokens}: out of a savepoint or a
 * retained checkpoint, or out of the last checkpoint of a job that runs. It reads the state of the Java and of the Scala connector alike.
 *
 * <pre>{@code
 * java -cp "$FLINK_HOME/lib/*:job.jar" io.cosmosflink.connector.cosmosdb.StartTokens --savepoint s3://bucket/savepoint-1 --output tokens.json
 * java -cp "$FLINK_HOME/lib/*:job.jar" io.cosmosflink.connector.cosmosdb.StartTokens --rest http://localhost:8081 --job ID --output tokens.json
 * }</pre>
 */
@PublicEvolving
public final class StartTokens {
    private static final String USAGE =
            "usage: StartTokens (--savepoint PATH | --rest URL --job ID) --output FILE [--operator ID]";
    private static final Set<String> NAMES = Set.of("savepoint", "rest", "job", "output", "operator");
    /** Where Flink keeps the splits of a reader. */
    private static final String READER_STATE = "SourceReaderState";

    private static final byte[] SPLIT = {'C', 'F', 'S'};
    private static final byte[] ENUMERATOR = {'C', 'F', 'E'};
    private static final Pattern LAST_CHECKPOINT =
            Pattern.compile("\"latest\":\\{\"completed\":\\{.*?\"external_path\":\"([^\"]*)\"", Pattern.DOTALL);
    private static final Duration REST_LIMIT = Duration.ofSeconds(30);
    private static final Duration REST_PAUSE = Duration.ofMillis(50);

    private StartTokens() {}

    /** What a checkpoint holds of one source. */
    private static final class SourceState {
        final List<SplitEntry> splits = new ArrayList<>();
        byte[] enumerator = new byte[0];
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, String> options = options(arguments);
        // Folders such as s3:// are read through the plugins that the cluster has.
        Configuration configuration = GlobalConfiguration.loadConfiguration();
        FileSystem.initialize(configuration, PluginUtils.createPluginManagerFromRootFolder(configuration));
        String from = options.get("savepoint");
        byte[] file = from == null ? null : read(from, options.get("operator"));
        long began = System.nanoTime();
        while (file == null) {
            from = lastCheckpoint(options.get("rest"), options.get("job"));
            try {
                file = read(from, options.get("operator"));
            } catch (FileNotFoundException e) {
                // The job deletes a checkpoint once there is a later one. Which one that is, its JobManager may say
                // some seconds later.
                if (System.nanoTime() - began > REST_LIMIT.toNanos()) {
                    throw e;
                }
                Thread.sleep(REST_PAUSE.toMillis());
            }
        }
        Files.write(java.nio.file.Path.of(options.get("output")), file);
        System.out.println("wrote the positions of " + from + " to " + options.get("output"));
    }

    private static Map<String, String> options(String[] arguments) {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i < arguments.length; i += 2) {
            String name = arguments[i].startsWith("--") ? arguments[i].substring(2) : "";
            if (!NAMES.contains(name) || i + 1 == arguments.length) {
                throw new IllegalArgumentException("cannot understand '" + arguments[i] + "'; " + USAGE);
            }
            options.put(name, arguments[i + 1]);
        }
        boolean running = options.containsKey("rest") && options.containsKey("job");
        if (!options.containsKey("output") || running == options.containsKey("savepoint")) {
            throw new IllegalArgumentException(USAGE);
        }
        return options;
    }

    /**
     * The file for a savepoint or a checkpoint, in UTF-8.
     *
     * @param folder its folder, or the metadata in it
     * @param operator Flink's id of the source's operator; null where there is one source only
     * @throws IOException when the checkpoint cannot be read
     * @throws IllegalStateException when it holds no source of this connector, or several and {@code operator} is null
     */
    public static byte[] read(String folder, String operator) throws IOException {
        Path path = new Path(folder);
        FileSystem files = path.getFileSystem();
        Path metadata = files.getFileStatus(path).isDir() ? new Path(path, "_metadata") : path;
        CheckpointMetadata checkpoint;
        try (DataInputStream in = new DataInputStream(files.open(metadata))) {
            checkpoint = Checkpoints.loadCheckpointMetadata(
                    in, StartTokens.class.getClassLoader(), metadata.getParent().toString());
        }
        Core core = NativeCore.get();
        Map<String, SourceState> sources = new TreeMap<>();
        for (OperatorState state : checkpoint.getOperatorStates()) {
            SourceState source = source(core, state);
            if (source != null) {
                sources.put(state.getOperatorID().toHexString(), source);
            }
        }
        SourceState source = chosen(sources, operator, folder);
        return core.startTokens(source.splits, source.enumerator);
    }

    private static SourceState chosen(Map<String, SourceState> sources, String operator, String folder) {
        SourceState source = operator == null && sources.size() == 1
                ? sources.values().iterator().next()
                : operator == null ? null : sources.get(operator);
        if (source == null) {
            throw new IllegalStateException(
                    sources.isEmpty()
                            ? folder + " holds no source of this connector"
                            : folder + " holds the sources of the operators " + sources.keySet()
                                    + "; name one of them with --operator");
        }
        return source;
    }

    /** What is of this connector in an operator's state; null where nothing is. */
    private static SourceState source(Core core, OperatorState state) throws IOException {
        SourceState source = new SourceState();
        if (state.getCoordinatorState() != null) {
            source.enumerator = enumerator(state.getCoordinatorState().getData());
        }
        List<OperatorStateHandle> handles = new ArrayList<>();
        for (OperatorSubtaskState subtask : state.getStates()) {
            handles.addAll(subtask.getManagedOperatorState());
        }
        handles.removeIf(handle -> !handle.getStateNameToPartitionOffsets().containsKey(READER_STATE));
        for (byte[] entry : entries(handles)) {
            byte[] split = versioned(entry);
            if (startsWith(split, SPLIT)) {
                source.splits.add(core.describeSplit(split));
            }
        }
        return source.splits.isEmpty() && source.enumerator.length == 0 ? null : source;
    }

    /** Read as Flink itself does, so that compressed state is understood too. */
    private static Collection<byte[]> entries(List<OperatorStateHandle> handles) throws IOException {
        List<byte[]> entries = new ArrayList<>();
        if (handles.isEmpty()) {
            return entries;
        }
        try (CloseableRegistry registry = new CloseableRegistry();
                DefaultOperatorStateBackend backend = new DefaultOperatorStateBackendBuilder(
                                StartTokens.class.getClassLoader(), new ExecutionConfig(), false, handles, registry)
                        .build()) {
            var descriptor = new ListStateDescriptor<>(READER_STATE, BytePrimitiveArraySerializer.INSTANCE);
            backend.getListState(descriptor).get().forEach(entries::add);
        } catch (IOException e) {
            throw e;
        } catch (Exception e) {
            throw new IOException("cannot read the state of a source: " + e.getMessage(), e);
        }
        return entries;
    }

    /** What Flink writes around a split: version of the serializer, length, bytes. */
    private static byte[] versioned(byte[] entry) throws IOException {
        try (DataInputStream in = new DataInputStream(new ByteArrayInputStream(entry))) {
            in.readInt();
            return in.readNBytes(in.readInt());
        }
    }

    /** What Flink writes around an enumerator's state: version of its own, version of the serializer, length, bytes. */
    private static byte[] enumerator(byte[] coordinator) throws IOException {
        if (coordinator.length < 12) {
            return new byte[0];
        }
        try (DataInputStream in = new DataInputStream(new ByteArrayInputStream(coordinator))) {
            in.readInt();
            in.readInt();
            int length = in.readInt();
            byte[] state = length < 0 ? new byte[0] : in.readNBytes(length);
            return startsWith(state, ENUMERATOR) ? state : new byte[0];
        }
    }

    private static boolean startsWith(byte[] bytes, byte[] head) {
        return bytes.length >= head.length && Arrays.equals(Arrays.copyOf(bytes, head.length), head);
    }

    /** Where the last completed checkpoint of a job lies. */
    private static String lastCheckpoint(String rest, String job) throws IOException, InterruptedException {
        URI uri = URI.create(rest.replaceAll("/+$", "") + "/jobs/" + job + "/checkpoints");
        HttpRequest request = HttpRequest.newBuilder(uri).timeout(REST_LIMIT).build();
        HttpResponse<String> answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) {
            throw new IOException(uri + " answers " + answer.statusCode() + ": " + answer.body());
        }
        // Flink answers without blanks; nothing of an object lies between these but the checkpoint's own fields.
        Matcher path = LAST_CHECKPOINT.matcher(answer.body());
        // Without a folder for checkpoints they are in the JobManager's memory.
        if (!path.find() || path.group(1).startsWith("<")) {
            throw new IOException("job " + job + " has no completed checkpoint in a folder; take a savepoint of it");
        }
        return path.group(1).replace("\\/", "/");
    }
}
