//! `hraftd lock` and `hraftd elect`: a command that runs only while its lock is held.
//!
//! What counts is the last renewal that was confirmed, from when it was *sent*: the lock cannot end before that and its
//! time to live. The command gets TERM at two thirds of that time, KILL at nine tenths.

use std::ffi::OsString;
use std::time::Duration;

use hyper::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::child::{Child, code};
use crate::client::link::{Answer, Cluster, Request, encoded, now, query};
use crate::client::out::say;
use crate::client::signals::{Signals, ended_by};
use crate::command::{MAX_RENEWED_TTL, MIN_RENEWED_TTL};
use crate::config::{ElectArgs, LockArgs};
use crate::duration::as_ms;
use crate::exit::{EX_FAILURE, EX_TEMPFAIL, EX_UNAVAILABLE, Exit};

/// A request waits for a lock so long; then another does.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Before a cluster that does not answer is asked again, and before the next turn of `elect`.
const PAUSE: Duration = Duration::from_secs(1);

/// A lock is given back within this time, or its time ends it.
const RELEASE_WITHIN: Duration = Duration::from_secs(5);

/// So often it is looked at how old the last renewal is.
const TICK: Duration = Duration::from_millis(20);

/// Wait without an end.
const FOR_EVER: Duration = Duration::MAX;

/// A lock that is held.
struct Held<'a> {
    cluster: &'a Cluster,
    name: &'a str,
    token: u64,
    ttl: Duration,
    /// When the last confirmed renewal was sent.
    since: Duration,
}

/// How a renewal ended.
enum Renewed {
    Until(Duration),
    Lost(String),
    NotYet,
}

pub(crate) async fn lock(cluster: &Cluster, args: &LockArgs) -> Result<Exit, Exit> {
    check(args.ttl)?;
    let mut signals = Signals::take()?;
    let held = acquire(cluster, &args.name, args.ttl, args.wait.unwrap_or_default(), &mut signals).await?;
    run(held, &args.command, &mut signals).await.map(|(exit, _)| exit)
}

pub(crate) async fn elect(cluster: &Cluster, args: &ElectArgs) -> Result<Exit, Exit> {
    check(args.ttl)?;
    let mut signals = Signals::take()?;
    loop {
        let held = acquire(cluster, &args.name, args.ttl, FOR_EVER, &mut signals).await?;
        say(&format!("{:?} is led from here, with the token {}", held.name, held.token));
        let (exit, told) = run(held, &args.command, &mut signals).await?;
        if told {
            return Ok(exit);
        }
        say(&format!("the command has ended with {}: another may lead", exit.code));
        if let Ok(signal) = timeout(PAUSE, signals.end()).await {
            return Err(ended_by(signal));
        }
    }
}

fn check(ttl: Duration) -> Result<(), Exit> {
    match (MIN_RENEWED_TTL..=MAX_RENEWED_TTL).contains(&ttl) {
        true => Ok(()),
        false => Err(Exit::usage("--ttl: not between 1s and 24h")),
    }
}

/// Takes the lock, or waits for it.
async fn acquire<'a>(
    cluster: &'a Cluster,
    name: &'a str,
    ttl: Duration,
    wait: Duration,
    signals: &mut Signals,
) -> Result<Held<'a>, Exit> {
    let began = now();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let shown = json!({"host": host, "pid": std::process::id()}).to_string();
    let mut asked = None;
    loop {
        let left = wait.saturating_sub(now().saturating_sub(began));
        // One that was not answered is repeated: its place in the queue is kept.
        let request = asked.take().unwrap_or_else(|| {
            let wait = left.min(LONGEST_WAIT);
            let told = (!wait.is_zero()).then(|| format!("{}ms", as_ms(wait)));
            let path = query(&path(name), &[("ttl", Some(format!("{}ms", as_ms(ttl)))), ("wait", told)]);
            Request::write(Method::POST, path, shown.clone()).attempt(wait + Duration::from_secs(5))
        });
        let answer = tokio::select! {
            signal = signals.end() => return Err(ended_by(signal)),
            answer = cluster.send(&request) => answer,
        };
        match answer {
            Ok(answer) if answer.status.is_success() => {
                let (token, ttl_left) = granted(&answer)?;
                let mut held = Held { cluster, name, token, ttl, since: answer.sent };
                // What was repeated tells what is left of a grant that may be older.
                held.since = held.since.saturating_sub(ttl.saturating_sub(ttl_left));
                if now().saturating_sub(held.since) <= ttl / 6 {
                    return Ok(held);
                }
                match held.renew(ttl / 3).await {
                    Renewed::Until(since) => return Ok(Held { since, ..held }),
                    Renewed::Lost(_) | Renewed::NotYet if !left.is_zero() => {}
                    Renewed::Lost(why) => return Err(Exit::error(EX_FAILURE, why)),
                    Renewed::NotYet => return Err(Exit::error(EX_TEMPFAIL, "the lock was not confirmed in time")),
                }
            }
            Ok(answer) if answer.code() == "lock_lost" => {}
            Ok(answer) if answer.code() == "lock_held" && !left.saturating_sub(LONGEST_WAIT).is_zero() => {}
            Ok(answer) => return Err(answer.refused()),
            Err(exit) if cluster.is_elsewhere() => return Err(exit),
            Err(exit) if matches!(exit.code, EX_TEMPFAIL | EX_UNAVAILABLE) && !left.is_zero() => {
                if let Ok(signal) = timeout(PAUSE, signals.end()).await {
                    return Err(ended_by(signal));
                }
                // A place that has ended by now is asked for anew by the answer `lock_held`.
                asked = Some(request);
            }
            Err(exit) => return Err(exit),
        }
    }
}

fn path(name: &str) -> String {
    format!("/hraftd/lock/{}", encoded(name))
}

/// The token, and what is left of the time to live.
fn granted(answer: &Answer) -> Result<(u64, Duration), Exit> {
    let said = answer.json()?;
    match (said["token"].as_u64(), said["ttl_ms"].as_u64()) {
        (Some(token), Some(ttl_ms)) => Ok((token, Duration::from_millis(ttl_ms))),
        _ => Err(Exit::error(EX_FAILURE, "the answer is not hraftd's: it has no token")),
    }
}

impl Held<'_> {
    async fn renew(&self, within: Duration) -> Renewed {
        let path = query(&path(self.name), &[("token", Some(self.token.to_string()))]);
        let request = Request::write(Method::PUT, path, "").attempt(within / 2).within(within);
        match self.cluster.send(&request).await {
            Ok(answer) if answer.status.is_success() => Renewed::Until(answer.sent),
            Ok(answer) if answer.status == StatusCode::CONFLICT => {
                Renewed::Lost(answer.refused().err.unwrap_or_default())
            }
            Ok(_) | Err(_) => Renewed::NotYet,
        }
    }

    async fn release(&self) {
        let path = query(&path(self.name), &[("token", Some(self.token.to_string()))]);
        let request = Request::write(Method::DELETE, path, "").within(RELEASE_WITHIN);
        let released = timeout(RELEASE_WITHIN, self.cluster.send(&request)).await;
        if !matches!(released, Ok(Ok(answer)) if answer.status.is_success()) {
            say(&format!("the lock {:?} could not be given back: it ends within {:?}", self.name, self.ttl));
        }
    }
}

/// Runs the command as long as the lock is held: how it ended, and whether this process was told to end.
async fn run(mut held: Held<'_>, command: &[OsString], signals: &mut Signals) -> Result<(Exit, bool), Exit> {
    let variables = [("HRAFTD_LOCK_TOKEN", held.token.to_string())];
    let mut child = match Child::start(command, &variables, false) {
        Ok(child) => child,
        Err(exit) => {
            held.release().await;
            return Err(exit);
        }
    };
    let handle = child.handle();
    let (mut told, mut lost, mut kill_at) = (false, false, None);
    let (mut renewal, mut next_renewal) = (None, held.since + held.ttl / 3);
    let status = loop {
        let (kill_after, age) = (held.ttl * 9 / 10, now().saturating_sub(held.since));
        if kill_at.is_none() && age >= held.ttl * 2 / 3 {
            say(&format!("the lock {:?} was not renewed for {age:.1?}: the command is ended", held.name));
            handle.signal(Signal::TERM);
            kill_at = Some(held.since + kill_after);
        }
        if kill_at.is_some_and(|at| now() >= at) {
            handle.signal(Signal::KILL);
        }
        if renewal.is_none() && !lost && kill_at.is_none() && now() >= next_renewal {
            let (cluster, name, token, ttl, since) = (held.cluster, held.name, held.token, held.ttl, held.since);
            renewal = Some(Box::pin(async move { Held { cluster, name, token, ttl, since }.renew(ttl / 3).await }));
        }
        tokio::select! {
            status = child.ended() => break status?,
            signal = signals.next() => {
                told |= !matches!(signal, Signal::USR1 | Signal::USR2);
                handle.pass_on(signal);
            }
            renewed = in_hand(&mut renewal) => {
                renewal = None;
                match renewed {
                    Renewed::Until(since) => {
                        held.since = since;
                        next_renewal = since + held.ttl / 3;
                    }
                    Renewed::Lost(why) => {
                        lost = true;
                        say(&format!("the lock {:?} is lost: the command is ended. {why}", held.name));
                        handle.signal(Signal::TERM);
                        let soon = now() + (held.ttl / 10).min(PAUSE);
                        kill_at = Some(kill_at.map_or(soon, |at: Duration| at.min(soon)));
                    }
                    Renewed::NotYet => next_renewal = now() + held.ttl / 20,
                }
            }
            () = sleep(TICK) => {}
        }
    };
    let age = now().saturating_sub(held.since);
    let (is_over, has_ended_in_time) = (kill_at.is_some() || age >= held.ttl, age < held.ttl && !lost);
    if !has_ended_in_time {
        say(&format!(
            "the command ran for {:.1?} after the last confirmed renewal of the lock {:?}, whose time to live is {:?}: \
             another may have run beside it for {:.1?} at most. What is fenced by the token {} is safe from it",
            age,
            held.name,
            held.ttl,
            age.saturating_sub(held.ttl),
            held.token
        ));
    }
    if has_ended_in_time {
        held.release().await;
    }
    let code = if is_over { EX_TEMPFAIL } else { code(status) };
    Ok((Exit { code, out: None, err: None }, told))
}

async fn in_hand<F: Future<Output = Renewed> + Unpin>(renewal: &mut Option<F>) -> Renewed {
    match renewal {
        Some(renewal) => renewal.await,
        None => std::future::pending().await,
    }
}
