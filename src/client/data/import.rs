//! `hraftd import`.
//!
//! Plain keys go many in one request, in one entry of the log; others go one by one, many at a time. Each request has its
//! `Idempotency-Key`, so one that is repeated at another node counts once.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use hyper::{Method, StatusCode};
use rustix::process::Signal;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::etcd;
use super::item::{self, Content, Item};
use crate::client::link::{Cluster, Request, key_path, query};
use crate::client::out::{self, flag};
use crate::client::progress::Progress;
use crate::client::signals::{Signals, ended_by};
use crate::config::ImportArgs;
use crate::exit::{EX_FAILURE, Exit};

/// Keys that are read before they are written.
const CHUNK_KEYS: usize = 2_000;
const CHUNK_BYTES: usize = 8 << 20;

/// What goes in one request: the least that `--max-request` may be is far above.
const REQUEST_KEYS: usize = 500;
const REQUEST_BYTES: usize = 256 << 10;

/// Requests under way at a time.
const AT_A_TIME: usize = 32;

/// Whoever is told to end may write the lines that it has for so long.
const LAST_LINES: Duration = Duration::from_secs(3);

/// The longest line that is read.
const MAX_LINE_BYTES: u64 = 96 << 20;

/// What is written, and how it went.
pub(super) struct Writer<'a> {
    cluster: &'a Cluster,
    if_absent: bool,
    pub(super) progress: Progress,
    /// Keys that were there.
    left: u64,
}

pub(crate) async fn import(cluster: &Cluster, args: &ImportArgs) -> Result<Exit, Exit> {
    let mut signals = Signals::take()?;
    let mut writer = Writer { cluster, if_absent: args.if_absent, progress: Progress::new("import"), left: 0 };
    match &args.from {
        Some(from) => tokio::select! {
            done = etcd::import(&mut writer, from) => done?,
            signal = signals.end() => {
                let why = "told to end: some of the keys are written, and to begin again is safe";
                return Err(Exit::error(ended_by(signal).code, why));
            }
        },
        None => lines(&mut writer, args, &mut signals).await?,
    }
    let (keys, left) = (writer.progress.keys - writer.left, writer.left);
    drop(writer);
    let more = if args.if_absent { format!(", {left} were there") } else { String::new() };
    out::say(&format!("{keys} keys were written{more}"));
    Ok(Exit::printed(""))
}

/// Lines, as they are read: some at a time, on a thread that may wait for them.
struct Lines {
    from: Box<dyn BufRead + Send>,
    name: String,
    /// How many are left out.
    skip: u64,
    /// How many were read.
    number: u64,
    is_over: bool,
}

/// Some lines.
struct Chunk {
    items: Vec<Item>,
    /// The last line of it.
    number: u64,
    is_last: bool,
    /// What is wrong with the next one.
    bad: Option<Exit>,
}

impl Lines {
    fn open(file: &OsStr, skip: u64) -> Result<Self, Exit> {
        let name = if file == "-" { "standard input".to_owned() } else { file.display().to_string() };
        let from: Box<dyn BufRead + Send> = match file.to_str() {
            Some("-") => Box::new(BufReader::with_capacity(1 << 20, io::stdin())),
            _ => {
                let opened = File::open(file).map_err(|error| Exit::error(EX_FAILURE, format!("{name}: {error}")))?;
                Box::new(BufReader::with_capacity(1 << 20, opened))
            }
        };
        Ok(Self { from, name, skip, number: 0, is_over: false })
    }

    fn next(mut self) -> (Self, Chunk) {
        let (mut items, mut bytes, mut bad) = (Vec::new(), 0, None);
        while items.len() < CHUNK_KEYS && bytes < CHUNK_BYTES {
            let mut line = Vec::new();
            match self.from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
                Ok(0) => self.is_over = true,
                Ok(_) => {}
                Err(error) => bad = Some(Exit::error(EX_FAILURE, format!("{}: {error}", self.name))),
            }
            if self.is_over || bad.is_some() {
                break;
            }
            if self.number < self.skip || line.trim_ascii().is_empty() {
                self.number += 1;
                continue;
            }
            match item::read(&line) {
                Ok(item) => {
                    self.number += 1;
                    bytes += line.len();
                    items.push(item);
                }
                Err(why) => {
                    bad = Some(Exit::error(EX_FAILURE, format!("{}, line {}: {why}", self.name, self.number + 1)));
                    break;
                }
            }
        }
        let (number, is_last) = (self.number, self.is_over);
        (self, Chunk { items, number, is_last, bad })
    }
}

async fn lines(writer: &mut Writer<'_>, args: &ImportArgs, signals: &mut Signals) -> Result<(), Exit> {
    let mut lines = Lines::open(&args.file, args.skip)?;
    let mut done = args.skip;
    let stopped = |exit: Exit, done: u64| {
        let why = exit.err.unwrap_or_default();
        Exit::error(exit.code, format!("{why}. {done} lines are done: --skip {done} goes on there"))
    };
    let told = |signal: Signal| Exit::error(ended_by(signal).code, "told to end");
    loop {
        let read = spawn_blocking(|| lines.next());
        let (rest, Chunk { items, number, is_last, bad }) = tokio::select! {
            read = read => read.map_err(|error| Exit::error(EX_FAILURE, error.to_string()))?,
            signal = signals.end() => return Err(stopped(told(signal), done)),
        };
        lines = rest;
        // What came before a bad line is done, and counts. So is what is soon done when a signal comes.
        let mut interrupted = None;
        let mut write = std::pin::pin!(writer.write(items));
        let written = tokio::select! {
            written = &mut write => written,
            signal = signals.end() => {
                interrupted = Some(signal);
                timeout(LAST_LINES, write).await.unwrap_or_else(|_| Err(told(signal)))
            }
        };
        if written.is_ok() {
            done = number.max(done);
        }
        if let Some(signal) = interrupted {
            let exit = written.err().unwrap_or_else(|| told(signal));
            return Err(stopped(Exit { code: ended_by(signal).code, ..exit }, done));
        }
        written.and(bad.map_or(Ok(()), Err)).map_err(|exit| stopped(exit, done))?;
        if is_last {
            return Ok(());
        }
    }
}

impl Writer<'_> {
    /// Writes these; of a key that comes twice, the last one.
    pub(super) async fn write(&mut self, items: Vec<Item>) -> Result<(), Exit> {
        let count = items.len() as u64;
        self.progress.bytes += items.iter().map(|item| item.len() as u64).sum::<u64>();
        let last: BTreeMap<String, Item> = items.into_iter().map(|item| (item.key.clone(), item)).collect();
        let (plain, single): (Vec<Item>, Vec<Item>) =
            last.into_values().partition(|item| !self.if_absent && item.plain().is_some());
        let mut requests = many(&plain);
        requests.extend(single.iter().map(|item| (one(item, self.if_absent), format!("{:?}", item.key))));
        let cluster = self.cluster;
        let send = async |(request, name): (Request, String)| {
            let answer = cluster.send(&request).await?;
            match answer.status {
                StatusCode::PRECONDITION_FAILED => Ok(1),
                _ => match answer.done() {
                    Ok(_) => Ok(0),
                    Err(exit) => Err(Exit::error(exit.code, format!("{name}: {}", exit.err.unwrap_or_default()))),
                },
            }
        };
        let mut under_way = stream::iter(requests.into_iter().map(send)).buffer_unordered(AT_A_TIME);
        let mut first_error = None;
        while let Some(done) = under_way.next().await {
            match done {
                Ok(left) => self.left += left,
                Err(exit) => first_error = first_error.or(Some(exit)),
            }
        }
        drop(under_way);
        self.progress.keys += count;
        self.progress.show();
        first_error.map_or(Ok(()), Err)
    }
}

/// Requests with many keys each, and what they are called in an error.
fn many(items: &[Item]) -> Vec<(Request, String)> {
    let mut requests = Vec::new();
    let (mut body, mut keys, mut first) = (Vec::new(), 0, "");
    let mut end = |body: &mut Vec<u8>, keys: &mut usize, first: &str| {
        if *keys > 0 {
            body.push(b'}');
            let request = Request::write(Method::POST, "/hraftd/key", std::mem::take(body));
            requests
                .push((request.header("content-type", "application/json"), format!("{keys} keys from {first:?} on")));
            *keys = 0;
        }
    };
    for item in items {
        let Some((key, value)) = item.plain() else { continue };
        if keys == REQUEST_KEYS || body.len() + key.len() + value.len() > REQUEST_BYTES {
            end(&mut body, &mut keys, first);
        }
        if keys == 0 {
            first = &item.key;
        }
        body.push(if keys == 0 { b'{' } else { b',' });
        body.extend_from_slice(key.as_bytes());
        body.push(b':');
        body.extend_from_slice(value);
        keys += 1;
    }
    end(&mut body, &mut keys, first);
    requests
}

fn one(item: &Item, if_absent: bool) -> Request {
    let (body, json) = match &item.content {
        Content::Json(body) => (body, true),
        Content::Text(body) | Content::Bytes(body) => (body, false),
    };
    // A key whose time has come goes in a second.
    let ttl = item.ttl_ms.map(|ttl_ms| format!("{}ms", ttl_ms.max(1_000)));
    let request =
        Request::write(Method::PUT, query(&key_path(&item.key), &[("json", flag(json)), ("ttl", ttl)]), body.clone());
    let request = match &item.content_type {
        Some(content_type) => request.header("content-type", content_type),
        None => request,
    };
    if if_absent { request.header("if-none-match", "*") } else { request }
}
