//! The verbs of the client.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::duration::parse_duration;

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
    #[arg(long, value_name = "LEVEL")]
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
    #[arg(long, value_name = "TIME", value_parser = duration)]
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
    #[arg(long, value_name = "LEVEL")]
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

fn number(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| "not a number from 0 on".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
}
