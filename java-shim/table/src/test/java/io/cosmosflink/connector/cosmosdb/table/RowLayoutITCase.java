package io.cosmosflink.connector.cosmosdb.table;

import static org.assertj.core.api.Assertions.assertThat;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.NativeCore;
import io.cosmosflink.core.Page;
import io.cosmosflink.core.TestPages;
import java.lang.reflect.Proxy;
import java.util.List;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.logical.RowType;
import org.junit.jupiter.api.Test;

/** The layout of rows, by the real library and the Flink at hand. */
class RowLayoutITCase {
    @Test
    void theCoreWritesRowsAsFlinkDoes() {
        RowType type = (RowType) RowLayout.TYPE.getLogicalType();
        assertThat(new RowLayout(InternalTypeInfo.of(type)).refusal(NativeCore.get()))
                .isNull();
    }

    @Test
    void anotherLayoutIsSeen() {
        RowType type = (RowType) RowLayout.TYPE.getLogicalType();
        Core other = (Core) Proxy.newProxyInstance(
                getClass().getClassLoader(), new Class<?>[] {Core.class}, (proxy, method, arguments) -> {
                    assertThat(method.getName()).isEqualTo("decodeRows");
                    byte[] rows = TestPages.rows("", new byte[0], 0, List.of(new byte[16]), List.of(0L));
                    return new Page(rows, rows.length);
                });
        assertThat(new RowLayout(InternalTypeInfo.of(type)).refusal(other)).contains("another layout", " and 16 bytes");
    }
}
