//! `hraftd inspect DIR`: shows the content of a stopped node's directory.

use std::fmt::Write as _;
use std::path::Path;

use super::survey::{self, Survey};
use super::tokens::tokens;
use super::{count, exit, rebuild};
use crate::exit::{EX_CONFIG, Exit};
use crate::raft_types::alias::{LogId, StoredMembership};
use crate::raft_types::{RaftId, Role};
use crate::storage::log::Ending;
use crate::storage::{Identity, IdentityStore};

/// Shows the directory; where it is damaged, the first of the problems is the error.
///
/// # Errors
/// See [`survey::open`].
pub(super) fn inspect(dir: &Path) -> Result<Exit, Exit> {
    let (survey, locked) = survey::open(dir)?;
    let mut text = format!("directory    {}\n", dir.display());
    text.push_str(&summary(&survey));
    // Who never asked for tokens does not wait for the state.
    let asks = IdentityStore::new(locked.disk.clone()).is_closed().map_err(exit)?;
    if asks && survey.problems.is_empty() {
        tokens(&mut text, &rebuild::state(&*locked.disk, &survey).map_err(exit)?);
    }
    let mut end = Exit::printed(text);
    if let Some(problem) = survey.problems.first() {
        (end.code, end.err) = (EX_CONFIG, Exit::config(problem).err);
    }
    Ok(end)
}

/// Everything but the directory's name.
pub(super) fn summary(survey: &Survey) -> String {
    let mut text = identity(survey.identity.as_ref());
    vote(&mut text, survey);
    text.push_str(&membership(survey));
    line(&mut text, "format", format_args!("{}, for {} and later", survey.format, survey.format.since()));
    snapshots(&mut text, survey);
    log(&mut text, survey);
    for problem in &survey.problems {
        line(&mut text, "damage", problem);
    }
    text
}

/// Puts `label` and a text in their columns.
pub(super) fn line(text: &mut String, label: &str, what: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{label:<12} {what}");
}

/// A log id in words.
pub(super) fn place(id: Option<LogId>) -> String {
    id.map_or_else(|| "none".to_owned(), |id| format!("index {}, term {}", id.index, id.leader_id.term))
}

/// The node's identity.
pub(super) fn identity(identity: Option<&Identity>) -> String {
    let mut text = String::new();
    let Some(identity) = identity else {
        line(&mut text, "identity", "none");
        return text;
    };
    line(&mut text, "identity", &identity.public_id);
    line(&mut text, "  Raft id", identity.raft_id);
    match identity.cluster {
        Some(cluster) => line(&mut text, "  cluster", cluster),
        None => line(&mut text, "  cluster", "none: it has not formed or joined one"),
    }
    if let Some(index) = identity.removed {
        line(&mut text, "  removed", format_args!("from its cluster, by the membership of index {index}"));
    }
    text
}

fn vote(text: &mut String, survey: &Survey) {
    let Some(vote) = survey.log.vote() else { return line(text, "vote", "none") };
    let whom = vote.leader_id.voted_for;
    let name = match survey.membership.as_ref().and_then(|membership| membership.get_node(&whom)) {
        Some(member) => format!("{} (Raft id {whom})", member.id),
        None => format!("Raft id {whom}"),
    };
    let granted = if vote.committed { ", which a quorum elected" } else { "" };
    line(text, "vote", format_args!("term {}, for {name}{granted}", vote.leader_id.term));
}

/// The members, with their roles.
pub(super) fn membership(survey: &Survey) -> String {
    let mut text = String::new();
    let Some(membership) = &survey.membership else {
        line(&mut text, "membership", "none");
        return text;
    };
    line(&mut text, "membership", format_args!("of {}", place(*membership.log_id())));
    let me = survey.identity.as_ref().map(|identity| identity.raft_id);
    for (raft_id, member) in membership.nodes() {
        let role = match (membership.voter_ids().any(|id| id == *raft_id), member.role) {
            (true, Role::Voter) => "voter",
            (true, Role::Learner) => "voter (asked to be a learner)",
            (false, Role::Voter) => "learner (to become a voter)",
            (false, Role::Learner) => "learner",
        };
        let this = if me == Some(*raft_id) { ", this node" } else { "" };
        line(&mut text, "", format_args!("{}  {role}, Raft id {raft_id}{this}", member.id));
    }
    if membership.get_joint_config().len() > 1 {
        let sets: Vec<String> = membership.get_joint_config().iter().map(|ids| names(membership, ids)).collect();
        line(&mut text, "", format_args!("changing: needs a majority of each of {}", sets.join(" and ")));
    }
    text
}

fn names(membership: &StoredMembership, ids: &std::collections::BTreeSet<RaftId>) -> String {
    let name = |id: &RaftId| membership.get_node(id).map_or_else(|| id.to_string(), |member| member.id.to_string());
    format!("[{}]", ids.iter().map(name).collect::<Vec<_>>().join(" "))
}

fn snapshots(text: &mut String, survey: &Survey) {
    if survey.snapshots.is_empty() {
        line(text, "snapshots", "none");
    }
    for (nth, (view, keys)) in survey.snapshots.iter().enumerate() {
        line(text, if nth == 0 { "snapshots" } else { "" }, &view.name);
        let (keys, bytes) = (count(*keys, "key", "keys"), count(view.bytes, "byte", "bytes"));
        let covers = place(view.meta.last_log_id);
        line(text, "", format_args!("  up to {covers}: {keys}, {bytes}, cluster {}", view.cluster));
    }
}

fn log(text: &mut String, survey: &Survey) {
    let log = &survey.log;
    if log.segments.is_empty() {
        return line(text, "log", "none");
    }
    let range = log.range();
    let entries = count(range.end - range.start, "entry", "entries");
    line(text, "log", format_args!("{entries}, {}", count(log.bytes(), "byte", "bytes")));
    if !range.is_empty() {
        line(text, "  first", place(log.id(range.start)));
        line(text, "  last", place(log.last()));
    }
    if let Some(purged) = log.purged() {
        line(text, "  purged", format_args!("up to {}", place(Some(purged))));
    }
    line(text, "  committed", format_args!("{}, as last saved", place(log.committed())));
    for (nth, (name, bytes)) in log.segments.iter().enumerate() {
        let bytes = count(*bytes, "byte", "bytes");
        line(text, if nth == 0 { "  segments" } else { "" }, format_args!("{name}  {bytes}"));
    }
    if log.damage.is_some() {
        return line(text, "  ending", "unknown: it was read up to the damage only");
    }
    match &log.ending {
        Ending::NoLog => {}
        Ending::Clean => line(text, "  ending", "stopped cleanly"),
        Ending::Open => line(text, "  ending", "not stopped cleanly; no write is torn"),
        Ending::Torn { file, offset } => line(
            text,
            "  ending",
            format_args!("not stopped cleanly; a torn write at offset {offset} of {file}, which a start cuts off"),
        ),
    }
}
