//! The other side of a client port: what a client trusts, and what it shows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::{CLIENT_PROTOCOL, TlsError, pem, provider};

/// Where systems keep the authorities that they trust. `SSL_CERT_FILE` comes before these.
const SYSTEMS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What a client speaks: HTTP/1.1 over TLS, with servers of these authorities (PEM; `None`: the system's). `shown` is its
/// own certificate with its chain, and the key of that, in PEM.
///
/// # Errors
/// What cannot be used, and why; [`TlsError::Given`] names the part.
pub fn of_client(roots: Option<&[u8]>, shown: Option<(&[u8], &[u8])>) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12, &rustls::version::TLS13])?
        .with_root_certificates(match roots {
            Some(roots) => given(roots)?,
            None => systems()?,
        });
    let mut config = match shown {
        Some((chain, key)) => builder.with_client_auth_cert(pem::certificates(chain)?, pem::key(key)?)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![CLIENT_PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

fn given(text: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in pem::certificates(text)? {
        roots.add(root)?;
    }
    Ok(roots)
}

/// A bundle of a system may have certificates that rustls takes not: those are left out.
fn systems() -> Result<RootCertStore, TlsError> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let file = named.or_else(|| SYSTEMS.iter().map(PathBuf::from).find(|file| file.exists()));
    let none = |why: String| TlsError::Given(format!("{why}; --cacert FILE names the cluster's authorities"));
    let file = file.ok_or_else(|| none("this system has no file of authorities".to_owned()))?;
    let text = std::fs::read(&file).map_err(|error| none(format!("{}: {error}", shown(&file))))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(pem::certificates(&text)?);
    Ok(roots)
}

fn shown(file: &Path) -> String {
    file.display().to_string()
}
