//! What must be built or fetched before anything runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{bail, Context, Result};

use crate::process::{output, run};
use crate::root;

/// The Java versions that Flink 2.3 runs on.
const MIN_JAVA: u32 = 17;

/// Where the things are that the runner starts.
pub struct Artifacts {
    /// Folder of the Rust binaries.
    pub bin: PathBuf,
    pub job_jar: PathBuf,
    /// Flink's jars.
    pub flink_lib: PathBuf,
}

impl Artifacts {
    pub fn binary(&self, name: &str) -> Command {
        Command::new(self.bin.join(name))
    }
}

/// Says what is missing, all at once, and how to get it.
pub fn preflight() -> Result<()> {
    let mut missing = Vec::new();
    if output(Command::new("cargo").arg("--version")).is_err() {
        missing.push("cargo (https://rustup.rs)".to_owned());
    }
    match java_major() {
        Some(version) if version >= MIN_JAVA => {}
        Some(version) => missing.push(format!(
            "Java {MIN_JAVA} or newer on PATH; found {version} (Debian: apt-get install openjdk-17-jdk-headless)"
        )),
        None => missing.push(format!("a JDK {MIN_JAVA} or newer on PATH (Debian: apt-get install openjdk-17-jdk-headless)")),
    }
    if output(Command::new("mvn").arg("--version")).is_err() {
        missing.push("mvn (Debian: apt-get install maven)".to_owned());
    }
    if output(Command::new("cc").arg("--version")).is_err() {
        missing.push("a C compiler as cc (Debian: apt-get install build-essential)".to_owned());
    }
    if !missing.is_empty() {
        bail!("this machine lacks:\n  - {}", missing.join("\n  - "));
    }
    Ok(())
}

fn java_major() -> Option<u32> {
    // `java -version` writes to standard error; `--version` to standard output: "openjdk 17.0.15 2025-04-15".
    let text = output(Command::new("java").arg("--version")).ok()?;
    text.split_whitespace()
        .nth(1)?
        .split(['.', '-', '+'])
        .next()?
        .parse()
        .ok()
}

/// Builds the shipped crates. Apart from the local account, so that the emulator's feature of the driver never gets into them.
pub fn cargo() -> Result<()> {
    println!("building the core, the producer, the consumer and the initializer");
    let build = |packages: &[&str]| {
        let mut command = Command::new("cargo");
        command
            .args(["build", "--quiet", "--release"])
            .current_dir(root());
        for package in packages {
            command.args(["-p", package]);
        }
        run(&mut command)
    };
    build(&[
        "cosmosflink-core",
        "cosmosflink-producer",
        "cosmosflink-consumer",
        "cosmosflink-init",
    ])?;
    println!("building the local account");
    build(&["cosmos-local"])
}

/// The library that the jars carry.
pub fn library() -> PathBuf {
    root().join("target/release/libcosmosflink_core.so")
}

/// A Maven command in `java-shim` that takes the library that was just built.
pub fn maven(goals: &[&str]) -> Command {
    let mut command = Command::new("mvn");
    command
        .args([
            "-B",
            "-ntp",
            &format!("-Dcosmosflink.core.library={}", library().display()),
        ])
        .args(goals);
    command.current_dir(root().join("java-shim"));
    command
}

/// Builds the jars, unless the job jar is newer than everything that goes into it: a running demo keeps its jar.
pub fn java() -> Result<PathBuf> {
    let shim = root().join("java-shim");
    let mut sources = vec![library(), shim.join("pom.xml")];
    for module in ["native", "connector", "jobs"] {
        sources.extend([
            shim.join(module).join("pom.xml"),
            shim.join(module).join("src/main"),
        ]);
    }
    let mut changed = SystemTime::UNIX_EPOCH;
    for source in &sources {
        changed = changed.max(newest(source)?);
    }
    if job_jar()
        .and_then(|jar| newest(&jar))
        .is_ok_and(|made| made > changed)
    {
        return job_jar();
    }
    println!("building the jars");
    run(&mut maven(&["-q", "package", "-DskipTests"]))?;
    job_jar()
}

/// When a file, or anything in a folder, was last changed.
fn newest(path: &Path) -> Result<SystemTime> {
    let about = || format!("cannot look at {}", path.display());
    let here = path.metadata().with_context(about)?;
    let mut latest = here.modified().with_context(about)?;
    if here.is_dir() {
        for entry in path.read_dir().with_context(about)? {
            latest = latest.max(newest(&entry?.path())?);
        }
    }
    Ok(latest)
}

/// The fat jar with both jobs.
pub fn job_jar() -> Result<PathBuf> {
    let jar = root().join("java-shim/jobs/target/cosmosflink-jobs-0.1.0.jar");
    if !jar.is_file() {
        bail!("{} was not built", jar.display());
    }
    Ok(jar)
}

/// Flink's own jars, fetched once through Maven.
pub fn flink_lib() -> Result<PathBuf> {
    let (pom, target) = (root().join("infra/flink/pom.xml"), root().join("target/flink"));
    let (lib, stamp) = (target.join("lib"), target.join("pom.xml"));
    if same(&pom, &stamp) && lib.is_dir() {
        return Ok(lib);
    }
    println!("fetching Flink's jars");
    let _ = std::fs::remove_dir_all(&lib);
    run(Command::new("mvn")
        .args(["-B", "-q", "-ntp", "-f"])
        .arg(&pom)
        .args([
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            &format!("-DoutputDirectory={}", lib.display()),
        ]))?;
    std::fs::copy(&pom, &stamp).context("cannot remember which jars were fetched")?;
    Ok(lib)
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((std::fs::read(a), std::fs::read(b)), (Ok(a), Ok(b)) if a == b)
}

/// All of it.
pub fn artifacts() -> Result<Artifacts> {
    preflight()?;
    // One at a time: Maven's folders do not bear two builds. Released when the file is closed.
    std::fs::create_dir_all(root().join("target"))?;
    let lock = std::fs::File::create(root().join("target/build.lock"))?;
    lock.lock().context("cannot wait for another build")?;
    cargo()?;
    Ok(Artifacts {
        bin: root().join("target/release"),
        job_jar: java()?,
        flink_lib: flink_lib()?,
    })
}

/// The command `build`.
pub fn everything() -> Result<()> {
    let built = artifacts()?;
    println!(
        "job jar: {}\nFlink: {}",
        built.job_jar.display(),
        built.flink_lib.display()
    );
    Ok(())
}
