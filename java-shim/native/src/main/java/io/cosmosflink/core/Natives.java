package io.cosmosflink.core;

/**
 * Every native method of the core, as {@code docs/boundary.md} fixes them. Rust finds them by this class's full name, so neither
 * class nor package may be renamed or relocated.
 *
 * <p>Use {@link NativeCore}, which loads the library first. Frames are byte arrays; a handle is an id with a generation, never
 * a pointer, so a closed or made-up handle is a {@link CosmosException} and not a crash.
 */
final class Natives {
    private Natives() {}

    static native int abiVersion();

    static native byte[] optionTable();

    static native byte[] metricTable();

    static native byte[] resolveOptions(byte[] arguments, byte[] environment);

    static native byte[] validateOptions(int role, byte[] options);

    static native byte[] describeSplit(byte[] split);

    static native long openEnumerator(byte[] options, byte[] state, int firstStart);

    static native byte[] coordinate(long handle, byte[] event);

    static native byte[] discover(long handle, long timeoutMillis);

    static native int awaitOpen(long handle, long timeoutMillis);

    static native long openSource(byte[] options, int readers, byte[] group);

    static native long openRowSource(byte[] options, int readers, byte[] group, byte[] plan);

    static native byte[] decodeRows(byte[] plan, byte[] documents);

    static native byte[] documentQuery(byte[] plan);

    static native void addSplits(long handle, byte[] splitList);

    static native void pauseOrResumeSplits(long handle, byte[] pause, byte[] resume);

    static native void publish(long handle, long checkpoint, byte[] splitList);

    static native byte[] startTokens(byte[] splitList, byte[] enumeratorState);

    static native int nextPage(long handle, byte[] into, long timeoutMillis);

    static native long openSink(byte[] options, int writers, byte[] group);

    static native long openRowSink(byte[] options, int writers, byte[] group, byte[] plan);

    static native byte[] encodeRows(byte[] plan, byte[] operations);

    static native long submit(long handle, long submission, byte[] operations, int length);

    static native byte[] pollCompletions(long handle, long timeoutMillis);

    static native byte[] heldUp(long handle);

    static native void wakeUp(long handle);

    static native long openLookup(byte[] options, byte[] plan, byte[] lookup);

    static native void lookUp(long handle, byte[] keys);

    static native byte[] pollAnswers(long handle, long timeoutMillis);

    static native byte[] metrics(long handle);

    static native void close(long handle);

    static native byte[] drainLog(int max);

    static native void setLogLevel(int level);

    static native byte[] administer(byte[] options, byte[] request, long timeoutMillis);
}
