//! As the leader: raises the cluster's format once all members understand a higher one.
//!
//! Safe beside a change of the members: both have the turn. A node that is to join is looked at once this leader has applied
//! all that came before its term, so it knows of an entry that another leader began; of its own it knows by [`Proposed`],
//! whatever becomes of it. A leader that dies in between leaves an entry that is lost, or that its successor commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, timeout, timeout_at};

use crate::command::Action;
use crate::formats::{Format, Speaks};
use crate::node::rpc::NotLeader;
use crate::node::{Node, NodeError};
use crate::node_id::PublicId;
use crate::seldom::Seldom;

/// How often it is looked whether all members understand a higher format. A request waits for that.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The same, where there is no higher one: members that do not answer are asked why.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);

/// An entry that is not committed by then may still be.
const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The highest format that this process has proposed: the entry may be committed at any time.
#[derive(Debug, Default)]
pub(in crate::node) struct Proposed(AtomicU32);

/// Whoever asks for joins chooses how many are too old.
static OLD_JOINER_LINES: Seldom = Seldom::new();

impl Node {
    /// The task that raises the format while this node leads.
    pub(in crate::node) async fn raise_format(self) {
        let mut server = self.inner.raft.server_metrics();
        loop {
            if server.wait_until(|m| m.state == ServerState::Leader).await.is_err() {
                return;
            }
            drop(server.borrow_and_update());
            let interval = if self.format() < self.speaks().newest {
                self.raise_if_all_understand().await;
                LOOK_INTERVAL
            } else {
                self.look_at_silent_members().await;
                IDLE_INTERVAL
            };
            if matches!(timeout(interval, server.changed()).await, Ok(Err(_))) {
                return;
            }
        }
    }

    /// The highest format that all members understand, learners too, if it is higher than the cluster's.
    async fn higher_format(&self) -> Option<Format> {
        let told = self.all_speak().await;
        let all: Option<Vec<Speaks>> = told.into_iter().map(|(_, speaks)| speaks).collect();
        let all = all?;
        let highest = all.iter().map(|speaks| speaks.newest).min()?;
        (highest > self.format() && all.iter().all(|speaks| speaks.understands(highest))).then_some(highest)
    }

    async fn raise_if_all_understand(&self) {
        if self.higher_format().await.is_none() {
            return;
        }
        let deadline = Instant::now() + PROPOSAL_TIMEOUT;
        let Ok(_turn) = timeout_at(deadline, self.inner.membership_turn.lock()).await else { return };
        if self.confirm_as_leader().await.is_none() || self.term_led(deadline).await.is_none() {
            return;
        }
        // Once more, now that nobody is added.
        let Some(to) = self.higher_format().await else { return };
        self.inner.proposed_format.0.fetch_max(to.0, Ordering::SeqCst);
        tracing::info!("all members understand format {to}: raising the cluster's");
        let mut command = Arc::new(Action::Raise { to }.into());
        if let Err(error) = self.propose(&mut command, PROPOSAL_TIMEOUT, deadline).await {
            tracing::info!("the format is not raised yet: {error:?}");
        }
    }

    /// As the leader, which has the turn: refuses a node that does not understand the cluster's format, or the one that it is
    /// about to have.
    pub(in crate::node) async fn check_format(
        &self,
        id: &PublicId,
        speaks: &Speaks,
        deadline: Instant,
    ) -> Result<Result<(), NodeError>, NotLeader> {
        self.term_led(deadline).await.ok_or(NotLeader)?;
        Ok(self.refuse_old_joiner(id, speaks))
    }

    /// Refuses a node that does not understand the cluster's format, or the one that it is about to have.
    pub(in crate::node) fn refuse_old_joiner(&self, id: &PublicId, speaks: &Speaks) -> Result<(), NodeError> {
        let format = self.format().max(Format(self.inner.proposed_format.0.load(Ordering::SeqCst)));
        if speaks.understands(format) {
            return Ok(());
        }
        let why = speaks.too_old(id, format);
        if self.inner.strangers.first_time(format!("joiner {id} {}", speaks.version))
            && let Some(unsaid) = OLD_JOINER_LINES.turn()
        {
            tracing::warn!("{why}; it does not join{unsaid}");
        }
        Err(NodeError::Conflict(why))
    }

    /// A member that was started with an older binary takes nothing, and says nothing of that to this node.
    async fn look_at_silent_members(&self) {
        let format = self.format();
        for member in self.members() {
            if self.answered_lately(member.raft_id) {
                continue;
            }
            if let Some(speaks) = self.speaks_of(&member).await
                && !speaks.understands(format)
                && self.inner.strangers.first_time(format!("silent {} {}", member.raft_id, speaks.version))
            {
                tracing::warn!("{}; it takes no part until then", speaks.too_old(&member.server.id, format));
            }
        }
    }
}

#[cfg(test)]
impl Proposed {
    /// True where this is what was proposed.
    pub(in crate::node) fn is(&self, format: Format) -> bool {
        self.0.load(Ordering::SeqCst) == format.0
    }
}
