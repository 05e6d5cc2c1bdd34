//! The flags of secrets and of TLS, and the rules across them.

use std::path::PathBuf;

use crate::config::address::Partial;
use crate::config::args::SecurityArgs;
use crate::config::setting::{Setting, Sources};
use crate::config::values;
use crate::exit::Exit;

/// Who gets in, and what is shown to whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// The file with the cluster's secrets; without it nodes speak plain text.
    pub cluster_secret: Option<NamedFile>,
    /// Plain text is spoken with nodes that know nothing else: for a migration.
    pub cluster_secret_optional: bool,
    /// TLS for clients.
    pub tls: Option<TlsSettings>,
}

/// A file that a flag names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// The file.
    pub path: PathBuf,
    /// The flag and the file, for error texts: `--tls-cert FILE` or `HRAFTD_TLS_CERT=FILE`.
    pub label: String,
}

/// TLS at the client port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate that clients are shown.
    pub certificate: TlsCertificate,
    /// The authorities of clients' certificates, which are asked for.
    pub client_ca: Option<NamedFile>,
    /// A client must have one.
    pub client_required: bool,
    /// Plain text is answered, too: for a migration.
    pub optional: bool,
}

/// The origin of a node's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsCertificate {
    /// The operator's files.
    Files {
        /// The chain, in PEM.
        cert: NamedFile,
        /// The key, in PEM.
        key: NamedFile,
    },
    /// It follows from the cluster secret; with these names beside those that the node knows.
    Auto(Vec<String>),
}

/// Reads the flags.
///
/// # Errors
/// 64 for flags that contradict each other, 78 for TLS without a cluster secret.
pub(super) fn security(args: SecurityArgs, sources: &Sources<'_>) -> Result<Security, Exit> {
    let find = |flag: &str, typed| sources.find(flag, typed);
    let file = |flag: &str, typed| find(flag, typed)?.map(named_file).transpose();
    let switch = |flag: &str, typed| -> Result<Option<Setting>, Exit> {
        let given = find(flag, typed)?;
        let is_on = given.as_ref().map(values::switch).transpose()?.unwrap_or(false);
        Ok(given.filter(|_| is_on))
    };
    let cluster_secret = file("--cluster-secret-file", args.cluster_secret_file)?;
    let secret_optional = switch("--cluster-secret-optional", args.cluster_secret_optional)?;
    if let (Some(given), None) = (&secret_optional, &cluster_secret) {
        return Err(given.bad("it is for the time in which nodes get their --cluster-secret-file, which is missing"));
    }
    let cert = find("--tls-cert", args.tls_cert)?;
    let key = find("--tls-key", args.tls_key)?;
    let auto = switch("--tls-auto", args.tls_auto)?;
    let names = find("--tls-names", args.tls_names)?;
    let client_ca = find("--tls-client-ca", args.tls_client_ca)?;
    let client_required = switch("--tls-client-required", args.tls_client_required)?;
    let optional = switch("--tls-optional", args.tls_optional)?;

    let given = [&cert, &key, &auto, &names, &client_ca, &client_required, &optional];
    let first = given.into_iter().flatten().next().cloned();
    let certificate = match (cert, key, &auto) {
        (Some(cert), _, Some(auto)) => {
            return Err(auto.bad(format_args!("{cert} is given, too: there is one certificate")));
        }
        (Some(cert), None, None) => return Err(cert.bad("its key is missing: --tls-key FILE")),
        (None, Some(key), _) => return Err(key.bad("its certificate is missing: --tls-cert FILE")),
        (Some(cert), Some(key), None) => Some(TlsCertificate::Files { cert: named_file(cert)?, key: named_file(key)? }),
        (None, None, Some(_)) => {
            Some(TlsCertificate::Auto(names.as_ref().map(tls_names).transpose()?.unwrap_or_default()))
        }
        (None, None, None) => None,
    };
    if let (Some(names), Some(TlsCertificate::Files { .. })) = (&names, &certificate) {
        return Err(names.bad("the names of --tls-cert are in its certificate; this flag is for --tls-auto"));
    }
    if let (Some(given), None) = (&client_required, &client_ca) {
        return Err(given.bad("whose certificates? --tls-client-ca FILE is missing"));
    }
    let Some(first) = first else {
        return Ok(Security { cluster_secret, cluster_secret_optional: secret_optional.is_some(), tls: None });
    };
    let Some(certificate) = certificate else {
        return Err(first.bad("there is no TLS without a certificate: --tls-auto, or --tls-cert with --tls-key"));
    };
    if cluster_secret.is_none() {
        return Err(Exit::config(format!(
            "{first}: TLS for clients protects nothing while anybody may speak to the Raft port; give \
             --cluster-secret-file too (hraftd secret FILE makes one)"
        )));
    }
    let tls = TlsSettings {
        certificate,
        client_ca: client_ca.map(named_file).transpose()?,
        client_required: client_required.is_some(),
        optional: optional.is_some(),
    };
    Ok(Security { cluster_secret, cluster_secret_optional: secret_optional.is_some(), tls: Some(tls) })
}

/// A file that a setting names.
///
/// # Errors
/// It has no name.
pub(super) fn named_file(given: Setting) -> Result<NamedFile, Exit> {
    match given.text.is_empty() || given.text.contains('\0') {
        true => Err(given.bad("no file can have that name")),
        false => Ok(NamedFile { path: PathBuf::from(&given.text), label: given.to_string() }),
    }
}

fn tls_names(given: &Setting) -> Result<Vec<String>, Exit> {
    let names = given.text.split(',').map(str::trim).map(|item| match Partial::parse(item) {
        Ok(Partial { host: Some(host), port: None }) => Ok(host),
        Ok(_) => Err(given.bad(format_args!("{item:?}: give a name or an address, without a port"))),
        Err(why) => Err(given.bad(format_args!("{item:?}: {why}"))),
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use crate::config::{Config, ThisMachine, parse};
    use crate::exit::Exit;

    use super::*;

    fn typed(line: &str) -> Result<Config, Exit> {
        let argv = std::iter::once("hraftd").chain(line.split(' ')).map(OsString::from);
        parse(argv, |name| (name == "HOME").then(|| "/home/u".into()), &ThisMachine)
    }

    #[test]
    fn certificates_need_a_secret_and_one_origin() {
        for (line, wanted) in [
            ("--tls-cert c", Exit::usage("--tls-cert c: its key is missing: --tls-key FILE")),
            ("--tls-key k", Exit::usage("--tls-key k: its certificate is missing: --tls-cert FILE")),
            (
                "--tls-auto --tls-cert c --tls-key k",
                Exit::usage("--tls-auto true: --tls-cert c is given, too: there is one certificate"),
            ),
            (
                "--tls-client-required --tls-auto",
                Exit::usage("--tls-client-required true: whose certificates? --tls-client-ca FILE is missing"),
            ),
            (
                "--tls-optional",
                Exit::usage(
                    "--tls-optional true: there is no TLS without a certificate: --tls-auto, or --tls-cert with --tls-key",
                ),
            ),
            (
                "--tls-auto --tls-names a:1",
                Exit::usage("--tls-names a:1: \"a:1\": give a name or an address, without a port"),
            ),
            (
                "--cluster-secret-optional",
                Exit::usage(
                    "--cluster-secret-optional true: it is for the time in which nodes get their --cluster-secret-file, \
                     which is missing",
                ),
            ),
            ("--cluster-secret-file=", Exit::usage("--cluster-secret-file \"\": no file can have that name")),
        ] {
            assert_eq!(typed(line).unwrap_err(), wanted, "{line}");
        }
        assert_eq!(typed("--tls-auto").unwrap_err().code, crate::exit::EX_CONFIG);
        assert_eq!(typed("--tls-auto=false").unwrap().security, Security::default());
    }

    #[test]
    fn what_is_given_is_kept() {
        let config = typed("--cluster-secret-file s --tls-auto --tls-names kv.example.com,10.0.0.1").unwrap();
        let secret = config.security.cluster_secret.unwrap();
        assert_eq!((secret.path, secret.label), ("s".into(), "--cluster-secret-file s".to_owned()));
        let tls = config.security.tls.unwrap();
        let names = ["kv.example.com", "10.0.0.1"].map(str::to_owned).to_vec();
        assert_eq!(tls.certificate, TlsCertificate::Auto(names));
        assert!(!tls.optional && tls.client_ca.is_none());
    }
}
