//! Replaces the whole content of a data directory at once.
//!
//! It serves `hraftd recover`, a removed node that joins anew, and one that lost its memory. After a crash at any point the next
//! [`settle`] finds the old content or the new one, whole.
//!
//! The steps:
//! 1. The new log and snapshot are built and flushed under names that start with [`PREFIX`]. Nothing else
//!    reads those names: the directory is still the old one. The next [`settle`] removes leftovers.
//! 2. `recover-identity` gets its name. From here on the directory is the new one. After a crash the next
//!    start of the node, or the tool, repeats what is left.
//! 3. The old log and snapshots are removed; if the new identity names a folder for them, they and the old identity are
//!    moved there. Then `recover-identity` becomes `recover-settling`.
//! 4. The new files get their names. Last, `recover-settling` becomes `identity`.
//!
//! The directory is flushed between the steps, so that names become durable in this order.

use std::sync::Arc;

use super::disk::{Disk, PrefixedDisk};
use super::identity::{self, Identity, IdentityStore};
use super::{StorageError, data_dir, file_header};

/// The prefix of new files until they replace the old ones.
pub const PREFIX: &str = "recover-";

const SETTLING: &str = "recover-settling";

/// How far a replacement of a directory has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    /// None was begun, or it has ended.
    No,
    /// It was not decided: the directory is the old one, [`settle`] removes the leftovers.
    Undecided,
    /// It was decided: the directory is the new one once [`settle`] has ended it.
    Decided,
}

/// How far a replacement has come. Changes nothing.
///
/// # Errors
/// `Damaged`, `Version`: a file has the name of the new identity, and is none, or is not all of a replacement. Nothing is
/// removed on the word of such a file. `Io`.
pub fn pending(disk: &dyn Disk) -> Result<Pending, StorageError> {
    let names = list(disk)?;
    let decided = decided_name();
    if names.contains(&decided) {
        let identity = identity::read(disk, &decided)?;
        let has = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
        // Nobody ever replaced the content by a member of a cluster without log and snapshot.
        let is_whole = identity.cluster.is_none() || (has("recover-log-") && has("recover-snapshot-"));
        return match is_whole {
            true => Ok(Pending::Decided),
            false => {
                Err(file_header::damaged(&disk.display(&decided), 0, "the log or the snapshot beside it is missing"))
            }
        };
    }
    if names.iter().any(|name| name == SETTLING) {
        identity::read(disk, SETTLING)?;
        return Ok(Pending::Decided);
    }
    Ok(if names.iter().any(|name| is_built(name)) { Pending::Undecided } else { Pending::No })
}

/// True for the name of a file that a replacement builds.
fn is_built(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|name| data_dir::is_raft_state(name) || name == identity::TMP_NAME)
}

/// True for the name of a file that a replacement has not put in its place yet.
pub fn is_unfinished(name: &str) -> bool {
    is_built(name)
}

/// True for the name of a file that says that a replacement was decided, and has not ended.
pub fn is_decided(name: &str) -> bool {
    name == SETTLING || name == decided_name()
}

/// Begins a replacement. Returns the disk to build the new log and snapshot on. Removes the leftovers of
/// an undecided one.
///
/// # Errors
/// `Io`.
pub fn begin(disk: &Arc<dyn Disk>) -> Result<Arc<dyn Disk>, StorageError> {
    settle(&**disk)?;
    Ok(Arc::new(PrefixedDisk::new(disk.clone(), PREFIX)))
}

/// Replaces the content of the directory by what was built, under a new identity. The caller has flushed
/// and closed what it built.
///
/// # Errors
/// `Io`; the directory is then the old one or the new one, and the next [`settle`] ends it.
pub fn commit(disk: &Arc<dyn Disk>, identity: &Identity) -> Result<(), StorageError> {
    // No name of what was built may come after that of the identity.
    disk.sync_dir().map_err(|error| StorageError::io(disk.display(""), error))?;
    IdentityStore::new(Arc::new(PrefixedDisk::new(disk.clone(), PREFIX))).save(identity)?;
    settle(&**disk)
}

/// Empties the directory of a node that then joins anew under a new identity. What the directory holds is kept in the folder
/// that [`Identity::aside`] names, if it names one.
///
/// # Errors
/// As [`commit`].
pub fn with_nothing(disk: &Arc<dyn Disk>, identity: &Identity) -> Result<(), StorageError> {
    begin(disk)?;
    commit(disk, identity)
}

/// Completes a decided replacement, and removes the leftovers of an undecided one. Call it before anything
/// else of the directory is read.
///
/// # Errors
/// `Io`; call it again.
pub fn settle(disk: &dyn Disk) -> Result<(), StorageError> {
    let sync = || disk.sync_dir().map_err(|error| StorageError::io(disk.display(""), error));
    let remove = |name: &String| disk.remove(name).map_err(|error| StorageError::io(disk.display(name), error));
    let retire = |name: &String, folder: Option<&String>| match folder {
        Some(folder) => disk.set_aside(name, folder).map_err(|error| StorageError::io(disk.display(name), error)),
        None => remove(name),
    };
    let rename =
        |from: &str, to: &str| disk.rename(from, to).map_err(|error| StorageError::io(disk.display(from), error));
    match pending(disk)? {
        Pending::No => return Ok(()),
        Pending::Undecided => {
            list(disk)?.iter().filter(|name| is_built(name)).try_for_each(remove)?;
            return sync();
        }
        Pending::Decided => tracing::info!("replacing what this data directory holds"),
    }
    // The process that decided it may have died before that name was durable.
    sync()?;
    if list(disk)?.contains(&decided_name()) {
        let folder = identity::read(disk, &decided_name())?.aside;
        let goes = |name: &&String| data_dir::is_raft_state(name) || (folder.is_some() && *name == identity::NAME);
        list(disk)?.iter().filter(goes).try_for_each(|name| retire(name, folder.as_ref()))?;
        sync()?;
        rename(&decided_name(), SETTLING)?;
        sync()?;
    }
    for from in list(disk)? {
        if let Some(to) = from.strip_prefix(PREFIX).filter(|_| is_built(&from)) {
            rename(&from, to)?;
        }
    }
    sync()?;
    rename(SETTLING, identity::NAME)?;
    sync()
}

fn decided_name() -> String {
    format!("{PREFIX}{}", identity::NAME)
}

fn list(disk: &dyn Disk) -> Result<Vec<String>, StorageError> {
    disk.list().map_err(|error| StorageError::io(disk.display(""), error))
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;
    use openraft::storage::RaftLogStorageExt as _;

    use super::*;
    use crate::raft_types::alias::LogEntry;
    use crate::raft_types::{ClusterId, TypeConfig};
    use crate::storage::disk::MemDisk;
    use crate::storage::log::{LogOptions, LogStore};
    use crate::storage::test_disk::crash_everywhere;

    fn identity(raft_id: u64) -> Identity {
        Identity::new("127.0.0.1:1,127.0.0.1:2".parse().unwrap(), raft_id)
    }

    fn put(disk: &Arc<dyn Disk>, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let io = |error| StorageError::io(name, error);
        let file = disk.create(name).map_err(io)?;
        file.write_all_at(bytes, 0).map_err(io)?;
        file.sync_data().map_err(io)
    }

    /// Names like those of the old content, and others, of either.
    const OLD: [&str; 4] = ["log-1", "log-2", "snapshot-1-1", "snapshot-build-1.tmp"];
    const NEW: [&str; 3] = ["log-1", "snapshot-1-1", "snapshot-2-2"];

    fn old() -> MemDisk {
        let disk = MemDisk::new();
        IdentityStore::new(Arc::new(disk.clone())).save(&identity(1)).unwrap();
        disk.put("lock", Vec::new());
        OLD.iter().for_each(|name| disk.put(name, b"old".to_vec()));
        disk
    }

    fn replace(disk: Arc<dyn Disk>) -> Result<(), StorageError> {
        let built = begin(&disk)?;
        for name in NEW {
            put(&built, name, b"new")?;
        }
        commit(&disk, &identity(2))
    }

    fn is_old_or_new(disk: &MemDisk, done: bool) {
        let crashed = crash_everywhere(
            || disk.crash(|_, _, len| len),
            |disk| settle(&*disk).is_ok(),
            |disk, _| {
                settle(disk).unwrap();
                assert_eq!(pending(disk).unwrap(), Pending::No);
                let shared: Arc<dyn Disk> = Arc::new(disk.clone());
                let is_new = IdentityStore::new(shared).load().unwrap() == Some(identity(2));
                assert!(is_new || !done);
                let (names, content): (&[&str], _) = if is_new { (&NEW, b"new") } else { (&OLD, b"old") };
                let mut expected: Vec<&str> = names.to_vec();
                expected.extend(["identity", "lock"]);
                expected.sort_unstable();
                let mut found = disk.list().unwrap();
                found.sort_unstable();
                assert_eq!(found, expected);
                assert!(names.iter().all(|name| disk.bytes(name).unwrap() == content));
            },
        );
        assert!(crashed < 20, "{crashed}");
    }

    /// As it was found: the log's files went one by one, in no order, and a crash among them left a log with a hole, which no
    /// start takes.
    #[test]
    fn a_crash_while_a_node_starts_over_leaves_its_whole_log_or_none() {
        let removed = Identity { removed: Some(7), ..identity(1) };
        let empty = Identity { removed: Some(7), ..identity(2) };
        let base = || {
            let disk = MemDisk::new();
            let shared: Arc<dyn Disk> = Arc::new(disk.clone());
            IdentityStore::new(shared.clone()).save(&removed).unwrap();
            let options = LogOptions { segment_bytes: 300, prezero: false, ..LogOptions::default() };
            let log = LogStore::open(shared, options).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let entry = |index| {
                let log_id = openraft::testing::log_id::<TypeConfig>(1, 0, index);
                LogEntry { log_id, payload: EntryPayload::Blank }
            };
            runtime.block_on(log.clone().blocking_append((0..60).map(entry))).unwrap();
            log.close().unwrap();
            assert!(disk.list().unwrap().len() > 5);
            disk.put("snapshot-1-1", b"old".to_vec());
            disk.crash(|_, _, len| len)
        };
        let points = crash_everywhere(
            base,
            |disk| with_nothing(&disk, &empty).is_ok(),
            |disk, done| {
                let shared: Arc<dyn Disk> = Arc::new(disk.clone());
                // As a start does.
                settle(disk).unwrap();
                let found = IdentityStore::new(shared.clone()).load().unwrap().unwrap();
                let log = LogStore::open(shared, LogOptions { prezero: false, ..LogOptions::default() }).unwrap();
                let is_new = found == empty;
                assert!(is_new || (!done && found == removed), "{found:?}");
                assert_eq!((log.is_empty(), disk.bytes("snapshot-1-1").is_none()), (is_new, is_new));
            },
        );
        assert!(points > 10, "{points}");
    }

    /// Nothing of it is ever deleted.
    #[test]
    fn a_crash_while_a_node_is_set_aside_leaves_it_here_or_there() {
        let empty = Identity { aside: Some("lost-1".to_owned()), ..identity(2) };
        let base = || old().crash(|_, _, len| len);
        let points = crash_everywhere(
            base,
            |disk| with_nothing(&disk, &empty).is_ok(),
            |disk, done| {
                settle(disk).unwrap();
                let shared: Arc<dyn Disk> = Arc::new(disk.clone());
                let found = IdentityStore::new(shared).load().unwrap().unwrap();
                let is_new = found == empty;
                assert!(is_new || (!done && found == identity(1)), "{found:?}");
                for name in OLD.into_iter().chain(["identity"]) {
                    let place = if is_new { format!("lost-1/{name}") } else { name.to_owned() };
                    let bytes = disk.bytes(&place).unwrap_or_else(|| panic!("{place}"));
                    assert_eq!(bytes == b"old", name != "identity", "{place}");
                }
            },
        );
        assert!(points > 10, "{points}");
    }

    /// A file of that name need not be of hraftd, and what it would remove is all that a node has.
    #[test]
    fn nothing_is_removed_on_the_word_of_junk() {
        let member = Identity { cluster: Some(ClusterId(1)), ..identity(2) };
        let with_member = |disk: &MemDisk| {
            IdentityStore::new(Arc::new(PrefixedDisk::new(Arc::new(disk.clone()), PREFIX))).save(&member).unwrap();
        };
        let junk = |name: &'static str, bytes: &'static [u8]| move |disk: &MemDisk| disk.put(name, bytes.to_vec());
        let cases: [&dyn Fn(&MemDisk); 4] = [
            &junk("recover-identity", b""),
            &junk("recover-identity", b"hraftdID junk and more junk"),
            &junk("recover-settling", b"junk"),
            &with_member,
        ];
        for prepare in cases {
            let disk = old();
            prepare(&disk);
            let before = disk.list().unwrap();
            for result in [settle(&disk), pending(&disk).map(drop)] {
                assert!(matches!(result, Err(StorageError::Damaged { .. })), "{result:?}");
            }
            assert_eq!(disk.list().unwrap(), before);
        }
        let disk = old();
        disk.put("recover-notes", b"mine".to_vec());
        settle(&disk).unwrap();
        assert_eq!(disk.bytes("recover-notes").unwrap(), b"mine");
    }

    #[test]
    fn a_crash_leaves_the_old_or_the_new() {
        let points = crash_everywhere(old, |disk| replace(disk).is_ok(), is_old_or_new);
        assert!(points > 20, "{points}");
    }
}
