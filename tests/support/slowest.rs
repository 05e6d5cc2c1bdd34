//! What clients had to wait for at most, while something was done to their cluster.

use std::fmt;
use std::time::{Duration, Instant};

/// What took longest of some requests.
#[derive(Debug, Default, Clone, Copy)]
pub struct Slowest {
    pub count: u64,
    /// One request, from its beginning to its answer, whatever nodes it took.
    pub request: Duration,
    /// No client had an answer.
    pub silence: Duration,
    last: Option<Instant>,
}

impl Slowest {
    /// Only what comes from now on counts.
    pub fn forget(&mut self) {
        *self = Self { count: self.count, ..Self::default() };
    }

    /// One that was sent then is answered now.
    pub fn answered(&mut self, sent: Instant) {
        let now = Instant::now();
        self.count += 1;
        self.request = self.request.max(now - sent);
        self.silence = self.silence.max(self.last.map_or(Duration::ZERO, |last| now - last));
        self.last = Some(now);
    }
}

impl fmt::Display for Slowest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, request, silence, .. } = self;
        write!(f, "{count}, the slowest took {request:.0?}, none was answered for {silence:.0?}")
    }
}
