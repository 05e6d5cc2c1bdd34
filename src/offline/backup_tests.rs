use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::rebuild::rebuild;
use super::survey::Survey;
use super::{restore, run};
use crate::config::Offline;
use crate::exit::Exit;
use crate::formats::Format;
use crate::kv::KvStore;
use crate::raft_types::ClusterId;
use crate::storage::backup::{self, Head, sample};
use crate::storage::disk::{Disk, MemDisk, RealDisk};
use crate::storage::replace;
use crate::storage::test_disk::crash_everywhere;

fn head(kv: &KvStore) -> Head {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Head {
        cluster: ClusterId(7),
        index: 900,
        term: 3,
        // An hour ago.
        made_ms: u64::try_from(now.as_millis()).unwrap() - 3_600_000,
        now_ms: 5_000,
        log_time_ms: kv.log_time_ms(),
        format: kv.format(),
        by: "0.2.0".to_owned(),
    }
}

fn put(path: &Path, head: &Head, kv: &KvStore) {
    let mut bytes = Vec::new();
    let take = |block: &[u8]| {
        bytes.extend_from_slice(block);
        Ok(())
    };
    backup::write(head, kv, take).unwrap();
    fs::write(path, bytes).unwrap();
}

fn restored(file: &Path, dir: &Path, expire: bool) -> Exit {
    run(Offline::Restore { file: file.to_owned(), dir: dir.to_owned(), expire })
}

fn state(dir: &Path) -> (Survey, KvStore) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir).unwrap());
    let survey = Survey::read(&disk).unwrap();
    assert_eq!(survey.problems, [""; 0]);
    let kv = super::rebuild::state(&*disk, &survey).unwrap();
    (survey, kv)
}

#[test]
fn a_restored_directory_has_the_state_and_belongs_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (file, rdir) = (dir.path().join("f.backup"), dir.path().join("a/b"));
    let kv = sample(50);
    put(&file, &head(&kv), &kv);
    let end = restored(&file, &rdir, false);
    assert_eq!((end.code, &end.err), (0, &None));
    let said = end.out.unwrap();
    for part in ["0000000000000007", "index 900", "1 token of the backup", ": app\n", "Authentication is on"] {
        assert!(said.replace("       ", " ").contains(part), "{part} is not in\n{said}");
    }
    let (survey, found) = state(&rdir);
    assert!(found == kv && found.digest() == kv.digest());
    let identity = survey.identity.clone().unwrap();
    assert!(identity.public_id.is_nowhere() && identity.cluster != Some(ClusterId(7)) && identity.cluster.is_some());
    let last = survey.last().unwrap();
    // An hour of as many entries as there can be.
    assert!(last.index >= 900 + 3_600 * (1 << 17) && last.leader_id.term == 4, "{last:?}");
    assert!(rdir.join("authentication").exists());

    // Another one of the same backup is another cluster; and the time since may count.
    let second = dir.path().join("second");
    assert_eq!(restored(&file, &second, true).code, 0);
    let (other, expired) = state(&second);
    assert_ne!(other.identity.unwrap().cluster, identity.cluster);
    assert!(expired.log_time_ms() >= 5_000 + 3_600_000 && expired.next_deadline() <= Some(expired.log_time_ms()));
}

#[test]
fn where_it_cannot_be_restored_nothing_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (file, rdir) = (dir.path().join("f.backup"), dir.path().join("data"));
    let kv = sample(50);
    put(&file, &head(&kv), &kv);
    let refused = |end: Exit, code: i32, says: &str| {
        assert!(end.code == code && end.err.as_ref().is_some_and(|err| err.contains(says)), "{end:?}");
    };
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    refused(restored(&file, &rdir, false), 1, "damaged at offset");
    put(&file, &Head { format: Format(9), ..head(&kv) }, &kv);
    refused(restored(&file, &rdir, false), 1, "format 9 of the state");
    refused(restored(&dir.path().join("none"), &rdir, false), 1, "none");
    refused(restored(dir.path(), &rdir, false), 1, "not a regular file");
    assert!(!rdir.exists(), "nothing was made");
    fs::write(&file, &whole).unwrap();
    fs::create_dir(&rdir).unwrap();
    fs::write(rdir.join("notes"), "mine").unwrap();
    refused(restored(&file, &rdir, false), 78, "is not empty: it has notes");
    assert_eq!(fs::read_dir(&rdir).unwrap().count(), 1);
    // What an interrupted one left is no obstacle.
    fs::remove_file(rdir.join("notes")).unwrap();
    fs::write(rdir.join("recover-log-0000000000000001"), "half").unwrap();
    fs::create_dir(rdir.join("lost+found")).unwrap();
    assert_eq!(restored(&file, &rdir, false).code, 0);
    refused(restored(&file, &rdir, false), 78, "is not empty: it has");
    refused(restored(&file, &file, false), 78, "f.backup");
}

#[test]
fn a_crash_while_it_is_restored_leaves_nothing_or_all() {
    let kv = sample(200);
    let head = head(&kv);
    let plan = restore::plan(&head, 0, 42, ClusterId(43));
    let points = crash_everywhere(
        MemDisk::new,
        |disk| rebuild(&disk, &plan, &kv).is_ok(),
        |disk, done| {
            let shared: Arc<dyn Disk> = Arc::new(disk.clone());
            // As a start does, and another restore.
            replace::settle(disk).unwrap();
            let survey = Survey::read(&shared).unwrap();
            assert_eq!(survey.problems, [""; 0]);
            if survey.is_nothing() {
                assert!(!done);
                return restore::check_empty(Path::new("d"), disk.list().unwrap()).unwrap();
            }
            assert_eq!(survey.identity.as_ref().unwrap().raft_id, 42);
            assert!(super::rebuild::state(disk, &survey).unwrap() == kv);
            assert_eq!(survey.last().map(|last| last.index), Some(900 + (1 << 20)));
        },
    );
    assert!(points > 15, "{points}");
}

#[test]
fn what_is_no_directory_and_no_file_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for entries in [false, true] {
        for path in [&pipe, std::path::Path::new("/dev/zero")] {
            let end = run(Offline::Inspect { dir: path.to_owned(), entries });
            let why = end.err.unwrap();
            assert!(end.code == 1 && why.contains("neither a directory nor a regular file"), "{why}");
        }
    }
}

#[test]
fn verify_and_inspect_tell_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.backup");
    let kv = sample(50);
    put(&file, &head(&kv), &kv);
    let verify = || run(Offline::Verify { file: file.clone() });
    let inspect = || run(Offline::Inspect { dir: file.clone(), entries: false });
    let digest = format!("digest       {:016x} at index 900\n", kv.digest());
    for (end, whole) in [(verify(), true), (inspect(), false)] {
        assert_eq!(end.code, 0, "{end:?}");
        let said = end.out.unwrap();
        for part in ["keys         52\n", "index        900, term 3\n", "tokens       1\n", &digest] {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
        assert_eq!(said.contains("whole        yes"), whole);
    }
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.len() - 30;
    bytes[at] ^= 1;
    fs::write(&file, &bytes).unwrap();
    for end in [verify(), inspect()] {
        assert!(end.code == 1 && end.err.as_ref().is_some_and(|err| err.contains("damaged at offset")), "{end:?}");
    }
    assert!(inspect().out.unwrap().contains("index        900"), "what can be read is shown");
}
