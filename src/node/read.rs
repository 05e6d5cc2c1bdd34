//! Reads: what each level promises, and what it costs.
//!
//! * `linearizable`: this node's own map, at a read index that a quorum confirmed after the read
//!   began ([`super::read_index`]).
//! * `weak`: the map of the node that believes it leads, at most one hop away. It is refused once
//!   that node has not heard a quorum for the election maximum, so a leader that was cut off answers
//!   old data no longer than that.
//! * `none`: this node's own map, now. How old it may be is counted from the last moment at which a
//!   quorum acknowledged the leader and of which everything committed is applied here
//!   ([`super::contact`]).
//! * `auto`: `weak` on a voter, `none` on a learner, as rqlite has it.

use std::time::Duration;

use bytes::Bytes;
use openraft::RaftMetrics;
use openraft::async_runtime::watch::WatchReceiver as _;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::forward::Patience;
use super::peers::{NotLeader, PeerError, PeerReply, PeerRequest, Target};
use super::{Leader, Node, NodeError, Phase, State};
use crate::command::Key;
use crate::node_id::PublicId;
use crate::raft_types::TypeConfig;

/// What a read promises; the names are rqlite's.
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

/// What a reader asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// What the read promises.
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

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The value as it was sent; `None` where there is no such key.
    pub value: Option<Bytes>,
    /// The applied index it was read at.
    pub index: u64,
    /// The level it was served at; never [`ReadLevel::Auto`].
    pub level: ReadLevel,
    /// The leader that served it, where this node passed it on.
    pub served_by: Option<PublicId>,
    /// With [`ReadLevel::None`]: how old the state may be; `None` for not known.
    pub staleness: Option<Duration>,
}

impl Node {
    /// Reads one key.
    ///
    /// # Errors
    /// [`NodeError`]; nothing is changed by a read.
    pub async fn read(&self, key: &Key, options: ReadOptions, deadline: Instant) -> Result<Found, NodeError> {
        let own_copy = |error| match error {
            NodeError::NoLeader(why) => NodeError::NoLeader(format!("{why}; ?level=none reads this node's own copy")),
            other => other,
        };
        match options.level {
            ReadLevel::Linearizable => {
                let index = self.read_index(deadline).await.map_err(own_copy)?;
                self.wait_applied(index.max(options.min_index), deadline).await?;
                Ok(self.found(key, ReadLevel::Linearizable))
            }
            ReadLevel::None => self.read_here(key, options, deadline).await,
            ReadLevel::Weak => self.read_at_leader(key, options, deadline).await.map_err(own_copy),
            ReadLevel::Auto if self.is_voter() => self.read_at_leader(key, options, deadline).await.map_err(own_copy),
            ReadLevel::Auto => self.read_here(key, options, deadline).await,
        }
    }

    fn found(&self, key: &str, level: ReadLevel) -> Found {
        let (value, index) = self.inner.map.get(key);
        Found { value, index, level, served_by: None, staleness: None }
    }

    async fn read_here(&self, key: &Key, options: ReadOptions, deadline: Instant) -> Result<Found, NodeError> {
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
        Ok(Found { staleness, ..self.found(key, ReadLevel::None) })
    }

    /// How old this node's state may be; `None` where it never heard from a leader.
    pub fn staleness(&self) -> Option<Duration> {
        if self.leader() == Some(Leader::Me) {
            return self.quorum_age();
        }
        self.inner.contact.staleness(self.applied_index())
    }

    fn is_voter(&self) -> bool {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.voter_ids().any(|id| id == metrics.id)
    }

    async fn read_at_leader(&self, key: &Key, options: ReadOptions, deadline: Instant) -> Result<Found, NodeError> {
        self.refuse_stray()?;
        let mut patience = Patience::new(deadline);
        loop {
            let answer = match self.leader_by(&patience).await? {
                Leader::Me => self.read_as_leader(key, options.min_index, deadline).await,
                Leader::Other(target) => self.ask_leader(&target, key, options.min_index, deadline).await,
            };
            match answer {
                Ok(done) => return done,
                Err(NotLeader) => self.wait_for_a_change(&mut patience).await?,
            }
        }
    }

    async fn ask_leader(
        &self,
        target: &Target,
        key: &Key,
        min_index: u64,
        deadline: Instant,
    ) -> Result<Result<Found, NodeError>, NotLeader> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let request = PeerRequest::Read { key: key.clone(), min_index, timeout_ms };
        let answer = tokio::select! {
            answer = self.inner.peers.call(target, request, left) => answer,
            () = self.superseded(target) => return Err(NotLeader),
        };
        match answer {
            Ok(PeerReply::Read(answer)) => Ok(answer?.map(|(value, index)| Found {
                value,
                index,
                level: ReadLevel::Weak,
                served_by: Some(target.id.clone()),
                staleness: None,
            })),
            Ok(other) => Ok(Err(NodeError::Internal(format!("the leader answered {other:?}")))),
            Err(PeerError::Lost(why)) => {
                Ok(Err(NodeError::Timeout(format!("the leader {} did not answer: {why}", target.id))))
            }
            Err(PeerError::Unreachable(_) | PeerError::Refused(_)) => Err(NotLeader),
        }
    }

    /// As the node that believes it leads: a weak read.
    pub(super) async fn read_as_leader(
        &self,
        key: &str,
        min_index: u64,
        deadline: Instant,
    ) -> Result<Result<Found, NodeError>, NotLeader> {
        // A new leader has its predecessor's committed entries, but may not have applied them before
        // it has applied one of its own term.
        let led = |m: &RaftMetrics<TypeConfig>| m.last_applied.is_some_and(|id| id.leader_id.term == m.current_term);
        let ready = self.state() == State::Leader && led(&self.inner.raft.metrics().borrow_watched());
        if !ready {
            return Err(NotLeader);
        }
        if let Err(error) = self.wait_applied(min_index, deadline).await {
            return Ok(Err(error));
        }
        Ok(Ok(self.found(key, ReadLevel::Weak)))
    }
}
