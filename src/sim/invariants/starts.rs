//! A node whose directory was meddled with ends in one of three ways: it is as before, it came back as a new member, or it
//! stopped and says why.

use std::collections::BTreeMap;

use super::Checked;
use crate::exit::{EX_CONFIG, EX_FAILURE, Exit};
use crate::raft_types::RaftId;

/// What became of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    AsBefore,
    NewMember,
    Stopped,
}

#[derive(Debug, Default)]
pub struct Starts(BTreeMap<End, u64>);

impl Starts {
    /// A node is a member that serves; it was `before` when its directory was meddled with.
    pub fn serves(&mut self, before: Option<RaftId>, now: RaftId) {
        let end = if before == Some(now) { End::AsBefore } else { End::NewMember };
        *self.0.entry(end).or_default() += 1;
    }

    /// A process ended by itself.
    pub fn stopped(&mut self, port: u16, exit: &Exit) -> Checked {
        *self.0.entry(End::Stopped).or_default() += 1;
        let says_why = exit.err.as_ref().is_some_and(|line| !line.is_empty());
        if says_why && [EX_CONFIG, EX_FAILURE].contains(&exit.code) {
            return Ok(());
        }
        Err(format!("told: node {port} ended with {exit:?}, which does not say why"))
    }

    pub fn count(&self, end: End) -> u64 {
        self.0.get(&end).copied().unwrap_or(0)
    }
}
