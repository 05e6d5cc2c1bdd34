//! The host that a node tells others where its bind address names none.
//!
//! It is `--iface`'s address; else the local address of the route to the first `--rjoin` host that is not loopback;
//! else loopback. A bind address that names a host is told as it is.
//!
//! If no such `--rjoin` host can be resolved or routed to now (names often come up after the node), the address of the
//! default route is used, with a warning: with loopback instead, a node would have another id on each bad day.

use std::net::IpAddr;

use super::address::{self, Partial};
use super::bind::Bind;
use crate::config::host_info::Machine;
use crate::config::setting::Setting;
use crate::exit::Exit;
use crate::node_id::{HostPort, PublicId};

/// Addresses reserved for documentation: as good as any to ask for the default route, and nobody's.
const DOCUMENTATION_ADDRESSES: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

/// The input of the rules, and the warnings they give.
pub(super) struct Advertiser<'a> {
    /// `--iface`, with the addresses it has; not empty.
    pub iface: Option<(Setting, Vec<IpAddr>)>,
    /// `--rjoin`.
    pub rjoin: &'a [HostPort],
    pub machine: &'a dyn Machine,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
}

/// The addresses of `--iface NAME` that may be told.
///
/// # Errors
/// 64 where no interface can have the name; 78 where none has, or it has no address.
pub(super) fn interface(given: &Setting, machine: &dyn Machine) -> Result<Vec<IpAddr>, Exit> {
    let name = given.text.as_str();
    if name.is_empty() || name.len() > 15 || name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        return Err(given.bad("not the name of an interface"));
    }
    let all = machine.interfaces().map_err(|error| Exit::config(format!("{given}: {error}")))?;
    let ips: Vec<IpAddr> =
        all.iter().filter(|(one, ip)| one == name && address::may_be_told(*ip)).map(|(_, ip)| *ip).collect();
    if ips.is_empty() {
        let mut names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let names = names.join(", ");
        return Err(Exit::config(format!("{given}: no such interface, or it has no address (these have: {names})")));
    }
    Ok(ips)
}

impl Advertiser<'_> {
    /// The public id of a node that binds to `http` and `raft`. What `--hadv` and `--radv` say counts first, and
    /// where one of them names a host, the other address has it too.
    ///
    /// # Errors
    /// `--iface` has no address of the family that a bind address needs (78).
    pub fn public_id(
        &mut self,
        http: &Bind,
        raft: &Bind,
        hadv: Option<&Partial>,
        radv: Option<&Partial>,
    ) -> Result<PublicId, Exit> {
        let said = |first: Option<&Partial>, second: Option<&Partial>| {
            first.and_then(|one| one.host.clone()).or_else(|| second.and_then(|one| one.host.clone()))
        };
        let used_iface = (http.is_unspecified() && said(hadv, radv).is_none())
            || (raft.is_unspecified() && said(radv, hadv).is_none());
        if let (Some((given, _)), false) = (&self.iface, used_iface) {
            self.warnings.push(format!(
                "{given} has no effect: --haddr and --raddr name a host, or --hadv or --radv does (--haddr :{} would bind to \
                 every interface)",
                http.port
            ));
        }
        let haddr_host = match said(hadv, radv) {
            Some(host) => host,
            None => self.host_of(http)?,
        };
        let raddr_host = match said(radv, hadv) {
            Some(host) => host,
            None if raft.host == http.host => haddr_host.clone(),
            None => self.host_of(raft)?,
        };
        let address = |host: &str, own: Option<&Partial>, bind: &Bind| {
            HostPort::new(address::plain_loopback(host), own.and_then(|one| one.port).unwrap_or(bind.port))
        };
        Ok(PublicId { haddr: address(&haddr_host, hadv, http), raddr: address(&raddr_host, radv, raft) })
    }

    fn host_of(&mut self, bind: &Bind) -> Result<String, Exit> {
        if let (Some(host), false) = (&bind.host, bind.is_unspecified()) {
            return Ok(host.clone());
        }
        // A socket on 0.0.0.0 hears no IPv6.
        let fits = |ip: &IpAddr| ip.is_ipv4() || bind.host.as_deref() != Some("0.0.0.0");
        if let Some((given, ips)) = &self.iface {
            let best = ips.iter().copied().filter(fits).min_by_key(|ip| (ip.is_ipv6(), is_link_local(*ip)));
            return match best {
                Some(ip) => Ok(ip.to_string()),
                None => Err(Exit::config(format!("{given}: it has no IPv4 address, and {} {bind} is IPv4", bind.flag))),
            };
        }
        let loopback = address::loopback_of(bind.host.as_deref());
        let mut unreached = None;
        for addr in self.rjoin {
            let ips = self.machine.resolve(&addr.host).unwrap_or_default();
            // A name that leads to loopback is this machine's own: it tells nothing of others.
            let far: Vec<IpAddr> = ips.iter().copied().filter(|ip| !ip.is_loopback()).collect();
            if let Some(own) = far.iter().find_map(|ip| self.route(*ip, fits)) {
                return Ok(own.to_string());
            }
            if ips.is_empty() || !far.is_empty() {
                unreached = unreached.or(Some(addr));
            }
        }
        let Some(addr) = unreached else {
            return Ok(loopback.to_owned());
        };
        let stand_in =
            DOCUMENTATION_ADDRESSES.iter().filter_map(|far| far.parse().ok()).find_map(|far| self.route(far, fits));
        let host = stand_in.map_or_else(|| loopback.to_owned(), |ip| ip.to_string());
        self.warnings.push(format!(
            "--rjoin {addr}: found no route to it now, so this node calls itself {host}; --hadv says it for certain"
        ));
        Ok(host)
    }

    fn route(&self, to: IpAddr, fits: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
        let own = self.machine.route_to(to).ok()?;
        (fits(&own) && !own.is_loopback() && address::may_be_told(own)).then_some(own)
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.is_link_local())
}
