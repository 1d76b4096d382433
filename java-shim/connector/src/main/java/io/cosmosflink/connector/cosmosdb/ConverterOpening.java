package io.cosmosflink.connector.cosmosdb;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.UndeclaredThrowableException;
import java.util.stream.Stream;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.connector.base.sink.writer.ElementConverter;

/** Opens an element converter as the Flink at hand does: 1.20 has a context of its own for it, which 2.0 no longer has. */
final class ConverterOpening {
    private ConverterOpening() {}

    static void open(ElementConverter<?, ?> converter, WriterInitContext context) {
        Method open = Stream.of(ElementConverter.class.getMethods())
                .filter(method -> method.getName().equals("open"))
                .findFirst()
                .orElseThrow();
        Class<?> wanted = open.getParameterTypes()[0];
        try {
            open.invoke(converter, wanted.isInstance(context) ? context : wrapped(wanted, context));
        } catch (InvocationTargetException e) {
            // The interface declares no exception.
            if (e.getCause() instanceof Error error) {
                throw error;
            }
            throw e.getCause() instanceof RuntimeException cause
                    ? cause
                    : new UndeclaredThrowableException(e.getCause());
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException("this Flink opens element converters in a way that is not known", e);
        }
    }

    /** 1.20: {@code new Sink.InitContextWrapper(context)}. */
    private static Object wrapped(Class<?> wanted, WriterInitContext context) throws ReflectiveOperationException {
        return Class.forName(wanted.getName() + "Wrapper", true, wanted.getClassLoader())
                .getConstructor(WriterInitContext.class)
                .newInstance(context);
    }
}
