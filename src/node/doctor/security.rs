//! What is wrong with secrets, certificates and tokens.

use super::Severity;
use super::findings::Findings;
use crate::node::rpc::Vitals;
use crate::observe::SecurityFault;

/// Said of a member that is not let in, or does not let others in.
pub(super) const NO_SECRET_IN_COMMON: &str = "it and the node that was asked have no cluster secret in common";

/// A member does not answer because one of both does not know the other's cluster secret.
pub(super) fn is_stranger(why: &str) -> bool {
    why.contains("cluster secret")
}

/// What a member says is wrong with its own.
pub(super) fn faults(id: &str, vitals: &Vitals, findings: &mut Findings) {
    let now = i64::try_from(vitals.wall_ms / 1_000).unwrap_or(i64::MAX);
    for (fault, what) in &vitals.security {
        let end = match fault {
            SecurityFault::Certificate => Some(vitals.certificate_ends[0]),
            SecurityFault::ClientCa => Some(vitals.certificate_ends[1]),
            _ => None,
        };
        let end = end.filter(|end| *end != 0);
        let by_its_end = if end.is_some_and(|end| end <= now) { Severity::Critical } else { Severity::Warning };
        let (severity, remedy) = match fault {
            // Neither is broken: it is how the cluster was set up, or is being changed.
            SecurityFault::OpenRaftPort => continue,
            SecurityFault::PlainNodes => {
                (Severity::Info, "once all nodes have the cluster secret, start them without --cluster-secret-optional")
            }
            SecurityFault::PlainClients => {
                (Severity::Info, "once all clients speak TLS, start the nodes without --tls-optional")
            }
            SecurityFault::Certificate => {
                (by_its_end, "put a new certificate into the files of --tls-cert and --tls-key: they are read again")
            }
            SecurityFault::ClientCa => (
                by_its_end,
                "put a new authority into the file of --tls-client-ca, beside the old one until clients have new certificates",
            ),
            SecurityFault::Secrets | SecurityFault::CertificateFiles | SecurityFault::RootTokens => (
                Severity::Warning,
                "mend the file: it is read again by itself; hraftd check config says whether it is good",
            ),
            SecurityFault::TokensInClear => {
                (Severity::Warning, "start it with --tls-auto, or with --tls-cert and --tls-key")
            }
        };
        let numbers = end.map(|end| ("ends_in_seconds", (end - now) as f64));
        findings.add(severity, id, what.clone(), numbers.as_slice(), remedy);
    }
}

/// Finds that a member trusts other secrets than one that is like the rest, or has another first.
pub(super) fn differ((id, vitals): (&str, &Vitals), (like_id, like): (&str, &Vitals), findings: &mut Findings) {
    if vitals.secrets == like.secrets {
        return;
    }
    let shown = |secrets: &[String]| match secrets {
        [] => "no cluster secret".to_owned(),
        [one] => format!("the cluster secret {one}"),
        more => format!("the cluster secrets {}", more.join(" and ")),
    };
    let what = format!("it has {}, and {like_id} has {}", shown(&vitals.secrets), shown(&like.secrets));
    let remedy = "put the same cluster secrets, in the same order, into the files of all nodes: \
                  docs/security.md, on replacing a secret";
    let numbers = [("secrets", vitals.secrets.len() as f64)];
    findings.add(Severity::Warning, id, what, &numbers, remedy);
}
