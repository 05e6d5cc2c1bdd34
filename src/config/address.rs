//! Addresses as typed: `HOST:PORT`, `:PORT`, and for advertised ones also a bare `HOST`.
//!
//! Hosts come out in one spelling (names in lower case, IPv6 in its shortest form, without brackets), because ids are
//! compared as text. No name is resolved here. IPv6 zone ids (`fe80::1%eth0`) are not supported: other machines
//! have other zones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::node_id::HostPort;

/// Loopback as ids and dialled addresses write it.
pub(super) const LOOPBACK: &str = "127.0.0.1";

/// An address of which a part may be missing, never both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partial {
    /// The host, in its one spelling.
    pub host: Option<String>,
    /// The port, not 0.
    pub port: Option<u16>,
}

impl Partial {
    /// Parses `HOST:PORT`, `:PORT` or `HOST`.
    ///
    /// # Errors
    /// A text that says what is wrong, without the address itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the address is empty".to_owned());
        }
        if text.contains("://") {
            return Err("give HOST:PORT, without a scheme".to_owned());
        }
        let (host, port) = split(text)?;
        Ok(Self { host: host.map(canonical_host).transpose()?, port: port.map(parse_port).transpose()? })
    }

    /// Parses `HOST:PORT` or `:PORT`; the port is needed.
    ///
    /// # Errors
    /// A text that says what is wrong, without the address itself.
    pub fn parse_with_port(text: &str) -> Result<(Option<String>, u16), String> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("a port alone is written :{text}"));
        }
        let Self { host, port } = Self::parse(text)?;
        Ok((host, port.ok_or("the port is missing: give HOST:PORT or :PORT")?))
    }
}

fn split(text: &str) -> Result<(Option<&str>, Option<&str>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("no `]` after the IPv6 address")?;
        host.parse::<Ipv6Addr>().map_err(|_| "no IPv6 address between the brackets")?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((Some(host), Some(port))),
            None if rest.is_empty() => Ok((Some(host), None)),
            None => Err("after `]` comes :PORT".to_owned()),
        };
    }
    match text.split_once(':') {
        None => Ok((Some(text), None)),
        Some((_, rest)) if rest.contains(':') => {
            // Without brackets it can only be a host, and which colon would start the port is a guess.
            Err("an IPv6 address needs brackets, as in [::1]:11000".to_owned())
        }
        Some(("", port)) => Ok((None, Some(port))),
        Some((host, port)) => Ok((Some(host), Some(port))),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    if text.is_empty() {
        return Err("the port is missing".to_owned());
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("the port is not a number".to_owned());
    }
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| "the port is not between 1 and 65535".to_owned())
}

/// The one spelling of a host that is a name or an address.
fn canonical_host(host: &str) -> Result<String, String> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(ip.to_canonical().to_string());
    }
    let labels: Vec<&str> = host.strip_suffix('.').unwrap_or(host).split('.').collect();
    // A last label of digits only makes it an IPv4 address, here a broken one (256.0.0.1): no name ends so.
    if labels.last().is_some_and(|last| !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit())) {
        return Err("the host is not an IPv4 address".to_owned());
    }
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label_ok = |label: &&str| !label.is_empty() && label.len() <= 63 && label.bytes().all(letter);
    if host.len() > 253 || host.starts_with('-') || !labels.iter().all(label_ok) {
        return Err("the host is neither a name nor an address".to_owned());
    }
    Ok(host.to_ascii_lowercase())
}

/// `host` as others should be told it: `localhost` is `127.0.0.1`.
pub(super) fn plain_loopback(host: &str) -> &str {
    if host == "localhost" { LOOPBACK } else { host }
}

/// The host's address, if it is one and not a name.
pub(super) fn ip(host: &str) -> Option<IpAddr> {
    host.parse().ok()
}

/// True for `0.0.0.0` and `::`.
pub(super) fn is_unspecified(host: &str) -> bool {
    ip(host).is_some_and(|ip| ip.is_unspecified())
}

/// True for names and addresses of the loopback interface.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || ip(host).is_some_and(|ip| ip.is_loopback())
}

/// Parses a list of client addresses into `list`; `:PORT` is on `own_host`. Spaces around commas and repeated
/// addresses are allowed.
///
/// # Errors
/// A text that names the item and says what is wrong with it.
pub(super) fn parse_list(text: &str, own_host: &str, list: &mut Vec<HostPort>) -> Result<(), String> {
    for item in text.split(',').map(str::trim) {
        let one_of_many = item.len() < text.len();
        let name_it = |why| if one_of_many { format!("{item:?}: {why}") } else { why };
        let (host, port) = Partial::parse_with_port(item).map_err(name_it)?;
        let host = host.filter(|host| !is_unspecified(host));
        let addr = HostPort::new(host.as_deref().map_or(own_host, plain_loopback), port);
        if !list.contains(&addr) {
            list.push(addr);
        }
    }
    Ok(())
}

/// The loopback to write for a node that binds to `host`: the IPv6 one only if it is bound to that alone.
pub(super) fn loopback_of(host: Option<&str>) -> &'static str {
    if host.and_then(ip) == Some(Ipv6Addr::LOCALHOST.into()) { "::1" } else { LOOPBACK }
}

/// True where an address may be told to others: it names one host, and means the same on every machine.
pub(super) fn may_be_told(ip: IpAddr) -> bool {
    let zone_bound = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    !(ip.is_unspecified() || ip.is_multicast() || zone_bound || ip == IpAddr::V4(Ipv4Addr::BROADCAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_out_in_one_spelling() {
        let some = |text: &str| Some(text.to_owned());
        for (text, host, port) in [
            ("a.example:1", some("a.example"), Some(1)),
            (":11000", None, Some(11000)),
            ("LocalHost:1", some("localhost"), Some(1)),
            ("[0:0::0:1]:65535", some("::1"), Some(65535)),
            ("[::ffff:10.0.0.1]:1", some("10.0.0.1"), Some(1)),
            ("[2001:DB8::1]", some("2001:db8::1"), None),
            ("10.0.0.1", some("10.0.0.1"), None),
            ("my_host-1", some("my_host-1"), None),
            ("1a:1", some("1a"), Some(1)),
        ] {
            assert_eq!(Partial::parse(text), Ok(Partial { host, port }), "{text}");
        }
    }

    #[test]
    fn bad_addresses() {
        for (text, why) in [
            ("", "the address is empty"),
            ("http://a:1", "give HOST:PORT, without a scheme"),
            ("a:", "the port is missing"),
            (":", "the port is missing"),
            ("a:0", "the port is not between 1 and 65535"),
            ("a:65536", "the port is not between 1 and 65535"),
            ("a:+1", "the port is not a number"),
            ("a:b", "the port is not a number"),
            ("::1:11000", "an IPv6 address needs brackets, as in [::1]:11000"),
            ("[::1:11000", "no `]` after the IPv6 address"),
            ("[::1]11000", "after `]` comes :PORT"),
            ("[x]:1", "no IPv6 address between the brackets"),
            ("[fe80::1%eth0]:1", "no IPv6 address between the brackets"),
            ("256.0.0.1:1", "the host is not an IPv4 address"),
            ("10.0.1:1", "the host is not an IPv4 address"),
            ("a b:1", "the host is neither a name nor an address"),
            ("a..b:1", "the host is neither a name nor an address"),
            ("-a:1", "the host is neither a name nor an address"),
            ("a/b:1", "the host is neither a name nor an address"),
            ("é:1", "the host is neither a name nor an address"),
        ] {
            assert_eq!(Partial::parse(text), Err(why.to_owned()), "{text}");
        }
        assert_eq!(Partial::parse_with_port("11000"), Err("a port alone is written :11000".to_owned()));
        assert!(Partial::parse_with_port("a").unwrap_err().starts_with("the port is missing"));
    }

    #[test]
    fn lists() {
        let mut list = Vec::new();
        parse_list(":1, localhost:1,0.0.0.0:2,[::1]:1,b:1,:1", LOOPBACK, &mut list).unwrap();
        let texts: Vec<String> = list.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["127.0.0.1:1", "127.0.0.1:2", "[::1]:1", "b:1"]);
        for (text, why) in [
            ("", "the address is empty"),
            ("a:1,", "\"\": the address is empty"),
            ("a:1,,b:1", "\"\": the address is empty"),
            ("a:1,b", "\"b\": the port is missing: give HOST:PORT or :PORT"),
        ] {
            assert_eq!(parse_list(text, LOOPBACK, &mut list), Err(why.to_owned()), "{text}");
        }
    }
}
