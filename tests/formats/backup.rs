//! Backups, one of each format of the state: what was backed up once can be restored for ever.
//!
//! `tests/golden/backup/N` is of format N of the state, in the first version of backups. That of format 2 is written anew
//! with the newest directory; the other stays.

use std::path::PathBuf;

use hraftd::raft_types::ClusterId;
use hraftd::storage::backup::{Backup, Head, write};

use crate::{content, golden, v2, v5};

fn backups() -> [(&'static str, content::Content); 2] {
    [("1", v2::content()), ("2", v5::content())]
}

fn path(format: &str) -> PathBuf {
    golden("backup").join(format)
}

fn made(content: &content::Content) -> Vec<u8> {
    let kv = content.snapshot_state();
    let head = Head {
        cluster: ClusterId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        index: content.snapshot,
        term: 1,
        made_ms: 1_764_460_800_000,
        now_ms: kv.log_time_ms() + 7,
        log_time_ms: kv.log_time_ms(),
        format: kv.format(),
        by: "0.2.0".to_owned(),
    };
    let mut bytes = Vec::new();
    let take = |block: &[u8]| {
        bytes.extend_from_slice(block);
        Ok(())
    };
    write(&head, &kv, take).unwrap();
    bytes
}

#[test]
fn backups_are_read_and_the_same_bytes_are_written() {
    if std::env::var_os("HRAFTD_WRITE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(golden("backup")).unwrap();
        for (format, content) in backups() {
            if format == "2" || !path(format).exists() {
                std::fs::write(path(format), made(&content)).unwrap();
            }
        }
    }
    for (format, content) in backups() {
        let backup = Backup::open(&path(format)).unwrap();
        assert_eq!((backup.head.format.0.to_string().as_str(), backup.head.index), (format, content.snapshot));
        let (kv, totals) = backup.load().unwrap();
        assert_eq!((&kv, totals.digest), (&content.snapshot_state(), kv.digest()));
        assert_eq!(std::fs::read(path(format)).unwrap(), made(&content), "format {format}");
    }
}
