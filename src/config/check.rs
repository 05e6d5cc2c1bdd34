//! `hraftd check config`: every setting, its value, and where it is from. What is printed can be read as a configuration file.
//!
//! None of it is secret: settings name the files of secrets.

use std::fmt::Write as _;

use super::{Config, DataPlace, TlsCertificate, values};
use crate::duration::show_ms;
use crate::raft_types::Role;
use crate::secret::mask;
use crate::telemetry::{LogFilter, LogFormat};

/// One setting as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The flag's long name, which is the key in a file.
    pub name: &'static str,
    /// The value as a file has it; `None` where there is none.
    pub value: Option<String>,
    /// True where it changes at SIGHUP; else after a restart.
    pub live: bool,
}

fn text(text: impl ToString) -> Option<String> {
    // TOML's basic strings are JSON's, but for DEL, which no setting has.
    serde_json::to_string(&*mask(&text.to_string())).ok()
}

fn list<T: ToString>(items: &[T]) -> Option<String> {
    let items: Vec<String> = items.iter().filter_map(|item| text(item.to_string())).collect();
    (!items.is_empty()).then(|| format!("[{}]", items.join(", ")))
}

impl Config {
    /// Every setting but `--config`, in the order of `--help`.
    pub fn effective(&self) -> Vec<Effective> {
        let restart = |name, value| Effective { name, value, live: false };
        let live = |name, value| Effective { name, value, live: true };
        let on = |is_on: bool| Some(is_on.to_string());
        let time = |ms: u64| text(show_ms(ms));
        let file = |named: Option<&super::NamedFile>| named.and_then(|file| text(file.path.display()));
        let tls = self.security.tls.as_ref();
        let (cert, key, auto) = match tls.map(|tls| &tls.certificate) {
            Some(TlsCertificate::Files { cert, key }) => (Some(cert), Some(key), None),
            Some(TlsCertificate::Auto(names)) => (None, None, Some(names)),
            None => (None, None, None),
        };
        let dir = match &self.data {
            DataPlace::Dir(dir) => text(dir.display()),
            DataPlace::Memory => None,
        };
        let filter = match &self.log.filter {
            LogFilter::Level(level) => level.to_string(),
            LogFilter::Directives(directives) => directives.clone(),
        };
        let root = self.root_tokens.as_ref();
        vec![
            restart("haddr", text(&self.http_bind)),
            restart("raddr", text(&self.raft_bind)),
            restart("hadv", text(&self.public_id.haddr)),
            restart("radv", text(&self.public_id.raddr)),
            restart("iface", self.iface.as_ref().and_then(text)),
            restart("allow-host", list(&self.allow_hosts)),
            restart("rjoin", list(&self.rjoin)),
            restart("bootstrap-expect", self.bootstrap_expect.map(|expect| expect.to_string())),
            restart("read-level", text(self.read_level.as_str())),
            restart("non-voter", on(self.role == Role::Learner)),
            restart("moved", on(self.moved)),
            restart("cluster-secret-file", file(self.security.cluster_secret.as_ref())),
            restart("cluster-secret-optional", on(self.security.cluster_secret_optional)),
            restart("root-token-file", root.and_then(|root| text(root.path.display()))),
            restart("anonymous", root.and_then(|root| list(&root.anonymous.texts()))),
            restart("tls-cert", file(cert)),
            restart("tls-key", file(key)),
            restart("tls-auto", on(auto.is_some())),
            restart("tls-names", auto.and_then(|names| list(names))),
            restart("tls-client-ca", file(tls.and_then(|tls| tls.client_ca.as_ref()))),
            restart("tls-client-required", on(tls.is_some_and(|tls| tls.client_required))),
            restart("tls-optional", on(tls.is_some_and(|tls| tls.optional))),
            restart("rdir", dir),
            restart("rmem", on(self.data == DataPlace::Memory)),
            restart("snapshot-threshold", Some(self.snapshot_threshold.to_string())),
            restart("backup-to", self.backups.as_ref().and_then(|plan| text(plan.to.display()))),
            restart("backup-every", self.backups.as_ref().and_then(|plan| time(crate::duration::as_ms(plan.every)))),
            restart("backup-keep", self.backups.as_ref().map(|plan| plan.keep.to_string())),
            live("quota", Some(self.quota_bytes.to_string())),
            restart("max-value", Some(self.max_value_bytes.to_string())),
            restart("max-request", Some(self.max_request_bytes.to_string())),
            restart("watch-history", Some(self.watch_history.to_string())),
            restart("idempotency-window", time(self.idempotency_window_ms)),
            restart("heartbeat-interval", time(self.heartbeat_ms)),
            restart("election-timeout", time(self.election_min_ms)),
            live("log-level", text(filter)),
            live("log-requests", text(self.request_log.logged)),
            live("slow", time(crate::duration::as_ms(self.request_log.slow))),
            restart("log-format", text(if self.log.format == LogFormat::Json { "json" } else { "text" })),
        ]
    }

    /// The page of `hraftd check config`.
    pub(super) fn page(&self) -> String {
        let mut page = String::new();
        let settings = self.effective();
        let line = |setting: &Effective| match &setting.value {
            Some(value) => format!("{} = {value}", setting.name),
            None => format!("# {}", setting.name),
        };
        let width = settings.iter().map(|setting| line(setting).chars().count()).filter(|width| *width <= 60).max();
        for setting in &settings {
            let origin = match (self.origins.get(setting.name), setting.name) {
                (Some(place), _) => place.as_str(),
                (None, "hadv" | "radv") => "found",
                (None, _) if setting.value.is_none() => "not set",
                (None, _) => "default",
            };
            let size = match (setting.name, self.sized(setting.name)) {
                (_, Some(bytes)) if bytes > 0 => format!(", {}", values::show_size(bytes)),
                _ => String::new(),
            };
            let _ = writeln!(page, "{:width$}  # {origin}{size}", line(setting), width = width.unwrap_or_default());
        }
        for warning in &self.warnings {
            let _ = writeln!(page, "# warning: {}", mask(warning));
        }
        page
    }

    fn sized(&self, name: &str) -> Option<usize> {
        match name {
            "quota" => usize::try_from(self.quota_bytes).ok(),
            "max-value" => Some(self.max_value_bytes),
            "max-request" => Some(self.max_request_bytes),
            _ => None,
        }
    }

    /// The settings in which another configuration differs: those that change at once, and those that need a restart.
    pub fn changes(&self, new: &Self) -> (Vec<&'static str>, Vec<&'static str>) {
        let (old, new) = (self.effective(), new.effective());
        let differ = old.iter().zip(&new).filter(|(old, new)| old != new).map(|(old, _)| old);
        let (live, restart): (Vec<&Effective>, Vec<&Effective>) = differ.partition(|setting| setting.live);
        let names = |all: Vec<&Effective>| all.into_iter().map(|setting| setting.name).collect();
        (names(live), names(restart))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::CommandFactory;

    use super::*;
    use crate::config::args::Args;
    use crate::config::{ThisMachine, parse};
    use crate::exit::{EX_CONFIG, Exit};

    fn typed(line: &str, vars: &[(&str, &str)]) -> Result<Config, Exit> {
        let argv = std::iter::once("hraftd").chain(line.split_whitespace()).map(OsString::from);
        let env = |name: &str| {
            let set = vars.iter().find(|(one, _)| *one == name).map(|(_, value)| *value);
            set.or((name == "HOME").then_some("/home/u")).map(OsString::from)
        };
        parse(argv, env, &ThisMachine)
    }

    #[test]
    fn each_flag_is_shown_once() {
        let mut shown: Vec<_> = typed("", &[]).unwrap().effective().into_iter().map(|one| one.name).collect();
        let command = Args::command();
        let mut flags: Vec<_> =
            command.get_opts().filter_map(clap::Arg::get_long).filter(|one| *one != "config").collect();
        shown.sort_unstable();
        flags.sort_unstable();
        assert_eq!(shown, flags);
    }

    #[test]
    fn a_flag_beats_the_environment_and_that_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let name = file.path().to_str().unwrap();
        std::fs::write(
            name,
            "read-level = \"none\"\nslow = \"1s\"\nquota = \"2G\"\nrmem = true\nrjoin = [\":1\", \":2\"]",
        )
        .unwrap();
        let line = format!("--config {name} --slow 3s");
        let config = typed(&line, &[("HRAFTD_SLOW", "2s"), ("HRAFTD_READ_LEVEL", "weak")]).unwrap();
        let page = config.page();
        let has = |key: &str, wanted: &str| {
            let line = page.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key} in {page}"));
            assert_eq!(line.split_whitespace().collect::<Vec<_>>().join(" "), wanted);
        };
        has("slow", "slow = \"3s\" # the command line");
        has("read-level", "read-level = \"weak\" # HRAFTD_READ_LEVEL");
        has("quota", &format!("quota = 2147483648 # {name} line 3, 2 GiB"));
        has("rjoin", &format!("rjoin = [\"127.0.0.1:1\", \"127.0.0.1:2\"] # {name} line 5"));
        has("heartbeat-interval", "heartbeat-interval = \"100ms\" # default");
        has("# iface", "# iface # not set");
        // The page is a file of the same meaning.
        std::fs::write(name, &page).unwrap();
        let again = typed(&format!("--config {name}"), &[]).unwrap();
        assert_eq!(again.effective(), config.effective());
        assert_eq!(typed("", &[("HRAFTD_CONFIG", name)]).unwrap().effective(), config.effective());
    }

    #[test]
    fn a_value_of_a_file_that_cannot_be_is_78_with_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let name = file.path().to_str().unwrap();
        for (text, why) in [
            ("\nmax-value = \"9G\"", "line 2: max-value = 9G: not between 1 byte and 64 MiB"),
            ("haddr = \"nowhere\"", "line 1: haddr = nowhere: "),
            ("heartbeat-interval = \"1s\"", "line 1: heartbeat-interval = 1s: more than a third of --election-timeout"),
            ("non-voter = true", "line 1: non-voter = true: a learner cannot form a cluster"),
            ("tls-cert = \"c\"", "line 1: tls-cert = c: its key is missing"),
        ] {
            std::fs::write(name, text).unwrap();
            let exit = typed(&format!("--config {name}"), &[]).unwrap_err();
            assert_eq!(exit.code, EX_CONFIG, "{text}");
            let told = exit.err.unwrap();
            assert!(told.starts_with(&format!("{name} {why}")), "{told}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_78() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(at("utf16"), b"\xff\xfer\0m\0").unwrap();
        std::fs::write(at("bom"), b"\xef\xbb\xbfrmem = true\nhadr = 1").unwrap();
        std::fs::write(at("good"), b"\xef\xbb\xbfrmem = true\n").unwrap();
        for (file, why) in [
            (at(""), "it is not a file"),
            (at("missing"), "No such file or directory"),
            (at("utf16"), "it is not text in UTF-8"),
            (at("bom"), "line 2: unknown setting hadr"),
        ] {
            let exit = typed(&format!("--config {file}"), &[]).unwrap_err();
            assert_eq!(exit.code, EX_CONFIG);
            assert!(exit.err.as_ref().unwrap().contains(why), "{exit:?}");
        }
        assert_eq!(typed("--config=", &[]).unwrap_err().code, EX_CONFIG);
        assert_eq!(
            typed(&format!("--config {}", at("good")), &[]).unwrap().data,
            DataPlace::Memory,
            "a BOM alone is no mistake"
        );
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let old = typed("", &[]).unwrap();
        let new = typed("--slow 1s --quota 1M --max-value 2M --rjoin :1", &[]).unwrap();
        assert_eq!(old.changes(&new), (vec!["quota", "slow"], vec!["rjoin", "max-value"]));
        assert_eq!(old.changes(&old), (vec![], vec![]));
    }
}
