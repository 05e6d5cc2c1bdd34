//! `hraftd backup verify FILE`, and `hraftd inspect FILE`: what a backup is of, and whether it is whole.

use std::path::Path;

use super::inspect::line;
use super::{count, restore};
use crate::exit::{EX_FAILURE, Exit};
use crate::storage::backup::{Backup, BackupError, Head, Totals};

/// Checks all of a backup.
///
/// # Errors
/// Exit code 1: it is damaged, cut, or of a newer hraftd, with the offset; or it cannot be read.
pub(super) fn verify(file: &Path) -> Result<Exit, Exit> {
    let backup = Backup::open(file).map_err(exit)?;
    let totals = backup.check().map_err(exit)?;
    let mut text = summary(&backup);
    text.push_str(&contents(&backup.head, &totals));
    line(&mut text, "whole", "yes: every checksum, every count and the digest are right");
    Ok(Exit::printed(text))
}

/// Shows a backup; where it is damaged, what its head says, and the damage.
///
/// # Errors
/// As [`verify`], where there is nothing to show.
pub(super) fn inspect(file: &Path) -> Result<Exit, Exit> {
    let backup = Backup::open(file).map_err(exit)?;
    match backup.check() {
        Ok(totals) => Ok(Exit::printed(format!("{}{}", summary(&backup), contents(&backup.head, &totals)))),
        Err(error) => Ok(Exit { out: Some(summary(&backup)), ..exit(error) }),
    }
}

/// The exit for a file that is no good.
pub(super) fn exit(error: BackupError) -> Exit {
    Exit::error(EX_FAILURE, error.to_string())
}

/// What the head says.
pub(super) fn summary(backup: &Backup) -> String {
    let Head { cluster, index, term, made_ms, format, by, .. } = &backup.head;
    let mut text = String::new();
    line(&mut text, "backup", format_args!("made by hraftd {by}, {}", count(backup.bytes, "byte", "bytes")));
    line(&mut text, "cluster", cluster);
    line(&mut text, "index", format_args!("{index}, term {term}"));
    line(&mut text, "time", restore::time(*made_ms));
    line(&mut text, "format", format_args!("{format}, for {} and later", format.since()));
    text
}

/// How much is in it.
pub(super) fn contents(head: &Head, totals: &Totals) -> String {
    let Totals { keys, locks, leases, kept, tokens, digest } = *totals;
    let mut text = String::new();
    line(&mut text, "keys", keys);
    line(&mut text, "locks", locks);
    line(&mut text, "leases", leases);
    line(&mut text, "outcomes", format_args!("{kept} kept for repeated requests"));
    line(&mut text, "tokens", tokens);
    line(&mut text, "digest", format_args!("{digest:016x} at index {}", head.index));
    text
}
