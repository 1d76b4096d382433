package io.cosmosflink.core;

import java.util.List;

/** What a catalog wants of an account: the ADMINISTER frame of {@code docs/boundary.md}. */
@Internal
public final class CatalogRequest {
    /** The longest that a native waits. */
    static final long TIMEOUT_MILLIS = 60_000;

    /** What numbers in documents become. */
    public enum Numbers {
        /** BIGINT, DECIMAL(38, 0) where that is too small, DOUBLE where there are fractions. */
        AUTO(1),
        DOUBLE(2),
        /** BIGINT, or a DECIMAL where there are fractions. */
        DECIMAL(3);

        final int number;

        Numbers(int number) {
            this.number = number;
        }
    }

    /** What values of several types become. */
    public enum Conflict {
        VARIANT(1),
        STRING(2);

        final int number;

        Conflict(int number) {
            this.number = number;
        }
    }

    /**
     * How columns are made of documents.
     *
     * @param sample documents that are looked at; none for no columns
     * @param timestamps whether texts become timestamps that all are such
     */
    public record Inference(int sample, Numbers numbers, Conflict conflict, boolean timestamps) {
        /** Of a container alone, without its columns. */
        public static final Inference NONE = new Inference(0, Numbers.AUTO, Conflict.STRING, false);
    }

    /**
     * Request units per second of what is created.
     *
     * @param manual 0 for what the account gives
     * @param autoscale the most, scaled by the service; 0 for none
     */
    public record Throughput(int manual, int autoscale) {
        public static final Throughput DEFAULT = new Throughput(0, 0);
    }

    private final byte[] frame;

    private CatalogRequest(FrameWriter out) {
        frame = out.toBytes();
    }

    private static FrameWriter action(int number) {
        return FrameWriter.frame(FrameKind.ADMINISTER).u8(number);
    }

    /** Whether the account answers. */
    public static CatalogRequest connect() {
        return new CatalogRequest(action(1));
    }

    public static CatalogRequest databases() {
        return new CatalogRequest(action(2));
    }

    /** Whether a database is there. */
    public static CatalogRequest database(String database) {
        return new CatalogRequest(action(3).str(database));
    }

    public static CatalogRequest containers(String database) {
        return new CatalogRequest(action(4).str(database));
    }

    public static CatalogRequest describe(String database, String container, Inference inference) {
        return new CatalogRequest(action(5)
                .str(database)
                .str(container)
                .u32(inference.sample())
                .u8(inference.numbers().number)
                .u8(inference.conflict().number)
                .u8(inference.timestamps() ? 1 : 0));
    }

    public static CatalogRequest createDatabase(String database, Throughput throughput) {
        return new CatalogRequest(
                action(6).str(database).u32(throughput.manual()).u32(throughput.autoscale()));
    }

    /**
     * @param keys paths of the partition key, as the service has them
     * @param defaultTtl seconds; -1: documents live on that do not say otherwise; 0: all do
     */
    public static CatalogRequest createContainer(
            String database, String container, List<String> keys, long defaultTtl, Throughput throughput) {
        FrameWriter out = action(7).str(database).str(container).u32(keys.size());
        keys.forEach(out::str);
        return new CatalogRequest(out.u64(defaultTtl).u32(throughput.manual()).u32(throughput.autoscale()));
    }

    public static CatalogRequest dropDatabase(String database) {
        return new CatalogRequest(action(8).str(database));
    }

    public static CatalogRequest dropContainer(String database, String container) {
        return new CatalogRequest(action(9).str(database).str(container));
    }

    byte[] frame() {
        return frame;
    }
}
