//! What became of this node while it was down: it moved to other addresses, was removed, or its directory lost its memory.

use std::sync::Arc;

use super::directory::{self, Opened};
use super::{Setup, blocking, find, moving, storage_exit};
use crate::exit::Exit;
use crate::node::rpc::Peers;
use crate::node::{NodeSlot, Standing, ask_standing};
use crate::platform;
use crate::storage::{Identity, replace};

/// Settles a move of the data directory, which may take long; `slot` tells that meanwhile. Then opens it, and asks the
/// members it knows of whether its node was removed while it was down.
///
/// The directory of a removed node becomes that of a new and empty one if `--rjoin` names another node: it may then join
/// anew. So does one that lost its memory, once the other voters are a quorum without it; until then its node abstains.
///
/// # Errors
/// The end of the process: 78 where the directory cannot be used, 1 where another start may help.
pub async fn as_member(setup: &Arc<Setup>, slot: &NodeSlot) -> Result<(Opened, Arc<dyn Peers>), Exit> {
    let arrival = moving::settle(setup, slot).await?;
    loop {
        let mut opened = directory::read(setup).await?;
        let peers = (setup.peers)(opened.me.clone())?;
        arrival.tell(&opened.me);
        if let Some(why) = opened.me.lost_why() {
            tracing::error!("this node lost its memory: {why}");
        }
        let mut standing = Standing::Unknown;
        // A former self's log does not have the Raft id that is to replace it.
        let was_member = !opened.log.is_empty() && opened.me.replaces().is_empty();
        let has_past = was_member || opened.me.lost_why().is_some();
        if has_past && opened.me.removed().borrow().is_none() {
            slot.speaks_as(&opened.me);
            standing = ask(setup, &mut opened, &peers).await?;
        }
        if opened.me.lost_why().is_some() && opened.me.removed().borrow().is_none() {
            if standing == Standing::Unknown {
                return Ok((opened, peers));
            }
            drop(peers);
            set_aside(setup, opened).await?;
            continue;
        }
        let removed = opened.me.removed().borrow().is_some();
        if !removed || find(setup).await?.others.is_empty() {
            return Ok((opened, peers));
        }
        if opened.log.is_empty() {
            opened.me.join_anew();
            opened.joins_anew = true;
            return Ok((opened, peers));
        }
        tracing::info!("joining anew: deleting the log and snapshots of the removed node");
        drop(peers);
        start_over(setup, opened).await?;
    }
}

/// Asks the members about this node, and notes what they say of it.
async fn ask(setup: &Arc<Setup>, opened: &mut Opened, peers: &Arc<dyn Peers>) -> Result<Standing, Exit> {
    let members = opened.members().await?;
    // Without its log it knows nobody.
    let others = if opened.me.lost_why().is_some() { find(setup).await?.others } else { Vec::new() };
    let asked = ask_standing(peers, &opened.me, members, &others).await;
    let me = opened.me.clone();
    if let Some(why) = asked.lost {
        tracing::error!("this node lost its memory: {why}");
        blocking(move || me.set_lost(&why)).await?.map_err(storage_exit)?;
    } else if let (Standing::Removed(index), None) = (asked.standing, opened.me.lost_why()) {
        tracing::warn!("this node was removed from its cluster at index {index}, while it was down");
        blocking(move || me.set_removed(index)).await?.map_err(storage_exit)?;
    }
    Ok(asked.standing)
}

/// Moves all that a node without memory has into a folder of its directory, which becomes that of a new and empty node.
async fn set_aside(setup: &Arc<Setup>, opened: Opened) -> Result<(), Exit> {
    let Opened { me, log, machine, snapshots, .. } = opened;
    let setup = setup.clone();
    blocking(move || {
        let folder = format!("lost-{}", platform::wall_ms());
        tracing::warn!(
            "this node joins its cluster anew, with another Raft id; what it had is now in {}",
            setup.disk.display(&folder)
        );
        // Nothing may hold or write the files that go.
        drop((me, machine, snapshots));
        drop(log);
        replace::with_nothing(&setup.disk, &Identity { aside: Some(folder), ..directory::new_identity(&setup) })
    })
    .await?
    .map_err(storage_exit)
}

/// Makes a removed node's directory a new and empty one, under a new Raft id; see
/// [`NodeIdentity::join_anew`](crate::node::NodeIdentity::join_anew).
async fn start_over(setup: &Arc<Setup>, opened: Opened) -> Result<(), Exit> {
    let Opened { me, log, machine, snapshots, .. } = opened;
    let setup = setup.clone();
    blocking(move || {
        let removed = *me.removed().borrow();
        // Nothing may hold or write the files that go. The log of a removed node needs no clean end.
        drop((me, machine, snapshots));
        drop(log);
        // A Raft id whose vote is lost must never be used again. It still says `removed`: see `NodeIdentity::join_anew`.
        replace::with_nothing(&setup.disk, &Identity { removed, ..directory::new_identity(&setup) })
    })
    .await?
    .map_err(storage_exit)
}
