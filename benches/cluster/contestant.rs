//! A contestant that runs: its processes, and who of them leads.

use std::path::{Path, PathBuf};

use crate::client::{Wanted, Wire};
use crate::plan::{Asked, Cell, Kind, Op};
use crate::support::process::Reaped;
use crate::{ceiling, etcd, hraftd};

/// Of a server that ended.
const LOG_LINES: usize = 20;

pub struct Server {
    pub addr: String,
    pub process: Reaped,
    pub log: PathBuf,
}

pub struct Contestant {
    pub kind: Kind,
    servers: Vec<Server>,
}

impl Contestant {
    /// Started and ready to serve.
    pub fn start(kind: Kind, dir: &Path) -> Self {
        let dir = dir.join(kind.name());
        std::fs::create_dir(&dir).unwrap();
        let servers = match kind {
            Kind::Hraftd => hraftd::start(&dir),
            Kind::Etcd => etcd::start(&dir),
            Kind::Ceiling => ceiling::start(&dir),
        };
        Self { kind, servers }
    }

    /// The leader's place.
    pub fn leader(&self) -> Result<usize, String> {
        let leads = |server: &Server| match self.kind {
            Kind::Hraftd => hraftd::leads(&server.addr),
            Kind::Etcd => etcd::leads(&server.addr),
            Kind::Ceiling => Ok(true),
        };
        for (place, server) in self.servers.iter().enumerate() {
            if leads(server)? {
                return Ok(place);
            }
        }
        Err(format!("{} has no leader", self.kind.name()))
    }

    /// The leader, then the follower that is asked, then the rest.
    pub fn in_order(&self) -> Result<Vec<&Server>, String> {
        let leader = self.leader()?;
        let mut servers: Vec<&Server> = self.servers.iter().collect();
        servers.rotate_left(leader);
        Ok(servers)
    }

    /// How servers ended that should not have, and the end of what they said.
    pub fn ended(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        for server in &mut self.servers {
            if let Some(status) = server.process.exited() {
                let log = std::fs::read_to_string(&server.log).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
                ended.push(format!("{} at {} has ended, {status}:\n{tail}", self.kind.name(), server.addr));
            }
        }
        ended
    }

    pub fn wanted(&self, cell: Cell, addrs: Vec<String>, channels: usize) -> Wanted {
        let wire = if self.kind == Kind::Etcd { Wire::Grpc } else { Wire::Http };
        Wanted { wire, addrs, size: cell.size, linearizable: cell.op != Op::GetNone, channels }
    }
}

/// Whom clients ask, of [`Contestant::in_order`].
pub fn asked(servers: &[&Server], asked: Asked) -> Vec<String> {
    let asked = match asked {
        Asked::Leader => &servers[..1],
        Asked::Follower => &servers[1..2],
        Asked::Spread => servers,
    };
    asked.iter().map(|server| server.addr.clone()).collect()
}
