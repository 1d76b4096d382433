import java.util.Collections;
import java.util.List;

/**
 * The order that the benchmarks write, as a class of a team's own, which Jackson writes as JSON: the same document that the plain loop in Rust
 * and the connector's job make.
 */
public final class Order {
    /** About the bytes of a document without its lines, as in the plain loop. */
    private static final int BARE = 175;

    /** Bytes of a line and its comma. */
    private static final int LINE = 61;

    public String id;
    public String customerId;
    public double amount;
    public String currency = "EUR";
    public String createdAt = "2026-11-24T10:15:30.123Z";
    public String source = "eu-west";
    public List<Line> lines;

    /** What is ordered. */
    public static final class Line {
        public String sku = "sku-004711";
        public int quantity = 2;
        public double price = 19.99;
        public boolean gift;
    }

    /** For Jackson and Flink. */
    public Order() {}

    /** Order number {@code i} of as many partition keys. */
    public Order(long i, int keys, List<Line> lines) {
        id = padded("order-", i, 12);
        customerId = padded("customer-", i % keys, 5);
        amount = i % 900 + i % 100 / 100.0;
        this.lines = lines;
    }

    private static String padded(String prefix, long value, int width) {
        String digits = Long.toString(value);
        return prefix + "0".repeat(Math.max(0, width - digits.length())) + digits;
    }

    /** Lines that make a document of about so many bytes. */
    public static List<Line> lines(int bytes) {
        return Collections.nCopies(Math.max(0, bytes - BARE) / LINE, new Line());
    }
}
