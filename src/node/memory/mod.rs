//! A voter is one process with one memory: of its votes, and of what it acknowledged. A directory that was copied, put
//! back from the past or partly deleted has less of it than its Raft id has promised. Here that is noticed, and such a node
//! takes no part any more.
//!
//! * **Starts are counted.** Each start raises a counter in the identity, and flushes it before it says anything. Every
//!   message carries the sender's counter and a random number of its process, a [`StartMark`]. Every node keeps durably the
//!   newest that each Raft id showed, refuses an older one and the same counter of another process
//!   ([`Refusal::Superseded`]), and tells each receiver which one it has seen of it: a voter learns of its own past before
//!   it answers.
//! * **What was acknowledged is remembered** by the leader that got it, for its term ([`acknowledged`]). A follower that then
//!   says that it lacks it is told so, looks into its own log, and agrees.
//! * **A start looks at its directory** ([`start`]): at what the identity says of the log, and at what the members say.
//! * **No message is believed alone** ([`verify`]): what would end a node's part is asked for first.
//!
//! A node that lost its memory notes that durably, and abstains: it answers no message but to say why, sends none of Raft's
//! ([`peers`]), serves nothing. A leader that a quorum confirms then needs no vote of it, for it gets none: once there is
//! one, the node begins anew. It sets its directory aside and joins under a new Raft id. Until then it waits, because its
//! directory may be what an operator needs most.
//!
//! Caveats: a rollback is not noticed before somebody is heard who remembers. Two processes that show the same counter,
//! each to another voter, are told apart only when one of them meets both.

pub(in crate::node) mod acknowledged;
mod alone;
pub(in crate::node) mod peers;
pub(in crate::node) mod start;
pub(in crate::node) mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::node::rpc::{Envelope, Refusal};
use crate::node::{Node, NodeError, NodeIdentity};
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::alias::{LogId, Vote};
use crate::raft_types::{RaftId, StartMark};
use crate::seldom::Seldom;
use crate::storage::StorageError;
use crate::task;
use start::Standing;

/// How long others warn of a process that they refused.
const REFUSED_WARNING_DURATION: Duration = Duration::from_secs(60);

/// How often a node that abstains asks whether the others do without it.
const ASK_AGAIN_INTERVAL: Duration = Duration::from_millis(500);

// Others send what makes these lines.
static STALE_LINES: Seldom = Seldom::new();
static UNNOTED_LINES: Seldom = Seldom::new();
static UNREAD_LINES: Seldom = Seldom::new();

/// The processes that were refused, by Raft id, and when last.
#[derive(Debug, Default)]
pub(in crate::node) struct RefusedStarts(Mutex<BTreeMap<RaftId, (PublicId, Instant)>>);

impl RefusedStarts {
    /// Notes one; true where that is news.
    fn note(&self, raft_id: RaftId, id: &PublicId) -> bool {
        let mut all = self.0.lock();
        all.retain(|_, (_, at)| at.elapsed() < REFUSED_WARNING_DURATION);
        all.insert(raft_id, (id.clone(), Instant::now())).is_none()
    }

    /// A line for each that was refused lately.
    pub(in crate::node) fn warnings(&self) -> Vec<String> {
        let all = self.0.lock();
        let lately = all.values().filter(|(_, at)| at.elapsed() < REFUSED_WARNING_DURATION);
        lately.map(|(id, _)| format!("a process at {id} is refused: {STALE}")).collect()
    }
}

const STALE: &str =
    "a later start of its Raft id is known, so its data directory is a copy, or was put back from the past";

/// The reason of a node that was told of a start that its own does not follow.
fn superseded(mine: StartMark, seen: StartMark) -> String {
    let what = if mine.starts == seen.starts { "by another process" } else { "of its Raft id" };
    format!(
        "this is start {} of its data directory, and others know start {} {what}: the directory is a copy, or was put \
         back from the past",
        mine.starts, seen.starts
    )
}

/// From now on this node abstains: at once, and durably a little later.
pub(in crate::node) fn lose(me: &Arc<NodeIdentity>, why: String) {
    if !me.abstain(&why) {
        return;
    }
    let me = me.clone();
    task::spawn_blocking(move || saved(me.set_lost(&why)));
}

fn saved(saved: Result<(), StorageError>) {
    if let Err(error) = saved {
        tracing::error!("cannot note that this node lost its memory: {error}");
    }
}

impl Node {
    /// Refuses a message of a process that a later one has superseded, and notes a process that is new. Where the sender
    /// knows of a later start of this node than this one, and the members say so when they are asked, this node has lost its
    /// memory. `asks`: the message asks for what anybody may know, and is refused to nobody.
    ///
    /// # Errors
    /// [`Refusal::Superseded`], [`Refusal::LostMemory`]; [`Refusal::Stopped`] where nothing can be written, or nobody stands
    /// by what the message says.
    pub(in crate::node) async fn check_start(&self, envelope: &Envelope, asks: bool) -> Result<(), Refusal> {
        let me = &self.inner.me;
        // Those who verify ask so, and must not wait for one another.
        if asks {
            self.look_at_start_later(envelope);
            return Ok(());
        }
        if envelope.to_start.is_some_and(|seen| me.start().is_stale_beside(seen)) {
            let Some(why) = self.ask_about_own_start().await else { return Err(Refusal::Stopped) };
            lose(me, why.clone());
            return Err(Refusal::LostMemory(why));
        }
        match me.seen(envelope.from_raft) {
            Some(seen) if seen == envelope.start => Ok(()),
            Some(seen) if envelope.start.is_stale_beside(seen) => {
                if self.inner.refused_starts.note(envelope.from_raft, &envelope.from)
                    && let Some(unsaid) = STALE_LINES.turn()
                {
                    tracing::error!(
                        "refused start {} of {}, because start {} is known: {STALE}; if it runs, stop it and delete it, or \
                         let it join again{unsaid}",
                        envelope.start.starts,
                        envelope.from,
                        seen.starts
                    );
                }
                Err(Refusal::Superseded(seen))
            }
            _ if !self.stands_by_its_start(envelope).await => Err(Refusal::Stopped),
            // Durable before it is answered: what it is told, it must have been heard for good.
            _ => self.note_start(envelope).await,
        }
    }

    async fn note_start(&self, envelope: &Envelope) -> Result<(), Refusal> {
        let (node, from, start) = (self.clone(), envelope.from_raft, envelope.start);
        let noted =
            task::spawn_blocking(move || node.inner.me.note_start(from, start, &|raft_id| node.has_member(raft_id)));
        match noted.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                if let Some(unsaid) = UNNOTED_LINES.turn() {
                    tracing::error!("cannot note a start of {}: {error}{unsaid}", envelope.from);
                }
                Err(Refusal::Stopped)
            }
            Err(_) => Err(Refusal::Stopped),
        }
    }

    /// Notes the start of one who asks, beside its answer: a process that starts asks all members, and followers hear
    /// little else of one another.
    fn look_at_start_later(&self, envelope: &Envelope) {
        let is_news = self.inner.me.seen(envelope.from_raft).is_none_or(|seen| seen.starts < envelope.start.starts);
        if !is_news || !self.is_free_to_ask(envelope.from_raft) {
            return;
        }
        let (node, envelope) = (self.clone(), envelope.clone());
        task::spawn(async move {
            if node.stands_by_its_start(&envelope).await {
                // Said where it fails.
                let _ = node.note_start(&envelope).await;
            }
        });
    }

    /// Answers the leader of `vote`, to whom this node acknowledged the entry and everything before it, and which was then
    /// told that it lacks it. True where that is so: this node has lost its memory.
    ///
    /// # Errors
    /// [`Refusal::Stopped`]: it cannot be asked whether it says so.
    pub(in crate::node) async fn check_memory(&self, vote: Vote, acknowledged: LogId) -> Result<bool, Refusal> {
        let me = &self.inner.me;
        let own = self.inner.log.vote().map_or(0, |vote| vote.leader_id.term);
        // A later leader may have had its entries removed.
        if own > vote.leader_id.term {
            return Ok(false);
        }
        match self.has_entry(acknowledged).await {
            Ok(false) => {}
            Ok(true) => return Ok(false),
            Err(error) => {
                if let Some(unsaid) = UNREAD_LINES.turn() {
                    tracing::error!("cannot look for entry {acknowledged} in the log: {error}{unsaid}");
                }
                return Ok(false);
            }
        }
        if !self.leader_stands_by(vote, acknowledged).await.ok_or(Refusal::Stopped)? {
            return Ok(false);
        }
        let why = format!(
            "this node acknowledged entry {acknowledged} in term {}, and its log does not have it: its data directory was \
             put back from the past, or has lost files",
            vote.leader_id.term
        );
        lose(me, why);
        Ok(true)
    }

    async fn has_entry(&self, id: LogId) -> std::io::Result<bool> {
        let mut log = self.inner.log.clone();
        if log.get_log_state().await?.last_purged_log_id.is_some_and(|purged| purged.index >= id.index) {
            return Ok(true);
        }
        let found = log.get_log_reader().await.try_get_log_entries(id.index..=id.index).await?;
        Ok(found.first().is_some_and(|entry| entry.log_id == id))
    }

    /// Ok unless this node abstains.
    ///
    /// # Errors
    /// [`NodeError::NotReady`] with the reason.
    pub(in crate::node) fn refuse_lost(&self) -> Result<(), NodeError> {
        match self.inner.me.lost_why() {
            Some(why) => Err(NodeError::NotReady(format!(
                "this node lost its memory and takes no part: {why}. It joins anew, with another Raft id, once the other \
                 voters are a quorum without it, and keeps this data in a folder lost-TIME"
            ))),
            None => Ok(()),
        }
    }

    /// The task that ends this node's part once it has lost its memory.
    pub(in crate::node) async fn abstain_once_lost(self) {
        let mut lost = self.inner.me.lost();
        let Ok(why) = lost.wait_for(Option::is_some).await.map(|why| why.clone().unwrap_or_default()) else { return };
        self.inner.raft.runtime_config().elect(false);
        self.inner.raft.runtime_config().heartbeat(false);
        tracing::error!("this node lost its memory and takes no part any more: {why}");
        self.watches().close();
    }

    /// Ends once this node has lost its memory, and the others do without it: it is to be started again, and then begins
    /// anew. `others` are nodes of its cluster, if it knows none itself.
    pub async fn must_begin_anew(&self, others: &[HostPort]) {
        let me = &self.inner.me;
        if me.lost().wait_for(Option::is_some).await.is_err() {
            return std::future::pending().await;
        }
        if let Some(why) = me.lost_why() {
            // The next start must know it.
            let me = me.clone();
            let _ = task::spawn_blocking(move || saved(me.set_lost(&why))).await;
        }
        let mut said = false;
        loop {
            match start::ask_standing(&self.inner.peers, me, self.member_ids(), others).await.standing {
                Standing::Member | Standing::Removed(_) => return,
                Standing::Unknown if !said => {
                    said = true;
                    tracing::warn!("waiting until the other voters are a quorum without this node");
                }
                Standing::Unknown => {}
            }
            sleep(ASK_AGAIN_INTERVAL).await;
        }
    }
}
