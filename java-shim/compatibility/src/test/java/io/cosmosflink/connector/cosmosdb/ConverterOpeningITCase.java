package io.cosmosflink.connector.cosmosdb;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.connector.base.sink.writer.ElementConverter;
import org.apache.flink.connector.base.sink.writer.TestSinkInitContext;
import org.junit.jupiter.api.Test;

/** A converter that opens itself in the way of the Flink at hand, and the connector that was compiled for another. */
class ConverterOpeningITCase {
    @Test
    void isOpenedWithTheContextThatThisFlinkHasAndFailsWithItsOwnException() throws Exception {
        List<Object> contexts = new ArrayList<>();
        List<Method> calls = new ArrayList<>();
        ElementConverter<?, ?> converter = (ElementConverter<?, ?>) Proxy.newProxyInstance(
                getClass().getClassLoader(), new Class<?>[] {ElementConverter.class}, (self, method, arguments) -> {
                    if (!contexts.isEmpty()) {
                        throw new IllegalStateException("opened twice");
                    }
                    calls.add(method);
                    contexts.add(arguments[0]);
                    return null;
                });
        TestSinkInitContext context = new TestSinkInitContext();
        ConverterOpening.open(converter, context);
        assertThat(calls).singleElement().extracting(Method::getName).isEqualTo("open");
        Object given = contexts.get(0);
        assertThat(given).isInstanceOf(calls.get(0).getParameterTypes()[0]);
        assertThat(given.getClass().getMethod("metricGroup").invoke(given)).isSameAs(context.metricGroup());
        assertThatThrownBy(() -> ConverterOpening.open(converter, context))
                .isInstanceOf(IllegalStateException.class)
                .hasMessage("opened twice");
    }
}
