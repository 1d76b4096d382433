//! The fuzzer of tests/fuzz: builds and runs it. Its short form is among the Rust tests.

use std::path::Path;
use std::process::Command;

use anyhow::{bail, Context, Result};

use crate::build;
use crate::process::{attend, run as run_command};
use crate::root;

/// How to look.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// For how long.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub seconds: u32,
    /// Run this input in place of looking for others.
    #[arg(long, value_name = "FILE")]
    pub input: Option<std::path::PathBuf>,
}

/// Inputs that are kept, and where new ones go.
const SEEDS: &str = "tests/fuzz/seeds";
const FOUND: &str = "target/fuzz";

/// The optimised build, with the assertions of our own crates, of which the core says which way it takes.
fn build() -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(["build", "--quiet", "--release", "-p", "cosmosflink-fuzz"]);
    command.args(["--features", "fuzzer"]);
    for name in ["cosmosflink-core", "cosmosflink-fuzz"] {
        let config = format!("profile.release.package.{name}.debug-assertions=true");
        command.args(["--config", &config]);
    }
    command.env(
        "RUSTC_WORKSPACE_WRAPPER",
        root().join("tests/fuzz/instrumented.sh"),
    );
    run_command(command.current_dir(root()))
}

/// The command `fuzz`.
pub fn run(options: &Options) -> Result<()> {
    println!("building the fuzzer");
    let found = root().join(FOUND);
    let corpus = found.join("corpus");
    std::fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
    // Apart from what later builds put in its place.
    let fuzzer = found.join("fuzzer");
    {
        let _lock = build::lock()?;
        let shipped = build::library().is_file();
        build()?;
        std::fs::copy(root().join("target/release/cosmosflink-fuzz"), &fuzzer)
            .context("cannot copy the fuzzer")?;
        // The build has put a library in the place of the shipped one that no JVM can load.
        if shipped {
            build::packages(&["cosmosflink-core"])?;
        }
    }
    let mut command = Command::new(&fuzzer);
    command.current_dir(root());
    match &options.input {
        Some(input) => command.arg(input),
        None => command
            .arg(&corpus)
            .arg(SEEDS)
            .arg(format!("-max_total_time={}", options.seconds))
            .arg(format!("-artifact_prefix={}/", found.display()))
            .args([
                "-max_len=4096",
                "-timeout=10",
                "-rss_limit_mb=2048",
                "-print_final_stats=1",
            ]),
    };
    let status = attend(&mut command)?;
    if !status.success() {
        bail!("{}", what_to_do(&found));
    }
    Ok(())
}

fn what_to_do(found: &Path) -> String {
    format!(
        "an input does not hold: it is in {0}; run it by cargo xtask fuzz --input FILE, make it small by {0}/fuzzer -minimize_crash=1 \
         -runs=10000 FILE, and keep it in {SEEDS} with what mends it",
        found.display()
    )
}
