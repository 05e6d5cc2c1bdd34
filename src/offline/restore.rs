//! `hraftd restore FILE --rdir DIR [--expire]`: the directory of a new cluster of one, from a backup.
//!
//! * The backup is read whole, and all of it is checked, before the directory is touched.
//! * It is written as [`rebuild`] writes a recovered one: a crash at any point leaves a directory without a node, or the new
//!   one. [`replace`] begins and ends that, in the directory itself: it may be where a volume is mounted.
//! * The new cluster has another id, and indexes far beyond all that clients of the old one can have been given since.
//! * Time stands still between the backup and the first start, unless it is told to count.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use openraft::vote::RaftLeaderId as _;

use super::rebuild::{self, INDEX_STEP, Plan};
use super::{count, exit, verify};
use crate::exit::{EX_FAILURE, Exit};
use crate::kv::KvStore;
use crate::node_id::PublicId;
use crate::raft_types::alias::{LogId, Vote};
use crate::raft_types::{ClusterId, RaftId};
use crate::storage::backup::{Backup, Head};
use crate::storage::replace::{self, Pending};
use crate::storage::{DataDir, Identity, StorageError};

/// More entries than a cluster makes in a second: the index jumps by so many for each second since the backup.
const ENTRIES_A_SECOND: u64 = 1 << 17;

/// So many tokens are named.
const SHOWN_TOKENS: usize = 20;

/// Makes the directory.
///
/// # Errors
/// Exit code 1: the backup is no good, or the disk fails; the directory then has no node in it, or the new one. 78: the
/// directory is in use, or not empty.
pub(super) fn restore(file: &Path, dir: &Path, expire: bool) -> Result<Exit, Exit> {
    // A directory that cannot be used is told at once, and not made by being looked at.
    look(dir)?;
    let backup = Backup::open(file).map_err(verify::exit)?;
    let (mut kv, totals) = backup.load().map_err(verify::exit)?;
    let now_ms =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(0));
    let passed_ms = now_ms.saturating_sub(backup.head.made_ms);
    if expire {
        kv.restore_log_time(backup.head.now_ms.max(backup.head.log_time_ms).saturating_add(passed_ms));
    }
    let plan = plan(&backup.head, passed_ms, rand::random(), ClusterId(rand::random()));

    let data = DataDir::open(dir).map_err(exit)?;
    if replace::pending(&*data.disk).map_err(exit)? == Pending::Decided {
        replace::settle(&*data.disk).map_err(|error| failure(dir, &error))?;
        return Ok(Exit::printed(format!("{}: what was interrupted is complete\n", dir.display())));
    }
    check_empty(dir, data.disk.list().map_err(|error| failure(dir, &StorageError::io(data.disk.display(""), error)))?)?;
    if let Err(error) = rebuild::rebuild(&data.disk, &plan, &kv) {
        // What was built takes room on a disk that is full.
        let _ = replace::settle(&*data.disk);
        return Err(failure(dir, &error));
    }
    Ok(Exit::printed(told(&backup, &verify::contents(&backup.head, &totals), dir, &plan, &kv, expire)))
}

/// Looks at a directory, if there is one, before anything else is done.
fn look(dir: &Path) -> Result<(), Exit> {
    let names = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(|error| Exit::config(format!("{}: {error}", dir.display())))?,
    };
    let names: Vec<String> = names.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    if names.iter().any(|name| replace::is_decided(name)) { Ok(()) } else { check_empty(dir, names) }
}

/// What an interrupted restore left is not in the way, nor is what a file system has in its root.
pub(super) fn check_empty(dir: &Path, names: impl IntoIterator<Item = String>) -> Result<(), Exit> {
    // The note of authentication comes before all else that a restore writes, and alone means nothing.
    let harmless = ["lock", "lost+found", "authentication", "authentication.tmp"];
    let is_in_the_way = |name: &String| !harmless.contains(&name.as_str()) && !replace::is_unfinished(name);
    match names.into_iter().find(is_in_the_way) {
        None => Ok(()),
        Some(name) => Err(Exit::config(format!(
            "{} is not empty: it has {name}. A backup is restored into a new or empty directory; where this one is to be \
             replaced, stop its node and move it away first",
            dir.display()
        ))),
    }
}

fn failure(dir: &Path, error: &StorageError) -> Exit {
    Exit::error(
        EX_FAILURE,
        format!("{error}; there is no node in {} yet, or the whole new one: run it again", dir.display()),
    )
}

pub(super) fn plan(head: &Head, passed_ms: u64, raft_id: RaftId, cluster: ClusterId) -> Plan {
    let vote = Vote::new(head.term + 1, raft_id);
    let step = INDEX_STEP.max((passed_ms / 1000).saturating_mul(ENTRIES_A_SECOND));
    let at = LogId::new(vote.leader_id.to_committed(), head.index.saturating_add(step));
    let identity = Identity { cluster: Some(cluster), ..Identity::new(PublicId::nowhere(), raft_id) };
    Plan { identity, cluster, at, vote }
}

fn told(backup: &Backup, contents: &str, dir: &Path, plan: &Plan, kv: &KvStore, expire: bool) -> String {
    let mut text = verify::summary(backup);
    text.push_str(contents);
    let (dir, cluster, index) = (dir.display(), plan.cluster, plan.at.index);
    // Writing to a string cannot fail.
    let _ = write!(text, "\nRestored into {dir}: a new cluster, {cluster}, from index {index} on.\n");
    let _ = match expire {
        true => writeln!(text, "The time since the backup counts: what was due meanwhile expires once the node leads."),
        false => writeln!(text, "No time has passed in it since the backup: nothing expired meanwhile."),
    };
    let names: Vec<&str> = kv.auth().by_name().take(SHOWN_TOKENS).map(|(_, token)| &*token.name).collect();
    let tokens = kv.auth().tokens().count();
    if tokens > 0 {
        let (tokens, names) = (count(tokens as u64, "token", "tokens"), names.join(", "));
        let more = if kv.auth().tokens().count() > SHOWN_TOKENS { ", …" } else { "" };
        let _ = writeln!(
            text,
            "The {tokens} of the backup are valid again, those too that were deleted or replaced since: {names}{more}"
        );
    }
    if kv.auth().is_on() {
        let _ = writeln!(text, "Authentication is on in it.");
    }
    let _ = write!(
        text,
        "Start it at any addresses: hraftd --rdir {dir} --haddr HOST:PORT. It leads alone; start the others with empty data \
         directories\nand --rjoin naming it. Be sure that nothing of the old cluster serves clients any more.\n"
    );
    text
}

/// A time as people write it, in UTC.
pub(super) fn time(ms: u64) -> String {
    let second = i64::try_from(ms / 1000).unwrap_or_default();
    Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}
