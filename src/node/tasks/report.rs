//! One line in the log for each event that an operator would act on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, timeout};

use crate::node::leader::Leader;
use crate::node::rpc::EventKind;
use crate::node::status::even_voters;
use crate::node::{Node, State};
use crate::raft_types::RaftId;

/// How often silence is noticed.
const SILENCE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// A number of voters that stays this long is meant.
const EVEN_VOTERS_REPORT_DELAY: Duration = Duration::from_secs(10);

/// A member that acknowledges nothing for this long is reported lost.
const MEMBER_LOST_AFTER: Duration = Duration::from_secs(2);

impl Node {
    /// One line for each event an operator would act on.
    pub(in crate::node) async fn report_changes(self) {
        let mut server = self.inner.raft.server_metrics();
        let mut last_leader = None;
        let mut lost: BTreeSet<RaftId> = BTreeSet::new();
        let mut since: BTreeMap<RaftId, Instant> = BTreeMap::new();
        let (mut even, mut no_quorum) = (None, false);
        loop {
            let look =
                self.quorum_is_doubtful_in().map_or(SILENCE_CHECK_INTERVAL, |left| left.min(SILENCE_CHECK_INTERVAL));
            if matches!(timeout(look, server.changed()).await, Ok(Err(_))) {
                return;
            }
            let (leader, term) = {
                let now = server.borrow_and_update();
                (
                    now.current_leader.map(|id| (id, now.membership_config.get_node(&id).cloned())),
                    now.vote.leader_id.term,
                )
            };
            // The same leader in a later term was elected again.
            // After a restart the stored vote names a leader; it is one once it was heard.
            let mine = leader.as_ref().is_some_and(|(id, _)| *id == self.inner.me.raft_id());
            let heard = mine || self.inner.freshness.since_received().is_some();
            let seen = leader.as_ref().filter(|_| heard).map(|(id, _)| (*id, term));
            if seen.is_some() && seen != last_leader {
                self.inner.numbers.leader_changes.one();
                self.inner.numbers.leader_changes_lately.note();
                if let Some((id, member)) = leader {
                    if id == self.inner.me.raft_id() {
                        // From here on its quorum may be missed.
                        self.leading_for(term);
                        tracing::info!("this node is the leader, term {term}");
                    } else if let Some(member) = member {
                        tracing::info!("the leader is {}, term {term}", member.id);
                    }
                }
                last_leader = seen;
            }
            match self.state() {
                State::Learner => self.inner.journal.role("Learner", "it has no vote"),
                State::Shutdown => self.inner.journal.role("Shutdown", "it takes no part any more"),
                _ if self.is_voter() => self.inner.journal.is_voter(),
                _ => {}
            }
            self.report_quorum(&mut no_quorum);
            if self.leader() == Some(Leader::ThisNode) {
                self.report_even(&mut even);
                self.report_lost(&mut lost, &mut since);
            } else {
                even = None;
                lost.clear();
                since.clear();
            }
        }
    }

    /// Says that this node leads and no quorum follows it, and when either ends.
    fn report_quorum(&self, no_quorum: &mut bool) {
        let leads = self.leader() == Some(Leader::ThisNode);
        let lost = leads && self.state() == State::Follower;
        if lost && !*no_quorum {
            *no_quorum = true;
            tracing::warn!("no quorum: writes are refused");
        } else if *no_quorum && !lost {
            *no_quorum = false;
            tracing::info!(
                "{}",
                if leads {
                    "a quorum answers again: writes are accepted"
                } else {
                    "this node no longer leads without a quorum"
                }
            );
        }
    }

    /// As the leader: says that there is an even number of voters, once it has stayed so for a while: a
    /// cluster that grows passes through them.
    fn report_even(&self, even: &mut Option<(usize, Instant, bool)>) {
        let voters = self.members().iter().filter(|member| member.server.voter).count();
        let Some(what) = even_voters(voters) else {
            *even = None;
            return;
        };
        match even {
            Some((seen, since, said)) if *seen == voters => {
                if !*said && since.elapsed() >= EVEN_VOTERS_REPORT_DELAY {
                    *said = true;
                    tracing::warn!("{what}");
                }
            }
            _ => *even = Some((voters, Instant::now(), false)),
        }
    }

    /// As the leader: says which members stopped answering and which are back.
    fn report_lost(&self, lost: &mut BTreeSet<RaftId>, since: &mut BTreeMap<RaftId, Instant>) {
        let members = self.members();
        since.retain(|raft_id, _| members.iter().any(|member| member.raft_id == *raft_id));
        for member in members {
            if member.raft_id == self.inner.me.raft_id() {
                continue;
            }
            let silent = match self.silence_of(member.raft_id) {
                Some(silence) => silence > MEMBER_LOST_AFTER,
                // Counted from when this leader first had it as a member.
                None => since.entry(member.raft_id).or_insert_with(Instant::now).elapsed() > MEMBER_LOST_AFTER,
            };
            let id = &member.server.id;
            if silent && lost.insert(member.raft_id) {
                tracing::warn!("{id} does not answer");
                let text = format!("{id} does not answer the leader.");
                self.inner.journal.note(EventKind::Peer, 0, Some(id.to_string()), text);
            } else if !silent && lost.remove(&member.raft_id) {
                tracing::info!("{id} answers again");
                let text = format!("{id} answers the leader again.");
                self.inner.journal.note(EventKind::Peer, 0, Some(id.to_string()), text);
            }
        }
    }
}
