//! Locks never overlap: not as the log tells it, nor as clients know it.

use std::collections::BTreeMap;

use openraft::EntryPayload;
use tokio::time::Instant;

use super::{Applied, Checked};
use crate::command::{Action, Command, Key, Reply, Stamped};
use crate::kv::Change;

/// A lock as the client that had it knows it.
#[derive(Debug, Clone)]
pub struct Hold {
    pub token: u64,
    /// From when until when it held it for sure.
    pub from: Instant,
    pub until: Instant,
}

#[derive(Debug, Default)]
pub struct Locks {
    holders: BTreeMap<Key, u64>,
    newest: BTreeMap<Key, u64>,
    holds: BTreeMap<String, Vec<Hold>>,
}

impl Locks {
    pub fn applied(&mut self, applied: &Applied<'_>) -> Checked {
        for event in applied.events {
            let index = event.index;
            match &event.change {
                Change::Acquired { lock, token, .. } => {
                    if let Some(other) = self.holders.insert(lock.clone(), *token) {
                        return Err(format!("locks: {lock} is given to {token} at {index}, while {other} holds it"));
                    }
                    let newest = self.newest.insert(lock.clone(), *token);
                    if *token != index || newest >= Some(*token) {
                        return Err(format!("locks: the token {token} of {lock} at {index}, after {newest:?}"));
                    }
                }
                Change::Released { lock, token } | Change::LockExpired { lock, token, .. } => {
                    let holder = self.holders.remove(lock);
                    if holder != Some(*token) {
                        return Err(format!("locks: {lock} is taken from {token} at {index}, and {holder:?} holds it"));
                    }
                }
                _ => {}
            }
        }
        let EntryPayload::Normal(command) = &applied.entry.payload else { return Ok(()) };
        if let (
            Command::Stamped(Stamped { action, .. }) | Command::By(_, Stamped { action, .. }),
            Reply::Replayed { reply, .. },
        ) = (&**command, applied.reply)
            && let Action::Acquire { name, .. } | Action::Renew { name, .. } = action
            && let Reply::Granted { token, ttl_ms } = **reply
            && (self.holders.get(name) != Some(&token) || ttl_ms == 0)
        {
            let (holder, index) = (self.holders.get(name), applied.index());
            return Err(format!(
                "locks: a repetition at {index} is told that {token} holds {name} for {ttl_ms} ms, and {holder:?} holds it"
            ));
        }
        match (command.stamped(), applied.reply) {
            (Some(Stamped { action: Action::Renew { name, token, .. }, .. }), Reply::Granted { .. })
                if self.holders.get(name) != Some(token) =>
            {
                let (holder, index) = (self.holders.get(name), applied.index());
                Err(format!("locks: {token} renews {name} at {index}, and {holder:?} holds it"))
            }
            _ => Ok(()),
        }
    }

    /// A client had a lock.
    pub fn held(&mut self, lock: &str, hold: Hold) -> Checked {
        if hold.until <= hold.from {
            return Ok(());
        }
        let holds = self.holds.entry(lock.to_owned()).or_default();
        let overlaps = |other: &&Hold| other.token != hold.token && other.from < hold.until && hold.from < other.until;
        if let Some(other) = holds.iter().find(overlaps) {
            return Err(format!("locks never overlap: two held {lock} at once: {other:?} and {hold:?}"));
        }
        holds.push(hold);
        Ok(())
    }

    /// How often clients had one.
    pub fn count(&self) -> usize {
        self.holds.values().map(Vec::len).sum()
    }
}
