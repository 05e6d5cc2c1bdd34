//! The way to a cluster, as it is typed: endpoints, credentials, and how long to try.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::address;
use crate::config::setting::{Env, Setting};
use crate::duration::parse_duration;
use crate::exit::Exit;
use crate::node_id::HostPort;

/// The longest that a command is tried.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// A node, as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Speak TLS.
    pub tls: bool,
    /// Its client address.
    pub addr: HostPort,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.tls { "https://" } else { "" }, self.addr)
    }
}

/// The way to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Nodes, to be tried in turn; at least one.
    pub endpoints: Vec<Endpoint>,
    /// A file with the token to show.
    pub token_file: Option<PathBuf>,
    /// The authorities that the nodes' certificates must be of, in PEM; without it the system's.
    pub cacert: Option<PathBuf>,
    /// The certificate to show and its key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How long to try.
    pub timeout: Duration,
    /// Print the server's answer as it is.
    pub json: bool,
}

// The flags that every verb has. No comment of documentation: clap would take it for that of each verb.
#[derive(Debug, Default, Args)]
pub(in crate::config) struct AccessArgs {
    /// Client addresses of nodes, tried in turn; https:// before one asks for TLS
    /// [default: $HRAFTD_ENDPOINTS, or localhost:11000]
    #[arg(long, value_name = "A,B,...", global = true, help_heading = "Cluster")]
    endpoints: Option<OsString>,
    /// A file with the token to show [default: $HRAFTD_TOKEN_FILE]
    #[arg(long, value_name = "FILE", global = true, help_heading = "Cluster")]
    token_file: Option<OsString>,
    /// TLS, with nodes whose certificates are of these authorities, in PEM [default: $HRAFTD_CACERT]
    #[arg(long, value_name = "FILE", global = true, help_heading = "Cluster")]
    cacert: Option<OsString>,
    /// The certificate to show, in PEM [default: $HRAFTD_CLIENT_CERT]
    #[arg(long = "cert", id = "client-cert", value_name = "FILE", global = true, help_heading = "Cluster")]
    cert: Option<OsString>,
    /// The key of --cert, in PEM [default: $HRAFTD_CLIENT_KEY]
    #[arg(long = "key", id = "client-key", value_name = "FILE", global = true, help_heading = "Cluster")]
    key: Option<OsString>,
    /// How long to try where nodes do not answer, or have no leader [default: 15s]
    #[arg(long, value_name = "TIME", global = true, help_heading = "Cluster")]
    timeout: Option<OsString>,
    /// json: the server's answer as it is
    #[arg(short, long, value_name = "FORMAT", global = true)]
    output: Option<OsString>,
}

impl AccessArgs {
    /// # Errors
    /// A value that cannot be: 64.
    pub(super) fn read(self, env: Env<'_>) -> Result<Access, Exit> {
        let json = match Setting::find("-o", self.output, &|_| None)? {
            Some(given) if given.text != "json" => return Err(given.bad("the only format is json")),
            given => given.is_some(),
        };
        let cacert = file("--cacert", "HRAFTD_CACERT", self.cacert, env)?;
        let cert = file("--cert", "HRAFTD_CLIENT_CERT", self.cert, env)?;
        let key = file("--key", "HRAFTD_CLIENT_KEY", self.key, env)?;
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(Exit::usage("--cert: it needs its --key")),
            (None, Some(_)) => return Err(Exit::usage("--key: it needs its --cert")),
        };
        let timeout = match Setting::find("--timeout", self.timeout, &|_| None)? {
            None => Duration::from_secs(15),
            Some(given) => {
                let time = parse_duration(&given.text).map_err(|why| given.bad(why))?;
                if time.is_zero() || time > MAX_TIMEOUT {
                    return Err(given.bad("not between 1ms and 1h"));
                }
                time
            }
        };
        let given = Setting::find("--endpoints", self.endpoints, env)?;
        let given = given.unwrap_or_else(|| Setting::typed("--endpoints", "localhost:11000"));
        let endpoints = endpoints(&given, cacert.is_some() || identity.is_some())?;
        let token_file = file("--token-file", "HRAFTD_TOKEN_FILE", self.token_file, env)?;
        Ok(Access { endpoints, token_file, cacert, identity, timeout, json })
    }
}

/// `--key` is not `$HRAFTD_KEY`: a command of `watch --exec` has the changed key there.
fn file(flag: &str, variable: &str, typed: Option<OsString>, env: Env<'_>) -> Result<Option<PathBuf>, Exit> {
    let given = match typed {
        Some(_) => Setting::find(flag, typed, env)?,
        None => Setting::in_env(variable, env)?,
    };
    match given {
        Some(given) if given.text.is_empty() => Err(given.bad("the file has no name")),
        given => Ok(given.map(|given| PathBuf::from(given.text))),
    }
}

fn endpoints(given: &Setting, has_tls: bool) -> Result<Vec<Endpoint>, Exit> {
    let mut all: Vec<Endpoint> = Vec::new();
    for item in given.text.split(',').map(str::trim) {
        let (tls, rest) = match (item.strip_prefix("https://"), item.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => (has_tls, item),
        };
        let mut one = Vec::new();
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        address::parse_list(rest, address::LOOPBACK, &mut one).map_err(|why| given.bad(why))?;
        // A certificate may be for the name.
        let named = rest.strip_prefix("localhost:").filter(|_| tls);
        for addr in one {
            let host = named.map_or(addr.host, |_| "localhost".to_owned());
            let endpoint = Endpoint { tls, addr: HostPort::new(host, addr.port) };
            if !all.contains(&endpoint) {
                all.push(endpoint);
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, tls: bool) -> Vec<String> {
        let read = endpoints(&Setting::typed("--endpoints", text), tls).unwrap();
        read.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn endpoints_and_their_schemes() {
        assert_eq!(all(":1, h:2,:1", false), ["127.0.0.1:1", "h:2"]);
        assert_eq!(all("https://h:1,http://h:2,h:3", false), ["https://h:1", "h:2", "h:3"]);
        assert_eq!(all("h:1/,localhost:2,http://h:3", true), ["https://h:1", "https://localhost:2", "h:3"]);
        for bad in ["", "h", "ftp://h:1", "a:1,,b:2", "https://"] {
            assert_eq!(endpoints(&Setting::typed("--endpoints", bad), false).unwrap_err().code, 64, "{bad}");
        }
    }

    #[test]
    fn a_changed_key_is_no_private_key() {
        let env = |name: &str| (name == "HRAFTD_KEY").then(|| OsString::from("app/a"));
        assert_eq!(AccessArgs::default().read(&env).unwrap().identity, None);
        let env = |name: &str| name.starts_with("HRAFTD_CLIENT_").then(|| OsString::from(name));
        let read = AccessArgs::default().read(&env).unwrap();
        assert_eq!(read.identity, Some(("HRAFTD_CLIENT_CERT".into(), "HRAFTD_CLIENT_KEY".into())));
        assert!(read.endpoints[0].tls);
        let half = AccessArgs { cert: Some("c".into()), ..AccessArgs::default() };
        assert_eq!(half.read(&|_| None).unwrap_err(), Exit::usage("--cert: it needs its --key"));
    }
}
