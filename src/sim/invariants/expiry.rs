//! Nothing expires early: not before as much time has passed, since a client asked for it, as it asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use compact_str::CompactString;
use openraft::EntryPayload;
use tokio::time::Instant;

use super::{Applied, Checked};
use crate::command::{Action, Key, Reply};
use crate::kv::Change;
use crate::log_time::WINDOW_MS;
use crate::sim::clock::TRUE_RATE;

/// A follower hears of log time at least this often while there is a leader.
const MAX_SILENCE: Duration = Duration::from_millis(3 * WINDOW_MS as u64);

#[derive(Debug, Default)]
pub struct Expiry {
    /// When requests that say how long something lives were first sent, by their `Idempotency-Key`.
    sent: BTreeMap<CompactString, Instant>,
    /// Before this a key may not expire.
    bounds: BTreeMap<Key, Instant>,
    /// Before this a lock may not be taken from its holder, by its token.
    locks: BTreeMap<(Key, u64), Instant>,
    expired: u64,
    drift_ppm: u32,
}

impl Expiry {
    /// Clocks are so fast or slow.
    pub fn allow(&mut self, drift_ppm: u32) {
        self.drift_ppm = drift_ppm;
    }

    /// The least that clocks may take for so long: one that follows another gets no further ahead of it than in
    /// [`MAX_SILENCE`], and then it is followed itself.
    pub fn least(&self, ttl_ms: u64) -> Duration {
        let drift = |of: Duration| of * self.drift_ppm / TRUE_RATE;
        let ttl = Duration::from_millis(ttl_ms);
        ttl.saturating_sub(drift(ttl) + 2 * drift(MAX_SILENCE))
    }

    /// A client is about to send it, perhaps not for the first time.
    pub fn sends(&mut self, request: &str) {
        self.sent.entry(request.into()).or_insert_with(Instant::now);
    }

    pub fn applied(&mut self, applied: &Applied<'_>) -> Checked {
        for event in applied.events {
            match &event.change {
                Change::Expired { key, .. } => {
                    self.expired += 1;
                    let bound = self.bounds.remove(key);
                    early(bound, applied, &format!("key {key}"))?;
                }
                Change::LockExpired { lock, token, .. } => {
                    self.expired += 1;
                    let bound = self.locks.remove(&(lock.clone(), *token));
                    early(bound, applied, &format!("lock {lock} with token {token}"))?;
                }
                Change::Set { key, .. } | Change::Deleted { key } => {
                    self.bounds.remove(key);
                }
                _ => {}
            }
        }
        let EntryPayload::Normal(command) = &applied.entry.payload else { return Ok(()) };
        let Some(stamped) = command.stamped() else { return Ok(()) };
        let Some(sent) = stamped.retry.as_ref().and_then(|retry| self.sent.get(&retry.key)).copied() else {
            return Ok(());
        };
        let bound = |ttl_ms: u64| sent + self.least(ttl_ms);
        match (&stamped.action, applied.reply) {
            (Action::Put { key, ttl_ms: Some(ttl_ms), .. }, Reply::Put { .. })
            | (Action::Touch { key, ttl_ms, .. }, Reply::Touched { .. }) => {
                self.bounds.insert(key.clone(), bound(*ttl_ms));
            }
            (Action::Acquire { name, ttl_ms, .. }, Reply::Granted { token, .. })
            | (Action::Renew { name, ttl_ms: Some(ttl_ms), .. }, Reply::Granted { token, .. }) => {
                self.locks.insert((name.clone(), *token), bound(*ttl_ms));
            }
            _ => {}
        }
        Ok(())
    }

    /// The time before which what the client of an entry asked for may not end.
    pub fn bound(&self, applied: &Applied<'_>, ttl_ms: u64) -> Option<Instant> {
        let EntryPayload::Normal(command) = &applied.entry.payload else { return None };
        let stamped = command.stamped()?;
        let sent = stamped.retry.as_ref().and_then(|retry| self.sent.get(&retry.key))?;
        Some(*sent + self.least(ttl_ms))
    }

    /// How much has expired.
    pub fn expired(&self) -> u64 {
        self.expired
    }
}

fn early(bound: Option<Instant>, applied: &Applied<'_>, what: &str) -> Checked {
    match bound {
        Some(bound) if applied.at < bound => {
            Err(format!("expiry: {what} expired {:?} early, at {}", bound - applied.at, applied.index()))
        }
        _ => Ok(()),
    }
}
