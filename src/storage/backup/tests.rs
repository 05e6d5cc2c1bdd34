use std::cell::Cell;
use std::sync::Arc;

use super::folder::Folder;
use super::*;
use crate::command::{Action, Command, Grants, Leased, Principal, Retry, Stamped, Value};
use crate::formats::NEWEST;
use crate::storage::disk::{Disk, MemDisk};
use crate::storage::test_disk::{countdown, crash_everywhere};

/// A state with all that there is.
pub(crate) fn everything(keys: u64) -> KvStore {
    let mut kv = KvStore::new();
    let put = |key: String, ttl_ms| {
        let value = Value { data: vec![7; 20].into(), is_bytes: true, content_type: Some("a/b".into()) };
        Action::Put { key: key.into(), value, ttl_ms, conditions: Vec::new() }
    };
    let acquire = |wait_ms| Action::Acquire { name: "lock".into(), ttl_ms: 9_000, body: Some("{}".into()), wait_ms };
    let set = Leased::Set { pairs: vec![("leased".into(), "1".into())], conditions: Vec::new() };
    let hold = Leased::Acquire { name: "held".into(), body: None, wait_ms: 0 };
    let grants = Grants(vec![crate::command::Grant::parse("read:").unwrap()]);
    let token = Action::PutToken {
        name: "app".into(),
        id: 77,
        hash: [5; 32],
        grants: grants.clone(),
        ttl_ms: Some(90_000_000),
        certificate: Some("cn".into()),
    };
    let first = vec![
        Action::Raise { to: NEWEST },
        acquire(0),
        acquire(60_000),
        Action::Grant { ttl_ms: 15_000, body: Some("[1]".into()) },
        Action::Leased { lease: 4, write: set },
        Action::Leased { lease: 4, write: hold },
        Action::Authentication { on: true, anonymous: Some(grants), first: true },
        token,
        put("expires".to_owned(), Some(60_000)),
    ];
    let rest = (0..keys).map(|number| put(format!("key-{number:06}"), None));
    for (index, action) in (1..).zip(first.into_iter().chain(rest)) {
        let key = format!("retry-{index}");
        let retry = (index < 12).then(|| Retry { key: key.as_str().into(), digest: 3, window_ms: 600_000 });
        let stamped = Stamped { stamp_ms: 1_000 + index, retry, action };
        kv.apply(index, &Command::By(Principal::Root, stamped), &mut Vec::new());
    }
    kv
}

fn head(kv: &KvStore) -> Head {
    Head {
        cluster: ClusterId(0xabcd_ef01 << 96),
        index: 900,
        term: 3,
        made_ms: 1_764_460_800_123,
        now_ms: 2_000,
        log_time_ms: kv.log_time_ms(),
        format: kv.format(),
        by: "0.2.0".to_owned(),
    }
}

fn bytes_of(head: &Head, kv: &KvStore) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(head, kv, |block| {
        bytes.extend_from_slice(block);
        Ok(())
    })
    .unwrap();
    bytes
}

fn open(bytes: Vec<u8>) -> Result<Backup, BackupError> {
    let disk = MemDisk::without_crashes();
    disk.put("f", bytes);
    Backup::read(disk.open("f").unwrap(), "f".to_owned())
}

fn check(bytes: Vec<u8>) -> Result<Totals, BackupError> {
    let backup = open(bytes)?;
    let checked = backup.check();
    // Both ways to read it say the same.
    let loaded = backup.load().map(|(_, totals)| totals);
    assert_eq!(format!("{checked:?}"), format!("{loaded:?}"));
    checked
}

#[test]
fn all_of_a_state_is_in_it() {
    for kv in [KvStore::new(), everything(0), everything(3_000)] {
        let backup = open(bytes_of(&head(&kv), &kv)).unwrap();
        assert_eq!(backup.head, head(&kv));
        let (restored, totals) = backup.load().unwrap();
        assert!(restored == kv);
        assert_eq!((totals, totals.digest), (backup.check().unwrap(), kv.digest()));
    }
    let totals = Totals { digest: 0, ..check(bytes_of(&head(&everything(5)), &everything(5))).unwrap() };
    assert_eq!(totals, Totals { keys: 7, locks: 2, leases: 1, kept: 11, tokens: 1, digest: 0 });
    // A state of the first format, by a node of this version.
    let mut old = KvStore::new();
    old.apply(1, &Command::Set(vec![("k".into(), "1".into())]), &mut Vec::new());
    assert!(open(bytes_of(&head(&old), &old)).unwrap().load().unwrap().0 == old);
}

#[test]
fn whatever_is_wrong_with_it_is_told_with_its_place() {
    let kv = everything(200);
    let good = bytes_of(&head(&kv), &kv);
    assert!(good.len() > 3 * 4096, "it has several blocks");
    let damaged = |bytes: Vec<u8>, what: &str| {
        let length = bytes.len() as u64;
        let found = check(bytes);
        let Err(BackupError::Damaged { offset, .. }) = found else { panic!("{what}: {found:?}") };
        assert!(offset <= length, "{what}: {offset}");
        offset
    };
    for length in 0..good.len() {
        damaged(good[..length].to_vec(), &format!("cut to {length}"));
    }
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        let offset = damaged(bytes, &format!("byte {at}"));
        // It is found in the block where it is.
        assert!(offset <= at as u64 && at as u64 - offset < 4096 + 512, "byte {at}: {offset}");
    }
    assert_eq!(damaged([&good[..], b"x"].concat(), "longer"), good.len() as u64);
    assert_eq!(damaged([&good[..], &good[..]].concat(), "twice"), good.len() as u64);
    damaged(b"PK\x03\x04 an archive of something else".to_vec(), "another file");
}

/// A file whose checksums are right, and whose end tells another state.
#[test]
fn another_state_than_its_end_tells_is_damage() {
    let kv = everything(5);
    for totals in [
        Totals { digest: 1, ..Totals::of(&kv) },
        Totals { keys: 6, ..Totals::of(&kv) },
        Totals { tokens: 0, ..Totals::of(&kv) },
    ] {
        let body = postcard::to_stdvec(&head(&kv)).unwrap();
        let (sealed, crc) = file_header::seal(MAGIC, VERSION, &body);
        let mut bytes = Vec::new();
        let sink = Given(|block: &[u8]| {
            bytes.extend_from_slice(block);
            Ok(())
        });
        let mut writer = Writer::new(sink, &sealed, crc).unwrap();
        writer.add_all(&kv, || Ok(())).unwrap();
        writer.finish(&postcard::to_stdvec(&totals).unwrap()).unwrap();
        let found = check(bytes);
        assert!(
            matches!(&found, Err(BackupError::Damaged { what, .. }) if what.contains("its end tells")),
            "{found:?}"
        );
    }
}

#[test]
fn a_newer_one_is_told_from_a_damaged_one() {
    let later = file_header::seal(MAGIC, VERSION + 1, b"of another time").0;
    let kv = KvStore::new();
    let format = bytes_of(&Head { format: Format(NEWEST.0 + 1), ..head(&kv) }, &kv);
    for (bytes, wanted, at) in [(later, "version 2 of backups", 8), (format, "format 3 of the state", 16)] {
        let found = open(bytes);
        let Err(BackupError::Newer { what, offset, .. }) = &found else { panic!("{found:?}") };
        assert_eq!((what.as_str(), *offset), (wanted, at));
    }
}

#[test]
fn who_takes_no_more_ends_it() {
    let kv = everything(3_000);
    let taken = Cell::new(0);
    let refused = write(&head(&kv), &kv, |block| {
        assert!(block.len() < 3 * 4096, "a block at a time");
        taken.set(taken.get() + 1);
        if taken.get() == 5 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    });
    assert_eq!((refused.unwrap_err().kind(), taken.get()), (io::ErrorKind::BrokenPipe, 5));
}

fn at(kv: &KvStore, seconds: u64) -> Head {
    Head { made_ms: 1_764_460_800_000 + seconds * 1000, index: 900 + seconds, ..head(kv) }
}

#[test]
fn a_folder_keeps_the_last_of_a_cluster() {
    let disk = MemDisk::new();
    let kv = everything(10);
    let other = Head { cluster: ClusterId(1 << 96), ..at(&kv, 0) };
    disk.put("notes.txt", b"mine".to_vec());
    disk.put("hraftd-abcdef01-20251130T000000Z-1.backup.0000000000000009.tmp", b"left over".to_vec());
    disk.put("hraftd-abcdef01-20251130T000000Z-1.backup.0000000000000008.tmp", b"another's".to_vec());
    let folder = Folder::on(Arc::new(disk.clone()), 9).unwrap();
    folder.save(&other, &kv).unwrap();
    // The clock of one was a year ahead: it is the oldest all the same, and took the place of each new one once.
    folder.save(&Head { index: 7, ..at(&kv, 31_536_000) }, &kv).unwrap();
    for seconds in [3, 1, 2, 86_400] {
        folder.save(&at(&kv, seconds), &kv).unwrap();
        folder.prune(head(&kv).cluster, 3).unwrap();
    }
    let found = folder.list(head(&kv).cluster).unwrap();
    assert_eq!(found.iter().map(|kept| kept.index).collect::<Vec<_>>(), [902, 903, 87_300]);
    assert_eq!(found[2].made_ms, 1_764_547_200_000);
    let mut names = disk.list().unwrap();
    names.sort();
    let wanted = [
        "hraftd-00000001-20251130T000000Z-900.backup",
        "hraftd-abcdef01-20251130T000000Z-1.backup.0000000000000008.tmp",
        "hraftd-abcdef01-20251130T000002Z-902.backup",
        "hraftd-abcdef01-20251130T000003Z-903.backup",
        "hraftd-abcdef01-20251201T000000Z-87300.backup",
        "notes.txt",
    ];
    assert_eq!(names, wanted);
}

/// What has the name is whole, whenever the process or the disk ends; and a disk that fails leaves nothing else.
#[test]
fn a_crash_leaves_a_whole_one_or_none() {
    let kv = everything(300);
    let whole = |disk: &MemDisk| {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let found = Folder::on(shared.clone(), 9).unwrap().list(head(&kv).cluster).unwrap();
        for kept in &found {
            let file = shared.open(&kept.name).unwrap();
            assert!(Backup::read(file, kept.name.clone()).unwrap().load().unwrap().0 == kv);
        }
        assert_eq!(disk.list().unwrap().len(), found.len(), "nothing else is left");
        found.len()
    };
    let points = crash_everywhere(
        MemDisk::new,
        |disk| Folder::on(disk, 9).and_then(|folder| folder.save(&at(&kv, 1), &kv).map_err(|_| lost())).is_ok(),
        |disk, done| assert!(whole(disk) == 1 || !done),
    );
    assert!(points > 5, "{points}");
    // The last change is the flush of the name.
    for changes in 0..points - 1 {
        let disk = MemDisk::new();
        let folder = Folder::on(Arc::new(countdown(disk.clone(), changes)), 9).unwrap();
        assert!(matches!(folder.save(&at(&kv, 1), &kv), Err(BackupError::Io(_))));
    }
}

fn lost() -> super::super::StorageError {
    super::super::StorageError::io("f", io::ErrorKind::StorageFull.into())
}
