//! What became of this node while it was down: it moved to other addresses, or was removed.

use std::sync::Arc;

use super::directory::{self, Opened};
use super::{Setup, blocking, find, storage_exit};
use crate::exit::Exit;
use crate::node::rpc::Peers;
use crate::node::{ask_whether_removed, is_at};
use crate::storage::{Identity, replace};

/// Opens the data directory, and asks the members it knows of whether its node was removed while it was down.
///
/// The directory of a removed node becomes that of a new and empty one if `--rjoin` names another node: it may then join
/// anew.
///
/// # Errors
/// The end of the process: 78 where the directory cannot be used, 1 where another start may help.
pub async fn as_member(setup: &Arc<Setup>) -> Result<(Opened, Arc<dyn Peers>), Exit> {
    loop {
        let mut opened = directory::read(setup).await?;
        let peers = (setup.peers)(opened.me.clone())?;
        settle_move(&mut opened, &peers).await?;
        if !opened.log.is_empty() && opened.me.removed().borrow().is_none() {
            let members = opened.members().await?;
            if let Some(index) = ask_whether_removed(&peers, opened.me.raft_id(), members).await {
                tracing::warn!("this node was removed from its cluster at index {index}, while it was down");
                opened.me.set_removed(index).map_err(storage_exit)?;
            }
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

/// Makes a move to other addresses durable, unless the node still answers at the old ones: then this
/// directory is a copy, and two processes would vote with one identity.
async fn settle_move(opened: &mut Opened, peers: &Arc<dyn Peers>) -> Result<(), Exit> {
    let Some(old) = opened.moved_from.take() else { return Ok(()) };
    let new = opened.me.id();
    if old.raddr != new.raddr && is_at(peers, &old, opened.me.raft_id()).await {
        return Err(Exit::config(format!(
            "{} is a copy of the directory of {old}, which still runs: {new} must not use its identity; stop that node \
             first, or give another --rdir",
            opened.me.data_place
        )));
    }
    let me = opened.me.clone();
    blocking(move || me.save()).await?.map_err(storage_exit)?;
    tracing::info!("this node moved from {old}");
    Ok(())
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
