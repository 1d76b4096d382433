package io.cosmosflink.connector.cosmosdb.table;

import java.io.IOException;
import java.io.InterruptedIOException;
import java.util.Collection;
import java.util.concurrent.ExecutionException;
import org.apache.flink.annotation.Internal;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.functions.FunctionContext;
import org.apache.flink.table.functions.LookupFunction;

/** Looks the documents of one row up after those of the other. Public for the code that Flink generates. */
@Internal
public final class CosmosDBLookupFunction extends LookupFunction {
    private static final long serialVersionUID = 1L;

    private final LookupCore core;

    CosmosDBLookupFunction(LookupCore core) {
        this.core = core;
    }

    @Override
    public void open(FunctionContext context) throws Exception {
        core.open(context);
    }

    @Override
    public Collection<RowData> lookup(RowData keyRow) throws IOException {
        try {
            return core.lookUp(keyRow).get();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw (IOException) new InterruptedIOException("interrupted while a document was looked up").initCause(e);
        } catch (ExecutionException e) {
            throw new IOException(e.getCause().getMessage(), e.getCause());
        }
    }

    @Override
    public void close() {
        core.close();
    }
}
