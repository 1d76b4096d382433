//! What must be built or fetched before anything runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{bail, Context, Result};

use crate::process::{output, run};
use crate::root;

/// The version of everything here: of the workspace, which sbt reads out of its manifest too. Maven has a copy of it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The Java versions that Flink 2.3 runs on.
const MIN_JAVA: u32 = 17;
/// The launcher fetches sbt itself, of the version in `scala-shim/project/build.properties`.
const SBT_LAUNCH: &str = "1.12.14";
/// Flink as users have it; the package of Flink's Python interface carries the whole distribution.
const DISTRIBUTION: &str = "apache-flink-libraries==2.3.0";
/// What of the distribution's `opt` folder SQL needs: the client does not start without Python's jar. The package lacks the gateway.
const SQL_TOOLS: [&str; 3] = ["flink-sql-client", "flink-sql-gateway", "flink-python"];

/// A shim, with a job jar of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Variant {
    Java,
    Scala,
}

impl Variant {
    pub const ALL: [Variant; 2] = [Variant::Java, Variant::Scala];

    pub const fn name(self) -> &'static str {
        match self {
            Variant::Java => "java",
            Variant::Scala => "scala",
        }
    }

    /// Package of the main classes, which have the same names in both.
    pub const fn package(self) -> &'static str {
        match self {
            Variant::Java => "io.cosmosflink.jobs",
            Variant::Scala => "io.cosmosflink.scaladsl.jobs",
        }
    }

    /// Where the fat jar with both jobs is made, and what its name begins with.
    const fn place(self) -> (&'static str, &'static str) {
        match self {
            Variant::Java => ("java-shim/jobs/target", "cosmosflink-jobs-"),
            Variant::Scala => ("scala-shim/jobs/target", "cosmosflink-jobs-scala-"),
        }
    }

    /// The fat jar with both jobs.
    pub fn jar(self) -> PathBuf {
        let (folder, name) = self.place();
        root().join(folder).join(format!("{name}{VERSION}.jar"))
    }

    /// The fat jar of another checkout, whatever its version.
    pub fn jar_of(self, checkout: &Path) -> Result<PathBuf> {
        let (folder, name) = self.place();
        let folder = checkout.join(folder);
        let found = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot list {}: build that version first", folder.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                let version = file.strip_prefix(name).and_then(|rest| rest.strip_suffix(".jar"));
                version.is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
            });
        found.with_context(|| {
            format!(
                "no {name}VERSION.jar in {}: build that version first",
                folder.display()
            )
        })
    }

    /// Everything that goes into the jar.
    fn sources(self) -> Vec<PathBuf> {
        let mut all = natives_sources();
        all.extend(match self {
            Variant::Java => below(
                "java-shim",
                &[
                    "connector/pom.xml",
                    "connector/src/main",
                    "jobs/pom.xml",
                    "jobs/src/main",
                ],
            ),
            Variant::Scala => below(
                "scala-shim",
                &[
                    "build.sbt",
                    "project/build.properties",
                    "project/plugins.sbt",
                    "project/NativeJar.scala",
                    "project/Workspace.scala",
                    "connector/src/main",
                    "jobs/src/main",
                ],
            ),
        });
        all
    }

    /// Builds the jar unless it is newer than its sources: a running demo keeps its jar.
    fn build(self) -> Result<()> {
        if is_newer(&self.jar(), &self.sources())? {
            return Ok(());
        }
        match self {
            Variant::Java => {
                println!("building the jars");
                run(&mut maven(&[
                    "-q",
                    "-pl",
                    "jobs,testcontainers",
                    "-am",
                    "package",
                    "-DskipTests",
                ]))?;
            }
            Variant::Scala => {
                println!("building the Scala job jar");
                run(&mut sbt(&["--warn", "jobs/assembly"])?)?;
            }
        }
        if !self.jar().is_file() {
            bail!("{} was not built", self.jar().display());
        }
        Ok(())
    }
}

/// Whether a jar is newer than everything that goes into it.
fn is_newer(jar: &Path, sources: &[PathBuf]) -> Result<bool> {
    let mut changed = SystemTime::UNIX_EPOCH;
    for source in sources {
        changed = changed.max(newest(source)?);
    }
    Ok(newest(jar).is_ok_and(|made| made > changed))
}

fn below(folder: &str, paths: &[&str]) -> Vec<PathBuf> {
    paths.iter().map(|p| root().join(folder).join(p)).collect()
}

/// What goes into every jar.
fn natives_sources() -> Vec<PathBuf> {
    let mut all = below("java-shim", &["pom.xml", "native/pom.xml", "native/src/main"]);
    all.push(library());
    all
}

/// What SQL on the full distribution needs.
pub struct Sql {
    /// Folder of the Rust binaries.
    pub bin: PathBuf,
    /// The connector for SQL, in one jar.
    pub jar: PathBuf,
    /// The distribution's jars.
    pub flink_lib: PathBuf,
    /// The SQL client's and the SQL gateway's.
    pub tools: PathBuf,
}

impl Sql {
    pub fn binary(&self, name: &str) -> Command {
        Command::new(self.bin.join(name))
    }
}

/// The connector for SQL in one jar, built unless it is newer than its sources.
pub fn sql_jar() -> Result<PathBuf> {
    let jar = root().join(format!(
        "java-shim/sql/target/flink-sql-connector-cosmosdb-{VERSION}.jar"
    ));
    let mut sources = natives_sources();
    for module in ["connector", "table"] {
        sources.extend(below(&format!("java-shim/{module}"), &["pom.xml", "src/main"]));
    }
    sources.extend(below("java-shim", &["sql/pom.xml"]));
    if !is_newer(&jar, &sources)? {
        println!("building the jar for SQL");
        run(&mut maven(&["-q", "-pl", "sql", "-am", "package", "-DskipTests"]))?;
    }
    if !jar.is_file() {
        bail!("{} was not built", jar.display());
    }
    Ok(jar)
}

/// All of it.
pub fn sql() -> Result<Sql> {
    preflight()?;
    let _lock = lock()?;
    cargo()?;
    let jar = sql_jar()?;
    Ok(Sql {
        bin: root().join("target/release"),
        jar,
        flink_lib: Flink::Distribution.lib()?,
        tools: sql_tools()?,
    })
}

/// Where the things are that the runner starts.
pub struct Artifacts {
    /// Folder of the Rust binaries.
    pub bin: PathBuf,
    /// Java's job jar; [`Variant::jar`] names the others.
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
    println!("building the core, its tool, the producer, the consumer and the initializer");
    packages(&[
        "cosmosflink-core",
        "cosmosflink-cli",
        "cosmosflink-producer",
        "cosmosflink-consumer",
        "cosmosflink-init",
    ])?;
    println!("building the local account");
    packages(&["cosmos-local"])
}

/// Builds what tests of the Java connector need: the library, and apart from it, as above, the local account.
pub fn account_and_library() -> Result<()> {
    println!("building the core and the local account");
    packages(&["cosmosflink-core"])?;
    packages(&["cosmos-local"])
}

/// Builds crates of the workspace.
pub fn packages(names: &[&str]) -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .args(["build", "--quiet", "--release"])
        .current_dir(root());
    for name in names {
        command.args(["-p", name]);
    }
    run(&mut command)
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

/// The natives jar, as Maven builds it.
fn natives() -> PathBuf {
    root().join(format!(
        "java-shim/native/target/cosmosflink-native-{VERSION}.jar"
    ))
}

/// An sbt command in `scala-shim` that takes the natives jar that was just built. Everything that sbt fetches stays below `target/sbt`.
pub fn sbt(commands: &[&str]) -> Result<Command> {
    let home = root().join("target/sbt");
    let launcher = home.join(format!("sbt-launch-{SBT_LAUNCH}.jar"));
    if !launcher.is_file() {
        println!("fetching sbt");
        fetch(&format!("org.scala-sbt:sbt-launch:{SBT_LAUNCH}"), &home)?;
    }
    let mut command = Command::new("java");
    // To rename packages, assembly holds the whole core in memory, boxed.
    command.args(["-Xss8m", "-Xmx3g"]);
    // Java takes the user's home from the system and not from HOME: the folders are given one by one.
    for (property, folder) in [
        ("sbt.boot.directory", "boot"),
        ("sbt.global.base", "global"),
        ("sbt.ivy.home", "ivy"),
        ("sbt.coursier.home", "coursier"),
    ] {
        command.arg(format!("-D{property}={}", home.join(folder).display()));
    }
    command
        .args([
            "-Dsbt.supershell=false",
            "-Dsbt.color=false",
            "-Dsbt.server.autostart=false",
            "-jar",
        ])
        .arg(launcher)
        .args(commands)
        .env("COSMOSFLINK_NATIVE_JAR", natives())
        .current_dir(root().join("scala-shim"));
    Ok(command)
}

/// Fetches one jar through Maven, without what it depends on.
fn fetch(artifact: &str, folder: &Path) -> Result<()> {
    run(Command::new("mvn")
        .args([
            "-B",
            "-q",
            "-ntp",
            "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy",
        ])
        .arg(format!("-Dartifact={artifact}"))
        .arg(format!("-DoutputDirectory={}", folder.display()))
        .current_dir(root()))
}

/// The command `mvn`.
pub fn run_maven(arguments: &[String]) -> Result<()> {
    let _lock = lock()?;
    account_and_library()?;
    // A test that is named is in one module of several.
    run(maven(&[
        "-Dsurefire.failIfNoSpecifiedTests=false",
        "-Dfailsafe.failIfNoSpecifiedTests=false",
    ])
    .args(arguments))
}

/// The command `sbt`.
pub fn run_sbt(arguments: &[String]) -> Result<()> {
    let _lock = lock()?;
    account_and_library()?;
    run(&mut maven(&[
        "-q",
        "-pl",
        "native",
        "-am",
        "package",
        "-DskipTests",
    ]))?;
    run(sbt(&[])?.args(arguments))
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

/// Flink as a run has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Flink {
    /// The one that the shims are compiled against.
    #[value(name = "2.3")]
    Newest,
    /// The oldest that the same jars run on.
    #[value(name = "1.20")]
    Oldest,
    /// The newest with everything that users find in its folder, a Scala library too.
    #[value(skip)]
    Distribution,
}

impl Flink {
    pub const fn version(self) -> &'static str {
        match self {
            Flink::Newest | Flink::Distribution => "2.3.0",
            Flink::Oldest => "1.20.5",
        }
    }

    /// Its jars, which are fetched once.
    pub fn lib(self) -> Result<PathBuf> {
        match self {
            Flink::Newest => self.jars("target/flink"),
            Flink::Oldest => self.jars("target/flink-oldest"),
            Flink::Distribution => distribution(),
        }
    }

    /// The jars that a cluster needs, through Maven.
    fn jars(self, folder: &str) -> Result<PathBuf> {
        let (pom, target) = (root().join("infra/flink/pom.xml"), root().join(folder));
        let (lib, stamp) = (target.join("lib"), target.join("pom.xml"));
        let version = self.version();
        let kept = lib.join(format!("flink-runtime-{version}.jar"));
        if same(&pom, &stamp) && kept.is_file() {
            return Ok(lib);
        }
        println!("fetching the jars of Flink {version}");
        let _ = std::fs::remove_dir_all(&lib);
        run(Command::new("mvn")
            .args(["-B", "-q", "-ntp", "-f"])
            .arg(&pom)
            .args([
                "dependency:copy-dependencies",
                "-DincludeScope=runtime",
                &format!("-Dflink.version={version}"),
                &format!("-DoutputDirectory={}", lib.display()),
            ]))?;
        std::fs::copy(&pom, &stamp).context("cannot remember which jars were fetched")?;
        Ok(lib)
    }
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((std::fs::read(a), std::fs::read(b)), (Ok(a), Ok(b)) if a == b)
}

/// Flink's full distribution, its Scala library included: the jars of its `lib` folder.
fn distribution() -> Result<PathBuf> {
    let target = root().join("target/flink-distribution");
    let lib = target.join("pyflink/lib");
    if lib.is_dir() {
        return Ok(lib);
    }
    if !can_fetch_distribution() {
        bail!("the full distribution comes as a Python package; pip is missing (Debian: apt-get install python3-pip)");
    }
    println!("fetching Flink's full distribution, 329 MB");
    let part = root().join("target/flink-distribution.part");
    let _ = std::fs::remove_dir_all(&part);
    std::fs::create_dir_all(&part)?;
    run(pip()
        .args([
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            DISTRIBUTION,
            "-d",
            ".",
        ])
        .current_dir(&part))?;
    let wheel = std::fs::read_dir(&part)?
        .next()
        .context("pip fetched nothing")??
        .path();
    run(Command::new("jar")
        .arg("xf")
        .arg(&wheel)
        .args(["pyflink/lib", "pyflink/bin", "pyflink/opt"])
        .current_dir(&part))?;
    std::fs::remove_file(&wheel)?;
    std::fs::rename(&part, &target).context("cannot keep the distribution")?;
    Ok(lib)
}

/// The jars of the SQL client and the SQL gateway. Those that are not there come through Maven, once.
pub fn sql_tools() -> Result<PathBuf> {
    let opt = root().join("target/flink-distribution/pyflink/opt");
    let version = Flink::Distribution.version();
    for name in SQL_TOOLS {
        if !opt.join(format!("{name}-{version}.jar")).is_file() {
            println!("fetching {name}");
            fetch(&format!("org.apache.flink:{name}:{version}"), &opt)?;
        }
    }
    Ok(opt)
}

/// Whether there is a pip to fetch the distribution with, or it is here already.
pub fn can_fetch_distribution() -> bool {
    root().join("target/flink-distribution").is_dir() || output(pip().arg("--version")).is_ok()
}

fn pip() -> Command {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "--disable-pip-version-check"]);
    command
}

/// All of it, with the job jars of some variants.
pub fn artifacts(variants: &[Variant], flink: Flink) -> Result<Artifacts> {
    preflight()?;
    // One at a time: Maven's folders do not bear two builds. Released when the file is closed.
    let _lock = lock()?;
    cargo()?;
    // Java's build makes the natives jar that the others take.
    Variant::Java.build()?;
    for variant in variants {
        variant.build()?;
    }
    Ok(Artifacts {
        bin: root().join("target/release"),
        job_jar: Variant::Java.jar(),
        flink_lib: flink.lib()?,
    })
}

/// Waits until no other build of this work tree runs.
pub fn lock() -> Result<std::fs::File> {
    std::fs::create_dir_all(root().join("target"))?;
    let lock = std::fs::File::create(root().join("target/build.lock"))?;
    lock.lock().context("cannot wait for another build")?;
    Ok(lock)
}

/// The command `build`.
pub fn everything() -> Result<()> {
    let built = artifacts(&Variant::ALL, Flink::Newest)?;
    for variant in Variant::ALL {
        println!("job jar: {}", variant.jar().display());
    }
    println!("Flink: {}", built.flink_lib.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a line has the version as a whole: 1.2.3 is not in 11.2.3 or in 1.2.3.4.
    fn names_the_version(line: &str) -> bool {
        let digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        line.match_indices(VERSION).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + VERSION.len()..]);
            !before.ends_with(|c: char| c.is_ascii_digit() || c == '.')
                && !digit(after)
                && !after.strip_prefix('.').is_some_and(digit)
        })
    }

    /// The lines of the versioned text files that have the version, as "path: line".
    fn naming_lines() -> Vec<(String, String)> {
        let listed = output(
            Command::new("git")
                .args(["ls-files", "--cached", "--others", "--exclude-standard"])
                .current_dir(root()),
        )
        .unwrap();
        let mut found = Vec::new();
        for path in listed.lines() {
            let Ok(text) = std::fs::read_to_string(root().join(path)) else {
                continue;
            };
            let lines = text.lines().filter(|line| names_the_version(line));
            found.extend(lines.map(|line| (path.to_owned(), line.trim().to_owned())));
        }
        found
    }

    #[test]
    fn the_version_stands_in_one_place() {
        let past = |path: &str| {
            // What was released, what a file was measured or decided with, and the lock file.
            path == "CHANGELOG.md" || path == "Cargo.lock" || path.starts_with("docs/")
        };
        let shown_to_readers = |path: &str| path.ends_with("README.md");
        let mut statements: Vec<(String, String)> = naming_lines();
        statements.retain(|(path, _)| !past(path) && !shown_to_readers(path));
        let expected = [
            ("Cargo.toml", format!("version = \"{VERSION}\"")),
            ("java-shim/pom.xml", format!("<revision>{VERSION}</revision>")),
        ];
        let expected = expected.map(|(path, line)| (path.to_owned(), line));
        assert_eq!(statements, expected);
    }

    #[test]
    fn what_readers_are_told_to_type_has_the_version() {
        for path in ["README.md", "tests/cosmos-local/README.md"] {
            let text = std::fs::read_to_string(root().join(path)).unwrap();
            for (at, name) in text.match_indices("cosmosflink-jobs") {
                let rest = &text[at + name.len()..];
                let rest = rest.strip_prefix("-scala").unwrap_or(rest);
                let Some(version) = rest.strip_prefix('-').and_then(|rest| rest.split_once(".jar")) else {
                    continue;
                };
                assert_eq!(version.0, VERSION, "{path}");
            }
            let artifact = "<groupId>io.cosmosflink</groupId>";
            for (at, _) in text.match_indices(artifact) {
                let (_, rest) = text[at..].split_once("<version>").unwrap();
                assert!(rest.starts_with(&format!("{VERSION}</version>")), "{path}");
            }
        }
    }

    #[test]
    fn what_builds_from_nothing_has_one_compiler_and_no_older_one_than_the_crates_ask_for() {
        let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
        let image = read("infra/images/Dockerfile");
        let (_, rest) = image.split_once("RUST_IMAGE=rust:").unwrap();
        let version = rest.split_once('-').unwrap().0;
        for workflow in ["tests", "artifacts"] {
            let text = read(&format!(".github/workflows/{workflow}.yml"));
            assert!(
                text.contains(&format!("RUSTUP_TOOLCHAIN: \"{version}\"")),
                "{workflow}"
            );
        }
        let manifest = read("Cargo.toml");
        let (_, rest) = manifest.split_once("rust-version = \"").unwrap();
        assert!(version.starts_with(rest.split_once('"').unwrap().0), "{version}");
    }

    #[test]
    fn a_version_is_seen_whole() {
        assert!(names_the_version(&format!("a-{VERSION}.jar")));
        assert!(names_the_version(&format!("Version {VERSION}.")));
        assert!(!names_the_version(&format!("1{VERSION}")));
        assert!(!names_the_version(&format!("{VERSION}.2")));
        assert!(!names_the_version(&format!("{VERSION}7")));
    }
}
