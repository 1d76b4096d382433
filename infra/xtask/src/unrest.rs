//! What happens to a pipeline while orders and their updates come: partitions of the first container split and merge, the account throttles, the
//! TaskManager is killed. In which order, and to whom, follows from a seed.

use anyhow::{bail, Context, Result};
use serde_json::{json, Value};

use crate::cluster::Cluster;
use crate::pipeline::{Containers, Pipeline, SOURCE};

/// Orders that must arrive between two steps: so nothing happens to a pipeline that does not run, and the writer is never done.
const BETWEEN: u64 = 400;
/// Of which the first container has this many partitions.
const PARTITIONS: u64 = 4;

/// One thing that happens.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// The writer of updates starts, and goes on until everything has happened.
    Update,
    /// The partition of this number, of those that the container was made with, is split.
    Split { partition: u64, lock_millis: u64 },
    /// The lower or the upper half of it is split again.
    SplitAgain { upper: bool, lock_millis: u64 },
    /// The half that was left is merged with the quarter beside it.
    Merge { lock_millis: u64 },
    /// From now on so many requests of every kind are answered with 429.
    Throttle { share: f64, retry_after_millis: u64 },
    /// And from now on none.
    Calm,
    /// The TaskManager gets SIGKILL; another one is started.
    Kill,
}

/// A step, and whether it comes on the heels of the one before.
#[derive(Clone, Debug, PartialEq)]
struct Planned {
    step: Step,
    at_once: bool,
}

/// Numbers that follow from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Two splits and a merge, a phase of throttling and a kill, mixed; the updates come first.
fn plan(seed: u64) -> Vec<Planned> {
    let mut dice = Dice(seed);
    let lock = |dice: &mut Dice| dice.below(4) * 100;
    let mut threads = [
        vec![
            Step::Split {
                partition: dice.below(PARTITIONS),
                lock_millis: lock(&mut dice),
            },
            Step::SplitAgain {
                upper: dice.below(2) == 1,
                lock_millis: lock(&mut dice),
            },
            Step::Merge {
                lock_millis: lock(&mut dice),
            },
        ],
        vec![
            Step::Throttle {
                share: [0.2, 0.4, 0.6][dice.below(3) as usize],
                retry_after_millis: [20, 100, 300][dice.below(3) as usize],
            },
            Step::Calm,
        ],
        vec![Step::Kill],
    ];
    let mut steps = vec![Planned {
        step: Step::Update,
        at_once: false,
    }];
    loop {
        let left: u64 = threads.iter().map(|thread| thread.len() as u64).sum();
        if left == 0 {
            return steps;
        }
        let mut chosen = dice.below(left);
        for thread in &mut threads {
            let length = thread.len() as u64;
            if chosen < length {
                let step = thread.remove(0);
                // A phase of throttling lasts, and so does the time before and behind it.
                let at_once = step != Step::Calm && dice.below(3) == 0;
                steps.push(Planned { step, at_once });
                break;
            }
            chosen -= length;
        }
    }
}

/// What is asked of whoever runs the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To start the writer of updates.
    StartUpdates,
    /// To kill the TaskManager, and to start it again.
    Kill,
    /// To stop both writers: everything has happened.
    StopWriters,
}

/// The steps of a run, and how far it has come.
pub struct Unrest {
    steps: std::vec::IntoIter<Planned>,
    container: String,
    /// Orders that must have arrived before the next step.
    wanted: u64,
    /// Ids of the partitions that the first split has made, the lower first, and of the one that was left by the second with its neighbour.
    halves: Vec<u64>,
    neighbours: Vec<u64>,
    over: bool,
}

impl Unrest {
    pub fn new(seed: u64, containers: &Containers) -> Unrest {
        Unrest {
            steps: plan(seed).into_iter(),
            container: containers.name(SOURCE),
            wanted: BETWEEN,
            halves: Vec::new(),
            neighbours: Vec::new(),
            over: false,
        }
    }

    /// Takes the steps that are due once so many orders have arrived; what it cannot do itself it asks for.
    pub fn go_on(&mut self, arrived: u64, pipeline: &Pipeline, say: impl Fn(String)) -> Result<Vec<Ask>> {
        let mut asks = Vec::new();
        while !self.over {
            let at_once = self.steps.as_slice().first().is_some_and(|next| next.at_once);
            if arrived < self.wanted && !at_once {
                break;
            }
            self.wanted = arrived + BETWEEN;
            let Some(Planned { step, .. }) = self.steps.next() else {
                self.over = true;
                say(format!("{arrived} orders have arrived: stopping the writers"));
                asks.push(Ask::StopWriters);
                break;
            };
            say(format!("{arrived} orders have arrived: {}", described(&step)));
            match step {
                Step::Update => asks.push(Ask::StartUpdates),
                Step::Kill => asks.push(Ask::Kill),
                other => self.tell_account(&other, pipeline)?,
            }
        }
        Ok(asks)
    }

    fn tell_account(&mut self, step: &Step, pipeline: &Pipeline) -> Result<()> {
        let account = Account::of(pipeline)?;
        let database = "orders";
        let split = |partition: u64, lock_millis: u64| -> Result<Vec<u64>> {
            let body = json!({"database": database, "container": self.container, "partition": partition, "lockMillis": lock_millis});
            account.post("split", &body)
        };
        match *step {
            Step::Split {
                partition,
                lock_millis,
            } => self.halves = split(partition, lock_millis)?,
            Step::SplitAgain { upper, lock_millis } => {
                let [lower_half, upper_half] = self.halves[..] else {
                    bail!("the first split made the partitions {:?}", self.halves)
                };
                let quarters = split(if upper { upper_half } else { lower_half }, lock_millis)?;
                let [first, second] = quarters[..] else {
                    bail!("the second split made the partitions {quarters:?}")
                };
                self.neighbours = if upper {
                    vec![lower_half, first]
                } else {
                    vec![second, upper_half]
                };
            }
            Step::Merge { lock_millis } => {
                let body = json!({"database": database, "container": self.container, "partitions": self.neighbours, "lockMillis": lock_millis});
                account.post("merge", &body)?;
            }
            Step::Throttle {
                share,
                retry_after_millis,
            } => {
                let kinds = ["feed", "bulk", "write", "read"];
                let fault = json!({"status": 429, "operations": kinds, "share": share, "retryAfterMillis": retry_after_millis});
                ureq::post(account.url("faults")).send_json(&fault)?;
            }
            Step::Calm => drop(ureq::delete(account.url("faults")).call()?),
            Step::Update | Step::Kill => {}
        }
        Ok(())
    }
}

fn described(step: &Step) -> String {
    match step {
        Step::Update => "another writer updates them".to_owned(),
        Step::Split { partition, .. } => format!("splitting partition {partition}"),
        Step::SplitAgain { upper, .. } => format!(
            "splitting its {} half again",
            if *upper { "upper" } else { "lower" }
        ),
        Step::Merge { .. } => "merging the other half with the quarter beside it".to_owned(),
        Step::Throttle {
            share,
            retry_after_millis,
        } => format!(
            "throttling {:.0} % of the requests, each for {retry_after_millis} ms",
            share * 100.0
        ),
        Step::Calm => "throttling no more".to_owned(),
        Step::Kill => "killing the TaskManager".to_owned(),
    }
}

/// The admin requests of the local account.
struct Account(String);

impl Account {
    fn of(pipeline: &Pipeline) -> Result<Account> {
        let local = pipeline.local.clone();
        local
            .map(Account)
            .context("only the local account splits and merges when it is told to")
    }

    fn url(&self, what: &str) -> String {
        format!("{}_local/{what}", self.0)
    }

    /// Splits or merges; returns the ids of the new partitions, in the order of their ranges.
    fn post(&self, what: &str, body: &Value) -> Result<Vec<u64>> {
        let mut answer = ureq::post(self.url(what))
            .config()
            .http_status_as_error(false)
            .build()
            .send_json(body)?;
        let told: Value = answer.body_mut().read_json()?;
        let ids = told["partitions"].as_array().into_iter().flatten();
        let ids: Option<Vec<u64>> = ids
            .map(|id| id.as_u64().or_else(|| id.as_str()?.parse().ok()))
            .collect();
        ids.filter(|ids| !ids.is_empty())
            .with_context(|| format!("the local account did not {what}: {told}"))
    }
}

/// What the first job has counted in its state.
#[derive(Debug, PartialEq, Eq)]
pub struct Counted {
    documents: u64,
    updates: u64,
    repeats: u64,
}

impl Counted {
    pub fn of(cluster: &Cluster, job: &str) -> Counted {
        let number = |what: &str| cluster.sum(job, |m| m == format!("repeats.{what}")) as u64;
        Counted {
            documents: number("documents"),
            updates: number("updates"),
            repeats: number("repeats"),
        }
    }

    /// Whether every order was counted, the state of the checkpoint included.
    pub fn has(&self, documents: u64) -> bool {
        self.documents >= documents
    }

    /// Every order once, updates of it too, and no repeat.
    pub fn check(&self, documents: u64) -> Result<()> {
        let Counted {
            documents: counted,
            updates,
            repeats,
        } = *self;
        if repeats > 0 {
            bail!("{repeats} repeats: changes that are not newer than what the job's state had of their documents");
        }
        if counted != documents {
            bail!("{documents} orders were made, but the job's state has {counted}");
        }
        if updates == 0 {
            bail!("no update was read: the run shows nothing about them");
        }
        println!("in the job's state: {counted} orders, {updates} updates of them, 0 repeats");
        Ok(())
    }
}

/// The account did what it was told to: one partition became three, of which two are one again, and requests of readers and writers were
/// throttled.
pub fn check_account(pipeline: &Pipeline, containers: &Containers) -> Result<()> {
    let stats = crate::pipeline::get(&Account::of(pipeline)?.url("stats"))?;
    let name = containers.name(SOURCE);
    let all = stats["containers"].as_array().into_iter().flatten();
    let partitions = all
        .filter(|c| c["container"] == name.as_str())
        .find_map(|c| c["partitions"].as_array())
        .with_context(|| format!("the local account has no container {name}: {stats}"))?;
    if partitions.len() as u64 != PARTITIONS + 1 {
        bail!(
            "after two splits and a merge {name} has {} partitions",
            partitions.len()
        );
    }
    for kind in ["changeFeed", "bulk"] {
        if stats["requests"][kind]["429"].as_u64().unwrap_or(0) == 0 {
            bail!("no request of the kind {kind} was throttled");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(steps: &[Planned], wanted: impl Fn(&Step) -> bool) -> usize {
        let found: Vec<_> = (0..steps.len()).filter(|n| wanted(&steps[*n].step)).collect();
        assert_eq!(found.len(), 1, "{steps:?}");
        found[0]
    }

    #[test]
    fn every_plan_has_all_of_it_in_an_order_that_can_be() {
        for seed in 0..1000 {
            let steps = plan(seed);
            let update = place(&steps, |s| *s == Step::Update);
            let split = place(
                &steps,
                |s| matches!(s, Step::Split { partition, .. } if *partition < PARTITIONS),
            );
            let again = place(&steps, |s| matches!(s, Step::SplitAgain { .. }));
            let merge = place(&steps, |s| matches!(s, Step::Merge { .. }));
            let throttle = place(&steps, |s| matches!(s, Step::Throttle { .. }));
            let calm = place(&steps, |s| *s == Step::Calm);
            place(&steps, |s| *s == Step::Kill);
            assert_eq!(update, 0);
            assert!(split < again && again < merge && throttle < calm, "{steps:?}");
            assert!(!steps[calm].at_once && !steps[0].at_once, "{steps:?}");
        }
    }

    #[test]
    fn a_seed_is_a_plan_and_others_differ() {
        assert_eq!(plan(7), plan(7));
        let orders: std::collections::BTreeSet<_> = (0..50)
            .map(|seed| plan(seed).iter().map(|p| described(&p.step)).collect::<Vec<_>>())
            .collect();
        assert!(orders.len() > 40, "{}", orders.len());
    }

    #[test]
    fn a_repeat_a_loss_and_a_run_without_updates_are_refused() {
        let counted = |documents, updates, repeats| Counted {
            documents,
            updates,
            repeats,
        };
        assert!(counted(10, 3, 0).check(10).is_ok());
        for (wrong, why) in [
            (counted(10, 3, 1), "1 repeats"),
            (counted(9, 3, 0), "has 9"),
            (counted(11, 3, 0), "has 11"),
            (counted(10, 0, 0), "no update"),
        ] {
            let said = wrong.check(10).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
    }
}
