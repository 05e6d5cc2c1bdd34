//! How far long work is: a line on a terminal's stderr, and nothing where stderr is no terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// So often the line is written again.
const EVERY: Duration = Duration::from_millis(200);

/// Counts keys.
pub(crate) struct Progress {
    what: &'static str,
    began: Instant,
    shown: Option<Instant>,
    is_terminal: bool,
    /// So far.
    pub(crate) keys: u64,
    /// So far.
    pub(crate) bytes: u64,
    /// Of so many keys, where that is known.
    pub(crate) of: Option<u64>,
}

impl Progress {
    pub(crate) fn new(what: &'static str) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self { what, began: Instant::now(), shown: None, is_terminal, keys: 0, bytes: 0, of: None }
    }

    /// Writes the line, where it is time to.
    pub(crate) fn show(&mut self) {
        if !self.is_terminal || self.shown.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        // Nobody to tell that it cannot be told.
        let _ = write!(io::stderr(), "\r{}\x1b[K", self.line());
    }

    fn line(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let rate = self.keys as f64 / seconds;
        let left = self.of.map(|of| of.saturating_sub(self.keys)).filter(|_| rate > 0.0);
        let left = left.map_or_else(String::new, |left| format!(", {:.0} s left", left as f64 / rate));
        let of = self.of.map_or_else(String::new, |of| format!(" of {of}"));
        let mb = self.bytes as f64 / 1e6;
        format!("{}: {}{of} keys, {mb:.1} MB, {rate:.0} keys/s{left}", self.what, self.keys)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = writeln!(io::stderr(), "\r{}\x1b[K", self.line());
        }
    }
}
