//! The map that clients read and write: pure, so that every replica that applies the same commands
//! holds the same map.
//!
//! It knows no Raft, no file, no clock and no randomness. [`KvStore::clone`] is O(1) and shares
//! everything, so a clone is a snapshot of the map: later changes of either are not seen by the other.
//!
//! Caveats:
//! * While a clone lives, a change copies the nodes on its path (some 8 µs instead of 1.4 µs for the
//!   first change of a node): keep clones no longer than they are needed.
//! * A `Bytes` is a slice that keeps its whole buffer alive and cannot tell how large that is.
//!   [`KvStore::apply`] copies values under [`COPY_BELOW`]; for larger ones it is the caller's duty
//!   to hand over slices that are at least half of their buffer, see [`detached`]. Values that
//!   were decoded by postcard (from the log or from a peer) always own their bytes.

use bytes::Bytes;
use imbl::OrdMap;

use crate::command::{Command, Key, Reply};

/// Values of fewer bytes are copied when they are applied, so that they pin no larger buffer.
pub const COPY_BELOW: usize = 16 * 1024;

/// Keys and their values, in the order of the keys' bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KvStore {
    map: OrdMap<Key, Bytes>,
}

impl KvStore {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies one command, all of it, and answers what it did. The same commands in the same
    /// order give the same map and the same replies everywhere.
    pub fn apply(&mut self, command: Command) -> Reply {
        match command {
            Command::Set(pairs) => {
                for (key, value) in pairs {
                    let value = if value.len() < COPY_BELOW { Bytes::copy_from_slice(&value) } else { value };
                    self.map.insert(key, value);
                }
                Reply::Set
            }
            Command::Delete(key) => Reply::Deleted(u64::from(self.map.remove(key.as_str()).is_some())),
        }
    }

    /// The value of a key, as it was sent; sharing it copies nothing.
    pub fn get(&self, key: &str) -> Option<Bytes> {
        self.map.get(key).cloned()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// All keys and values, in the order of the keys' bytes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Key, &Bytes)> {
        self.map.iter()
    }

    /// Puts one pair as it is, for a map that is rebuilt from a snapshot; `value` should own its
    /// buffer.
    pub fn insert(&mut self, key: Key, value: Bytes) {
        self.map.insert(key, value);
    }
}

/// How many keys a command touches: what applying it costs.
pub fn weight(command: &Command) -> usize {
    match command {
        Command::Set(pairs) => pairs.len(),
        Command::Delete(_) => 1,
    }
}

/// `value`, cut loose from a buffer of `buffer_len` bytes where it would pin more than twice its
/// length. Values under [`COPY_BELOW`] are left alone: applying them copies them anyway.
pub fn detached(value: Bytes, buffer_len: usize) -> Bytes {
    if value.len() >= COPY_BELOW && value.len() < buffer_len / 2 { Bytes::copy_from_slice(&value) } else { value }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn random_command(rng: &mut StdRng) -> Command {
        let key = |rng: &mut StdRng| Key::from(format!("key-{}", rng.random_range(0..64)));
        if rng.random_range(0..3) == 0 {
            return Command::Delete(key(rng));
        }
        let pairs: BTreeMap<Key, Bytes> = (0..rng.random_range(1..5))
            .map(|_| (key(rng), Bytes::from(rng.random_range(0..1000).to_string())))
            .collect();
        Command::Set(pairs.into_iter().collect())
    }

    #[test]
    fn it_behaves_as_a_btree_map() {
        for seed in 0..20 {
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut store, mut model) = (KvStore::new(), BTreeMap::new());
            let mut views = Vec::new();
            for _ in 0..300 {
                let command = random_command(&mut rng);
                let expected = match &command {
                    Command::Set(pairs) => {
                        model.extend(pairs.iter().cloned());
                        Reply::Set
                    }
                    Command::Delete(key) => Reply::Deleted(model.remove(key).is_some().into()),
                };
                assert_eq!(store.apply(command), expected);
                if rng.random_range(0..20) == 0 {
                    views.push((store.clone(), model.clone()));
                }
            }
            views.push((store, model));
            for (store, model) in views {
                assert_eq!((store.len(), store.is_empty()), (model.len(), model.is_empty()));
                assert!(store.iter().eq(model.iter()), "seed {seed}");
                for i in 0..64 {
                    let key = format!("key-{i}");
                    assert_eq!(store.get(&key), model.get(key.as_str()).cloned());
                }
            }
        }
    }

    #[test]
    fn small_values_pin_no_buffer() {
        let buffer = Bytes::from(vec![b'x'; 1 << 20]);
        let at = |value: &Bytes| value.as_ptr();
        let mut store = KvStore::new();
        let (small, large) = (buffer.slice(..COPY_BELOW - 1), buffer.slice(..COPY_BELOW));
        store.apply(Command::Set(vec![("small".into(), small.clone()), ("large".into(), large.clone())]));
        assert_ne!(at(&store.get("small").unwrap()), at(&small));
        assert_eq!(at(&store.get("large").unwrap()), at(&large), "large values are the caller's to detach");
        assert_ne!(at(&detached(large.clone(), buffer.len())), at(&large));
        assert_eq!(at(&detached(large.clone(), 2 * large.len())), at(&large));
        assert_eq!(at(&detached(small.clone(), buffer.len())), at(&small));
    }

    #[test]
    fn decoded_values_own_their_bytes() {
        let value = Bytes::from(vec![b'x'; 2 * COPY_BELOW]);
        let encoded = Bytes::from(postcard::to_stdvec(&Command::Set(vec![("k".into(), value)])).unwrap());
        let Command::Set(pairs) = postcard::from_bytes(&encoded).unwrap() else { unreachable!() };
        assert!(pairs[0].1.is_unique() && encoded.is_unique());
        assert!(!encoded.as_ptr_range().contains(&pairs[0].1.as_ptr()));
    }
}
