package io.cosmosflink.core;

import java.util.Collection;

/** Documents that wait in an array, as what comes from the service does, so that no text is encoded while it is measured. */
public final class DocumentFrame {
    private final byte[] frame;

    public DocumentFrame(Collection<String> documents) {
        this.frame = Frames.strings(documents);
        // Loads the library.
        NativeCore.get();
    }

    /** The page of their rows: over the boundary with the documents, and back with the rows. */
    public Page rows(byte[] plan) {
        byte[] rows = Natives.decodeRows(plan, frame);
        return new Page(rows, rows.length);
    }
}
