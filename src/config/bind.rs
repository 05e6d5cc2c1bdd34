//! Addresses to listen on, and listening on them.
//!
//! Names are resolved when the port is opened, not before. Errors name the flag and the address.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use super::address;
use crate::config::host_info::Machine;
use crate::platform;

/// Connections that the kernel keeps until they are accepted.
const ACCEPT_BACKLOG: u32 = 4096;

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// A name or an address (IPv6 without brackets); `None` is every interface.
    pub host: Option<String>,
    /// TCP port; 0, which no flag gives, lets the kernel choose.
    pub port: u16,
    /// The setting's name, for errors: `--haddr`, or `HRAFTD_HADDR` if it came from there.
    pub flag: String,
}

impl Bind {
    /// True where it names no host of its own: every interface, `0.0.0.0` or `::`.
    pub fn is_unspecified(&self) -> bool {
        self.host.as_deref().is_none_or(address::is_unspecified)
    }

    /// True where only this machine can connect. A name other than `localhost` counts as not loopback.
    pub fn is_loopback(&self) -> bool {
        self.host.as_deref().is_some_and(address::is_loopback)
    }

    /// True where a connection to `ip`, an address of this machine, reaches this socket. May resolve a name.
    pub(super) fn covers(&self, ip: IpAddr, machine: &dyn Machine) -> bool {
        match self.host.as_deref() {
            None | Some("::") => true,
            Some("0.0.0.0") => ip.is_ipv4(),
            Some("localhost") => [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].contains(&ip),
            Some(host) => machine.resolve(host).is_ok_and(|ips| ips.contains(&ip)),
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.as_deref() {
            None => write!(f, ":{}", self.port),
            Some(host) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            Some(host) => write!(f, "{host}:{}", self.port),
        }
    }
}

/// Opens the port, at every address that it has.
///
/// * Every interface is `[::]` for both families, or `0.0.0.0` on a machine without IPv6.
/// * `localhost` is `127.0.0.1` and `::1`, as far as the machine has them: a client that tries one address only may take
///   either.
/// * Another name is the first of its addresses that is this machine's.
///
/// # Errors
/// The error of the system, with a text that names flag and address: `--haddr localhost:11000: address in use`.
pub async fn listen(bind: &Bind) -> io::Result<Vec<TcpListener>> {
    let name_it = |error: io::Error| io::Error::new(error.kind(), format!("{} {bind}: {}", bind.flag, words(&error)));
    let all = bind.host.as_deref() == Some("localhost");
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for mut addr in candidates(bind).await.map_err(name_it)? {
        if let Some(first) = listeners.first() {
            // The kernel may have chosen it.
            addr.set_port(first.local_addr()?.port());
        }
        match listen_on(addr) {
            Ok(listener) => listeners.push(listener),
            // Another address is an answer to "no such address here", not to "somebody else has it".
            Err(error) if no_such_address(&error) => last = error,
            Err(error) => return Err(name_it(error)),
        }
        if !all && !listeners.is_empty() {
            break;
        }
    }
    if listeners.is_empty() { Err(name_it(last)) } else { Ok(listeners) }
}

async fn candidates(bind: &Bind) -> io::Result<Vec<SocketAddr>> {
    let both = |v4: Ipv4Addr, v6: Ipv6Addr| (SocketAddr::from((v4, bind.port)), SocketAddr::from((v6, bind.port)));
    match bind.host.as_deref() {
        None => {
            let (v4, v6) = both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
            Ok(vec![v6, v4])
        }
        Some("localhost") => {
            let (v4, v6) = both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
            Ok(vec![v4, v6])
        }
        Some(host) => match tokio::net::lookup_host((host, bind.port)).await {
            Ok(addrs) => Ok(addrs.collect()),
            Err(error) => Err(io::Error::new(error.kind(), format!("the name does not resolve: {error}"))),
        },
    }
}

fn listen_on(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if addr.is_ipv6() {
        platform::accept_both_families(&socket)?;
    }
    // A restart must not wait for the old connections to leave TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(ACCEPT_BACKLOG)
}

fn no_such_address(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || platform::is_unsupported_family(error)
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "not an address of this machine".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(host: Option<&str>, port: u16) -> Bind {
        Bind { host: host.map(str::to_owned), port, flag: "--haddr".to_owned() }
    }

    async fn is_reached_at(ip: impl Into<IpAddr>, port: u16) -> bool {
        tokio::net::TcpStream::connect((ip.into(), port)).await.is_ok()
    }

    #[tokio::test]
    async fn every_interface_takes_connections_to_both_loopbacks() {
        let listeners = listen(&bind(None, 0)).await.unwrap();
        let addr = listeners[0].local_addr().unwrap();
        assert!(is_reached_at(Ipv4Addr::LOCALHOST, addr.port()).await);
        if addr.is_ipv6() && listen(&bind(Some("::1"), 0)).await.is_ok() {
            assert!(is_reached_at(Ipv6Addr::LOCALHOST, addr.port()).await);
        }
    }

    /// Issue 18, D6 (`field/12`): where `localhost` is `::1` first, busybox wget and others were refused.
    #[tokio::test]
    async fn localhost_is_both_loopbacks() {
        let listeners = listen(&bind(Some("localhost"), 0)).await.unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        assert!(is_reached_at(Ipv4Addr::LOCALHOST, port).await);
        let has_ipv6 = listen(&bind(Some("::1"), 0)).await.is_ok();
        assert_eq!((listeners.len() == 2, is_reached_at(Ipv6Addr::LOCALHOST, port).await), (has_ipv6, has_ipv6));
    }

    #[tokio::test]
    async fn errors_name_flag_and_address() {
        let taken = listen(&bind(Some("127.0.0.1"), 0)).await.unwrap();
        let port = taken[0].local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            let error = listen(&bind(Some(host), port)).await.unwrap_err();
            assert_eq!(error.to_string(), format!("--haddr {host}:{port}: address in use"));
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
        let error = listen(&bind(Some("192.0.2.1"), 1)).await.unwrap_err();
        assert_eq!(error.to_string(), "--haddr 192.0.2.1:1: not an address of this machine");
        let error = listen(&bind(Some("no-such-host.invalid"), 1)).await.unwrap_err();
        assert!(error.to_string().starts_with("--haddr no-such-host.invalid:1: the name does not resolve"), "{error}");
    }
}
