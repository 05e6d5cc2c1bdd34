//! The command lines about backups: `hraftd backup`, `hraftd backup verify`, `hraftd restore`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::args::{named, read_words as read};
use super::setting::{Env, Setting};
use super::values;
use crate::exit::Exit;

/// Check all of a backup, and say what is in it
#[derive(Debug, Parser)]
#[command(name = "hraftd backup verify", no_binary_name = true, max_term_width = 100)]
#[command(override_usage = "hraftd backup verify FILE")]
struct VerifyArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    file: Option<OsString>,
}

/// Make the data directory of a new cluster of one node from a backup. The first start of that node gives
/// it its addresses; others join it with empty directories
#[derive(Debug, Parser)]
#[command(name = "hraftd restore", no_binary_name = true, max_term_width = 100)]
#[command(override_usage = "hraftd restore FILE --rdir DIR [--expire]")]
pub(super) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    file: Option<OsString>,
    /// The data directory, which is made and must be empty; $HRAFTD_RDIR where it is not given
    #[arg(long, value_name = "DIR")]
    rdir: Option<OsString>,
    /// Let the time since the backup count: what has a time to live may be gone
    #[arg(long)]
    expire: bool,
}

/// The backups that a leader makes by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupPlan {
    /// The directory that they are in.
    pub to: PathBuf,
    /// How old the newest may get.
    pub every: Duration,
    /// How many stay; at least 1.
    pub keep: usize,
}

/// Reads `--backup-to` and what goes with it.
pub(super) fn plan(
    to: Option<Setting>,
    every: Option<Setting>,
    keep: Option<Setting>,
) -> Result<Option<BackupPlan>, Exit> {
    let Some(to) = to else {
        return match every.or(keep) {
            Some(alone) => Err(alone.bad("there are no backups without --backup-to DIR")),
            None => Ok(None),
        };
    };
    if to.text.is_empty() {
        return Err(to.bad("the directory has no name"));
    }
    let every = every.map_or(Ok(3_600_000), |given| values::time_ms(&given, 1_000..=31 * 86_400_000))?;
    let keep = keep.map_or(Ok(24), |given| values::number(&given, 1..=100_000))?;
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    Ok(Some(BackupPlan { to: PathBuf::from(to.text), every: Duration::from_millis(every), keep }))
}

/// The file behind `backup verify`.
pub(super) fn verify(words: impl Iterator<Item = OsString>) -> Result<PathBuf, Exit> {
    let VerifyArgs { file } = read(words)?;
    let file = file.ok_or_else(|| Exit::usage("backup verify: the file is missing: hraftd backup verify FILE"))?;
    named("backup verify", file)
}

/// What comes behind `restore`: the file, the directory, and whether time counts.
pub(super) fn restore(words: impl Iterator<Item = OsString>, env: Env<'_>) -> Result<(PathBuf, PathBuf, bool), Exit> {
    let RestoreArgs { file, rdir, expire } = read(words)?;
    let usage = "hraftd restore FILE --rdir DIR";
    let file = file.ok_or_else(|| Exit::usage(format!("restore: the file is missing: {usage}")))?;
    let dir = Setting::find("--rdir", rdir, env)?
        .ok_or_else(|| Exit::usage(format!("restore: the directory is missing: {usage}; there is no default")))?;
    if dir.text.is_empty() {
        return Err(dir.bad("the directory has no name"));
    }
    Ok((named("restore", file)?, PathBuf::from(dir.text), expire))
}
