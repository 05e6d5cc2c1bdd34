//! The task of a process: run a node, or one of the tools.
//!
//! A tool's name is the first word of the command line. A command line without words, or with a flag first, is the
//! node's.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

use super::args::{self, named, read_words as read};
use super::backup;
use super::client::{self, Bound, ClientTask};
use super::commands;
use super::security;
use super::{Config, Machine, parse};
use crate::config::setting::{Env, Setting};
use crate::exit::{EX_CONFIG, Exit};

/// The task of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Run a node.
    Serve(Box<Config>),
    /// Look at, or change, a stopped node's directory.
    Offline(Offline),
    /// Ask a cluster.
    Client(Box<ClientTask>),
    /// Become a command that dies with its parent: the client starts its own so.
    Bound(Bound),
    /// Make or show a secret.
    Credentials(Credentials),
    /// Show a node's configuration, and whether it would start with it.
    Check(Box<Config>),
}

/// The task of a tool for secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Make a cluster secret: into this new file, or print it.
    Secret(Option<PathBuf>),
    /// Print the public fingerprints of a file's cluster secrets.
    SecretIds(PathBuf),
    /// Make a token: into this new file, or print it.
    Token(Option<PathBuf>),
    /// Print the clients' authorities of a file's cluster secrets.
    Ca(PathBuf),
}

/// The task of a tool for the data directory of a stopped node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offline {
    /// Show the content of a directory, or of a backup.
    Inspect {
        /// The data directory, or the backup.
        dir: PathBuf,
        /// Print only the log's entries, as JSON lines.
        entries: bool,
    },
    /// Make a node that survived the loss of a majority a cluster of one.
    Recover {
        /// The data directory.
        dir: PathBuf,
        /// Do it; otherwise only say what would be kept and what may be lost.
        yes: bool,
    },
    /// Check all of a backup.
    Verify {
        /// The backup.
        file: PathBuf,
    },
    /// Make a new cluster of one from a backup.
    Restore {
        /// The backup.
        file: PathBuf,
        /// The data directory to be made.
        dir: PathBuf,
        /// Let the time since the backup count.
        expire: bool,
    },
}

/// Show what the data directory of a stopped node holds, changing nothing
#[derive(Debug, Parser)]
#[command(name = "hraftd inspect", no_binary_name = true, max_term_width = 100)]
#[command(override_usage = "hraftd inspect DIR [--entries]")]
pub(super) struct InspectArgs {
    /// The data directory
    #[arg(value_name = "DIR")]
    dir: Option<OsString>,
    /// Print the log's entries instead, as JSON lines
    #[arg(long)]
    entries: bool,
}

/// Make a node that survived the loss of a majority a cluster of one, with all its data.
/// Without --yes it changes nothing, and says what would be kept and what may be lost
#[derive(Debug, Parser)]
#[command(name = "hraftd recover", no_binary_name = true, max_term_width = 100)]
#[command(override_usage = "hraftd recover --rdir DIR [--yes]")]
pub(super) struct RecoverArgs {
    /// The data directory of the stopped node; $HRAFTD_RDIR where it is not given
    #[arg(long, value_name = "DIR")]
    rdir: Option<OsString>,
    /// Do it
    #[arg(long)]
    yes: bool,
}

/// Make a secret for the nodes of a cluster: for --cluster-secret-file of each of them
#[derive(Debug, Parser)]
#[command(name = "hraftd secret", no_binary_name = true, max_term_width = 100)]
#[command(override_usage = "hraftd secret [FILE]\n       hraftd secret --id FILE")]
pub(super) struct SecretArgs {
    /// The new file, which only its owner may read; without it the secret is printed
    #[arg(value_name = "FILE")]
    file: Option<OsString>,
    /// Print the public fingerprints of the secrets that are in FILE: nodes log them
    #[arg(long, value_name = "FILE")]
    id: Option<OsString>,
}

/// Make a token
#[derive(Debug, Parser)]
#[command(name = "hraftd token", no_binary_name = true, max_term_width = 100)]
#[command(
    override_usage = "hraftd token [FILE]\n       hraftd token ls|put|rotate|rm    those of a cluster; each has its --help"
)]
struct TokenArgs {
    /// The new file, which only its owner may read; without it the token is printed
    #[arg(value_name = "FILE")]
    file: Option<OsString>,
}

/// Print the certificate authorities of --tls-auto, for curl --cacert: one for each secret of the file.
/// Never put them into the store of a system or browser: who has the secret could be any site there
#[derive(Debug, Parser)]
#[command(name = "hraftd ca", no_binary_name = true, max_term_width = 100)]
#[command(override_usage = "hraftd ca --cluster-secret-file FILE")]
pub(super) struct CaArgs {
    /// The cluster's secrets; $HRAFTD_CLUSTER_SECRET_FILE where it is not given
    #[arg(long, value_name = "FILE")]
    cluster_secret_file: Option<OsString>,
}

/// Reads the task from `argv`, which begins with the program's name, and the environment.
///
/// # Errors
/// As [`parse`].
pub(super) fn task(
    argv: impl IntoIterator<Item = OsString>,
    env: Env<'_>,
    machine: &dyn Machine,
) -> Result<Task, Exit> {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let words = argv.iter().skip(2).cloned();
    let word = argv.get(1).and_then(|word| word.to_str());
    if word == Some("backup") && argv.get(2).is_some_and(|word| word == "verify") {
        return backup::verify(words.skip(1)).map(|file| Task::Offline(Offline::Verify { file }));
    }
    if word == Some(client::BOUND) {
        return client::bound(words).map(Task::Bound);
    }
    let is_offline = word == Some("token") && !argv.get(2).is_some_and(client::is_token_verb);
    if let Some(task) = word.filter(|_| !is_offline).and_then(|word| client::task(word, words.clone(), env)) {
        return task.map(|task| Task::Client(Box::new(task)));
    }
    if let Some(exit) = word.and_then(|word| commands::printed(word, words.clone())) {
        return Err(exit);
    }
    match word {
        Some("inspect") => {
            let InspectArgs { dir, entries } = read(words)?;
            let dir = dir.filter(|dir| !dir.is_empty());
            let dir = dir.ok_or_else(|| Exit::usage("inspect: the directory is missing: hraftd inspect DIR"))?;
            Ok(Task::Offline(Offline::Inspect { dir: PathBuf::from(dir), entries }))
        }
        Some("recover") => {
            let RecoverArgs { rdir, yes } = read(words)?;
            let dir = Setting::find("--rdir", rdir, env)?.ok_or_else(|| {
                Exit::usage("recover: the directory is missing: hraftd recover --rdir DIR; there is no default")
            })?;
            if dir.text.is_empty() {
                return Err(dir.bad("the directory has no name"));
            }
            Ok(Task::Offline(Offline::Recover { dir: PathBuf::from(dir.text), yes }))
        }
        Some("restore") => {
            let (file, dir, expire) = backup::restore(words, env)?;
            Ok(Task::Offline(Offline::Restore { file, dir, expire }))
        }
        Some("secret") => {
            let SecretArgs { file, id } = read(words)?;
            let task = match (id, file) {
                (Some(_), Some(_)) => return Err(Exit::usage("secret: --id FILE shows, FILE makes: give one of them")),
                (Some(id), None) => Credentials::SecretIds(named("secret --id", id)?),
                (None, file) => Credentials::Secret(file.map(|file| named("secret", file)).transpose()?),
            };
            Ok(Task::Credentials(task))
        }
        Some("token") => {
            let TokenArgs { file } = read(words)?;
            let file = file.map(|file| named("token", file)).transpose()?;
            Ok(Task::Credentials(Credentials::Token(file)))
        }
        Some("ca") => {
            let CaArgs { cluster_secret_file } = read(words)?;
            let given = Setting::find("--cluster-secret-file", cluster_secret_file, env)?
                .ok_or_else(|| Exit::usage("ca: the file is missing: hraftd ca --cluster-secret-file FILE"))?;
            Ok(Task::Credentials(Credentials::Ca(security::named_file(given)?.path)))
        }
        Some("check") => check(&argv, env, machine),
        _ => parse(argv, env, machine).map(|config| Task::Serve(Box::new(config))),
    }
}

/// The flags of a node behind `check config`. What a node would not start with is 78, whoever gave it.
fn check(argv: &[OsString], env: Env<'_>, machine: &dyn Machine) -> Result<Task, Exit> {
    match argv.get(2).and_then(|word| word.to_str()) {
        Some("config") => {}
        Some("-h" | "-help" | "--help") => {
            let text = "Show every setting of a node, its value and its origin, as a configuration file; exit with 78 where \
                        the node would not start\n\nUsage: hraftd check config [--config FILE] [flags]\n\n\
                        The flags are those of the node: hraftd --help\n";
            return Err(Exit::printed(text));
        }
        _ => return Err(Exit::usage("check: what is to be checked is missing: hraftd check config [flags]")),
    }
    let flags = args::read(argv.iter().skip(2).cloned())?;
    match super::resolve::config(flags, env, machine) {
        Ok(config) => Ok(Task::Check(Box::new(config))),
        Err(exit) => Err(Exit { code: EX_CONFIG, ..exit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ThisMachine;

    fn typed(line: &str) -> Result<Task, Exit> {
        let argv = std::iter::once("hraftd").chain(line.split(' ')).map(OsString::from);
        let env = |name: &str| match name {
            "HOME" => Some("/home/u".into()),
            // Of a node it is not used beside --rmem, which is a warning.
            "HRAFTD_RDIR" if !line.starts_with("check") => Some("/from/env".into()),
            _ => None,
        };
        task(argv, &env, &ThisMachine)
    }

    fn inspect(dir: &str, entries: bool) -> Task {
        Task::Offline(Offline::Inspect { dir: dir.into(), entries })
    }

    fn recover(dir: &str, yes: bool) -> Task {
        Task::Offline(Offline::Recover { dir: dir.into(), yes })
    }

    fn restore(dir: &str, expire: bool) -> Task {
        Task::Offline(Offline::Restore { file: "f".into(), dir: dir.into(), expire })
    }

    #[test]
    fn the_first_word_chooses() {
        for (line, wanted) in [
            ("inspect d", inspect("d", false)),
            ("inspect d --entries", inspect("d", true)),
            ("inspect -entries d", inspect("d", true)),
            ("inspect inspect", inspect("inspect", false)),
            ("recover --rdir d", recover("d", false)),
            ("recover -rdir=d -yes", recover("d", true)),
            ("recover --yes", recover("/from/env", true)),
            ("backup verify f", Task::Offline(Offline::Verify { file: "f".into() })),
            ("restore f --rdir d", restore("d", false)),
            ("restore -expire f", restore("/from/env", true)),
            ("secret", Task::Credentials(Credentials::Secret(None))),
            ("secret f", Task::Credentials(Credentials::Secret(Some("f".into())))),
            ("secret -id f", Task::Credentials(Credentials::SecretIds("f".into()))),
            ("token", Task::Credentials(Credentials::Token(None))),
            (
                "check config --rmem",
                Task::Check(Box::new(parse(["hraftd", "--rmem"].map(OsString::from), |_| None, &ThisMachine).unwrap())),
            ),
            ("ca --cluster-secret-file f", Task::Credentials(Credentials::Ca("f".into()))),
            ("token f", Task::Credentials(Credentials::Token(Some("f".into())))),
        ] {
            assert_eq!(typed(line), Ok(wanted), "{line}");
        }
        assert!(matches!(typed("--rdir inspect"), Ok(Task::Serve(config)) if config.data.to_string() == "inspect"));
    }

    #[test]
    fn bad_command_lines_are_one_line() {
        for (line, error) in [
            ("inspect", "inspect: the directory is missing: hraftd inspect DIR"),
            ("inspect --entrise d", "unknown flag --entrise (did you mean --entries?); hraftd --help lists them"),
            ("check", "check: what is to be checked is missing: hraftd check config [flags]"),
            ("check config --rjion x", "unknown flag --rjion (did you mean --rjoin?); hraftd --help lists them"),
            ("check config x", "unexpected argument \"x\": hraftd --help lists the flags"),
            ("inspect a b", "unexpected argument \"b\": hraftd --help lists the flags"),
            ("inspect d --rdir x", "unknown flag --rdir; hraftd --help lists them"),
            ("recover d", "unexpected argument \"d\": hraftd --help lists the flags"),
            ("recover --rdir", "--rdir: the value is missing"),
            ("recover --rdir=", "--rdir \"\": the directory has no name"),
            ("recover --yes=no", "--yes takes no value, \"no\" was given"),
            ("secret a b", "unexpected argument \"b\": hraftd --help lists the flags"),
            ("secret --id", "--id: the value is missing"),
            ("secret --id a b", "secret: --id FILE shows, FILE makes: give one of them"),
            ("secret --id=", "secret --id: the file has no name"),
            ("secret --rmem", "unknown flag --rmem; hraftd --help lists them"),
            ("ca f", "unexpected argument \"f\": hraftd --help lists the flags"),
            ("ca", "ca: the file is missing: hraftd ca --cluster-secret-file FILE"),
            ("token --id f", "unknown flag --id; hraftd --help lists them"),
            ("--rmem token", "unexpected argument \"token\": hraftd token [FILE] is a command line of its own"),
            ("restart d", "unexpected argument \"restart\": hraftd --help lists the flags"),
            ("restore", "restore: the file is missing: hraftd restore FILE --rdir DIR"),
            ("restore f --rdir=", "--rdir \"\": the directory has no name"),
            ("backup verify", "backup verify: the file is missing: hraftd backup verify FILE"),
            ("backup verify a b", "unexpected argument \"b\": hraftd --help lists the flags"),
            ("--rmem inspect d", "unexpected argument \"inspect\": hraftd inspect DIR is a command line of its own"),
        ] {
            assert_eq!(typed(line).unwrap_err(), Exit::usage(error), "{line}");
        }
    }

    #[test]
    fn each_has_its_help() {
        for (line, flag) in [
            ("inspect --help", "--entries"),
            ("recover -help", "--yes"),
            ("secret --help", "--id"),
            ("token -h", "FILE"),
            ("backup verify --help", "FILE"),
            ("restore --help", "--expire"),
        ] {
            let exit = typed(line).unwrap_err();
            assert_eq!((exit.code, &exit.err), (0, &None), "{line}");
            assert!(exit.out.is_some_and(|out| out.contains(flag) && !out.contains("--haddr")), "{line}");
        }
    }
}
