package io.cosmosflink.core;

import java.util.Collection;

/** A source that is open and has nothing to say: what a test is about it overrides. */
class IdleSource implements Core.SourceHandle {
    @Override
    public CoreMetrics metrics() {
        return CoreMetrics.NONE;
    }

    @Override
    public void addSplits(Collection<SplitEntry> splits) {}

    @Override
    public void publish(long checkpoint, Collection<SplitEntry> splits) {}

    @Override
    public void pauseOrResumeSplits(Collection<String> pause, Collection<String> resume) {}

    @Override
    public int nextPage(byte[] into, long timeoutMillis) {
        return 0;
    }

    @Override
    public boolean awaitOpen(long timeoutMillis) {
        return true;
    }

    @Override
    public void wakeUp() {}

    @Override
    public void close() {}
}
