//! Nobody does what he may not: each command is applied as its client's token allows where it stands in the log, and what
//! was refused has left nothing.
//!
//! What tokens allow is worked out here once more, from the commands alone.

use std::collections::{BTreeMap, BTreeSet};

use compact_str::CompactString;
use openraft::EntryPayload;

use super::{Applied, Checked};
use crate::command::{Action, Command, Failure, Grant, Grants, Holder, Key, Principal, Reply, Scope, Whose};
use crate::kv::Change;

/// What clients store under names that begin so is stored once.
pub const GUESTS: &str = "guest/";

#[derive(Debug)]
struct Held {
    id: u64,
    generation: u32,
    /// Until when the secret before is good, in milliseconds of log time.
    grace_ms: u64,
    expires_ms: u64,
    grants: Grants,
}

#[derive(Debug, Default)]
pub struct Access {
    is_on: bool,
    was_set: bool,
    now_ms: u64,
    tokens: BTreeMap<CompactString, Held>,
    stored: BTreeSet<Vec<u8>>,
    /// Values that clients were told are not stored.
    refused: BTreeSet<Vec<u8>>,
    /// How many commands were refused when they were applied.
    kept_out: u64,
    /// How many requests of tokens that are no good any more were refused.
    turned_away: u64,
}

impl Access {
    pub fn applied(&mut self, applied: &Applied<'_>) -> Checked {
        let EntryPayload::Normal(command) = &applied.entry.payload else { return Ok(()) };
        if let Some(stamped) = command.stamped() {
            self.now_ms = self.now_ms.max(stamped.stamp_ms);
        }
        let is_denied = matches!(applied.reply, Reply::Failed(why) if matches!(**why, Failure::Denied(_)));
        let index = applied.index();
        if let Some(may) = self.may(command)
            && may == is_denied
        {
            return Err(format!(
                "access: {command:?} at {index} was answered {:?}, and its client may: {may}; {:?}",
                applied.reply, self.tokens
            ));
        }
        if is_denied {
            self.kept_out += 1;
            let left = applied.events.first().map(|event| format!("access: {index} was refused, and left {event:?}"));
            return left.map_or(Ok(()), Err);
        }
        for event in applied.events {
            if let Change::Set { key, record } = &event.change
                && key.starts_with(GUESTS)
            {
                let value = record.value().to_vec();
                if self.refused.contains(&value) {
                    return Err(format!("access: {value:?} of {key} was refused, and is committed at {index}"));
                }
                self.stored.insert(value);
            }
        }
        if let Some(stamped) = command.stamped() {
            self.change(&stamped.action, applied.reply);
        }
        Ok(())
    }

    /// Whether the client of a command may have it done; `None` where that is for others to say.
    fn may(&self, command: &Command) -> Option<bool> {
        let stamped = command.stamped()?;
        if !self.is_on {
            return Some(true);
        }
        match command.by() {
            None => Some(stamped.action.whose() == Whose::Own),
            Some(Principal::Node | Principal::Root) => Some(true),
            Some(Principal::Anonymous { .. }) => Some(false),
            Some(Principal::Token(holder)) => match self.good(holder) {
                Some(held) => may_write(&held.grants, &stamped.action),
                None => Some(false),
            },
        }
    }

    fn good(&self, holder: &Holder) -> Option<&Held> {
        let held = self.tokens.values().find(|held| held.id == holder.id)?;
        let in_grace = holder.generation + 1 == held.generation && held.grace_ms > self.now_ms;
        let is_good = (holder.generation == held.generation || in_grace) && held.expires_ms > self.now_ms;
        is_good.then_some(held)
    }

    fn change(&mut self, action: &Action, reply: &Reply) {
        let until = |ttl_ms: Option<u64>| ttl_ms.map_or(u64::MAX, |ttl_ms| self.now_ms + ttl_ms);
        match (action, reply) {
            (Action::Authentication { on, first, .. }, Reply::Done) if !*first || !self.was_set => {
                (self.is_on, self.was_set) = (*on, true);
            }
            (Action::PutToken { name, id, grants, ttl_ms, .. }, Reply::Token { fresh: true }) => {
                let (grants, expires_ms) = (grants.clone(), until(*ttl_ms));
                self.tokens.insert(name.clone(), Held { id: *id, generation: 1, grace_ms: 0, expires_ms, grants });
            }
            (Action::PutToken { name, grants, ttl_ms, .. }, Reply::Token { fresh: false }) => {
                let expires_ms = until(*ttl_ms);
                if let Some(held) = self.tokens.get_mut(name) {
                    (held.grants, held.expires_ms) = (grants.clone(), expires_ms);
                }
            }
            (Action::RotateToken { name, grace_ms, .. }, Reply::Token { .. }) => {
                let until_ms = self.now_ms + grace_ms;
                if let Some(held) = self.tokens.get_mut(name) {
                    (held.generation, held.grace_ms) = (held.generation + 1, until_ms);
                }
            }
            (Action::DeleteToken { name }, Reply::Deleted(1)) => drop(self.tokens.remove(name)),
            _ => {}
        }
    }

    /// A client was told that a token is revoked.
    pub fn revoked(&self, name: &str) -> Checked {
        match self.tokens.get(name) {
            Some(held) => Err(format!("access: {name} is revoked, as its client was told, and is {held:?}")),
            None => Ok(()),
        }
    }

    /// A client was told that a value is not stored, as it may not do that.
    pub fn refused(&mut self, value: &[u8]) -> Checked {
        self.turned_away += 1;
        if self.stored.contains(value) {
            return Err(format!("access: the write of {value:?} was refused, and is committed"));
        }
        self.refused.insert(value.to_vec());
        Ok(())
    }

    /// How many commands were refused when they were applied, and how many requests.
    pub fn counts(&self) -> (u64, u64) {
        (self.kept_out, self.turned_away)
    }
}

/// Whether grants allow a write; `None` for what is not looked at here.
fn may_write(grants: &Grants, action: &Action) -> Option<bool> {
    let covers = |key: &Key| {
        grants.0.iter().any(|grant| match grant {
            Grant::Admin => true,
            Grant::Write(Scope::Prefix(prefix)) => key.starts_with(&**prefix),
            _ => false,
        })
    };
    match action {
        Action::Put { key, conditions, .. } | Action::Delete { key, conditions } if conditions.is_empty() => {
            Some(covers(key))
        }
        Action::Set { pairs, conditions, .. } if conditions.is_empty() => {
            Some(pairs.iter().all(|(key, _)| covers(key)))
        }
        _ => None,
    }
}
