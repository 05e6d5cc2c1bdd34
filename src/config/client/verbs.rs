//! The verbs of the client.

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::bench::BenchArgs;
use super::drill::DrillArgs;
use crate::command::{MAX_TTL, MIN_TTL};
use crate::duration::{parse_duration, parse_with_days};
use crate::node::ReadLevel;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Verb {
    /// Print the value of a key, byte for byte
    #[command(
        after_help = "A text comes as it is, JSON as JSON, and nothing is added, not even a newline. 1: there is no such key."
    )]
    Get(GetArgs),
    /// Store a value
    #[command(
        after_help = "Without --json a value is text, or bytes where it is no UTF-8. 1: a condition does not hold."
    )]
    Put(PutArgs),
    /// Delete a key, or all keys that begin so
    #[command(after_help = "Prints how many there were. 1: there was no such key, or a condition does not hold.")]
    Delete(DeleteArgs),
    /// List keys and their values
    Ls(LsArgs),
    /// Add to a number, and print the sum
    Incr(IncrArgs),
    /// Give a key another time to live
    Touch(TouchArgs),
    /// Run a transaction
    #[command(after_help = "Prints the server's answer. 1: the conditions do not hold, and the else part was done.")]
    Txn {
        /// A file with the transaction, in JSON; - is standard input
        #[arg(value_name = "FILE|-", id = "FILE")]
        file: OsString,
    },
    /// Change a value in $EDITOR
    #[command(
        after_help = "It is written back only where the key is still as it was; otherwise both are kept, and told."
    )]
    Edit {
        /// The key
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Show changes as they come, or run a command for each
    Watch(WatchArgs),
    /// Run a command while holding a lock
    #[command(
        after_help = "The command has HRAFTD_LOCK_TOKEN, which fences: it only grows. It is ended before the lock can be \
        another's: TERM at two thirds of the time to live since the last renewal, KILL at nine tenths, and 75. It dies with \
        this process. Otherwise the exit code is the command's. 1: the lock is held."
    )]
    Lock(LockArgs),
    /// Run a command while leading: lock, again and again
    Elect(ElectArgs),
    /// Show, remove or promote members
    Members {
        /// Without one: show them
        #[command(subcommand)]
        verb: Option<MembersVerb>,
    },
    /// Show and change the tokens of a cluster; hraftd token [FILE] makes one offline
    Token {
        /// What to do with them
        #[command(subcommand)]
        verb: TokenVerb,
    },
    /// Write keys to standard output, one a line, as JSON
    #[command(
        after_help = "A line has key, and value (JSON), json (JSON text, where it has line ends or control characters) or \
        base64 (bytes); and content_type, ttl_ms and lease where there are. An export that broke off says how to go on."
    )]
    Export(ExportArgs),
    /// Read keys as export writes them, or out of an etcd
    #[command(
        after_help = "What is there is replaced, unless --if-absent. Leases are not made anew: a key of one gets a time to \
                      live, what the lease had left when it was exported. To repeat an import is safe; --skip goes on with \
                      one."
    )]
    Import(ImportArgs),
    /// Show the members and what they do
    Status,
    /// Show what is wrong, and what mends it
    #[command(after_help = "1: there is something to mend.")]
    Doctor,
    /// Show when an entry of the log came how far
    Why {
        /// The index of the entry
        #[arg(value_name = "INDEX", value_parser = number)]
        index: u64,
    },
    /// Take a backup of all there is, while the cluster runs
    #[command(
        after_help = "FILE gets its name once all of it is there and checked. 75: the transfer broke off. hraftd backup \
                      verify FILE checks one again; hraftd restore makes a new cluster of it."
    )]
    Backup(BackupArgs),
    /// Put a running cluster to the proof: load, moves of the lead, stops; then check what clients saw
    #[command(
        after_help = "It writes under a prefix of its own, and deletes what it wrote. A command of --stop and --start is run by \
        /bin/sh, with the node's client address in HRAFTD_NODE; one node is stopped at a time, and never one that a \
        quorum needs. Where that node leads, six clients write through each of the others meanwhile, from a third of \
        --rate that was saved up. 0: nothing was found. 1: something was, and the operations that prove it are told. 75: too little \
        was answered to tell."
    )]
    Drill(DrillArgs),
    /// Measure how much a running cluster does, and how soon
    #[command(
        after_help = "It writes under a prefix of its own, and deletes what it wrote. It asks all members, each connection the \
        next one, and takes one processor of this machine at most. With --rate a request's time begins when it was due, so \
        that a stall counts for all that it held up. 75: nothing was answered."
    )]
    Bench(BenchArgs),
    /// Tell whether a node lives
    Health {
        /// It must also serve
        #[arg(long)]
        ready: bool,
    },
}

/// What `get` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct GetArgs {
    /// The key
    #[arg(value_name = "KEY")]
    pub key: String,
    /// Print the key with all that is known of it, as JSON
    #[arg(long)]
    pub meta: bool,
    /// How fresh the value must be: linearizable, weak, none or auto
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub level: Option<String>,
}

/// What `put` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct PutArgs {
    /// The key
    #[arg(value_name = "KEY")]
    pub key: String,
    /// The value; - reads standard input, @FILE a file
    #[arg(value_name = "VALUE|-|@FILE", id = "VALUE", allow_negative_numbers = true)]
    pub value: OsString,
    /// The value is JSON
    #[arg(long)]
    pub json: bool,
    /// It is dropped after this time
    #[arg(long, value_name = "TIME", value_parser = ttl)]
    pub ttl: Option<Duration>,
    /// Only if the key was last changed at this index; 0: only if there is none
    #[arg(long, value_name = "INDEX", value_parser = number)]
    pub cas: Option<u64>,
}

/// What `backup` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct BackupArgs {
    /// The file; - or none is standard output
    #[arg(value_name = "FILE|-", id = "FILE")]
    pub file: Option<OsString>,
    /// Only if there is anything after this index
    #[arg(long, value_name = "INDEX", value_parser = number)]
    pub if_newer: Option<u64>,
    /// How fresh the state must be: linearizable, weak, none or auto
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub level: Option<String>,
}

/// What `delete` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DeleteArgs {
    /// The key
    #[arg(value_name = "KEY")]
    pub key: String,
    /// KEY is a prefix: delete all keys that begin so
    #[arg(long, conflicts_with = "cas")]
    pub prefix: bool,
    /// Only if the key was last changed at this index
    #[arg(long, value_name = "INDEX", value_parser = number)]
    pub cas: Option<u64>,
}

/// What `ls` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct LsArgs {
    /// Keys that begin so
    #[arg(value_name = "PREFIX", default_value = "", hide_default_value = true)]
    pub prefix: String,
    /// The keys alone, one a line
    #[arg(long, conflicts_with = "tree")]
    pub keys: bool,
    /// The keys as a tree; / divides them
    #[arg(long)]
    pub tree: bool,
}

/// What `incr` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct IncrArgs {
    /// The key
    #[arg(value_name = "KEY")]
    pub key: String,
    /// What to add
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = whole_number)]
    pub by: i64,
    /// It is dropped after this time
    #[arg(long, value_name = "TIME", value_parser = ttl)]
    pub ttl: Option<Duration>,
}

/// What `touch` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TouchArgs {
    /// The key
    #[arg(value_name = "KEY")]
    pub key: String,
    /// It is dropped after this time
    #[arg(long, value_name = "TIME", value_parser = ttl)]
    pub ttl: Duration,
}

/// What `watch` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct WatchArgs {
    /// Keys that begin so
    #[arg(value_name = "PREFIX")]
    pub prefix: String,
    /// Run this by /bin/sh for each change, one at a time: the value is its standard input; HRAFTD_EVENT, HRAFTD_KEY and
    /// HRAFTD_INDEX tell the change
    #[arg(long, value_name = "CMD")]
    pub exec: Option<OsString>,
    /// Begin with the keys that are there
    #[arg(long)]
    pub initial: bool,
}

/// What `lock` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct LockArgs {
    /// The name of the lock
    #[arg(value_name = "NAME")]
    pub name: String,
    /// It is lost after this time without a renewal, 1s to 24h
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "15s")]
    pub ttl: Duration,
    /// Wait so long for the lock; without it a lock that is held is an error at once
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub wait: Option<Duration>,
    /// The command and its arguments
    #[arg(value_name = "CMD", last = true, required = true)]
    pub command: Vec<OsString>,
}

/// What `elect` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ElectArgs {
    /// The name of the lock
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The lead is lost after this time without a renewal, 1s to 24h
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "15s")]
    pub ttl: Duration,
    /// The command and its arguments
    #[arg(value_name = "CMD", last = true, required = true)]
    pub command: Vec<OsString>,
}

/// What to do with members.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum MembersVerb {
    /// Remove a member
    Remove {
        /// Its id, its client address, or :PORT where one member alone has that
        #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
        id: String,
        /// Also where no quorum would answer afterwards
        #[arg(long)]
        force: bool,
    },
    /// Make a voter the leader
    Lead {
        /// Its id; without it the one with most of the log
        #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
        id: Option<String>,
    },
}

/// What to do with tokens.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum TokenVerb {
    /// List them, without their secrets
    Ls,
    /// Make one and print it, or change what one allows
    Put {
        /// Its name
        #[arg(value_name = "NAME", value_parser = token_name)]
        name: String,
        /// What it allows, as read:app/ or write:=KEY
        #[arg(value_name = "GRANT", required = true)]
        grants: Vec<String>,
        /// It ends after this time, as 90d
        #[arg(long, value_name = "TIME", value_parser = with_days)]
        ttl: Option<String>,
        /// Clients whose certificate has this name need no token, as DNS:web or URI:spiffe://...
        #[arg(long, value_name = "NAME")]
        certificate: Option<String>,
    },
    /// Give it another secret, and print that
    Rotate {
        /// Its name
        #[arg(value_name = "NAME", value_parser = token_name)]
        name: String,
        /// The old one is good for this time
        #[arg(long, value_name = "TIME", value_parser = with_days)]
        grace: Option<String>,
    },
    /// Revoke it
    Rm {
        /// Its name
        #[arg(value_name = "NAME", value_parser = token_name)]
        name: String,
    },
}

/// What `export` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ExportArgs {
    /// Keys that begin so
    #[arg(value_name = "PREFIX", default_value = "", hide_default_value = true)]
    pub prefix: String,
    /// Go on after this key
    #[arg(long, value_name = "KEY")]
    pub after: Option<String>,
}

/// What `import` takes.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ImportArgs {
    /// A file; - is standard input
    #[arg(value_name = "FILE|-", id = "FILE", default_value = "-", hide_default_value = true, conflicts_with = "from")]
    pub file: OsString,
    /// Keys that are there stay as they are
    #[arg(long)]
    pub if_absent: bool,
    /// Leave out so many lines
    #[arg(long, value_name = "LINES", default_value_t = 0, conflicts_with = "from")]
    pub skip: u64,
    /// Read an etcd instead: etcd://HOST:PORT, or etcd://HOST:PORT/PREFIX
    #[arg(long, value_name = "etcd://HOST:PORT")]
    pub from: Option<String>,
}

fn number(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| "not a number from 0 on".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
}

/// How long a key may live, as nodes have it.
fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text)?;
    let is_allowed = (MIN_TTL..=MAX_TTL).contains(&ttl);
    is_allowed.then_some(ttl).ok_or_else(|| "not between 1s and 87600h, ten years".to_owned())
}

/// The time of a token: a node reads it.
fn with_days(text: &str) -> Result<String, String> {
    match parse_with_days(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("not a duration such as 30s, 24h or 90d".to_owned()),
    }
}

pub(super) fn level(text: &str) -> Result<String, String> {
    match ReadLevel::from_name(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("not a read level: linearizable, weak, none, strong or auto".to_owned()),
    }
}

fn whole_number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "not a whole number, or one that does not fit 64 bits".to_owned())
}

/// What a path cannot have would be another request.
fn token_name(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains('/') {
        true => Err("a name has letters, digits and ._-, and at least one".to_owned()),
        false => Ok(text.to_owned()),
    }
}
