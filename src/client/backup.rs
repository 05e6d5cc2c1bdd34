//! `hraftd backup`: takes a backup into a file, or to standard output.
//!
//! A file gets its name once it is whole: flushed, read again, and every checksum, count and the digest right. Whatever
//! happens before leaves nothing under that name, and what was there before stays.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;

use super::link::{Cluster, Request, Stream, query};
use super::out;
use super::progress::Progress;
use super::signals::{Signals, ended_by};
use crate::config::BackupArgs;
use crate::exit::{EX_FAILURE, EX_TEMPFAIL, Exit};
use crate::storage::backup::Backup;

/// A node that sends nothing for so long sends nothing more.
const IDLE: Duration = Duration::from_secs(60);

pub(super) async fn backup(cluster: &Cluster, args: &BackupArgs, json: bool) -> Result<Exit, Exit> {
    let file = args.file.as_deref().filter(|file| *file != "-").map(Path::new);
    match file {
        None if args.if_newer.is_some() => {
            let why = "--if-newer needs a FILE: who reads standard output could not tell an empty backup from none";
            return Err(Exit::usage(why));
        }
        None if io::stdout().is_terminal() => {
            return Err(Exit::usage("backup: a backup is no text for a terminal: give a FILE, or send it elsewhere"));
        }
        None => {}
        Some(file) => check_place(file)?,
    }
    let if_newer = args.if_newer.map(|index| index.to_string());
    let path = query("/hraftd/backup", &[("if_newer", if_newer), ("level", args.level.clone())]);
    let mut stream = match cluster.open_or_refused(&Request::get(path)).await? {
        Ok(stream) => stream.of_type("application/octet-stream")?,
        Err(answer) if answer.status == StatusCode::NOT_MODIFIED => {
            let index = answer.header("x-hraftd-index").unwrap_or("?");
            out::say(&format!("nothing is newer: the cluster is at index {index}; no backup was taken"));
            return Ok(Exit::printed(""));
        }
        Err(answer) => return Err(answer.refused()),
    };
    let taken = async {
        match file {
            None => to_stdout(&mut stream).await,
            Some(file) => to_file(&mut stream, file, json).await,
        }
    };
    let mut signals = Signals::take()?;
    tokio::select! {
        taken = taken => taken,
        signal = signals.end() => Err(Exit::error(ended_by(signal).code, "told to end; no backup was taken")),
    }
}

/// A device, or a directory, is not to be replaced by a backup.
fn check_place(file: &Path) -> Result<(), Exit> {
    match std::fs::metadata(file) {
        Ok(found) if !found.is_file() => {
            Err(Exit::usage(format!("{}: it is there and no regular file; give a file, or -", file.display())))
        }
        _ if file.file_name().is_none() => Err(Exit::usage(format!("{}: it has no name", file.display()))),
        _ => Ok(()),
    }
}

/// The transfer broke off: it may well work the next time.
fn cut(why: &str) -> Exit {
    Exit::error(EX_TEMPFAIL, format!("{why}; no backup was taken, try again"))
}

async fn to_stdout(stream: &mut Stream) -> Result<Exit, Exit> {
    let mut progress = Progress::new("backup");
    while let Some(bytes) = stream.next(IDLE).await.map_err(|why| cut(&why))? {
        io::stdout().lock().write_all(&bytes).map_err(|error| unfinished(&error))?;
        progress.bytes += bytes.len() as u64;
        progress.show();
    }
    io::stdout().lock().flush().map_err(|error| unfinished(&error))?;
    drop(progress);
    Ok(Exit::printed(""))
}

/// Whoever reads it has not all of it: that must not pass for a success.
fn unfinished(error: &io::Error) -> Exit {
    Exit::error(EX_FAILURE, format!("cannot write to stdout: {error}; the backup is not whole"))
}

/// A file that is removed again unless it gets its name.
struct Unfinished(Option<PathBuf>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = std::fs::remove_file(path)
        {
            out::say(&format!("{}: it cannot be removed: {error}", path.display()));
        }
    }
}

async fn to_file(stream: &mut Stream, to: &Path, as_json: bool) -> Result<Exit, Exit> {
    let failed = |error: io::Error| Exit::error(EX_FAILURE, format!("{}: {error}; no backup was taken", to.display()));
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let tmp = to.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&tmp).map_err(failed)?;
    let mut unfinished = Unfinished(Some(tmp.clone()));
    let mut progress = Progress::new("backup");
    while let Some(bytes) = stream.next(IDLE).await.map_err(|why| cut(&why))? {
        file.write_all(&bytes).map_err(failed)?;
        progress.bytes += bytes.len() as u64;
        progress.show();
    }
    file.sync_all().map_err(failed)?;
    drop(progress);
    let backup = Backup::open(&tmp).map_err(|error| cut(&error.to_string()))?;
    let totals = backup.check().map_err(|error| cut(&error.to_string()))?;
    std::fs::rename(&tmp, to).map_err(failed)?;
    unfinished.0 = None;
    let folder = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    let (index, digest) = (backup.head.index, format!("{:016x}", totals.digest));
    if as_json {
        let cluster = backup.head.cluster.to_string();
        let (file, bytes, keys) = (to.display().to_string(), backup.bytes, totals.keys);
        let shown = json!({"ok": true, "file": file, "cluster": cluster, "index": index, "bytes": bytes, "keys": keys,
            "digest": digest});
        return Ok(Exit::printed(format!("{shown}\n")));
    }
    let (file, keys) = (to.display(), totals.keys);
    Ok(Exit::printed(format!("{file}: index {index}, {keys} keys, {} bytes, digest {digest}\n", backup.bytes)))
}
