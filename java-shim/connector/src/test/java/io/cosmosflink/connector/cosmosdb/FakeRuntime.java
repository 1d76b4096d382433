package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.CoreMetrics;
import io.cosmosflink.core.CoreOption;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.CosmosRuntime;
import io.cosmosflink.core.OperationBatch;
import io.cosmosflink.core.Outcome;
import io.cosmosflink.core.SplitEntry;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.IntFunction;

/** A core without a service. A split's bytes are {@code ordinal:position}, its id is {@code s<ordinal>}. */
final class FakeRuntime implements CosmosRuntime {
    final Enumerator enumerator = new Enumerator();
    final Source source = new Source();
    final Sink sink = new Sink();
    /** Thrown by every open, if set. */
    volatile RuntimeException openFailure;

    static SplitEntry split(int ordinal, int position) {
        return new SplitEntry("s" + ordinal, ordinal, false, "range " + ordinal, bytes(ordinal, position));
    }

    static byte[] bytes(int ordinal, int position) {
        return (ordinal + ":" + position).getBytes(StandardCharsets.UTF_8);
    }

    static CosmosException failure(int kind, String message) {
        return new CosmosException(message, kind, 0, 0, "");
    }

    static CosmosDBOptions options() {
        return CosmosDBOptions.of(Map.of(
                "cosmos.container", "orders",
                "source.discovery-interval-ms", "1000",
                "sink.max-batch-size", "2",
                "sink.max-in-flight-requests", "2",
                "sink.max-buffered-requests", "10",
                "sink.max-batch-bytes", "100000",
                "sink.max-time-in-buffer-ms", "50",
                "sink.max-record-bytes", "10000"));
    }

    @Override
    public List<CoreOption> optionTable() {
        return List.of();
    }

    @Override
    public Map<String, String> resolveOptions(Map<String, String> arguments, Map<String, String> environment) {
        return new TreeMap<>(arguments);
    }

    @Override
    public Map<String, String> validateOptions(Role role, Map<String, String> options) {
        return CosmosDBOptions.of(options).with(options().toMap()).with(options).toMap();
    }

    @Override
    public SplitEntry describeSplit(byte[] split) {
        String[] parts = new String(split, StandardCharsets.UTF_8).split(":");
        if (parts.length != 2) {
            throw failure(11, "foreign split bytes");
        }
        return split(Integer.parseInt(parts[0]), Integer.parseInt(parts[1]));
    }

    @Override
    public byte[] encodeEnumeratorState(Collection<SplitEntry> splits) {
        StringBuilder out = new StringBuilder();
        for (SplitEntry s : splits) {
            out.append(new String(s.split(), StandardCharsets.UTF_8))
                    .append(s.assigned() ? "+" : "-")
                    .append(' ');
        }
        return out.toString().getBytes(StandardCharsets.UTF_8);
    }

    @Override
    public List<SplitEntry> decodeEnumeratorState(byte[] state) {
        return Arrays.stream(new String(state, StandardCharsets.UTF_8).split(" "))
                .filter(s -> !s.isEmpty())
                .map(s -> describeSplit(s.substring(0, s.length() - 1).getBytes(StandardCharsets.UTF_8))
                        .withAssigned(s.endsWith("+")))
                .toList();
    }

    private <H> H open(H handle) {
        if (openFailure != null) {
            throw openFailure;
        }
        return handle;
    }

    @Override
    public EnumeratorHandle openEnumerator(Map<String, String> options) {
        return open(enumerator);
    }

    @Override
    public SourceHandle openSource(Map<String, String> options) {
        return open(source);
    }

    @Override
    public SinkHandle openSink(Map<String, String> options) {
        return open(sink);
    }

    @Override
    public void drainLog(boolean now) {}

    private abstract static class Base implements Handle {
        volatile boolean closed;

        @Override
        public CoreMetrics metrics() {
            return CoreMetrics.NONE;
        }

        @Override
        public void wakeUp() {}

        @Override
        public void close() {
            closed = true;
        }

        static <T> T quietly(Callable<T> call) {
            try {
                return call.call();
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        }
    }

    static final class Enumerator extends Base implements EnumeratorHandle {
        volatile List<SplitEntry> next = List.of();
        volatile RuntimeException failure;
        volatile List<SplitEntry> known;

        @Override
        public List<SplitEntry> discoverSplits(Collection<SplitEntry> before) {
            known = List.copyOf(before);
            if (failure != null) {
                throw failure;
            }
            return next;
        }
    }

    static final class Source extends Base implements SourceHandle {
        final BlockingQueue<byte[]> pages = new LinkedBlockingQueue<>();
        final List<SplitEntry> added = new ArrayList<>();
        final TreeSet<String> paused = new TreeSet<>();
        private byte[] announced;
        private volatile RuntimeException failure;

        void fail(RuntimeException with) {
            failure = with;
        }

        @Override
        public synchronized void addSplits(Collection<SplitEntry> splits) {
            added.addAll(splits);
        }

        @Override
        public void pauseOrResumeSplits(Collection<String> pause, Collection<String> resume) {
            paused.addAll(pause);
            paused.removeAll(resume);
        }

        @Override
        public int nextPage(long timeoutMillis) {
            if (failure != null) {
                throw failure;
            }
            announced = quietly(() -> pages.poll(Math.min(50, timeoutMillis), TimeUnit.MILLISECONDS));
            return announced == null ? 0 : announced.length;
        }

        @Override
        public int takePage(byte[] into) {
            System.arraycopy(announced, 0, into, 0, announced.length);
            return announced.length;
        }
    }

    static final class Sink extends Base implements SinkHandle {
        final BlockingQueue<Integer> submitted = new LinkedBlockingQueue<>();
        final BlockingQueue<List<Outcome>> outcomes = new LinkedBlockingQueue<>();

        /** What comes back for the batch of a number, as soon as it is submitted. */
        volatile IntFunction<List<Outcome>> onSubmit = batch -> List.of();

        private int batches;

        @Override
        public void submit(OperationBatch batch) {
            submitted.add(batch.count());
            outcomes.add(onSubmit.apply(batches++));
        }

        /** What the next poll throws. */
        volatile Error fatal;

        void answer(Outcome... some) {
            outcomes.add(List.of(some));
        }

        @Override
        public List<Outcome> pollOutcomes(int max, long timeoutMillis) {
            if (fatal != null) {
                throw fatal;
            }
            List<Outcome> next = quietly(() -> outcomes.poll(Math.min(50, timeoutMillis), TimeUnit.MILLISECONDS));
            return next == null ? List.of() : next;
        }
    }
}
