//! The checker says no where it must, and yes where it must.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::linear::{Op, What, check};

use What::{Cas, Delete, Get, Put};

const fn op(what: What, called: u64, returned: u64) -> Op {
    Op { what, called, returned: Some(returned) }
}

const fn unknown(what: What, called: u64) -> Op {
    Op { what, called, returned: None }
}

fn yes(history: &[Op]) {
    assert_eq!(check(history), Ok(()), "{history:?}");
}

fn no(history: &[Op]) {
    assert!(check(history).is_err(), "{history:?}");
}

#[test]
fn one_after_the_other() {
    yes(&[]);
    yes(&[op(Get(None), 0, 1), op(Put(1), 2, 3), op(Get(Some(1)), 4, 5), op(Delete(Some(true)), 6, 7)]);
    yes(&[op(Put(1), 0, 1), op(Delete(Some(true)), 2, 3), op(Delete(Some(false)), 4, 5), op(Get(None), 6, 7)]);
}

#[test]
fn a_stale_read() {
    no(&[op(Put(1), 0, 1), op(Put(2), 2, 3), op(Get(Some(1)), 4, 5)]);
    no(&[op(Put(1), 0, 1), op(Get(None), 2, 3)]);
    no(&[op(Put(1), 0, 1), op(Delete(Some(true)), 2, 3), op(Get(Some(1)), 4, 5)]);
}

#[test]
fn a_lost_write() {
    no(&[op(Put(1), 0, 1), op(Delete(Some(false)), 2, 3)]);
    // Two writes at once: one of them is last, and nobody may see neither.
    no(&[op(Put(1), 0, 1), op(Put(2), 2, 5), op(Put(3), 2, 5), op(Get(Some(1)), 6, 7)]);
    // An acknowledged write after which an older one comes back.
    no(&[op(Put(1), 0, 1), op(Put(2), 2, 3), op(Get(Some(2)), 4, 5), op(Get(Some(1)), 6, 7)]);
}

#[test]
fn a_value_nobody_wrote() {
    no(&[op(Put(1), 0, 1), op(Get(Some(9)), 2, 3)]);
    // It was read before it was written.
    no(&[op(Get(Some(1)), 0, 1), op(Put(1), 2, 3)]);
    no(&[op(Get(Some(1)), 0, 1), unknown(Put(1), 2)]);
}

#[test]
fn seen_then_unseen() {
    // While it was being written, one saw it, and a later one did not.
    no(&[op(Put(1), 0, 1), op(Put(2), 2, 9), op(Get(Some(2)), 3, 4), op(Get(Some(1)), 5, 6)]);
    // The same of a write of unknown outcome.
    no(&[op(Put(1), 0, 1), unknown(Put(2), 2), op(Get(Some(2)), 3, 4), op(Get(Some(1)), 5, 6)]);
    // Two readers that disagree on the order of two writes.
    no(&[op(Put(1), 0, 9), op(Put(2), 0, 9), op(Get(Some(1)), 1, 2), op(Get(Some(2)), 3, 4), op(Get(Some(1)), 5, 6)]);
}

#[test]
fn at_once() {
    yes(&[op(Put(1), 0, 9), op(Get(None), 1, 2), op(Get(Some(1)), 3, 4), op(Get(Some(1)), 10, 11)]);
    yes(&[op(Put(1), 0, 5), op(Put(2), 1, 4), op(Get(Some(1)), 6, 7)]);
    yes(&[op(Put(1), 0, 5), op(Put(2), 1, 4), op(Get(Some(2)), 6, 7)]);
    yes(&[op(Put(1), 0, 1), op(Delete(Some(true)), 2, 9), op(Put(2), 3, 8), op(Get(Some(2)), 10, 11)]);
    yes(&[op(Put(1), 0, 1), op(Delete(Some(true)), 2, 9), op(Put(2), 3, 8), op(Get(None), 10, 11)]);
}

#[test]
fn unknown_outcomes() {
    // Never, at once, or much later.
    yes(&[unknown(Put(1), 0), op(Get(None), 1, 2)]);
    yes(&[unknown(Put(1), 0), op(Get(Some(1)), 1, 2)]);
    yes(&[unknown(Put(1), 0), op(Put(2), 1, 2), op(Get(Some(2)), 3, 4), op(Get(Some(1)), 5, 6)]);
    yes(&[op(Put(1), 0, 1), unknown(Delete(None), 2), op(Get(Some(1)), 3, 4), op(Get(None), 5, 6)]);
    yes(&[unknown(Put(1), 0), op(Delete(Some(true)), 1, 2), op(Get(None), 3, 4)]);
    // But once only.
    no(&[unknown(Put(1), 0), op(Delete(Some(true)), 1, 2), op(Delete(Some(true)), 3, 4)]);
    no(&[unknown(Put(1), 0), op(Get(Some(1)), 1, 2), op(Delete(Some(true)), 3, 4), op(Get(Some(1)), 5, 6)]);
    no(&[op(Put(1), 0, 1), unknown(Delete(None), 2), op(Get(None), 3, 4), op(Put(2), 5, 6), op(Get(None), 7, 8)]);
}

#[test]
fn compare_and_set() {
    let cas = |from, to| Cas { from, to };
    yes(&[op(Put(1), 0, 1), op(cas(1, 2), 2, 3), op(Get(Some(2)), 4, 5)]);
    // Two found the same value: an update is lost.
    no(&[op(Put(1), 0, 1), op(cas(1, 2), 2, 9), op(cas(1, 3), 2, 9)]);
    no(&[op(Put(1), 0, 1), op(Put(2), 2, 3), op(cas(1, 3), 4, 5)]);
    // Of unknown outcome: one needs the other.
    yes(&[op(Put(1), 0, 1), unknown(cas(2, 3), 2), unknown(cas(1, 2), 3), op(Get(Some(3)), 4, 5)]);
    no(&[op(Put(1), 0, 1), unknown(cas(2, 3), 2), op(Get(Some(3)), 4, 5)]);
    no(&[op(Put(1), 0, 1), unknown(cas(1, 2), 6), op(cas(2, 3), 4, 5)]);
}

/// A long history with many writes of unknown outcome takes no exponential time.
#[test]
fn many_unknown_outcomes() {
    let mut history = Vec::new();
    for round in 0..500_u64 {
        let at = round * 10;
        history.push(unknown(Put(10_000 + round), at));
        history.push(unknown(Delete(None), at + 1));
        history.push(op(Put(round), at + 2, at + 5));
        history.push(op(Get(Some(round)), at + 6, at + 7));
        if round % 5 == 4 {
            history.push(op(Get(Some(10_000 + round - 3)), at + 8, at + 9));
        }
    }
    yes(&history);
    history.push(op(Get(Some(7)), 9_000, 9_001));
    no(&history);
}

/// Without any short cut: every order, each unknown write in or out.
fn by_trying_all(history: &[Op], taken: u32, state: Option<u64>) -> bool {
    let left = |number: &usize| taken >> number & 1 == 0;
    let known = (0..history.len()).filter(left).filter_map(|number| history[number].returned);
    let Some(end) = known.min() else { return true };
    (0..history.len()).filter(left).filter(|&number| history[number].called <= end).any(|number| {
        let next = match history[number].what {
            Put(value) => Some(Some(value)),
            Delete(found) => found.is_none_or(|found| found == state.is_some()).then_some(None),
            Get(value) => (value == state).then_some(state),
            Cas { from, to } => (state == Some(from)).then_some(Some(to)),
        };
        next.is_some_and(|state| by_trying_all(history, taken | 1 << number, state))
    })
}

#[test]
fn as_trying_all_orders_says() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut linearizable = 0;
    const HISTORIES: usize = 30_000;
    for _ in 0..HISTORIES {
        let mut history = Vec::new();
        for number in 0..3 + rng.random_range(0..5) {
            let called = rng.random_range(0..20);
            let returned = (rng.random_range(0..4) > 0).then(|| called + rng.random_range(0..8));
            let what = match rng.random_range(0..7) {
                0 | 1 => Put(number),
                2 | 3 => Cas { from: rng.random_range(0..6), to: number },
                4 => Delete(returned.map(|_| rng.random_range(0..2) == 0)),
                _ => Get(Some(rng.random_range(0..6)).filter(|&value| value > 0)),
            };
            if returned.is_some() || !matches!(what, Get(_)) {
                history.push(Op { what, called, returned });
            }
        }
        let says = check(&history).is_ok();
        assert_eq!(says, by_trying_all(&history, 0, None), "{history:?}");
        linearizable += usize::from(says);
    }
    assert!((HISTORIES / 20..HISTORIES / 20 * 19).contains(&linearizable), "{linearizable} of {HISTORIES}: no test");
}
