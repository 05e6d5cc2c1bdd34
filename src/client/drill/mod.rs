//! `hraftd drill`: load on a running cluster whose lead moves and whose nodes are stopped, and a check of what the clients
//! saw.
//!
//! * [`load`], [`burst`], [`visiting`], [`watching`], [`locking`]: the clients. [`faults`]: what is done to the cluster meanwhile.
//! * [`history`]: what the clients saw. [`check`]: is a key's history linearizable? [`findings`]: what is wrong, and the
//!   operations that prove it. All of these are pure.
//! * [`report`]: what is told in the end.

mod burst;
pub mod check;
mod faults;
mod findings;
mod history;
mod load;
mod locking;
mod report;
#[cfg(test)]
mod tests;
mod visiting;
mod watching;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use futures_util::future::join_all;
use hyper::Method;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::link::{Cluster, Request, encoded, key_path, query};
use super::out::say;
use super::progress::{Line, bar};
use super::signals::{Signals, ended_by};
use crate::config::{Access, DrillArgs, Endpoint};
use crate::exit::{EX_FAILURE, EX_TEMPFAIL, Exit};
use history::{History, Key};

/// The most operations that a drill writes down: some 200 MB.
const MOST_OPERATIONS: u64 = 1_000_000;

/// The first and the last key that a drill writes.
const BEGIN: &str = "begin";
const END: &str = "end";

/// The watch comes to the last write within this time.
const WATCH_WITHIN: Duration = Duration::from_secs(15);

/// What all clients of a drill share.
struct Drill<'a> {
    cluster: &'a Cluster,
    nodes: Vec<Endpoint>,
    /// Of its keys and its lock; no other drill has it.
    prefix: String,
    /// Its keys end by themselves where they cannot be deleted.
    ttl: String,
    began: Instant,
    values: Cell<u64>,
    operations: Cell<u64>,
    /// One operation of so many is a write of a key that is written once; none where no node is stopped.
    once_every: Option<u64>,
    /// The part of the rate that is for the moments when a leader is stopped.
    savings: burst::Savings,
    /// The key of the write that was acknowledged last.
    last: Cell<Option<Key>>,
    /// The node that is stopped now, by its number.
    stopped: Cell<Option<usize>>,
    history: RefCell<History>,
    ends: watch::Sender<bool>,
    interrupted: Cell<Option<Signal>>,
}

impl Drill<'_> {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn is_over(&self) -> bool {
        *self.ends.borrow()
    }

    /// Waits for the end of the load.
    async fn over(&self) {
        // It is there as long as the drill.
        let _ = self.ends.subscribe().wait_for(|ends| *ends).await;
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.get().is_some()
    }

    /// A value that no other operation writes.
    fn next_value(&self) -> u64 {
        self.values.set(self.values.get() + 1);
        self.values.get()
    }

    fn next_key(&self) -> Key {
        let number = self.operations.get();
        self.operations.set(number + 1);
        let slot = match self.once_every.is_some_and(|every| number.is_multiple_of(every)) {
            true => load::SLOTS + number,
            false => rand::RngExt::random_range(&mut rand::rng(), 0..load::SLOTS),
        };
        Key { group: number / load::GROUP_OPERATIONS, slot }
    }

    /// A key that no other operation writes.
    fn own_key(&self) -> Key {
        let number = self.operations.get();
        self.operations.set(number + 1);
        Key { group: number / load::GROUP_OPERATIONS, slot: load::SLOTS + number }
    }

    /// A node beside this one; not the one that is stopped, where there are others.
    fn beside(&self, node: usize) -> usize {
        let next = (node + 1) % self.nodes.len();
        if self.stopped.get() == Some(next) { (next + 1) % self.nodes.len() } else { next }
    }

    fn name(&self, key: Key) -> String {
        format!("{}{key}", self.prefix)
    }
}

/// Puts the cluster to the proof.
///
/// # Errors
/// The end of the process: 1, 64, 69, 75 or 77, or that of a signal.
pub(super) async fn drill(cluster: &Cluster, access: &Access, args: &DrillArgs) -> Result<Exit, Exit> {
    if args.seconds.saturating_mul(args.rate) > MOST_OPERATIONS {
        return Err(Exit::usage(format!("--seconds times --rate is more than {MOST_OPERATIONS} requests")));
    }
    let mut signals = Signals::take()?;
    let (nodes, left_out) = tokio::select! {
        nodes = cluster.all_members(access) => nodes?,
        signal = signals.end() => return Err(ended_by(signal)),
    };
    left_out.iter().for_each(|why| say(why));
    let all = cluster.at(nodes.clone());
    let names = nodes.iter().map(ToString::to_string).collect();
    let drill = Drill {
        cluster: &all,
        nodes,
        prefix: format!("{}{}/", args.prefix, &super::random_id()[..12]),
        ttl: format!("{}s", args.seconds + 600),
        began: Instant::now(),
        values: Cell::new(0),
        operations: Cell::new(0),
        once_every: args.stop.as_ref().map(|_| (args.seconds * args.rate / load::MOST_ONCE).max(load::ONCE_EVERY)),
        savings: burst::Savings::new(args.rate, args.seconds, args.stop.is_some()),
        last: Cell::new(None),
        stopped: Cell::new(None),
        history: RefCell::new(History { nodes: names, ..History::default() }),
        ends: watch::Sender::new(false),
        interrupted: Cell::new(None),
    };
    let first = tokio::select! {
        first = mark(&drill, BEGIN) => first?,
        signal = signals.end() => {
            clean_up(&drill).await;
            return Err(ended_by(signal));
        }
    };
    let listen = async {
        loop {
            let signal = signals.end().await;
            if drill.is_interrupted() {
                return signal;
            }
            drill.interrupted.set(Some(signal));
            drill.ends.send_replace(true);
        }
    };
    let ended = tokio::select! {
        ended = run_all(&drill, args, first) => ended,
        signal = listen => {
            say(&format!("drill: keys under {:?} are left, for {} at most; see whether all nodes run", drill.prefix, drill.ttl));
            return Err(ended_by(signal));
        }
    };
    clean_up(&drill).await;
    if let Some(signal) = drill.interrupted.get() {
        return Err(ended_by(signal));
    }
    let mut history = drill.history.into_inner();
    match ended {
        Ok(seconds) => told_of(&history, seconds, access.json),
        Err(exit) => {
            // It broke off. What was wrong by then is wrong, but of the watch nothing more is known.
            history.watch_is_whole = true;
            history.holes.push((history.events.last().map_or(first, |event| event.id.0), u64::MAX));
            match findings::of(&history).is_empty() {
                true => Err(exit),
                false => {
                    let told = told_of(&history, args.seconds as f64, access.json)?;
                    Err(Exit { out: told.out, ..Exit::error(EX_FAILURE, exit.err.unwrap_or_default()) })
                }
            }
        }
    }
}

/// Load, faults and the watch, to the last write; the seconds of load.
async fn run_all(drill: &Drill<'_>, args: &DrillArgs, first: u64) -> Result<f64, Exit> {
    let is_done = watch::Sender::new(false);
    let load = async {
        let ended = run_load(drill, args).await;
        drill.ends.send_replace(true);
        let ended = match ended {
            Ok(seconds) if !drill.is_interrupted() => finish(drill, args).await.map(|()| seconds),
            ended => ended,
        };
        is_done.send_replace(true);
        ended
    };
    // A node that was stopped is started whatever the watch says: the load is not given up.
    let watching = async {
        let mut done = is_done.subscribe();
        let late = async {
            let _ = done.wait_for(|done| *done).await;
            if !drill.is_interrupted() {
                sleep(WATCH_WITHIN).await;
            }
        };
        let ended = tokio::select! {
            ended = async {
                watching::watch(drill, first).await?;
                watching::watch_again(drill, first).await
            } => ended,
            () = late => Ok(()),
        };
        if ended.is_err() {
            drill.ends.send_replace(true);
        }
        ended
    };
    let (load, watching) = tokio::join!(load, watching);
    watching.and(load)
}

async fn run_load(drill: &Drill<'_>, args: &DrillArgs) -> Result<f64, Exit> {
    let began = Instant::now();
    let clock = async {
        tokio::select! {
            () = drill.over() => {}
            () = sleep_until(began + Duration::from_secs(args.seconds)) => {}
            () = show_progress(drill, args.seconds) => {}
        }
        drill.ends.send_replace(true);
        Ok(began.elapsed().as_secs_f64())
    };
    let (clients, rate) = (load::clients(args.rate), drill.savings.rest(args.rate));
    let failed = |ended: Result<(), Exit>| {
        if ended.is_err() {
            drill.ends.send_replace(true);
        }
        ended
    };
    let failed = &failed;
    let work = (0..clients).map(|client| async move { failed(load::work(drill, client, clients, rate).await) });
    let lock =
        (0..locking::CLIENTS).map(|number| async move { failed(locking::contend(drill, clients + number).await) });
    // A node that was stopped is started, whatever else fails: none of these is given up.
    let faults = async { failed(faults::disturb(drill, args).await) };
    let (work, lock, faults, seconds) = tokio::join!(join_all(work), join_all(lock), faults, clock);
    work.into_iter().chain(lock).collect::<Result<Vec<()>, _>>()?;
    faults.and(seconds)
}

/// The last reads, and the last write.
async fn finish(drill: &Drill<'_>, args: &DrillArgs) -> Result<(), Exit> {
    load::read_all(drill, load::clients(args.rate) + locking::CLIENTS).await?;
    mark(drill, END).await.map(drop)
}

/// Writes a key that is no part of the load; its index.
async fn mark(drill: &Drill<'_>, key: &str) -> Result<u64, Exit> {
    let path = query(&key_path(&format!("{}{key}", drill.prefix)), &[("ttl", Some(drill.ttl.clone()))]);
    let said = drill.cluster.send(&Request::write(Method::PUT, path, "drill")).await?.ok()?.json()?;
    said["index"].as_u64().ok_or_else(|| Exit::error(EX_FAILURE, "the answer is not hraftd's: it has no index"))
}

/// A line on a terminal's stderr; without one it waits for ever.
async fn show_progress(drill: &Drill<'_>, seconds: u64) {
    let mut line = Line::new();
    if !line.is_looked_at() {
        return std::future::pending().await;
    }
    loop {
        sleep(Duration::from_millis(200)).await;
        let (gone, history) = (drill.began.elapsed().as_secs().min(seconds), drill.history.borrow());
        let (done, faults) = (history.records.len(), history.disturbances.len());
        line.show(|| {
            format!("drill: [{}] {gone} of {seconds} s, {done} requests, {faults} moves and stops", bar(gone, seconds))
        });
    }
}

async fn clean_up(drill: &Drill<'_>) {
    let path = format!("/hraftd/key?prefix={}", encoded(&drill.prefix));
    let delete = Request::write(Method::DELETE, path, "");
    let deleted = timeout(Duration::from_secs(15), drill.cluster.send(&delete)).await;
    if !matches!(deleted, Ok(Ok(answer)) if answer.status.is_success()) {
        say(&format!("drill: the keys under {:?} could not be deleted: they end within {}", drill.prefix, drill.ttl));
    }
}

fn told_of(history: &History, seconds: f64, json: bool) -> Result<Exit, Exit> {
    let findings = findings::of(history);
    let out = match json {
        true => format!("{}\n", report::json(history, &findings, seconds)),
        false => report::text(history, &findings, seconds),
    };
    let exit = Exit::printed(out);
    let acknowledged =
        history.records.iter().any(|record| record.op.returned.is_some() && record.op.what.written().is_some());
    Ok(match (findings.is_empty(), acknowledged, history.unread.len()) {
        (false, _, _) => Exit { code: EX_FAILURE, ..exit },
        (true, true, 0) => exit,
        (true, false, _) => {
            let why = history.last_failure.as_deref().unwrap_or("nothing failed, and nothing was answered");
            let why = format!("drill: no write was acknowledged, so nothing is shown: {why}");
            Exit { out: exit.out, ..Exit::error(EX_TEMPFAIL, why) }
        }
        (true, true, unread) => {
            let why =
                format!("drill: no node would read {unread} of the keys in the end: a lost write may be among them");
            Exit { out: exit.out, ..Exit::error(EX_TEMPFAIL, why) }
        }
    })
}
