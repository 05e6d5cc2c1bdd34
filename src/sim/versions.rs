//! Nodes of the first version among newer ones, up and down.
//!
//! Such a node is this program that understands the first format only: it tells nothing of formats, and takes no message of
//! a newer one. What a newer node has written since the switch it could not read, so it is not started on that.

use super::world;
use crate::formats::{OLDEST, Speaks};
use crate::storage::disk::{Disk as _, MemDisk};

/// The version of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// It was never started.
    None,
    First,
    Newest,
}

impl Version {
    pub fn speaks(self) -> Speaks {
        if self == Self::First { Speaks::silent() } else { Speaks::own() }
    }
}

/// What becomes of versions at starts.
#[derive(Debug, Default)]
pub struct Versions {
    stay_new: bool,
    first: u64,
    back: u64,
}

impl Versions {
    /// From now on nothing is started as an older version.
    pub fn stay_new(&mut self) {
        self.stay_new = true;
    }

    /// The version that a node is started as on this disk, when it was of that one before.
    pub fn next(&mut self, before: Version, disk: &MemDisk, mixed: bool) -> Version {
        if !mixed || self.stay_new || !is_of_first_format(disk) {
            return Version::Newest;
        }
        let first = match before {
            Version::None => world::chance(500),
            Version::First => world::chance(600),
            Version::Newest => world::chance(300),
        };
        if !first {
            return Version::Newest;
        }
        self.first += 1;
        self.back += u64::from(before == Version::Newest);
        Version::First
    }

    /// How often nodes were started as the first version, how often so after the newest, and what the caller knows.
    pub fn counts(&self, raised: u64) -> [(&'static str, u64); 3] {
        [("starts of the first version", self.first), ("downgrades", self.back), ("raised in mixed runs", raised)]
    }
}

/// True for a directory of which the first version can read all: every file says its version in the same place.
fn is_of_first_format(disk: &MemDisk) -> bool {
    let version = |name: &String| {
        let bytes = disk.bytes(name)?;
        Some(u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?))
    };
    let names = disk.list().expect("a disk in memory can be read");
    names.iter().all(|name| {
        let known = match name {
            name if name.ends_with(".tmp") => return true,
            name if name.starts_with("log-") => OLDEST.log(),
            name if name.starts_with("snapshot-") => OLDEST.snapshot(),
            _ => return true,
        };
        version(name).is_none_or(|version| version <= known)
    })
}
