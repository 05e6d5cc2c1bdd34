//! The bytes on disk. If this fails, the format changed: that needs a new version.

use super::*;
use crate::storage::log::segment;

const GOLDEN: [&str; 10] = [
    // header
    "68726166746c6f6703000000010000000000000082c847d0",
    // head
    "7fdc28f80500000001000000000000000a01a75c0100000000",
    // opened
    "e2e2d5a90000000002000000000000000801a75c",
    // vote
    "25cb80240400000003000000000000000101a75c03010100",
    // committed
    "d2c225c40300000004000000000000000300a75c010200",
    // entry
    "48ce37270b00000004000000000000000200a75c0200010001026b30027676",
    // entry
    "7abbdc320c00000004000000000000000201a75c0301010001026b3103767676",
    // truncate
    "1c0918520300000005000000000000000401a75c010200",
    // purge
    "6b510be00200000006000000000000000501a75c0200",
    // stopped
    "63c52e880000000007000000000000000901a75c",
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
