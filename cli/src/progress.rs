//! How far a long replay is, on standard error.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// It is told no more often.
const PAUSE: Duration = Duration::from_secs(1);

/// Counts of a replay that goes on.
pub struct Progress {
    total: usize,
    began: Instant,
    told: Instant,
    /// None: nothing is told.
    to_terminal: Option<bool>,
    /// A line of the terminal is to be ended.
    open_line: bool,
}

impl Progress {
    /// Of so many letters.
    pub fn new(total: usize, quiet: bool) -> Progress {
        let now = Instant::now();
        Progress {
            total,
            began: now,
            told: now,
            to_terminal: (!quiet).then(|| std::io::stderr().is_terminal()),
            open_line: false,
        }
    }

    /// Since it began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Tells how many letters are through, and how many of these failed, unless that was told a moment ago.
    pub fn tell(&mut self, through: usize, failed: usize) {
        let Some(to_terminal) = self.to_terminal.filter(|_| self.told.elapsed() >= PAUSE) else {
            return;
        };
        self.told = Instant::now();
        let text = line(self.total, through, failed, self.elapsed());
        // Nobody has to read it.
        let _ = match to_terminal {
            true => write!(std::io::stderr(), "\r\x1b[K{text}"),
            false => writeln!(std::io::stderr(), "{text}"),
        };
        self.open_line = to_terminal;
    }

    /// Ends the line that a terminal shows.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.open_line) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(total: usize, through: usize, failed: usize, elapsed: Duration) -> String {
    let rate = through as f64 / elapsed.as_secs_f64().max(1e-3);
    format!("{through} of {total} letters, {failed} failed, {rate:.0} a second")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_count_failures_and_rate() {
        let text = line(1000, 250, 3, Duration::from_secs(2));
        assert_eq!(text, "250 of 1000 letters, 3 failed, 125 a second");
    }
}
