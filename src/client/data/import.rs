//! `hraftd import`.
//!
//! Plain keys go many in one request, in one entry of the log; others go one by one, many at a time. Each request has its
//! `Idempotency-Key`, so one that is repeated at another node counts once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use futures_util::stream::{self, StreamExt};
use hyper::{Method, StatusCode};

use super::etcd;
use super::item::{self, Content, Item};
use super::progress::Progress;
use crate::client::link::{Cluster, Request, key_path, query};
use crate::client::out::{self, flag};
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
    let mut writer = Writer { cluster, if_absent: args.if_absent, progress: Progress::new("import"), left: 0 };
    match &args.from {
        Some(from) => etcd::import(&mut writer, from).await?,
        None => lines(&mut writer, args).await?,
    }
    let (keys, left) = (writer.progress.keys - writer.left, writer.left);
    drop(writer);
    let more = if args.if_absent { format!(", {left} were there") } else { String::new() };
    out::say(&format!("{keys} keys were written{more}"));
    Ok(Exit::printed(""))
}

async fn lines(writer: &mut Writer<'_>, args: &ImportArgs) -> Result<(), Exit> {
    let name = args.file.display().to_string();
    let failed = |error: io::Error| Exit::error(EX_FAILURE, format!("{name}: {error}"));
    let mut from: Box<dyn BufRead> = match args.file.to_str() {
        Some("-") => Box::new(BufReader::with_capacity(1 << 20, io::stdin())),
        _ => Box::new(BufReader::with_capacity(1 << 20, File::open(&args.file).map_err(failed)?)),
    };
    let (mut number, mut done, mut is_over) = (0_u64, args.skip, false);
    while !is_over {
        let (mut chunk, mut bytes, mut bad) = (Vec::new(), 0, None);
        while chunk.len() < CHUNK_KEYS && bytes < CHUNK_BYTES {
            let mut line = Vec::new();
            let read = from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(failed)?;
            is_over = read == 0;
            if is_over {
                break;
            }
            number += 1;
            if number <= args.skip || line.trim_ascii().is_empty() {
                continue;
            }
            match item::read(&line) {
                Ok(item) => {
                    bytes += line.len();
                    chunk.push(item);
                }
                Err(why) => {
                    bad = Some(Exit::error(EX_FAILURE, format!("{name}, line {number}: {why}")));
                    number -= 1;
                    break;
                }
            }
        }
        // What came before a bad line is done, and counts.
        let written = writer.write(chunk).await;
        if written.is_ok() {
            done = number.max(done);
        }
        if let Err(exit) = written.and(bad.map_or(Ok(()), Err)) {
            let why = exit.err.unwrap_or_default();
            return Err(Exit::error(exit.code, format!("{why}. {done} lines are done: --skip {done} goes on there")));
        }
    }
    Ok(())
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
                status if status.is_success() => Ok(0),
                _ => {
                    let exit = answer.refused();
                    Err(Exit::error(exit.code, format!("{name}: {}", exit.err.unwrap_or_default())))
                }
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
