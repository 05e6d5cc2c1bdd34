//! The rules for a mover, one look at a time. A, B and C have the Raft ids 1, 2 and 3 and were settled at ports of these
//! numbers; C is the one that judges, now at port 13.

use std::collections::{BTreeMap, BTreeSet};

use super::{Heard, LeaderWord, Mover, Sighting, Verdict, judge};
use crate::formats::Speaks;
use crate::node::rpc::{Identification, MemberAnswer, Moved, Standing};
use crate::node_id::PublicId;
use crate::raft_types::{ClusterId, RaftId, Role};

const CLUSTER: Option<ClusterId> = Some(ClusterId(9));

fn id(port: u16) -> PublicId {
    format!("127.0.0.1:{port},127.0.0.1:{}", port + 1000).parse().unwrap()
}

fn abc() -> BTreeSet<RaftId> {
    BTreeSet::from([1, 2, 3])
}

fn mover() -> Mover {
    Mover {
        raft_id: 3,
        boot: 300,
        cluster: CLUSTER,
        from: id(3),
        to: id(13),
        clean: true,
        members: BTreeMap::from([(1, id(1)), (2, id(2)), (3, id(3))]),
        voters: vec![abc()],
    }
}

/// A node of this Raft id at this port, which is its process number as well.
fn node(raft_id: RaftId, port: u16, moved: Moved) -> Sighting {
    let standing = Standing { moved, voters: vec![abc()], ..Standing::default() };
    let who = Identification {
        id: id(port),
        raft_id,
        cluster: CLUSTER,
        empty: false,
        role: Role::Voter,
        boot: port.into(),
        removed: false,
        standing: Box::new(standing),
        speaks: Speaks::own(),
    };
    Sighting { at: id(port), heard: Heard::Node(Box::new(who)) }
}

fn passive(raft_id: RaftId, port: u16) -> Sighting {
    node(raft_id, port, Moved::Passive { from: id(port - 10), clean: true })
}

fn nobody(port: u16) -> Sighting {
    Sighting { at: id(port), heard: Heard::Nobody }
}

fn change(sighting: Sighting, change: impl FnOnce(&mut Identification)) -> Sighting {
    let Heard::Node(mut who) = sighting.heard else { panic!("{sighting:?}") };
    change(&mut who);
    Sighting { heard: Heard::Node(who), ..sighting }
}

/// All three at new addresses, which C found.
fn all_moved() -> Vec<Sighting> {
    vec![nobody(1), nobody(2), nobody(3), passive(1, 11), passive(2, 12)]
}

fn goes_on(mover: &Mover, seen: &[Sighting]) -> bool {
    matches!(judge(mover, seen, None), Verdict::GoOn(_))
}

/// It waits for this.
#[track_caller]
fn waits(mover: &Mover, seen: &[Sighting], wanted: &str) {
    match judge(mover, seen, None) {
        Verdict::Wait { reasons, .. } => {
            assert!(reasons.iter().any(|reason| reason.contains(wanted)), "{wanted}: {reasons:?}");
        }
        other => panic!("{wanted}: {other:?}"),
    }
}

#[test]
fn a_leader_makes_it_a_new_member_unless_it_is_a_copy() {
    let seen = [node(1, 1, Moved::No), node(2, 2, Moved::No), nobody(3)];
    let word = |voter, heard| -> LeaderWord { (id(1), MemberAnswer::Member { voter, heard }) };
    assert_eq!(judge(&mover(), &seen, Some(&word(true, false))), Verdict::Replace);
    assert_eq!(judge(&mover(), &seen, Some(&word(false, false))), Verdict::Settle, "it never votes");
    assert_eq!(judge(&mover(), &seen, Some(&word(true, true))), Verdict::StillHeard(id(1)));
    assert_eq!(judge(&mover(), &seen, Some(&(id(1), MemberAnswer::Removed(7)))), Verdict::Removed(7));
    // Its word is nothing beside the original.
    let original = [seen.as_slice(), &[node(3, 3, Moved::No)]].concat();
    assert_eq!(judge(&mover(), &original, Some(&word(true, false))), Verdict::IsCopy(id(3)));
    assert_eq!(judge(&mover(), &original, None), Verdict::IsCopy(id(3)));
    // Nor is that at the old address alone.
    let elsewhere = [seen.as_slice(), &[node(3, 33, Moved::WentOn { clean: true })]].concat();
    assert_eq!(judge(&mover(), &elsewhere, None), Verdict::IsCopy(id(33)));
    let twin = [all_moved().as_slice(), &[passive(3, 33)]].concat();
    assert_eq!(judge(&mover(), &twin, None), Verdict::HasTwin(id(33)));
    // It meets itself by another name.
    let itself = change(passive(3, 13), |who| who.boot = 300);
    assert!(goes_on(&mover(), &[all_moved().as_slice(), &[itself]].concat()));
}

#[test]
fn movers_go_on_only_where_no_leader_can_be() {
    let Verdict::GoOn(found) = judge(&mover(), &all_moved(), None) else { panic!() };
    assert_eq!(found, BTreeMap::from([(1, id(11)), (2, id(12))]));
    // Two of three.
    assert!(goes_on(&mover(), &[node(1, 1, Moved::No), nobody(2), nobody(3), passive(2, 12)]));
    // One of three: the other two may have a leader.
    let one = [node(1, 1, Moved::No), node(2, 2, Moved::No), nobody(3)];
    waits(&mover(), &one, "did not move are a quorum");
    // One of two, and one alone.
    let two = Mover { voters: vec![BTreeSet::from([1, 3])], ..mover() };
    let first = change(node(1, 1, Moved::No), |who| who.standing.voters = two.voters.clone());
    assert!(goes_on(&two, &[first, nobody(3)]));
    assert!(goes_on(&Mover { voters: vec![BTreeSet::from([3])], ..mover() }, &[nobody(3)]));
    // One that went on already is no settled one.
    let one_went_on = [nobody(1), nobody(2), nobody(3), passive(1, 11), node(2, 12, Moved::WentOn { clean: true })];
    assert!(goes_on(&mover(), &one_went_on));
    // A voter that did not move hears a leader: there is a quorum of processes that are not seen here.
    let hears = change(node(1, 1, Moved::No), |who| who.standing.leader = Some((2, id(2))));
    let seen = [hears, nobody(2), nobody(3), passive(2, 12)];
    waits(&mover(), &seen, "hears the leader");
    assert!(matches!(judge(&mover(), &seen, None), Verdict::Wait { found: None, .. }), "whatever the operator says");
}

#[test]
fn every_voter_is_found_exactly_once() {
    waits(&mover(), &all_moved()[..4], "1 of 3 voters are not found: 127.0.0.1:2,127.0.0.1:1002");
    let twice = [all_moved().as_slice(), &[passive(2, 22)]].concat();
    waits(&mover(), &twice, "127.0.0.1:2,127.0.0.1:1002 is found twice");
    let original = [node(2, 2, Moved::No), passive(1, 11), passive(2, 12), nobody(3)];
    waits(&mover(), &original, "is found twice");
    // A configuration that only others know of counts as well.
    let four = change(passive(1, 11), |who| who.standing.voters.push(BTreeSet::from([1, 2, 3, 4])));
    waits(&mover(), &[four, passive(2, 12), nobody(3)], "1 of 4 voters are not found: a voter of Raft id 4");
    let joint = Mover { voters: vec![abc(), BTreeSet::from([2, 3, 4])], ..mover() };
    waits(&joint, &all_moved(), "a voter of Raft id 4");
    // One of another cluster is nobody.
    let foreign = change(passive(2, 12), |who| who.cluster = Some(ClusterId(1)));
    waits(&mover(), &[passive(1, 11), foreign, nobody(3)], "1 of 3 voters are not found");
}

#[test]
fn nothing_answers_at_an_old_address() {
    for silent in [1, 2, 3] {
        let mut seen = all_moved();
        let place = seen.iter_mut().find(|place| place.at == id(silent)).unwrap();
        place.heard = Heard::Somebody;
        waits(&mover(), &seen, &format!("something listens at {}", id(silent)));
    }
    // Another member may be there now: they swapped, or rotated.
    let swapped = Mover { to: id(2), ..mover() };
    let second = node(2, 3, Moved::Passive { from: id(2), clean: true });
    assert!(goes_on(&swapped, &[node(1, 1, Moved::No), second]));
}

#[test]
fn each_mover_was_stopped_cleanly() {
    waits(&Mover { clean: false, ..mover() }, &all_moved(), "it was not stopped cleanly");
    for moved in [Moved::Passive { from: id(2), clean: false }, Moved::WentOn { clean: false }] {
        let seen = [nobody(3), passive(1, 11), node(2, 12, moved)];
        waits(&mover(), &seen, "127.0.0.1:2,127.0.0.1:1002 was not stopped cleanly");
    }
}

#[test]
fn one_that_never_votes_waits_for_a_leader() {
    let learner = Mover { raft_id: 5, members: BTreeMap::from([(1, id(1)), (5, id(3))]), ..mover() };
    waits(&learner, &[node(1, 1, Moved::No), node(2, 2, Moved::No), nobody(3)], "it is no voter");
    // The log of one that was never let in names nobody.
    let new = Mover { members: BTreeMap::new(), voters: Vec::new(), ..mover() };
    assert_eq!(judge(&new, &[], None), Verdict::Settle);
}
