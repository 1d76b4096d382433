//! The source and the discovery over a feed of the test's own: one thread, no network.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cosmosflink_core::config::{Config, Role, Start};
use cosmosflink_core::discovery::Enumerator;
use cosmosflink_core::error::{CoreError, Kind, Result};
use cosmosflink_core::feed::{Feed, Pages, RawPage, Reached};
use cosmosflink_core::metrics::Metrics;
use cosmosflink_core::page::{Items, KeyPaths};
use cosmosflink_core::source::Source;
use cosmosflink_core::split::{Mode, Split, SplitEntry, Stop};
use tokio::runtime::Handle;

/// Two partitions with so many documents each; the position is the number of the next document.
struct Numbers {
    documents: usize,
    paths: KeyPaths,
    /// Kinds with which the next requests fail.
    failures: Arc<Mutex<Vec<Kind>>>,
    hangs: bool,
    renewed: bool,
    /// Numbers of the last write that the next requests are told.
    writes: Arc<Mutex<Vec<i64>>>,
    /// Pages that were asked for.
    asked: Arc<AtomicUsize>,
}

impl Numbers {
    fn new(documents: usize) -> Numbers {
        Numbers {
            documents,
            paths: KeyPaths::new(&["/pk"]),
            failures: Arc::default(),
            hangs: false,
            renewed: false,
            writes: Arc::default(),
            asked: Arc::default(),
        }
    }
}

struct Reading {
    documents: usize,
    at: usize,
    limit: usize,
    failures: Arc<Mutex<Vec<Kind>>>,
    hangs: bool,
    writes: Arc<Mutex<Vec<i64>>>,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl Feed for Numbers {
    fn rid(&self) -> &str {
        "rid"
    }

    fn name(&self) -> &str {
        "numbers"
    }

    fn key_paths(&self) -> &KeyPaths {
        &self.paths
    }

    async fn ranges(&self, refresh: bool) -> Result<Vec<(String, String)>> {
        assert!(refresh, "a discovery does not go by what was known");
        Ok(vec![
            (String::new(), "80".to_owned()),
            ("80".to_owned(), "FF".to_owned()),
        ])
    }

    async fn check(&self) -> Result<()> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        match self.renewed {
            false => Err(CoreError::new(Kind::Auth, "the key was replaced")),
            true => Ok(()),
        }
    }

    async fn open(&self, split: &Split, limit: u32) -> Result<Box<dyn Pages>> {
        let at = split.continuation.as_ref().map_or(0, |at| at.parse().unwrap());
        Ok(Box::new(Reading {
            documents: self.documents,
            at,
            limit: limit as usize,
            failures: self.failures.clone(),
            hangs: self.hangs,
            writes: self.writes.clone(),
            asked: self.asked.clone(),
        }))
    }

    async fn renewed(&self) -> Result<Option<Arc<dyn Feed>>> {
        Ok(Some(Arc::new(Numbers {
            renewed: true,
            ..Numbers::new(self.documents)
        })))
    }
}

#[async_trait]
impl Pages for Reading {
    async fn next(&mut self, _metrics: &Metrics) -> Result<RawPage> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
        self.asked.fetch_add(1, SeqCst);
        if let Some(kind) = self.failures.lock().unwrap().pop() {
            return Err(CoreError::new(kind, "as the test wants it"));
        }
        let upto = self.documents.min(self.at + self.limit);
        let documents: Vec<_> = (self.at..upto)
            .map(|n| format!(r#"{{"id":"{n}","pk":"k"}}"#).into())
            .collect();
        let unchanged = documents.is_empty();
        self.at = upto;
        Ok(RawPage {
            bytes: 100 * documents.len() as u64,
            items: Items::Apart(documents),
            continuation: upto.to_string(),
            unchanged,
            stands: false,
            partition: None,
            lsn: self.writes.lock().unwrap().pop(),
            session_lsn: None,
            charge: 1.0,
            position: None,
            ranges: 1,
            reached: Reached::NotYet,
            ended: false,
        })
    }

    fn is_spent(&self) -> bool {
        false
    }
}

fn config(extra: &[(&str, &str)]) -> Config {
    let mut options = BTreeMap::from([
        ("endpoint", "https://nowhere.example/"),
        ("database", "d"),
        ("container", "numbers"),
        ("auth.secret-key", "a2V5"),
        ("scan.page-size", "10"),
        ("retry.backoff", "1"),
        ("retry.max-backoff", "2"),
    ]);
    options.extend(extra.iter().copied());
    let options: Vec<_> = options
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Config::parse(Role::Source, &options).unwrap()
}

fn splits() -> Vec<Split> {
    [("", "80"), ("80", "FF")]
        .into_iter()
        .enumerate()
        .map(|(n, (min, max))| Split {
            ordinal: n as u32,
            container_rid: "rid".to_owned(),
            min: min.to_owned(),
            max: max.to_owned(),
            start: Start::Beginning,
            continuation: None,
            mode: Mode::LatestVersion,
            stop: Stop::Never,
            then: None,
            fingerprint: None,
        })
        .collect()
}

fn on_one_thread<T>(test: impl std::future::Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.unwrap() })
}

fn source(feed: Numbers, extra: &[(&str, &str)]) -> Source {
    Source::over(Arc::new(feed), config(extra), &Handle::current(), 7)
}

fn records(frame: &[u8]) -> u32 {
    u32::from_le_bytes(frame[4..8].try_into().unwrap())
}

#[test]
fn everything_comes_on_one_thread_whatever_fails_and_whoever_gives_up() {
    on_one_thread(async {
        let feed = Numbers::new(95);
        *feed.failures.lock().unwrap() = vec![Kind::Throttled, Kind::Transient, Kind::Throttled];
        let source = source(feed, &[]);
        source.add_splits(splits()).unwrap();
        assert_eq!(
            source.next_page(Duration::ZERO).unwrap(),
            0,
            "nothing is there, and nobody waits"
        );
        let mut came = 0;
        while came < 2 * 95 {
            // Given up again and again, also while a page is there.
            let next = tokio::time::timeout(Duration::from_micros(50), source.next()).await;
            if let Ok(frame) = next {
                came += records(&frame.unwrap().unwrap());
            }
        }
        assert_eq!(came, 2 * 95);
        assert_eq!(source.metrics().records.load(SeqCst), 2 * 95);
        assert_eq!(source.metrics().retries.load(SeqCst), 3);
    });
}

#[test]
fn a_wait_is_woken_and_a_stop_ends_it_with_all_tasks() {
    on_one_thread(async {
        let feed = Numbers {
            hangs: true,
            ..Numbers::new(1)
        };
        let source = Arc::new(source(feed, &[]));
        source.add_splits(splits()).unwrap();
        let wait = || {
            let source = source.clone();
            tokio::spawn(async move { source.next().await })
        };
        let waiting = wait();
        tokio::task::yield_now().await;
        source.wake_up();
        assert!(waiting.await.unwrap().unwrap().is_none());
        // Woken before it waits.
        source.wake_up();
        assert!(source.next().await.unwrap().is_none());
        let waiting = wait();
        tokio::task::yield_now().await;
        source.stop();
        let began = Instant::now();
        source.ended().await;
        assert!(began.elapsed() < Duration::from_secs(1), "a task went on");
        assert_eq!(waiting.await.unwrap().unwrap_err().kind, Kind::Closed);
        assert_eq!(source.add_splits(splits()).unwrap_err().kind, Kind::Closed);
        source.stop();
    });
}

#[test]
fn a_final_failure_comes_behind_the_pages_before_it() {
    on_one_thread(async {
        let feed = Numbers::new(1000);
        let failures = feed.failures.clone();
        let source = source(feed, &[]);
        source.add_splits(splits()[..1].to_vec()).unwrap();
        let mut came = u64::from(records(&source.next().await.unwrap().unwrap()));
        failures.lock().unwrap().push(Kind::NotFound);
        let error = loop {
            match source.next().await {
                Ok(frame) => came += u64::from(records(&frame.unwrap())),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind, Kind::NotFound);
        assert!(error.message.contains("reading split 00-80"), "{error}");
        assert_eq!(source.metrics().records.load(SeqCst), came);
        assert_eq!(
            source.next().await.unwrap_err().kind,
            Kind::NotFound,
            "at each call"
        );
    });
}

#[test]
fn a_look_finds_what_nobody_reads_over_a_renewed_connection_and_can_be_woken() {
    on_one_thread(async {
        let over = |feed: Numbers, start| {
            let config = config(&[("scan.startup.mode", start)]);
            Enumerator::over(Arc::new(feed), config, &Handle::current(), 7)
        };
        let enumerator = over(Numbers::new(0), "latest");
        let known = [SplitEntry {
            split: Split {
                max: "40".to_owned(),
                ordinal: 4,
                ..splits()[0].clone()
            },
            assigned: true,
        }];
        let found = enumerator.look(&known).await.unwrap();
        let found: Vec<_> = found
            .splits
            .iter()
            .map(|split| (split.ordinal, split.id(), split.continuation.as_deref()))
            .collect();
        let expected = [
            (5, "40-80".to_owned(), Some("0")),
            (6, "80-FF".to_owned(), Some("0")),
        ];
        assert_eq!(found, expected, "now is fixed for each");
        let foreign = SplitEntry {
            split: Split {
                container_rid: "another".to_owned(),
                ..splits()[0].clone()
            },
            assigned: true,
        };
        let error = enumerator.look(&[foreign]).await.unwrap_err();
        assert_eq!(error.kind, Kind::State, "{error}");
        let hanging = Numbers {
            hangs: true,
            ..Numbers::new(0)
        };
        let enumerator = Arc::new(over(hanging, "earliest"));
        let look = || {
            let enumerator = enumerator.clone();
            tokio::spawn(async move { enumerator.look(&[]).await })
        };
        let looking = look();
        tokio::task::yield_now().await;
        enumerator.wake_up();
        assert_eq!(looking.await.unwrap().unwrap_err().kind, Kind::Transient);
        let looking = look();
        tokio::task::yield_now().await;
        enumerator.close();
        assert_eq!(looking.await.unwrap().unwrap_err().kind, Kind::Closed);
    });
}

/// Looks for the splits of a feed, one partition after the other and not for long.
async fn look(feed: Numbers, extra: &[(&str, &str)]) -> Result<Vec<Split>> {
    let feed = Numbers {
        renewed: true,
        ..feed
    };
    let short = [
        ("retry.deadline", "300"),
        ("retry.backoff", "20"),
        ("retry.max-backoff", "100"),
        ("max-concurrency", "1"),
    ];
    let config = config(&[&short[..], extra].concat());
    let enumerator = Enumerator::over(Arc::new(feed), config, &Handle::current(), 7);
    enumerator.look(&[]).await.map(|found| found.splits)
}

#[test]
fn a_look_for_where_now_is_does_not_ask_for_ever() {
    on_one_thread(async {
        // Each page has changes of its very moment.
        let feed = Numbers::new(1000);
        let asked = feed.asked.clone();
        let error = look(feed, &[("scan.startup.mode", "latest")]).await.unwrap_err();
        assert_eq!(error.kind, Kind::Transient);
        assert!(error.message.contains("written to without a pause"), "{error}");
        assert!((2..=20).contains(&asked.load(SeqCst)), "{asked:?}");
        // The documents are told of fewer writes than the changes, again and again.
        let initial = [
            ("scan.change-feed.mode", "all-versions-and-deletes"),
            ("scan.startup.mode", "initial"),
        ];
        let feed = Numbers::new(0);
        *feed.writes.lock().unwrap() = [7, 9].repeat(50_000);
        let asked = feed.asked.clone();
        let error = look(feed, &initial).await.unwrap_err();
        assert_eq!(error.kind, Kind::Transient);
        assert!(
            error.message.contains("write 9 on") && error.message.contains("write 7 only"),
            "{error}"
        );
        assert!((4..=40).contains(&asked.load(SeqCst)), "{asked:?}");
        // Once they are up to date it goes on.
        let feed = Numbers::new(0);
        *feed.writes.lock().unwrap() = vec![9, 9, 9, 9, 8, 9];
        assert_eq!(look(feed, &initial).await.unwrap().len(), 2);
    });
}
