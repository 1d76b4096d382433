package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;

import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class PageReaderTest {
    private static final Map<String, String> OPTIONS =
            Map.of("json.on-error", "fail", "scan.backlog-threshold", "1000");

    /** Two splits, of which one is far behind. */
    private static final class Source extends IdleSource {
        @Override
        public CoreMetrics metrics() {
            FrameWriter frame = FrameWriter.frame(FrameKind.METRICS).u32(0).u32(2);
            frame.str("far").u64(90_000).u64(7).str("near").u64(10).u64(1);
            return CoreMetrics.decode(frame.toBytes());
        }
    }

    /** The real core but for what it opens. */
    private static Core opening(Core.SourceHandle source) {
        return (Core) Proxy.newProxyInstance(
                Core.class.getClassLoader(),
                new Class<?>[] {Core.class},
                (core, method, arguments) ->
                        method.getName().equals("openSource") ? source : method.invoke(NativeCore.get(), arguments));
    }

    private static SplitEntry split(String id, int ordinal) {
        return new SplitEntry(id, ordinal, true, id, new byte[] {1});
    }

    /** Watermark alignment holds a split back because the others are behind: it waits for them. */
    @Test
    void aSplitThatIsHeldBackIsNoBacklog() {
        Core core = opening(new Source());
        List<Long> told = new ArrayList<>();
        LagReports lag = new LagReports(OPTIONS, told::add);
        ReaderMetrics metrics = new ReaderMetrics(core);
        try (PageReader reader =
                new PageReader(core, OPTIONS, metrics, Core.Peers.NONE, lag, new LeaseProgress(OPTIONS))) {
            reader.addSplits(List.of(split("far", 0), split("near", 1)));
            reader.pauseOrResume(List.of("far"), List.of());
            assertThat(reader.next()).isNull();
            assertThat(told).containsExactly(10L);
            reader.pauseOrResume(List.of(), List.of("far"));
            assertThat(reader.next()).isNull();
            assertThat(told).containsExactly(10L, 90_000L);
            reader.pauseOrResume(List.of("far"), List.of());
            assertThat(reader.next()).isNull();
            assertThat(told).containsExactly(10L, 90_000L, 10L);
        }
    }
}
