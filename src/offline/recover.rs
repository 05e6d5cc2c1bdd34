//! `hraftd recover --rdir DIR [--yes]`: a cluster of one out of a survivor, when a majority is gone for good.
//!
//! Without `--yes` it only shows what it would do, and exits with 0. With `--yes` it first shows the same.
//! A damaged directory is refused: lost entries cannot be told from entries it never had.
//!
//! Caveat: it cannot know that the others are gone. If a majority of the old cluster still runs, there are two
//! clusters afterwards. A leader of the old one that calls this node stops its writes, and says so.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use super::inspect::{identity, line, membership, place};
use super::rebuild::{self, Plan};
use super::survey::{self, Survey};
use super::tokens::tokens;
use super::{count, exit};
use crate::exit::Exit;
use crate::kv::KvStore;
use crate::raft_types::ClusterId;
use crate::storage::disk::Disk;
use crate::storage::replace::{self, Pending};
use crate::storage::{DataDir, StorageError};

/// Shows what the node has, what recovering it would do, and what may be lost.
///
/// # Errors
/// See [`survey::open`]; the directory is damaged, or has nothing to recover.
pub(super) fn dry_run(dir: &Path) -> Result<Exit, Exit> {
    let (survey, data) = survey::open(dir)?;
    let (plan, kv) = plan(dir, &survey, &data.disk)?;
    let mut text = shown(dir, &survey, &plan, &kv);
    let _ = write!(text, "\nNothing was changed. To do it: hraftd recover --rdir {} --yes\n", dir.display());
    Ok(Exit::printed(text))
}

/// Recovers the directory.
///
/// # Errors
/// As [`dry_run`]; or it failed, and the directory is the old one or the new one.
pub(super) fn recover(dir: &Path) -> Result<Exit, Exit> {
    // A directory that is not there, or not a node's, is not to be made one by locking it.
    if !std::fs::symlink_metadata(dir.join("identity")).is_ok_and(|file| file.is_file()) {
        survey::open(dir)?;
    }
    let data = DataDir::open(dir).map_err(exit)?;
    if replace::pending(&*data.disk).map_err(exit)? == Pending::Decided {
        replace::settle(&*data.disk).map_err(failure)?;
        return Ok(Exit::printed(format!("{}: what was interrupted is complete\n", dir.display())));
    }
    let survey = Survey::read(&data.disk).map_err(exit)?;
    let (plan, kv) = plan(dir, &survey, &data.disk)?;
    let mut text = shown(dir, &survey, &plan, &kv);
    rebuild::rebuild(&data.disk, &plan, &kv).map_err(failure)?;
    let id = &plan.identity;
    let _ = write!(
        text,
        "\nDone: {} is a cluster of its own, {}, with {}.\nStart it as before. Start the others with empty data \
         directories and --rjoin {}.\n",
        id.public_id,
        plan.cluster,
        count(kv.len() as u64, "key", "keys"),
        id.public_id.haddr,
    );
    Ok(Exit::printed(text))
}

/// Failing in the middle is no fault of the directory: it can be done again.
fn failure(error: StorageError) -> Exit {
    Exit::error(crate::exit::EX_FAILURE, format!("{error}; the directory is as it was or as it will be: run it again"))
}

fn plan(dir: &Path, survey: &Survey, disk: &Arc<dyn Disk>) -> Result<(Plan, KvStore), Exit> {
    if let Some(problem) = survey.problems.first() {
        return Err(Exit::config(format!("it cannot be recovered: {problem}")));
    }
    let plan = Plan::new(survey, rand::random(), ClusterId(rand::random()))
        .ok_or_else(|| Exit::config(format!("{} holds no entries: there is nothing to recover", dir.display())))?;
    let kv = rebuild::state(&**disk, survey).map_err(exit)?;
    Ok((plan, kv))
}

fn shown(dir: &Path, survey: &Survey, plan: &Plan, kv: &KvStore) -> String {
    let mut text = String::new();
    line(&mut text, "directory", dir.display());
    text.push_str(&identity(survey.identity.as_ref()));
    text.push_str(&membership(survey));
    line(&mut text, "last entry", place(survey.last()));
    let committed = survey.log.committed().max(survey.covered());
    line(&mut text, "committed", format_args!("{}, as this node knew", place(committed)));
    line(&mut text, "keys", format_args!("{}, with all entries applied", kv.len()));
    tokens(&mut text, kv);
    warnings(&mut text, survey);

    text.push_str(
        "\nCompare the last entry between survivors before you choose: the highest term is the most complete, and \
         among\nequal terms the highest index. Recover that one only; wipe the others and let them join it.\n",
    );
    text.push_str(
        "\nLost: every write that reached only nodes that are gone. A write was acknowledged once a majority had it, so \
         where\na majority is gone, acknowledged writes may be among them.\n",
    );
    if kv.auth().is_on() {
        text.push_str(
            "\nThe tokens above are valid in the new cluster, those too that were revoked, narrowed or rotated by entries \
             that\nare lost: look through them, and revoke what was.\n",
        );
    }
    let (last, known) = (survey.last().map(|id| id.index), committed.map(|id| id.index));
    match last.zip(known.or(Some(0))).filter(|(last, known)| last > known) {
        Some((last, known)) => {
            let entries = count(last - known, "entry", "entries");
            let _ = write!(
                text,
                "\nKept: all entries, the {entries} after index {known} too, of which this node did not know whether \
                 they\nwere committed. Writes that were answered 504, or not at all, may be among them and reappear.\n",
            );
        }
        None => text.push_str("\nKept: all entries. This node knew all of them to be committed.\n"),
    }
    let _ = write!(
        text,
        "\nIt becomes a cluster of one, as a snapshot at {}, with a new Raft id and a new cluster id.\nNodes \
         of the old cluster are then refused until they are wiped. Be sure that they are gone or stopped: a majority of\n\
         them that still runs is a second cluster. The old log and snapshots are deleted: copy the directory first.\n",
        place(Some(plan.at)),
    );
    text
}

fn warnings(text: &mut String, survey: &Survey) {
    let Some(identity) = &survey.identity else { return };
    if identity.removed.is_some() {
        line(text, "warning", "this node was removed from its cluster: what it has may be old");
    }
    let Some(membership) = &survey.membership else { return };
    let others = membership.voter_ids().filter(|id| *id != identity.raft_id).count();
    if others == 0 && membership.voter_ids().count() == 1 {
        line(text, "warning", "this node is the only voter: it needs no recovery, just start it");
    } else if membership.voter_ids().all(|id| id != identity.raft_id) {
        line(text, "warning", "this node is no voter: a voter that survived is to be preferred");
    }
}
