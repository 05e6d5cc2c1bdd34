//! Reads: what each level promises, and what it costs.
//!
//! * `linearizable`: this node's own map, at a read index that a quorum confirmed after the read
//!   began ([`crate::node::read::read_index`]).
//! * `weak`: the map of the node that believes it leads, at most one hop away. It is refused once
//!   that node has not heard a quorum for the election maximum, so a leader that was cut off answers
//!   old data no longer than that.
//! * `none`: this node's own map, now. Its age counts from the last moment, on this node's own clock,
//!   of which everything committed is applied here ([`crate::node::read::freshness`]).
//! * `auto`: `weak` on a voter, `none` on a learner, as rqlite has it.

pub(in crate::node) mod follower_stamps;
pub(in crate::node) mod freshness;
pub(in crate::node) mod quorum_acks;
pub(in crate::node) mod read_index;
mod transaction;

use std::time::Duration;

use openraft::RaftMetrics;
use openraft::async_runtime::watch::WatchReceiver as _;
use serde::{Deserialize, Serialize};
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use crate::command::{Key, Principal};
use crate::duration::as_ms;
use crate::kv::{HeldLock, KvStore};
use crate::node::leader::{Leader, LeaderWait};
use crate::node::rpc::{MAX_WIDTH, NotLeader, PeerError, PeerReply, PeerRequest, Target};
use crate::node::state::Phase;
use crate::node::{Node, NodeError, State};
use crate::node_id::PublicId;
use crate::raft_types::TypeConfig;
use crate::record::Record;

/// Weak reads that wait at the leader for an index which this node lacks, too: those of a client that has written at another
/// node a moment ago. More of them wait here first, for they may wait in vain.
pub(in crate::node) const MAX_FAR_READS: usize = MAX_WIDTH / 4;

/// Timers are not exact: an answer that did not come by then did not come in time.
const CLOSE_TO_IT: Duration = Duration::from_millis(50);

/// How often a read is sent that changes nothing and whose answer is lost.
const MAX_SENT: usize = 3;

/// The promise of a read; the names are rqlite's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadLevel {
    /// Sees every write acknowledged before the read began.
    Linearizable,
    /// The node that believes it is leader answers.
    Weak,
    /// This node's own state, now.
    None,
    /// [`Weak`](Self::Weak) on a voter, [`None`](Self::None) on a learner.
    Auto,
}

impl ReadLevel {
    /// The level a user means by a name; `strong` is rqlite's word for linearizable.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "linearizable" | "strong" => Self::Linearizable,
            "weak" => Self::Weak,
            "none" => Self::None,
            "auto" => Self::Auto,
            _ => return None,
        })
    }

    /// The name shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::Weak => "weak",
            Self::None => "none",
            Self::Auto => "auto",
        }
    }
}

/// The wishes of a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// The promise of the read.
    pub level: ReadLevel,
    /// With [`ReadLevel::None`]: refuse where the state may be older than this.
    pub freshness: Option<Duration>,
    /// Answer only once this index is applied where the read is served.
    pub min_index: u64,
}

impl From<ReadLevel> for ReadOptions {
    fn from(level: ReadLevel) -> Self {
        Self { level, freshness: None, min_index: 0 }
    }
}

/// The result of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The record of the key; `None` where there is no such key.
    pub record: Option<Record>,
    /// The applied index it was read at.
    pub index: u64,
    /// The level it was served at; never [`ReadLevel::Auto`].
    pub level: ReadLevel,
    /// The leader that served it, where this node passed it on.
    pub served_by: Option<PublicId>,
    /// With [`ReadLevel::None`]: how old the state may be; `None` for not known.
    pub staleness: Option<Duration>,
}

/// That this node's own state may be read, and what can be said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The level it may be read at; never [`ReadLevel::Auto`].
    pub level: ReadLevel,
    /// With [`ReadLevel::None`]: how old it may be; `None` for not known.
    pub staleness: Option<Duration>,
}

/// The whole state at one index.
#[derive(Debug, Clone)]
pub struct StateView {
    /// The state. Writes cost more while it lives.
    pub kv: KvStore,
    /// The applied index it is of.
    pub index: u64,
    /// Its level and age.
    pub settled: Settled,
}

impl Node {
    /// Reads one key.
    ///
    /// # Errors
    /// [`NodeError`]; nothing is changed by a read.
    pub async fn read(&self, key: &Key, options: ReadOptions, deadline: Instant) -> Result<Found, NodeError> {
        self.read_by(None, key, options, deadline).await
    }

    /// The same, for a client.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn read_by(
        &self,
        by: Option<&Principal>,
        key: &Key,
        options: ReadOptions,
        deadline: Instant,
    ) -> Result<Found, NodeError> {
        match self.level_of(options) {
            ReadLevel::Weak => self.read_at_leader(by, key, options, deadline).await.map_err(own_copy),
            _ => {
                let Settled { level, staleness } = self.settle(options, deadline).await?;
                Ok(Found { staleness, ..self.found(by, key, level)? })
            }
        }
    }

    /// The whole state. At [`ReadLevel::Weak`] this node's own, once it has what the leader had.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn view(&self, options: ReadOptions, deadline: Instant) -> Result<StateView, NodeError> {
        let settled = self.settle(options, deadline).await?;
        let (kv, index) = self.inner.map.view();
        Ok(StateView { kv, index, settled })
    }

    /// Reads the holder of a lock with the lease that it is held under, and the applied index of that.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn lock(
        &self,
        name: &str,
        options: ReadOptions,
        deadline: Instant,
    ) -> Result<(Option<HeldLock>, u64, Settled), NodeError> {
        let settled = self.settle(options, deadline).await?;
        let (lock, index) = self.inner.map.lock(name);
        Ok((lock, index, settled))
    }

    /// Waits until this node's own state may be read.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn settle(&self, options: ReadOptions, deadline: Instant) -> Result<Settled, NodeError> {
        let level = self.level_of(options);
        let index = match level {
            ReadLevel::None => return self.settle_here(options, deadline).await,
            ReadLevel::Weak => Box::pin(self.weak_index(deadline)).await,
            _ => self.read_index(deadline).await,
        };
        self.wait_applied(index.map_err(own_copy)?.max(options.min_index), deadline).await?;
        Ok(Settled { level, staleness: None })
    }

    fn level_of(&self, options: ReadOptions) -> ReadLevel {
        match options.level {
            ReadLevel::Auto if self.is_voter() => ReadLevel::Weak,
            ReadLevel::Auto => ReadLevel::None,
            level => level,
        }
    }

    fn found(&self, by: Option<&Principal>, key: &str, level: ReadLevel) -> Result<Found, NodeError> {
        let (record, index) = self.inner.map.get_by(by, key).map_err(NodeError::Denied)?;
        Ok(Found { record, index, level, served_by: None, staleness: None })
    }

    async fn settle_here(&self, options: ReadOptions, deadline: Instant) -> Result<Settled, NodeError> {
        self.wait_phase(Phase::Recovering, deadline).await?;
        self.wait_applied(options.min_index, deadline).await?;
        // Before the value is read: the state may be fresher than is said, never older.
        let staleness = self.staleness();
        if let Some(freshness) = options.freshness
            && staleness.is_none_or(|age| age > freshness)
        {
            let age =
                staleness.map_or_else(|| "of unknown age".to_owned(), |age| format!("{} ms old", age.as_millis()));
            return Err(NodeError::NoLeader(format!(
                "this node's copy may be {age}, more than freshness={} ms allows; ask another node, or at another level",
                freshness.as_millis()
            )));
        }
        Ok(Settled { level: ReadLevel::None, staleness })
    }

    pub(in crate::node) fn is_voter(&self) -> bool {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.voter_ids().any(|id| id == metrics.id)
    }

    async fn read_at_leader(
        &self,
        by: Option<&Principal>,
        key: &Key,
        options: ReadOptions,
        deadline: Instant,
    ) -> Result<Found, NodeError> {
        // The leader, too, must know this client.
        let min_index = options.min_index.max(by.map_or(0, Principal::revision));
        self.refuse_stray()?;
        let wait = LeaderWait::new(deadline);
        let mut sent = 0;
        loop {
            let answer = match self.leader_by(&wait).await? {
                Leader::ThisNode => self.read_as_leader(by, key, min_index, deadline).await,
                Leader::Other(target) => {
                    sent += 1;
                    Box::pin(self.ask_leader(&target, by, key, min_index, deadline, sent)).await
                }
            };
            match answer {
                Ok(done) => return done,
                Err(NotLeader) => Box::pin(self.wait_for_a_change(&wait)).await?,
            }
        }
    }

    async fn ask_leader(
        &self,
        target: &Target,
        by: Option<&Principal>,
        key: &Key,
        min_index: u64,
        deadline: Instant,
        sent: usize,
    ) -> Result<Result<Found, NodeError>, NotLeader> {
        let _far = match self.may_go_far(min_index, deadline).await {
            Ok(far) => far,
            Err(error) => return Ok(Err(error)),
        };
        let knows_client = match self.knows_client(by, deadline).await {
            Ok(knows) => knows,
            Err(error) => return Ok(Err(error)),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout_ms = as_ms(left);
        let request = match by.filter(|_| knows_client).cloned() {
            Some(by) => PeerRequest::ReadBy { by, key: key.clone(), min_index, timeout_ms },
            None => PeerRequest::Read { key: key.clone(), min_index, timeout_ms },
        };
        let answer = tokio::select! {
            answer = self.inner.peers.call(target, request, left) => answer,
            () = self.superseded(target) => return Err(NotLeader),
        };
        match answer {
            Ok(PeerReply::Read(answer)) => Ok(answer?.map(|(record, index)| Found {
                record,
                index,
                level: ReadLevel::Weak,
                served_by: Some(target.id.clone()),
                staleness: None,
            })),
            Ok(other) => Ok(Err(NodeError::Internal(format!("the leader answered {other:?}")))),
            Err(error) => no_answer(target, error, deadline, sent).map(Err),
        }
    }

    /// A read that is to wait at the leader has a place there, or waits here until it need not.
    async fn may_go_far(&self, min_index: u64, deadline: Instant) -> Result<Option<SemaphorePermit<'_>>, NodeError> {
        if min_index <= self.applied_index() {
            return Ok(None);
        }
        match self.inner.far_reads.try_acquire() {
            Ok(place) => Ok(Some(place)),
            Err(_) => self.wait_applied(min_index, deadline).await.map(|()| None),
        }
    }

    /// The index that the node that believes it leads has applied.
    async fn weak_index(&self, deadline: Instant) -> Result<u64, NodeError> {
        self.refuse_stray()?;
        let wait = LeaderWait::new(deadline);
        let mut sent = 0;
        loop {
            let answer = match self.leader_by(&wait).await? {
                Leader::ThisNode => self.weak_index_as_leader(),
                Leader::Other(target) => {
                    sent += 1;
                    let left = deadline.saturating_duration_since(Instant::now());
                    tokio::select! {
                        answer = self.inner.peers.call(&target, PeerRequest::WeakIndex, left) => match answer {
                            Ok(PeerReply::WeakIndex(answer)) => answer,
                            Ok(_) => Err(NotLeader),
                            Err(error) => match no_answer(&target, error, deadline, sent) {
                                Ok(error) => return Err(error),
                                Err(NotLeader) => Err(NotLeader),
                            },
                        },
                        () = self.superseded(&target) => Err(NotLeader),
                    }
                }
            };
            match answer {
                Ok(index) => return Ok(index),
                Err(NotLeader) => Box::pin(self.wait_for_a_change(&wait)).await?,
            }
        }
    }

    /// As the node that believes it leads: what it has applied.
    pub(super) fn weak_index_as_leader(&self) -> Result<u64, NotLeader> {
        if self.may_answer_weakly() { Ok(self.applied_index()) } else { Err(NotLeader) }
    }

    /// A new leader has its predecessor's committed entries, but may not have applied them before it has applied one of
    /// its own term.
    fn may_answer_weakly(&self) -> bool {
        let led = |m: &RaftMetrics<TypeConfig>| m.last_applied.is_some_and(|id| id.leader_id.term == m.current_term);
        self.state() == State::Leader && led(&self.inner.raft.metrics().borrow_watched())
    }

    /// As the node that believes it leads: a weak read.
    pub(super) async fn read_as_leader(
        &self,
        by: Option<&Principal>,
        key: &str,
        min_index: u64,
        deadline: Instant,
    ) -> Result<Result<Found, NodeError>, NotLeader> {
        if !self.may_answer_weakly() {
            return Err(NotLeader);
        }
        if let Err(error) = self.wait_applied(min_index, deadline).await {
            return Ok(Err(error));
        }
        Ok(self.found(by, key, ReadLevel::Weak))
    }
}

/// What it means to a read, which changes nothing and has been sent so often, that the leader did not answer: an error, or
/// that it may be sent again.
fn no_answer(leader: &Target, error: PeerError, deadline: Instant, sent: usize) -> Result<NodeError, NotLeader> {
    match error {
        PeerError::Lost(why) if Instant::now() + CLOSE_TO_IT >= deadline => {
            Ok(NodeError::Timeout(format!("the leader {} did not answer: {why}", leader.id)))
        }
        // Its time is not up: the connection broke.
        PeerError::Lost(why) if sent >= MAX_SENT => {
            Ok(NodeError::NoLeader(format!("the leader {} did not answer {sent} times: {why}", leader.id)))
        }
        PeerError::Busy(why) => Ok(NodeError::Overloaded(format!("{why}; try again, or ask the leader"))),
        PeerError::Lost(_) | PeerError::Unreachable(_) | PeerError::Refused(_) => Err(NotLeader),
    }
}

fn own_copy(error: NodeError) -> NodeError {
    match error {
        NodeError::NoLeader(why) => NodeError::NoLeader(format!("{why}; ?level=none reads this node's own copy")),
        other => other,
    }
}
