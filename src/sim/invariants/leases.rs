//! All keys of a lease go in the entry that ends it, in their order, and never early.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use tokio::time::Instant;

use super::{Applied, Checked};
use crate::command::{Action, Command, Key, Reply};
use crate::kv::Change;

#[derive(Debug, Default)]
pub struct Leases {
    /// Before this a lease may not end by itself, and how long it lasts, in milliseconds.
    alive: BTreeMap<u64, (Option<Instant>, u64)>,
    /// The lease of each key that has one.
    attached: BTreeMap<Key, u64>,
    /// Leases that ended with keys.
    ended: u64,
}

impl Leases {
    /// `bound` is the time before which what this entry's client asked for may not end, by the time to live.
    pub fn applied(&mut self, applied: &Applied<'_>, bound: impl Fn(u64) -> Option<Instant>) -> Checked {
        let index = applied.index();
        let mut gone: BTreeMap<u64, Vec<Key>> = BTreeMap::new();
        for event in applied.events {
            match &event.change {
                Change::Set { key, record } => match record.lease() {
                    Some(lease) if !self.alive.contains_key(&lease) => {
                        return Err(format!("leases: {key} is attached at {index} to {lease}, which is not alive"));
                    }
                    Some(lease) => drop(self.attached.insert(key.clone(), lease)),
                    None => drop(self.attached.remove(key)),
                },
                Change::Deleted { key } => drop(self.attached.remove(key)),
                Change::Expired { key, lease: Some(lease) } => gone.entry(*lease).or_default().push(key.clone()),
                Change::Expired { key, lease: None } if self.attached.contains_key(key) => {
                    return Err(format!("leases: {key} expired by itself at {index}, and has a lease"));
                }
                Change::LockExpired { lease: Some(lease), .. } => drop(gone.entry(*lease).or_default()),
                _ => {}
            }
        }
        let action = match &applied.entry.payload {
            EntryPayload::Normal(command) => match &**command {
                Command::Stamped(stamped) | Command::By(_, stamped) => Some(&stamped.action),
                _ => None,
            },
            _ => None,
        };
        for (lease, keys) in gone {
            self.ended += u64::from(!keys.is_empty());
            let all: BTreeSet<&Key> =
                self.attached.iter().filter(|(_, of)| **of == lease).map(|(key, _)| key).collect();
            if !keys.iter().eq(all) {
                return Err(format!("leases: {lease} ended at {index} with {keys:?}, and has {:?}", self.attached));
            }
            self.attached.retain(|_, of| *of != lease);
            let known = self.alive.remove(&lease);
            let is_revoked = matches!(action, Some(Action::Revoke { lease: of }) if *of == lease);
            match known {
                None => return Err(format!("leases: {lease} ended at {index}, and was not alive")),
                Some((Some(bound), _)) if !is_revoked && applied.at < bound => {
                    return Err(format!("leases: {lease} ended {:?} early, at {index}", bound - applied.at));
                }
                Some(_) => {}
            }
        }
        match (action, applied.reply) {
            (Some(Action::Grant { ttl_ms, .. }), Reply::Leased { lease, .. }) => {
                self.alive.insert(*lease, (bound(*ttl_ms), *ttl_ms));
            }
            (Some(Action::KeepAlive { ttl_ms, .. }), Reply::Leased { lease, .. }) => {
                let Some((until, lasts)) = self.alive.get_mut(lease) else {
                    return Err(format!("leases: {lease} was kept alive at {index}, and was not alive"));
                };
                *lasts = ttl_ms.unwrap_or(*lasts);
                // Another time may be shorter.
                *until = bound(*lasts);
            }
            // Without keys and locks it ends unseen, when its time is up.
            (Some(Action::KeepAlive { lease, .. }), Reply::Failed(_)) => {
                if let Some((Some(bound), _)) =
                    self.alive.get(lease).filter(|(bound, _)| bound.is_some_and(|at| applied.at < at))
                {
                    let early = *bound - applied.at;
                    return Err(format!("leases: {lease} was lost {early:?} early, at {index}"));
                }
            }
            // Likewise.
            (Some(Action::Revoke { lease }), Reply::Deleted(_)) => drop(self.alive.remove(lease)),
            _ => {}
        }
        Ok(())
    }

    /// How many leases ended with keys.
    pub fn ended(&self) -> u64 {
        self.ended
    }
}
