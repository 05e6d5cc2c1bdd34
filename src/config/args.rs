//! The command line as clap reads it. Values are kept as text; [`super::resolve`] gives them their meaning.
//!
//! Values of the environment are added in [`crate::config::setting`]: clap's own `env` reads the process, and then tests
//! could not run side by side.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser};

use crate::exit::Exit;

/// The flags, raw. A flag given twice counts once, its last value; `--rjoin` adds up.
#[derive(Debug, Default, Parser)]
#[command(
    name = "hraftd",
    version,
    about = "A clustered key-value server: one binary, curl as the client",
    override_usage = "hraftd [--haddr HOST:PORT] [--rjoin A,B,...] [flags]",
    after_help = FOOTER,
    max_term_width = 100,
    no_binary_name = true,
    args_override_self = true
)]
pub(super) struct Args {
    /// Settings in TOML, by the flags' long names
    #[arg(long, value_name = "FILE")]
    pub config: Option<OsString>,

    /// Bind address of the client HTTP API; `:11000` is every interface [default: localhost:11000]
    #[arg(long, value_name = "HOST:PORT", help_heading = "Addresses")]
    pub haddr: Option<OsString>,
    /// Bind address of the Raft transport [default: the host of --haddr, its port + 1000]
    #[arg(long, value_name = "HOST:PORT", help_heading = "Addresses")]
    pub raddr: Option<OsString>,
    /// Client address told to others [default: that of --haddr, or found by --iface or --rjoin]
    #[arg(long, value_name = "HOST:PORT", help_heading = "Addresses")]
    pub hadv: Option<OsString>,
    /// Raft address told to others [default: likewise]
    #[arg(long, value_name = "HOST:PORT", help_heading = "Addresses")]
    pub radv: Option<OsString>,
    /// Tell others this interface's address, where the bind address names no host
    #[arg(long, value_name = "NAME", help_heading = "Addresses")]
    pub iface: Option<OsString>,

    /// Names by which clients may call this node, beside those it knows
    #[arg(long, value_name = "NAME,...", help_heading = "Addresses")]
    pub allow_host: Vec<OsString>,

    /// Client addresses of nodes to form or join a cluster with; `:PORT` is on this machine
    #[arg(long, value_name = "A,B,...", help_heading = "Cluster")]
    pub rjoin: Vec<OsString>,
    /// Form the first cluster once so many nodes are found by --rjoin, of all of them
    #[arg(long, value_name = "N", help_heading = "Cluster")]
    pub bootstrap_expect: Option<OsString>,
    /// Read level of a GET that names none: linearizable (or strong), weak, none, auto [default: linearizable]
    #[arg(long, value_name = "LEVEL", help_heading = "Cluster")]
    pub read_level: Option<OsString>,

    /// The root tokens of this node, one a line (hraftd token FILE makes one); turns authentication on
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    pub root_token_file: Option<OsString>,
    /// What clients may do that show no token, once authentication is turned on [default: nothing]
    #[arg(long, value_name = "GRANT,...", help_heading = "Security")]
    pub anonymous: Option<OsString>,

    /// Data directory [default: ~/.hraftd/<port of --haddr>]
    #[arg(long, value_name = "DIR", help_heading = "Storage")]
    pub rdir: Option<OsString>,
    /// Join as a learner and stay one [default: false]
    #[arg(long, value_name = "true|false", help_heading = "Cluster")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub non_voter: Option<OsString>,
    /// Go on after a move though not all is known: nothing at the old addresses can still run [default: false]
    #[arg(long, value_name = "true|false", help_heading = "Cluster")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub moved: Option<OsString>,
    /// Keep everything in memory, nothing on disk [default: false]
    #[arg(long, value_name = "true|false", help_heading = "Storage")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub rmem: Option<OsString>,
    /// Log entries between snapshots [default: 100000]
    #[arg(long, value_name = "N", help_heading = "Storage")]
    pub snapshot_threshold: Option<OsString>,

    /// The leader backs up into this directory by itself [default: no backups]
    #[arg(long, value_name = "DIR", help_heading = "Storage")]
    pub backup_to: Option<OsString>,
    /// How old the newest backup in it may get [default: 1h]
    #[arg(long, value_name = "TIME", help_heading = "Storage")]
    pub backup_every: Option<OsString>,
    /// How many backups stay in it [default: 24]
    #[arg(long, value_name = "N", help_heading = "Storage")]
    pub backup_keep: Option<OsString>,
    /// Bytes of keys and values, at most; 0: no limit [default: 0]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub quota: Option<OsString>,
    /// Largest value, in bytes or as 512K, 1M [default: 1M]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub max_value: Option<OsString>,
    /// Largest request body [default: 8M]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub max_request: Option<OsString>,
    /// Changes kept for those who watch; at most 64 MiB of them [default: 65536]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub watch_history: Option<OsString>,
    /// How long the outcome of a write with an Idempotency-Key is kept [default: 10m]
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    pub idempotency_window: Option<OsString>,

    /// How often the leader calls [default: 100ms]
    #[arg(long, value_name = "TIME", help_heading = "Raft timers")]
    pub heartbeat_interval: Option<OsString>,
    /// Silence before an election, at least; at most twice that [default: 400ms]
    #[arg(long, value_name = "TIME", help_heading = "Raft timers")]
    pub election_timeout: Option<OsString>,

    #[command(flatten)]
    pub security: SecurityArgs,

    /// error, warn, info, debug, trace, off, or RUST_LOG directives [default: $RUST_LOG, or info]
    #[arg(long, value_name = "LEVEL", help_heading = "Logs")]
    pub log_level: Option<OsString>,
    /// Log these requests: all, slow, errors or off [default: slow]
    #[arg(long, value_name = "WHICH", help_heading = "Logs")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    pub log_requests: Option<OsString>,
    /// A request that takes as long is slow [default: 500ms]
    #[arg(long, value_name = "TIME", help_heading = "Logs")]
    pub slow: Option<OsString>,
    /// text or json, on stderr [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Logs")]
    pub log_format: Option<OsString>,
}

/// The flags of secrets and of TLS.
#[derive(Debug, Default, clap::Args)]
pub(super) struct SecurityArgs {
    /// The secret that the nodes share, as hraftd secret makes it: nodes speak TLS, and to nobody else
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    pub cluster_secret_file: Option<OsString>,
    /// To migrate: speak plain text with nodes that have no secret yet [default: false]
    #[arg(long, value_name = "true|false", help_heading = "Security")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub cluster_secret_optional: Option<OsString>,
    /// TLS for clients: the certificate and its chain, in PEM
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    pub tls_cert: Option<OsString>,
    /// The key of --tls-cert, in PEM
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    pub tls_key: Option<OsString>,
    /// TLS for clients with a certificate of the cluster secret; hraftd ca prints its CA [default: false]
    #[arg(long, value_name = "true|false", help_heading = "Security")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub tls_auto: Option<OsString>,
    /// Names in the certificate of --tls-auto, beside those that the node knows
    #[arg(long, value_name = "NAME,...", help_heading = "Security")]
    pub tls_names: Option<OsString>,
    /// Ask clients for a certificate of these CAs, in PEM
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    pub tls_client_ca: Option<OsString>,
    /// Refuse clients without a certificate of --tls-client-ca [default: false]
    #[arg(long, value_name = "true|false", help_heading = "Security")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub tls_client_required: Option<OsString>,
    /// To migrate: answer plain HTTP beside TLS [default: false]
    #[arg(long, value_name = "true|false", help_heading = "Security")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub tls_optional: Option<OsString>,
}

const FOOTER: &str = "\
Commands, each with its --help; docs/cli.md has examples:
  get put delete ls incr touch txn edit watch lock elect    Keys, changes and locks of a cluster
  status members doctor why health token drill bench        How it is, who belongs to it, who may what; a proof
  export import backup restore                              Many keys as JSON lines; all of it, and back
  hraftd inspect DIR, hraftd recover --rdir DIR             A stopped node's directory
  hraftd check config [flags]                               All settings and their origin; 78: it would not start
  secret token ca                                           Secrets: to a new file, or printed
  completions man                                           For bash, zsh, fish; manual pages

Flags are read as --haddr :11000, --haddr=:11000 and -haddr :11000. Each can be set in the
environment, as HRAFTD_HADDR, and in the file of --config, as haddr = \":11000\"; a flag wins.";

/// Reads the command line; `argv` starts with the program's name, as `std::env::args_os` does.
///
/// # Errors
/// Help and version (code 0, on stdout), or one line on what is wrong (code 64).
pub(super) fn read(argv: impl IntoIterator<Item = OsString>) -> Result<Args, Exit> {
    let matches = Args::command().try_get_matches_from(normalize(argv.into_iter().skip(1)));
    matches.and_then(|matches| Args::from_arg_matches(&matches)).map_err(|error| explain("hraftd", &error))
}

/// The path of a file that a command names.
pub(super) fn named(what: &str, file: OsString) -> Result<PathBuf, Exit> {
    if file.is_empty() {
        return Err(Exit::usage(format!("{what}: the file has no name")));
    }
    Ok(PathBuf::from(file))
}

/// Reads the words of a tool.
///
/// # Errors
/// As [`read_with`].
pub(super) fn read_words<T: CommandFactory + FromArgMatches>(words: impl Iterator<Item = OsString>) -> Result<T, Exit> {
    read_of("hraftd", words)
}

/// Reads words of `program`, whose `--help` an error names.
///
/// # Errors
/// As [`read_with`].
pub(super) fn read_of<T: CommandFactory + FromArgMatches>(
    program: &str,
    words: impl Iterator<Item = OsString>,
) -> Result<T, Exit> {
    read_with(T::command(), program, words)
}

/// Reads words as `command` has them.
///
/// # Errors
/// Help (code 0, on stdout), or one line on what is wrong (code 64).
pub(super) fn read_with<T: FromArgMatches>(
    command: clap::Command,
    program: &str,
    words: impl Iterator<Item = OsString>,
) -> Result<T, Exit> {
    let matches = command.try_get_matches_from(normalize(words));
    matches.and_then(|matches| T::from_arg_matches(&matches)).map_err(|error| explain(program, &error))
}

/// Turns Go's `-haddr` into `--haddr`. A single dash before several letters is always that: the
/// one-letter flags (`-h`, `-V`) do not combine. A number (`-5`) is none. Nothing after a `--` is touched.
pub(super) fn normalize(argv: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut flags = true;
    argv.map(move |arg| {
        let bytes = arg.as_encoded_bytes();
        flags &= bytes != b"--";
        let go_style = bytes.len() > 2 && bytes[0] == b'-' && bytes[1].is_ascii_alphabetic();
        if !(flags && go_style) {
            return arg;
        }
        let mut long = OsString::from("-");
        long.push(arg);
        long
    })
}

/// clap's error, of several lines, as ours of one; `program` has a `--help` that says more.
pub(super) fn explain(program: &str, error: &clap::Error) -> Exit {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    // clap names an argument as its usage does: "--haddr <HOST:PORT>".
    let arg = text(ContextKind::InvalidArg);
    let flag = arg.split(' ').next().unwrap_or_default();
    let value = text(ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::printed(error.to_string()),
        ErrorKind::UnknownArgument if arg.starts_with('-') => {
            let near = text(ContextKind::SuggestedArg);
            let hint = if near.is_empty() { String::new() } else { format!(" (did you mean {near}?)") };
            Exit::usage(format!("unknown flag {arg}{hint}; {program} --help lists them"))
        }
        ErrorKind::UnknownArgument if program != "hraftd" => {
            Exit::usage(format!("unexpected argument {arg:?}: {program} --help lists what it takes"))
        }
        ErrorKind::UnknownArgument => {
            let hint = match arg.as_str() {
                "true" | "false" => format!("write --rmem={arg}"),
                "inspect" => "hraftd inspect DIR is a command line of its own".to_owned(),
                "recover" => "hraftd recover --rdir DIR is a command line of its own".to_owned(),
                "check" => "hraftd check config [flags] is a command line of its own".to_owned(),
                "ca" => "hraftd ca --cluster-secret-file FILE is a command line of its own".to_owned(),
                "secret" | "token" => format!("hraftd {arg} [FILE] is a command line of its own"),
                _ => "hraftd --help lists the flags".to_owned(),
            };
            Exit::usage(format!("unexpected argument {arg:?}: {hint}"))
        }
        ErrorKind::InvalidValue | ErrorKind::NoEquals if value.is_empty() => {
            Exit::usage(format!("{}: the value is missing", bare(flag)))
        }
        ErrorKind::TooManyValues => Exit::usage(format!("{flag} takes no value, {value:?} was given")),
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            Exit::usage(format!("{} {value:?}: {why}", bare(flag)))
        }
        ErrorKind::MissingRequiredArgument | ErrorKind::MissingSubcommand => {
            let names: Vec<&str> = arg.split(", ").map(bare).collect();
            let are = if names.len() > 1 { "are" } else { "is" };
            let names = if names == [""] { "a command".to_owned() } else { names.join(" and ") };
            Exit::usage(format!("{names} {are} missing; {program} --help says more"))
        }
        // None that is known of; still one line.
        _ => {
            let all = error.to_string();
            let line = all.lines().next().unwrap_or_default();
            Exit::usage(line.strip_prefix("error: ").unwrap_or(line))
        }
    }
}

/// `INDEX` of `<INDEX>`.
fn bare(arg: &str) -> &str {
    match arg.starts_with('-') {
        true => arg.split(' ').next().unwrap_or_default(),
        false => arg.trim_start_matches(['<', '[']).trim_end_matches("...").trim_end_matches(['>', ']']),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(words: &[&str]) -> Result<Args, Exit> {
        read(std::iter::once("hraftd").chain(words.iter().copied()).map(OsString::from))
    }

    #[test]
    fn gnu_and_go_style_are_one() {
        for words in [&["--haddr", ":11000"][..], &["--haddr=:11000"], &["-haddr", ":11000"], &["-haddr=:11000"]] {
            assert_eq!(typed(words).unwrap().haddr, Some(":11000".into()), "{words:?}");
        }
        for (words, rmem) in [(&["-rmem"][..], "true"), (&["--rmem=false"], "false"), (&["-rmem=true"], "true")] {
            assert_eq!(typed(words).unwrap().rmem, Some(rmem.into()), "{words:?}");
        }
        assert_eq!(typed(&["-read-level", "none"]).unwrap().read_level, Some("none".into()));
    }

    #[test]
    fn the_last_value_counts_and_rjoin_adds_up() {
        let args = typed(&["--haddr", ":1", "-haddr", ":2", "--rjoin", "a:1", "-rjoin=b:2"]).unwrap();
        assert_eq!(args.haddr, Some(":2".into()));
        assert_eq!(args.rjoin, ["a:1", "b:2"]);
        assert_eq!(typed(&["-rmem", "--rmem=false"]).unwrap().rmem, Some("false".into()));
    }

    #[test]
    fn help_and_version_go_to_stdout() {
        for flag in ["--help", "-help", "-h"] {
            let exit = typed(&[flag]).unwrap_err();
            assert_eq!((exit.code, &exit.err), (0, &None), "{flag}");
            let help = exit.out.unwrap();
            let (lines, width) = (help.lines().count(), help.lines().map(|line| line.chars().count()).max());
            assert!(lines <= 104 && width <= Some(100), "{lines} lines, {width:?} columns");
            for heading in ["Addresses:", "Cluster:", "Storage:", "Limits:", "Raft timers:", "Logs:"] {
                assert!(help.contains(heading), "{heading}");
            }
        }
        for flag in ["--version", "-version", "-V"] {
            assert_eq!(
                typed(&[flag]).unwrap_err(),
                Exit::printed(format!("hraftd {}\n", env!("CARGO_PKG_VERSION"))),
                "{flag}"
            );
        }
    }

    #[test]
    fn bad_command_lines_are_one_line_that_names_the_flag() {
        for (words, line) in [
            (&["--rjion", "a:1"][..], "unknown flag --rjion (did you mean --rjoin?); hraftd --help lists them"),
            (&["-xyzzy"], "unknown flag --xyzzy; hraftd --help lists them"),
            (&["--voter"], "unknown flag --voter; hraftd --help lists them"),
            (&["-x"], "unknown flag -x; hraftd --help lists them"),
            (&["--haddr"], "--haddr: the value is missing"),
            (&["--haddr", "--rmem"], "--haddr: the value is missing"),
            (&["--rmem", "false"], "unexpected argument \"false\": write --rmem=false"),
            (&["--", "x"], "unexpected argument \"x\": hraftd --help lists the flags"),
            (&["--help=x"], "--help takes no value, \"x\" was given"),
            (&["a\nb"], "unexpected argument \"a\\nb\": hraftd --help lists the flags"),
        ] {
            assert_eq!(typed(words).unwrap_err(), Exit::usage(line), "{words:?}");
        }
    }
}
