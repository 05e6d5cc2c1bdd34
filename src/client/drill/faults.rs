//! What a drill does to the cluster: the lead is moved, nodes are stopped and started. One thing at a time.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::burst::Burst;
use super::history::{Disturbance, Fault};
use super::{Drill, load, locking};
use crate::client::link::{Request, query};
use crate::config::DrillArgs;
use crate::exit::{EX_NOPERM, Exit};

/// A command of the user ends within this time.
const COMMAND: Duration = Duration::from_secs(60);

/// A node that was started serves within this time.
const BACK: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);

const MOVE: Duration = Duration::from_secs(10);

/// A voter, as the cluster tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Voter {
    id: String,
    pub(super) haddr: String,
    answers: bool,
    leads: bool,
}

/// The voters in an answer of `/hraftd/raft/cluster`.
pub(super) fn voters(said: &Value) -> Vec<Voter> {
    let servers = said["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let voters = servers.iter().filter(|server| server["suffrage"] == "Voter");
    let voter = |server: &Value| {
        let id = server["id"].as_str()?.to_owned();
        let haddr = id.split(',').next()?.to_owned();
        let state = server["state"].as_str().unwrap_or_default();
        let answers = matches!(state, "Leader" | "Follower" | "Candidate");
        Some(Voter { leads: said["leader"]["id"] == id.as_str(), id, haddr, answers })
    };
    voters.filter_map(voter).collect()
}

/// One that may be stopped: a quorum answers without it.
pub(super) fn to_stop(voters: &[Voter], turn: usize) -> Option<&Voter> {
    let answer = voters.iter().filter(|voter| voter.answers).count();
    if !voters.iter().any(|voter| voter.leads) || answer.saturating_sub(1) < voters.len() / 2 + 1 {
        return None;
    }
    // The leader twice, then another.
    let wanted: Vec<&Voter> = voters.iter().filter(|voter| voter.answers && voter.leads == (turn % 3 < 2)).collect();
    wanted.get((turn / 3) % wanted.len().max(1)).copied()
}

/// One that may lead next.
fn to_lead(voters: &[Voter], turn: usize) -> Option<&Voter> {
    voters.iter().find(|voter| voter.leads)?;
    let others: Vec<&Voter> = voters.iter().filter(|voter| voter.answers && !voter.leads).collect();
    others.get(turn % others.len().max(1)).copied()
}

/// Disturbs the cluster until the drill ends. A node that was stopped is started in any case.
///
/// # Errors
/// It is not permitted: 77.
pub(super) async fn disturb(drill: &Drill<'_>, args: &DrillArgs) -> Result<(), Exit> {
    let pause =
        Duration::from_millis(args.seconds * 1000 / 10).clamp(Duration::from_millis(400), Duration::from_secs(3));
    // After the clients of the load, of the lock, and the one that reads in the end.
    let first_of_burst = load::clients(args.rate) + locking::CLIENTS + 1;
    // A node that was stopped is back before the next disturbance: a shorter time will do.
    let between = if args.stop.is_some() { pause / 2 } else { pause };
    let commands = args.stop.as_deref().zip(args.start.as_deref());
    // Of four disturbances three are stops, where there are commands for them.
    let (mut turn, mut moves, mut stops) = (0, 0, 0);
    loop {
        tokio::select! {
            () = drill.over() => return Ok(()),
            () = sleep(between) => {}
        }
        let told = match drill.cluster.get("/hraftd/raft/cluster").await.and_then(|answer| answer.json()) {
            Ok(told) => voters(&told),
            Err(exit) if exit.code == EX_NOPERM => return Err(exit),
            Err(_) => continue,
        };
        if drill.is_over() {
            return Ok(());
        }
        match (commands, to_stop(&told, stops)) {
            (Some((stop, start)), Some(voter)) if turn % 4 != 2 => {
                stops += 1;
                stop_one(drill, voter, [stop, start], pause, first_of_burst).await?;
            }
            _ => {
                if let Some(voter) = to_lead(&told, moves) {
                    move_to(drill, voter).await?;
                }
                moves += 1;
            }
        }
        turn += 1;
    }
}

async fn move_to(drill: &Drill<'_>, voter: &Voter) -> Result<(), Exit> {
    let path = query("/hraftd/raft/leader", &[("id", Some(voter.id.clone())), ("timeout", Some("8s".to_owned()))]);
    let from = drill.now();
    let done = drill.cluster.send(&Request::plain(Method::POST, path, "").attempt(MOVE).within(MOVE)).await;
    let failed = match done.and_then(crate::client::link::Answer::ok) {
        Ok(_) => None,
        Err(exit) if exit.code == EX_NOPERM => return Err(exit),
        Err(exit) => Some(exit.err.unwrap_or_default()),
    };
    write_down(drill, Fault::Move, voter, from, failed);
    Ok(())
}

fn write_down(drill: &Drill<'_>, fault: Fault, voter: &Voter, from: u64, failed: Option<String>) {
    let (node, until) = (voter.haddr.clone(), drill.now());
    drill.history.borrow_mut().disturbances.push(Disturbance { fault, node, from, until, failed });
}

/// Stops a node, and starts it again in any case. Where it leads, many write meanwhile.
///
/// # Errors
/// To write is not permitted: 77.
async fn stop_one(
    drill: &Drill<'_>,
    voter: &Voter,
    commands: [&OsStr; 2],
    pause: Duration,
    first_of_burst: usize,
) -> Result<(), Exit> {
    let endpoint = drill.cluster.endpoint_of(&voter.haddr);
    let node = drill.nodes.iter().position(|one| Some(one) == endpoint.as_ref());
    let burst = Burst::new(drill, node.filter(|_| voter.leads));
    let (written, ()) =
        tokio::join!(burst.write(drill, first_of_burst), stop_and_start(drill, voter, node, commands, pause, &burst));
    written
}

async fn stop_and_start(
    drill: &Drill<'_>,
    voter: &Voter,
    node: Option<usize>,
    [stop, start]: [&OsStr; 2],
    pause: Duration,
    burst: &Burst,
) {
    burst.is_under_way().await;
    let from = drill.now();
    let stopped = command(stop, &voter.haddr).await;
    burst.end();
    if stopped.is_ok() {
        drill.stopped.set(node);
        tokio::select! {
            () = drill.over() => {}
            () = sleep(pause) => {}
        }
    }
    // Half stopped is to be started, too.
    let started = command(start, &voter.haddr).await;
    let back = match &started {
        Ok(()) => is_back(drill, voter).await,
        Err(why) => Err(why.clone()),
    };
    drill.stopped.set(None);
    if let Err(why) = back {
        drill.history.borrow_mut().lost_nodes.push(format!("{} did not come back: {why}", voter.haddr));
    }
    let failed = stopped.err().map(|why| format!("--stop: {why}"));
    write_down(drill, Fault::Stop, voter, from, failed);
}

/// Waits until a node serves.
async fn is_back(drill: &Drill<'_>, voter: &Voter) -> Result<(), String> {
    let began = Instant::now();
    let endpoint = drill.cluster.endpoint_of(&voter.haddr).ok_or_else(|| "its address cannot be read".to_owned())?;
    loop {
        // Whoever interrupts does not wait for it.
        if drill.is_interrupted() {
            return Ok(());
        }
        let why = match drill.cluster.send_to(&endpoint, &Request::get("/readyz")).await {
            Ok(answer) if answer.status.is_success() => return Ok(()),
            Ok(answer) => format!("it answers {}", answer.status),
            Err(exit) => exit.err.unwrap_or_default(),
        };
        if began.elapsed() > BACK {
            return Err(format!("{why}, {} s after it was started", BACK.as_secs()));
        }
        sleep(LOOK).await;
    }
}

/// Runs a command of the user to its end. It prints on stderr, and has a process group of its own: Ctrl-C is not for it.
async fn command(text: &OsStr, node: &str) -> Result<(), String> {
    let told = |error: io::Error| format!("cannot run the command: {error}");
    let out = io::stderr().as_fd().try_clone_to_owned().map_err(told)?;
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(text).env("HRAFTD_NODE", node).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::from(out));
    let mut child = command.spawn().map_err(told)?;
    match timeout(COMMAND, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("the command ended with {status}")),
        Ok(Err(error)) => Err(told(error)),
        Err(_) => Err(format!("the command did not end within {} s", COMMAND.as_secs())),
    }
}
