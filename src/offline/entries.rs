//! `hraftd inspect DIR --entries`: the log's entries as JSON lines, oldest first, and nothing else.
//!
//! ```text
//! {"index":0,"term":0,"kind":"membership","voters":[["haddr,raddr"]],"learners":[]}
//! {"index":1,"term":1,"kind":"blank"}
//! {"index":2,"term":1,"kind":"set","keys":{"k1":"v1"}}
//! {"index":3,"term":1,"kind":"delete","key":"k1"}
//! {"index":4,"term":1,"kind":"incr","stamp_ms":12,"key":"n","by":1}
//! ```
//!
//! Values are as they were sent, but for newlines between their parts. `voters` has two lists while a change
//! of members is under way.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use openraft::EntryPayload;
use serde::Serialize;

use super::survey;
use crate::command::Command;
use crate::exit::{EX_CONFIG, EX_FAILURE, EX_OK, Exit};
use crate::offline::render::{Pairs, Shown};
use crate::raft_types::RaftId;
use crate::raft_types::alias::LogEntry;
use crate::storage::log::LogView;

/// The error that ended the printing.
enum Ended {
    /// The log cannot be read.
    Log(io::Error),
    /// Nobody takes what is printed.
    Out(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Log(error)
    }
}

/// Prints the entries to stdout, those before a damage too.
///
/// # Errors
/// See [`survey::open`]; stdout cannot be written (1).
pub(super) fn print(dir: &Path) -> Result<Exit, Exit> {
    let (survey, _locked) = survey::open(dir)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let end = write(&survey.log, &mut out);
    match (end, survey.problems.first()) {
        (Err(Ended::Out(error)), _) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Exit::error(EX_FAILURE, format!("cannot write to stdout: {error}")))
        }
        (Err(Ended::Log(error)), _) => Err(Exit::config(format!("{}: cannot read the log: {error}", dir.display()))),
        (_, Some(problem)) => Err(Exit::error(EX_CONFIG, problem)),
        (_, None) => Ok(Exit { code: EX_OK, out: None, err: None }),
    }
}

fn write(log: &LogView, out: &mut impl Write) -> Result<(), Ended> {
    log.for_each(0, |entry| {
        let mut line = json(&entry).map_err(|error| Ended::Log(error.into()))?;
        line.push('\n');
        out.write_all(line.as_bytes()).map_err(Ended::Out)
    })?;
    out.flush().map_err(Ended::Out)
}

/// An entry as one line.
pub(super) fn json(entry: &LogEntry) -> serde_json::Result<String> {
    let (index, term) = (entry.log_id.index, entry.log_id.leader_id.term);
    serde_json::to_string(&Line { index, term, what: Payload::new(&entry.payload) })
}

#[derive(Serialize)]
struct Line<'a> {
    index: u64,
    term: u64,
    #[serde(flatten)]
    what: Payload<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    Own(Own<'a>),
    Stamped(Shown<'a>),
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Own<'a> {
    Blank,
    Set { keys: Pairs<'a> },
    Delete { key: &'a str },
    Membership { voters: Vec<Vec<String>>, learners: Vec<String> },
}

impl<'a> Payload<'a> {
    fn new(payload: &'a <crate::raft_types::TypeConfig as openraft::RaftTypeConfig>::Payload) -> Self {
        match payload {
            EntryPayload::Blank => Self::Own(Own::Blank),
            EntryPayload::Normal(command) => match &**command {
                Command::Set(pairs) => Self::Own(Own::Set { keys: Pairs(pairs) }),
                Command::Delete(key) => Self::Own(Own::Delete { key }),
                Command::Stamped(stamped) => Self::Stamped(Shown::new(stamped, None)),
                Command::By(by, stamped) => Self::Stamped(Shown::new(stamped, Some(by.name()))),
            },
            EntryPayload::Membership(membership) => {
                let name = |id: &RaftId| {
                    membership.get_node(id).map_or_else(|| id.to_string(), |member| member.id.to_string())
                };
                let sets = membership.get_joint_config();
                Self::Own(Own::Membership {
                    voters: sets.iter().map(|ids| ids.iter().map(name).collect()).collect(),
                    learners: membership.learner_ids().map(|id| name(&id)).collect(),
                })
            }
        }
    }
}
