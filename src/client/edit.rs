//! `hraftd edit`: a value in an editor, written back only where nobody else changed it.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use hyper::{Method, StatusCode};

use super::link::{Answer, Cluster, Request, key_path, query};
use super::out::{self, flag};
use crate::exit::{EX_FAILURE, Exit};

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
    let mut folder = Folder::new().map_err(|error| failure(format!("no folder for the value: {error}")))?;
    let mut was = read(cluster, key).await?;
    let file = folder.path.join(file_name(key, was.content_type.as_deref()));
    std::fs::write(&file, &was.value).map_err(|error| failure(format!("{}: {error}", file.display())))?;
    loop {
        open_editor(&file)?;
        let mut value = std::fs::read(&file).map_err(|error| failure(format!("{}: {error}", file.display())))?;
        // Editors end a file with a line end.
        if value.ends_with(b"\n") && !was.value.ends_with(b"\n") {
            value.pop();
        }
        if value == was.value && was.etag.is_some() {
            out::say("unchanged");
            return Ok(Exit::printed(""));
        }
        let answer = write(cluster, key, &was, value).await;
        match answer {
            Ok(answer) if answer.status == StatusCode::PRECONDITION_FAILED => {}
            Ok(answer) if answer.status.is_success() => return Ok(Exit::printed("")),
            other => {
                folder.keep = true;
                let exit = other.map_or_else(|exit| exit, |answer| answer.refused());
                let why = exit.err.unwrap_or_default();
                return Err(Exit::error(exit.code, format!("{why}. What was edited is in {}", file.display())));
            }
        }
        let theirs = folder.path.join("theirs");
        let now = read(cluster, key).await?;
        std::fs::write(&theirs, &now.value).map_err(|error| failure(format!("{}: {error}", theirs.display())))?;
        let both =
            format!("somebody changed {key:?} meanwhile: yours is {}, theirs {}", file.display(), theirs.display());
        folder.keep = true;
        if !ask(&both)? {
            return Err(failure(both));
        }
        folder.keep = false;
        was = now;
    }
}

async fn read(cluster: &Cluster, key: &str) -> Result<Was, Exit> {
    let answer = cluster.send(&Request::get(query(&key_path(key), &[("raw", flag(true))]))).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(Was { value: Bytes::new(), etag: None, content_type: None });
    }
    let answer = answer.ok()?;
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

fn open_editor(file: &Path) -> Result<(), Exit> {
    let named = ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var_os(name).filter(|editor| !editor.is_empty()));
    let editor = named.unwrap_or_else(|| "vi".into());
    let shown = editor.to_string_lossy().into_owned();
    let mut line = editor;
    line.push(" \"$1\"");
    let ended = Command::new("/bin/sh").arg("-c").arg(line).arg("sh").arg(file).status();
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failure(format!("the editor ({shown}) ended with {status}: nothing was changed"))),
        Err(error) => Err(failure(format!("the editor ({shown}) cannot be started: {error}"))),
    }
}

/// Whether to edit again, on top of theirs; nobody is asked where there is no terminal.
fn ask(both: &str) -> Result<bool, Exit> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(false);
    }
    out::say(both);
    let mut answer = String::new();
    let asked = write!(io::stderr(), "Edit yours again, to replace theirs? [y/N] ");
    asked.and_then(|()| io::stdin().read_line(&mut answer)).map_err(|error| failure(error.to_string()))?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
