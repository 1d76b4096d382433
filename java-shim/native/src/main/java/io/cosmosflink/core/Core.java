package io.cosmosflink.core;

import java.io.Serializable;
import java.util.Collection;
import java.util.List;
import java.util.Map;

/**
 * All that a connector asks of the core. {@link NativeCore} is the one implementation outside tests.
 *
 * <p>Every method may throw {@link CosmosException}.
 */
@Internal
public interface Core {
    /** Which options must be there. */
    @PublicEvolving
    enum Role {
        CONNECTION(0),
        SOURCE(1),
        SINK(2),
        JOB(3),
        LOOKUP(4);

        final int number;

        Role(int number) {
            this.number = number;
        }
    }

    /** Gives the core of the process; travels in the job graph. */
    @FunctionalInterface
    interface Provider extends Serializable {
        Core get();
    }

    /** Every option there is. */
    List<CoreOption> optionTable();

    /** Every metric there is, in the order of a snapshot. */
    List<CoreMetric> metricTable();

    /** Options out of arguments (by option name or variable) and environment; arguments go first. */
    Map<String, String> resolveOptions(Map<String, String> arguments, Map<String, String> environment);

    /** The options checked, with all defaults filled in. */
    Map<String, String> validateOptions(Role role, Map<String, String> options);

    /** Reads split bytes; fails with kind STATE when they are foreign or newer. */
    SplitEntry describeSplit(byte[] split);

    /**
     * The file of positions that {@code scan.startup.mode=tokens} begins from, in UTF-8.
     *
     * @param splits what the readers had in a checkpoint
     * @param enumeratorState durable bytes of its enumerator; empty for none
     * @throws CosmosException of kind STATE when these are not the whole state of one source
     */
    byte[] startTokens(Collection<SplitEntry> splits, byte[] enumeratorState);

    /**
     * Checks the options and the state. Open at once: the first look for feed ranges connects.
     *
     * @param state durable bytes of an earlier enumerator of the job; empty for none
     * @param firstStart whether no enumerator of this job was there before
     * @throws CosmosException of kind STATE when the state is foreign, damaged or newer
     */
    EnumeratorHandle openEnumerator(Map<String, String> options, byte[] state, boolean firstStart);

    /** Checks the options and begins to open; {@link Handle#awaitOpen} says when that has ended. Never waits for the network. */
    SourceHandle openSource(Map<String, String> options, Peers peers);

    /** The source of a reader that is alone. */
    default SourceHandle openSource(Map<String, String> options) {
        return openSource(options, Peers.NONE);
    }

    /**
     * Like {@link #openSource}, with a plan of what becomes of a document: the pages have rows in place of records.
     *
     * @param plan what {@link RowPlan#frame} gives
     * @throws CosmosException of kind CONFIG when no row can be made by the plan
     */
    default SourceHandle openRowSource(Map<String, String> options, Peers peers, byte[] plan) {
        throw new UnsupportedOperationException(getClass().getName() + " makes no rows");
    }

    /**
     * The rows of documents that are no container's, as a page without a split: needs no account.
     *
     * @param plan what {@link RowPlan#frame} gives
     * @param documents each JSON
     * @throws CosmosException of kind CONFIG when no row can be made by the plan, of kind BAD_REQUEST for a document that does not fit it
     */
    default Page decodeRows(byte[] plan, Collection<String> documents) {
        throw new UnsupportedOperationException(getClass().getName() + " makes no rows");
    }

    /**
     * The query of all documents whose rows may pass the plan's filter, and of few others; of all documents where it has none.
     *
     * @param plan what {@link RowPlan#frame} gives
     */
    default Query documentQuery(byte[] plan) {
        throw new UnsupportedOperationException(getClass().getName() + " makes no rows");
    }

    /**
     * A query of the service.
     *
     * @param parameters their values by name, a JSON object; empty where there are none
     */
    record Query(String text, String parameters) {}

    /** Like {@link #openSource}. */
    SinkHandle openSink(Map<String, String> options, Peers peers);

    /** The sink of a writer that is alone. */
    default SinkHandle openSink(Map<String, String> options) {
        return openSink(options, Peers.NONE);
    }

    /**
     * Like {@link #openSink}, with a plan of what becomes of a row: batches may have rows in place of operations.
     *
     * @param plan what {@link DocumentPlan#frame} gives
     * @throws CosmosException of kind CONFIG when no document can be made by the plan
     */
    default SinkHandle openRowSink(Map<String, String> options, Peers peers, byte[] plan) {
        throw new UnsupportedOperationException(getClass().getName() + " takes no rows");
    }

    /**
     * The operations of a batch, those of rows as a writer with the plan would make them: needs no account. A row of which none can be made is a
     * refused one.
     *
     * @param plan what {@link DocumentPlan#frame} gives
     * @throws CosmosException of kind CONFIG when no document can be made by the plan, of kind STATE for a row whose bytes are damaged
     */
    default List<Operation> encodeRows(byte[] plan, OperationBatch batch) {
        throw new UnsupportedOperationException(getClass().getName() + " takes no rows");
    }

    /**
     * Like {@link #openSource}, for rows that are looked up by keys.
     *
     * @param plan what {@link RowPlan#frame} gives
     * @param alone whether one key is asked for after the other, so that none waits for others
     * @param columns those of the plan that keys have values for, in the order of {@link LookupKeys}
     * @throws CosmosException of kind CONFIG when no row can be made by the plan
     */
    default LookupHandle openLookup(Map<String, String> options, byte[] plan, boolean alone, int[] columns) {
        throw new UnsupportedOperationException(getClass().getName() + " looks nothing up");
    }

    /**
     * Carries out what a catalog wants that no {@link ContainerInfo} comes of.
     *
     * @param options of the account; database and container are those of the request
     * @return names, where it asks for some
     * @throws CosmosException of kind NOT_FOUND for what is not there, of kind CONFLICT for what is there already
     */
    default List<String> administer(Map<String, String> options, CatalogRequest request) {
        throw new UnsupportedOperationException(getClass().getName() + " has no databases");
    }

    /**
     * What a container is, by {@link CatalogRequest#describe}.
     *
     * @throws CosmosException of kind NOT_FOUND where it is not there
     */
    default ContainerInfo describe(Map<String, String> options, CatalogRequest request) {
        throw new UnsupportedOperationException(getClass().getName() + " has no containers");
    }

    /** Forwards what the core has logged to SLF4J, at most about once a second unless {@code now}. */
    void drainLog(boolean now);

    /**
     * What all handles share. Closing twice is fine, from any thread, and ends a call that waits; any other call after it fails with
     * kind CLOSED. A call on a handle that is not open yet waits until it is.
     */
    interface Handle extends AutoCloseable {
        /**
         * Waits for the end of the opening.
         *
         * @return whether it is open; false when the time is over or {@code wakeUp} was called
         * @throws CosmosException the failure of the opening, each time
         */
        boolean awaitOpen(long timeoutMillis);

        /**
         * Waits for the end of the opening however long it takes, until this thread is interrupted. A handle that is not open at the
         * end is closed.
         *
         * @throws CosmosException the failure of the opening
         */
        default void awaitOpen() throws InterruptedException {
            boolean open = false;
            try {
                while (!open) {
                    open = awaitOpen(OPEN_STEP_MILLIS);
                    if (!open && Thread.interrupted()) {
                        throw new InterruptedException("interrupted while a connection was being opened");
                    }
                }
            } finally {
                if (!open) {
                    close();
                }
            }
        }

        CoreMetrics metrics();

        /** Makes a call that waits return at once. */
        void wakeUp();

        @Override
        void close();
    }

    /** How late an interrupt may be noticed while something opens; what has opened ends the wait at once. */
    long OPEN_STEP_MILLIS = 50;

    /**
     * The readers of one source, which share {@code scan.request-units-per-second}, or the writers of one sink, which share {@code
     * sink.request-units-per-second}.
     *
     * @param count how many there are in all processes; at least 1
     * @param group what tells them from others of this process; empty when there is no other one of them here
     */
    record Peers(int count, String group) {
        /** One that is alone. */
        public static final Peers NONE = new Peers(1, "");

        /**
         * Those of a reader or writer that runs in Flink.
         *
         * @param count the parallelism of the source or sink
         * @param variables those of its metric group, which name its job and its operator
         */
        public static Peers of(int count, Map<String, String> variables) {
            return new Peers(Math.max(1, count), PerOperator.name(variables));
        }
    }

    /**
     * The readers of a source as they are now.
     *
     * @param parallelism how many there are to be
     * @param registered the subtasks that are there
     */
    record Readers(int parallelism, Collection<Integer> registered) {}

    /** Decides for a split enumerator, and looks for feed ranges in the background. */
    interface EnumeratorHandle extends Handle {
        /**
         * Decides what is to be done about an event. Never waits.
         *
         * @return nothing to do once the handle is closed, whatever happens
         */
        EnumeratorActions coordinate(Readers readers, EnumeratorEvent event);

        /**
         * Waits for the end of a look for feed ranges, and begins one when none is under way.
         *
         * @return what it ended with, well or not, for {@link EnumeratorEvent.Discovered}; empty when the time is over or {@code wakeUp} was
         *     called: it goes on, and the next call waits for the same one
         */
        byte[] discover(long timeoutMillis);

        /**
         * Waits for the end of a look for feed ranges however long it takes, until this thread is interrupted.
         *
         * @return what it ended with, well or not, for {@link EnumeratorEvent.Discovered}
         */
        default byte[] discover() throws InterruptedException {
            while (true) {
                byte[] found = discover(OPEN_STEP_MILLIS);
                if (found.length > 0) {
                    return found;
                }
                if (Thread.interrupted()) {
                    throw new InterruptedException("interrupted while feed ranges were being looked for");
                }
            }
        }
    }

    /** Reads splits. One thread calls all but {@code publish}, {@code metrics}, {@code wakeUp} and {@code close}. */
    interface SourceHandle extends Handle {
        void addSplits(Collection<SplitEntry> splits);

        /** By split id. */
        void pauseOrResumeSplits(Collection<String> pause, Collection<String> resume);

        /**
         * Publishes progress as leases, where the options name a lease container. Never waits: what comes of it, {@link #nextPage} says.
         *
         * @param checkpoint one that has completed
         * @param splits all splits of the reader, at their positions in that checkpoint
         */
        void publish(long checkpoint, Collection<SplitEntry> splits);

        /**
         * Copies the next page into the array; {@link PageBuffers#next} deals with the sizes.
         *
         * @return the size of the page, which is taken; 0 if none came in time or {@code wakeUp} was called; the negative of a size when
         *     the page needs that many bytes and the array has fewer: then it stays the next one
         */
        int nextPage(byte[] into, long timeoutMillis);
    }

    /** Looks rows up. One thread polls, any may ask; {@link Lookups} does both. */
    interface LookupHandle extends Handle {
        /** Asks for keys; each number is answered once. Never waits for the network. */
        void lookUp(LookupKeys keys);

        /** What has been answered since the last call. Nothing if nothing was in time, or if {@code wakeUp} was called. */
        Answers pollAnswers(long timeoutMillis);
    }

    /** Writes. One thread submits, one polls; {@link Submissions} does both. */
    interface SinkHandle extends Handle {
        /**
         * Takes all operations of the batch, which can be used again afterwards.
         *
         * @param submission the number that its completion will carry; no other submission of the handle has it
         */
        void submit(long submission, OperationBatch batch);

        /**
         * The submissions that have ended since the last call, each once: when its last operation has ended, or at once with the first
         * that fails the job. None if none came in time, if there is room for a batch again, or if {@code wakeUp} was called.
         */
        List<Completion> pollCompletions(long timeoutMillis);

        /**
         * Whether the core holds as much as the options allow, so that no other batch should be submitted; it would be taken all the same. As
         * of the last {@link #submit} or {@link #pollCompletions}, whichever the core answered later. Cheap, from any thread.
         */
        default boolean isFull() {
            return false;
        }

        /**
         * What holds operations up now, each in a sentence without its full stop: which partition, since when, and what it answered last. That
         * which has done so longest comes first.
         */
        default List<String> heldUp() {
            return List.of();
        }
    }
}
