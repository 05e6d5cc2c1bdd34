//! When each token was used last, at this node, to the minute. Nobody else is told, and a restart forgets it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;

use crate::kv::MAX_TOKENS;

const MINUTE_S: u64 = 60;

/// Minutes since 1970, by the id of the token.
#[derive(Debug, Default)]
pub struct LastUsed(RwLock<HashMap<u64, AtomicU64>>);

impl LastUsed {
    /// It is used now. This costs a shared lock, and takes no memory but the first time.
    pub fn note(&self, id: u64, now: SystemTime) {
        let minute = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / MINUTE_S;
        if let Some(last) = self.0.read().get(&id) {
            // Others would wait for the line of the cache.
            if last.load(Relaxed) != minute {
                last.store(minute, Relaxed);
            }
            return;
        }
        let mut all = self.0.write();
        if all.len() >= MAX_TOKENS {
            // So many have ended since; the others are soon noted again.
            all.clear();
        }
        all.insert(id, AtomicU64::new(minute));
    }

    /// When it was.
    pub fn of(&self, id: u64) -> Option<SystemTime> {
        let minute = self.0.read().get(&id)?.load(Relaxed);
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(minute * MINUTE_S))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_use_is_told_to_the_minute() {
        let used = LastUsed::default();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(used.of(1), None);
        used.note(1, at(59));
        used.note(2, at(61));
        assert_eq!((used.of(1), used.of(2)), (Some(at(0)), Some(at(60))));
        used.note(1, at(200));
        assert_eq!(used.of(1), Some(at(180)));
        (3..=MAX_TOKENS as u64).for_each(|id| used.note(id, at(1)));
        used.note(0, at(600));
        assert_eq!((used.of(0), used.of(1), used.0.read().len()), (Some(at(600)), None, 1), "bounded");
    }
}
