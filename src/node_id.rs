//! Public node ids and the addresses in them.
//!
//! A node is known to people by `<advertised haddr>,<advertised raddr>`, for example
//! `192.168.10.101:11001,192.168.10.101:12001`. This module parses, checks and prints that; it
//! resolves no name and opens no socket. The *Raft* id is another thing: see [`crate::raft_types`].

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::quote::quoted;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most bytes of a name in the DNS (RFC 1035, 2.3.4), but for a dot at its end.
const MAX_HOST_BYTES: usize = 253;

/// The host of a node that has no addresses.
const NOWHERE: &str = "restored.invalid";

/// The most bytes of a public id, which is `HOST:PORT,HOST:PORT`. No part of one is longer.
pub const MAX_ID_BYTES: usize = 2 * (MAX_HOST_BYTES + ".:65535".len()) + 1;

/// A host and a port. The host is a name, an IPv4 address, or an IPv6 address without brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// Host name or address; IPv6 without its brackets.
    pub host: String,
    /// TCP port; never 0 in an advertised address.
    pub port: u16,
}

impl HostPort {
    /// Puts a host (IPv6 without brackets) and a port together.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// True if the host is loopback: `localhost`, `127.0.0.0/8` or `::1`.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// True if a host is loopback: `localhost`, `127.0.0.0/8` or `::1` (without brackets).
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The host and the port of `host:port`, `[v6]:port`, or of either without a port. The host comes without brackets.
///
/// # Errors
/// The reason, as the second half of a sentence about the text.
pub fn split(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("no `]` after the IPv6 address")?;
            host.parse::<Ipv6Addr>().map_err(|_| "no IPv6 address between the brackets")?;
            match rest {
                "" => (host, None),
                rest => (host, Some(rest.strip_prefix(':').ok_or("no `:` after the IPv6 address")?)),
            }
        }
        None => match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => return Err("an IPv6 address needs brackets, as in [::1]:11000"),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err("the host is empty");
    }
    if host.strip_suffix('.').unwrap_or(host).len() > MAX_HOST_BYTES {
        return Err("the host has more than 253 bytes");
    }
    if !host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':')) {
        return Err("a host has letters, digits, `.`, `-` and `_` only");
    }
    let Some(port) = port else { return Ok((host, None)) };
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err("the port is not a number");
    }
    match port.parse() {
        Ok(0) | Err(_) => Err("the port is not between 1 and 65535"),
        Ok(port) => Ok((host, Some(port))),
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A text that is not an address or a node id. The message quotes the beginning of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} is not {wanted}: {why}")]
pub struct ParseAddrError {
    /// Quoted.
    text: String,
    wanted: &'static str,
    why: String,
}

impl ParseAddrError {
    fn new(text: &str, wanted: &'static str, why: impl Into<String>) -> Self {
        Self { text: quoted(text), wanted, why: why.into() }
    }
}

impl FromStr for HostPort {
    type Err = ParseAddrError;

    /// Parses `host:port` or `[v6]:port`; the host may not be empty.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |why: &str| ParseAddrError::new(text, "an address HOST:PORT", why);
        match split(text).map_err(bad)? {
            (host, Some(port)) => Ok(Self { host: host.to_owned(), port }),
            (_, None) => Err(bad("it has no `:PORT`")),
        }
    }
}

/// A node's public id: the two addresses it tells others, printed as `haddr,raddr`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicId {
    /// Address of the client HTTP API.
    pub haddr: HostPort,
    /// Address of the Raft HTTP transport.
    pub raddr: HostPort,
}

impl PublicId {
    /// The id of a node that has no addresses yet: that of a directory which was restored from a backup, until its first start.
    /// No name of the DNS ends so (RFC 2606).
    pub fn nowhere() -> Self {
        Self { haddr: HostPort::new(NOWHERE, 1), raddr: HostPort::new(NOWHERE, 2) }
    }

    /// True for [`nowhere`](Self::nowhere).
    pub fn is_nowhere(&self) -> bool {
        *self == Self::nowhere()
    }
}

impl fmt::Display for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.haddr, self.raddr)
    }
}

impl FromStr for PublicId {
    type Err = ParseAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (haddr, raddr) = text
            .split_once(',')
            .ok_or_else(|| ParseAddrError::new(text, "a node id HADDR,RADDR", "it has no comma"))?;
        Ok(Self { haddr: haddr.parse()?, raddr: raddr.parse()? })
    }
}

impl Serialize for PublicId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_ports_round_trip() {
        for text in ["localhost:11000", "127.0.0.1:1", "[::1]:11000", "a-b.example:65535"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_addresses_name_the_text() {
        for text in ["", "x", ":11000", "x:", "x:0", "x:65536", "x:+1", "::1:80", "[::1]80", "[x]:80", "a b:80", "x:8a"]
        {
            let error = text.parse::<HostPort>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    /// Issue 18, the second attack: an id of 7.9 MB was an answer, and a log line, of as much.
    #[test]
    fn no_host_is_longer_than_a_name_in_the_dns_and_no_error_is_long() {
        let longest = format!("{}.", "a".repeat(MAX_HOST_BYTES));
        let id = format!("{longest}:65535,{longest}:65535");
        assert_eq!(id.parse::<PublicId>().unwrap().to_string().len(), MAX_ID_BYTES);
        for bad in [format!("a{longest}:1,b:2"), format!("b:2,{}:1", "a".repeat(7_900_000)), "x".repeat(7_900_000)] {
            let error = bad.parse::<PublicId>().unwrap_err().to_string();
            assert!(error.len() < 200, "{error}");
        }
    }

    #[test]
    fn public_ids_round_trip() {
        let text = "192.168.10.101:11001,[::1]:12001";
        let id: PublicId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert!(id.raddr.is_loopback() && !id.haddr.is_loopback());
        assert!(PublicId::nowhere().to_string().parse::<PublicId>().unwrap().is_nowhere() && !id.is_nowhere());
        assert!("a:1".parse::<PublicId>().is_err());
        assert!("a:1,b:2,c:3".parse::<PublicId>().is_err());
    }
}
