//! How far long work is: a line on a terminal's stderr, and nothing where stderr is no terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;

/// How often the line is written again.
const EVERY: Duration = Duration::from_millis(200);

/// The width of a bar.
const BAR_CHARS: u64 = 20;

/// A line that is written again and again.
pub(super) struct Line {
    shown: Option<Instant>,
    is_terminal: bool,
}

impl Line {
    pub(super) fn new() -> Self {
        Self { shown: None, is_terminal: io::stderr().is_terminal() }
    }

    /// False where nobody looks.
    pub(super) fn is_looked_at(&self) -> bool {
        self.is_terminal
    }

    /// Writes the line, where it is time to.
    pub(super) fn show(&mut self, line: impl FnOnce() -> String) {
        if !self.is_terminal || self.shown.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        // Nobody to tell that it cannot be told.
        let _ = write!(io::stderr(), "\r{}\x1b[K", cut(&line(), columns()));
    }

    /// Takes the line away, if there is one.
    pub(super) fn clear(&mut self) -> bool {
        let was_there = self.shown.take().is_some();
        if was_there {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        was_there
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.clear();
    }
}

/// As wide as the terminal is by now: it may have been resized.
fn columns() -> usize {
    tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col))
}

/// What fits in one line: more would go on in the next, and stay there. The last column is left, as some terminals go on at once.
fn cut(line: &str, columns: usize) -> &str {
    let most = if columns == 0 { 79 } else { columns - 1 };
    line.char_indices().nth(most).map_or(line, |(at, _)| line.get(..at).unwrap_or(line))
}

/// A bar for how much of it is over.
pub(super) fn bar(gone: u64, of: u64) -> String {
    (0..BAR_CHARS).map(|at| if at * of < gone * BAR_CHARS { '#' } else { '.' }).collect()
}

/// Counts keys and bytes, or bytes alone. The last line stays.
pub(super) struct Progress {
    what: &'static str,
    began: Instant,
    line: Line,
    /// So far.
    pub(super) keys: u64,
    /// So far.
    pub(super) bytes: u64,
    /// Of so many keys, where that is known.
    pub(super) of: Option<u64>,
}

impl Progress {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, began: Instant::now(), line: Line::new(), keys: 0, bytes: 0, of: None }
    }

    /// Writes the line, where it is time to.
    pub(super) fn show(&mut self) {
        let Self { what, began, keys, bytes, of, .. } = self;
        self.line.show(|| text(what, began.elapsed(), *keys, *bytes, *of));
    }
}

fn text(what: &str, took: Duration, keys: u64, bytes: u64, of: Option<u64>) -> String {
    let seconds = took.as_secs_f64().max(0.001);
    let mb = bytes as f64 / 1e6;
    if keys == 0 {
        return format!("{what}: {mb:.1} MB, {:.1} MB/s", mb / seconds);
    }
    let rate = keys as f64 / seconds;
    let left = of.map_or_else(String::new, |of| format!(", {:.0} s left", of.saturating_sub(keys) as f64 / rate));
    let of = of.map_or_else(String::new, |of| format!(" of {of}"));
    format!("{what}: {keys}{of} keys, {mb:.1} MB, {rate:.0} keys/s{left}")
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.line.clear() {
            let _ = writeln!(io::stderr(), "{}", text(self.what, self.began.elapsed(), self.keys, self.bytes, self.of));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(cut("abcdef", 4), "abc");
        assert_eq!(cut("ab\u{e9}\u{e9}", 4), "ab\u{e9}");
        assert_eq!(cut("abc", 4), "abc");
        assert_eq!(cut("abc", 1), "");
        assert_eq!(cut(&"x".repeat(100), 0).len(), 79);
    }

    #[test]
    fn what_is_told() {
        let second = Duration::from_secs(1);
        assert_eq!(text("backup", second, 0, 2_500_000, None), "backup: 2.5 MB, 2.5 MB/s");
        assert_eq!(
            text("export", second, 10, 1_000_000, Some(30)),
            "export: 10 of 30 keys, 1.0 MB, 10 keys/s, 2 s left"
        );
        assert_eq!(
            [bar(0, 10), bar(5, 10), bar(10, 10)],
            [".".repeat(20), "#".repeat(10) + &".".repeat(10), "#".repeat(20)]
        );
    }
}
