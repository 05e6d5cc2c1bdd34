//! The hosts that a request may name in `Host`.
//!
//! A page of another site can have its own name lead to this node (DNS rebinding): the browser then takes this node for
//! that site, and lets the page read. Names that such a site cannot have are allowed: addresses, names without a dot, names
//! of private zones, and those that this node was told.

use std::net::IpAddr;

use crate::node_id;

/// Zones that nobody can register a site in, of Kubernetes, clouds and home networks.
const PRIVATE_ZONES: [&str; 4] = [".svc", ".cluster.local", ".internal", ".local"];

/// The hosts by which this node may be called.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    /// The port is bound to loopback alone.
    loopback_only: bool,
    /// Names of `--allow-host`: allowed wherever the port is bound.
    told: Vec<String>,
    /// Names that lead to this node or its cluster: allowed where other machines can connect.
    known: Vec<String>,
}

impl Hosts {
    /// The rule of a port on loopback, or of one that other machines reach, where `known` are this node's names. `told`
    /// are those of `--allow-host`.
    pub fn new(loopback_only: bool, told: &[String], known: impl IntoIterator<Item = String>) -> Self {
        let plain = |name: &str| plain(name).to_ascii_lowercase();
        Self {
            loopback_only,
            told: told.iter().map(|name| plain(name)).collect(),
            known: known.into_iter().map(|name| plain(&name)).collect(),
        }
    }

    /// The error text of a `Host` or `:authority` that may not be, without it.
    ///
    /// # Errors
    /// What to do.
    pub fn check(&self, authority: &str) -> Result<(), &'static str> {
        let host = node_id::split(authority).map_or("", |(host, _port)| plain(host));
        let is_one_of = |names: &[String]| names.iter().any(|name| host.eq_ignore_ascii_case(name));
        if node_id::is_loopback(host) || is_one_of(&self.told) {
            return Ok(());
        }
        if self.loopback_only {
            return Err(
                "is another host, and this node listens on loopback only; call it localhost or 127.0.0.1, name the \
                        host in --allow-host if a proxy in front of this node is called that, or start it with another \
                        --haddr",
            );
        }
        let in_private_zone = || {
            let host = host.to_ascii_lowercase();
            PRIVATE_ZONES.iter().any(|zone| host.ends_with(zone))
        };
        let is_short = !host.is_empty() && !host.contains('.');
        if is_short || host.parse::<IpAddr>().is_ok() || is_one_of(&self.known) || in_private_zone() {
            return Ok(());
        }
        Err("is no name of this node that it knows of, and a web page could have made it up; call the node by its \
             address, or name the host in --allow-host")
    }
}

/// A name without the dot that ends a full one.
fn plain(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(loopback_only: bool) -> Hosts {
        Hosts::new(loopback_only, &["kv".to_owned(), "KV.example.com.".to_owned()], ["n1.example.com".to_owned()])
    }

    #[test]
    fn on_loopback() {
        for host in ["localhost", "LocalHost:11000", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:11000"] {
            assert_eq!(hosts(true).check(host), Ok(()), "{host}");
        }
        for host in ["kv", "KV:80", "kv.example.com:11000", "kv.Example.com."] {
            assert_eq!(hosts(true).check(host), Ok(()), "{host}, of --allow-host");
        }
        for host in ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.0.1:11000"]
            .into_iter()
            .chain(["[::2]:80", "::1", "localhost:x", "localhost@evil:1", "n1.example.com", "db", "kv.evil.example"])
        {
            let refused = hosts(true).check(host);
            assert!(refused.is_err_and(|why| why.contains("--allow-host")), "{host}");
        }
    }

    #[test]
    fn where_other_machines_connect() {
        let good =
            ["localhost:1", "10.0.0.1:11000", "[fd00::1]", "n1", "n1:11000", "N1.Example.com", "n1.example.com."];
        let zones = ["kv.ns.svc", "kv-0.kv.ns.svc.cluster.local:11000", "ip-10-0-0-1.ec2.internal", "printer.local"];
        for host in good.into_iter().chain(zones).chain(["kv", "kv.example.com"]) {
            assert_eq!(hosts(false).check(host), Ok(()), "{host}");
        }
        for host in
            ["", "evil.example", "evil.example:11000", "n1.example.com.evil.example", "local.evil.example", "a b"]
        {
            let refused = hosts(false).check(host);
            assert!(refused.is_err_and(|why| why.contains("--allow-host")), "{host}");
        }
    }
}
