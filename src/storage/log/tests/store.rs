//! The log in ordinary use, in memory and on a real directory.

use futures_util::TryStreamExt;
use rand::SeedableRng;

use super::*;
use crate::storage::disk::RealDisk;
use crate::storage::log::segment;

fn segments(disk: &dyn Disk) -> Vec<u64> {
    let mut ids: Vec<u64> = disk.list().unwrap().iter().filter_map(|name| segment::id_of(name)).collect();
    ids.sort_unstable();
    ids
}

/// Random steps against a model, reopened now and then, cleanly and not.
async fn follow_a_model(disk: Arc<dyn Disk>, seed: u64, steps: usize) {
    let mut store = LogStore::open(disk.clone(), small()).unwrap();
    assert!(store.is_empty());
    let mut script = Script::new(SmallRng::seed_from_u64(seed), State::default());
    for nth in 0..steps {
        let step = script.choose();
        script.perform(&store, step.clone()).await.unwrap();
        assert_eq!(&state(&store).await, script.now(), "seed {seed}, step {nth}: {step:?}");
        assert_eq!(store.last_log_index(), script.now().last.map(|id| id.index));
        if script.rng.random_range(0..12) == 0 {
            if script.rng.random() {
                store.close().unwrap();
            }
            drop(store);
            store = LogStore::open(disk.clone(), small()).unwrap();
            assert_eq!(&state(&store).await, script.now(), "seed {seed}, reopened after step {nth}");
            assert!(!store.is_empty());
        }
    }
    assert!(segments(&*disk)[0] > 1, "purged segments were removed");
}

#[tokio::test]
async fn a_log_in_memory_follows_the_model() {
    for seed in 0..12 {
        follow_a_model(Arc::new(MemDisk::without_crashes()), seed, 150).await;
    }
}

#[tokio::test]
async fn a_log_in_a_directory_follows_the_model() {
    let dir = tempfile::tempdir().unwrap();
    follow_a_model(Arc::new(RealDisk::open(dir.path()).unwrap()), 50, 120).await;
}

#[tokio::test]
async fn any_trace_of_raft_makes_a_log_not_empty() {
    let disk = MemDisk::new();
    for _ in 0..2 {
        assert!(open(&disk).unwrap().is_empty(), "opening alone leaves it empty");
    }
    let mut store = open(&disk).unwrap();
    store.save_vote(&vote(1)).await.unwrap();
    assert!(!store.is_empty());
    let mut purged = open(&MemDisk::new()).unwrap();
    purged.purge(id(1, 7)).await.unwrap();
    assert_eq!((purged.is_empty(), purged.last_log_index(), purged.bytes()), (false, Some(7), 0));
    let appended = open(&MemDisk::new()).unwrap();
    append(&appended, vec![entry(1, 0, 1)]).await.unwrap();
    assert!(!appended.is_empty());
}

#[tokio::test]
async fn records_of_any_size_fit_and_are_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path()).unwrap());
    let options = LogOptions {
        segment_bytes: 64 << 10,
        cache_bytes: 0,
        prezero: false,
        keeps_committed: false,
        ..LogOptions::default()
    };
    let entries: Vec<_> =
        (0..8).map(|n| entry(1, n, if n % 3 == 2 { 1 << 20 } else { (n as usize * 9_000) % 65_000 })).collect();
    let store = LogStore::open(disk.clone(), options.clone()).unwrap();
    append(&store, entries[..5].to_vec()).await.unwrap();
    append(&store, entries[5..].to_vec()).await.unwrap();
    assert_eq!(state(&store).await.entries, entries);
    drop(store);
    let store = LogStore::open(disk, options).unwrap();
    assert_eq!(state(&store).await.entries, entries);
    assert!(store.bytes() > 2 << 20);
}

#[tokio::test]
async fn reads_are_bounded_by_bytes_and_never_empty() {
    for cache_bytes in [0, 700_000, 64 << 20] {
        let options = LogOptions {
            segment_bytes: 1 << 20,
            cache_bytes,
            prezero: false,
            keeps_committed: false,
            ..LogOptions::default()
        };
        let store = LogStore::open(Arc::new(MemDisk::new()), options).unwrap();
        let mut entries: Vec<_> = (0..10).map(|n| entry(1, n, 300_000)).collect();
        entries.push(entry(1, 10, 3_000_000));
        append(&store, entries.clone()).await.unwrap();
        let mut reader = store.clone().get_log_reader().await;
        assert_eq!(reader.limited_get_log_entries(1, 11).await.unwrap(), entries[1..4]);
        assert_eq!(reader.limited_get_log_entries(10, 11).await.unwrap(), entries[10..]);
        assert_eq!(reader.limited_get_log_entries(9, 11).await.unwrap(), entries[9..10]);
        assert_eq!(reader.try_get_log_entries(2..=9).await.unwrap(), entries[2..10]);
        assert_eq!(reader.try_get_log_entries(11..).await.unwrap(), []);
        let streamed: Vec<_> = reader.entries_stream(1..11).await.try_collect().await.unwrap();
        assert_eq!(streamed, entries[1..]);
    }
}

#[tokio::test]
async fn purging_removes_segments_and_bytes() {
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    store.save_vote(&vote(3)).await.unwrap();
    append(&store, (0..60).map(|n| entry(1, n, 50)).collect()).await.unwrap();
    let (all, before) = (segments(&disk), store.bytes());
    append(&store, vec![entry(1, 60, 50)]).await.unwrap();
    let one = store.bytes() - before;
    assert!(all.len() > 6, "{all:?}");
    store.purge(id(1, 40)).await.unwrap();
    store.close().unwrap();
    let kept = segments(&disk);
    assert!(kept[0] > 1 && kept.len() < all.len() / 2 + 2 && kept.last() >= all.last(), "{all:?}, then {kept:?}");
    assert_eq!(store.bytes(), 20 * one);
    let durable = segments(&disk.crash(|_, _, _| 0));
    assert_eq!(durable, kept, "removals are flushed");
    let store = open(&disk).unwrap();
    let found = state(&store).await;
    assert_eq!((found.vote, found.purged, found.entries.len()), (Some(vote(3)), Some(id(1, 40)), 20));
    assert_eq!(store.bytes(), 20 * one);
}

#[tokio::test]
async fn segments_are_zeroed_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.path()).unwrap());
    let options = LogOptions {
        segment_bytes: 32 << 10,
        cache_bytes: 0,
        prezero: true,
        keeps_committed: false,
        ..LogOptions::default()
    };
    let store = LogStore::open(disk.clone(), options.clone()).unwrap();
    let mut zeroed = 0;
    for index in 0.. {
        append(&store, vec![entry(1, index, 4000)]).await.unwrap();
        let newest = disk.open(&segment::name(*segments(&*disk).last().unwrap())).unwrap();
        // A segment that just began, and has its whole length already.
        zeroed += usize::from(index % 7 == 0 && newest.len().unwrap() == options.segment_bytes);
        if zeroed > 2 {
            break;
        }
        assert!(index < 5000, "no segment was ever zeroed ahead");
    }
    let expected = state(&store).await;
    drop(store);
    let store = LogStore::open(disk.clone(), options).unwrap();
    assert_eq!(state(&store).await, expected);
    drop(store);
}

#[tokio::test]
async fn files_of_others_are_left_alone_and_a_left_over_spare_goes() {
    let disk = MemDisk::new();
    for name in ["identity", "log-notes", crate::storage::log::spare::SPARE_NAME] {
        disk.put(name, b"x".to_vec());
    }
    drop(open(&disk).unwrap());
    assert_eq!(disk.list().unwrap(), ["identity", &segment::name(1), "log-notes"]);
}

/// Files of two directories that were mixed: the node would have another's votes, and lack its own entries.
#[tokio::test]
async fn the_log_of_another_node_is_not_opened() {
    let disk = MemDisk::new();
    let store = open(&disk).unwrap();
    append(&store, (0..60).map(|n| entry(1, n, 50)).collect()).await.unwrap();
    store.close().unwrap();
    drop(store);
    let before: Vec<_> = disk.list().unwrap().iter().map(|name| disk.bytes(name)).collect();
    let opened = LogStore::open(Arc::new(disk.clone()), LogOptions { owner: Some(2), ..small() });
    assert!(matches!(opened, Err(StorageError::Foreign { found: 1, expected: 2, .. })), "{opened:?}");
    assert!(disk.list().unwrap().iter().map(|name| disk.bytes(name)).eq(before), "nothing was changed");

    // One segment in the place of another of the same id.
    let other = MemDisk::new();
    let store = LogStore::open(Arc::new(other.clone()), LogOptions { owner: Some(2), ..small() }).unwrap();
    append(&store, (0..60).map(|n| entry(1, n, 50)).collect()).await.unwrap();
    store.close().unwrap();
    drop(store);
    for id in 2..5 {
        let mixed = MemDisk::new();
        for name in disk.list().unwrap() {
            let from = if name == segment::name(id) { &other } else { &disk };
            mixed.put(&name, from.bytes(&name).unwrap());
        }
        let opened = open(&mixed);
        assert!(matches!(opened, Err(StorageError::Damaged { .. })), "segment {id}: {opened:?}");
    }
}

/// A follower whose entries conflict with a snapshot truncates them, and purges beyond the end that this leaves. It may
/// do so where a segment has just begun, and those before it go later: the new one then tells it alone.
#[tokio::test]
async fn a_snapshot_in_place_of_entries_of_an_older_segment_is_no_damage() {
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    let mut first = 0;
    while disk.list().unwrap().len() < 3 {
        first += 1;
        append(&store, vec![entry(1, first, 50)]).await.unwrap();
    }
    // Entry `first` is the first of the newest segment.
    store.truncate_after(Some(id(1, first - 5))).await.unwrap();
    store.purge(id(2, first - 2)).await.unwrap();
    // A flush: the purge itself waits for none.
    store.save_vote(&vote(2)).await.unwrap();
    let files = disk.list().unwrap().len();
    assert!(files > 1, "an older segment with entries beyond the snapshot is kept");
    append(&store, vec![entry(2, first - 1, 0), entry(2, first, 0)]).await.unwrap();
    let whole = state(&store).await;
    drop(store);
    assert_eq!(state(&open(&disk).unwrap()).await, whole);

    let mut store = open(&disk).unwrap();
    store.purge(id(2, first - 1)).await.unwrap();
    store.save_vote(&vote(3)).await.unwrap();
    let known = state(&store).await;
    drop(store);
    assert_eq!(disk.list().unwrap(), [segment::name(3)], "the older segments are gone");
    let reopened = open(&disk).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(state(&reopened).await, known);
}
