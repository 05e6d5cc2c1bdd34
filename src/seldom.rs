//! Log lines that others can cause, bounded: whoever sends what is refused chooses how many there are.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// So many lines of a kind are written in [`INTERVAL`].
const MAX_LINES: u32 = 5;

/// See [`MAX_LINES`].
const INTERVAL: Duration = Duration::from_secs(10);

/// The lines of one kind.
///
/// ```ignore
/// static REFUSED: Seldom = Seldom::new();
/// if let Some(unsaid) = REFUSED.turn() {
///     tracing::warn!("refused{unsaid}");
/// }
/// ```
#[derive(Debug)]
pub struct Seldom(Mutex<Lines>);

#[derive(Debug)]
struct Lines {
    since: Option<Instant>,
    written: u32,
    unsaid: u64,
}

/// The end of a line: tells how many before it were not written, if there are any. The default tells of none.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unsaid(u64);

impl fmt::Display for Unsaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            unsaid => write!(f, " ({unsaid} such lines before this one were not written)"),
        }
    }
}

impl Seldom {
    /// Lines of another kind.
    pub const fn new() -> Self {
        Self(Mutex::new(Lines { since: None, written: 0, unsaid: 0 }))
    }

    /// Whether a line is to be written now, with this at its end.
    pub fn turn(&self) -> Option<Unsaid> {
        let mut lines = self.0.lock();
        let now = Instant::now();
        if lines.since.is_none_or(|since| now.saturating_duration_since(since) >= INTERVAL) {
            (lines.since, lines.written) = (Some(now), 0);
        }
        if lines.written >= MAX_LINES {
            lines.unsaid += 1;
            return None;
        }
        lines.written += 1;
        Some(Unsaid(std::mem::take(&mut lines.unsaid)))
    }
}

impl Default for Seldom {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 18, the second attack: 8,900 lines a second.
    #[tokio::test(start_paused = true)]
    async fn a_flood_is_a_few_lines_that_tell_how_many_were_not_written() {
        let seldom = Seldom::new();
        let written: Vec<Unsaid> = (0..9_000).filter_map(|_| seldom.turn()).collect();
        assert_eq!(written.len(), 5);
        assert!(written.iter().all(|unsaid| unsaid.to_string().is_empty()));
        tokio::time::advance(INTERVAL / 2).await;
        assert_eq!(seldom.turn(), None);
        tokio::time::advance(INTERVAL / 2).await;
        let next = seldom.turn().unwrap().to_string();
        assert_eq!(next, " (8996 such lines before this one were not written)");
        assert_eq!(seldom.turn(), Some(Unsaid(0)));
    }
}
