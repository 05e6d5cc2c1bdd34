//! The command lines about backups: `hraftd backup`, `hraftd backup verify`, `hraftd restore`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

use super::setting::{Env, Setting};
use super::task::{Offline, named, read};
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
struct RestoreArgs {
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

/// Reads what comes behind `backup verify`.
pub(super) fn verify(words: impl Iterator<Item = OsString>) -> Result<Offline, Exit> {
    let VerifyArgs { file } = read(words)?;
    let file = file.ok_or_else(|| Exit::usage("backup verify: the file is missing: hraftd backup verify FILE"))?;
    Ok(Offline::Verify { file: named("backup verify", file)? })
}

/// Reads what comes behind `restore`.
pub(super) fn restore(words: impl Iterator<Item = OsString>, env: Env<'_>) -> Result<Offline, Exit> {
    let RestoreArgs { file, rdir, expire } = read(words)?;
    let usage = "hraftd restore FILE --rdir DIR";
    let file = file.ok_or_else(|| Exit::usage(format!("restore: the file is missing: {usage}")))?;
    let dir = Setting::find("--rdir", rdir, env)?
        .ok_or_else(|| Exit::usage(format!("restore: the directory is missing: {usage}; there is no default")))?;
    if dir.text.is_empty() {
        return Err(dir.bad("the directory has no name"));
    }
    Ok(Offline::Restore { file: named("restore", file)?, dir: PathBuf::from(dir.text), expire })
}
