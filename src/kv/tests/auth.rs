//! Authentication: who may do what, and that a refusal leaves nothing behind.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::random::{rebuilt, restored};
use super::*;
use crate::command::{ANONYMOUS, Grant, Grants, Holder, Need};
use crate::kv::Ticket;

const HOUR_MS: u64 = 3_600_000;

fn grants(texts: &[&str]) -> Grants {
    Grants(texts.iter().map(|text| Grant::parse(text).unwrap()).collect())
}

fn stamped(stamp_ms: u64, action: Action) -> Stamped {
    Stamped { stamp_ms, retry: None, action }
}

fn put_token(name: &str, id: u64, texts: &[&str], ttl_ms: Option<u64>) -> Action {
    Action::PutToken {
        name: name.into(),
        id,
        hash: [u8::try_from(id).unwrap(); 32],
        grants: grants(texts),
        ttl_ms,
        certificate: None,
    }
}

fn on(anonymous: &[&str]) -> Action {
    Action::Authentication { on: true, anonymous: Some(grants(anonymous)), first: true }
}

impl Kv {
    fn by(&mut self, by: &Principal, stamp_ms: u64, action: Action) -> Reply {
        self.apply(Command::By(by.clone(), stamped(stamp_ms, action)))
    }

    fn by_keyed(&mut self, by: &Principal, key: &str, digest: u128, action: Action) -> Reply {
        let retry = Some(Retry { key: key.into(), digest, window_ms: HOUR_MS });
        self.apply(Command::By(by.clone(), Stamped { stamp_ms: 0, retry, action }))
    }

    /// As an edge would see the holder of a token now.
    fn holder(&self, name: &str) -> Principal {
        let (id, token) = self.kv.auth().named(name).unwrap();
        let (generation, revision) = (token.generation, token.revision);
        Principal::Token(Holder { id, generation, revision, name: token.name.clone() })
    }

    fn with_auth() -> Self {
        let mut kv = Self::default();
        assert_eq!(kv.apply(on(&[]).into()), Reply::Done);
        kv
    }
}

fn denied(reply: Reply) -> Denied {
    match failure(reply) {
        Failure::Denied(denied) => denied,
        other => panic!("{other:?}"),
    }
}

/// Requests that were under way when it was turned on were refused, though all may do the same without a token: a cluster
/// could not be closed while it serves.
#[test]
fn what_was_asked_before_it_was_on_may_do_what_all_may() {
    let mut kv = Kv::default();
    assert_eq!(kv.apply(on(&["write:a", "read:a"]).into()), Reply::Done);
    assert_eq!(kv.apply(set("a", "1", None).into()), Reply::Done);
    assert!(matches!(denied(kv.apply(set("b", "1", None).into())), Denied::Forbidden(_)));
    assert!(matches!(denied(kv.apply(put_token("x", 9, &["admin"], None).into())), Denied::Forbidden(_)));
    assert_eq!(kv.kv.auth().check(None, Need::Read("a"), 0), Ok(()));
    assert!(kv.kv.auth().check(None, Need::Members, 0).is_err());
}

#[test]
fn once_it_is_on_nobody_writes_unknown() {
    let mut kv = Kv::default();
    assert_eq!(kv.at(1, set("a", "1", None)), Reply::Done);
    let before = kv.kv.digest();
    assert_eq!(kv.apply(on(&[]).into()), Reply::Done);
    assert_ne!(kv.kv.digest(), before);
    for command in [
        Command::Set(vec![("a".into(), "2".into())]),
        Command::Delete("a".into()),
        set("a", "2", None).into(),
        put_token("x", 9, &["admin"], None).into(),
        Action::Authentication { on: false, anonymous: None, first: false }.into(),
    ] {
        let before = kv.kv.clone();
        assert_eq!(denied(kv.apply(command.clone())), Denied::Missing, "{command:?}");
        assert_eq!(kv.kv, before);
    }
    assert_eq!(denied(kv.by(&Principal::Anonymous { revision: 2 }, 0, set("a", "2", None))), Denied::Missing);
    // The node's own entries go on.
    assert!(!kv.tick(5));
    assert_eq!(kv.at(6, Action::Mark), Reply::Done);
    assert_eq!(kv.by(&Principal::Root, 7, set("a", "2", None)), Reply::Done);
    assert_eq!(kv.value("a"), Some("2"));
    // A flag never overrides what was recorded.
    let off = Action::Authentication { on: false, anonymous: None, first: false };
    assert_eq!(kv.by(&Principal::Root, 8, off), Reply::Done);
    assert_eq!(kv.apply(on(&["admin"]).into()), Reply::Done);
    assert!(!kv.kv.auth().is_on());
    assert_eq!(kv.at(9, set("a", "3", None)), Reply::Done);
}

#[test]
fn a_token_writes_until_it_is_revoked() {
    let mut kv = Kv::with_auth();
    assert_eq!(kv.by(&Principal::Root, 0, put_token("web", 7, &["write:app/"], None)), Reply::Token { fresh: true });
    let web = kv.holder("web");
    assert_eq!(kv.by(&web, 0, set("app/a", "1", None)), Reply::Done);
    assert_eq!(kv.events.last().unwrap().by.as_deref(), Some("web"));
    // The edge looked at its grants; where they changed since, the entry looks again.
    assert_eq!(kv.by(&Principal::Root, 0, put_token("web", 8, &["write:b/"], None)), Reply::Token { fresh: false });
    assert_eq!(denied(kv.by(&web, 0, set("app/a", "2", None))), Denied::Forbidden("write:app/a".into()));
    assert_eq!(kv.by(&kv.holder("web"), 0, set("b/a", "2", None)), Reply::Done);
    let late = kv.holder("web");
    assert_eq!(kv.by(&Principal::Root, 0, Action::DeleteToken { name: "web".into() }), Reply::Deleted(1));
    let before = kv.kv.clone();
    assert_eq!(denied(kv.by(&late, 0, set("b/a", "3", None))), Denied::Unknown);
    assert_eq!(denied(kv.by_keyed(&late, "k", 1, set("b/a", "3", None))), Denied::Unknown);
    assert_eq!(kv.kv, before, "no outcome either");
    // One of the same name is another.
    kv.by(&Principal::Root, 0, put_token("web", 9, &["write:"], None));
    assert_eq!(denied(kv.by(&late, 0, set("b/a", "3", None))), Denied::Unknown);
    let gone = Action::DeleteToken { name: "none".into() };
    assert_eq!(failure(kv.by(&Principal::Root, 0, gone)), Failure::NoToken);
}

#[test]
fn a_secret_is_good_for_its_generation_and_a_grace() {
    let mut kv = Kv::with_auth();
    kv.by(&Principal::Root, 1_000, put_token("web", 7, &["write:"], None));
    let first = kv.holder("web");
    let rotate = |hash: u8, grace_ms| Action::RotateToken { name: "web".into(), id: 7, hash: [hash; 32], grace_ms };
    assert_eq!(kv.by(&Principal::Root, 1_000, rotate(70, 500)), Reply::Token { fresh: true });
    let auth = |kv: &Kv, hash: u8, now| kv.kv.auth().identify(7, &[hash; 32], now).map(|(_, generation)| generation);
    assert_eq!((auth(&kv, 7, 1_499), auth(&kv, 70, 1_499)), (Ok(1), Ok(2)));
    assert_eq!((auth(&kv, 7, 1_500), auth(&kv, 70, 1_500)), (Err(Denied::Unknown), Ok(2)));
    assert_eq!(kv.by(&first, 1_499, set("a", "1", None)), Reply::Done);
    assert_eq!(denied(kv.by(&first, 1_500, set("a", "2", None))), Denied::Unknown);
    assert_eq!(kv.by(&kv.holder("web"), 1_600, set("a", "2", None)), Reply::Done);
    let second = kv.holder("web");
    kv.by(&Principal::Root, 1_600, rotate(71, 0));
    assert_eq!(denied(kv.by(&second, 1_600, set("a", "3", None))), Denied::Unknown);
    let other = Action::RotateToken { name: "web".into(), id: 8, hash: [1; 32], grace_ms: 0 };
    assert_eq!(failure(kv.by(&Principal::Root, 0, other)), Failure::NoToken);
}

#[test]
fn expiry_is_by_the_stamp_and_told_to_who_has_the_secret() {
    let mut kv = Kv::with_auth();
    kv.by(&Principal::Root, 1_000, put_token("web", 7, &["write:"], Some(500)));
    let web = kv.holder("web");
    assert_eq!(kv.by(&web, 1_499, set("a", "1", None)), Reply::Done);
    assert_eq!(denied(kv.by(&web, 1_500, set("a", "2", None))), Denied::Expired);
    assert_eq!(denied(kv.by(&web, 0, set("a", "2", None))), Denied::Expired, "log time does not go back");
    let auth = kv.kv.auth();
    assert_eq!(auth.identify(7, &[7; 32], 1_499).unwrap().1, 1);
    assert_eq!(auth.identify(7, &[7; 32], 1_500), Err(Denied::Expired));
    assert_eq!(auth.identify(7, &[8; 32], 1_500), Err(Denied::Unknown));
    assert_eq!(auth.good_until(Some(&web)), Some(1_500));
    // One tick an hour at most, and a day later it is gone.
    let next = kv.kv.next_deadline().unwrap();
    assert!(next.is_multiple_of(HOUR_MS) && next >= 1_500 + 24 * HOUR_MS, "{next}");
    assert!(!kv.tick(next - 1));
    assert!(kv.kv.auth().named("web").is_some());
    assert!(!kv.tick(next));
    assert!(kv.kv.auth().named("web").is_none() && kv.kv.next_deadline().is_none());
}

#[test]
fn anonymous_is_what_is_granted_to_all() {
    let mut kv = Kv::default();
    assert_eq!(kv.apply(on(&["write:pub/"]).into()), Reply::Done);
    let nobody = Principal::Anonymous { revision: 1 };
    assert_eq!(kv.by(&nobody, 0, set("pub/a", "1", None)), Reply::Done);
    let changed = put_token(ANONYMOUS, 0, &["write:other/"], None);
    assert_eq!(kv.by(&Principal::Root, 0, changed), Reply::Token { fresh: false });
    assert_eq!(denied(kv.by(&nobody, 0, set("pub/a", "2", None))), Denied::Forbidden("write:pub/a".into()));
    let delete = Action::DeleteToken { name: ANONYMOUS.into() };
    assert_eq!(kv.by(&Principal::Root, 0, delete), Reply::Deleted(1));
    assert_eq!(denied(kv.by(&nobody, 0, set("other/a", "2", None))), Denied::Missing);
}

#[test]
fn locks_and_leases_are_of_who_made_them() {
    let mut kv = Kv::with_auth();
    for (name, id) in [("one", 1), ("two", 2)] {
        kv.by(&Principal::Root, 0, put_token(name, id, &["lock:", "write:"], None));
    }
    kv.by(&Principal::Root, 0, put_token("all", 3, &["admin"], None));
    let (one, two, all) = (kv.holder("one"), kv.holder("two"), kv.holder("all"));
    let Reply::Granted { token, .. } = kv.by(&one, 0, acquire(HOUR_MS, 0)) else { panic!() };
    let renew = Action::Renew { name: "l".into(), token, ttl_ms: None };
    let release = Action::Release { name: "l".into(), token };
    assert_eq!(denied(kv.by(&two, 0, renew.clone())), Denied::NotOwner);
    assert_eq!(denied(kv.by(&two, 0, release.clone())), Denied::NotOwner);
    assert_eq!(denied(kv.by(&Principal::Anonymous { revision: 1 }, 0, renew.clone())), Denied::Missing);
    for may in [&one, &all, &Principal::Root] {
        assert!(matches!(kv.by(may, 0, renew.clone()), Reply::Granted { .. }));
    }
    assert_eq!(kv.by(&one, 0, release), Reply::Done);

    let Reply::Leased { lease, .. } = kv.by(&one, 0, Action::Grant { ttl_ms: HOUR_MS, body: None }) else { panic!() };
    let pairs = vec![("k".into(), "1".into())];
    let changes = [
        Action::KeepAlive { lease, ttl_ms: None },
        Action::Leased { lease, write: Leased::Set { pairs: pairs.clone(), conditions: vec![] } },
        Action::Leased { lease, write: Leased::Acquire { name: "m".into(), body: None, wait_ms: 0 } },
        Action::Txn(crate::command::Txn {
            tests: vec![],
            then: vec![],
            otherwise: vec![Op::SetLeased { pairs, lease }],
        }),
        Action::Revoke { lease },
    ];
    for change in &changes {
        let lost = Reply::failed(Failure::LeaseLost { place: None, lease });
        assert_eq!(kv.by(&two, 0, change.clone()), lost, "{change}: as one that is not there");
    }
    assert!(kv.kv.is_lease_of(lease, Some(&one)) && !kv.kv.is_lease_of(lease, Some(&two)));
    // Who may write nothing any more keeps none of them alive, and attaches nothing.
    kv.by(&Principal::Root, 0, put_token("one", 1, &["status", "lock:"], None));
    for change in &changes {
        assert!(matches!(denied(kv.by(&one, 0, change.clone())), Denied::Forbidden(_)), "{change}");
    }
    kv.by(&Principal::Root, 0, put_token("one", 1, &["write:", "lock:"], None));
    for change in &changes {
        assert!(!matches!(kv.by(&one, 0, change.clone()), Reply::Failed(_)), "{change}");
    }
    assert_eq!(kv.kv.owners().count(), 0, "nothing is left of what has ended");
}

#[test]
fn who_may_not_lock_any_more_is_passed_over() {
    let mut kv = Kv::with_auth();
    for (name, id) in [("one", 1), ("two", 2), ("three", 3), ("four", 4)] {
        kv.by(&Principal::Root, 0, put_token(name, id, &["lock:"], None));
    }
    let holders = ["one", "two", "three", "four"].map(|name| kv.holder(name));
    let Reply::Granted { token, .. } = kv.by(&holders[0], 0, acquire(HOUR_MS, 0)) else { panic!() };
    let tickets: Vec<u64> = holders[1..]
        .iter()
        .map(|holder| {
            assert_eq!(kv.by(holder, 0, acquire(HOUR_MS, HOUR_MS)), Reply::Queued);
            kv.index
        })
        .collect();
    kv.by(&Principal::Root, 0, Action::DeleteToken { name: "two".into() });
    kv.by(&Principal::Root, 0, put_token("three", 3, &["lock:other"], None));
    assert!(matches!(kv.kv.lock("l"), Some(LockView { waiting: 3, .. })));
    assert_eq!(kv.by(&holders[0], 0, Action::Release { name: "l".into(), token }), Reply::Done);
    let found = tickets.iter().map(|ticket| kv.kv.ticket("l", *ticket));
    assert!(matches!(found.collect::<Vec<_>>()[..], [Ticket::Gone, Ticket::Gone, Ticket::Holds { .. }]));
    assert_eq!(kv.kv.owners().count(), 1);
}

#[test]
fn outcomes_are_kept_by_token() {
    let mut kv = Kv::default();
    let plain = kv.keyed(0, "before", 1, incr("n", 1));
    assert_eq!(plain, Reply::Number(1));
    kv.apply(on(&[]).into());
    for (name, id) in [("one", 1), ("two", 2)] {
        kv.by(&Principal::Root, 0, put_token(name, id, &["write:", "read:"], None));
    }
    let (one, two) = (kv.holder("one"), kv.holder("two"));
    assert_eq!(kv.by_keyed(&one, "k", 1, incr("n", 1)), Reply::Number(2));
    assert_eq!(kv.by_keyed(&two, "k", 1, incr("n", 1)), Reply::Number(3), "another token's is another");
    assert_eq!(kv.by_keyed(&Principal::Root, "k", 1, incr("n", 1)), Reply::Number(4));
    // Another secret and other grants change nothing of that.
    kv.by(&Principal::Root, 0, Action::RotateToken { name: "one".into(), id: 1, hash: [9; 32], grace_ms: 0 });
    kv.by(&Principal::Root, 0, put_token("one", 1, &["admin"], None));
    assert!(matches!(kv.by_keyed(&kv.holder("one"), "k", 1, incr("n", 1)), Reply::Replayed { .. }));
    // From before anybody was asked: it is anybody's.
    assert!(matches!(kv.by_keyed(&two, "before", 1, incr("n", 1)), Reply::Replayed { .. }));
    assert_eq!(kv.value("n"), Some("4"));
}

#[test]
fn so_many_tokens_and_no_more() {
    let mut kv = Kv::with_auth();
    for id in 1..=MAX_TOKENS as u64 {
        let (name, hash) = (id.to_string().as_str().into(), [0; 32]);
        let put = Action::PutToken { name, id, hash, grants: Grants::default(), ttl_ms: None, certificate: None };
        assert_eq!(kv.by(&Principal::Root, 0, put), Reply::Token { fresh: true });
    }
    assert_eq!(failure(kv.by(&Principal::Root, 0, put_token("x", 0, &[], None))), Failure::TokensFull);
    assert_eq!(kv.by(&Principal::Root, 0, put_token("17", 0, &["admin"], None)), Reply::Token { fresh: false });
    assert_eq!(kv.by(&Principal::Root, 0, Action::DeleteToken { name: "18".into() }), Reply::Deleted(1));
    assert_eq!(kv.by(&Principal::Root, 0, put_token("x", 18, &[], None)), Reply::Token { fresh: true });
}

/// The id, the generation, the grants, the end and the end of the grace of a token.
type Modelled = (u64, u32, Vec<String>, Option<u64>, Option<u64>);

/// Tokens as they would be kept by who cares for nothing but being right.
#[derive(Debug, Default)]
struct Model {
    on: bool,
    anonymous: Vec<String>,
    tokens: BTreeMap<String, Modelled>,
    now: u64,
}

impl Model {
    fn grants_of(&self, by: Option<&Principal>) -> Result<Vec<String>, Denied> {
        let all = Ok(vec!["admin".to_owned()]);
        match by {
            _ if !self.on => all,
            Some(Principal::Root | Principal::Node) => all,
            None | Some(Principal::Anonymous { .. }) if self.anonymous.is_empty() => Err(Denied::Missing),
            None | Some(Principal::Anonymous { .. }) => Ok(self.anonymous.clone()),
            Some(Principal::Token(holder)) => {
                let found = self.tokens.values().find(|token| token.0 == holder.id).ok_or(Denied::Unknown)?;
                let (_, generation, grants, expires, grace) = found;
                let is_old = holder.generation + 1 == *generation && grace.is_some_and(|until| until > self.now);
                if holder.generation != *generation && !is_old {
                    return Err(Denied::Unknown);
                }
                if expires.is_some_and(|expires| expires <= self.now) {
                    Err(Denied::Expired)
                } else {
                    Ok(grants.clone())
                }
            }
        }
    }
}

/// Whoever writes to `KEY` or takes over: the effect is there where the model says so, and else nothing is.
#[test]
fn any_entries_are_applied_by_whom_the_model_says() {
    const NAMES: [&str; 3] = ["one", "two", "three"];
    const GRANTS: [&[&str]; 4] = [&[], &["write:a"], &["write:b", "read:"], &["admin"]];
    let mut refused = BTreeMap::<String, u32>::new();
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut kv, mut copy, mut model) = (Kv::default(), KvStore::new(), Model::default());
        let mut seen: Vec<(Principal, Vec<String>)> = vec![(Principal::Root, vec!["admin".to_owned()])];
        for next_id in 1..=300 {
            model.now += rng.random_range(0..400);
            let stamp_ms = model.now;
            let by = match rng.random_range(0..10) {
                0 => None,
                1 | 2 => Some(0),
                _ => Some(rng.random_range(0..seen.len())),
            };
            let (by, edge) = by.map_or((None, vec![]), |at| (Some(seen[at].0.clone()), seen[at].1.clone()));
            let name = NAMES[rng.random_range(0..3)];
            let texts = GRANTS[rng.random_range(0..4)];
            let owned = || texts.iter().map(ToString::to_string).collect::<Vec<_>>();
            let key = if rng.random_bool(0.5) { "a" } else { "b" };
            let action = match rng.random_range(0..12) {
                0 => Action::Authentication {
                    on: rng.random_bool(0.8),
                    anonymous: rng.random_bool(0.5).then(|| grants(texts)),
                    first: false,
                },
                1 | 2 => put_token(name, next_id % 200 + 1, texts, rng.random_bool(0.3).then_some(1_000)),
                3 => {
                    let id = model.tokens.get(name).map_or(0, |token| token.0);
                    Action::RotateToken { name: name.into(), id, hash: [1; 32], grace_ms: rng.random_range(0..3) * 500 }
                }
                4 => Action::DeleteToken { name: name.into() },
                5 => incr(key, 1),
                _ => set(key, "1", None),
            };
            // As the edge would: what it saw granted, it lets through.
            let of = |texts: &[String]| grants(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            let edge_lets = by.is_none() || action.demand(&of(&edge)).is_ok();
            if !edge_lets {
                continue;
            }
            let wanted = model.grants_of(by.as_ref()).and_then(|now| action.demand(&of(&now)));
            let command = match &by {
                Some(by) => Command::By(by.clone(), stamped(stamp_ms, action.clone())),
                None => Command::Stamped(stamped(stamp_ms, action.clone())),
            };
            let before = kv.kv.clone();
            let reply = kv.apply(command.clone());
            assert_eq!(copy.apply(kv.index, &command, &mut Vec::new()), reply);
            match wanted {
                Err(why) => {
                    assert_eq!(denied(reply), why, "seed {seed}: {by:?} {action:?}");
                    *refused.entry(format!("{why:?}").split('(').next().unwrap().to_owned()).or_default() += 1;
                    let mut untouched = before;
                    untouched.restore_log_time(kv.kv.log_time_ms());
                    assert_eq!(kv.kv, untouched);
                }
                Ok(()) => match action {
                    Action::Authentication { on, anonymous, .. } => {
                        model.on = on;
                        if anonymous.is_some() {
                            model.anonymous = owned();
                        }
                    }
                    Action::PutToken { id, ttl_ms, .. } => {
                        let expires = ttl_ms.map(|ttl| model.now + ttl);
                        let token = model.tokens.entry(name.to_owned()).or_insert((id, 1, vec![], None, None));
                        (token.2, token.3) = (owned(), expires);
                    }
                    Action::RotateToken { grace_ms, .. } if model.tokens.contains_key(name) => {
                        let token = model.tokens.get_mut(name).unwrap();
                        (token.1, token.4) = (token.1 + 1, (grace_ms > 0).then_some(model.now + grace_ms));
                    }
                    Action::DeleteToken { .. } => {
                        model.tokens.remove(name);
                    }
                    _ => {}
                },
            }
            for name in NAMES {
                assert_eq!(kv.kv.auth().named(name).map(|(id, _)| id), model.tokens.get(name).map(|token| token.0));
                if model.tokens.contains_key(name) {
                    seen.push((kv.holder(name), model.tokens[name].2.clone()));
                }
            }
            let revision = kv.kv.auth().record().map_or(0, |record| record.revision);
            seen.push((Principal::Anonymous { revision }, model.anonymous.clone()));
            if seen.len() > 24 {
                seen.drain(1..8);
            }
        }
        let index = kv.index;
        for same in [&copy, &rebuilt(&kv.kv)] {
            assert_eq!((same.digest(), same), (kv.kv.digest(), &kv.kv));
        }
        kv.kv.restore_format(crate::formats::NEWEST);
        let again = restored(&kv.kv, index);
        assert_eq!((again.digest(), &again), (kv.kv.digest(), &kv.kv));
    }
    for why in ["Missing", "Unknown", "Expired", "Forbidden"] {
        assert!(refused.get(why).is_some_and(|times| *times >= 20), "{why}: {refused:?}");
    }
}
