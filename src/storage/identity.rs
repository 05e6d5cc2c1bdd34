//! The identity of a data directory: the file `identity`.
//!
//! * The file is replaced as a whole: `identity.tmp` is written and flushed, renamed, and the directory
//!   is flushed. A crash leaves the old identity or the new one.
//! * Format: a header (`file_header.rs`) whose body is the postcard of [`Identity`]. Another field needs
//!   another version. Version 1 ends after `removed`.
//!
//! Caveat: a copied directory is a second node with the same Raft id. Nothing here can tell that. Others can, by
//! `starts`: see `node::memory`.

use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::StorageError;
use super::disk::{Disk, rewrite};
use crate::node_id::PublicId;
use crate::raft_types::{ClusterId, Founding, RaftId, StartMark};
use crate::storage::file_header;

pub(super) const NAME: &str = "identity";
pub(super) const TMP_NAME: &str = "identity.tmp";
const MAGIC: &[u8; 8] = b"hraftdID";
const OLDEST_VERSION: u32 = 1;
const VERSION: u32 = 2;

/// The names that a data directory has in its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The addresses it was last started with.
    pub public_id: PublicId,
    /// Its Raft node id: random, made with the directory.
    pub raft_id: RaftId,
    /// The cluster it belongs to, once it formed or joined one.
    pub cluster: Option<ClusterId>,
    /// The log index of the membership that removed this node. Set once a leader that a quorum confirmed
    /// said that.
    pub removed: Option<u64>,
    /// How often a process was started on this directory. Each start raises it, and flushes it before it says anything.
    /// 0 in a directory that only versions before this field have used, or nobody.
    pub starts: u64,
    /// The addresses that it was last settled under, while a move to others is not settled.
    pub moved_from: Option<PublicId>,
    /// Set once it was told, or found, that this directory forgot what it had promised or acknowledged: what, in words. Its
    /// Raft id must not vote any more.
    pub lost: Option<String>,
    /// The folder in this directory that has the files of the former self, which lost its memory.
    pub aside: Option<String>,
    /// How far the log was, the last time that it was known well: it must never be found shorter.
    pub log: LogMark,
    /// The newest start that each other Raft id has shown.
    pub seen: BTreeMap<RaftId, StartMark>,
    /// The cluster that it agreed to form together with others. One in the life of a directory.
    pub founding: Option<Founding>,
    /// The Raft id that the log was begun under, if it is not [`raft_id`](Self::raft_id): a node that moved has a new one,
    /// and the log that it had.
    pub log_owner: Option<RaftId>,
    /// The Raft ids of its former selves, until it has replaced them in the membership.
    pub replaces: BTreeSet<RaftId>,
}

/// A state of the log that no later one can fall behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMark {
    /// It had begun: it has at least one file.
    pub began: bool,
    /// The term of its vote.
    pub term: u64,
    /// The last index that it knew to be committed.
    pub committed: u64,
}

impl Identity {
    /// The identity of a new directory.
    pub fn new(public_id: PublicId, raft_id: RaftId) -> Self {
        Self {
            public_id,
            raft_id,
            cluster: None,
            removed: None,
            starts: 0,
            moved_from: None,
            lost: None,
            aside: None,
            log: LogMark::default(),
            seen: BTreeMap::new(),
            founding: None,
            log_owner: None,
            replaces: BTreeSet::new(),
        }
    }

    /// The Raft id that the log names as its owner.
    pub fn log_owner(&self) -> RaftId {
        self.log_owner.unwrap_or(self.raft_id)
    }
}

/// An identity of version 1.
#[derive(Deserialize)]
struct First {
    public_id: PublicId,
    raft_id: RaftId,
    cluster: Option<ClusterId>,
    removed: Option<u64>,
}

impl From<First> for Identity {
    fn from(first: First) -> Self {
        let First { public_id, raft_id, cluster, removed } = first;
        Self { cluster, removed, ..Self::new(public_id, raft_id) }
    }
}

/// Reads and replaces the identity of a data directory. All calls block.
#[derive(Debug)]
pub struct IdentityStore {
    pub(super) disk: Arc<dyn Disk>,
}

impl IdentityStore {
    /// The store of a data directory. Touches no file.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk }
    }

    /// The identity, or `None` in a new directory. Removes the leftover of an interrupted save.
    ///
    /// # Errors
    /// `Damaged`: its checksum or length is wrong. `Version`: a newer hraftd wrote it. `Io`.
    pub fn load(&self) -> Result<Option<Identity>, StorageError> {
        self.remove_tmp()?;
        let identity = self.peek()?;
        if identity.is_some() {
            let flush = || {
                // A copied directory, or a failed flush, may leave bytes in memory that the disk has not.
                let file = self.disk.open(NAME)?;
                rewrite(&*file, 0..file.len()?)?;
                file.sync_data()?;
                // A save that was killed between rename and flush left a name that a power loss would take back.
                self.disk.sync_dir()
            };
            flush().map_err(|error| self.io(NAME, error))?;
        }
        Ok(identity)
    }

    /// The identity, or `None` if there is none. Changes nothing; for tools.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn peek(&self) -> Result<Option<Identity>, StorageError> {
        match read(&*self.disk, NAME) {
            Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    /// Replaces the identity; when this returns it is durable.
    ///
    /// # Errors
    /// `Io`. The old identity or the new one is then in force; only [`load`](Self::load) tells which.
    pub fn save(&self, identity: &Identity) -> Result<(), StorageError> {
        self.remove_tmp()?;
        let body = postcard::to_stdvec(identity).map_err(|error| self.io(NAME, io::Error::other(error)))?;
        let write = || {
            let file = self.disk.create(TMP_NAME)?;
            file.write_all_at(&file_header::seal(MAGIC, VERSION, &body).0, 0)?;
            file.sync_data()?;
            self.disk.rename(TMP_NAME, NAME)?;
            self.disk.sync_dir()
        };
        write().map_err(|error| self.io(NAME, error))
    }

    /// Counts another start. When this returns it is durable.
    ///
    /// # Errors
    /// As [`save`](Self::save): nothing may be said then.
    pub fn count_start(&self, identity: &mut Identity) -> Result<(), StorageError> {
        identity.starts += 1;
        self.save(identity)
    }

    fn remove_tmp(&self) -> Result<(), StorageError> {
        match self.disk.remove(TMP_NAME) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.io(TMP_NAME, error)),
            _ => Ok(()),
        }
    }

    fn io(&self, name: &str, error: io::Error) -> StorageError {
        StorageError::io(self.disk.display(name), error)
    }
}

/// Reads an identity from the file of this name. Changes nothing.
///
/// # Errors
/// `Damaged`, `Version`, `Io`.
pub(super) fn read(disk: &dyn Disk, name: &str) -> Result<Identity, StorageError> {
    let place = disk.display(name);
    let io = |error| StorageError::io(&place, error);
    let file = disk.open(name).map_err(io)?;
    let len = file.len().map_err(io)?;
    let head = file_header::unseal(&*file, &place, MAGIC, OLDEST_VERSION..=VERSION, len)?;
    if head.end != len {
        return Err(file_header::damaged(&place, head.end, format!("{} bytes too many", len - head.end)));
    }
    if head.version == 1 {
        return file_header::decode::<First>(&place, &head.body).map(Identity::from);
    }
    file_header::decode(&place, &head.body)
}

/// The id of this node's cluster. A joiner learns it while it runs. Clones share it.
///
/// It is set only after the identity file was saved with it.
#[derive(Debug, Clone, Default)]
pub struct ClusterHandle(Arc<RwLock<Option<ClusterId>>>);

impl ClusterHandle {
    /// A handle that starts with what the identity file says.
    pub fn new(cluster: Option<ClusterId>) -> Self {
        Self(Arc::new(RwLock::new(cluster)))
    }

    /// The cluster; `None` until this node forms or joins one.
    pub fn get(&self) -> Option<ClusterId> {
        *self.0.read()
    }

    /// Makes the cluster known, after the identity was saved.
    pub fn set(&self, cluster: ClusterId) {
        *self.0.write() = Some(cluster);
    }
}

#[cfg(test)]
#[path = "../../tests/fuzz/identity.rs"]
mod fuzz;

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::storage::disk::{MemDisk, RealDisk};
    use crate::storage::test_disk::crash_everywhere;

    fn identity(raft_id: RaftId, cluster: Option<u128>) -> Identity {
        let other: PublicId = "127.0.0.1:1,127.0.0.1:2".parse().unwrap();
        Identity {
            cluster: cluster.map(ClusterId),
            removed: cluster.map(|_| 17),
            starts: raft_id,
            moved_from: cluster.map(|_| other),
            lost: cluster.map(|_| "the log".to_owned()),
            aside: cluster.map(|_| "lost-1".to_owned()),
            log: LogMark { began: cluster.is_some(), term: 3, committed: 4 },
            seen: BTreeMap::from([(5, StartMark { starts: 6, boot: u64::MAX })]),
            founding: cluster.map(|id| Founding {
                cluster: ClusterId(id),
                members: BTreeMap::from([(raft_id, "127.0.0.1:3,127.0.0.1:4".parse().unwrap())]),
            }),
            log_owner: cluster.map(|_| 8),
            replaces: BTreeSet::from([5, 6]),
            ..Identity::new("127.0.0.1:11001,[::1]:12001".parse().unwrap(), raft_id)
        }
    }

    fn store(disk: &MemDisk) -> IdentityStore {
        IdentityStore::new(Arc::new(disk.clone()))
    }

    #[test]
    fn it_round_trips() {
        let dir = tempfile::tempdir().unwrap();
        let disks: [Arc<dyn Disk>; 2] = [Arc::new(MemDisk::new()), Arc::new(RealDisk::open(dir.path()).unwrap())];
        for disk in disks {
            let store = IdentityStore::new(disk.clone());
            assert_eq!(store.load().unwrap(), None);
            for identity in [identity(1, None), identity(u64::MAX, Some(u128::MAX))] {
                store.save(&identity).unwrap();
                assert_eq!(store.load().unwrap(), Some(identity));
            }
            disk.create(TMP_NAME).unwrap();
            store.load().unwrap();
            assert_eq!(disk.list().unwrap(), [NAME]);
        }
    }

    #[test]
    fn the_first_version_is_read() {
        #[derive(Serialize)]
        struct First(PublicId, RaftId, Option<ClusterId>, Option<u64>);
        let known = identity(7, Some(9));
        let body = postcard::to_stdvec(&First(known.public_id.clone(), 7, known.cluster, known.removed)).unwrap();
        let disk = MemDisk::new();
        disk.put(NAME, file_header::seal(MAGIC, 1, &body).0);
        let found = store(&disk).load().unwrap().unwrap();
        let expected = Identity { cluster: known.cluster, removed: known.removed, ..Identity::new(known.public_id, 7) };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_crash_keeps_the_old_or_the_new() {
        let (old, new) = (identity(1, None), identity(1, Some(7)));
        let base = || {
            let disk = MemDisk::new();
            store(&disk).save(&old).unwrap();
            disk
        };
        let points = crash_everywhere(
            base,
            |disk| IdentityStore::new(disk).save(&new).is_ok(),
            |after, saved| {
                let found = store(after).load().unwrap().unwrap();
                assert!(found == new || (found == old && !saved), "{found:?}");
            },
        );
        assert!(points >= 5, "{points}");
    }

    #[test]
    fn damage_is_told() {
        let disk = MemDisk::new();
        store(&disk).save(&identity(3, Some(9))).unwrap();
        let good = disk.bytes(NAME).unwrap();
        let check = |bytes: Vec<u8>, what: &str| {
            let disk = MemDisk::new();
            disk.put(NAME, bytes);
            let found = store(&disk).load();
            assert!(matches!(found, Err(StorageError::Damaged { .. })), "{what}: {found:?}");
        };
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            check(bytes, &format!("bit {bit}"));
        }
        for len in 0..good.len() {
            check(good[..len].to_vec(), &format!("cut to {len}"));
        }
        check([good.as_slice(), b"x"].concat(), "longer");
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..300 {
            let bytes: Vec<u8> = (0..rng.random_range(0..200)).map(|_| rng.random()).collect();
            check([MAGIC.as_slice(), &bytes].concat(), "random");
        }
    }

    #[test]
    fn another_version_is_told() {
        let disk = MemDisk::new();
        disk.put(NAME, file_header::seal(MAGIC, VERSION + 1, b"of another time").0);
        let found = store(&disk).load();
        assert!(matches!(found, Err(StorageError::Version { found: 3, known: 2, .. })), "{found:?}");
    }
}
