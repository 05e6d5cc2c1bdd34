//! What an operator should mend is told at the start, by `cluster` and in metrics.

use std::path::Path;

use crate::namespace::in_own_network;
use crate::support::lab::Lab;
use crate::support::shell::{Background, Shell};
use crate::support::wait::{SETTLE, check, eventually};

const NEEDS: [(&str, &str); 3] = [("curl", "curl"), ("openssl", "openssl"), ("faketime", "faketime")];

/// Waits until a node tells this at all three places; curl is called with these words.
fn tells(shell: &Shell, node: &Background, curl: &str, part: &str) {
    eventually(SETTLE, &format!("it tells {part:?}"), || {
        check(node.log_text().contains(part), || format!("not in its log: {}", node.log_text()))?;
        let cluster = shell.try_run(&format!("curl -sf {curl}/hraftd/raft/cluster"))?;
        let warnings: serde_json::Value = serde_json::from_str(&cluster).map_err(|error| error.to_string())?;
        check(warnings["warnings"].to_string().contains(part), || cluster)?;
        let metrics = shell.try_run(&format!("curl -sf {curl}/metrics"))?;
        check(metrics.contains("\nhraftd_raft_warnings{kind=\"security\"} 1"), || metrics)
    });
}

#[test]
fn what_is_open_and_what_ends_soon_is_told() {
    in_own_network("warned::what_is_open_and_what_ends_soon_is_told", &NEEDS, || {
        let lab = Lab::new();
        let shell = Shell::new(lab.path());
        let dir: &Path = lab.path();
        let at = |file: &str| dir.join(file).display().to_string();
        // Bound to all addresses: anybody may speak Raft, and tokens would go in clear.
        {
            let node = shell.start(
                "open",
                &format!("hraftd --haddr :11000 --hadv 127.0.0.1:11000 --radv 127.0.0.1:12000 --rdir {}", at("open")),
            );
            tells(&shell, &node, "127.0.0.1:11000", "can be reached from other machines");
        }
        shell.run(&format!("hraftd secret {} && hraftd token {}", at("secret"), at("root")));
        {
            let node = shell.start(
                "clear",
                &format!(
                    "hraftd --haddr :11000 --hadv 127.0.0.1:11000 --radv 127.0.0.1:12000 --rdir {} --cluster-secret-file {} \
                     --root-token-file {} --anonymous status",
                    at("clear"),
                    at("secret"),
                    at("root")
                ),
            );
            tells(&shell, &node, "127.0.0.1:11000", "tokens travel in clear");
        }
        // A certificate of 30 days, of which 5 are left.
        shell.run(&format!(
            "cd {} && faketime '25 days ago' openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem \
             -out cert.pem -days 30 -subj /CN=n -addext subjectAltName=IP:127.0.0.1 2>/dev/null && chmod 600 key.pem",
            dir.display()
        ));
        let node = shell.start(
            "short",
            &format!(
                "hraftd --rdir {} --cluster-secret-file {} --tls-cert {} --tls-key {}",
                at("short"),
                at("secret"),
                at("cert.pem"),
                at("key.pem")
            ),
        );
        tells(
            &shell,
            &node,
            &format!("--cacert {} https://127.0.0.1:11000", at("cert.pem")),
            "the certificate expires in 4 days",
        );
    });
}
