//! What becomes of a directory that was started under other addresses, before Raft is started on it.
//!
//! It may be a copy of one that is still in use. Until that is settled it takes no part: it answers `Identify`, and
//! nothing else; key requests get 503 with the reason. That it waits is on the disk, so another start does not change it.
//! The rules are those of [`crate::node::moving`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::former::Former;
use super::{Setup, blocking, directory, find, storage_exit};
use crate::exit::Exit;
use crate::node::moving::{LeaderWord, Mover, Sighting, Verdict, ask_leaders, judge, look};
use crate::node::rpc::{Identification, Moved, Peers, Standing};
use crate::node::{NodeIdentity, NodeSlot};
use crate::node_id::PublicId;
use crate::raft_types::RaftId;
use crate::storage::{ClusterHandle, Identity, IdentityStore};

/// How long a node that waits looks around no more.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How this process came to its addresses, and where it found the others.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    /// How it came to its addresses.
    pub moved: Moved,
    /// The members that were found: where its log has them, and where they are.
    pub found: BTreeMap<RaftId, (PublicId, PublicId)>,
}

impl Arrival {
    /// Tells it to the node that was opened.
    pub fn tell(&self, me: &NodeIdentity) {
        me.set_moved(self.moved.clone());
        for (raft_id, (in_membership, at)) in &self.found {
            me.book().found(*raft_id, in_membership, at);
        }
    }
}

/// Settles a move of the directory, if there is one. May take as long as an operator does.
///
/// # Errors
/// The end of the process: 78 where the directory is a copy of one in use, or cannot be used.
pub(super) async fn settle(setup: &Arc<Setup>, slot: &NodeSlot) -> Result<Arrival, Exit> {
    let mut identity = directory::identity(setup).await?;
    let Some(from) = moved_from(&identity, setup) else {
        if identity.moved_from.is_some() || identity.public_id != setup.public_id {
            // It is back where it was, or holds nothing that binds it.
            save_settled(setup, &mut identity).await?;
        }
        if identity.cluster.is_some() {
            // Who looks for a living original must not take one that loads its data for gone.
            slot.identify_as(speaker(setup, identity, (setup.random)()).identification(false));
        }
        return Ok(Arrival::default());
    };
    let former = {
        let (setup, identity) = (setup.clone(), identity.clone());
        blocking(move || Former::read(&*setup.disk, &identity)).await?.map_err(storage_exit)?
    };
    if former.is_empty || identity.removed.is_some() {
        if identity.removed.is_none() && identity.founding.is_none() {
            // It may be a copy of a node that is about to join, and two must not do so under one Raft id. It replaces nobody:
            // who it was holds no more than it does.
            take_new_id(&mut identity, (setup.random)());
        }
        save_settled(setup, &mut identity).await?;
        return Ok(Arrival::default());
    }
    (identity.public_id, identity.moved_from) = (setup.public_id.clone(), Some(from.clone()));
    save(setup, &identity).await?;
    let mover = Mover {
        raft_id: identity.raft_id,
        boot: (setup.random)(),
        cluster: identity.cluster,
        from,
        to: setup.public_id.clone(),
        clean: former.clean,
        members: former.members.clone(),
        voters: former.voters.clone(),
    };
    let mut wait = Waiting::new(setup, slot, mover, &former, (setup.random)())?;
    let arrival = wait.until_settled(&mut identity).await?;
    slot.waits(None);
    Ok(arrival)
}

/// The addresses that a directory was settled under, if those that it is started under are others.
fn moved_from(identity: &Identity, setup: &Setup) -> Option<PublicId> {
    let settled = identity.moved_from.as_ref().unwrap_or(&identity.public_id);
    if settled.is_nowhere() {
        // It was restored from a backup and has run nowhere.
        return None;
    }
    (*settled != setup.public_id).then(|| settled.clone())
}

/// Makes this the identity of another Raft node, which has the log of the one that it was.
fn take_new_id(identity: &mut Identity, raft_id: RaftId) {
    identity.log_owner = Some(identity.log_owner());
    identity.raft_id = raft_id;
}

async fn save_settled(setup: &Arc<Setup>, identity: &mut Identity) -> Result<(), Exit> {
    (identity.public_id, identity.moved_from) = (setup.public_id.clone(), None);
    save(setup, identity).await
}

async fn save(setup: &Arc<Setup>, identity: &Identity) -> Result<(), Exit> {
    let (setup, identity) = (setup.clone(), identity.clone());
    blocking(move || IdentityStore::new(setup.disk.clone()).save(&identity)).await?.map_err(storage_exit)
}

/// Who says something before the directory is opened. It writes nothing.
fn speaker(setup: &Setup, identity: Identity, boot: u64) -> NodeIdentity {
    let (store, cluster) = (IdentityStore::new(setup.disk.clone()), ClusterHandle::new(identity.cluster));
    NodeIdentity::new(store, identity, cluster, setup.role, setup.place.clone(), boot)
}

/// A mover that waits.
struct Waiting<'a> {
    setup: &'a Arc<Setup>,
    slot: &'a NodeSlot,
    mover: Mover,
    /// The Raft id that it speaks under meanwhile, and has if it goes on as a new member.
    new_raft_id: RaftId,
    peers: Arc<dyn Peers>,
    standing: Standing,
    /// The reason that was told last.
    told: String,
}

impl<'a> Waiting<'a> {
    fn new(
        setup: &'a Arc<Setup>,
        slot: &'a NodeSlot,
        mover: Mover,
        former: &Former,
        new_raft_id: RaftId,
    ) -> Result<Self, Exit> {
        // What it asks it does not ask in the name of a node that may run elsewhere.
        let asker = Identity { cluster: mover.cluster, ..Identity::new(mover.to.clone(), new_raft_id) };
        let peers = (setup.peers)(Arc::new(speaker(setup, asker, mover.boot)))?;
        let standing = Standing {
            moved: Moved::Passive { from: mover.from.clone(), clean: mover.clean },
            last: former.last,
            committed: former.committed,
            voters: mover.voters.clone(),
            ..Standing::default()
        };
        Ok(Self { setup, slot, mover, new_raft_id, peers, standing, told: String::new() })
    }

    async fn until_settled(&mut self, identity: &mut Identity) -> Result<Arrival, Exit> {
        let (from, to) = (self.mover.from.clone(), self.mover.to.clone());
        tracing::warn!(
            "this node was started as {to} on the directory of {from}: it takes no part until that is settled"
        );
        self.identify(self.mover.raft_id, self.standing.clone());
        let silence = Duration::from_millis(self.setup.raft.election_max_ms) * 2;
        let began = Instant::now();
        let (mut may_go_on_since, mut heard_since) = (None, None);
        loop {
            let (seen, leader) = self.look().await?;
            let verdict = judge(&self.mover, &seen, leader.as_ref());
            let now = Instant::now();
            // Only what lasts counts.
            if !matches!(verdict, Verdict::GoOn(_)) {
                may_go_on_since = None;
            }
            if !matches!(verdict, Verdict::StillHeard(_)) {
                heard_since = None;
            }
            match verdict {
                Verdict::IsCopy(original) => return Err(self.is_copy(&original)),
                Verdict::Replace => return self.become_new(identity).await,
                Verdict::Settle => return self.go_on(identity, Moved::No, BTreeMap::new()).await,
                Verdict::Removed(index) => {
                    if identity.replaces.is_empty() {
                        identity.removed = Some(index);
                    }
                    return self.go_on(identity, Moved::No, BTreeMap::new()).await;
                }
                Verdict::GoOn(found) => {
                    if now.duration_since(*may_go_on_since.get_or_insert(now)) >= silence {
                        return self.go_on(identity, Moved::WentOn { clean: true }, found).await;
                    }
                    self.tell("it waits to see that nothing answers at the old addresses");
                }
                Verdict::Wait { found: Some(found), .. }
                    if self.setup.moved && now.duration_since(began) >= silence =>
                {
                    tracing::warn!("--moved: going on as who it was, on the operator's word");
                    return self.go_on(identity, Moved::WentOn { clean: self.mover.clean }, found).await;
                }
                Verdict::Wait { reasons, .. } => self.tell(&format!(
                    "{}. Start what is missing, and name its new address in --rjoin; only if nothing of the old addresses \
                     can still run, start this node with --moved",
                    reasons.join("; ")
                )),
                Verdict::StillHeard(leader) => {
                    if now.duration_since(*heard_since.get_or_insert(now)) > silence {
                        return Err(self.is_copy(&from));
                    }
                    self.tell(&format!("the leader {leader} has just heard {from}"));
                }
                Verdict::HasTwin(twin) => {
                    self.tell(&format!("{twin} was started on a copy of the same directory; stop one of them"));
                }
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    async fn look(&self) -> Result<(Vec<Sighting>, Option<LeaderWord>), Exit> {
        let listed = find(self.setup).await?.others;
        let mut known: std::collections::BTreeSet<PublicId> = self.mover.members.values().cloned().collect();
        known.insert(self.mover.from.clone());
        let seen = look(&self.peers, known, &listed).await;
        let leader = ask_leaders(&self.peers, &seen, self.mover.raft_id).await;
        Ok((seen, leader))
    }

    /// Goes on under the Raft id that it had.
    async fn go_on(
        &self,
        identity: &mut Identity,
        moved: Moved,
        found: BTreeMap<RaftId, PublicId>,
    ) -> Result<Arrival, Exit> {
        save_settled(self.setup, identity).await?;
        self.identify(identity.raft_id, Standing { moved: moved.clone(), ..self.standing.clone() });
        tracing::info!("this node moved from {}", self.mover.from);
        let members = &self.mover.members;
        let found = found.into_iter().filter_map(|(raft_id, at)| Some((raft_id, (members.get(&raft_id)?.clone(), at))));
        Ok(Arrival { moved, found: found.collect() })
    }

    /// Goes on as a new member, with the log and the snapshots that it has.
    async fn become_new(&self, identity: &mut Identity) -> Result<Arrival, Exit> {
        identity.replaces.insert(identity.raft_id);
        take_new_id(identity, self.new_raft_id);
        save_settled(self.setup, identity).await?;
        let standing = Standing { moved: Moved::No, replaces: identity.replaces.clone(), ..self.standing.clone() };
        self.identify(identity.raft_id, standing);
        tracing::info!(
            "this node moved from {}: it joins as a new member, which replaces the old one",
            self.mover.from
        );
        Ok(Arrival::default())
    }

    fn identify(&self, raft_id: RaftId, standing: Standing) {
        let identity = Identity { cluster: self.mover.cluster, ..Identity::new(self.mover.to.clone(), raft_id) };
        let who = speaker(self.setup, identity, self.mover.boot).identification(false);
        self.slot.identify_as(Identification { standing: Box::new(standing), ..who });
    }

    /// Says why it waits, where it is asked, and once in the log.
    fn tell(&mut self, why: &str) {
        let (from, to) = (&self.mover.from, &self.mover.to);
        self.slot.waits(Some(format!("this node moved from {from} to {to} and takes no part yet: {why}")));
        if self.told != why {
            tracing::warn!("moved from {from} and takes no part yet: {why}");
            self.told = why.to_owned();
        }
    }

    fn is_copy(&self, original: &PublicId) -> Exit {
        Exit::config(format!(
            "{} is a copy of the directory of {original}, which still runs: {} must not use its identity; stop that node \
             first, or give another --rdir",
            self.setup.place, self.mover.to
        ))
    }
}
