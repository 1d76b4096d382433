package io.cosmosflink.connector.cosmosdb.table;

import java.util.Collection;
import java.util.concurrent.CompletableFuture;
import org.apache.flink.annotation.Internal;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.functions.AsyncLookupFunction;
import org.apache.flink.table.functions.FunctionContext;

/** Looks documents up while the job goes on. Public for the code that Flink generates. */
@Internal
public final class CosmosDBAsyncLookupFunction extends AsyncLookupFunction {
    private static final long serialVersionUID = 1L;

    private final LookupCore core;

    CosmosDBAsyncLookupFunction(LookupCore core) {
        this.core = core;
    }

    @Override
    public void open(FunctionContext context) throws Exception {
        core.open(context);
    }

    @Override
    public CompletableFuture<Collection<RowData>> asyncLookup(RowData keyRow) {
        return core.lookUp(keyRow);
    }

    @Override
    public void close() {
        core.close();
    }
}
