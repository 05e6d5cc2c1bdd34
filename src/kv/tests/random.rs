//! Thousands of random commands over few keys: the state is what the model says, on every replica.

use std::ops::Bound;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::generator::{LIMITS, LOCKS, PREFIXES, Random};
use super::model::Model;
use crate::command::*;
use crate::kv::{Change, Event, KvStore};
use crate::raft_types::alias::{LogId, SnapshotMeta};
use crate::raft_types::{ClusterId, TypeConfig};
use crate::storage::disk::MemDisk;
use crate::storage::{ClusterHandle, SnapshotStore};

/// Through a snapshot on a disk.
pub(super) fn restored(kv: &KvStore, index: u64) -> KvStore {
    let cluster = ClusterId(1);
    let log_id = LogId::new(openraft::alias::CommittedLeaderIdOf::<TypeConfig>::new(1), index);
    let store = SnapshotStore::open(Arc::new(MemDisk::new()), ClusterHandle::new(Some(cluster))).unwrap();
    let meta = SnapshotMeta { last_log_id: Some(log_id), ..SnapshotMeta::default() };
    let file = store.write(&meta, cluster, kv).unwrap();
    store.load(&file).unwrap()
}

/// With every sum and every order made anew from what is there.
pub(super) fn rebuilt(kv: &KvStore) -> KvStore {
    let mut new = KvStore::new();
    new.restore_log_time(kv.log_time_ms());
    new.restore_format(kv.format());
    kv.iter().for_each(|(key, record)| new.restore(key.clone(), record.clone()));
    kv.locks().for_each(|(name, lock)| new.restore_lock(name.clone(), lock));
    kv.kept().for_each(|(key, kept)| new.restore_kept(key.clone(), kept.clone()));
    kv.leases(Bound::Unbounded).for_each(|(id, lease)| new.restore_lease(id, lease.clone()));
    kv.leased_claims().for_each(|(name, ticket, lease)| new.restore_leased_claim(name, ticket, lease));
    if let Some(record) = kv.auth().record() {
        new.restore_auth(record.clone());
    }
    kv.auth().tokens().for_each(|(id, token)| new.restore_token(id, token.as_ref().clone()));
    new.restore_quota(kv.quota());
    kv.owners().for_each(|(is_lease, index, owner)| new.restore_owner(is_lease, index, owner));
    new
}

fn same_as_the_model(kv: &KvStore, model: &Model, random: &mut Random) {
    let keys: Vec<_> = kv.iter().map(|(key, record)| (key.clone(), record.clone())).collect();
    let wanted: Vec<_> = model.keys.iter().map(|(key, entry)| (key.clone(), entry.record())).collect();
    assert_eq!(keys, wanted);
    assert_eq!((kv.len(), kv.log_time_ms(), kv.kept().count()), (wanted.len(), model.now, model.kept()));
    assert_eq!((kv.next_deadline(), kv.format()), (model.next_deadline(), model.format));
    assert_eq!((kv.quota(), kv.sizes().bytes), (model.quota, model.bytes()));
    let (prefix, after) = (random.of(&PREFIXES), random.key());
    let after = random.one_in(2).then_some(after.as_str());
    let range: Vec<_> = kv.range(&prefix, after).map(|(key, _)| key).collect();
    let is_in = |key: &&Key| key.starts_with(&*prefix) && after.is_none_or(|after| key.as_str() > after);
    assert_eq!(range, model.keys.keys().filter(is_in).collect::<Vec<_>>(), "{prefix:?} after {after:?}");
    let alive: Vec<_> = kv.leases(Bound::Unbounded).map(|(id, _)| id).collect();
    assert_eq!(alive, model.leases.keys().copied().collect::<Vec<_>>());
    for id in alive {
        let (lease, (keys, claims)) = (kv.lease(id).unwrap(), kv.counts_of_lease(id));
        let names: Vec<_> = kv.keys_of_lease(id, None).cloned().collect();
        let after = random.key();
        let wanted: Vec<_> = names.iter().filter(|name| name.as_str() > after.as_str()).collect();
        assert_eq!(kv.keys_of_lease(id, Some(&after.as_str().into())).collect::<Vec<_>>(), wanted);
        assert_eq!(keys, names.len());
        assert_eq!(Some((lease.ttl_ms, lease.deadline_ms, lease.body.clone(), names, claims)), model.lease(id));
    }
    for name in LOCKS {
        assert_eq!(kv.lock(name), model.view(name));
        let ticket = model.claims.choose(&mut random.rng).map_or(0, |claim| claim.ticket);
        for ticket in [ticket, random.recent()] {
            assert_eq!(kv.ticket(name, ticket), model.ticket(name, ticket));
        }
    }
}

#[test]
fn any_commands_do_what_the_model_says_on_every_replica() {
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for seed in 0..30 {
        let mut random = Random { rng: StdRng::seed_from_u64(seed), many: seed % 3 == 2, now: 0, index: 0 };
        let mut model = Model::new(LIMITS);
        let (mut kv, mut other) = (KvStore::new(), KvStore::new());
        let (mut from_snapshot, mut events) = (KvStore::new(), Vec::new());
        let mut views: Vec<(KvStore, KvStore)> = Vec::new();
        for step in 0..800 {
            let command = random.command(&model);
            let index = random.index;
            let what = format!("seed {seed}, step {step}: {command:?}");
            let (wanted, changes) = model.apply(index, command.clone());
            events.clear();
            let reply = kv.apply_within(LIMITS, index, &command, &mut events);
            assert_eq!(reply, wanted, "{what}");
            let numbered = |(n, change)| Event { index, n, change, by: None };
            assert_eq!(events, (1..).zip(changes).map(numbered).collect::<Vec<_>>(), "{what}");
            for replica in [&mut other, &mut from_snapshot] {
                assert_eq!(replica.apply_within(LIMITS, index, &command, &mut Vec::new()), reply, "{what}");
            }
            *seen.entry(kind(&reply)).or_default() += 1;
            for event in &events {
                *seen.entry(kind(&event.change)).or_default() += 1;
            }
            if random.one_in(25) {
                same_as_the_model(&kv, &model, &mut random);
                for same in [&other, &from_snapshot, &rebuilt(&kv)] {
                    assert_eq!((same.digest(), same), (kv.digest(), &kv), "{what}");
                }
                views.push((kv.clone(), rebuilt(&kv)));
                from_snapshot = restored(&kv, index);
            }
        }
        // What was seen once is not changed by what came later.
        for (view, then) in views {
            assert_eq!((view.digest(), &view), (then.digest(), &then));
        }
    }
    let all = "Done Touched Put Deleted Number Txn Granted Queued Ticked Failed:Precondition Failed:Missing Failed:NotANumber \
        Failed:Locked Failed:LockLost Failed:LeaseLost Failed:Quota Leased Failed:RetryMismatch Failed:RetriesFull Replayed Set Expired Acquired Released \
        LockExpired";
    for kind in all.split_whitespace() {
        assert!(seen.get(kind).is_some_and(|times| *times >= 30), "{kind}: {seen:?}");
    }
}

/// The name of a reply or a change.
fn kind(of: &impl std::fmt::Debug) -> String {
    let shown = format!("{of:?}");
    let mut words = shown.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    match (words.next().unwrap(), words.next()) {
        ("Failed", Some(why)) => format!("Failed:{why}"),
        (word, _) => word.to_owned(),
    }
}

#[test]
fn states_that_differ_in_anything_have_other_digests() {
    let mut random = Random { rng: StdRng::seed_from_u64(7), many: false, now: 0, index: 0 };
    let mut model = Model::new(LIMITS);
    let mut kv = KvStore::new();
    let mut states: Vec<KvStore> = Vec::new();
    for _ in 0..1_500 {
        let command = random.command(&model);
        model.apply(random.index, command.clone());
        kv.apply_within(LIMITS, random.index, &command, &mut Vec::new());
        states.push(kv.clone());
    }
    states.sort_by_key(KvStore::digest);
    for pair in states.windows(2) {
        assert_eq!(pair[0].digest() == pair[1].digest(), pair[0] == pair[1]);
    }
}

#[test]
fn changes_are_numbered_from_one_in_every_entry() {
    let mut kv = KvStore::new();
    let mut events = Vec::new();
    let set = |keys: &[&str]| Command::Set(keys.iter().map(|key| (Key::from(*key), "1".into())).collect());
    kv.apply(4, &set(&["b", "a"]), &mut events);
    kv.apply(6, &set(&["c"]), &mut events);
    kv.apply(7, &Action::DeletePrefix { prefix: "".into() }.into(), &mut events);
    let found: Vec<_> = events.iter().map(|event| (event.index, event.n)).collect();
    assert_eq!(found, [(4, 1), (4, 2), (6, 1), (7, 1), (7, 2), (7, 3)]);
    let deleted = |key: &str| Change::Deleted { key: key.into() };
    assert_eq!(
        events.split_off(3).into_iter().map(|event| event.change).collect::<Vec<_>>(),
        ["a", "b", "c"].map(deleted)
    );
}
