use std::cell::Cell;
use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::command::{Action, Command, Retry, Stamped, Value};
use crate::raft_types::TypeConfig;
use crate::record::{Marks, Rare, Record};
use crate::storage::disk::{MemDisk, RealDisk};
use crate::storage::test_disk::crash_everywhere;

const CLUSTER: ClusterId = ClusterId(7);

fn meta(term: u64, index: u64) -> SnapshotMeta {
    let log_id = LogId::new(openraft::alias::CommittedLeaderIdOf::<TypeConfig>::new(term), index);
    SnapshotMeta { last_log_id: Some(log_id), ..SnapshotMeta::default() }
}

fn record(value: &[u8]) -> Record {
    Record::new(Marks { create_index: 2, modify_index: 5, version: 3 }, &Rare::default(), value)
}

fn map(seed: u64, keys: usize, value_bytes: usize) -> KvStore {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut kv = KvStore::new();
    for _ in 0..keys {
        let len = rng.random_range(0..=value_bytes);
        let value: Vec<u8> = (0..len).map(|_| rng.random()).collect();
        kv.restore(format!("key-{}", rng.random::<u32>()).into(), record(&value));
    }
    for index in 1..=keys as u64 / 2 {
        kv.apply(index, &everything(index, rng.random()), &mut Vec::new());
    }
    kv
}

/// A key with all there is to know of it, a lock with a queue, a kept outcome.
fn everything(index: u64, number: u32) -> Command {
    let name = format!("lock-{}", number % 10).into();
    let value = Value { data: number.to_le_bytes().to_vec().into(), is_bytes: true, content_type: Some("a/b".into()) };
    let action = match index % 2 {
        0 => Action::Acquire { name, ttl_ms: 1_000, body: Some("{}".into()), wait_ms: u64::from(number) },
        _ => Action::Put { key: format!("put-{number}").into(), value, ttl_ms: Some(60_000), conditions: Vec::new() },
    };
    let retry = Some(Retry { key: format!("u-{number}").into(), digest: number.into(), window_ms: 600_000 });
    Command::Stamped(Stamped { stamp_ms: index, retry, action })
}

fn open_as(disk: &MemDisk, cluster: Option<ClusterId>) -> Result<SnapshotStore, StorageError> {
    SnapshotStore::open(Arc::new(disk.clone()), ClusterHandle::new(cluster))
}

fn open(disk: &MemDisk) -> SnapshotStore {
    open_as(disk, Some(CLUSTER)).unwrap()
}

fn write(store: &SnapshotStore, meta: &SnapshotMeta, kv: &KvStore) -> Result<SnapshotFile, StorageError> {
    store.write(meta, CLUSTER, kv)
}

/// Opens and loads what is there.
fn restore(disk: &MemDisk) -> Result<Option<(SnapshotMeta, KvStore)>, StorageError> {
    let store = open_as(disk, Some(CLUSTER))?;
    store.current().map(|file| Ok((file.meta().clone(), store.load(&file)?))).transpose()
}

fn receive(store: &SnapshotStore, bytes: &[u8]) -> Result<SnapshotFile, StorageError> {
    let mut incoming = store.receive()?;
    for chunk in bytes.chunks(5000) {
        incoming.write(chunk)?;
    }
    assert_eq!(incoming.received(), bytes.len() as u64);
    incoming.finish(None)
}

fn bytes_of(file: &SnapshotFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len()).unwrap()];
    file.file().read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// The bytes of a snapshot with these blocks' worth of values.
fn sample(kv: &KvStore) -> Vec<u8> {
    bytes_of(&write(&open(&MemDisk::new()), &meta(1, 5), kv).unwrap())
}

#[test]
fn it_round_trips() {
    let dir = tempfile::tempdir().unwrap();
    let disks: [Arc<dyn Disk>; 2] = [Arc::new(MemDisk::new()), Arc::new(RealDisk::open(dir.path()).unwrap())];
    for disk in disks {
        let open = || SnapshotStore::open(disk.clone(), ClusterHandle::new(Some(CLUSTER))).unwrap();
        assert!(open().current().is_none());
        let mut large = map(1, 2000, 600);
        for i in 0..3 {
            large.restore(format!("large-{i}").into(), record(&vec![i; 1 << 20]));
        }
        large.restore("".into(), record(b""));
        large.restore("k".repeat(4096).into(), "\u{1F980}".into());
        for (index, kv) in [(5, KvStore::new()), (6, map(2, 1, 10)), (700, large)] {
            let written = write(&open(), &meta(2, index), &kv).unwrap();
            let store = open();
            let found = store.current().unwrap();
            assert_eq!((found.meta(), found.cluster(), found.len()), (&meta(2, index), CLUSTER, written.len()));
            assert_eq!(found.len(), found.file().len().unwrap());
            assert!(store.load(&found).unwrap() == kv);
            assert_eq!(disk.list().unwrap(), [format!("snapshot-{index:016x}-00000002")], "only the newest is kept");
        }
    }
}

#[test]
fn it_never_goes_back() {
    let disk = MemDisk::new();
    let store = open(&disk);
    write(&store, &meta(2, 9), &map(1, 10, 10)).unwrap();
    for older in [meta(2, 9), meta(2, 8), meta(1, 9)] {
        assert_eq!(*write(&store, &older, &KvStore::new()).unwrap().meta(), meta(2, 9));
    }
    let older = receive(&store, &sample(&KvStore::new())).unwrap();
    assert_eq!(*store.install(&older).unwrap().meta(), meta(2, 9));
    drop(older);
    assert_eq!(disk.list().unwrap().len(), 1);
    let nothing = write(&store, &SnapshotMeta::default(), &KvStore::new()).unwrap_err();
    assert!(matches!(nothing, StorageError::Io { source, .. } if source.kind() == io::ErrorKind::InvalidInput));
}

#[test]
fn a_transfer_outlives_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let disks: [Arc<dyn Disk>; 2] = [Arc::new(MemDisk::new()), Arc::new(RealDisk::open(dir.path()).unwrap())];
    for disk in disks {
        let store = SnapshotStore::open(disk.clone(), ClusterHandle::new(Some(CLUSTER))).unwrap();
        let kv = map(1, 100, 100);
        let old = write(&store, &meta(1, 1), &kv).unwrap();
        write(&store, &meta(1, 2), &KvStore::new()).unwrap();
        assert_eq!(disk.list().unwrap().len(), 1);
        assert!(store.load(&old).unwrap() == kv);
    }
}

#[test]
fn a_crash_keeps_the_old_or_the_new() {
    let (old, new) = ((meta(1, 3), map(3, 50, 100)), (meta(1, 8), map(4, 40, 2000)));
    let base = || {
        let disk = MemDisk::new();
        write(&open(&disk), &old.0, &old.1).unwrap();
        disk
    };
    let received = {
        let disk = MemDisk::new();
        bytes_of(&write(&open(&disk), &new.0, &new.1).unwrap())
    };
    let build = |store: &SnapshotStore| write(store, &new.0, &new.1).is_ok();
    let receive = |store: &SnapshotStore| receive(store, &received).is_ok_and(|file| store.install(&file).is_ok());
    let acts: [&dyn Fn(&SnapshotStore) -> bool; 2] = [&build, &receive];
    for act in acts {
        let (olds, news) = (Cell::new(0), Cell::new(0));
        let points = crash_everywhere(
            base,
            |disk| {
                let store = SnapshotStore::open(disk, ClusterHandle::new(Some(CLUSTER)));
                store.is_ok_and(|store| act(&store))
            },
            |after, done| {
                let found = restore(after).unwrap().unwrap();
                assert!(found == new || (found == old && !done));
                let count = if found == new { &news } else { &olds };
                count.set(count.get() + 1);
                assert_eq!(after.list().unwrap().len(), 1, "the rest is cleaned up");
            },
        );
        assert!(points > 5 && olds.get() > 0 && news.get() > 0, "{points} {olds:?} {news:?}");
    }
}

#[test]
fn a_failed_write_keeps_the_old_and_leaves_nothing() {
    let disk = MemDisk::new();
    let store = open(&disk);
    let kv = map(1, 100, 100);
    write(&store, &meta(1, 1), &kv).unwrap();
    disk.fail_with(Some(io::ErrorKind::StorageFull));
    assert!(matches!(write(&store, &meta(1, 2), &kv), Err(StorageError::Io { .. })));
    disk.fail_with(None);
    store.stop();
    assert!(matches!(write(&store, &meta(1, 2), &kv), Err(StorageError::Io { .. })));
    assert_eq!(*store.current().unwrap().meta(), meta(1, 1));
    assert_eq!(disk.list().unwrap().len(), 1);
    assert_eq!(restore(&disk).unwrap().unwrap().0, meta(1, 1));
}

#[test]
fn damage_is_always_told() {
    let mut kv = map(5, 50, 1000);
    kv.restore("large".into(), record(&[7; 20_000]));
    let good = sample(&kv);
    let name = name_from_id((5, 1));
    let check = |bytes: Vec<u8>, what: &str| {
        let disk = MemDisk::without_crashes();
        disk.put(&name, bytes.clone());
        let found = restore(&disk).map(|found| found.is_some());
        assert!(matches!(found, Err(StorageError::Damaged { .. })), "{what}: {found:?}");
        let store = open(&MemDisk::without_crashes());
        let found = receive(&store, &bytes);
        assert!(matches!(found, Err(StorageError::Damaged { .. })), "{what}: {found:?}");
        assert!(store.list().unwrap().is_empty(), "{what}");
    };
    let mut rng = StdRng::seed_from_u64(6);
    // Every bit of the head and of the end, and many between.
    let bits = good.len() * 8;
    let sampled: Vec<usize> = (0..300).map(|_| rng.random_range(0..bits)).collect();
    for bit in (0..400).chain(sampled).chain(bits - 8 * 40..bits) {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        check(bytes, &format!("bit {bit}"));
    }
    let sampled: Vec<usize> = (0..200).map(|_| rng.random_range(0..good.len())).collect();
    for len in (0..60).chain(sampled).chain(good.len() - 30..good.len()) {
        check(good[..len].to_vec(), &format!("cut to {len}"));
    }
    check([good.as_slice(), &[0]].concat(), "longer");
    for _ in 0..100 {
        let (from, to) = (rng.random_range(0..good.len()), rng.random_range(0..good.len()));
        let mut bytes = good.clone();
        bytes.drain(from.min(to)..from.max(to) + 1);
        check(bytes, &format!("without {from}..{to}"));
    }
}

#[test]
fn a_damaged_newest_is_no_reason_to_use_an_older_one() {
    let disk = MemDisk::new();
    write(&open(&disk), &meta(1, 1), &map(1, 10, 10)).unwrap();
    let mut bytes = sample(&map(5, 10, 10));
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    disk.put(&name_from_id((5, 1)), bytes);
    assert!(matches!(restore(&disk), Err(StorageError::Damaged { .. })));
    assert_eq!(disk.list().unwrap().len(), 2, "the older one is left for who repairs it");
}

#[test]
fn what_is_not_of_this_cluster_or_version_is_told() {
    let bytes = sample(&map(1, 10, 10));
    let disk = MemDisk::new();
    disk.put(&name_from_id((5, 1)), bytes.clone());
    let found = open_as(&disk, Some(ClusterId(8)));
    assert!(matches!(found, Err(StorageError::Mixed { found: CLUSTER, expected: ClusterId(8), .. })));
    assert!(open_as(&disk, None).is_ok(), "not known yet");
    let other = open_as(&MemDisk::new(), Some(ClusterId(8))).unwrap();
    assert!(matches!(receive(&other, &bytes), Err(StorageError::Mixed { found: CLUSTER, .. })));

    disk.put(&name_from_id((5, 1)), crate::storage::file_header::seal(format::MAGIC, 4, b"of another time").0);
    assert!(matches!(open_as(&disk, None), Err(StorageError::Version { found: 4, known: 3, .. })));

    let disk = MemDisk::new();
    disk.put(&name_from_id((6, 1)), bytes);
    assert!(matches!(open_as(&disk, None), Err(StorageError::Damaged { .. })), "the name says another index");
}

#[test]
fn half_a_transfer_leaves_nothing() {
    let disk = MemDisk::new();
    let store = open(&disk);
    let bytes = sample(&map(1, 10, 10));
    let mut incoming = store.receive().unwrap();
    incoming.write(&bytes[..50]).unwrap();
    assert_eq!(disk.list().unwrap().len(), 1);
    drop(incoming);
    assert!(disk.list().unwrap().is_empty());

    let mut incoming = store.receive().unwrap();
    incoming.write(&bytes).unwrap();
    assert!(matches!(incoming.finish(Some(&meta(1, 6))), Err(StorageError::Damaged { .. })), "not the announced one");
    drop(receive(&store, &bytes).unwrap());
    assert!(disk.list().unwrap().is_empty() && store.current().is_none(), "received, never installed");

    let mut incoming = store.receive().unwrap();
    incoming.write(&bytes).unwrap();
    let file = incoming.finish(Some(&meta(1, 5))).unwrap();
    assert_eq!(*store.install(&file).unwrap().meta(), meta(1, 5));
    assert_eq!(*store.install(&file).unwrap().meta(), meta(1, 5), "again");
    assert_eq!(disk.list().unwrap(), [name_from_id((5, 1))]);
}

#[test]
fn a_snapshot_of_another_directory_is_copied() {
    let (from, to) = (open(&MemDisk::new()), MemDisk::new());
    let kv = map(1, 100, 30_000);
    let file = write(&from, &meta(1, 5), &kv).unwrap();
    open(&to).install(&file).unwrap();
    assert!(restore(&to).unwrap().unwrap() == (meta(1, 5), kv));
    let received = receive(&from, &sample(&KvStore::new())).unwrap();
    let to = MemDisk::new();
    open(&to).install(&received).unwrap();
    assert!(restore(&to).unwrap().unwrap() == (meta(1, 5), KvStore::new()));
    assert_eq!(from.list().unwrap().len(), 2, "not the other's to rename");
}

#[test]
fn names_parse_back() {
    let names: BTreeMap<SnapshotId, &str> = [
        ((1, 2), "snapshot-0000000000000001-00000002"),
        ((u64::MAX, 1 << 40), "snapshot-ffffffffffffffff-10000000000"),
    ]
    .into();
    for (place, name) in names {
        assert_eq!((name_from_id(place).as_str(), id_in_name(name)), (name, Some(place)));
    }
    for other in ["snapshot-1-2", "snapshot-build-1.tmp", "snapshot-000000000000000A-00000001", "log-1", "snapshot-"] {
        assert_eq!(id_in_name(other), None);
    }
}

#[test]
fn a_hole_between_snapshot_and_log_is_told() {
    let store = open(&MemDisk::new());
    let purged = |index| meta(1, index).last_log_id;
    let told = |index| {
        let found = store.check_log(purged(index).as_ref());
        matches!(found, Err(StorageError::Damaged { .. }))
    };
    assert!(store.check_log(None).is_ok() && told(0));
    write(&store, &meta(1, 5), &KvStore::new()).unwrap();
    assert!(store.check_log(None).is_ok() && !told(5) && told(6));
}
