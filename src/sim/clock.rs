//! Clocks of simulated hosts, which may be fast or slow.
//!
//! A clock's rate is the number of its seconds that pass in a million seconds of simulated time.

use std::time::Duration;

use tokio::time::Instant;

use super::host::Host;

/// The rate of a clock that is neither fast nor slow.
pub const TRUE_RATE: u32 = 1_000_000;

/// A moment by the clock of a host.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    at: Instant,
    rate: u32,
}

impl Moment {
    /// Now, by the clock of the host whose task this is.
    pub fn now() -> Self {
        Self { at: Instant::now(), rate: Host::current().map_or(TRUE_RATE, |host| host.clock_rate()) }
    }

    /// The time that this clock has counted since.
    pub fn elapsed(&self) -> Duration {
        self.at.elapsed() * self.rate / TRUE_RATE
    }
}
