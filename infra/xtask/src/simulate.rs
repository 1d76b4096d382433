//! The simulation: builds it and runs it; and the mutants by which it is judged.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{bail, Context, Result};

use crate::build;
use crate::process::{output, run as run_command};
use crate::root;

/// What to simulate.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// How many seeds.
    #[arg(long, default_value_t = 2000)]
    pub seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub from: u64,
    /// One side only: sink or source.
    #[arg(long)]
    pub only: Option<String>,
    /// Run this plan in place of seeds, and show what happens.
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// Break the core in known ways, one after the other, and count the seeds until each shows; writes the table in docs/reliability.md.
    #[arg(long)]
    pub mutants: bool,
    /// With --mutants: only those whose names contain this text; the table stays as it is.
    #[arg(long, value_name = "TEXT", requires = "mutants")]
    pub mutant: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            seeds: 2000,
            from: 0,
            only: None,
            plan: None,
            mutants: false,
            mutant: None,
        }
    }
}

/// Seeds that a mutant may survive.
const SURVIVES: u64 = 200;

/// Where the table of the mutants stands.
const TABLE: &str = "docs/reliability.md";
const BEGIN: &str = "<!-- mutants:begin -->\n";
const END: &str = "<!-- mutants:end -->";

/// The optimised build, with the assertions of our own crates.
fn cargo_build(tree: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.args(["build", "--quiet", "--release", "-p", "cosmosflink-sim"]);
    for name in ["cosmosflink-core", "cosmosflink-sim"] {
        let config = format!("profile.release.package.{name}.debug-assertions=true");
        command.args(["--config", &config]);
    }
    command.current_dir(tree);
    command
}

/// The command `simulate`.
pub fn run(options: &Options) -> Result<()> {
    if options.mutants {
        return mutants(options.mutant.as_deref());
    }
    println!("building the simulation");
    let binary = {
        let _lock = build::lock()?;
        run_command(&mut cargo_build(&root()))?;
        root().join("target/release/cosmosflink-sim")
    };
    let start = || {
        let mut command = Command::new(&binary);
        command.current_dir(root());
        command
    };
    if let Some(plan) = &options.plan {
        return run_command(start().arg("--plan").arg(plan));
    }
    run_command(start().args(["--plan", "tests/sim/plans"]))?;
    run_command(start().args(range(options.seeds, options.from, options.only.as_deref())))
}

fn range(seeds: u64, from: u64, only: Option<&str>) -> Vec<String> {
    let mut args = vec![format!("--seeds={seeds}"), format!("--from={from}")];
    args.extend(only.map(|side| format!("--only={side}")));
    args
}

/// Where the patches of the simulation's mutants are.
const MUTANTS: &str = "tests/sim/mutants";

/// A way to break the core.
pub struct Mutant {
    pub name: String,
    patch: PathBuf,
    /// What it breaks: the first line of its patch.
    breaks: String,
    /// What says that it does, where the second line of its patch names that.
    pub shown_by: String,
}

impl Mutant {
    /// Makes a copy of the tree below a folder, broken in this way, and returns where it is.
    pub fn tree(&self, home: &Path) -> Result<PathBuf> {
        let tree = copy_tree(&home.join("tree"))?;
        let applied = output(
            Command::new("git")
                .args(["apply", "--whitespace=nowarn"])
                .arg(&self.patch)
                .current_dir(&tree)
                // Within a repository git leaves out, without a word, what is not below the current folder.
                .env("GIT_CEILING_DIRECTORIES", home),
        );
        applied.with_context(|| {
            format!(
                "the mutant '{}' does not fit the core any more: bring its patch up to date",
                self.name
            )
        })?;
        Ok(tree)
    }
}

/// The mutants whose patches are in a folder of the repository.
pub fn all_mutants(folder: &str) -> Result<Vec<Mutant>> {
    let folder = root().join(folder);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let patch = entry?.path();
        if patch.extension().is_none_or(|e| e != "patch") {
            continue;
        }
        let text = std::fs::read_to_string(&patch)?;
        let name = patch
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .replace('-', " ");
        all.push(Mutant {
            name,
            breaks: text.lines().next().unwrap_or_default().to_owned(),
            shown_by: text
                .lines()
                .nth(1)
                .and_then(|line| line.strip_prefix("shown by: "))
                .unwrap_or_default()
                .to_owned(),
            patch,
        });
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Applies each mutant to a copy of the tree, and simulates until it shows.
fn mutants(only: Option<&str>) -> Result<()> {
    let all = all_mutants(MUTANTS)?;
    let home = root().join("target/mutants");
    let (mut rows, mut survivors) = (Vec::new(), Vec::new());
    for mutant in all
        .iter()
        .filter(|m| only.is_none_or(|text| m.name.contains(text)))
    {
        let began = Instant::now();
        let tree = mutant.tree(&home)?;
        let mut build = cargo_build(&tree);
        // Few seeds are run, so that what takes time is to build.
        for name in ["cosmosflink-core", "cosmosflink-sim"] {
            build.args(["--config", &format!("profile.release.package.{name}.opt-level=0")]);
        }
        build.env("CARGO_INCREMENTAL", "1");
        run_command(build.env("CARGO_TARGET_DIR", home.join("target")))
            .with_context(|| format!("the mutant '{}' does not compile", mutant.name))?;
        let out = Command::new(home.join("target/release/cosmosflink-sim"))
            .args(range(SURVIVES, 0, None))
            .arg("--no-shrink")
            .arg("--out")
            .arg(home.join("plans"))
            .stdin(Stdio::null())
            .output()?;
        let told = String::from_utf8_lossy(&out.stdout);
        let fell = match told.lines().find_map(fell) {
            Some((seeds, invariant)) => Some((seeds.to_string(), invariant)),
            // What takes more seeds has a plan that is kept for it.
            None => falls_by_a_kept_plan(&home.join("target/release/cosmosflink-sim"))?,
        };
        let took = began.elapsed().as_secs();
        match fell {
            Some((seeds, invariant)) => {
                println!("{}: falls, seeds: {seeds} ({invariant}), {took} s", mutant.name);
                rows.push(format!(
                    "| {} | {} | {invariant} | {seeds} |",
                    mutant.name, mutant.breaks
                ));
            }
            None => {
                println!("{}: survives {SURVIVES} seeds, {took} s", mutant.name);
                survivors.push(mutant.name.as_str());
            }
        }
    }
    if !survivors.is_empty() {
        bail!("mutants that no invariant catches: {}", survivors.join(", "));
    }
    if only.is_some() {
        return Ok(());
    }
    let path = root().join(TABLE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {TABLE}"))?;
    let (before, rest) = text
        .split_once(BEGIN)
        .with_context(|| format!("{TABLE} has no {}", BEGIN.trim()))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("{TABLE} has no {END}"))?;
    let table = format!(
        "| Mutant | What it breaks | Invariant that caught it | Seeds |\n|---|---|---|---|\n{}\n",
        rows.join("\n")
    );
    std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}"))?;
    println!(
        "{} mutants, and all of them fall; the table in {TABLE} says how",
        rows.len()
    );
    Ok(())
}

/// The invariant that a kept plan finds broken.
fn falls_by_a_kept_plan(binary: &Path) -> Result<Option<(String, String)>> {
    let out = Command::new(binary)
        .args(["--plan", "tests/sim/plans"])
        .current_dir(root())
        .stdin(Stdio::null())
        .output()?;
    let told = String::from_utf8_lossy(&out.stderr);
    // error: PATH: INVARIANT: DETAILS
    let invariant = told
        .strip_prefix("error: ")
        .and_then(|rest| rest.split(": ").nth(1));
    Ok(invariant
        .filter(|_| !out.status.success())
        .map(|invariant| ("a kept plan".to_owned(), invariant.to_owned())))
}

/// How many seeds a mutant lived for and the invariant that it broke, from the simulation's own line about it.
fn fell(line: &str) -> Option<(u64, String)> {
    let rest = line.split_once(" fails after ")?.1;
    let (seeds, what) = rest.split_once(" seeds: ")?;
    let invariant = what.split(':').next()?.to_owned();
    Some((seeds.parse().ok()?, invariant))
}

/// Everything that git knows of, and nothing else.
fn copy_tree(to: &Path) -> Result<PathBuf> {
    let listed = output(Command::new("git").args(["ls-files", "-z"]).current_dir(root()))?;
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (root().join(name), to.join(name));
        let Ok(fresh) = std::fs::read(&from) else {
            // Deleted, and not committed yet.
            continue;
        };
        // What is the same keeps its time, so that it is not built again.
        if std::fs::read(&to).is_ok_and(|old| old == fresh) {
            continue;
        }
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&to, fresh).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(to.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simulations_line_is_understood() {
        let line = "seed 17 fails after 18 seeds: progress: 3 submissions are open";
        assert_eq!(fell(line), Some((18, "progress".to_owned())));
        assert_eq!(fell("200 seeds from 0 on: everything holds"), None);
    }

    #[test]
    fn every_mutant_says_what_it_breaks() {
        for folder in [MUTANTS, crate::faults::MUTANTS] {
            for mutant in all_mutants(folder).unwrap() {
                assert!(
                    !mutant.breaks.is_empty() && !mutant.breaks.starts_with("diff"),
                    "{}",
                    mutant.name
                );
            }
        }
    }
}
