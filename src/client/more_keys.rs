//! Verbs of keys and transactions that answer in a line.

use std::ffi::OsStr;
use std::io::{self, Read};

use hyper::{Method, StatusCode};
use serde_json::Value;

use super::link::{Cluster, Request, key_path, query};
use super::out::{self, flag};
use crate::config::{IncrArgs, TouchArgs};
use crate::duration::as_ms;
use crate::exit::{EX_FAILURE, Exit};
use crate::quote::json_escaped;

/// The largest transaction that is read.
const MAX_TXN_BYTES: u64 = 64 << 20;

pub(super) async fn incr(cluster: &Cluster, args: &IncrArgs, json: bool) -> Result<Exit, Exit> {
    let ttl = args.ttl.map(|ttl| format!("{}ms", as_ms(ttl)));
    let path = query(&key_path(&args.key), &[("incr", Some(args.by.to_string())), ("ttl", ttl)]);
    let answer = cluster.send(&Request::write(Method::POST, path, "")).await?.of_a_node()?;
    if json {
        return out::answer(&answer);
    }
    match &answer.json()?[&args.key] {
        // An outcome that was kept has not always its sum.
        Value::Null if answer.header("idempotency-replayed").is_none() => Err(answer.is_strange()),
        Value::Null => Ok(Exit::printed("")),
        sum => out::write(&[json_escaped(&sum.to_string()).as_bytes(), b"\n"]),
    }
}

pub(super) async fn touch(cluster: &Cluster, args: &TouchArgs, json: bool) -> Result<Exit, Exit> {
    let ttl = format!("{}ms", as_ms(args.ttl));
    let path = query(&key_path(&args.key), &[("touch", flag(true)), ("ttl", Some(ttl))]);
    let answer = cluster.send(&Request::write(Method::POST, path, "")).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Err(Exit::error(EX_FAILURE, format!("there is no key {:?}", args.key)));
    }
    let answer = answer.done()?;
    if json { out::answer(&answer) } else { Ok(Exit::printed("")) }
}

pub(super) async fn txn(cluster: &Cluster, file: &OsStr) -> Result<Exit, Exit> {
    let mut body = Vec::new();
    let read = match file.to_str() {
        Some("-") => io::stdin().lock().take(MAX_TXN_BYTES).read_to_end(&mut body),
        _ => std::fs::File::open(file).and_then(|file| file.take(MAX_TXN_BYTES).read_to_end(&mut body)),
    };
    read.map_err(|error| Exit::error(EX_FAILURE, format!("{}: {error}", file.display())))?;
    let answer = cluster.send(&Request::write(Method::POST, "/hraftd/txn", body)).await?.ok()?;
    let code = match answer.json()?["succeeded"].as_bool() {
        Some(true) => 0,
        Some(false) => EX_FAILURE,
        None => return Err(answer.is_strange()),
    };
    Ok(Exit { code, ..out::answer(&answer)? })
}
