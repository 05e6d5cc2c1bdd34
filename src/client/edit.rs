//! `hraftd edit`: a value in an editor, written back only where nobody else changed it.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use rustix::process::Signal;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::link::{Answer, Cluster, Request, key_path, query};
use super::out::{self, flag};
use super::run::Child;
use super::signals::{Signals, ended_by};
use crate::exit::{EX_FAILURE, Exit};

/// An editor that is told to end has this time.
const GRACE: Duration = Duration::from_secs(4);

/// A folder of this process's own, with files that only its user may read.
struct Folder {
    path: PathBuf,
    /// It stays: what is in it would be lost.
    keep: bool,
}

impl Folder {
    fn new() -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("hraftd-edit-{}", super::random_id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path, keep: false })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            // It is in the folder for temporary files.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// A key as it was read.
struct Was {
    value: Bytes,
    etag: Option<String>,
    content_type: Option<String>,
}

fn failure(why: impl AsRef<str>) -> Exit {
    Exit::error(EX_FAILURE, why)
}

pub(super) async fn edit(cluster: &Cluster, key: &str) -> Result<Exit, Exit> {
    let mut signals = Signals::take()?;
    let mut folder = Folder::new().map_err(|error| failure(format!("no folder for the value: {error}")))?;
    let mut was = unless_told(&mut signals, read(cluster, key)).await?;
    let file = folder.path.join(file_name(key, was.content_type.as_deref()));
    std::fs::write(&file, &was.value).map_err(|error| failure(format!("{}: {error}", file.display())))?;
    loop {
        let told = open_editor(&file, &mut signals).await?;
        let mut value = std::fs::read(&file).map_err(|error| failure(format!("{}: {error}", file.display())))?;
        // Editors end a file with a line end.
        if value.ends_with(b"\n") && !was.value.ends_with(b"\n") {
            value.pop();
        }
        let is_unchanged = value == was.value;
        if let Some(signal) = told {
            folder.keep = !is_unchanged;
            let kept = if folder.keep { format!("; what was edited is in {}", file.display()) } else { String::new() };
            return Err(Exit::error(ended_by(signal).code, format!("told to end: nothing was changed{kept}")));
        }
        if is_unchanged && was.etag.is_some() {
            out::say("unchanged");
            return Ok(Exit::printed(""));
        }
        let answer = tokio::select! {
            answer = write(cluster, key, &was, value) => answer,
            signal = signals.end() => {
                let why = "told to end: whether it was written is unknown";
                Err(Exit::error(ended_by(signal).code, why))
            }
        };
        match answer {
            Ok(answer) if answer.status == StatusCode::PRECONDITION_FAILED => {}
            answer => {
                let Err(exit) = answer.and_then(Answer::done) else { return Ok(Exit::printed("")) };
                folder.keep = true;
                let why = exit.err.unwrap_or_default();
                return Err(Exit::error(exit.code, format!("{why}. What was edited is in {}", file.display())));
            }
        }
        let theirs = folder.path.join("theirs");
        // Whatever comes now, what was edited is not lost.
        folder.keep = true;
        let now = unless_told(&mut signals, read(cluster, key)).await.map_err(|exit| {
            let why = exit.err.unwrap_or_else(|| "told to end".to_owned());
            Exit::error(exit.code, format!("{why}. What was edited is in {}", file.display()))
        })?;
        std::fs::write(&theirs, &now.value).map_err(|error| failure(format!("{}: {error}", theirs.display())))?;
        let both =
            format!("somebody changed {key:?} meanwhile: yours is {}, theirs {}", file.display(), theirs.display());
        if !ask(&both, &mut signals).await? {
            return Err(failure(both));
        }
        folder.keep = false;
        was = now;
    }
}

/// Does this, unless this process is told to end before.
async fn unless_told<T>(signals: &mut Signals, work: impl Future<Output = Result<T, Exit>>) -> Result<T, Exit> {
    tokio::select! {
        done = work => done,
        signal = signals.end() => Err(ended_by(signal)),
    }
}

async fn read(cluster: &Cluster, key: &str) -> Result<Was, Exit> {
    let answer = cluster.send(&Request::get(query(&key_path(key), &[("raw", flag(true))]))).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(Was { value: Bytes::new(), etag: None, content_type: None });
    }
    let answer = answer.of_a_node()?;
    let header = |name| answer.header(name).map(str::to_owned);
    let (etag, content_type) = (header("etag"), header("content-type"));
    Ok(Was { value: answer.body, etag, content_type })
}

async fn write(cluster: &Cluster, key: &str, was: &Was, value: Vec<u8>) -> Result<Answer, Exit> {
    let request = Request::write(Method::PUT, key_path(key), value);
    let request = match &was.content_type {
        Some(content_type) if content_type != "text/plain; charset=utf-8" => {
            request.header("content-type", content_type)
        }
        _ => request,
    };
    let request = match &was.etag {
        Some(etag) => request.header("if-match", etag),
        None => request.header("if-none-match", "*"),
    };
    cluster.send(&request).await
}

/// The last part of a key, so that an editor knows what it has.
fn file_name(key: &str, content_type: Option<&str>) -> String {
    let last = key.rsplit('/').next().unwrap_or_default();
    let plain: String = last.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(60).collect();
    let end = if content_type == Some("application/json") { ".json" } else { "" };
    format!("value-{plain}{end}")
}

/// Opens the editor, to its end; a signal that told to end before.
async fn open_editor(file: &Path, signals: &mut Signals) -> Result<Option<Signal>, Exit> {
    let named = ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var_os(name).filter(|editor| !editor.is_empty()));
    let editor = named.unwrap_or_else(|| "vi".into());
    let shown = editor.to_string_lossy().into_owned();
    let mut line = editor;
    line.push(" \"$1\"");
    let command = ["/bin/sh".into(), "-c".into(), line, "sh".into(), file.as_os_str().to_owned()];
    let mut child = Child::start(&command, &[], false)?;
    let handle = child.handle();
    let status = loop {
        tokio::select! {
            status = child.ended() => break status?,
            // At a terminal Ctrl-C is for the editor alone.
            signal = signals.end() => if handle.pass_on(signal) {
                if let Ok(ended) = timeout(GRACE, child.ended()).await {
                    ended?;
                } else {
                    handle.signal(Signal::KILL);
                    child.ended().await?;
                }
                return Ok(Some(signal));
            },
        }
    };
    match status.success() {
        true => Ok(None),
        false => Err(failure(format!("the editor ({shown}) ended with {status}: nothing was changed"))),
    }
}

/// Whether to edit again, on top of theirs; nobody is asked where there is no terminal.
async fn ask(both: &str, signals: &mut Signals) -> Result<bool, Exit> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(false);
    }
    out::say(both);
    // Nobody to ask: then the answer is no.
    let _ = write!(io::stderr(), "Edit yours again, to replace theirs? [y/N] ");
    let read = spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = tokio::select! {
        answer = read => answer.map_err(|error| failure(error.to_string()))?.map_err(|error| failure(error.to_string()))?,
        signal = signals.end() => return Err(ended_by(signal)),
    };
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
