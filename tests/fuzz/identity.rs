//! The identity file, and with it the head of every file but the log's.

use bolero::check;

use super::*;
use crate::fuzz::{SOME, bounded};
use crate::storage::disk::MemDisk;

/// The first byte says whether the rest is a file, or the body of one, of either version, whose checksum is right.
fn file(input: &[u8]) -> Vec<u8> {
    match input.split_first() {
        Some((0, body)) => file_header::seal(MAGIC, VERSION, body).0,
        Some((1, body)) => file_header::seal(MAGIC, OLDEST_VERSION, body).0,
        Some((_, file)) => file.to_vec(),
        None => Vec::new(),
    }
}

#[test]
fn a_file_is_an_identity_or_damaged() {
    check!(name = "identity").with_iterations(SOME).for_each(|input: &[u8]| {
        let disk = MemDisk::new();
        let bytes = file(input);
        disk.put(NAME, bytes.clone());
        let store = IdentityStore::new(Arc::new(disk.clone()));
        match bounded(bytes.len(), 20, 1 << 14, || store.load()) {
            Ok(identity) => {
                let identity = identity.expect("the file is there");
                store.save(&identity).expect("it was read");
                assert_eq!(store.load().expect("it was saved"), Some(identity));
            }
            Err(StorageError::Damaged { .. } | StorageError::Version { .. }) => {
                assert_eq!(disk.bytes(NAME), Some(bytes), "what is damaged is left as it is");
            }
            Err(error) => panic!("{error}"),
        }
    });
}
