//! What is left when the last handle closes. Alone in its process, since it counts the process's threads.

mod support;

use std::time::{Duration, Instant};

use support::*;

fn threads(name: &str) -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok())
        .filter(|comm| comm.trim() == name)
        .count()
}

#[test]
fn handles_share_a_runtime_that_ends_with_the_last_of_them() {
    let local = Local::start(&["c:/pk:2"]);
    assert_eq!(threads("cosmosflink"), 0);
    for _ in 0..3 {
        let sink = local.sink("c", &[]);
        let workers = threads("cosmosflink");
        assert!(workers > 0);
        let (source, _) = local.source_of_all("c", &[]);
        upserts(&sink, "a", 100, 10);
        outcomes(&sink, 100);
        read(&source, 100);
        assert_eq!(threads("cosmosflink"), workers, "one runtime for both");
        sink.close();
        drop(sink);
        assert_eq!(threads("cosmosflink"), workers, "the source still uses it");
        let started = Instant::now();
        source.close();
        drop(source);
        while threads("cosmosflink") > 0 {
            assert!(
                started.elapsed() < Duration::from_secs(5),
                "{} threads are left",
                threads("cosmosflink")
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
