//! Writes under way at the moment when a leader is stopped.
//!
//! What a cluster does with them is the hardest thing that it does: nobody knows yet whether they count. At the rate of the
//! load hardly one is under way at any moment. So a part of the rate is saved up, and spent while a leader is stopped: many
//! writes at a time, through the nodes that stay. Each has a key of its own, and is such that to do it twice is seen.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::Drill;
use super::load::{Ask, once};
use crate::exit::Exit;

/// One of so many requests of the rate is saved up, in a drill that stops nodes.
const SAVED: u64 = 3;

/// At most so many writes of a drill are made so: all their keys are read in the end, at each node.
const MOST: u64 = 2_000;

/// A burst begins once this is saved for each client; until then it is saved for the next time.
const ROUNDS: u64 = 3;

/// How many are under way at a time through each node.
const AT_A_TIME: usize = 6;

/// A client waits this part of the time since its first write before its next: how long the command takes is not known, and
/// some are to be under way when it has its effect.
const WAIT_PART: u32 = 10;

/// The node is stopped after this time, whoever has been answered.
const BEGINS_WITHIN: Duration = Duration::from_secs(1);

/// What has been saved, and spent.
#[derive(Debug)]
pub(super) struct Savings {
    began: Instant,
    in_a_second: f64,
    spent: Cell<u64>,
}

impl Savings {
    /// Makes those of a drill at this rate, for so many seconds. One that stops no node saves nothing.
    pub(super) fn new(rate: u64, seconds: u64, stops: bool) -> Self {
        let saved = if stops { (rate / SAVED) as f64 } else { 0.0 };
        let in_a_second = saved.min(MOST as f64 / seconds as f64);
        Self { began: Instant::now(), in_a_second, spent: Cell::new(0) }
    }

    /// What is left of the rate for the load.
    pub(super) fn rest(&self, rate: u64) -> f64 {
        rate as f64 - self.in_a_second
    }

    fn left(&self) -> u64 {
        let saved = self.began.elapsed().as_secs_f64() * self.in_a_second;
        (saved as u64).saturating_sub(self.spent.get())
    }

    /// True where there was one left.
    fn spend(&self) -> bool {
        let is_left = self.left() > 0;
        self.spent.set(self.spent.get() + u64::from(is_left));
        is_left
    }
}

/// The writes around one stop.
#[derive(Debug)]
pub(super) struct Burst {
    /// The node that each client writes through.
    through: Vec<usize>,
    /// How many of the clients have been answered, or have ended.
    answered: watch::Sender<usize>,
    is_stopped: Cell<bool>,
}

impl Burst {
    /// Writes through all nodes but `leader`; none where no leader is stopped, or too little is saved.
    pub(super) fn new(drill: &Drill<'_>, leader: Option<usize>) -> Self {
        let others = (0..drill.nodes.len()).filter(|node| leader.is_some_and(|leader| leader != *node));
        let mut through: Vec<usize> = others.flat_map(|node| std::iter::repeat_n(node, AT_A_TIME)).collect();
        if drill.savings.left() < ROUNDS * through.len() as u64 {
            through.clear();
        }
        Self { through, answered: watch::Sender::new(0), is_stopped: Cell::new(false) }
    }

    /// Writes until the node is stopped, or nothing saved is left.
    ///
    /// # Errors
    /// It is not permitted: 77.
    pub(super) async fn write(&self, drill: &Drill<'_>, first_client: usize) -> Result<(), Exit> {
        let clients = self.through.iter().enumerate().map(async |(number, &node)| {
            let ended = self.write_through(drill, first_client, number, node).await;
            self.answered.send_modify(|answered| *answered += 1);
            ended
        });
        join_all(clients).await.into_iter().collect()
    }

    async fn write_through(
        &self,
        drill: &Drill<'_>,
        first_client: usize,
        number: usize,
        node: usize,
    ) -> Result<(), Exit> {
        let (began, mut is_first) = (Instant::now(), true);
        while !self.is_stopped.get() && !drill.is_over() && drill.savings.spend() {
            let value = drill.next_value();
            let ask = match value % 3 {
                0 => Ask::Put(value),
                1 => Ask::Create(value),
                _ => Ask::Add(value),
            };
            once(drill, first_client + number, node, drill.own_key(), ask).await?;
            self.answered.send_modify(|answered| *answered += usize::from(is_first));
            let wait = match std::mem::take(&mut is_first) {
                // From now on they are not in step: each is somewhere else when the node stops.
                true => began.elapsed().mul_f64(number as f64 / self.through.len() as f64),
                false => began.elapsed() / WAIT_PART,
            };
            sleep(wait).await;
        }
        Ok(())
    }

    /// Waits until each client has been answered: from now on there are always some under way.
    pub(super) async fn is_under_way(&self) {
        let mut answered = self.answered.subscribe();
        // The sender is there as long as this is.
        let _ = timeout(BEGINS_WITHIN, answered.wait_for(|answered| *answered >= self.through.len())).await;
    }

    /// Nothing more is written: the node is stopped.
    pub(super) fn end(&self) {
        self.is_stopped.set(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_is_spent_than_was_saved() {
        let spent_of = async |rate, seconds, stops| {
            let savings = Savings::new(rate, seconds, stops);
            assert!(!savings.spend(), "nothing is saved yet");
            tokio::time::advance(Duration::from_secs(seconds)).await;
            let spent = (0..).take_while(|_| savings.spend()).count();
            (savings.rest(rate), spent)
        };
        assert_eq!(spent_of(200, 30, true).await, (134.0, 1_980));
        assert_eq!(spent_of(5_000, 20, true).await, (4_900.0, 2_000), "all of it can be read in the end");
        assert_eq!(spent_of(2, 20, true).await, (2.0, 0));
        assert_eq!(spent_of(200, 30, false).await, (200.0, 0));
    }
}
