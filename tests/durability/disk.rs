//! Disks that fill up, that turn read-only, that fail a flush, files that may not grow: one node of three meets it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, prlimit};
use tempfile::TempDir;

use crate::record::{Outcome, Record};
use crate::support::cluster::Cluster;
use crate::support::lab::Lab;
use crate::support::namespace::{in_own_network, skip};
use crate::support::node::hraftd;
use crate::support::process::finish;
use crate::support::wait::{SETTLE, check, eventually};

const NEEDS: [(&str, &str); 2] = [("mount", "mount"), ("mkfs.ext4", "e2fsprogs")];

/// Bytes of a large value: a segment is full after some eighty.
const LARGE: usize = 200_000;

fn run(line: &str) -> Result<String, String> {
    let end = finish(Command::new("sh").args(["-c", line]), Duration::from_secs(60));
    check(end.code == Some(0), || format!("{line}: {:?} {}", end.code, end.stderr))?;
    Ok(end.stdout.trim().to_owned())
}

/// A mounted file system, which goes before the directory it is mounted on.
struct Mounted(TempDir);

impl Mounted {
    fn tmpfs(size: &str) -> Self {
        let dir = TempDir::with_prefix("hraftd-test-").unwrap();
        run(&format!("mount -t tmpfs -o size={size} tmpfs {}", dir.path().display())).unwrap();
        Self(dir)
    }

    /// ext4 on a loop device, whose image is a sparse file.
    fn ext4(image: &Path, size: &str) -> Result<Self, String> {
        let dir = TempDir::with_prefix("hraftd-test-").unwrap();
        run(&format!("truncate -s {size} {0} && mkfs.ext4 -q {0}", image.display()))?;
        run(&format!("mount -o loop,errors=remount-ro {} {}", image.display(), dir.path().display()))?;
        Ok(Self(dir))
    }

    fn again(&self, image: &Path) {
        let path = self.0.path().display();
        run(&format!("umount {path} && mount -o loop,errors=remount-ro {} {path}", image.display())).unwrap();
    }

    /// Takes all the space that is left.
    fn fill(&self) {
        run(&format!("cat /dev/zero >{}/filler 2>/dev/null; sync {0}/filler", self.0.path().display())).unwrap();
        assert_eq!(rustix::fs::statvfs(self.0.path()).unwrap().f_bavail, 0);
    }

    fn free(&self) {
        std::fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = run(&format!("umount -l {}", self.0.path().display()));
    }
}

/// Three nodes, the first of which has its directory elsewhere; with what was written.
struct Trouble {
    record: Record,
    written: usize,
    cluster: Cluster,
}

impl Trouble {
    fn start(lab: Lab, rdir: Option<PathBuf>) -> Self {
        let mut cluster = Cluster { nodes: Vec::new(), lab };
        for number in 0..3 {
            let mut node = cluster.lab.node(&format!("n{number}")).args(&["--snapshot-threshold", "100000"]);
            if let (0, Some(rdir)) = (number, &rdir) {
                node.rdir = rdir.clone();
            }
            let first = cluster.nodes.first().map_or(node.haddr.clone(), |first| first.haddr.clone());
            cluster.nodes.push(node.rjoin(&[&first]));
            cluster.nodes[number].start();
            cluster.nodes[number].wait_ready();
        }
        cluster.settled();
        Self { cluster, record: Record::default(), written: 0 }
    }

    fn write(&mut self, through: usize, size: usize) -> Outcome {
        self.written += 1;
        let key = format!("k{}", self.written);
        let value = format!("{key}{}", "v".repeat(size));
        self.record.write(&self.cluster.nodes[through], &key, &value)
    }

    fn write_some(&mut self, through: usize, count: usize, size: usize) {
        for _ in 0..count {
            assert_eq!(self.write(through, size), Outcome::Acknowledged);
        }
    }

    /// Writes through the first node until it has ended: with exit code 1, and the reason in one line.
    fn write_until_it_ends(&mut self, reason: &str) {
        for _ in 0..2_000 {
            // What is on its way when the disk fails is told as unknown, before the process has said its last line.
            if self.write(0, LARGE) != Outcome::Acknowledged {
                break;
            }
        }
        let node = &mut self.cluster.nodes[0];
        let code = eventually(SETTLE, "the node ends", || node.ended().ok_or_else(|| "it runs".to_owned()));
        let log = node.log_text();
        assert_eq!(code, Some(1), "{log}");
        let last = log.lines().last().unwrap_or_default();
        assert!(last.starts_with("hraftd: cannot write the Raft log: /") && last.contains(reason), "{log}");
        assert!(last.contains("/log-"), "{last}");
    }

    fn others_go_on(&mut self) {
        eventually(SETTLE, "the others take writes", || {
            let outcome = self.write(1, 10);
            check(outcome == Outcome::Acknowledged, || format!("{outcome:?}"))
        });
        self.write_some(2, 5, LARGE);
    }

    fn comes_back(&mut self) {
        self.cluster.nodes[0].start();
        self.cluster.settled();
        self.write_some(0, 3, 10);
        self.record.check_all(&self.cluster);
    }
}

/// Issue 22: a disk is found to be nearly full, and whose, before it is.
#[test]
fn the_doctor_finds_a_disk_that_is_nearly_full() {
    in_own_network("disk::the_doctor_finds_a_disk_that_is_nearly_full", &NEEDS, || {
        let disk = Mounted::tmpfs("400m");
        let trouble = Trouble::start(Lab::new(), Some(disk.0.path().join("data")));
        let nodes = &trouble.cluster.nodes;
        let finds = |severity: &str| {
            eventually(SETTLE, &format!("a disk nearly full, {severity}"), || {
                let found = nodes[1].get("/hraftd/raft/doctor")?.ok()?.json();
                let of =
                    |one: &&serde_json::Value| one["what"].as_str().is_some_and(|what| what.contains("nearly full"));
                let full: Vec<_> = found["findings"].as_array().into_iter().flatten().filter(of).collect();
                let free = full.first().and_then(|one| one["evidence"]["free_bytes"].as_f64()).unwrap_or(f64::MAX);
                let fits =
                    full.len() == 1 && full[0]["node"] == nodes[0].id().as_str() && full[0]["severity"] == severity;
                check(fits && free < f64::from(400 << 20), || found.to_string())
            });
        };
        finds("warning");
        let free = rustix::fs::statvfs(disk.0.path()).unwrap();
        let taken = free.f_bavail * free.f_frsize - (40 << 20);
        run(&format!("fallocate -l {taken} {}/filler", disk.0.path().display())).unwrap();
        finds("critical");
        disk.free();
        finds("warning");
    });
}

/// `before` large values are written before the disk is full: 0, and a growing segment meets it; many, and it is the making of
/// a new segment.
fn full_disk(before: usize) {
    let disk = Mounted::tmpfs("96m");
    let mut trouble = Trouble::start(Lab::new(), Some(disk.0.path().join("n0")));
    trouble.write_some(0, 20, 10);
    trouble.write_some(0, before, LARGE);
    disk.fill();
    trouble.write_until_it_ends("No space left on device");
    trouble.others_go_on();
    // A supervisor starts it at once: it either has room for now, or ends in the same way.
    let node = &mut trouble.cluster.nodes[0];
    node.start();
    eventually(SETTLE, "it runs in what room is left, or says why not", || {
        if let Some(code) = node.ended() {
            assert_eq!(code, Some(1), "{}", node.log_text());
            let log = node.log_text();
            assert!(log.lines().last().unwrap_or_default().contains("No space left on device"), "{log}");
            return Ok(());
        }
        node.ready()
    });
    disk.free();
    if node.runs() {
        node.stop();
    }
    trouble.comes_back();
    // The whole disk is less than what is to be free.
    assert!(trouble.cluster.nodes[0].log_text().contains("are left on this disk; log and snapshots may need"));
}

#[test]
fn a_full_disk() {
    in_own_network("disk::a_full_disk", &NEEDS, || full_disk(0));
}

#[test]
fn a_disk_that_is_full_when_a_segment_is_to_be_made() {
    in_own_network("disk::a_disk_that_is_full_when_a_segment_is_to_be_made", &NEEDS, || full_disk(120));
}

/// EFBIG; without more, it would come with a deadly signal.
#[test]
fn files_that_may_not_grow() {
    let mut trouble = Trouble::start(Lab::new(), None);
    trouble.write_some(0, 5, LARGE);
    let limit = Rlimit { current: Some(2 << 20), maximum: Some(2 << 20) };
    prlimit(Some(trouble.cluster.nodes[0].pid()), Resource::Fsize, limit).unwrap();
    trouble.write_until_it_ends("File too large");
    trouble.others_go_on();
    trouble.comes_back();
}

/// Gives the mounted file system and its image, unless this machine has no loop devices to give.
fn on_ext4(test: &str, image_room: &str, body: impl FnOnce(&Mounted, &Path)) {
    let room = Mounted::tmpfs(image_room);
    let image = room.0.path().join("image");
    match Mounted::ext4(&image, "120m") {
        Ok(disk) => body(&disk, &image),
        Err(why) => skip(test, &why),
    }
}

/// As ext4 is after an error of the disk below it.
#[test]
fn a_disk_that_turns_read_only() {
    let test = "disk::a_disk_that_turns_read_only";
    in_own_network(test, &NEEDS, || {
        on_ext4(test, "130m", |disk, image| {
            let mut trouble = Trouble::start(Lab::new(), Some(disk.0.path().join("n0")));
            trouble.write_some(0, 20, LARGE);
            let device = run(&format!("findmnt -no SOURCE {}", disk.0.path().display())).unwrap();
            let device = device.trim_start_matches("/dev/");
            std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "test").unwrap();
            trouble.write_until_it_ends("Read-only file system");
            trouble.others_go_on();
            // It cannot be used so, and starting again cannot help: 78.
            let refused = trouble.cluster.nodes[0].start_refused();
            assert_eq!(refused.code, Some(78), "{}", refused.stderr);
            assert!(refused.stderr.contains("Read-only file system"), "{}", refused.stderr);
            disk.again(image);
            trouble.comes_back();
        });
    });
}

/// The writes reach the page cache; it is the flush that fails, because the image's own disk has no room for it.
#[test]
fn a_flush_that_fails() {
    let test = "disk::a_flush_that_fails";
    in_own_network(test, &NEEDS, || {
        on_ext4(test, "60m", |disk, image| {
            let mut trouble = Trouble::start(Lab::new(), Some(disk.0.path().join("n0")));
            trouble.write_some(0, 20, LARGE);
            trouble.write_until_it_ends("(os error ");
            trouble.others_go_on();
            let room = image.parent().unwrap().display();
            run(&format!("mount -o remount,size=300m {room}")).unwrap();
            disk.again(image);
            trouble.comes_back();
        });
    });
}

/// The command, a restore and the leader by itself: nothing half is left, and it works once there is room.
#[test]
fn a_full_disk_takes_no_backup_and_no_restore() {
    in_own_network("disk::a_full_disk_takes_no_backup_and_no_restore", &NEEDS, || {
        let lab = Lab::new();
        let mut node = lab.node("n");
        node.start();
        node.wait_ready();
        for number in 0..40 {
            node.set(&format!("k{number}"), &format!("\"{}\"", "v".repeat(LARGE))).unwrap();
        }
        let tool = |args: &[&str]| finish(hraftd(lab.path()).args(args), Duration::from_secs(60));
        let small = Mounted::tmpfs("6M");
        let at = |name: &str| small.0.path().join(name).display().to_string();
        let names = || std::fs::read_dir(small.0.path()).unwrap().count();
        let file = lab.path().join("f.backup").display().to_string();
        assert_eq!(tool(&["backup", &file, "--endpoints", &node.haddr]).code, Some(0));
        let end = tool(&["backup", &at("f.backup"), "--endpoints", &node.haddr]);
        assert!(end.code == Some(1) && end.stderr.contains("No space left"), "{end:?}");
        assert_eq!(names(), 0, "nothing is left");
        let end = tool(&["restore", &file, "--rdir", &at("data")]);
        assert!(end.code == Some(1) && end.stderr.contains("No space left"), "{end:?}");
        let end = tool(&["inspect", &at("data")]);
        assert!(end.code == Some(78) && end.stderr.contains("holds no data of a node"), "{end:?}");

        node.stop();
        node.set_args(&["--backup-to", &at("own"), "--backup-every", "1s"]);
        node.start();
        node.wait_ready();
        eventually(SETTLE, "it warns", || {
            let shown = node.get("/hraftd/raft/cluster")?.ok()?.json()["warnings"].to_string();
            check(shown.contains("No space left"), || shown)
        });
        run(&format!("mount -o remount,size=64M {}", small.0.path().display())).unwrap();
        let own = PathBuf::from(at("own"));
        eventually(SETTLE, "it has backed up", || {
            let names = std::fs::read_dir(&own).map_err(|error| error.to_string())?.flatten();
            let names: Vec<String> = names.map(|entry| entry.file_name().into_string().unwrap()).collect();
            check(names.len() == 1 && names[0].ends_with(".backup"), || format!("{names:?}"))
        });
        assert_eq!(tool(&["restore", &file, "--rdir", &at("data")]).code, Some(0));
    });
}
