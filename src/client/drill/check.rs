//! Is the history of one register linearizable?
//!
//! The search of Wing and Gong with Lowe's memoisation: take any operation that may come next, as long as none that
//! is not taken yet had returned before it was called; never look twice at the same set taken with the same state.
//! One history a key is enough (linearizability is local).
//!
//! A write whose outcome is unknown may take effect at any time after its call, or never. It matters only where the
//! very next operation sees its effect, so it is taken together with that one, and only where that one fits no better.
//! That needs values that are written once: then a delete that found something cannot have found a value that
//! somebody reads later. A compare-and-set of unknown outcome may need another before it: they are taken as a chain.
//! One that is known not to have been done is written down as the read of what it found.

use std::collections::HashSet;

/// What an operation did, as far as its answer told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// A write of a value that no other operation writes.
    Put(u64),
    /// Whether there was something to delete; `None` for not known.
    Delete(Option<bool>),
    /// A read, and what it saw.
    Get(Option<u64>),
    /// A compare-and-set that was done, or whose outcome is unknown.
    Cas {
        /// The value that it found.
        from: u64,
        /// The value that it wrote: no other operation writes it.
        to: u64,
    },
}

/// An operation and its time, from any one clock that all clients share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Op {
    /// What it did.
    pub what: What,
    /// When it was asked for.
    pub called: u64,
    /// When it was answered; `None`: its outcome is unknown.
    pub returned: Option<u64>,
}

/// How far the search came at best.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Operations in order up to here.
    pub ordered: u32,
    /// What the register has after them.
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
    /// The values that somebody read, or compared with success.
    read: HashSet<u64>,
    /// The values that a compare-and-set of unknown outcome compared with.
    compared: HashSet<u64>,
}

/// `Ok` where the operations, each at one moment between its call and its return, make sense in some order. The register
/// is empty at first, and each value is written once at most.
///
/// # Errors
/// How far the search came, where there is no such order.
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
        let compared =
            unknown.iter().filter_map(|op| if let What::Cas { from, .. } = op.what { Some(from) } else { None });
        let compared = compared.collect();
        known.append(&mut unknown);
        let mut written = HashSet::new();
        let mut read = HashSet::new();
        for op in &known {
            let is_new = op.what.written().is_none_or(|value| written.insert(value));
            debug_assert!(is_new, "{op:?} is written twice");
            match op.what {
                What::Get(Some(value)) => drop(read.insert(value)),
                What::Cas { from, .. } if op.returned.is_some() => drop(read.insert(from)),
                _ => {}
            }
        }
        Self { ops: known, known: count, read, compared }
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
        let step = |&number: &usize| -> Vec<Point> {
            let what = self.ops[number].what;
            if let Some(state) = apply(point.state, what) {
                return vec![point.after(&[number], state)];
            }
            let with = |mut chain: Vec<usize>| {
                chain.push(number);
                let state = chain.iter().try_fold(point.state, |state, &number| apply(state, self.ops[number].what))?;
                Some(point.after(&chain, state))
            };
            self.helpers(point, what, end).into_iter().filter_map(with).collect()
        };
        // A read that fits now may come now: it changes nothing.
        let fits = |&&number: &&usize| self.ops[number].what == What::Get(point.state);
        match open.iter().find(fits) {
            Some(read) => step(read),
            // The last one is tried first: the operation that returns earliest.
            None => {
                let mut by_return = open.to_vec();
                by_return.sort_by_key(|&number| std::cmp::Reverse(self.ops[number].returned));
                by_return.iter().flat_map(step).collect()
            }
        }
    }

    /// Writes of unknown outcome that can have made the state that this operation saw, each with those it needs.
    fn helpers(&self, point: &Point, saw: What, end: u64) -> Vec<Vec<usize>> {
        match saw {
            What::Get(Some(value)) | What::Cas { from: value, .. } => {
                self.chain(point, value, end).into_iter().collect()
            }
            What::Delete(Some(true)) => {
                let unread =
                    |number: &usize| matches!(self.ops[*number].what, What::Put(value) if !self.read.contains(&value));
                let needless = |number: &&usize| {
                    self.ops[**number].what.written().is_some_and(|value| !self.compared.contains(&value))
                };
                let all: Vec<usize> = self.unknown(point, end).filter(unread).collect();
                match all.iter().find(needless) {
                    Some(&number) => vec![vec![number]],
                    None => all.into_iter().map(|number| vec![number]).collect(),
                }
            }
            What::Get(None) | What::Delete(Some(false)) => {
                let delete = |number: &usize| matches!(self.ops[*number].what, What::Delete(_));
                self.unknown(point, end).find(delete).map(|number| vec![number]).into_iter().collect()
            }
            What::Put(_) | What::Delete(None) => Vec::new(),
        }
    }

    /// Writes of unknown outcome that may be taken.
    fn unknown(&self, point: &Point, end: u64) -> impl Iterator<Item = usize> {
        let called = (self.known..self.ops.len()).take_while(move |&number| self.ops[number].called <= end);
        called.filter(|&number| !point.has(number))
    }

    /// Those that leave this value, one after the other.
    fn chain(&self, point: &Point, value: u64, end: u64) -> Option<Vec<usize>> {
        let (mut chain, mut wanted) = (Vec::new(), value);
        loop {
            let writes = |number: &usize| self.ops[*number].what.written() == Some(wanted);
            let number = self.unknown(point, end).find(writes).filter(|number| !chain.contains(number))?;
            chain.push(number);
            match self.ops[number].what {
                What::Cas { from, .. } if point.state != Some(from) => wanted = from,
                _ => break,
            }
        }
        chain.reverse();
        Some(chain)
    }
}

impl What {
    /// The value that it writes.
    pub fn written(self) -> Option<u64> {
        match self {
            Self::Put(value) | Self::Cas { to: value, .. } => Some(value),
            Self::Delete(_) | Self::Get(_) => None,
        }
    }
}

/// The state that the operation leaves, where it can answer as it did.
fn apply(state: State, what: What) -> Option<State> {
    match what {
        What::Put(value) => Some(Some(value)),
        What::Delete(found) => found.is_none_or(|found| found == state.is_some()).then_some(None),
        What::Get(value) => (value == state).then_some(state),
        What::Cas { from, to } => (state == Some(from)).then_some(Some(to)),
    }
}
