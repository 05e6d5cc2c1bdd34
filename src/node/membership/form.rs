//! How a node finds its cluster: it forms one, joins one, or has one.
//!
//! Only certainty forms. A node forms a cluster alone where it is certainly the first of the list, and most of the listed
//! nodes say that they have none; whoever does not answer may have one. It listens for a second besides, in which every
//! living leader that knows its address calls it. So the same list of addresses on every node, started at once in any
//! order, gives one cluster.
//!
//! With `--bootstrap-expect` several form one together, and none alone: [`super::found`].
//!
//! Caveat: a node that lists itself only, or nobody, and comes back empty while *all* others are down, forms a second
//! cluster; it stops taking writes as soon as one of them calls it ([`crate::node::replication::serve`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, sleep};

use super::look::Sight;
use crate::node::leader::Leader;
use crate::node::{Node, NodeError};
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::{ClusterId, Founding, Member, RaftId, Role};
use crate::task;

/// How long a node that may form a cluster listens for one that is there already.
const LISTEN_DURATION: Duration = Duration::from_secs(1);

/// How long the call of a leader keeps a node from forming a cluster. A living one calls several times a second.
const CALL_LAPSE: Duration = Duration::from_secs(5);

/// How long others that ask who this node is can keep it from forming a cluster.
const MAX_ASKED_WAIT: Duration = Duration::from_secs(15);

/// How long each listed node is given to answer a request to join; it answers when the joiner is a
/// voter, and asking again is safe.
const JOIN_ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How long after a promise a joiner waits to see itself in the membership.
const MEMBERSHIP_ARRIVAL_TIMEOUT: Duration = Duration::from_secs(2);

/// The first pause between two rounds of asking; each is twice the last one.
const MIN_JOIN_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between two rounds of asking.
const MAX_JOIN_PAUSE: Duration = Duration::from_secs(1);

/// How long others may take to come up before that is worth a line in the log.
const CALM: Duration = Duration::from_secs(5);

/// The command line's part in finding a cluster.
#[derive(Debug, Clone)]
pub struct Start {
    /// The listed nodes that are not this one, in their order.
    pub others: Vec<HostPort>,
    /// This node may form a cluster: it is certainly the first of the list, or there is no list.
    pub may_form: bool,
    /// The first address of the list.
    pub first: Option<HostPort>,
    /// Form a cluster together with others, once so many nodes are found, this one included. None forms one alone then.
    pub expect: Option<usize>,
    /// The id of the cluster, should this node form it.
    pub new_cluster: ClusterId,
}

/// A search, and what it has said.
struct Search<'a> {
    node: &'a Node,
    start: &'a Start,
    began: Instant,
    /// What it said last, of each address and of the whole.
    said: BTreeMap<String, String>,
    /// Those who may found a cluster with this node.
    founders: BTreeSet<PublicId>,
    /// Another node that answered at the first address.
    other_at_first: Option<String>,
}

impl Node {
    /// Finds a cluster for a node that has none, or not the role it asked for; otherwise returns at
    /// once. Never gives up.
    ///
    /// # Errors
    /// [`NodeError::Internal`] where this node's own disk or Raft fails; [`NodeError::Conflict`] where its data directory is
    /// a copy of one that is in use.
    pub async fn find_cluster(&self, start: Start) -> Result<(), NodeError> {
        if self.is_only_voter() {
            self.lead_alone(start.first.is_some() || !start.others.is_empty(), &start.others).await;
        }
        if !self.may_elect() {
            return Ok(());
        }
        let members = self.members();
        // Set once, by the one call.
        let _ = self.inner.listed.set(start.others.clone());
        let is_absent = members.iter().all(|member| member.raft_id != self.inner.me.raft_id());
        if !members.is_empty() && is_absent && self.inner.me.replaces().is_empty() {
            // Its own log says that it was removed; `ask_whether_removed` hears it from the leader.
            return Ok(());
        }
        let mut search = Search {
            node: self,
            start: &start,
            began: Instant::now(),
            said: BTreeMap::new(),
            founders: BTreeSet::new(),
            other_at_first: None,
        };
        loop {
            let (mut removed, mut lost) = (self.inner.me.removed(), self.inner.me.lost());
            let founding = tokio::select! {
                _ = removed.wait_for(Option::is_some) => return Ok(()),
                _ = lost.wait_for(Option::is_some) => return Ok(()),
                done = self.settles_in() => return done,
                why = self.former_self_lives() => return Err(NodeError::Conflict(why)),
                founding = search.until_it_may_form() => founding,
            };
            if self.form(founding).await? {
                return Ok(());
            }
        }
    }

    /// Ends when this node sees itself in the membership, with its addresses and the role it asked for. For a new node
    /// that must be committed: the entry that made it a member may be lost with its leader, and nobody else knows of it then.
    pub(in crate::node) async fn has_its_role(&self) {
        let me = self.inner.me.raft_id();
        let role = self.inner.me.role;
        let arrived = |m: &openraft::RaftMetrics<crate::raft_types::TypeConfig>| {
            let members = if self.inner.is_new { &m.committed_membership_config } else { &m.membership_config };
            let here = members.get_node(&me).is_some_and(|member| member.id == *self.id());
            here && (role == Role::Learner || members.voter_ids().any(|id| id == me))
        };
        if self.metrics().wait_until(arrived).await.is_err() {
            // Raft has ended, and the server with it.
            std::future::pending::<()>().await;
        }
    }

    /// True for a node that belongs nowhere yet: nobody's log, and nobody's cluster.
    pub(super) fn is_free(&self) -> bool {
        self.inner.log.is_empty() && self.inner.me.cluster().is_none()
    }

    /// Forms a cluster of these nodes. False where another took this one in meanwhile.
    async fn form(&self, founding: Founding) -> Result<bool, NodeError> {
        let Founding { cluster, members } = founding;
        let me = self.inner.me.clone();
        let internal = |error: String| NodeError::Internal(format!("cannot form a cluster: {error}"));
        // From here on a leader of another cluster is refused; one that came before has won.
        let is_ours = self.is_free()
            && task::spawn_blocking(move || me.adopt_cluster(cluster))
                .await
                .map_err(|e| internal(e.to_string()))?
                .map_err(|e| internal(e.to_string()))?;
        if !is_ours {
            tracing::info!("a leader took this node in before it formed a cluster of its own");
            return Ok(false);
        }
        let members: BTreeMap<RaftId, Member> =
            members.into_iter().map(|(raft_id, id)| (raft_id, Member { id, role: Role::Voter })).collect();
        self.inner.raft.initialize(members).await.map_err(|e| internal(e.to_string()))?;
        tracing::info!("formed cluster {cluster}");
        Ok(true)
    }
}

impl Search<'_> {
    /// Looks for a cluster and asks to be let in, round after round. Ends only where this node is to form one.
    async fn until_it_may_form(&mut self) -> Founding {
        let mut caller = self.node.inner.strangers.leader();
        // A call may have come before.
        caller.mark_changed();
        let mut called: Option<(HostPort, Instant)> = None;
        let mut pause = MIN_JOIN_PAUSE;
        loop {
            if caller.has_changed().unwrap_or(false)
                && let Some(leader) = &*caller.borrow_and_update()
            {
                if called.is_none() {
                    tracing::info!("the leader {leader} has this node as a member: rejoining");
                }
                called = Some((leader.haddr.clone(), Instant::now()));
            }
            called = called.filter(|(_, at)| at.elapsed() < CALL_LAPSE);
            let sight = self.node.look(&self.addresses(called.as_ref())).await;
            self.look_at_first().await;
            if self.may_form() && self.began.elapsed() >= LISTEN_DURATION {
                match self.founding(&sight, called.as_ref()).await {
                    Ok(founding) => return founding,
                    Err(why_not) => self.say("", why_not),
                }
            }
            self.ask(&sight).await;
            let listening = self.may_form().then(|| LISTEN_DURATION.saturating_sub(self.began.elapsed()));
            let next = match listening {
                Some(left) if !left.is_zero() => left.min(MIN_JOIN_PAUSE),
                // Spread over the nodes, so that many that start at once do not ask in step.
                _ => pause.mul_f64(0.75 + (self.node.inner.me.raft_id() % 64) as f64 / 128.0),
            };
            pause = (pause * 2).min(MAX_JOIN_PAUSE);
            tokio::select! {
                () = sleep(next) => {}
                Ok(()) = caller.changed(), if called.is_none() => caller.mark_changed(),
            }
        }
    }

    fn may_form(&self) -> bool {
        let is_voter = self.node.inner.me.role == Role::Voter;
        is_voter && self.node.is_free() && (self.start.may_form || self.start.expect.is_some())
    }

    /// The client addresses to look at: those listed, the members', and a leader's that calls.
    fn addresses(&self, called: Option<&(HostPort, Instant)>) -> Vec<HostPort> {
        let mut all: Vec<HostPort> = called.map(|(leader, _)| leader.clone()).into_iter().collect();
        let me = self.node.inner.me.raft_id();
        let members = self.node.members();
        let members = members.iter().filter(|member| member.raft_id != me).map(|member| &member.server.id.haddr);
        for addr in self.start.others.iter().chain(members) {
            if !all.contains(addr) {
                all.push(addr.clone());
            }
        }
        all
    }

    /// The cluster to form now, or the reason not to. Only certainty forms.
    async fn founding(&mut self, sight: &Sight, called: Option<&(HostPort, Instant)>) -> Result<Founding, String> {
        if let Some(why) = self.has_a_cluster(sight, called) {
            return Err(why);
        }
        let (node, cluster) = (self.node, self.start.new_cluster);
        if let Some(expect) = self.start.expect {
            return node.agree_to_found(expect, sight, &mut self.founders, cluster).await;
        }
        match self.why_not_alone(sight) {
            Some(why) => Err(why),
            None => Ok(Founding { cluster, members: BTreeMap::from([(node.inner.me.raft_id(), node.id().clone())]) }),
        }
    }

    /// What tells that a cluster has this node already, or may let it in.
    fn has_a_cluster(&self, sight: &Sight, called: Option<&(HostPort, Instant)>) -> Option<String> {
        if let Some(addr) = sight.with_cluster.first() {
            return Some(format!("{addr} has a cluster: joining that"));
        }
        if let Some((leader, _)) = called {
            return Some(format!("the leader {leader} calls this node, and forms no cluster beside it"));
        }
        if self.began.elapsed() < MAX_ASKED_WAIT && self.node.inner.strangers.is_asked_for() {
            return Some("a cluster asks who this node is: waiting to be let in".to_owned());
        }
        None
    }

    /// The reason not to form a cluster alone: not most of the listed nodes say that they have none, or this node is not
    /// certainly the first of them.
    fn why_not_alone(&self, sight: &Sight) -> Option<String> {
        let (listed, silent) = (sight.listed(), sight.unknown.join(", "));
        let (needed, known) = (listed / 2 + 1, 1 + sight.without.len());
        if known < needed {
            return Some(format!(
                "waiting to form a cluster: {needed} of {listed} listed nodes, this one included, must say that they have \
                 none, and {known} do; no word of {silent}"
            ));
        }
        let first = self.start.first.as_ref()?;
        self.other_at_first.as_ref().map(|other| {
            format!(
                "{first} is the first of --rjoin and leads to {other} too, not to this node alone: it forms no cluster; list \
                 the addresses of the nodes, and start it again"
            )
        })
    }

    /// Looks whether another node answers at the first address, which is to be this node's alone. A balancer leads to each
    /// in turn, so it is asked in every round, and what was seen counts from then on.
    async fn look_at_first(&mut self) {
        if self.other_at_first.is_some() || !self.may_form() || self.start.expect.is_some() {
            return;
        }
        let sight = self.node.look(self.start.first.as_slice()).await;
        let other = sight.without.first().map(ToString::to_string);
        self.other_at_first = other.or_else(|| sight.with_cluster.first().map(|addr| format!("a cluster ({addr})")));
    }

    /// Asks those who have a cluster to let this node in. Where nobody has, the first of the others holds the question until
    /// it has formed one.
    async fn ask(&mut self, sight: &Sight) {
        let node = self.node;
        let (id, raft_id) = (node.id(), node.inner.me.raft_id());
        if node.leader() == Some(Leader::ThisNode) {
            // It moved while it was the only voter, or was restored: it has itself to ask, and needs no token for that.
            if let Ok(Err(error)) = node.join_here(id.clone(), Instant::now() + JOIN_ANSWER_TIMEOUT).await {
                self.say(&id.to_string(), format!("{id} is not in the membership as its own address yet: {error}"));
            }
        }
        let holds_it = sight.with_cluster.is_empty() && !self.may_form();
        let waits_for = sight.first_without.iter().filter(|_| holds_it);
        let mut refusals = Vec::new();
        for addr in sight.with_cluster.iter().chain(waits_for) {
            match node.inner.peers.ask_to_join(addr, id, raft_id, JOIN_ANSWER_TIMEOUT).await {
                Ok(Ok(())) => {
                    tracing::info!("joined through {addr}");
                    // The caller sees the role arrive; where it does not, ask again.
                    sleep(MEMBERSHIP_ARRIVAL_TIMEOUT).await;
                }
                Ok(Err(refusal)) if refusal.for_now => refusals.push(format!("{addr}: {}", refusal.msg)),
                Ok(Err(refusal)) => {
                    self.say(
                        &addr.to_string(),
                        format!("{addr} did not let this node join: {}; asking again", refusal.msg),
                    );
                }
                Err(error) => refusals.push(format!("{addr}: {error}")),
            }
        }
        if self.began.elapsed() >= CALM && sight.with_cluster.is_empty() && !self.may_form() {
            refusals.extend_from_slice(&sight.unknown);
            let waiting = format!(
                "waiting for a cluster to join: {}; the node that is literally the first of --rjoin forms one, or all \
                 together with --bootstrap-expect",
                if refusals.is_empty() { "nobody has one".to_owned() } else { refusals.join(", ") }
            );
            self.say("", waiting);
        } else if self.began.elapsed() >= CALM && !refusals.is_empty() {
            self.say("", format!("waiting to be let in: {}", refusals.join(", ")));
        }
    }

    /// Says what is new of an address, or of the whole.
    fn say(&mut self, of: &str, what: String) {
        if self.said.get(of) != Some(&what) {
            tracing::info!("{what}");
            self.said.insert(of.to_owned(), what);
        }
    }
}
