package io.cosmosflink.core;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;

/** The core itself. The library is loaded on first use, once per class loader. */
@Internal
public final class NativeCore implements Core {
    private final CoreLog log = new CoreLog(Natives::drainLog);

    private NativeCore() {
        CoreLoader.load();
        Natives.setLogLevel(CoreLog.level());
    }

    private static final class Holder {
        static final NativeCore INSTANCE = new NativeCore();
    }

    /**
     * The core of this class loader.
     *
     * @throws UnsatisfiedLinkError when the jar holds no library for this platform, or one that does not fit the jar
     */
    public static Core get() {
        // A failed class initialisation would hide the reason from the second caller on; the loader keeps and repeats
        // it.
        CoreLoader.load();
        return Holder.INSTANCE;
    }

    @Override
    public List<CoreOption> optionTable() {
        return Frames.options(Natives.optionTable());
    }

    @Override
    public List<CoreMetric> metricTable() {
        return Frames.metricTable(Natives.metricTable());
    }

    @Override
    public Map<String, String> resolveOptions(Map<String, String> arguments, Map<String, String> environment) {
        return Frames.map(Natives.resolveOptions(Frames.map(arguments), Frames.map(environment)));
    }

    @Override
    public Map<String, String> validateOptions(Role role, Map<String, String> options) {
        return Frames.map(Natives.validateOptions(role.number, Frames.map(options)));
    }

    @Override
    public SplitEntry describeSplit(byte[] split) {
        List<SplitEntry> one = Frames.splits(Natives.describeSplit(split));
        if (one.size() != 1) {
            throw FrameReader.state("one split was described as " + one.size());
        }
        return one.get(0);
    }

    @Override
    public byte[] startTokens(Collection<SplitEntry> splits, byte[] enumeratorState) {
        return Natives.startTokens(Frames.splits(splits), enumeratorState);
    }

    @Override
    public EnumeratorHandle openEnumerator(Map<String, String> options, byte[] state, boolean firstStart) {
        return new Enumerator(Natives.openEnumerator(Frames.map(options), state, firstStart ? 1 : 0));
    }

    @Override
    public SourceHandle openSource(Map<String, String> options, Peers peers) {
        byte[] group = peers.group().getBytes(StandardCharsets.UTF_8);
        return new Source(Natives.openSource(Frames.map(options), peers.count(), group));
    }

    @Override
    public SourceHandle openRowSource(Map<String, String> options, Peers peers, byte[] plan) {
        byte[] group = peers.group().getBytes(StandardCharsets.UTF_8);
        return new Source(Natives.openRowSource(Frames.map(options), peers.count(), group, plan));
    }

    @Override
    public Page decodeRows(byte[] plan, Collection<String> documents) {
        byte[] rows = Natives.decodeRows(plan, Frames.strings(documents));
        return new Page(rows, rows.length);
    }

    @Override
    public Query documentQuery(byte[] plan) {
        List<String> query = Frames.strings(Natives.documentQuery(plan));
        return new Query(query.get(0), query.get(1));
    }

    @Override
    public SinkHandle openSink(Map<String, String> options, Peers peers) {
        byte[] group = peers.group().getBytes(StandardCharsets.UTF_8);
        return new Sink(Natives.openSink(Frames.map(options), peers.count(), group));
    }

    @Override
    public SinkHandle openRowSink(Map<String, String> options, Peers peers, byte[] plan) {
        byte[] group = peers.group().getBytes(StandardCharsets.UTF_8);
        return new Sink(Natives.openRowSink(Frames.map(options), peers.count(), group, plan));
    }

    @Override
    public List<Operation> encodeRows(byte[] plan, OperationBatch batch) {
        byte[] operations = Arrays.copyOf(batch.array(), batch.length());
        return Frames.operations(Natives.encodeRows(plan, operations));
    }

    @Override
    public LookupHandle openLookup(Map<String, String> options, byte[] plan, boolean alone, int[] columns) {
        return new Lookup(Natives.openLookup(Frames.map(options), plan, Frames.lookup(alone, columns)));
    }

    @Override
    public List<String> administer(Map<String, String> options, CatalogRequest request) {
        return Frames.strings(administered(options, request));
    }

    @Override
    public ContainerInfo describe(Map<String, String> options, CatalogRequest request) {
        return ContainerInfo.decode(administered(options, request));
    }

    private byte[] administered(Map<String, String> options, CatalogRequest request) {
        try {
            return Natives.administer(Frames.map(options), request.frame(), CatalogRequest.TIMEOUT_MILLIS);
        } finally {
            drainLog(false);
        }
    }

    @Override
    public void drainLog(boolean now) {
        log.drain(now);
    }

    private abstract static class Base implements Handle {
        final long handle;

        Base(long handle) {
            this.handle = handle;
        }

        @Override
        public boolean awaitOpen(long timeoutMillis) {
            return Natives.awaitOpen(handle, timeoutMillis) == 1;
        }

        @Override
        public CoreMetrics metrics() {
            return CoreMetrics.decode(Natives.metrics(handle));
        }

        @Override
        public void wakeUp() {
            Natives.wakeUp(handle);
        }

        @Override
        public void close() {
            Natives.close(handle);
        }
    }

    private static final class Enumerator extends Base implements EnumeratorHandle {
        private volatile boolean closed;

        Enumerator(long handle) {
            super(handle);
        }

        @Override
        public EnumeratorActions coordinate(Readers readers, EnumeratorEvent event) {
            try {
                return EnumeratorFrames.actions(Natives.coordinate(handle, EnumeratorFrames.event(readers, event)));
            } catch (CosmosException e) {
                if (closed && e.kind() == CosmosException.Kind.CLOSED) {
                    return EnumeratorActions.NONE;
                }
                throw e;
            }
        }

        @Override
        public byte[] discover(long timeoutMillis) {
            return Natives.discover(handle, timeoutMillis);
        }

        @Override
        public void close() {
            closed = true;
            super.close();
        }
    }

    private static final class Source extends Base implements SourceHandle {
        Source(long handle) {
            super(handle);
        }

        @Override
        public void addSplits(Collection<SplitEntry> splits) {
            Natives.addSplits(handle, Frames.splits(splits));
        }

        @Override
        public void pauseOrResumeSplits(Collection<String> pause, Collection<String> resume) {
            Natives.pauseOrResumeSplits(handle, Frames.strings(pause), Frames.strings(resume));
        }

        @Override
        public void publish(long checkpoint, Collection<SplitEntry> splits) {
            Natives.publish(handle, checkpoint, Frames.splits(splits));
        }

        @Override
        public int nextPage(byte[] into, long timeoutMillis) {
            return Natives.nextPage(handle, into, timeoutMillis);
        }
    }

    private static final class Sink extends Base implements SinkHandle {
        /** The newest answer to whether there is room: odd while there is none. Two threads hear of it, in any order. */
        private final AtomicLong room = new AtomicLong();

        Sink(long handle) {
            super(handle);
        }

        @Override
        public void submit(long submission, OperationBatch batch) {
            heard(Natives.submit(handle, submission, batch.array(), batch.length()));
        }

        @Override
        public List<Completion> pollCompletions(long timeoutMillis) {
            Frames.Completions ended = Frames.completions(Natives.pollCompletions(handle, timeoutMillis));
            heard(ended.room());
            return ended.completions();
        }

        private void heard(long answer) {
            room.accumulateAndGet(answer, Math::max);
        }

        @Override
        public boolean isFull() {
            return (room.get() & 1) != 0;
        }

        @Override
        public List<String> heldUp() {
            return Frames.strings(Natives.heldUp(handle));
        }
    }

    private static final class Lookup extends Base implements LookupHandle {
        Lookup(long handle) {
            super(handle);
        }

        @Override
        public void lookUp(LookupKeys keys) {
            Natives.lookUp(handle, keys.frame());
        }

        @Override
        public Answers pollAnswers(long timeoutMillis) {
            return new Answers(Natives.pollAnswers(handle, timeoutMillis));
        }
    }
}
