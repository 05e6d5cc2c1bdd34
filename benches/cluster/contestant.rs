//! A contestant: its processes, and which of them leads.

use std::cell::Cell as Mutable;
use std::path::{Path, PathBuf};

use crate::bench_support::template::{Protocol, Target};
use crate::options::Options;
use crate::plan::{Asked, Cell, Kind, Op, State};
use crate::process::Server;
use crate::{ceiling, etcd, hraftd, redis};

/// A contestant that is installed.
#[derive(Clone)]
pub struct Found {
    pub kind: Kind,
    binary: PathBuf,
    pub version: String,
}

/// Looks for a contestant.
///
/// # Errors
///
/// It is not installed: what would bring it.
pub fn find(kind: Kind, options: &Options) -> Result<Found, String> {
    let missing = |package: &str| format!("{} is not installed and left out ({package})", kind.name());
    let (binary, version) = match kind {
        Kind::Hraftd | Kind::Http2 => (Some(options.hraftd.clone()), hraftd::version as fn(&Path) -> Option<String>),
        Kind::Old => (options.old.clone(), hraftd::version as _),
        Kind::Etcd => (etcd::find_newest(), etcd::version as _),
        Kind::Etcd34 => (etcd::find_old(), etcd::version as _),
        Kind::Redis => (redis::find(), redis::version as _),
        Kind::Ceiling => (std::env::current_exe().ok(), ceiling::version as _),
    };
    let package = match kind {
        Kind::Hraftd | Kind::Http2 | Kind::Old | Kind::Ceiling => "cargo builds it",
        Kind::Etcd => etcd::NEWEST_PACKAGE,
        Kind::Etcd34 => etcd::OLD_PACKAGE,
        Kind::Redis => redis::PACKAGE,
    };
    let binary = binary.ok_or_else(|| missing(package))?;
    let version = version(&binary).ok_or_else(|| missing(package))?;
    Ok(Found { kind, binary, version })
}

pub struct Contestant {
    pub kind: Kind,
    servers: Vec<Server>,
    state: Mutable<State>,
}

impl Contestant {
    /// Starts its servers in a new directory below `dir`; they are ready when this returns.
    pub fn start(found: &Found, dir: &Path) -> Self {
        let dir = dir.join(found.kind.name());
        std::fs::create_dir(&dir).unwrap();
        let servers = match found.kind {
            Kind::Hraftd | Kind::Http2 | Kind::Old => hraftd::start(&found.binary, &dir),
            Kind::Etcd | Kind::Etcd34 => etcd::start(&found.binary, &dir),
            Kind::Redis => redis::start(&found.binary, &dir),
            Kind::Ceiling => ceiling::start(&dir),
        };
        Self { kind: found.kind, servers, state: Mutable::new(State::Settled) }
    }

    /// The number of the server that leads.
    ///
    /// # Errors
    ///
    /// None leads, or one does not say whether it does.
    pub fn leader(&self) -> Result<usize, String> {
        let leads = |server: &Server| match self.kind {
            Kind::Hraftd | Kind::Http2 | Kind::Old => hraftd::leads(&server.addr),
            Kind::Etcd | Kind::Etcd34 => etcd::leads(&server.addr),
            Kind::Redis | Kind::Ceiling => Ok(true),
        };
        for (number, server) in self.servers.iter().enumerate() {
            if leads(server)? {
                return Ok(number);
            }
        }
        Err(format!("{} has no leader", self.kind.name()))
    }

    /// The leader, then the follower that is asked, then the others.
    ///
    /// # Errors
    ///
    /// See [`Contestant::leader`].
    pub fn in_order(&self) -> Result<Vec<&Server>, String> {
        let leader = self.leader()?;
        let mut servers: Vec<&Server> = self.servers.iter().collect();
        servers.rotate_left(leader);
        Ok(servers)
    }

    /// How gets would find it now.
    pub fn state(&self) -> State {
        self.state.get()
    }

    pub fn was_written(&self) {
        self.state.set(State::AsFound);
    }

    /// Makes what writes leave behind in memory go away. Only etcd leaves something that costs reads.
    ///
    /// # Errors
    ///
    /// A request failed.
    pub fn settle(&self) -> Result<(), String> {
        if matches!(self.kind, Kind::Etcd | Kind::Etcd34) {
            etcd::settle(&self.in_order()?)?;
        }
        self.state.set(State::Settled);
        Ok(())
    }

    /// How servers ended that should still run.
    pub fn ended(&mut self) -> Vec<String> {
        let kind = self.kind.name();
        self.servers.iter_mut().filter_map(|server| Some(format!("{kind}: {}", server.ended()?))).collect()
    }

    pub fn target(&self, cell: Cell, addrs: Vec<String>, channels: usize) -> Target {
        let protocol = match self.kind {
            Kind::Hraftd | Kind::Old | Kind::Ceiling => Protocol::Http,
            Kind::Http2 => Protocol::Http2,
            Kind::Etcd | Kind::Etcd34 => Protocol::Grpc,
            Kind::Redis => Protocol::Resp,
        };
        let linearizable = cell.op != Op::GetNone;
        Target { protocol, addrs, value_bytes: cell.size, linearizable, channels, secure: None }
    }
}

/// The addresses that clients connect to, of servers as [`Contestant::in_order`] gives them.
pub fn asked(servers: &[&Server], asked: Asked) -> Vec<String> {
    let asked = match asked {
        Asked::Leader => &servers[..1],
        Asked::Follower => &servers[1..2],
        Asked::Spread => servers,
    };
    asked.iter().map(|server| server.addr.clone()).collect()
}
