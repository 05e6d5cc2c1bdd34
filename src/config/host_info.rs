//! Names, routes and interfaces of the machine, behind a trait so that tests can make one up.
//!
//! Names are resolved and routes looked up only where the rules need them: `hraftd` alone asks nothing.
//! All of it may block (DNS).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

/// Names, routes and interfaces.
pub trait Machine {
    /// The addresses of a name; an address is its own.
    ///
    /// # Errors
    /// The name does not resolve.
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;

    /// The local address from which this machine would talk to `to`. Nothing is sent.
    ///
    /// # Errors
    /// There is no route.
    fn route_to(&self, to: IpAddr) -> io::Result<IpAddr>;

    /// The interfaces that have an address, once for each address, in the kernel's order.
    ///
    /// # Errors
    /// The kernel does not tell.
    fn interfaces(&self) -> io::Result<Vec<(String, IpAddr)>>;

    /// The machine's own name, as it was given.
    fn host_name(&self) -> String;

    /// True for the addresses of this machine; all of `127.0.0.0/8` is.
    ///
    /// By the interfaces, not by trying to bind: with `ip_nonlocal_bind` (usual beside keepalived) every bind succeeds.
    fn has_address(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.interfaces().is_ok_and(|all| all.iter().any(|(_, own)| *own == ip))
    }
}

/// The machine this process runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut ips: Vec<IpAddr> = (host, 0).to_socket_addrs()?.map(|addr| addr.ip().to_canonical()).collect();
        ips.dedup();
        Ok(ips)
    }

    fn route_to(&self, to: IpAddr) -> io::Result<IpAddr> {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        // Connecting a UDP socket only asks the routing table; the port does not matter.
        socket.connect(SocketAddr::new(to, 9))?;
        let local = socket.local_addr()?.ip();
        if local.is_unspecified() { Err(io::ErrorKind::NetworkUnreachable.into()) } else { Ok(local) }
    }

    fn interfaces(&self) -> io::Result<Vec<(String, IpAddr)>> {
        Ok(if_addrs::get_if_addrs()?.into_iter().map(|one| (one.name.clone(), one.ip())).collect())
    }

    fn host_name(&self) -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }
}

/// True where `host` is a machine's own name, with or without its domain.
pub(super) fn is_name_of(machine: &str, host: &str) -> bool {
    let (machine, host) = (machine.to_ascii_lowercase(), host.to_ascii_lowercase());
    !machine.is_empty() && (machine == host || host.strip_prefix(&machine).is_some_and(|rest| rest.starts_with('.')))
}

#[cfg(test)]
pub(crate) mod fake {
    //! A machine made of three tables.

    use super::*;

    /// Names, routes (all others unreachable) and interfaces.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct FakeMachine {
        pub names: Vec<(&'static str, &'static [&'static str])>,
        pub routes: Vec<(&'static str, &'static str)>,
        pub interfaces: Vec<(&'static str, &'static str)>,
        pub name: &'static str,
    }

    impl Machine for FakeMachine {
        fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
            if let Ok(ip) = host.parse() {
                return Ok(vec![ip]);
            }
            let found = self.names.iter().find(|(name, _)| *name == host).ok_or(io::ErrorKind::NotFound)?;
            Ok(found.1.iter().map(|ip| ip.parse().unwrap()).collect())
        }

        fn route_to(&self, to: IpAddr) -> io::Result<IpAddr> {
            if to.is_loopback() || self.has_address(to) {
                return Ok(to);
            }
            let found = self.routes.iter().find(|(target, _)| target.parse() == Ok(to));
            Ok(found.ok_or(io::ErrorKind::NetworkUnreachable)?.1.parse().unwrap())
        }

        fn interfaces(&self) -> io::Result<Vec<(String, IpAddr)>> {
            Ok(self.interfaces.iter().map(|(name, ip)| ((*name).to_owned(), ip.parse().unwrap())).collect())
        }

        fn host_name(&self) -> String {
            self.name.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_loopback() {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert_eq!(ThisMachine.route_to(loopback).unwrap(), loopback);
        assert!(ThisMachine.resolve("localhost").unwrap().iter().all(IpAddr::is_loopback));
        assert_eq!(ThisMachine.resolve("::1").unwrap(), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
        assert!(ThisMachine.interfaces().unwrap().iter().any(|(_, ip)| *ip == loopback));
        assert!(ThisMachine.has_address(loopback));
        assert!(!ThisMachine.has_address("192.0.2.1".parse().unwrap()));
    }
}
