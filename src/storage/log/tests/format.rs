//! The bytes on disk. If this fails, the format changed: that needs a new version.

use super::*;
use crate::storage::log::segment;

const GOLDEN: [&str; 10] = [
    // header
    "68726166746c6f67020000000100000000000000b21c36e1",
    // head
    "9ae479b80400000001000000000000000601a75c00000000",
    // opened
    "580083ef0000000002000000000000000801a75c",
    // vote
    "867706e40400000003000000000000000101a75c03010100",
    // committed
    "ed897ad60300000004000000000000000300a75c010200",
    // entry
    "8d7b58850b00000004000000000000000200a75c0200010001026b30027676",
    // entry
    "20f742730c00000004000000000000000201a75c0301010001026b3103767676",
    // truncate
    "8c4824c20300000005000000000000000401a75c010200",
    // purge
    "e01d93110200000006000000000000000501a75c0200",
    // stopped
    "f93baf060000000007000000000000000901a75c",
];

#[tokio::test]
async fn the_bytes_of_a_log_are_these() {
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    store.save_vote(&vote(3)).await.unwrap();
    store.save_committed(Some(id(2, 0))).await.unwrap();
    append(&store, vec![entry(2, 0, 2), entry(3, 1, 3)]).await.unwrap();
    store.truncate_after(Some(id(2, 0))).await.unwrap();
    store.purge(id(2, 0)).await.unwrap();
    store.close().unwrap();
    let hex: String = disk.bytes(&segment::name(1)).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN.concat());
}
