//! A node whose state is not its cluster's. It says so, serves nothing but its own copy, and takes no part any more; the
//! process goes on, and a file in the data directory keeps it so over restarts.
//!
//! Two things show it:
//! * A leader's log contradicts what is committed here. What was applied is never taken back: openraft must not see such
//!   a message, because it believes that committed entries always agree, and would truncate or skip them.
//! * The digest that the leader noted at a [mark](crate::command::Action::Mark) is not the one of this node at that index.
//!
//! No message is believed by itself: the leader that it names is asked at the address that the membership has for it. A
//! message that it does not confirm is refused, and changes nothing.

use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::command::Action;
use crate::node::leader::Leader;
use crate::node::rpc::{Envelope, Mark, PeerReply, PeerRequest, Refusal, Target, Witness};
use crate::node::{Node, NodeError, State};
use crate::node_id::PublicId;
use crate::raft_types::RaftId;
use crate::raft_types::alias::{LogId, Vote};
use crate::task;

/// While there are writes, a leader writes a mark so often.
const MARK_INTERVAL: Duration = Duration::from_secs(60);

/// A leader is asked about its history at most so often, and one question at a time.
const QUESTION_INTERVAL: Duration = Duration::from_secs(1);

/// How long it may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// What others say of their history.
#[derive(Debug, Default)]
pub(super) struct Histories {
    /// The newest mark of a leader, and its Raft id.
    told: watch::Sender<Option<(RaftId, Mark)>>,
    /// When a leader was last asked.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

impl Node {
    /// Refuses a message of a leader that contradicts what is committed here. `theirs`: the log ids that it sends, of
    /// consecutive entries.
    pub(super) async fn check_history(
        &self,
        envelope: &Envelope,
        vote: &Vote,
        theirs: impl IntoIterator<Item = &LogId>,
    ) -> Result<(), Refusal> {
        if let Some(mark) = envelope.mark {
            let told = Some((envelope.from_raft, mark));
            self.inner
                .histories
                .told
                .send_if_modified(|known| *known != told && std::mem::replace(known, told) != told);
        }
        // A former leader's message: openraft tells it so, and takes nothing of it.
        if self.voted_term().is_some_and(|own| own > vote.leader_id.term) {
            return Ok(());
        }
        let Some((ours, theirs)) = self.inner.log.contradiction(self.last_committed(), theirs) else { return Ok(()) };
        let what = format!("its entry {theirs} contradicts {ours}, which is committed here");
        let told = self.witness(envelope.from_raft, theirs.index).await;
        let Some((leader, _)) = told.filter(|(_, witness)| witness.log_id == Some(theirs)) else {
            return Err(Refusal::Unreadable(what));
        };
        let why = format!("the leader {leader} has the entry {theirs} where {ours} is committed here");
        Err(Refusal::Diverged(self.diverge(why).await))
    }

    /// Asks a member that may lead for its word on an index, where it is known to be. `None`: it gave none, or was asked
    /// just now.
    async fn witness(&self, leader: RaftId, index: u64) -> Option<(PublicId, Witness)> {
        let mut asked = self.inner.histories.asked.try_lock().ok()?;
        if asked.is_some_and(|at| at.elapsed() < QUESTION_INTERVAL) {
            return None;
        }
        let member = self.member(leader)?;
        *asked = Some(Instant::now());
        let target = Target { raft_id: Some(leader), id: member.server.id };
        let answer = self.inner.peers.call(&target, PeerRequest::Witness { index }, ANSWER_TIMEOUT);
        match timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(PeerReply::Witness(Some(witness)))) => Some((target.id, witness)),
            _ => None,
        }
    }

    /// As the leader: what this log has at an index, and the newest mark.
    pub(super) fn as_witness(&self, index: u64) -> Option<Witness> {
        (self.leader() == Some(Leader::ThisNode))
            .then(|| Witness { log_id: self.inner.log.log_id_at(index), mark: self.inner.me.mark() })
    }

    /// The task that compares this node's marks with its leader's.
    pub(super) async fn compare_marks(self) {
        let mut told = self.inner.histories.told.subscribe();
        let mut own = self.inner.map.noted();
        loop {
            while let Some((leader, differing)) = self.differs() {
                if let Some((leader, Witness { mark: Some(mark), .. })) = self.witness(leader, differing.index).await
                    && let Some(noted) = self.noted_at(mark.index)
                    && noted != mark.digest
                {
                    let why = format!(
                        "at index {} the state here has the digest {noted:016x}, and that of the leader {leader} has \
                         {:016x}",
                        mark.index, mark.digest
                    );
                    self.diverge(why).await;
                    return;
                }
                sleep(QUESTION_INTERVAL).await;
            }
            let news = async {
                tokio::select! { told = told.changed() => told, own = own.changed() => own }
            };
            if news.await.is_err() {
                return;
            }
        }
    }

    fn noted_at(&self, index: u64) -> Option<u64> {
        let noted = *self.inner.map.noted().borrow();
        noted.filter(|noted| noted.index == index).map(|noted| noted.digest)
    }

    /// A leader's mark that is not the one of this node.
    fn differs(&self) -> Option<(RaftId, Mark)> {
        let told = *self.inner.histories.told.borrow();
        told.filter(|(_, mark)| self.noted_at(mark.index).is_some_and(|digest| digest != mark.digest))
    }

    /// The task that writes marks while this node leads: at most one in [`MARK_INTERVAL`], and none where nothing was
    /// applied since the last.
    pub(super) async fn mark(self) {
        let mut server = self.inner.raft.server_metrics();
        let mut last = Instant::now();
        loop {
            sleep_until(last + MARK_INTERVAL).await;
            if server.wait_until(|m| m.state == ServerState::Leader).await.is_err() {
                return;
            }
            let noted = *self.inner.map.noted().borrow();
            // Another leader may have written one meanwhile.
            if let Some(noted) = noted.filter(|noted| noted.at > last) {
                last = noted.at;
                continue;
            }
            last = Instant::now();
            let marked = noted.map_or(0, |noted| noted.index);
            if self.state() == State::Leader && self.applied_index() > marked {
                // One that is lost is followed by another.
                let mut mark = Arc::new(Action::Mark.into());
                let _ = self.propose(&mut mark, MARK_INTERVAL, last + MARK_INTERVAL).await;
            }
        }
    }

    /// Makes this node one that has diverged, for good. Returns the reason, the first one if there were several.
    pub(super) async fn diverge(&self, why: String) -> String {
        self.inner.raft.runtime_config().elect(false);
        let me = &self.inner.me;
        let why = format!(
            "{why}: this node's state is not its cluster's, as after copies of directories of different times were put \
             back. It serves its own copy only (?level=none) and takes no part. Save from that copy what the others lack, \
             stop this node, move {} away, and start it again: it joins as a new member",
            me.data_place
        );
        if me.set_diverged(why.clone()) {
            tracing::error!("{why}");
            let (me, why) = (me.clone(), why.clone());
            match task::spawn_blocking(move || me.save_diverged(&why)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!("cannot note that this node has diverged: {error}"),
                Err(error) => tracing::error!("cannot note that this node has diverged: {error}"),
            }
        }
        me.diverged().unwrap_or(why)
    }

    /// Raft has ended. If that is because it was told to take back what is committed, this node has diverged, and the
    /// process goes on: never returns then.
    pub(super) async fn outlive_refused_truncation(&self) {
        if let Some(why) = self.inner.log.refused_truncation() {
            self.diverge(why).await;
            std::future::pending().await
        }
    }

    /// Ok where watchers may be served.
    ///
    /// # Errors
    /// [`NodeError::Diverged`].
    pub fn serves_watches(&self) -> Result<(), NodeError> {
        self.refuse_diverged()
    }

    pub(super) fn refuse_diverged(&self) -> Result<(), NodeError> {
        self.inner.me.diverged().map_or(Ok(()), |why| Err(NodeError::Diverged(why)))
    }
}
