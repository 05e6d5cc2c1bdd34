//! Is the history of one register linearizable?
//!
//! The search of Wing and Gong with Lowe's memoisation: take any operation that may come next, as long as none that
//! is not taken yet had returned before it was called; never look twice at the same set taken with the same state.
//! One history a key is enough (linearizability is local).
//!
//! A write whose outcome is unknown may take effect at any time after its call, or never. It matters only where the
//! very next operation sees its effect, so it is taken together with that one, and only where that one fits no better.
//! That needs values that are written once: then a delete that found something cannot have found a value that
//! somebody reads later.

use std::collections::HashSet;

/// An operation, with what it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    Put(u64),
    /// Whether there was something to delete; `None` for not known.
    Delete(Option<bool>),
    Get(Option<u64>),
}

/// Times are from any one clock that all clients share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Op {
    pub what: What,
    pub called: u64,
    /// `None`: its outcome is unknown.
    pub returned: Option<u64>,
}

/// How far the search came at best.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Operations in order up to here.
    pub ordered: u32,
    pub state: Option<u64>,
    /// One of these had to come next; none can.
    pub next: Vec<Op>,
}

/// The register's content.
type State = Option<u64>;

/// A set of operations taken, and the state they left.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Point {
    taken: Vec<u64>,
    state: State,
}

impl Point {
    fn has(&self, number: usize) -> bool {
        self.taken[number / 64] >> (number % 64) & 1 == 1
    }

    fn after(&self, numbers: &[usize], state: State) -> Self {
        let mut taken = self.taken.clone();
        for number in numbers {
            taken[number / 64] |= 1 << (number % 64);
        }
        Self { taken, state }
    }
}

/// The operations of one register: those with a known outcome first, each part by call.
#[derive(Debug)]
struct History {
    ops: Vec<Op>,
    known: usize,
    /// The values that somebody read.
    read: HashSet<u64>,
}

/// `Ok` where the operations, each at one moment between its call and its return, make sense in some order.
pub fn check(ops: &[Op]) -> Result<(), Stuck> {
    let history = History::new(ops);
    let first = Point { taken: vec![0; history.ops.len() / 64 + 1], state: None };
    let mut seen = HashSet::from([first.clone()]);
    let mut points = vec![first];
    let mut best: Option<Stuck> = None;
    while let Some(point) = points.pop() {
        let (open, end) = history.open(&point);
        if open.is_empty() {
            return Ok(());
        }
        let ordered = point.taken.iter().map(|word| word.count_ones()).sum();
        if best.as_ref().is_none_or(|best| best.ordered < ordered) {
            let next = open.iter().map(|&number| history.ops[number]).collect();
            best = Some(Stuck { ordered, state: point.state, next });
        }
        for next in history.steps(&point, &open, end) {
            if seen.insert(next.clone()) {
                points.push(next);
            }
        }
    }
    best.map_or(Ok(()), Err)
}

impl History {
    fn new(ops: &[Op]) -> Self {
        let (mut known, mut unknown): (Vec<Op>, Vec<Op>) = ops.iter().partition(|op| op.returned.is_some());
        unknown.retain(|op| !matches!(op.what, What::Get(_)));
        known.sort_by_key(|op| op.called);
        unknown.sort_by_key(|op| op.called);
        let count = known.len();
        known.append(&mut unknown);
        let mut written = HashSet::new();
        let mut read = HashSet::new();
        for op in &known {
            match op.what {
                What::Put(value) => assert!(written.insert(value), "{value} is written twice"),
                What::Get(Some(value)) => drop(read.insert(value)),
                What::Get(None) | What::Delete(_) => {}
            }
        }
        Self { ops: known, known: count, read }
    }

    /// The operations that may come next, and the earliest return among those not taken.
    fn open(&self, point: &Point) -> (Vec<usize>, u64) {
        let full = point.taken.iter().take_while(|&&word| word == u64::MAX).count();
        let (mut open, mut end) = (Vec::new(), u64::MAX);
        for number in full * 64..self.known {
            if self.ops[number].called > end {
                break;
            }
            if !point.has(number) {
                open.push(number);
                end = end.min(self.ops[number].returned.unwrap_or(u64::MAX));
            }
        }
        open.retain(|&number| self.ops[number].called <= end);
        (open, end)
    }

    fn steps(&self, point: &Point, open: &[usize], end: u64) -> Vec<Point> {
        let step = |&number: &usize| {
            let what = self.ops[number].what;
            if let Some(state) = apply(point.state, what) {
                return Some(point.after(&[number], state));
            }
            let helper = self.helper(point, what, end)?;
            let state = apply(apply(point.state, self.ops[helper].what)?, what)?;
            Some(point.after(&[helper, number], state))
        };
        // A read that fits now may come now: it changes nothing.
        let fits = |&&number: &&usize| self.ops[number].what == What::Get(point.state);
        match open.iter().find(fits) {
            Some(read) => step(read).into_iter().collect(),
            // The last one is tried first: the operation that returns earliest.
            None => {
                let mut by_return = open.to_vec();
                by_return.sort_by_key(|&number| std::cmp::Reverse(self.ops[number].returned));
                by_return.iter().filter_map(step).collect()
            }
        }
    }

    /// A write of unknown outcome that can have made the state that this operation saw.
    fn helper(&self, point: &Point, saw: What, end: u64) -> Option<usize> {
        let fits = |wrote: What| match (saw, wrote) {
            (What::Get(Some(value)), What::Put(written)) => value == written,
            (What::Delete(Some(true)), What::Put(written)) => !self.read.contains(&written),
            (What::Get(None) | What::Delete(Some(false)), What::Delete(_)) => true,
            _ => false,
        };
        let mut called = (self.known..self.ops.len()).take_while(|&number| self.ops[number].called <= end);
        called.find(|&number| !point.has(number) && fits(self.ops[number].what))
    }
}

/// The state that the operation leaves, where it can answer as it did.
fn apply(state: State, what: What) -> Option<State> {
    match what {
        What::Put(value) => Some(Some(value)),
        What::Delete(found) => found.is_none_or(|found| found == state.is_some()).then_some(None),
        What::Get(value) => (value == state).then_some(state),
    }
}
