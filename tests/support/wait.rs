//! Polling with a deadline.

use std::time::{Duration, Instant};

/// Long enough for an election, a join or a restart on a loaded machine; a test that waits this long has failed.
pub const SETTLE: Duration = Duration::from_secs(30);

const BETWEEN_LOOKS: Duration = Duration::from_millis(25);

/// Looks until it sees `Ok`; past the deadline panics with what it waited for and what it saw last.
pub fn eventually<T>(within: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        let seen = match look() {
            Ok(found) => return found,
            Err(seen) => seen,
        };
        assert!(began.elapsed() < within, "not within {within:?}: {what}\nlast seen: {seen}");
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// `Ok` when it holds, else what was seen instead.
pub fn check(holds: bool, seen: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(seen()) }
}
