package io.cosmosflink.core;

import java.util.List;

/**
 * One row of the core's table of metrics.
 *
 * @param place its place in the table, and so in a snapshot, from 0
 * @param name of the gauge, such as {@code bytesReceived}
 * @param unit such as {@code bytes}
 * @param roles bits, as in the frame: 1 source, 2 sink, 4 a source's, under a name of Flink's own, 8 look-ups
 * @param decimal whether its values are doubles, else they are longs
 * @param meaning one or two sentences
 */
@Internal
public record CoreMetric(int place, String name, String unit, int roles, boolean decimal, String meaning) {
    private static final int SOURCE = 1;
    private static final int SINK = 2;
    private static final int LOOKUP = 8;

    /** Whether a handle of this role counts it. */
    public boolean isOf(Core.Role role) {
        int bit =
                switch (role) {
                    case SOURCE -> SOURCE;
                    case SINK -> SINK;
                    case LOOKUP -> LOOKUP;
                    default -> 0;
                };
        return (roles & bit) != 0;
    }

    /** The row of a name that this jar counts on. */
    static CoreMetric named(List<CoreMetric> table, String name) {
        return table.stream()
                .filter(row -> row.name.equals(name))
                .findFirst()
                .orElseThrow(() ->
                        FrameReader.state("the core has no metric '" + name + "'; use jar and library of one build"));
    }
}
