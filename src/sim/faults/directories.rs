//! Directories that are copied, put back to an earlier moment, or lose files.

use super::{Faults, LASTS_MS};
use crate::raft_types::Role;
use crate::sim::cluster::{Down, Meddled};
use crate::sim::world;
use crate::storage::disk::{Disk as _, MemDisk};

/// The kinds of files that a directory has, and may lose.
pub const FILE_KINDS: [&str; 5] = ["identity", "log", "first of the log", "last of the log", "snapshot"];

/// Removes the files of a kind.
pub fn lose(disk: &MemDisk, kind: &str) {
    let mut names = disk.list().expect("a disk in memory can be read");
    names.sort_unstable();
    let log: Vec<&String> = names.iter().filter(|name| name.starts_with("log-")).collect();
    let gone: Vec<&String> = match kind {
        "identity" => names.iter().filter(|name| *name == "identity").collect(),
        "log" => log,
        "first of the log" => log.first().copied().into_iter().collect(),
        "last of the log" => log.last().copied().into_iter().collect(),
        "snapshot" => names.iter().filter(|name| name.starts_with("snapshot")).collect(),
        other => unreachable!("{other}"),
    };
    for name in gone {
        disk.remove(name).expect("it is there");
    }
    disk.sync_dir().expect("a disk in memory takes it");
}

impl Faults {
    /// A copy of a node's directory is started at another address, while the node runs, stands still or is cut off, and
    /// perhaps another is down. Row 1 of the table.
    pub(super) async fn copy(&mut self, port: u16) {
        if self.list.len() < 3 || self.cluster.process(port).is_none() {
            return;
        }
        let how = world::below(3);
        let process = self.cluster.process(port).expect("seen above");
        let (copy, host) = (process.disk.copy(), process.host.clone());
        match how {
            0 => {}
            1 => host.pause(),
            _ => self.cut(&[port], &self.others(port), true, true),
        }
        self.wait(1_000).await;
        let other = self.any();
        let is_down = other != port && world::chance(600);
        if is_down {
            self.cluster.down(other, Down::Killed);
        }
        let new = self.new_port();
        self.cluster.put(new, &self.list.clone(), Role::Voter, copy, Meddled::Extra);
        self.cluster.up(new);
        self.operator.shared.add(new);
        self.wait(2 * LASTS_MS).await;
        match how {
            0 => {}
            1 => host.resume(),
            _ => {
                let others: Vec<_> = self.others(port).into_iter().filter(|other| *other != new).collect();
                self.cut(&[port], &others, true, false);
            }
        }
        if is_down {
            self.cluster.up(other);
        }
        self.wait(LASTS_MS).await;
        self.cut(&[port], &[new], true, false);
    }

    /// A node is put back to an earlier moment of its directory. Safe only where all others have what it had. Row 4.
    pub(super) async fn rollback(&mut self) {
        self.settle().await;
        let port = self.any();
        if self.list.len() < 3 {
            return;
        }
        let Some(process) = self.cluster.process(port) else { return };
        let old = process.disk.copy();
        self.wait(LASTS_MS).await;
        self.settle().await;
        self.cluster.down(port, Down::Killed);
        self.cluster.replace_disk(port, old);
        self.cluster.meddle(port);
        self.wait(500).await;
        self.cluster.up(port);
        self.wait(LASTS_MS).await;
        self.settle().await;
    }

    /// A node loses some of its files, and perhaps the leader dies right after. Row 2, and the last of row 8.
    pub(super) async fn lost_files(&mut self) {
        self.settle().await;
        let port = self.any();
        if self.list.len() < 3 {
            return;
        }
        self.cluster.down(port, Down::Killed);
        let disk = self.cluster.disk_copy(port);
        let mut lost = 0;
        while lost == 0 {
            for kind in FILE_KINDS {
                if world::chance(300) {
                    lose(&disk, kind);
                    lost += 1;
                }
            }
        }
        self.cluster.meddle(port);
        self.cluster.replace_disk(port, disk);
        self.cluster.up(port);
        self.wait(300).await;
        if let Some(leader) = self.cluster.leader().filter(|leader| *leader != port && world::chance(600)) {
            self.cluster.down(leader, Down::Killed);
            self.wait(LASTS_MS).await;
            self.cluster.up(leader);
        }
        self.wait(LASTS_MS).await;
        self.settle().await;
    }
}
