//! Damage: a log whose flushed bytes changed is not opened, and never read wrongly.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::storage::log::FORMAT_VERSION;
use crate::storage::log::frame::{self, FrameLocation};
use crate::storage::log::record::{Head, encode, kind};
use crate::storage::log::segment::{self, FILE_HEADER_BYTES};

/// Segments of a log: name, bytes, how many of them hold frames, and where the last batch starts.
pub struct Layout {
    pub files: Vec<(String, Vec<u8>)>,
    used: Vec<usize>,
    /// File and offset of the first frame of the last batch.
    last_batch: (usize, usize),
    /// Its number.
    batch: u64,
}

fn layout(disk: &MemDisk) -> Layout {
    let files: Vec<_> =
        disk.list().unwrap().into_iter().map(|name| (name.clone(), disk.bytes(&name).unwrap())).collect();
    let (mut used, mut last) = (Vec::new(), (0, (0, 0)));
    for (nth, (name, bytes)) in files.iter().enumerate() {
        let segment = segment::id_of(name).unwrap();
        let mut at = FILE_HEADER_BYTES;
        let read = |at: usize| {
            let place = FrameLocation { segment, offset: at as u64 };
            let owners = [small().owner, None];
            owners.iter().find_map(|owner| frame::read(bytes.get(at..)?, *owner, place))
        };
        while let Some(frame) = read(at) {
            if frame.batch != last.0 {
                last = (frame.batch, (nth, at));
            }
            at += frame.bytes();
        }
        used.push(at);
    }
    Layout { files, used, last_batch: last.1, batch: last.0 }
}

pub async fn played(seed: u64, close: bool) -> (Script, Layout) {
    played_with(small(), seed, close).await
}

pub async fn played_with(options: LogOptions, seed: u64, close: bool) -> (Script, Layout) {
    let disk = MemDisk::new();
    let store = LogStore::open(Arc::new(disk.clone()), options).unwrap();
    let mut script = Script::new(SmallRng::seed_from_u64(seed), State::default());
    script.play(&store, 30).await;
    script.perform(&store, Step::Vote(vote(99))).await.unwrap();
    let next = script.now().last.map_or(0, |id| id.index + 1);
    script.perform(&store, Step::Append((next..next + 3).map(|n| entry(99, n, 30)).collect())).await.unwrap();
    if close {
        store.close().unwrap();
    }
    drop(store);
    (script, layout(&disk.crash(|_, _, _| 0)))
}

pub fn put(files: &[(String, Vec<u8>)]) -> MemDisk {
    let disk = MemDisk::new();
    for (name, bytes) in files {
        disk.put(name, bytes.clone());
    }
    disk
}

/// The result of opening: damage, or a state.
async fn outcome(files: &[(String, Vec<u8>)], what: &str) -> Option<State> {
    match open(&put(files)) {
        Ok(store) => Some(state(&store).await),
        Err(StorageError::Damaged { .. }) => None,
        Err(other) => panic!("{what}: {other}"),
    }
}

#[tokio::test]
async fn bytes_that_changed_are_damage_unless_a_torn_write_explains_them() {
    let (mut cases, mut damaged, mut torn) = (0, 0, 0);
    for seed in 0..16 {
        let close = seed % 2 == 0;
        let (script, log) = played(seed, close).await;
        assert_eq!(outcome(&log.files, "intact").await.as_ref(), Some(script.now()));
        let mut rng = SmallRng::seed_from_u64(1000 + seed);
        for case in 0..180 {
            let mut files = log.files.clone();
            let nth = rng.random_range(0..files.len());
            let is_newest = nth == files.len() - 1;
            let bytes = &mut files[nth].1;
            let at = rng.random_range(0..bytes.len());
            // A cut of the newest file takes all proof with it: see the next test.
            let mut end = at + 1;
            let kind = rng.random_range(0..if is_newest { 3 } else { 4 });
            match kind {
                0 => bytes[at] ^= 1 << rng.random_range(0..8),
                1 => bytes[at] ^= rng.random_range(1..=255),
                2 => {
                    end = (at + rng.random_range(1..40)).min(bytes.len());
                    bytes[at..end].iter_mut().for_each(|byte| *byte = !*byte);
                }
                _ => bytes.truncate(at),
            }
            let what = format!("seed {seed}, case {case}: kind {kind} at {at} of {}", files[nth].0);
            let found = outcome(&files, &what).await;
            cases += 1;
            let must_be_seen = at < log.used[nth] && (nth, end - 1) < log.last_batch;
            // From before the last batch into it: as a cut, it takes the proof along.
            let takes_proof = (nth, at) < log.last_batch && (nth, end - 1) >= log.last_batch;
            match found {
                None => damaged += 1,
                Some(found) => {
                    assert!(!must_be_seen, "{what} was not seen");
                    if takes_proof {
                        assert!(script.states.contains(&found), "{what}: {found:?}");
                    } else if close {
                        assert_eq!(&found, script.now(), "{what}");
                    } else {
                        assert!(script.states[script.before..].contains(&found), "{what}: {found:?}");
                        torn += usize::from(&found != script.now());
                    }
                }
            }
        }
    }
    assert!(cases >= 2500 && damaged > 1000 && torn > 50, "{cases} cases, {damaged} damaged, {torn} torn");
}

#[tokio::test]
async fn every_flipped_bit_before_the_last_batch_is_damage() {
    let (_, log) = played(3, false).await;
    for nth in 0..log.files.len() {
        for at in (0..log.used[nth]).filter(|at| (nth, *at) < log.last_batch) {
            let mut files = log.files.clone();
            files[nth].1[at] ^= 1 << (at % 8);
            assert_eq!(outcome(&files, "flip").await, None, "byte {at} of {}", files[nth].0);
        }
    }
}

/// Zeros over the newest segment's end, or a file cut short, leave no trace of what was there; the
/// log is then an earlier one, never another one.
#[tokio::test]
async fn a_cut_of_the_newest_segment_leaves_an_earlier_log() {
    let (script, log) = played(5, false).await;
    let newest = log.files.len() - 1;
    for at in 0..log.files[newest].1.len() {
        let mut files = log.files.clone();
        files[newest].1.truncate(at);
        if let Some(found) = outcome(&files, "cut").await {
            assert!(script.states.contains(&found), "cut to {at}: {found:?}");
        }
    }
}

#[tokio::test]
async fn after_a_clean_stop_any_bad_frame_is_damage() {
    for (close, expected) in [(true, false), (false, true)] {
        let (script, mut log) = played(1, close).await;
        // The append before the mark: without one, the last batch.
        let (nth, at) = log.last_batch;
        let at = if close { at - 10 } else { at + 10 };
        log.files[nth].1[at] ^= 1;
        let found = outcome(&log.files, "flip").await;
        assert_eq!(found.is_some(), expected, "closed: {close}");
        assert!(found.is_none_or(|found| script.states[script.before..].contains(&found)));
    }
    let (_, mut log) = played(1, true).await;
    log.files.last_mut().unwrap().1.extend_from_slice(b"\0\0x");
    assert_eq!(outcome(&log.files, "more").await, None);
}

/// The bytes of a start that breaks off after a clean stop are known; nothing else passes for them.
#[tokio::test]
async fn a_flip_about_the_mark_of_a_clean_stop_is_seen_once_anything_was_acknowledged_behind() {
    let (mut script, log) = played(1, true).await;
    let (nth, mark) = log.last_batch;
    let disk = put(&log.files);
    let store = open(&disk).unwrap();
    let next = script.now().last.map_or(0, |id| id.index + 1);
    script.perform(&store, Step::Append(vec![entry(99, next, 5)])).await.unwrap();
    drop(store);
    let written = layout(&disk.crash(|_, _, _| 0));
    assert_eq!(written.last_batch.0, nth, "in one segment");
    for at in mark..written.last_batch.1 {
        for bit in 0..8 {
            let mut files = written.files.clone();
            files[nth].1[at] ^= 1 << bit;
            assert_eq!(outcome(&files, "flip").await, None, "bit {bit} at {at}");
        }
        // All from there on as if it had never been written, but for what was acknowledged last.
        let mut files = written.files.clone();
        files[nth].1[at..written.last_batch.1].fill(0);
        assert_eq!(outcome(&files, "zeros").await, None, "zeros from {at} on");
    }
    // Behind the mark, no byte but those of the frame that a start writes.
    let opened = &written.files[nth].1[log.used[nth]..written.last_batch.1];
    for at in 0..opened.len() + 9 {
        let mut files = log.files.clone();
        let bytes = &mut files[nth].1;
        bytes.resize(log.used[nth] + opened.len() + 9, 0);
        let meant = opened.get(at).copied().unwrap_or(0);
        bytes[log.used[nth] + at] = meant;
        assert!(outcome(&files, "torn").await.is_some(), "{meant} at {at}");
        files[nth].1[log.used[nth] + at] = meant ^ 0x10;
        let found = outcome(&files, "not torn").await;
        assert_eq!(found.is_some(), meant == 0x10, "{at}");
    }
}

/// Bytes that were cut off may come back: a disk may lie about zeros. They must not pass for the new log.
#[tokio::test]
async fn after_a_cut_batch_numbers_are_new() {
    let (_, mut log) = played(1, false).await;
    let (nth, at) = log.last_batch;
    log.files[nth].1[at] ^= 1;
    let disk = put(&log.files);
    drop(open(&disk).unwrap());
    let reopened = layout(&disk);
    assert!(reopened.batch > log.batch, "{} after {}", reopened.batch, log.batch);
}

/// Older segments went when this one was whole: without its head it cannot stand for them.
#[tokio::test]
async fn an_oldest_segment_without_its_head_is_damage() {
    let disk = MemDisk::new();
    let store = open(&disk).unwrap();
    append(&store, (0..20).map(|n| entry(1, n, 50)).collect()).await.unwrap();
    store.clone().purge(id(1, 25)).await.unwrap();
    store.close().unwrap();
    let log = layout(&disk);
    assert!(log.files.len() == 1 && log.files[0].0 != segment::name(1), "one segment is left");
    for kept in [0, FILE_HEADER_BYTES] {
        let mut files = log.files.clone();
        files[0].1[kept..].fill(0);
        assert_eq!(outcome(&files, "no head").await, None);
    }
}

#[tokio::test]
async fn a_missing_segment_is_damage() {
    let mut removed = 0;
    for seed in 0..8 {
        let (script, log) = played(seed, seed % 2 == 0).await;
        for nth in 0..log.files.len() {
            let mut files = log.files.clone();
            let (name, _) = files.remove(nth);
            // The only file of a log is all there is to know of it.
            if !files.is_empty() {
                removed += 1;
                let found = outcome(&files, &name).await;
                // The oldest may hold nothing but entries that were truncated.
                let was_needless = nth == 0 && found.as_ref() == Some(script.now());
                assert!(found.is_none() || was_needless, "seed {seed} without {name}");
            }
        }
    }
    assert!(removed > 20, "{removed}");
}

#[tokio::test]
async fn a_segment_under_another_name_is_damage() {
    let (_, mut log) = played(0, false).await;
    let (first, second) = (log.files[0].1.clone(), log.files[1].1.clone());
    (log.files[0].1, log.files[1].1) = (second, first);
    assert_eq!(outcome(&log.files, "swapped").await, None);
}

#[tokio::test]
async fn an_unknown_version_is_told_as_such_wherever_it_is() {
    let (_, log) = played(0, false).await;
    for nth in 0..log.files.len() {
        let mut files = log.files.clone();
        let id = segment::id_of(&files[nth].0).unwrap();
        files[nth].1[..FILE_HEADER_BYTES].copy_from_slice(&segment::header(id, FORMAT_VERSION + 1));
        match open(&put(&files)) {
            Err(StorageError::Version { file, found, known: FORMAT_VERSION }) => {
                assert!(found == FORMAT_VERSION + 1 && file.ends_with(&files[nth].0));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The disk may change after the log was opened, too.
#[tokio::test]
async fn an_entry_that_cannot_be_read_back_fails_the_log() {
    let disk = MemDisk::new();
    let store = open(&disk).unwrap();
    append(&store, (0..20).map(|n| entry(1, n, 50)).collect()).await.unwrap();
    let mut reader = store.clone().get_log_reader().await;
    assert_eq!(reader.try_get_log_entries(0..20).await.unwrap().len(), 20);
    let name = segment::name(1);
    disk.open(&name).unwrap().write_all_at(b"!!!!", 200).unwrap();
    let error = reader.try_get_log_entries(0..20).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains(&name), "{error}");
    assert!(store.failed().borrow().as_ref().unwrap().contains(&name));
    assert!(append(&store, vec![entry(1, 20, 0)]).await.is_err());
    assert!(store.close().is_err());
}

/// Found by fuzzing (`tests/fuzz/log.rs`): checksums that are right do not make records right.
#[test]
fn records_that_cannot_follow_are_damage() {
    let entry_at = |index| (kind::ENTRY, 2, encode(Vec::new(), &entry(1, index, 3)));
    let purge = |upto| (kind::PURGE, 3, encode(Vec::new(), &id(1, upto)));
    let truncate = |after| (kind::TRUNCATE, 4, encode(Vec::new(), &Some(id(1, after))));
    let purge_then = |batch, upto| (kind::PURGE, batch, encode(Vec::new(), &id(1, upto)));
    let last = Head { last: Some(id(1, u64::MAX)), ..Head::default() };
    // Entries 80 to 107 are in segments that are gone.
    let gone = Head { purged: Some(id(1, 79)), last: Some(id(1, 107)), ..Head::default() };
    let gone = || (kind::HEAD, 1, encode(Vec::new(), &gone));
    for (records, good) in [
        (vec![entry_at(7), purge(6)], true),
        (vec![entry_at(7), purge(7)], true),
        (vec![entry_at(7), purge(5)], false),
        (vec![entry_at(7), truncate(6), purge_then(5, 5)], false),
        (vec![entry_at(7), truncate(6), purge_then(5, 6)], true),
        (vec![gone(), entry_at(108)], false),
        (vec![gone(), entry_at(108), purge(106)], false),
        (vec![gone(), entry_at(108), purge(107)], true),
        (vec![gone(), entry_at(108), truncate(100)], false),
        (vec![gone(), entry_at(108), truncate(100), purge_then(5, 99)], false),
        (vec![gone(), entry_at(108), truncate(100), purge_then(5, 100)], true),
        (vec![gone(), entry_at(108), truncate(100), purge_then(5, 106)], true),
        (vec![gone(), entry_at(108), truncate(100), purge_then(5, 200)], true),
        (vec![entry_at(u64::MAX - 1)], true),
        (vec![entry_at(u64::MAX)], false),
        (vec![purge(u64::MAX)], false),
        (vec![(kind::TRUNCATE, 2, encode(Vec::new(), &Some(id(1, u64::MAX))))], false),
        (vec![(kind::COMMITTED, 2, encode(Vec::new(), &Some(id(1, u64::MAX))))], false),
        (vec![(kind::HEAD, 2, encode(Vec::new(), &last))], false),
        (vec![(kind::OPENED, u64::MAX, Vec::new())], false),
        (vec![(kind::OPENED, u64::MAX - 1, Vec::new())], false),
        (vec![(kind::OPENED, u64::MAX >> 1, Vec::new())], true),
    ] {
        let mut bytes = segment::header(1, FORMAT_VERSION).to_vec();
        let head = (kind::HEAD, 1, encode(Vec::new(), &Head::default()));
        let head = if records[0].0 == kind::HEAD { None } else { Some(head) };
        for (kind, batch, payload) in head.iter().chain(&records) {
            let at = bytes.len();
            let place = FrameLocation { segment: 1, offset: at as u64 };
            frame::push(&mut bytes, None, place, *batch, *kind, payload);
            frame::end_batch(&mut bytes[at..], None, place);
        }
        let opened = open(&put(&[(segment::name(1), bytes)]));
        assert_eq!(opened.is_ok(), good, "{records:?}: {:?}", opened.err());
    }
}
