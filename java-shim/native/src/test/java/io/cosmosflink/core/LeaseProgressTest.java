package io.cosmosflink.core;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class LeaseProgressTest {
    private static final Map<String, String> OPTIONS =
            Map.of("scan.lease.container", "leases", "scan.lease.format", "java");

    private final List<String> published = new ArrayList<>();

    /** Notes what is published as checkpoint and ids. */
    private final class Source extends IdleSource {
        @Override
        public void publish(long checkpoint, Collection<SplitEntry> splits) {
            published.add(
                    checkpoint + splits.stream().map(SplitEntry::id).toList().toString());
        }
    }

    private static List<SplitEntry> splits(String... ids) {
        return List.of(ids).stream()
                .map(id -> new SplitEntry(id, 0, true, "", new byte[0]))
                .toList();
    }

    @Test
    void onlyWhatHasCompletedIsPublishedAndAsItWasTaken() {
        LeaseProgress progress = new LeaseProgress(OPTIONS);
        progress.follow(new Source());
        progress.taken(1, splits("a"));
        progress.taken(2, splits("a", "b"));
        progress.taken(3, splits("c"));
        assertThat(published).isEmpty();
        progress.completed(2);
        assertThat(published).containsExactly("2[a, b]");
        // Aborted, or told late: there is a newer one.
        progress.completed(1);
        assertThat(published).hasSize(1);
        progress.completed(3);
        assertThat(published).containsExactly("2[a, b]", "3[c]");
    }

    @Test
    void whatCompletesBeforeTheCoreIsOpenIsPublishedThen() {
        LeaseProgress progress = new LeaseProgress(OPTIONS);
        progress.taken(1, splits("a"));
        progress.completed(1);
        Source first = new Source();
        progress.follow(first);
        assertThat(published).containsExactly("1[a]");
        progress.forget(first);
        progress.taken(2, splits("b"));
        progress.completed(2);
        assertThat(published).as("nothing is open").hasSize(1);
        progress.follow(new Source());
        assertThat(published).containsExactly("1[a]", "2[b]");
    }

    @Test
    void checkpointsThatNeverCompleteAreForgotten() {
        LeaseProgress progress = new LeaseProgress(OPTIONS);
        progress.follow(new Source());
        for (int checkpoint = 1; checkpoint <= LeaseProgress.MOST_TAKEN + 1; checkpoint++) {
            progress.taken(checkpoint, splits("a"));
        }
        progress.completed(1);
        assertThat(published).isEmpty();
        progress.completed(2);
        assertThat(published).containsExactly("2[a]");
    }

    @Test
    void nothingIsKeptWithoutALeaseContainer() {
        for (Map<String, String> options :
                List.of(Map.<String, String>of(), Map.of("scan.lease.container", "l", "scan.lease.format", "none"))) {
            LeaseProgress progress = new LeaseProgress(options);
            progress.follow(new Source());
            progress.taken(1, splits("a"));
            progress.completed(1);
        }
        assertThat(published).isEmpty();
    }

    @Test
    void theSourcesIdentityIsAddedWhereFlinkSaysIt() {
        assertThat(LeaseProgress.identified(Map.of("a", "b"), Map.of("<job_id>", "j", "<operator_id>", "o")))
                .isEqualTo(Map.of("a", "b", "scan.lease.job", "j/o"));
        assertThat(LeaseProgress.identified(Map.of("a", "b"), Map.of())).isEqualTo(Map.of("a", "b"));
        assertThat(LeaseProgress.identified(Map.of("a", "b"), null)).isEqualTo(Map.of("a", "b"));
    }
}
