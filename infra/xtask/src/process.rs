//! Processes that the runner starts and, whatever happens, stops again: by their own pid, in reverse order.

use std::fs::File;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use rustix::process::{kill_process, kill_process_group, set_parent_process_death_signal, Pid, Signal};

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ctrl-C and SIGTERM end the run in order: what was started is stopped.
pub fn handle_signals() -> Result<()> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::SeqCst)).context("cannot handle Ctrl-C")
}

/// Whether the user asked to stop.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Waits, but not longer than the user does.
pub fn sleep(time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        if interrupted() {
            bail!("interrupted");
        }
        std::thread::sleep(Duration::from_millis(50).min(until.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

/// Runs a command to its end with the terminal of the user; an error when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        // A group of its own, which Ctrl-C does not reach: it is ended as a whole, below.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    loop {
        if let Some(status) = child.try_wait()? {
            if status.success() {
                return Ok(());
            }
            bail!("{} ended with {status}", shown(command));
        }
        if interrupted() {
            // All that the command has started: Maven's forks, the servers of the tests.
            let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            for signal in [Signal::TERM, Signal::KILL] {
                if let Some(group) = group {
                    let _ = kill_process_group(group, signal);
                }
                std::thread::sleep(Duration::from_secs(1));
            }
            let _ = child.wait();
            bail!("interrupted");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Makes the kernel end a process should the runner be killed.
fn end_with_runner(command: &mut Command) {
    // SAFETY: between fork and exec the closure only makes one system call (prctl), which is async-signal-safe and
    // touches no memory of the parent.
    #[expect(unsafe_code, reason = "no other way to say it before the child runs")]
    unsafe {
        command.pre_exec(|| set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into));
    }
}

/// Runs a program that the user talks to, to its end. On a terminal Ctrl-C is the program's own: it stays in the foreground, and gets it too.
pub fn attend(command: &mut Command) -> Result<ExitStatus> {
    end_with_runner(command);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    let on_a_terminal = std::io::stdin().is_terminal();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if interrupted() && !on_a_terminal {
            end(&mut child, Instant::now() + GRACE);
            bail!("interrupted");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Asks a process to end, and ends it when it has not done so in time.
fn end(child: &mut Child, deadline: Instant) {
    // The pid is still ours: a child that was not waited for keeps it.
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        if matches!(child.try_wait(), Ok(None)) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Runs a command to its end and returns what it printed; when it fails, its error output, or else what it printed, goes into the error.
pub fn output(command: &mut Command) -> Result<String> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !out.status.success() {
        let (errors, printed) = (
            String::from_utf8_lossy(&out.stderr),
            String::from_utf8_lossy(&out.stdout),
        );
        match errors.trim() {
            "" => bail!("{} failed: {}", shown(command), printed.trim()),
            errors => bail!("{errors}"),
        }
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let args: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
    format!("{program} {}", args.join(" "))
}

struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Whether it is meant to end by itself.
    ends: bool,
}

/// The processes of one run, each with a log of its own.
pub struct Processes {
    running: Vec<Process>,
    /// CPU seconds of the ones that were killed.
    killed: Vec<(String, f64)>,
    logs: PathBuf,
}

impl Processes {
    pub fn new(logs: PathBuf) -> Result<Processes> {
        std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        Ok(Processes {
            running: Vec::new(),
            killed: Vec::new(),
            logs,
        })
    }

    /// Starts a process in the background; what it prints goes to `NAME.log`, behind what is there.
    pub fn start(&mut self, name: &str, command: &mut Command) -> Result<u32> {
        Ok(self.spawn(name, command.stdin(Stdio::null()))?.child.id())
    }

    /// The same for one that is told what to do on its standard input, and ends by itself when that ends.
    pub fn start_told(&mut self, name: &str, command: &mut Command) -> Result<ChildStdin> {
        let process = self.spawn(name, command.stdin(Stdio::piped()))?;
        process.ends = true;
        process.child.stdin.take().context("it has no standard input")
    }

    fn spawn(&mut self, name: &str, command: &mut Command) -> Result<&mut Process> {
        let log = self.log(name);
        let out = File::options().create(true).append(true).open(&log)?;
        end_with_runner(command);
        let child = command
            .stdout(out.try_clone()?)
            .stderr(out)
            // A group of its own: Ctrl-C reaches the runner alone, which then stops things in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", shown(command)))?;
        self.running.push(Process {
            name: name.to_owned(),
            child,
            log,
            ends: false,
        });
        self.running.last_mut().context("it was just added")
    }

    /// What a process has printed.
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// Starts a process that is meant to end by itself; see [`Processes::ended`].
    pub fn start_task(&mut self, name: &str, command: &mut Command) -> Result<u32> {
        let process = self.spawn(name, command.stdin(Stdio::null()))?;
        process.ends = true;
        Ok(process.child.id())
    }

    pub fn pid(&self, name: &str) -> Option<u32> {
        self.running
            .iter()
            .rev()
            .find(|p| p.name == name)
            .map(|p| p.child.id())
    }

    /// Names and pids, in the order of their start.
    pub fn pids(&self) -> Vec<(String, u32)> {
        self.running
            .iter()
            .map(|p| (p.name.clone(), p.child.id()))
            .collect()
    }

    /// Fails when one of them has ended, with the end of its log. One that is meant to end may have done so with success.
    pub fn check(&mut self) -> Result<()> {
        if interrupted() {
            bail!("interrupted");
        }
        for p in &mut self.running {
            if let Some(status) = p.child.try_wait()?.filter(|s| !(p.ends && s.success())) {
                bail!(
                    "{} ended with {status}; the end of {}:\n{}",
                    p.name,
                    p.log.display(),
                    tail(&p.log, 15)
                );
            }
        }
        Ok(())
    }

    /// The exit status of a process that is meant to end, once it has.
    pub fn ended(&mut self, name: &str) -> Result<Option<ExitStatus>> {
        let Some(at) = self.running.iter().position(|p| p.name == name) else {
            bail!("{name} was not started")
        };
        let status = self.running[at].child.try_wait()?;
        if status.is_some() {
            self.running.remove(at);
        }
        Ok(status)
    }

    /// Ends a process at once, as a crash would.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        let Some(at) = self.running.iter().position(|p| p.name == name) else {
            bail!("{name} was not started")
        };
        let mut p = self.running.remove(at);
        if let Some((cpu, _)) = usage(p.child.id()) {
            self.killed.push((p.name, cpu));
        }
        p.child.kill()?;
        p.child.wait()?;
        Ok(())
    }

    /// Sends a signal to a process.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        let pid = self
            .pid(name)
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        kill_process(pid.with_context(|| format!("{name} does not run"))?, signal)?;
        Ok(())
    }

    /// CPU seconds of a process and of those of its name that were killed, and its peak of resident memory in MiB.
    pub fn usage(&self, name: &str) -> Option<(f64, f64)> {
        let (cpu, peak) = usage(self.pid(name)?)?;
        let earlier: f64 = self.killed.iter().filter(|k| k.0 == name).map(|k| k.1).sum();
        Some((cpu + earlier, peak))
    }

    /// Stops everything, the last started first.
    pub fn stop(&mut self) {
        for p in self.running.iter_mut().rev() {
            let Some(pid) = i32::try_from(p.child.id()).ok().and_then(Pid::from_raw) else {
                continue;
            };
            // The pid is still ours: a child that was not waited for keeps it.
            if matches!(p.child.try_wait(), Ok(None)) {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let deadline = Instant::now() + GRACE;
        for p in self.running.iter_mut().rev() {
            end(&mut p.child, deadline);
        }
        self.running.clear();
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The last lines of a log.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Waits until a file that a server writes when it is ready is there, and reads it as JSON.
pub fn ready(processes: &mut Processes, file: &Path, within: Duration) -> Result<serde_json::Value> {
    let deadline = Instant::now() + within;
    loop {
        processes.check()?;
        if let Ok(text) = std::fs::read(file) {
            return serde_json::from_slice(&text).with_context(|| format!("{} is no JSON", file.display()));
        }
        if Instant::now() > deadline {
            bail!("{} did not appear within {} s", file.display(), within.as_secs());
        }
        sleep(Duration::from_millis(30))?;
    }
}

/// CPU seconds that a process has used, and its peak of resident memory in MiB.
pub fn usage(pid: u32) -> Option<(f64, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which stands in brackets and may hold blanks: field 14 and 15 of proc(5), in clock ticks.
    let fields: Vec<_> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:"))?
        .split_whitespace()
        .next()?
        .parse::<f64>()
        .ok()?;
    Some((
        ticks / rustix::param::clock_ticks_per_second() as f64,
        peak / 1024.0,
    ))
}

/// Resident memory of a process now, in MiB.
pub fn resident(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let now = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))?
        .split_whitespace()
        .next()?
        .parse::<f64>()
        .ok()?;
    Some(now / 1024.0)
}

/// A port that is free now.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port())
}

/// GET of a JSON document.
pub fn get_json(url: &str, within: Duration) -> Result<serde_json::Value> {
    let mut answer = ureq::get(url)
        .config()
        .timeout_global(Some(within))
        .build()
        .call()?;
    Ok(answer.body_mut().read_json()?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_process_that_is_told_things_ends_with_its_input() {
        let logs = std::env::temp_dir().join(format!("cosmosflink-xtask-told-{}", std::process::id()));
        let mut processes = Processes::new(logs.clone()).unwrap();
        let mut input = processes.start_told("cat", &mut Command::new("cat")).unwrap();
        input.write_all(b"first\n").unwrap();
        processes.check().unwrap();
        assert!(processes.ended("cat").unwrap().is_none());
        drop(input);
        let status = loop {
            if let Some(status) = processes.ended("cat").unwrap() {
                break status;
            }
            sleep(Duration::from_millis(10)).unwrap();
        };
        assert!(status.success());
        assert_eq!(std::fs::read_to_string(processes.log("cat")).unwrap(), "first\n");
        std::fs::remove_dir_all(&logs).unwrap();
    }
}
