//! The command line of the client: `hraftd status`, `doctor`, `why INDEX`, `health`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

use super::address;
use super::setting::{Env, Setting};
use crate::exit::Exit;
use crate::node_id::HostPort;

/// What is asked of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTask {
    /// What to do.
    pub verb: Verb,
    /// Client addresses of nodes, to be tried in turn.
    pub endpoints: Vec<HostPort>,
    /// A file with the token to show.
    pub token_file: Option<PathBuf>,
    /// Print the server's answer as it is.
    pub json: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Show the members and what they do.
    Status,
    /// Show what is wrong.
    Doctor,
    /// Show when an entry came how far.
    Why {
        /// Its index.
        index: u64,
    },
    /// Tell whether the node lives, and with `ready` whether it would serve.
    Health {
        /// It must serve, too.
        ready: bool,
    },
}

/// How verbs are written.
const VERBS: [&str; 4] = ["status", "doctor", "why", "health"];

/// Ask a cluster how it is
#[derive(Debug, Parser)]
#[command(name = "hraftd", no_binary_name = true, max_term_width = 100, args_override_self = true)]
#[command(override_usage = "hraftd status|doctor|health [--ready]|why INDEX [--endpoints A,B,...] [-o json]")]
struct ClientArgs {
    /// The index of an entry, for why
    #[arg(value_name = "INDEX")]
    index: Option<OsString>,
    /// Client addresses of nodes, tried in turn [default: $HRAFTD_ENDPOINTS, or localhost:11000]
    #[arg(long, value_name = "A,B,...")]
    endpoints: Option<OsString>,
    /// A file with the token to show [default: $HRAFTD_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    token_file: Option<OsString>,
    /// json: the server's answer as it is
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<OsString>,
    /// For health: the node must also serve
    #[arg(long)]
    ready: bool,
}

/// Reads the command line of a verb, if `word` is one.
pub(super) fn task(
    word: &str,
    words: impl Iterator<Item = OsString>,
    env: Env<'_>,
) -> Option<Result<ClientTask, Exit>> {
    VERBS.contains(&word).then(|| read(word, words, env))
}

fn read(word: &str, words: impl Iterator<Item = OsString>, env: Env<'_>) -> Result<ClientTask, Exit> {
    let args: ClientArgs = super::task::read(words)?;
    let index = args.index.map(|given| Setting::find("INDEX", Some(given), env)).transpose()?.flatten();
    let verb = match (word, &index) {
        ("why", None) => return Err(Exit::usage("why: the index is missing: hraftd why INDEX")),
        ("why", Some(given)) => {
            let index = given.text.parse().map_err(|_| given.bad("not the index of an entry"))?;
            Verb::Why { index }
        }
        (_, Some(given)) => return Err(Exit::usage(format!("{word}: unexpected argument {:?}", given.text))),
        ("status", None) => Verb::Status,
        ("doctor", None) => Verb::Doctor,
        (_, None) => Verb::Health { ready: args.ready },
    };
    if args.ready && word != "health" {
        return Err(Exit::usage(format!("{word}: --ready is of hraftd health")));
    }
    let json = match Setting::find("-o", args.output, &|_| None)? {
        Some(given) if given.text != "json" => return Err(given.bad("the only format is json")),
        given => given.is_some(),
    };
    let given = Setting::find("--endpoints", args.endpoints, env)?;
    let given = given.unwrap_or_else(|| Setting::typed("--endpoints", "localhost:11000"));
    let mut endpoints = Vec::new();
    address::parse_list(&given.text, address::LOOPBACK, &mut endpoints).map_err(|why| given.bad(why))?;
    let token_file = Setting::find("--token-file", args.token_file, env)?.map(|given| PathBuf::from(given.text));
    Ok(ClientTask { verb, endpoints, token_file, json })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Result<ClientTask, Exit> {
        let mut words = line.split(' ');
        let word = words.next().unwrap();
        let env = |name: &str| (name == "HRAFTD_ENDPOINTS").then(|| ":1,h:2".into());
        task(word, words.map(OsString::from), &env).unwrap()
    }

    #[test]
    fn verbs_and_what_they_take() {
        let why = typed("why 17 -o json --endpoints a:1").unwrap();
        assert_eq!((why.verb, why.json, why.endpoints), (Verb::Why { index: 17 }, true, vec!["a:1".parse().unwrap()]));
        let status = typed("status").unwrap();
        assert_eq!(status.verb, Verb::Status);
        assert_eq!(status.endpoints.len(), 2, "of the environment");
        assert_eq!(typed("health -ready").unwrap().verb, Verb::Health { ready: true });
        assert!(task("serve", std::iter::empty(), &|_| None).is_none());
    }

    #[test]
    fn bad_command_lines_are_one_line() {
        for (line, error) in [
            ("why", "why: the index is missing: hraftd why INDEX"),
            ("why x", "INDEX x: not the index of an entry"),
            ("status 7", "status: unexpected argument \"7\""),
            ("doctor --ready", "doctor: --ready is of hraftd health"),
            ("status -o yaml", "-o yaml: the only format is json"),
            ("status --endpoint a", "unknown flag --endpoint (did you mean --endpoints?); hraftd --help lists them"),
        ] {
            assert_eq!(typed(line).unwrap_err(), Exit::usage(error), "{line}");
        }
    }
}
