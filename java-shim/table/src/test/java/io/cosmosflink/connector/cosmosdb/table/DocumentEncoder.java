package io.cosmosflink.connector.cosmosdb.table;

import java.io.Serializable;
import org.apache.flink.table.data.RowData;

/** Makes a document out of a row. */
interface DocumentEncoder extends Serializable {
    /**
     * @return a JSON object in UTF-8
     * @throws IllegalArgumentException for a value that JSON does not have
     */
    byte[] encode(RowData row);
}
