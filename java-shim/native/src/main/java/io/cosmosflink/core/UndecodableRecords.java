package io.cosmosflink.core;

import java.io.IOException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** What becomes of the documents of a reader's pages that cannot be decoded. For the task's thread. */
@Internal
public final class UndecodableRecords {
    private static final Logger LOG = LoggerFactory.getLogger(UndecodableRecords.class);

    private final DecodePolicy policy;
    private final Seldom leftOut = new Seldom();

    public UndecodableRecords(DecodePolicy policy) {
        this.policy = policy;
    }

    /**
     * Deals with one of them as the policy asks. That the failure is the document's own is sure, and it is counted.
     *
     * @param split of the document; its text is for messages
     * @param why in words
     * @param cause may be null
     * @return whether it is to be handed to the job as it is; if not, it is left out
     * @throws IOException where the policy is to fail
     */
    public boolean settle(RecordView record, Object split, String why, Throwable cause) throws IOException {
        switch (policy) {
            case SKIP -> {
                long since = leftOut.happened();
                if (since > 0) {
                    LOG.warn(
                            "left out {} documents that cannot be read, the last of them: {}",
                            since,
                            text(record, split, why));
                } else if (LOG.isDebugEnabled()) {
                    LOG.debug("left out: {}", text(record, split, why));
                }
            }
            case RAW -> {
                return true;
            }
            case FAIL ->
                throw new IOException(
                        text(record, split, why)
                                + "; json.on-error skip-row leaves such documents out, raw hands them on as they are",
                        RecordFailures.small(cause));
        }
        return false;
    }

    /**
     * The failure of the job by what is not the document's own matter, whatever the policy. An {@link Error} is thrown as it is, unless the document
     * is nested too deeply for the stack.
     */
    public static IOException failure(RecordView record, Object split, String why, Throwable cause) {
        if (cause instanceof Error error && !(error instanceof StackOverflowError)) {
            throw error;
        }
        return new IOException(text(record, split, why), RecordFailures.small(cause));
    }

    private static String text(RecordView record, Object split, String why) {
        return record.unreadable(split.toString()) + ": " + RecordFailures.shortened(why);
    }
}
