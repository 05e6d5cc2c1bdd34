//! Snapshot files: as they are, and with checksums made right, so that what is behind those is reached.

use bolero::check;

use super::*;
use crate::command::Command;
use crate::formats::NEWEST;
use crate::fuzz::{SOME, bounded};
use crate::storage::disk::MemDisk;
use crate::storage::file_header;

/// The first byte of an input says what the rest is: 0: blocks, `kind u8 | length u16 | payload`, behind a good head;
/// 1 and 2: the same in these versions; else a file.
fn file(input: &[u8]) -> Vec<u8> {
    let Some((mode @ (0..=2), mut rest)) = input.split_first() else {
        return input.get(1..).unwrap_or_default().to_vec();
    };
    let last_log_id = Some(openraft::testing::log_id::<crate::raft_types::TypeConfig>(1, 0, 9));
    let meta = SnapshotMeta { last_log_id, ..SnapshotMeta::default() };
    let head = match mode {
        1 => postcard::to_stdvec(&(ClusterId(7), meta)),
        2 => postcard::to_stdvec(&(ClusterId(7), meta, 5_u64)),
        _ => postcard::to_stdvec(&(ClusterId(7), meta, 5_u64, NEWEST)),
    };
    let version = if *mode == 0 { NEWEST.snapshot() } else { u32::from(*mode) };
    let (mut file, mut crc) = file_header::seal(format::MAGIC, version, &head.expect("a head"));
    while let Some(([kind, low, high], more)) = rest.split_first_chunk() {
        let (payload, more) = more.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(more.len()));
        let mut block = vec![*kind];
        block.extend_from_slice(&u32::try_from(payload.len()).expect("two bytes").to_le_bytes());
        crc = crc32c::crc32c_append(crc, &block);
        block.extend_from_slice(&crc.to_le_bytes());
        block.extend_from_slice(payload);
        crc = crc32c::crc32c_append(crc, payload);
        block.extend_from_slice(&crc.to_le_bytes());
        file.extend_from_slice(&block);
        rest = more;
    }
    file
}

fn load(bytes: &[u8]) -> Result<KvStore, StorageError> {
    let disk = MemDisk::without_crashes();
    disk.put("snapshot", bytes.to_vec());
    let file = disk.open("snapshot").expect("it was put there");
    read(&*file, "snapshot")
}

/// All that is in a state, written and read again.
fn again(kv: &KvStore) -> KvStore {
    let disk = MemDisk::without_crashes();
    let file = disk.create("snapshot").expect("an empty disk");
    let (cluster, meta) = (ClusterId(7), SnapshotMeta::default());
    let header = Header { cluster, meta, log_time_ms: kv.log_time_ms(), format: kv.format() };
    let mut writer = format::begin(&*file, &header).expect("a disk in memory");
    kv.iter().try_for_each(|(key, record)| writer.add_key(key, record)).expect("it was read");
    kv.locks().try_for_each(|(name, lock)| writer.add_lock(name, &lock)).expect("it was read");
    kv.kept().try_for_each(|(key, kept)| writer.add_kept(key, kept)).expect("it was read");
    writer.finish(&[]).expect("a disk in memory");
    read(&*file, "snapshot").expect("it was just written")
}

#[test]
fn a_file_is_a_state_or_damaged() {
    check!(name = "snapshot").with_iterations(SOME).for_each(|input: &[u8]| {
        let bytes = file(input);
        // A key of one byte has its record, its page and the block that it came with; a format 1 record takes 7 bytes.
        match bounded(bytes.len(), 150, 1 << 18, || load(&bytes)) {
            Ok(mut kv) => {
                assert_eq!(again(&kv).digest(), kv.digest());
                for flip in [0, bytes.len() / 2, bytes.len() - 1] {
                    let mut bad = bytes.clone();
                    bad[flip] ^= 1 << (flip % 8);
                    assert!(load(&bad).is_err(), "byte {flip} counts for nothing");
                }
                // A state that was received goes on as any other.
                let tick = crate::command::Action::Tick { most: 1000 };
                let stamped = crate::command::Stamped { stamp_ms: u64::MAX, retry: None, action: tick };
                kv.apply(10, &Command::Stamped(stamped), &mut Vec::new());
            }
            Err(StorageError::Damaged { .. } | StorageError::Version { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    });
}
