//! Failing disks, group commit, and the end of a log's life.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::*;

/// Queues an append; the receiver gets what the callback got.
async fn queue(store: &LogStore, entries: Vec<LogEntry>) -> oneshot::Receiver<io::Result<()>> {
    let (callback, receiver) = callback();
    store.clone().append(entries, callback).await.unwrap();
    receiver
}

/// A disk whose flushes, once armed, wait until they are released.
struct Gate {
    disk: HookedDisk,
    armed: Arc<AtomicBool>,
    /// Flushes while armed.
    syncs: Arc<AtomicUsize>,
    arrivals: mpsc::Receiver<()>,
    /// The results of the flushes; once it is dropped, all succeed.
    release: mpsc::Sender<io::Result<()>>,
}

fn gated() -> Gate {
    let (arrived, arrivals) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let (armed, syncs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let released = Mutex::new(released);
    let hook = {
        let (armed, syncs) = (armed.clone(), syncs.clone());
        move |change| {
            if change == Change::Sync && armed.load(Ordering::SeqCst) {
                syncs.fetch_add(1, Ordering::SeqCst);
                let _ = arrived.send(());
                return released.lock().recv().unwrap_or(Ok(()));
            }
            Ok(())
        }
    };
    Gate { disk: HookedDisk::new(MemDisk::new(), hook), armed, syncs, arrivals, release }
}

fn roomy() -> LogOptions {
    LogOptions { segment_bytes: 1 << 20, ..small() }
}

/// Issue 18, D10: a flush that hung was told nowhere.
#[tokio::test]
async fn a_flush_that_hangs_is_seen() {
    let Gate { disk, armed, arrivals, release, .. } = gated();
    let store = LogStore::open(Arc::new(disk), roomy()).unwrap();
    assert_eq!(store.flushing(), None);
    armed.store(true, Ordering::SeqCst);
    let waiting = queue(&store, vec![entry(1, 0, 10)]).await;
    arrivals.recv().unwrap();
    let (file, age) = store.flushing().unwrap();
    assert!(file.contains("log-"), "{file}");
    assert!(store.flushing().is_some_and(|(_, later)| later >= age));
    drop(release);
    waiting.await.unwrap().unwrap();
    assert_eq!(store.flushing(), None);
}

#[tokio::test]
async fn one_flush_serves_all_that_waits() {
    let Gate { disk, armed, syncs, arrivals, release } = gated();
    let store = LogStore::open(Arc::new(disk), roomy()).unwrap();
    armed.store(true, Ordering::SeqCst);
    let mut waiting = vec![queue(&store, vec![entry(1, 0, 10)]).await];
    arrivals.recv().unwrap();
    for index in 1..100 {
        waiting.push(queue(&store, vec![entry(1, index, 10)]).await);
    }
    assert_eq!(state(&store).await.entries.len(), 100, "readable at once");
    assert!(waiting.iter_mut().all(|waiting| waiting.try_recv().is_err()), "acknowledged before it was flushed");
    release.send(Ok(())).unwrap();
    release.send(Ok(())).unwrap();
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    assert_eq!(syncs.load(Ordering::SeqCst), 2);
    drop(release);
}

#[tokio::test]
async fn a_failed_flush_fails_everything_for_good() {
    let Gate { disk, armed, arrivals, release, .. } = gated();
    let store = LogStore::open(Arc::new(disk.clone()), roomy()).unwrap();
    append(&store, vec![entry(1, 0, 10)]).await.unwrap();
    let mut failed = store.failed();
    assert_eq!(*failed.borrow_and_update(), None);
    armed.store(true, Ordering::SeqCst);
    let first = queue(&store, vec![entry(1, 1, 10)]).await;
    arrivals.recv().unwrap();
    let second = queue(&store, vec![entry(1, 2, 10)]).await;
    armed.store(false, Ordering::SeqCst);
    release.send(Err(io::Error::from_raw_os_error(5))).unwrap();
    for waiting in [first, second] {
        let error = waiting.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("Input/output error"), "{error}");
    }
    failed.changed().await.unwrap();
    let message = failed.borrow().clone().unwrap();
    assert!(message.contains("log-0000000000000001") && message.contains("Input/output error"), "{message}");
    // The disk works again; the log does not try.
    let mut handle = store.clone();
    assert!(append(&store, vec![entry(1, 3, 10)]).await.is_err());
    assert!(handle.save_vote(&vote(2)).await.is_err());
    assert!(handle.truncate_after(None).await.is_err());
    assert!(handle.purge(id(1, 0)).await.is_err());
    assert!(handle.save_committed(None).await.is_err());
    assert!(handle.get_log_state().await.is_err());
    assert!(handle.get_log_reader().await.try_get_log_entries(..).await.is_err());
    assert!(store.close().is_err());
    let found = state(&open(&disk.mem.crash(|_, _, _| 0)).unwrap()).await;
    assert_eq!(found.entries, [entry(1, 0, 10)]);
}

#[tokio::test]
async fn a_full_disk_fails_the_append_that_meets_it() {
    let disk = MemDisk::new();
    let store = open(&disk).unwrap();
    disk.fail_with(Some(io::ErrorKind::StorageFull));
    let (callback, receiver) = callback();
    store.clone().append([entry(1, 0, 10)], callback).await.unwrap();
    assert_eq!(receiver.await.unwrap().unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[tokio::test]
async fn a_callback_is_called_even_where_the_append_is_refused() {
    let store = open(&MemDisk::new()).unwrap();
    append(&store, vec![entry(1, 0, 10)]).await.unwrap();
    for refused in [vec![entry(1, 2, 0)], vec![entry(1, 0, 0)], vec![entry(1, 1, 0), entry(1, 3, 0)]] {
        let (callback, receiver) = callback();
        let returned = store.clone().append(refused, callback).await.unwrap_err();
        assert_eq!(returned.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(receiver.await.unwrap().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    append(&store, Vec::new()).await.unwrap();
    append(&store, vec![entry(1, 1, 0)]).await.unwrap();
    store.close().unwrap();
    store.close().unwrap();
    let (callback, receiver) = callback();
    assert!(store.clone().append([entry(1, 2, 0)], callback).await.is_err());
    assert!(receiver.await.unwrap().is_err());
    assert_eq!(state(&store).await.entries.len(), 2);
}

/// Closing and dropping both end the writer, after everything that was queued.
#[tokio::test]
async fn what_is_queued_at_the_end_is_completed() {
    for close in [true, false] {
        let Gate { disk, armed, arrivals, release, .. } = gated();
        let store = LogStore::open(Arc::new(disk.clone()), roomy()).unwrap();
        armed.store(true, Ordering::SeqCst);
        let first = queue(&store, vec![entry(1, 0, 10)]).await;
        arrivals.recv().unwrap();
        let second = queue(&store, vec![entry(1, 1, 10)]).await;
        store.clone().save_committed(Some(id(1, 1))).await.unwrap();
        let ending = std::thread::spawn(move || {
            if close {
                store.close().unwrap()
            }
        });
        drop(release);
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
        ending.join().unwrap();
        let found = state(&open(&disk.mem.crash(|_, _, _| 0)).unwrap()).await;
        assert_eq!((found.entries.len(), found.committed), (2, Some(id(1, 1))));
    }
}

/// A lone committed index waits for company: it must not wake the disk.
#[tokio::test]
async fn a_committed_index_costs_no_flush_of_its_own() {
    let Gate { disk, armed, syncs, arrivals, release } = gated();
    let store = LogStore::open(Arc::new(disk.clone()), roomy()).unwrap();
    append(&store, vec![entry(1, 0, 10)]).await.unwrap();
    armed.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        store.clone().save_committed(Some(id(1, 0))).await.unwrap();
    }
    assert_eq!(store.clone().read_committed().await.unwrap(), Some(id(1, 0)));
    assert!(arrivals.recv_timeout(Duration::from_millis(20)).is_err());
    release.send(Ok(())).unwrap();
    append(&store, vec![entry(1, 1, 10)]).await.unwrap();
    assert_eq!(syncs.load(Ordering::SeqCst), 1);
    let found = state(&open(&disk.mem.crash(|_, _, _| 0)).unwrap()).await;
    assert_eq!((found.entries.len(), found.committed), (2, Some(id(1, 0))));
    drop(release);
}

/// A segment that cannot be removed is no reason to stop; the next purge removes it.
#[tokio::test]
async fn a_removal_that_fails_is_tried_again() {
    let failing = Arc::new(AtomicBool::new(true));
    let hook = {
        let failing = failing.clone();
        move |change| match change {
            Change::Remove if failing.load(Ordering::SeqCst) => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Ok(()),
        }
    };
    let disk = HookedDisk::new(MemDisk::new(), hook);
    let store = LogStore::open(Arc::new(disk.clone()), small()).unwrap();
    append(&store, (0..60).map(|n| entry(1, n, 50)).collect()).await.unwrap();
    store.clone().purge(id(1, 50)).await.unwrap();
    append(&store, vec![entry(1, 60, 0)]).await.unwrap();
    let before = disk.list().unwrap().len();
    failing.store(false, Ordering::SeqCst);
    append(&store, vec![entry(1, 61, 0)]).await.unwrap();
    store.close().unwrap();
    assert!(before > 5 && disk.list().unwrap().len() < 5, "{before}, then {:?}", disk.list());
    drop(store);
    let store = LogStore::open(Arc::new(disk), small()).unwrap();
    assert_eq!(state(&store).await.entries.len(), 11);
}

/// A node that is started without a quorum shows what it knows to be committed: an idle log must not keep the last commit
/// in memory until the next write.
#[tokio::test]
async fn a_committed_index_alone_is_soon_on_disk() {
    let disk = MemDisk::new();
    let mut store = LogStore::open(Arc::new(disk.clone()), roomy()).unwrap();
    queue(&store, vec![entry(1, 0, 10), entry(1, 1, 10)]).await.await.unwrap().unwrap();
    // One while the writer looks after the flush, one when it has gone to sleep.
    for (wait, index) in [(0, 0), (1_200, 1)] {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        store.save_committed(Some(id(1, index))).await.unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let mut crashed = LogStore::open(Arc::new(disk.crash(|_, _, _| 0)), roomy()).unwrap();
            if crashed.read_committed().await.unwrap() == Some(id(1, index)) {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "not within 10 s");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// As on ext4 and XFS: after a failed flush the pages are in memory and clean, and the next process reads them.
#[tokio::test]
async fn a_start_writes_what_a_failed_flush_left_in_memory() {
    let Gate { disk, armed, arrivals, release, .. } = gated();
    let store = LogStore::open(Arc::new(disk.clone()), roomy()).unwrap();
    append(&store, vec![entry(1, 0, 10)]).await.unwrap();
    armed.store(true, Ordering::SeqCst);
    let failed = queue(&store, vec![entry(1, 1, 20_000)]).await;
    arrivals.recv().unwrap();
    armed.store(false, Ordering::SeqCst);
    release.send(Err(io::Error::from_raw_os_error(5))).unwrap();
    assert!(failed.await.unwrap().is_err());
    disk.mem.lose_dirty();
    drop(store);
    let store = LogStore::open(Arc::new(disk.clone()), roomy()).unwrap();
    assert_eq!(state(&store).await.entries.len(), 2, "the entry whose flush failed is read");
    append(&store, vec![entry(1, 2, 10)]).await.unwrap();
    let after = LogStore::open(Arc::new(disk.mem.crash(|_, _, _| 0)), roomy()).unwrap();
    assert_eq!(state(&after).await.entries, [entry(1, 0, 10), entry(1, 1, 20_000), entry(1, 2, 10)]);
}

/// Each flush of a log with several segments fails once, those of starts and of a clean stop too.
#[tokio::test]
async fn no_failed_flush_leaves_a_hole_behind_the_next_start() {
    let mut failures = 0;
    for nth in 0.. {
        let left = Arc::new(AtomicUsize::new(nth));
        let hook = {
            let left = left.clone();
            move |change| match change {
                Change::Sync if left.fetch_sub(1, Ordering::SeqCst) == 0 => Err(io::Error::from_raw_os_error(5)),
                _ => Ok(()),
            }
        };
        let disk = HookedDisk::new(MemDisk::new(), hook);
        let options = || LogOptions { scheduler: Some(Arc::new(AtOnce)), ..small() };
        let mut acknowledged = 0;
        for start in 0..4 {
            let Ok(store) = LogStore::open(Arc::new(disk.clone()), options()) else {
                disk.mem.lose_dirty();
                continue;
            };
            let mut next = store.last_log_index().map_or(0, |last| last + 1);
            assert!(next >= acknowledged);
            for _ in 0..12 {
                if append(&store, vec![entry(1, next, 40), entry(1, next + 1, 40)]).await.is_err() {
                    break;
                }
                next += 2;
                acknowledged = next;
            }
            if start % 2 == 1 {
                let _ = store.close();
            }
            if store.failed().borrow().is_some() {
                disk.mem.lose_dirty();
            }
            drop(store);
            let after = LogStore::open(Arc::new(disk.mem.crash(|_, _, _| 0)), options()).unwrap();
            let found = state(&after).await.entries;
            assert!(
                found.len() as u64 >= acknowledged,
                "flush {nth}, start {start}: {} of {acknowledged}",
                found.len()
            );
        }
        if left.load(Ordering::SeqCst) <= nth {
            break;
        }
        failures += 1;
    }
    assert!(failures > 50, "{failures} flushes failed");
}
