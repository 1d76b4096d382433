package io.cosmosflink.connector.cosmosdb;

import java.util.List;
import org.apache.flink.api.connector.source.ReaderInfo;
import org.apache.flink.api.connector.source.SupportsSplitReassignmentOnRecovery;

/**
 * The source for Flink 2.2 and later, where readers that are restored report their splits instead of reading on, so that these are spread
 * anew. Older versions cannot load this class: only what checks {@link CosmosDBSource#reassigns} may call it.
 */
final class ReassigningCosmosDBSource<T> extends CosmosDBSource<T> implements SupportsSplitReassignmentOnRecovery {
    private static final long serialVersionUID = 1L;

    private ReassigningCosmosDBSource(Builder<T> builder) {
        super(builder);
    }

    /** Returns the type that every version can load, so that no caller's verifier looks for this one. */
    static <T> CosmosDBSource<T> of(Builder<T> builder) {
        return new ReassigningCosmosDBSource<>(builder);
    }

    @Override
    List<CosmosDBSplit> reportedBy(ReaderInfo reader) {
        return reader.getReportedSplitsOnRegistration();
    }
}
