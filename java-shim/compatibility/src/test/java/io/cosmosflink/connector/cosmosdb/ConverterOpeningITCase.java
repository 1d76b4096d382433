package io.cosmosflink.connector.cosmosdb;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.connector.base.sink.writer.ElementConverter;
import org.apache.flink.connector.base.sink.writer.TestSinkInitContext;
import org.junit.jupiter.api.Test;

/** A converter that was compiled for Flink 1.20, and the connector that was not. */
@SuppressWarnings("deprecation")
class ConverterOpeningITCase {
    private static final class Old implements ElementConverter<String, CosmosDBRequestEntry> {
        private static final long serialVersionUID = 1L;

        private transient Sink.InitContext context;

        @Override
        public void open(Sink.InitContext given) {
            if (context != null) {
                throw new IllegalStateException("opened twice");
            }
            context = given;
        }

        @Override
        public CosmosDBRequestEntry apply(String element, SinkWriter.Context at) {
            throw new UnsupportedOperationException(element);
        }
    }

    @Test
    void isOpenedWithTheContextOfItsTimeAndFailsWithItsOwnException() {
        Old converter = new Old();
        TestSinkInitContext context = new TestSinkInitContext();
        ConverterOpening.open(converter, context);
        assertThat(converter.context.metricGroup()).isSameAs(context.metricGroup());
        assertThatThrownBy(() -> ConverterOpening.open(converter, context))
                .isInstanceOf(IllegalStateException.class)
                .hasMessage("opened twice");
    }
}
