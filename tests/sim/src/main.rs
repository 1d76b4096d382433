//! The core over model services on one thread, in time that stands still until everything waits: thousands of runs with failures, each
//! of which can be repeated to the letter. `docs/reliability.md` says what is modelled, and what must be so.

mod feed;
mod plan;
mod service;
mod shrink;
mod sink;
mod source;
mod world;

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use clap::{Parser, ValueEnum};
use cosmosflink_core::clock;
use indicatif::{ProgressBar, ProgressStyle};

use crate::plan::{Plan, Side};
use crate::world::{lock, Shared};

/// The options that every configuration must have.
pub const ACCOUNT: [(&str, &str); 4] = [
    ("endpoint", "http://localhost"),
    ("database", "d"),
    ("container", "c"),
    ("auth.secret-key", "aw=="),
];

/// A run that takes longer than this, in real time, hangs.
const HANGS: Duration = Duration::from_secs(120);

/// Every so many seeds are run twice, and must give the same trace.
const TWICE: u64 = 20;

/// Seeds of both sides are among these.
fn is_run_twice(seed: u64) -> bool {
    (seed / 2).is_multiple_of(TWICE)
}

/// Runs the core against model services, with failures, in simulated time.
#[derive(Parser)]
#[command(name = "cosmosflink-sim", version)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    from: u64,
    /// One side only.
    #[arg(long)]
    only: Option<Only>,
    /// Run this plan in place of seeds, and show what happens. A folder: all plans in it, without showing.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Threads; all processors by default.
    #[arg(long)]
    jobs: Option<usize>,
    /// Where the plans of failures are put.
    #[arg(long, default_value = "target/simulation", value_name = "FOLDER")]
    out: PathBuf,
    /// Leave the plan of a failure as it is.
    #[arg(long)]
    no_shrink: bool,
    /// Go on behind failures, and list them.
    #[arg(long)]
    keep_going: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Only {
    Sink,
    Source,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Each begins with the name of the invariant that does not hold.
    pub violations: Vec<String>,
    pub trace: Vec<String>,
}

impl Outcome {
    pub fn of(world: &Shared) -> Outcome {
        let mut world = lock(world);
        Outcome {
            violations: std::mem::take(&mut world.violations),
            trace: world.trace.lines.take().unwrap_or_default(),
        }
    }

    /// The name of the first invariant that does not hold.
    pub fn invariant(&self) -> Option<&str> {
        self.violations.first().map(|v| v.split(':').next().unwrap_or(v))
    }
}

thread_local! {
    /// What panicked on this thread since the run began.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a plan once.
pub fn run(plan: &Plan, traced: bool) -> Outcome {
    PANIC.with(|p| p.borrow_mut().take());
    // What the core draws where nobody gives it a seed.
    fastrand::seed(plan.seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            let violations = vec![format!("a runtime can be made: {e}")];
            return Outcome {
                violations,
                ..Outcome::default()
            };
        }
    };
    let work = async {
        clock::simulate(Some(world::EPOCH));
        match &plan.side {
            Side::Sink(sink) => sink::run(plan.seed, sink, traced).await,
            Side::Source(source) => source::run(plan.seed, source, traced).await,
        }
    };
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
    let mut outcome = outcome.unwrap_or_default();
    // A panic that the core catches is one all the same.
    if let Some(panic) = PANIC.with(|p| p.borrow_mut().take()) {
        outcome.violations.insert(0, format!("nothing panics: {panic}"));
    }
    outcome
}

/// Runs a plan, and now and then a second time, which must be the same.
fn check(plan: &Plan) -> Outcome {
    if !is_run_twice(plan.seed) {
        return run(plan, false);
    }
    let (first, second) = (run(plan, true), run(plan, true));
    if first == second || !first.violations.is_empty() {
        return Outcome {
            trace: Vec::new(),
            ..first
        };
    }
    let differs = first.trace.iter().zip(&second.trace).find(|(a, b)| a != b);
    let what = match differs {
        Some((a, b)) => format!("'{a}' and '{b}'"),
        None => format!("{} and {} lines", first.trace.len(), second.trace.len()),
    };
    Outcome {
        violations: vec![format!("two runs of a plan are the same: {what}")],
        trace: Vec::new(),
    }
}

/// The plan of a seed.
fn generate(seed: u64, only: Option<Only>) -> Plan {
    match only {
        Some(Only::Sink) => sink::generate(seed),
        Some(Only::Source) => source::generate(seed),
        None if seed.is_multiple_of(2) => sink::generate(seed),
        None => source::generate(seed),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string().replace('\n', " ");
        PANIC.with(|p| {
            p.borrow_mut().get_or_insert(text);
        });
    }));
    let result = match &args.plan {
        Some(path) if path.is_dir() => all_in(path),
        Some(path) => show(path),
        None => seeds(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn read(path: &Path) -> Result<Plan> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no plan", path.display()))
}

/// Runs one plan and shows what happens.
fn show(path: &Path) -> Result<()> {
    let outcome = run(&read(path)?, true);
    for line in &outcome.trace {
        println!("{line}");
    }
    if let Some(violation) = outcome.violations.first() {
        bail!("{violation}");
    }
    println!("everything holds");
    Ok(())
}

/// Plans that are kept, in the order of their names.
fn plans(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|p| p.extension().is_some_and(|e| e == "json"));
    paths.sort();
    Ok(paths)
}

/// Runs the plans that are kept.
fn all_in(folder: &Path) -> Result<()> {
    let paths = plans(folder)?;
    for path in &paths {
        if let Some(violation) = run(&read(path)?, false).violations.first() {
            bail!("{}: {violation}", path.display());
        }
    }
    println!("{} plans: everything holds", paths.len());
    Ok(())
}

/// Runs seeds on several threads, until one fails.
fn seeds(args: &Args) -> Result<()> {
    let jobs = args
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let (next, failed) = (AtomicU64::new(args.from), AtomicU64::new(u64::MAX));
    let (done, broken) = (AtomicU64::new(0), AtomicU64::new(0));
    let running: Vec<Mutex<Option<(u64, Instant)>>> = (0..jobs).map(|_| Mutex::default()).collect();
    let end = args.from + args.seeds;
    let began = Instant::now();
    let bar = ProgressBar::new(args.seeds).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    std::thread::scope(|scope| {
        let workers: Vec<_> = running
            .iter()
            .map(|mine| {
                let (next, failed, done, broken, bar) = (&next, &failed, &done, &broken, &bar);
                scope.spawn(move || loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    // A failure ends the run; what is below it is still looked at, so that it is the lowest that is shown.
                    if seed >= end || seed > failed.load(Ordering::Relaxed) {
                        return;
                    }
                    *mine.lock().unwrap_or_else(PoisonError::into_inner) = Some((seed, Instant::now()));
                    let outcome = check(&generate(seed, args.only));
                    match outcome.violations.first() {
                        Some(violation) if args.keep_going => {
                            broken.fetch_add(1, Ordering::Relaxed);
                            bar.suspend(|| println!("seed {seed}: {violation}"));
                        }
                        Some(_) => drop(failed.fetch_min(seed, Ordering::Relaxed)),
                        None => {}
                    }
                    *mine.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    done.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        while workers.iter().any(|w| !w.is_finished()) {
            std::thread::sleep(Duration::from_millis(100));
            bar.set_position(done.load(Ordering::Relaxed));
            for mine in &running {
                let now = *mine.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((seed, _)) = now.filter(|(_, since)| since.elapsed() > HANGS) {
                    let kept = keep(&args.out, &generate(seed, args.only));
                    println!(
                        "seed {seed} hangs: it goes round without waiting for anything; its plan: {kept:?}"
                    );
                    // Its thread cannot be ended.
                    std::process::exit(1);
                }
            }
        }
    });
    bar.finish_and_clear();
    let broken = broken.into_inner();
    if broken > 0 {
        bail!("{broken} of {} seeds fail", args.seeds);
    }
    let (failed, took) = (failed.into_inner(), began.elapsed().as_secs_f64());
    if failed == u64::MAX {
        println!(
            "{} seeds from {} on: everything holds ({took:.1} s, {:.0} a second)",
            args.seeds,
            args.from,
            args.seeds as f64 / took
        );
        return Ok(());
    }
    fail(args, failed)
}

/// Shows the failure of a seed.
fn fail(args: &Args, seed: u64) -> Result<()> {
    let plan = generate(seed, args.only);
    let outcome = check(&plan);
    let Some(invariant) = outcome.invariant().map(str::to_owned) else {
        bail!("seed {seed} failed, and does not a second time");
    };
    println!(
        "seed {seed} fails after {} seeds: {}",
        seed - args.from + 1,
        outcome.violations[0]
    );
    let plan = match args.no_shrink {
        true => plan,
        false => {
            println!("shrinking its plan");
            shrink::shrink(plan, &invariant, &|plan| check(plan))
        }
    };
    let path = keep(&args.out, &plan)?;
    let again = run(&plan, true);
    println!("what happens with the plan:");
    for line in again.trace.iter().rev().take(60).rev() {
        println!("{line}");
    }
    for violation in &again.violations {
        println!("violation: {violation}");
    }
    println!("run it again: cargo xtask simulate --plan {}", path.display());
    bail!("seed {seed}: {invariant}")
}

fn keep(folder: &Path, plan: &Plan) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(format!("seed-{}.json", plan.seed));
    std::fs::write(&path, serde_json::to_string_pretty(plan)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plans_that_are_kept_hold() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
        for path in plans(&folder).unwrap() {
            let plan = read(&path).unwrap();
            assert!(
                !plan.about.is_empty(),
                "{} does not say what it is for",
                path.display()
            );
            let outcome = run(&plan, false);
            assert!(
                outcome.violations.is_empty(),
                "{}: {:?}",
                path.display(),
                outcome.violations
            );
        }
    }

    #[test]
    fn a_plan_is_the_same_after_it_was_written() {
        for seed in 0..50 {
            let plan = generate(seed, None);
            let text = serde_json::to_string(&plan).unwrap();
            assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
            assert_eq!(generate(seed, None), plan);
        }
    }
}
