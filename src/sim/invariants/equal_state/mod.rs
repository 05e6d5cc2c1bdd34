//! All nodes hold the same at the same index, and answer it the same.

pub mod restored;

use std::collections::BTreeMap;

use super::{Applied, Checked};
use crate::command::Reply;

#[derive(Debug, Default)]
pub struct EqualState {
    /// By index: the digest, and the reply of who applied it first.
    states: BTreeMap<u64, (u64, Option<Reply>)>,
}

impl EqualState {
    pub fn applied(&mut self, applied: &Applied<'_>) -> Checked {
        let (digest, reply) = self.states.entry(applied.index()).or_insert((applied.digest, None));
        let reply = reply.get_or_insert_with(|| applied.reply.clone());
        if *reply != *applied.reply {
            return Err(format!(
                "equal state: {} is answered {:?} by node {}, and {reply:?} by others",
                applied.index(),
                applied.reply,
                applied.by
            ));
        }
        let (digest, index) = (*digest, applied.index());
        self.holds(applied.by, index, digest, applied.digest)
    }

    fn holds(&self, by: u16, index: u64, digest: u64, found: u64) -> Checked {
        if digest == found {
            return Ok(());
        }
        Err(format!("equal state: node {by} holds {found:x} at {index}, others hold {digest:x}"))
    }

    /// A node holds the state of a snapshot.
    pub fn loaded(&mut self, by: u16, index: u64, found: u64) -> Checked {
        match self.states.get(&index) {
            Some((digest, _)) => self.holds(by, index, *digest, found),
            None => Err(format!("equal state: node {by} has a snapshot of {index}, which nobody applied")),
        }
    }
}
