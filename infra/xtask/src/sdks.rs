//! The vendors' SDKs against the local account: a program of each, and the documents compared with those of the core, and what is sent for them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{bail, Context, Result};

use crate::build;
use crate::process::{output, ready, run as run_command, Processes};
use crate::root;

/// What this machine lacks for the check, and how to get it.
pub fn lacks() -> Option<&'static str> {
    let runs = |program: &str, arguments: &[&str]| output(Command::new(program).args(arguments)).is_ok();
    if !runs("node", &["--version"]) || !runs("npm", &["--version"]) {
        return Some("there is no node or no npm (Debian: apt-get install nodejs npm)");
    }
    if !runs("python3", &["-c", "import ensurepip, venv"]) {
        return Some("there is no python3 with pip and venv (Debian: apt-get install python3-venv)");
    }
    None
}

/// Runs the three programs one after the other, and fails when a step of one fails or a document differs.
pub fn run() -> Result<()> {
    let home = root().join("target/sdks");
    std::fs::create_dir_all(&home)?;
    let mut programs = [
        ("javascript", javascript(&home, "steps.mjs")?),
        ("python", python(&home)?),
        ("java", java(&home, "Steps.java")?),
    ];
    let mut senders = [
        ("javascript", javascript(&home, "wire.mjs")?),
        ("java", java(&home, "Wire.java")?),
    ];
    build::cargo()?;
    let mut cargo = Command::new("cargo");
    run_command(
        cargo
            .args(["build", "--quiet", "--release", "-p", "cosmosflink-sdks"])
            .current_dir(root()),
    )?;

    let (key, listening) = (home.join("account-key"), home.join("cosmos-local.json"));
    for old in [&key, &listening] {
        let _ = std::fs::remove_file(old);
    }
    let mut processes = Processes::new(home.join("logs"))?;
    let mut server = Command::new(root().join("target/release/cosmos-local"));
    server.args(["--listen", "127.0.0.1:0", "--database", "ours"]);
    server
        .args(["--container", "ours/documents:/pk:4"])
        .args(["--container", "ours/feed:/pk:4"])
        .args(["--container", "ours/wire:/pk:1", "--key-file"])
        .arg(&key);
    server.arg("--ready-file").arg(&listening);
    processes.start("cosmos-local", &mut server)?;
    let ready = ready(&mut processes, &listening, Duration::from_secs(20))?;
    let endpoint = ready["endpoint"].as_str().unwrap_or_default().to_owned();
    let key = std::fs::read_to_string(&key)?;
    let ours = home.join("ours.jsonl");
    let core = || {
        let mut command = Command::new(root().join("target/release/cosmosflink-sdks"));
        command.env("COSMOS_ENDPOINT", &endpoint).env("COSMOS_KEY", &key);
        command
    };
    let written = ["write", "--database", "ours", "--container", "documents"];
    run_command(core().args(written).arg(&ours))?;
    let our_feed = home.join("ours-feed.jsonl");
    let changed = ["feed", "--database", "ours", "--container", "feed"];
    run_command(core().args(changed).arg(&our_feed))?;

    let mut failed = Vec::new();
    for (name, program) in &mut programs {
        let (stored, feed) = (
            home.join(format!("{name}.jsonl")),
            home.join(format!("{name}-feed.jsonl")),
        );
        for old in [&stored, &feed] {
            let _ = std::fs::remove_file(old);
        }
        program
            .env("COSMOS_ENDPOINT", &endpoint)
            .env("COSMOS_KEY", &key)
            // Java's SDK speaks to plain http only when it is told so.
            .env("COSMOS_HTTP_CONNECTION_WITHOUT_TLS_ALLOWED", "true")
            .env("SDKS_DATABASE", format!("sdk-{name}"))
            .env("SDKS_OURS", &ours)
            .env("SDKS_STORED", &stored)
            .env("SDKS_FEED", &feed);
        if let Err(error) = steps(name, program) {
            failed.push(format!("{name}: {error:#}"));
        }
        if let Err(error) = run_command(core().arg("compare").arg(&stored)) {
            failed.push(format!(
                "{name}: what it stored is not what the core reads: {error:#}"
            ));
        }
        if let Err(error) = run_command(core().arg("agree").args([&our_feed, &feed])) {
            failed.push(format!(
                "{name}: it reads another change feed than the core: {error:#}"
            ));
        }
    }
    let (cases, our_wire) = (root().join("tests/cases/wire.json"), home.join("ours-wire.jsonl"));
    let recorded = ["record", "--database", "ours", "--container", "wire"];
    run_command(core().args(recorded).args([&cases, &our_wire]))?;
    for (name, program) in &mut senders {
        let wire = home.join(format!("{name}-wire.jsonl"));
        let _ = std::fs::remove_file(&wire);
        program
            .env("COSMOS_ENDPOINT", &endpoint)
            .env("COSMOS_KEY", &key)
            .env("COSMOS_HTTP_CONNECTION_WITHOUT_TLS_ALLOWED", "true")
            .env("SDKS_DATABASE", "ours")
            .env("SDKS_CASES", &cases)
            .env("SDKS_WIRE", &wire);
        let compared = run_command(program)
            .and_then(|()| run_command(core().args(["wire", "--who", name]).args([&our_wire, &wire])));
        if let Err(error) = compared {
            failed.push(format!(
                "{name}: it sends something else than the core: {error:#}"
            ));
        }
    }
    processes.check()?;
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

/// Runs a program, shows what it printed, and fails unless it says that all its steps passed.
fn steps(name: &str, program: &mut Command) -> Result<()> {
    let out = program
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("the program of {name} cannot be started"))?;
    let text = String::from_utf8_lossy(&out.stdout);
    for line in text.lines() {
        println!("{name}: {line}");
    }
    let (passed, failed) = text
        .lines()
        .find_map(counts)
        .context("it did not say how many steps passed")?;
    if failed > 0 || passed == 0 || !out.status.success() {
        bail!(
            "{passed} steps passed, {failed} failed; it ended with {}",
            out.status
        );
    }
    Ok(())
}

/// The numbers of a line `N passed, N failed`.
fn counts(line: &str) -> Option<(u32, u32)> {
    let (passed, failed) = line.split_once(" passed, ")?;
    Some((
        passed.parse().ok()?,
        failed.strip_suffix(" failed")?.parse().ok()?,
    ))
}

fn sources(name: &str) -> PathBuf {
    root().join("tests/sdks").join(name)
}

/// Whether a file that says what to install has not changed since it was installed.
fn installed(list: &Path, stamp: &Path) -> bool {
    matches!((std::fs::read(list), std::fs::read(stamp)), (Ok(list), Ok(stamp)) if list == stamp)
}

/// A program of `tests/sdks/javascript`, with the SDK beside it.
fn javascript(home: &Path, program: &str) -> Result<Command> {
    let (from, to) = (sources("javascript"), javascript_modules(home)?);
    // Modules are looked for beside the program.
    std::fs::copy(from.join(program), to.join(program))?;
    let mut command = Command::new("node");
    command.arg(to.join(program));
    Ok(command)
}

/// The folder with the SDK for JavaScript, which is fetched once.
pub fn javascript_modules(home: &Path) -> Result<PathBuf> {
    let (from, to) = (sources("javascript"), home.join("javascript"));
    let (list, stamp) = (from.join("package-lock.json"), to.join("installed"));
    std::fs::create_dir_all(&to)?;
    if !installed(&list, &stamp) {
        println!("installing the SDK for JavaScript");
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(from.join(file), to.join(file))?;
        }
        run_command(
            Command::new("npm")
                .args(["ci", "--silent", "--no-audit", "--no-fund"])
                .current_dir(&to),
        )?;
        std::fs::copy(&list, &stamp)?;
    }
    Ok(to)
}

fn python(home: &Path) -> Result<Command> {
    let (from, to) = (sources("python"), home.join("python"));
    let (list, stamp) = (from.join("requirements.txt"), to.join("installed"));
    let interpreter = to.join("bin/python");
    if !installed(&list, &stamp) || !interpreter.exists() {
        println!("installing the SDK for Python");
        run_command(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&to))?;
        run_command(
            Command::new(&interpreter)
                .args(["-m", "pip", "--disable-pip-version-check", "install", "--quiet"])
                // All of it is in the list, each with its version.
                .args(["--no-deps", "-r"])
                .arg(&list),
        )?;
        std::fs::copy(&list, &stamp)?;
    }
    let mut command = Command::new(interpreter);
    command.arg(from.join("steps.py"));
    Ok(command)
}

/// A program of `tests/sdks/java`, with the SDK on its class path.
fn java(home: &Path, program: &str) -> Result<Command> {
    let jars = java_jars(home)?;
    let mut command = Command::new("java");
    command
        .arg("-cp")
        .arg(jars.join("*"))
        .arg(sources("java").join(program));
    Ok(command)
}

/// The folder with the jars of the SDK for Java, which are fetched once.
pub fn java_jars(home: &Path) -> Result<PathBuf> {
    let (from, to) = (sources("java"), home.join("java"));
    let (list, stamp, jars) = (from.join("pom.xml"), to.join("installed"), to.join("lib"));
    std::fs::create_dir_all(&to)?;
    if !installed(&list, &stamp) {
        println!("fetching the SDK for Java");
        let _ = std::fs::remove_dir_all(&jars);
        run_command(
            Command::new("mvn")
                .args(["-B", "-q", "-ntp", "-f"])
                .arg(&list)
                .arg("dependency:copy-dependencies")
                .arg(format!("-DoutputDirectory={}", jars.display())),
        )?;
        std::fs::copy(&list, &stamp)?;
    }
    Ok(jars)
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn only_the_line_of_the_counts_is_taken_for_it() {
        assert_eq!(counts("54 passed, 1 failed"), Some((54, 1)));
        for other in [
            "failed: 3 create containers",
            "54 passed",
            "x passed, 1 failed",
            "54 passed, 1 failed.",
        ] {
            assert_eq!(counts(other), None, "{other}");
        }
    }
}
