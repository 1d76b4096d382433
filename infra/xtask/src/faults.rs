//! The pipeline under faults that meet, seed by seed; and the mutants by which that is judged.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{bail, Context, Result};

use crate::build::Variant;
use crate::checks::pipeline;
use crate::demo::Choice;
use crate::root;
use crate::simulate::all_mutants;

/// Which rounds to run.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// How many seeds.
    #[arg(long, default_value_t = 4)]
    pub seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub from: u64,
    /// Whose jobs run; both: one after the other with each seed.
    #[arg(long, value_enum, default_value = "both")]
    pub variant: Choice,
    /// Break the source in known ways, one after the other, each in a copy of the tree, and fail unless the rounds show it. Builds the copy.
    #[arg(long)]
    pub mutants: bool,
}

/// Where the patches of the mutants are. The first line of each says what it breaks, the second, behind "shown by: ", what a round says.
pub const MUTANTS: &str = "tests/faults/mutants";

/// Orders per second: so many that a backlog is worked off soon after each fault.
const RATE: u64 = 300;

/// The command `faults`.
pub fn run(options: &Options) -> Result<()> {
    if options.mutants {
        return mutants(options);
    }
    let began = Instant::now();
    for seed in options.from..options.from + options.seeds {
        for &variant in options.variant.variants() {
            println!("\n== seed {seed}, {}", variant.name());
            round(variant, seed).with_context(|| format!("seed {seed} fails for {}", variant.name()))?;
        }
    }
    println!(
        "{} seeds from {} on: everything holds ({:.0} s)",
        options.seeds,
        options.from,
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

/// One run of the pipeline.
pub fn round(variant: Variant, seed: u64) -> Result<()> {
    pipeline(|o| {
        o.variant = match variant {
            Variant::Java => Choice::Java,
            Variant::Scala => Choice::Scala,
        };
        (o.unrest, o.rate) = (Some(seed), RATE);
        // What is lost never comes: nobody needs to wait for it as long as for a slow machine.
        o.stall = 60;
    })
}

/// Builds each mutant in a copy of the tree, and has it run the same rounds until one fails in the way that its patch says.
fn mutants(options: &Options) -> Result<()> {
    let home = root().join("target/faults");
    let all = all_mutants(MUTANTS)?;
    for mutant in &all {
        let began = Instant::now();
        let tree = mutant.tree(&home)?;
        let (seeds, from) = (options.seeds.to_string(), options.from.to_string());
        let log = home.join(format!("{}.log", mutant.name.replace(' ', "-")));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let status = Command::new("cargo")
            .args(["xtask", "faults", "--variant", "java"])
            .args(["--seeds", &seeds, "--from", &from])
            .current_dir(&tree)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()?;
        let told = std::fs::read(&log)?;
        let told = String::from_utf8_lossy(&told);
        // Behind the colours of other programs.
        let why = told
            .lines()
            .rev()
            .find_map(|line| Some(line.split_once("error: ")?.1));
        let took = began.elapsed().as_secs();
        match why.filter(|why| !status.success() && why.contains(&mutant.shown_by)) {
            Some(why) => println!("{}: falls, {took} s; {why}", mutant.name),
            None => bail!(
                "{}: it was to show by \"{}\", but after {took} s: {}; see {}",
                mutant.name,
                mutant.shown_by,
                why.unwrap_or("every round holds"),
                log.display()
            ),
        }
    }
    println!("{} mutants, and all of them fall", all.len());
    Ok(())
}
