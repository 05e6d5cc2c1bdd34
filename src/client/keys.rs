//! Verbs of one key.

use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use hyper::{Method, StatusCode};

use super::link::{Cluster, Request, key_path, query};
use super::out::{self, flag};
use crate::config::{DeleteArgs, GetArgs, PutArgs};
use crate::duration::as_ms;
use crate::exit::{EX_FAILURE, Exit};

/// The most bytes of a value that are read: no node takes more.
const MAX_VALUE_BYTES: u64 = 1 << 30;

pub(super) async fn get(cluster: &Cluster, args: &GetArgs, json: bool) -> Result<Exit, Exit> {
    let (meta, raw) = (flag(args.meta), flag(!args.meta && !json));
    let path = query(&key_path(&args.key), &[("meta", meta), ("raw", raw), ("level", args.level.clone())]);
    let answer = cluster.send(&Request::get(path)).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Err(Exit::error(EX_FAILURE, format!("there is no key {:?}", args.key)));
    }
    let answer = answer.of_a_node()?;
    let newline: &[u8] = if args.meta || json { b"\n" } else { b"" };
    out::write(&[&answer.body, newline])
}

pub(super) async fn put(cluster: &Cluster, args: &PutArgs, json: bool) -> Result<Exit, Exit> {
    let value = read_value(args)?;
    let ttl = args.ttl.map(|ttl| format!("{}ms", as_ms(ttl)));
    let cas = args.cas.map(|cas| cas.to_string());
    let path = query(&key_path(&args.key), &[("json", flag(args.json)), ("ttl", ttl), ("cas", cas)]);
    let answer = cluster.send(&Request::write(Method::PUT, path, value)).await?.done()?;
    if json { out::answer(&answer) } else { Ok(Exit::printed("")) }
}

pub(super) async fn delete(cluster: &Cluster, args: &DeleteArgs, json: bool) -> Result<Exit, Exit> {
    let path = if args.prefix {
        let all = flag(args.key.is_empty());
        // An empty prefix is all there is, and says so.
        query("/hraftd/key?prefix=", &[]) + &super::link::encoded(&args.key) + if all.is_some() { "&all" } else { "" }
    } else {
        query(&key_path(&args.key), &[("cas", args.cas.map(|cas| cas.to_string()))])
    };
    let answer = cluster.send(&Request::write(Method::DELETE, path, "")).await?.done()?;
    let deleted = answer.json()?["deleted"].as_u64().unwrap_or_default();
    let code = if deleted == 0 && !args.prefix { EX_FAILURE } else { 0 };
    let exit = if json { out::answer(&answer)? } else { Exit::printed(format!("{deleted}\n")) };
    Ok(Exit { code, ..exit })
}

fn read_value(args: &PutArgs) -> Result<Bytes, Exit> {
    let given = args.value.as_bytes();
    let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let read = match given {
        b"-" => read_all(io::stdin().lock()).map_err(|error| format!("standard input: {error}")),
        [b'@', file @ ..] => {
            let path = std::ffi::OsStr::from_bytes(file);
            let read = std::fs::File::open(path).and_then(read_all);
            read.map_err(|error| format!("{}: {error}", name(file)))
        }
        _ => Ok(given.to_vec()),
    };
    read.map(Bytes::from).map_err(|why| Exit::error(EX_FAILURE, why))
}

fn read_all(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_VALUE_BYTES + 1).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_VALUE_BYTES) {
        true => Ok(bytes),
        false => Err(io::Error::other("it has more than 1 GiB")),
    }
}
