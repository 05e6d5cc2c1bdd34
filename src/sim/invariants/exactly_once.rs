//! A request with an `Idempotency-Key` counts once, however often it is repeated, and every repetition is answered alike.

use std::collections::BTreeMap;

use compact_str::CompactString;
use openraft::EntryPayload;

use super::{Applied, Checked};
use crate::command::{Failure, Reply};

#[derive(Debug, Default)]
pub struct ExactlyOnce {
    /// Index and answer of each write that was done, by its `Idempotency-Key`.
    done: BTreeMap<CompactString, (u64, Reply)>,
}

impl ExactlyOnce {
    pub fn applied(&mut self, applied: &Applied<'_>) -> Checked {
        let EntryPayload::Normal(command) = &applied.entry.payload else { return Ok(()) };
        let Some(stamped) = command.stamped() else { return Ok(()) };
        let Some(retry) = &stamped.retry else { return Ok(()) };
        let index = applied.index();
        // Who was refused has left nothing, and may ask again.
        if let Reply::Failed(failure) = applied.reply
            && matches!(**failure, Failure::Denied(_))
        {
            return Ok(());
        }
        match (self.done.get(&retry.key), applied.reply) {
            (None, reply @ Reply::Replayed { .. }) => {
                Err(format!("exactly once: {} is new at {index}, and answered {reply:?}", retry.key))
            }
            // It is not kept: nothing was done, and the same request may be taken later.
            (None, Reply::Failed(failure)) if matches!(**failure, Failure::Quota { .. }) => Ok(()),
            (None, reply) => {
                self.done.insert(retry.key.clone(), (index, reply.clone()));
                Ok(())
            }
            (Some((at, first)), Reply::Replayed { index: told, reply }) if at == told && *first == **reply => Ok(()),
            // A lock is told as it is now; that nothing is done is for `locks` to see.
            (Some((at, Reply::Granted { .. } | Reply::Queued)), Reply::Replayed { index: told, reply })
                if at == told && matches!(**reply, Reply::Granted { .. }) =>
            {
                Ok(())
            }
            (Some((_, Reply::Granted { .. } | Reply::Queued)), Reply::Failed(failure))
                if matches!(**failure, Failure::Locked(_) | Failure::LockLost) =>
            {
                Ok(())
            }
            // So is a lease.
            (Some((at, Reply::Leased { .. })), Reply::Replayed { index: told, reply })
                if at == told && matches!(**reply, Reply::Leased { .. }) =>
            {
                Ok(())
            }
            (Some((_, Reply::Leased { .. })), Reply::Failed(failure))
                if matches!(**failure, Failure::LeaseLost { .. }) =>
            {
                Ok(())
            }
            (Some((at, first)), reply) => Err(format!(
                "exactly once: {} was done at {at} with {first:?}, and again at {index} with {reply:?}",
                retry.key
            )),
        }
    }

    /// A client was answered so, by the entry at this index or by a later one that repeats it.
    pub fn answered(&self, key: &str, index: u64, fits: impl Fn(&Reply) -> bool) -> Checked {
        match self.done.get(key) {
            Some((at, reply)) if *at <= index && fits(reply) => Ok(()),
            done => Err(format!("exactly once: {key} was answered as done at {index}, and was {done:?}")),
        }
    }

    /// The index at which the write was done.
    pub fn done(&self, key: &str) -> Option<u64> {
        self.done.get(key).map(|(index, _)| *index)
    }
}
