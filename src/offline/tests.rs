//! The tools, on copies of the golden directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use openraft::EntryPayload;
use tempfile::TempDir;

use super::rebuild::{Plan, rebuild, state};
use super::survey::Survey;
use super::*;
use crate::command::{Action, Command, Condition, Leased, Op, Order, Retry, Stamped, Test, TestOf, Txn, Value};
use crate::exit::{EX_CONFIG, EX_OK};
use crate::formats::Format;
use crate::raft_types::ClusterId;
use crate::raft_types::alias::LogEntry;
use crate::record::Record;
use crate::storage::disk::{Disk, MemDisk};
use crate::storage::test_disk::crash_everywhere;
use crate::storage::{DataDir, replace};

fn golden() -> PathBuf {
    golden_of("v1")
}

fn golden_of(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version)
}

fn copy() -> TempDir {
    copy_of("v1")
}

fn copy_of(version: &str) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden_of(version)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// Names, content, and when each was last changed.
fn all(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let file = |path: PathBuf| {
        let changed = fs::metadata(&path).unwrap().modified().unwrap();
        (path.clone(), (fs::read(&path).unwrap(), changed))
    };
    let mut files: BTreeMap<_, _> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).map(file).collect();
    files.insert(dir.to_owned(), (Vec::new(), fs::metadata(dir).unwrap().modified().unwrap()));
    files
}

fn inspect_dir(dir: &Path) -> Exit {
    run(Offline::Inspect { dir: dir.to_owned(), entries: false })
}

fn recover_dir(dir: &Path, yes: bool) -> Exit {
    run(Offline::Recover { dir: dir.to_owned(), yes })
}

fn flip(dir: &Path, name: &str, at: usize) {
    let path = dir.join(name);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
}

#[test]
fn inspecting_shows_everything_and_changes_nothing() {
    let dir = copy();
    fs::write(dir.path().join("lock"), b"").unwrap();
    let before = all(dir.path());
    let end = inspect_dir(dir.path());
    assert_eq!((end.code, &end.err), (EX_OK, &None));
    let out = end.out.unwrap();
    for part in [
        "identity     127.0.0.1:11001,127.0.0.1:12001\n  Raft id    81985529216486895\n",
        "  cluster    00112233445566778899aabbccddeeff\n",
        "vote         term 3, for [::1]:11002,[::1]:12002 (Raft id 7), which a quorum elected\n",
        "membership   of index 5, term 1\n",
        "127.0.0.1:11001,127.0.0.1:12001  voter, Raft id 81985529216486895, this node\n",
        "node-3.example:11003,node-3.example:12003  learner, Raft id 18446744073709551615\n",
        "changing: needs a majority of each of [127.0.0.1:11001,127.0.0.1:12001] and [[::1]:11002,",
        "format       1, for hraftd 0.1.0 and later\n",
        "snapshots    snapshot-0000000000000003-00000001\n",
        "up to index 3, term 1: 4 keys, 290 bytes, cluster 00112233445566778899aabbccddeeff\n",
        "log          9 entries, ",
        "  first      index 3, term 1\n  last       index 11, term 3\n  purged     up to index 2, term 1\n",
        "  committed  index 10, term 3, as last saved\n  segments   log-0000000000000001  605 bytes\n",
        "  ending     stopped cleanly\n",
    ] {
        assert!(out.contains(part), "{part}\nis not in\n{out}");
    }
    assert_eq!(recover_dir(dir.path(), false).code, EX_OK);
    assert_eq!(all(dir.path()), before);
}

#[test]
fn what_is_damaged_is_named_and_the_rest_is_shown() {
    for (name, at, shown) in [
        ("identity", 30, "committed  index 10"),
        ("snapshot-0000000000000003-00000001", 270, "committed  index 10"),
        ("log-0000000000000004", 100, "snapshot-0000000000000003-00000001"),
        ("log-0000000000000004", 100, "  last       index 7, term 1"),
    ] {
        let dir = copy();
        flip(dir.path(), name, at);
        let before = all(dir.path());
        let end = inspect_dir(dir.path());
        let (out, err) = (end.out.unwrap(), end.err.unwrap());
        assert_eq!(end.code, EX_CONFIG, "{name}");
        assert!(err.contains(name) && err.contains("offset"), "{err}");
        assert!(out.contains(shown) && out.contains("damage"), "{name}: {out}");
        for yes in [false, true] {
            let refused = recover_dir(dir.path(), yes);
            assert_eq!((refused.code, refused.out), (EX_CONFIG, None));
            assert!(refused.err.unwrap().contains(name));
        }
        let _ = fs::remove_file(dir.path().join("lock"));
        let mut after = all(dir.path());
        after.insert(dir.path().to_owned(), before[dir.path()].clone());
        assert_eq!(after, before);
    }
}

#[test]
fn holes_between_files_are_damage() {
    for (gone, named) in [
        ("identity", "identity"),
        ("snapshot-0000000000000003-00000001", "entries 0 to 2 are neither"),
        ("log-0000000000000003", "log-0000000000000003"),
        ("log-0000000000000001", "are missing"),
    ] {
        let dir = copy();
        fs::remove_file(dir.path().join(gone)).unwrap();
        let end = inspect_dir(dir.path());
        assert_eq!(end.code, EX_CONFIG, "{gone}: {end:?}");
        assert!(end.err.as_ref().unwrap().contains(named), "{gone}: {end:?}");
    }
}

#[test]
fn a_torn_tail_is_shown_and_left_alone() {
    let dir = copy();
    let path = dir.path().join("log-0000000000000007");
    let mut bytes = fs::read(&path).unwrap();
    let mark = bytes.len() - 20;
    bytes[mark] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let out = inspect_dir(dir.path()).out.unwrap();
    assert!(out.contains(&format!("a torn write at offset {mark} of {}", path.display())), "{out}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn directories_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let (none, file) = (dir.path().join("none"), dir.path().join("file"));
    fs::write(&file, b"x").unwrap();
    for path in [&none, &file, dir.path()] {
        for end in [inspect_dir(path), recover_dir(path, false), recover_dir(path, true)] {
            assert_eq!((end.code, &end.out), (EX_CONFIG, &None), "{end:?}");
            assert!(end.err.as_ref().unwrap().contains(path.to_str().unwrap()), "{end:?}");
        }
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was made");

    let used = copy();
    let _lock = DataDir::open(used.path()).unwrap();
    for end in [inspect_dir(used.path()), recover_dir(used.path(), false), recover_dir(used.path(), true)] {
        assert!(end.code == EX_CONFIG && end.err.as_ref().unwrap().contains("stop its node first"), "{end:?}");
    }
}

#[test]
fn an_entry_is_one_line_of_json() {
    let id = |index| openraft::testing::log_id::<crate::raft_types::TypeConfig>(4, 0, index);
    let set = |value: &str| {
        let pairs = vec![("k\"".into(), value.to_owned().into()), ("l".into(), "1.50".into())];
        EntryPayload::Normal(Command::Set(pairs).into())
    };
    for (payload, line) in [
        (EntryPayload::Blank, r#"{"index":9,"term":4,"kind":"blank"}"#),
        (EntryPayload::Normal(Command::Delete("é".into()).into()), r#"{"index":9,"term":4,"kind":"delete","key":"é"}"#),
        (set("1e999"), r#"{"index":9,"term":4,"kind":"set","keys":{"k\"":1e999,"l":1.50}}"#),
        (set("[1,\r\n2]"), r#"{"index":9,"term":4,"kind":"set","keys":{"k\"":[1,  2],"l":1.50}}"#),
        (set("no json"), r#"{"index":9,"term":4,"kind":"set","keys":{"k\"":"no json","l":1.50}}"#),
    ] {
        assert_eq!(entries::json(&LogEntry { log_id: id(9), payload }).unwrap(), line);
    }
}

#[test]
fn a_stamped_entry_is_one_line_of_json() {
    let key = || "k\n".into();
    let pairs = |value: &str| vec![(key(), value.to_owned().into())];
    let value = |data: &'static [u8], is_bytes| Value { data: data.into(), is_bytes, content_type: Some("a/b".into()) };
    let ops = vec![
        Op::Set { pairs: pairs("[1,\n2]"), ttl_ms: Some(2) },
        Op::Incr { pairs: vec![(key(), -1)], ttl_ms: None },
        Op::Delete("d".into()),
        Op::DeletePrefix("p".into()),
        Op::Get("g".into()),
        Op::SetLeased { pairs: pairs("1"), lease: 8 },
        Op::Touch { keys: vec!["g".into()], ttl_ms: 5 },
    ];
    let test = |of| Test { key: "t".into(), of };
    let tests = vec![
        test(TestOf::Exists(true)),
        test(TestOf::ModifyIndex(1)),
        test(TestOf::CreateIndex(2)),
        test(TestOf::Version(3)),
        test(TestOf::Value("1.0".into())),
        test(TestOf::Number(Order::LessOrEqual, "1e400".into())),
        test(TestOf::Holder(8)),
        Test { key: "".into(), of: TestOf::Alive(9) },
    ];
    let (name, conditions) = ("l".into(), || vec![Condition::Exists, Condition::ModifiedBy(vec![7])]);
    let cond = r#","if":["exists",{"modified_by":[7]}]"#;
    let ops_shown = r#"[{"set":{"k\n":[1, 2]},"ttl_ms":2},{"incr":{"k\n":-1}},{"delete":"d"},{"delete_prefix":"p"},{"get":"g"},{"set":{"k\n":1},"lease":8},{"touch":["g"],"ttl_ms":5}]"#;
    let tests_shown = r#"[{"key":"t","exists":true},{"key":"t","modify_index":1},{"key":"t","create_index":2},{"key":"t","version":3},{"key":"t","value":1.0},{"key":"t","le":1e400},{"lock":"t","token":8},{"lease":9}]"#;
    let acquire = |body| Action::Acquire { name: "l".into(), ttl_ms: 5, body, wait_ms: 9 };
    for (action, shown) in [
        (
            Action::Set { pairs: pairs("1"), ttl_ms: Some(5), conditions: conditions() },
            format!(r#""set",…"keys":{{"k\n":1}},"ttl_ms":5{cond}"#),
        ),
        (
            Action::Put { key: key(), value: value(b"\"v\"", false), ttl_ms: None, conditions: Vec::new() },
            r#""put",…"key":"k\n","value":"v","content_type":"a/b""#.to_owned(),
        ),
        (
            Action::Put { key: key(), value: value(b"\xff", true), ttl_ms: Some(5), conditions: conditions() },
            format!(r#""put",…"key":"k\n","value":{{"base64":"/w=="}},"content_type":"a/b","ttl_ms":5{cond}"#),
        ),
        (Action::Delete { key: key(), conditions: conditions() }, format!(r#""delete",…"key":"k\n"{cond}"#)),
        (Action::DeletePrefix { prefix: "".into() }, r#""delete_prefix",…"prefix":"""#.to_owned()),
        (
            Action::Incr { key: key(), by: -3, ttl_ms: None, conditions: Vec::new() },
            r#""incr",…"key":"k\n","by":-3"#.to_owned(),
        ),
        (
            Action::Touch { key: key(), ttl_ms: 5, conditions: conditions() },
            format!(r#""touch",…"key":"k\n","ttl_ms":5{cond}"#),
        ),
        (
            Action::Txn(Txn { tests, then: ops, otherwise: Vec::new() }),
            format!(r#""txn",…"tests":{tests_shown},"then":{ops_shown},"else":[]"#),
        ),
        (acquire(Some("{}".into())), r#""acquire",…"lock":"l","body":{},"wait_ms":9,"ttl_ms":5"#.to_owned()),
        (acquire(None), r#""acquire",…"lock":"l","wait_ms":9,"ttl_ms":5"#.to_owned()),
        (
            Action::Renew { name: "l".into(), token: 8, ttl_ms: Some(5) },
            r#""renew",…"lock":"l","token":8,"ttl_ms":5"#.to_owned(),
        ),
        (Action::Release { name: "l".into(), token: 8 }, r#""release",…"lock":"l","token":8"#.to_owned()),
        (Action::Cancel { name, ticket: 8 }, r#""cancel",…"lock":"l","ticket":8"#.to_owned()),
        (Action::Tick { most: 8 }, r#""tick",…"most":8"#.to_owned()),
        (Action::Mark, r#""mark",…"#.to_owned()),
        (Action::Raise { to: Format(2) }, r#""raise",…"to":2"#.to_owned()),
        (Action::Quota { bytes: 7 }, r#""quota",…"bytes":7"#.to_owned()),
        (Action::Grant { ttl_ms: 5, body: Some("{}".into()) }, r#""grant",…"body":{},"ttl_ms":5"#.to_owned()),
        (Action::KeepAlive { lease: 8, ttl_ms: None }, r#""keep_alive",…"lease":8"#.to_owned()),
        (Action::Revoke { lease: 8 }, r#""revoke",…"lease":8"#.to_owned()),
        (
            Action::Leased { lease: 8, write: Leased::Incr { key: key(), by: -3, conditions: conditions() } },
            format!(r#""incr",…"key":"k\n","by":-3,"lease":8{cond}"#),
        ),
    ] {
        let id = openraft::testing::log_id::<crate::raft_types::TypeConfig>(4, 0, 9);
        for (key, stamp) in [(None, r#""stamp_ms":6,"#), (Some("u-1"), r#""stamp_ms":6,"idempotency_key":"u-1","#)] {
            let retry = key.map(|key: &str| Retry { key: key.into(), digest: 1, window_ms: 2 });
            let command = Command::Stamped(Stamped { stamp_ms: 6, retry, action: action.clone() });
            let entry = LogEntry { log_id: id, payload: EntryPayload::Normal(command.into()) };
            // The fields of an action come behind a comma; a mark has none.
            let shown = shown.replace('…', stamp);
            let line = format!(r#"{{"index":9,"term":4,"kind":{}}}"#, shown.trim_end_matches(','));
            assert_eq!(entries::json(&entry).unwrap(), line);
        }
    }
}

fn in_memory() -> MemDisk {
    let disk = MemDisk::new();
    for (path, (bytes, _)) in all(&golden()) {
        if path != golden() {
            disk.put(&path.file_name().unwrap().to_string_lossy(), bytes);
        }
    }
    disk
}

fn survey(disk: &Arc<dyn Disk>) -> Survey {
    let survey = Survey::read(disk).unwrap();
    assert!(survey.problems.is_empty(), "{survey:?}");
    survey
}

fn keys(disk: &Arc<dyn Disk>, survey: &Survey) -> Vec<String> {
    state(&**disk, survey).unwrap().iter().map(|(key, _)| key.to_string()).collect()
}

const KEYS: [&str; 5] = ["a", "fill", "purged", "z", "ключ/ß"];

#[test]
fn recovering_keeps_every_entry_and_meets_no_crash_halfway() {
    let points = crash_everywhere(
        in_memory,
        |disk| {
            let survey = survey(&disk);
            let plan = Plan::new(&survey, 42, ClusterId(43)).unwrap();
            rebuild(&disk, &plan, &state(&*disk, &survey).unwrap()).is_ok()
        },
        |disk, done| {
            let shared: Arc<dyn Disk> = Arc::new(disk.clone());
            replace::settle(disk).unwrap();
            let survey = survey(&shared);
            assert_eq!(keys(&shared, &survey), KEYS);
            let identity = survey.identity.as_ref().unwrap();
            let last = survey.last().unwrap();
            if identity.raft_id != 42 {
                assert!(!done && (last.index, last.leader_id.term) == (11, 3));
                return;
            }
            assert_eq!((identity.cluster, identity.removed), (Some(ClusterId(43)), None));
            assert_eq!((last.index, last.leader_id.term), (11 + (1 << 20), 4));
            assert_eq!(
                (survey.covered(), survey.log.purged(), survey.log.committed()),
                (Some(last), Some(last), Some(last))
            );
            let members = survey.membership.as_ref().unwrap();
            assert_eq!(members.voter_ids().collect::<Vec<_>>(), [42]);
            assert_eq!(members.nodes().count(), 1);
            assert_eq!(survey.log.vote().map(|vote| vote.leader_id.term), Some(4));
        },
    );
    assert!(points > 25, "{points}");
}

#[test]
fn recovering_keeps_leases_with_their_keys_and_locks() {
    let dir = copy_of("v5");
    let found = || {
        let disk: Arc<dyn Disk> = DataDir::open(dir.path()).unwrap().disk;
        let survey = survey(&disk);
        state(&*disk, &survey).unwrap()
    };
    let before = found();
    assert_eq!(recover_dir(dir.path(), true).code, 0);
    let after = found();
    assert!(after.lease(14).is_some() && after.lease_of_lock("leased") == Some(14));
    assert_eq!(after.get("svc/old").and_then(Record::lease), Some(14));
    assert_eq!(after.digest(), before.digest());
}

#[test]
fn recovering_says_what_it_does_and_can_be_repeated() {
    let dir = copy();
    let dry = recover_dir(dir.path(), false);
    let done = recover_dir(dir.path(), true);
    assert_eq!((dry.code, done.code), (EX_OK, EX_OK), "{done:?}");
    let (dry, done) = (dry.out.unwrap(), done.out.unwrap());
    for part in [
        "last entry   index 11, term 3\n",
        "committed    index 10, term 3, as this node knew\n",
        "keys         5, with all entries applied\n",
        "the 1 entry after index 10",
        "answered 504",
        "a snapshot at index 1048587, term 4",
    ] {
        assert!(dry.contains(part) && done.contains(part), "{part}\nis not in\n{dry}\nor not in\n{done}");
    }
    assert!(dry.contains("Nothing was changed") && dry.contains("--yes"), "{dry}");
    assert!(done.contains("--rjoin 127.0.0.1:11001"), "{done}");
    let again = recover_dir(dir.path(), false).out.unwrap();
    assert!(again.contains("needs no recovery") && again.contains("index 1048587, term 4"), "{again}");
}

#[test]
fn an_interrupted_recovery_is_told_and_completed() {
    let dir = copy();
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    for name in files.iter().filter_map(|name| name.to_str()) {
        if ["identity", "log-", "snapshot-"].iter().any(|kind| name.starts_with(kind)) {
            fs::copy(dir.path().join(name), dir.path().join(format!("recover-{name}"))).unwrap();
        }
    }
    for end in [inspect_dir(dir.path()), recover_dir(dir.path(), false)] {
        assert!(end.code == EX_CONFIG && end.err.as_ref().unwrap().contains("interrupted"), "{end:?}");
    }
    assert!(recover_dir(dir.path(), true).out.unwrap().contains("is complete"));
    assert!(!dir.path().join("recover-identity").exists());
    fs::write(dir.path().join("recover-log-1"), b"x").unwrap();
    replace::settle(&*DataDir::open(dir.path()).unwrap().disk).unwrap();
    assert!(!dir.path().join("recover-log-1").exists());
}

/// A file of that name need not be part of a recovery: `recover --yes` then removed the log and the snapshots.
#[test]
fn nothing_is_removed_for_a_stray_file() {
    for whole in [false, true] {
        let dir = copy();
        let stray = dir.path().join("recover-identity");
        let identity = fs::read(dir.path().join("identity")).unwrap();
        fs::write(&stray, if whole { &identity[..] } else { b"junk" }).unwrap();
        // But for the lock, which `recover` makes.
        let files = || all(dir.path()).into_keys().filter(|path| !path.ends_with("lock")).collect::<Vec<_>>();
        let before = files();
        for end in [inspect_dir(dir.path()), recover_dir(dir.path(), true)] {
            assert!(end.code == EX_CONFIG && end.err.as_ref().unwrap().contains("recover-identity"), "{end:?}");
        }
        assert_eq!(files(), before);
    }
}

/// It was read into memory, all 40 GB of it.
#[test]
fn a_segment_of_absurd_length_is_damage() {
    let dir = copy();
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path()).collect();
    let last = files.iter().filter(|path| path.to_str().unwrap().contains("/log-")).max().unwrap();
    fs::File::options().write(true).open(last).unwrap().set_len(40 << 30).unwrap();
    let end = inspect_dir(dir.path());
    assert!(end.code == EX_CONFIG && end.err.as_ref().unwrap().contains("segment may have"), "{end:?}");
}

/// Opening a named pipe waits for who writes it.
#[test]
fn a_named_pipe_or_a_link_in_a_directory_is_no_log() {
    for kind in ["pipe", "link"] {
        let dir = copy();
        let stray = dir.path().join("log-0000000000000001");
        let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path()).collect();
        files
            .iter()
            .filter(|path| path.to_str().unwrap().contains("/log-"))
            .for_each(|path| fs::remove_file(path).unwrap());
        match kind {
            "pipe" => assert!(std::process::Command::new("mkfifo").arg(&stray).status().unwrap().success()),
            _ => std::os::unix::fs::symlink("/dev/zero", &stray).unwrap(),
        }
        let end = inspect_dir(dir.path());
        assert!(end.code == EX_CONFIG && end.err.as_ref().unwrap().contains("log-0000000000000001"), "{end:?}");
    }
}
