//! `hraftd bench`: load on a running cluster under a prefix of its own, and how much of it was answered how soon.
//!
//! * [`times`]: how long requests took. [`report`]: what is told in the end.

mod report;
mod times;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use hyper::{Method, StatusCode};
use rand::RngExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::link::{Cluster, Ended, Request, encoded, key_path, query};
use super::out::say;
use super::progress::{Line, bar};
use super::signals::{Signals, ended_by};
use crate::config::{Access, BenchArgs, Endpoint};
use crate::exit::{EX_NOPERM, EX_TEMPFAIL, Exit};
use report::{Measured, Run};

/// A request that is not answered within this time has failed. The server gives up before: nothing is done later.
const ATTEMPT: Duration = Duration::from_secs(5);
const SERVER_TIMEOUT: &str = "4s";

/// A connection waits so long after a failure: a node that is gone is not asked without an end.
const PAUSE: Duration = Duration::from_millis(100);

/// What was written is deleted within this time, or ends by itself.
const CLEAN_WITHIN: Duration = Duration::from_secs(15);

/// What all connections share.
struct Bench<'a> {
    cluster: &'a Cluster,
    nodes: Vec<Endpoint>,
    args: &'a BenchArgs,
    prefix: String,
    ttl: String,
    value: Bytes,
    /// Keys that were written before the measured time, by their numbers.
    prepared: Cell<u64>,
    measured: RefCell<Measured>,
    ends: watch::Sender<bool>,
}

/// Measures the cluster.
///
/// # Errors
/// The end of the process: 1, 69, 75 or 77, or that of a signal.
pub(super) async fn bench(cluster: &Cluster, access: &Access, args: &BenchArgs) -> Result<Exit, Exit> {
    let mut signals = Signals::take()?;
    let bytes = usize::try_from(args.value_size).unwrap_or_default();
    let (nodes, left_out) = tokio::select! {
        nodes = cluster.all_members(access) => nodes?,
        signal = signals.end() => return Err(ended_by(signal)),
    };
    left_out.iter().for_each(|why| say(why));
    let all = cluster.at(nodes.clone());
    let bench = Bench {
        cluster: &all,
        nodes,
        args,
        prefix: format!("{}{}/", args.prefix, &super::random_id()[..12]),
        ttl: format!("{}s", args.seconds + 600),
        value: Bytes::from(vec![b'x'; bytes]),
        prepared: Cell::new(0),
        measured: RefCell::default(),
        ends: watch::Sender::new(false),
    };
    let interrupted = Cell::new(None);
    let listen = async {
        loop {
            let signal = signals.end().await;
            if interrupted.replace(Some(signal)).is_some() {
                return signal;
            }
            bench.ends.send_replace(true);
        }
    };
    let whole = async {
        let ended = async {
            bench.prepare().await?;
            bench.measure().await
        };
        let ended = ended.await;
        bench.clean_up().await;
        ended
    };
    let ended = tokio::select! {
        ended = whole => ended,
        signal = listen => {
            say(&format!("bench: keys under {:?} are left, for {} at most", bench.prefix, bench.ttl));
            return Err(ended_by(signal));
        }
    };
    let measured = bench.measured.take();
    let seconds = ended?;
    let run = Run { seconds, connections: bench.connections(), nodes: bench.nodes.len(), value_size: args.value_size };
    let out = match access.json {
        true => format!("{}\n", report::json(run, &measured)),
        false => report::text(run, &measured),
    };
    let exit = Exit::printed(out);
    Ok(match (interrupted.get(), measured.answered()) {
        (Some(signal), _) => Exit { code: ended_by(signal).code, ..exit },
        (None, 0) => {
            let why = measured.errors.values().next().map_or("nothing was asked", |(_, why)| why.as_str());
            Exit { out: exit.out, ..Exit::error(EX_TEMPFAIL, format!("bench: nothing was answered: {why}")) }
        }
        (None, _) => exit,
    })
}

impl Bench<'_> {
    fn connections(&self) -> usize {
        usize::try_from(self.args.connections).unwrap_or(1)
    }

    fn is_over(&self) -> bool {
        *self.ends.borrow()
    }

    /// Waits for the end of the load.
    async fn over(&self) {
        // It is there as long as the bench.
        let _ = self.ends.subscribe().wait_for(|ends| *ends).await;
    }

    fn put(&self, key: u64) -> Request {
        let path = query(
            &key_path(&format!("{}{key}", self.prefix)),
            &[("ttl", Some(self.ttl.clone())), ("timeout", Some(SERVER_TIMEOUT.to_owned()))],
        );
        Request::write(Method::PUT, path, self.value.clone()).attempt(ATTEMPT)
    }

    fn read(&self, key: u64) -> Request {
        let parameters = [("raw", Some(String::new())), ("level", self.args.level.clone())];
        Request::get(query(&key_path(&format!("{}{key}", self.prefix)), &parameters)).attempt(ATTEMPT)
    }

    /// Writes the keys that are read: all of them, or, where nothing is read, the first, to see that it may.
    async fn prepare(&self) -> Result<(), Exit> {
        let (keys, next) = (if self.args.put_fraction.0 < 1_000_000 { self.args.keys } else { 1 }, Cell::new(0));
        let line = RefCell::new(Line::new());
        let work = || async {
            while next.get() < keys && !self.is_over() {
                let key = next.replace(next.get() + 1);
                self.cluster.send(&self.put(key)).await?.ok()?;
                self.prepared.set(self.prepared.get() + 1);
                line.borrow_mut().show(|| format!("bench: {} of {keys} keys are written", self.prepared.get()));
            }
            Ok(())
        };
        let all = join_all((0..self.connections()).map(|_| work()));
        let done: Result<Vec<()>, Exit> = all.await.into_iter().collect();
        done.map(drop)
    }

    /// The load; the seconds that it took.
    async fn measure(&self) -> Result<f64, Exit> {
        let (began, seconds) = (Instant::now(), self.args.seconds);
        let clock = async {
            tokio::select! {
                () = self.over() => {}
                () = sleep_until(began + Duration::from_secs(seconds)) => {}
                () = self.show_progress(began) => {}
            }
            self.ends.send_replace(true);
            began.elapsed().as_secs_f64()
        };
        let work = |number| async move {
            let ended = self.work(number).await;
            if ended.is_err() {
                self.ends.send_replace(true);
            }
            ended
        };
        let (worked, seconds) = tokio::join!(join_all((0..self.connections()).map(work)), clock);
        worked.into_iter().collect::<Result<Vec<()>, Exit>>().map(|_| seconds)
    }

    /// One connection: a request after the other.
    async fn work(&self, number: usize) -> Result<(), Exit> {
        let count = self.connections();
        let period = self.args.rate.map(|rate| Duration::from_secs_f64(count as f64 / rate as f64));
        // They begin one after the other.
        let mut due = Instant::now() + period.unwrap_or_default().mul_f64(number as f64 / count as f64);
        let mut node = number;
        while !self.is_over() {
            match period {
                None => due = Instant::now(),
                Some(period) => {
                    tokio::select! {
                        () = self.over() => return Ok(()),
                        () = sleep_until(due) => {}
                    }
                    // What is late is made up for, and its time began when it was due.
                    due += period;
                }
            }
            let began = due - period.unwrap_or_default();
            let put = rand::rng().random_range(0..1_000_000) < self.args.put_fraction.0;
            let key = rand::rng().random_range(0..if put { self.args.keys } else { self.prepared.get().max(1) });
            let request = if put { self.put(key) } else { self.read(key) };
            let Some(to) = self.nodes.get(node % self.nodes.len()) else { return Ok(()) };
            // Waited for in any case: a put that is left alone may be done after all was deleted.
            let asked = self.cluster.try_at(to, &request).await;
            if self.is_over() {
                return Ok(());
            }
            let (kind, why) = match asked {
                Ok(answer) if answer.status.is_success() => {
                    let mut measured = self.measured.borrow_mut();
                    let times = if put { &mut measured.puts } else { &mut measured.reads };
                    times.add(began.elapsed());
                    continue;
                }
                Ok(answer) if answer.status == StatusCode::NOT_FOUND => ("a key was gone".to_owned(), String::new()),
                Ok(answer) => (format!("refused: {}", answer.code()), answer.refused().err.unwrap_or_default()),
                Err(Ended::Final(exit)) if exit.code == EX_NOPERM => return Err(exit),
                Err(Ended::Final(exit)) => ("other".to_owned(), exit.err.unwrap_or_default()),
                Err(Ended::NotDone(why)) => ("not done".to_owned(), why),
                Err(Ended::Unknown(why)) => ("not answered".to_owned(), why),
            };
            self.measured.borrow_mut().failed(&kind, why);
            node += 1;
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// A line on a terminal's stderr; without one it waits for ever.
    async fn show_progress(&self, began: Instant) {
        let mut line = Line::new();
        if !line.is_looked_at() {
            return std::future::pending().await;
        }
        loop {
            sleep(Duration::from_millis(200)).await;
            let (gone, of, done) = (began.elapsed(), self.args.seconds, self.measured.borrow().answered());
            let rate = done as f64 / gone.as_secs_f64();
            let seconds = gone.as_secs().min(of);
            line.show(|| format!("bench: [{}] {seconds} of {of} s, {done} requests, {rate:.0}/s", bar(seconds, of)));
        }
    }

    async fn clean_up(&self) {
        let path = format!("/hraftd/key?prefix={}", encoded(&self.prefix));
        let delete = Request::write(Method::DELETE, path, "");
        let deleted = timeout(CLEAN_WITHIN, self.cluster.send(&delete)).await;
        if !matches!(deleted, Ok(Ok(answer)) if answer.status.is_success()) {
            let (prefix, ttl) = (&self.prefix, &self.ttl);
            say(&format!("bench: the keys under {prefix:?} could not be deleted: they end within {ttl}"));
        }
    }
}
