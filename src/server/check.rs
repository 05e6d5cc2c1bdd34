//! `hraftd check config`: whether a node would start with a configuration, as far as that can be told beside one that runs.

use std::sync::Arc;

use std::net::{TcpListener, ToSocketAddrs};
use std::path::Path;

use super::reload::Reloads;
use super::security::Security;
use super::tokens;
use crate::config::{self, Bind, Config, DataPlace};
use crate::exit::{EX_CONFIG, Exit};

/// The page of all settings on stdout, and 78 with a line on stderr where the node would not start. Blocks.
pub fn check_config(config: &Config) -> Exit {
    let page = config::page(config);
    match checked(config) {
        Ok(()) => Exit::printed(page),
        Err(exit) => Exit { code: EX_CONFIG, out: Some(page), err: exit.err },
    }
}

fn checked(config: &Config) -> Result<(), Exit> {
    // They are read once; nothing follows them.
    let reloads = Reloads::default();
    let numbers = Arc::default();
    Security::open(config, &reloads, &numbers)?;
    tokens::root_tokens(config.root_tokens.as_ref(), &reloads, &numbers)?;
    if let DataPlace::Dir(dir) = &config.data {
        directory(dir).map_err(|why| Exit::config(format!("{}: {why}", config.data_label)))?;
    }
    [&config.http_bind, &config.raft_bind].into_iter().try_for_each(address)
}

/// A directory that can be written, or that can be made.
fn directory(dir: &Path) -> Result<(), String> {
    let there = dir.ancestors().find(|dir| dir.as_os_str().is_empty() || dir.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    if !there.is_dir() {
        return Err(format!("{} is not a directory", there.display()));
    }
    let all = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(there, all).map_err(|error| format!("{} cannot be written: {error}", there.display()))
}

/// An address of this machine. Whether its port is free is not looked at: the node may run.
fn address(bind: &Bind) -> Result<(), Exit> {
    let Some(host) = bind.host.as_deref() else { return Ok(()) };
    let bad = |why: String| Exit::config(format!("{} {bind}: {why}", bind.flag));
    let addrs: Vec<_> = (host, 0).to_socket_addrs().map_err(|error| bad(error.to_string()))?.collect();
    // It tries them in turn, as the node does.
    TcpListener::bind(&addrs[..]).map(|_| ()).map_err(|error| bad(format!("not an address of this machine: {error}")))
}
