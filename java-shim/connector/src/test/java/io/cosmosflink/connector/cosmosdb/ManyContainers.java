package io.cosmosflink.connector.cosmosdb;

import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.apache.flink.connector.testframe.TestResource;

/** A local Cosmos with a container for each test of a suite. */
final class ManyContainers implements TestResource {
    private static final int CONTAINERS = 32;

    private final AtomicInteger next = new AtomicInteger();
    private LocalCosmos cosmos;

    @Override
    public void startUp() throws Exception {
        cosmos = LocalCosmos.start(
                IntStream.range(0, CONTAINERS).mapToObj(i -> "c" + i + ":/pk:4").toArray(String[]::new));
    }

    @Override
    public void tearDown() {
        if (cosmos != null) {
            cosmos.close();
        }
    }

    LocalCosmos cosmos() {
        return cosmos;
    }

    /** A container that no other test uses. */
    String container() {
        int number = next.getAndIncrement();
        if (number >= CONTAINERS) {
            throw new IllegalStateException("only " + CONTAINERS + " containers; declare more");
        }
        return "c" + number;
    }
}
