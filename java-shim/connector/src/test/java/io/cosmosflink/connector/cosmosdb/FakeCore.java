package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Completion;
import io.cosmosflink.core.Core;
import io.cosmosflink.core.CoreMetric;
import io.cosmosflink.core.CoreMetrics;
import io.cosmosflink.core.CoreOption;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.EnumeratorActions;
import io.cosmosflink.core.EnumeratorEvent;
import io.cosmosflink.core.NativeCore;
import io.cosmosflink.core.Operation;
import io.cosmosflink.core.OperationBatch;
import io.cosmosflink.core.SplitEntry;
import io.cosmosflink.core.SubmittedOperations;
import io.cosmosflink.core.WriteFailure;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.Collection;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import java.util.function.Function;
import java.util.function.LongFunction;

/** A core without a service. A split's bytes are {@code ordinal:position}, its id is {@code s<ordinal>}. */
final class FakeCore implements Core {
    final Enumerator enumerator = new Enumerator();
    final Source source = new Source();
    final Sink sink = new Sink();
    /** Those of the source of rows that was opened last. */
    volatile Map<String, String> rowOptions;
    /** Thrown by every opening, if set. */
    volatile RuntimeException openFailure;
    /** Whether openings do not end. */
    volatile boolean openingHangs;

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
                "container", "orders",
                "scan.discovery-interval", "1000",
                "json.on-error", "fail",
                "sink.buffer-flush.max-rows", "2",
                "sink.max-in-flight-requests", "2",
                "sink.max-buffered-requests", "10",
                "sink.buffer-flush.max-size", "100000",
                "sink.buffer-flush.interval", "50",
                "sink.max-record-size", "10000"));
    }

    @Override
    public List<CoreOption> optionTable() {
        return List.of();
    }

    /** The real one: it asks no service. */
    @Override
    public List<CoreMetric> metricTable() {
        return NativeCore.get().metricTable();
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
    public byte[] startTokens(Collection<SplitEntry> splits, byte[] enumeratorState) {
        throw failure(11, "the fake core writes no positions");
    }

    @Override
    public EnumeratorHandle openEnumerator(Map<String, String> options, byte[] state, boolean firstStart) {
        if (openFailure != null) {
            throw openFailure;
        }
        enumerator.state = state;
        enumerator.firstStart = firstStart;
        return enumerator.opening();
    }

    @Override
    public SourceHandle openSource(Map<String, String> options, Peers peers) {
        return source.opening();
    }

    @Override
    public SourceHandle openRowSource(Map<String, String> options, Peers peers, byte[] plan) {
        source.plan = plan;
        rowOptions = options;
        return source.opening();
    }

    @Override
    public SinkHandle openSink(Map<String, String> options, Peers peers) {
        sink.peers = peers;
        return sink.opening();
    }

    @Override
    public void drainLog(boolean now) {}

    /** Waits, wakes up and closes as the core's handles do. */
    private abstract class Base implements Handle {
        volatile boolean closed;
        /** Calls that wait now. */
        final AtomicInteger waiting = new AtomicInteger();

        private boolean woken;

        @SuppressWarnings("unchecked")
        final <H> H opening() {
            closed = false;
            return (H) this;
        }

        @Override
        public boolean awaitOpen(long timeoutMillis) {
            if (openFailure != null) {
                throw openFailure;
            }
            await(timeoutMillis, () -> !openingHangs);
            return !openingHangs;
        }

        /** Waits until the condition holds, the time is over, or somebody wakes it up. */
        final synchronized void await(long timeoutMillis, BooleanSupplier condition) {
            long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(timeoutMillis);
            waiting.incrementAndGet();
            try {
                while (!closed && !woken && !condition.getAsBoolean()) {
                    long left = TimeUnit.NANOSECONDS.toMillis(deadline - System.nanoTime());
                    if (left <= 0) {
                        break;
                    }
                    wait(left);
                }
                if (closed) {
                    throw failure(10, "the handle is closed");
                }
                woken = false;
            } catch (InterruptedException e) {
                // The core's calls do not end by an interrupt; whoever waits sees it when the time is over.
                Thread.currentThread().interrupt();
            } finally {
                waiting.decrementAndGet();
            }
        }

        final synchronized void changed() {
            notifyAll();
        }

        @Override
        public CoreMetrics metrics() {
            return CoreMetrics.NONE;
        }

        @Override
        public synchronized void wakeUp() {
            woken = true;
            notifyAll();
        }

        @Override
        public synchronized void close() {
            closed = true;
            notifyAll();
        }
    }

    final class Enumerator extends Base implements EnumeratorHandle {
        /** What it was opened with last. */
        volatile byte[] state;

        volatile boolean firstStart;
        /** All events, in order. */
        final List<EnumeratorEvent> events = new CopyOnWriteArrayList<>();
        /** The readers as they were at the last event. */
        volatile Readers readers;
        /** What is to be done about an event. */
        volatile Function<EnumeratorEvent, EnumeratorActions> decide = event -> EnumeratorActions.NONE;
        /** What a look ends with. */
        volatile byte[] discovery = {1};

        volatile RuntimeException failure;
        /** Whether a look does not end. */
        volatile boolean hangs;

        @Override
        public EnumeratorActions coordinate(Readers readers, EnumeratorEvent event) {
            if (closed) {
                return EnumeratorActions.NONE;
            }
            this.readers = new Readers(readers.parallelism(), Set.copyOf(readers.registered()));
            events.add(event);
            return decide.apply(event);
        }

        @Override
        public byte[] discover(long timeoutMillis) {
            await(timeoutMillis, () -> !hangs);
            if (failure != null) {
                throw failure;
            }
            return hangs ? new byte[0] : discovery;
        }
    }

    final class Source extends Base implements SourceHandle {
        private final Deque<byte[]> pages = new ArrayDeque<>();
        final List<SplitEntry> added = new CopyOnWriteArrayList<>();
        final Set<String> paused = new ConcurrentSkipListSet<>();
        /** What was published, by checkpoint. */
        final Map<Long, List<SplitEntry>> published = new ConcurrentSkipListMap<>();
        /** A page is waited for at least this long, whatever the caller says. */
        volatile long patienceMillis;

        /** How rows are to be made; null for records. */
        volatile byte[] plan;

        private volatile RuntimeException failure;
        /** What {@code addSplits} throws, if set. */
        volatile RuntimeException addFailure;

        void fail(RuntimeException with) {
            failure = with;
            changed();
        }

        synchronized void page(byte[] page) {
            pages.add(page);
            notifyAll();
        }

        @Override
        public void addSplits(Collection<SplitEntry> splits) {
            if (addFailure != null) {
                throw addFailure;
            }
            added.addAll(splits);
        }

        @Override
        public void pauseOrResumeSplits(Collection<String> pause, Collection<String> resume) {
            paused.addAll(pause);
            paused.removeAll(resume);
        }

        @Override
        public void publish(long checkpoint, Collection<SplitEntry> splits) {
            published.put(checkpoint, List.copyOf(splits));
        }

        @Override
        public synchronized int nextPage(byte[] into, long timeoutMillis) {
            await(Math.max(patienceMillis, timeoutMillis), () -> failure != null || !pages.isEmpty());
            if (failure != null) {
                throw failure;
            }
            byte[] page = pages.peek();
            if (page == null) {
                return 0;
            }
            if (page.length > into.length) {
                return -page.length;
            }
            System.arraycopy(page, 0, into, 0, page.length);
            return pages.remove().length;
        }
    }

    final class Sink extends Base implements SinkHandle {
        /** Number of operations of each batch. */
        final BlockingQueue<Integer> submitted = new LinkedBlockingQueue<>();
        /** All operations, in order. */
        final List<Operation> operations = new CopyOnWriteArrayList<>();

        private final Deque<List<Completion>> completions = new ArrayDeque<>();
        /** The operations of each submission. */
        private final Map<Long, List<Operation>> bySubmission = new ConcurrentHashMap<>();
        /** Those that it was opened with last. */
        volatile Peers peers;
        /** Whether its failures are those of the sink itself. */
        volatile boolean stalls;
        /** Whether it says that it has no room. */
        private volatile boolean full;

        /** What comes back for the submission of a number, as soon as it is submitted. */
        volatile LongFunction<List<Completion>> onSubmit = submission -> List.of();
        /** What {@code submit} throws, if set. */
        volatile RuntimeException submitFailure;

        @Override
        public void submit(long submission, OperationBatch batch) {
            if (submitFailure != null) {
                throw submitFailure;
            }
            List<Operation> some = SubmittedOperations.operations(batch);
            operations.addAll(some);
            bySubmission.put(submission, some);
            submitted.add(batch.count());
            add(onSubmit.apply(submission));
        }

        /** What the next poll throws. */
        volatile Error fatal;

        void answer(Completion... some) {
            add(List.of(some));
        }

        private synchronized void add(List<Completion> some) {
            completions.add(some.stream().map(this::withTargets).toList());
            notifyAll();
        }

        /** The core says what was to be written by an operation that fails the job. */
        private Completion withTargets(Completion completion) {
            List<Operation> of = bySubmission.getOrDefault(completion.submission(), List.of());
            List<WriteFailure> failures = completion.failures().stream()
                    .map(f -> f.result() == WriteFailure.Result.FAILED && !stalls && f.index() < of.size()
                            ? f.of(WriteFailure.Target.of(of.get(f.index()).encode()))
                            : f)
                    .toList();
            return new Completion(completion.submission(), completion.requestCharge(), failures);
        }

        @Override
        public boolean isFull() {
            return full;
        }

        /** A poll that waits returns when there is room again, as the core's does. */
        void full(boolean is) {
            full = is;
            if (!is) {
                wakeUp();
            }
        }

        @Override
        public synchronized List<Completion> pollCompletions(long timeoutMillis) {
            await(timeoutMillis, () -> fatal != null || !completions.isEmpty());
            if (fatal != null) {
                throw fatal;
            }
            List<Completion> next = completions.poll();
            return next == null ? List.of() : next;
        }
    }
}
