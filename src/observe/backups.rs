//! What a node counts of the backups that it makes by itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::Counter;

/// What a node knows of the backups that it made by itself.
#[derive(Debug, Default)]
pub struct BackupNumbers {
    made_ms: AtomicU64,
    bytes: AtomicU64,
    took_us: AtomicU64,
    successes: Counter,
    failures: Counter,
    failing: Mutex<Option<String>>,
}

/// The same, at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackupsSeen {
    /// When the state of the newest was read, in milliseconds since 1970; 0 for never.
    pub made_ms: u64,
    /// The bytes of the newest.
    pub bytes: u64,
    /// How long that took.
    pub took: Duration,
    /// Those that were made.
    pub successes: u64,
    /// Those that failed.
    pub failures: u64,
    /// The last one failed.
    pub is_failing: bool,
}

impl BackupNumbers {
    /// There is one of the state as it was then; `made`: its bytes, and how long it took, if it was made now.
    pub fn succeeded(&self, made_ms: u64, made: Option<(u64, Duration)>) {
        self.made_ms.store(made_ms, Relaxed);
        if let Some((bytes, took)) = made {
            self.bytes.store(bytes, Relaxed);
            self.took_us.store(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
            self.successes.one();
        }
        if self.failing.lock().take().is_some() {
            tracing::info!("backups are made again");
        }
    }

    /// One failed.
    pub fn failed(&self, why: String) {
        self.failures.one();
        tracing::error!("{why}");
        *self.failing.lock() = Some(why);
    }

    /// What an operator should mend.
    pub fn warning(&self) -> Option<String> {
        self.failing.lock().clone()
    }

    /// All of it, now.
    pub fn seen(&self) -> BackupsSeen {
        BackupsSeen {
            made_ms: self.made_ms.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            took: Duration::from_micros(self.took_us.load(Relaxed)),
            successes: self.successes.get(),
            failures: self.failures.get(),
            is_failing: self.failing.lock().is_some(),
        }
    }
}
