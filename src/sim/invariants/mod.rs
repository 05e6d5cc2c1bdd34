//! The invariants of a run, one file each. Each is told what it needs to know when it happens, and reports what is
//! wrong at once.

pub mod access;
pub mod acknowledged;
pub mod clusters;
pub mod committed;
pub mod equal_state;
pub mod exactly_once;
pub mod expiry;
pub mod leaders;
pub mod leases;
pub mod linearizable;
pub mod listings;
pub mod locks;
pub mod starts;
pub mod state;
pub mod sums;
pub mod watches;

use tokio::time::Instant;

use crate::command::Reply;
use crate::kv::Event;
use crate::raft_types::alias::{LogEntry, LogId};

/// `Err`: what is wrong.
pub type Checked<T = ()> = Result<T, String>;

/// An entry, as a node applied it.
pub struct Applied<'a> {
    /// Client port of the node.
    pub by: u16,
    /// The state that it was applied to; see [`super::observer`].
    pub state: u64,
    pub entry: &'a LogEntry,
    pub reply: &'a Reply,
    pub events: &'a [Event],
    /// The digest of the state after the entry.
    pub digest: u64,
    pub at: Instant,
}

impl Applied<'_> {
    pub fn index(&self) -> u64 {
        self.entry.log_id.index
    }
}

#[derive(Debug, Default)]
pub struct Invariants {
    /// Nodes were put back to copies of their directories: what is known is no longer so, and what is looked at is whether
    /// all that serve hold the same from now on.
    began_anew: bool,
    pub access: access::Access,
    pub restored: equal_state::restored::Restored,
    pub clusters: clusters::Clusters,
    pub starts: starts::Starts,
    pub leaders: leaders::Leaders,
    pub leases: leases::Leases,
    pub committed: committed::Committed,
    pub equal_state: equal_state::EqualState,
    pub acknowledged: acknowledged::Acknowledged,
    pub exactly_once: exactly_once::ExactlyOnce,
    pub expiry: expiry::Expiry,
    pub linearizable: linearizable::Linearizable,
    pub locks: locks::Locks,
    pub listings: listings::Listings,
    pub state: state::State,
    pub sums: sums::Sums,
    pub watches: watches::Watches,
}

impl Invariants {
    /// Another history begins, with states that nobody saw become what they are.
    pub fn begin_anew(&mut self) {
        *self = Self { began_anew: true, starts: std::mem::take(&mut self.starts), ..Self::default() };
    }

    /// A node's state is that of a snapshot.
    pub fn loaded(&mut self, by: u16, state: u64, last: LogId, digest: u64) -> Checked {
        if self.began_anew {
            self.restored.holds(by, state, last, digest);
            return Ok(());
        }
        self.committed.loaded(by, state, last)?;
        self.equal_state.loaded(by, last.index, digest)
    }

    /// A node applied an entry.
    pub fn applied(&mut self, applied: &Applied<'_>) -> Checked {
        if self.began_anew {
            self.restored.holds(applied.by, applied.state, applied.entry.log_id, applied.digest);
            return Ok(());
        }
        let is_first = self.committed.applied(applied)?;
        self.equal_state.applied(applied)?;
        if is_first {
            self.access.applied(applied)?;
            self.acknowledged.applied(applied)?;
            self.exactly_once.applied(applied)?;
            self.expiry.applied(applied)?;
            self.leases.applied(applied, |ttl_ms| self.expiry.bound(applied, ttl_ms))?;
            self.locks.applied(applied)?;
            self.state.applied(applied);
            self.sums.applied(applied)?;
            self.watches.applied(applied);
        }
        Ok(())
    }
}
