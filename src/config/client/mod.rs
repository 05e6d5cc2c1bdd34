//! The command line of the client: `hraftd status`, `get`, `put` and so on.
//!
//! * [`verbs`] has the verbs and what each takes. [`access`] has what all of them take.

mod access;
mod bench;
mod drill;
mod examples;
mod verbs;

use std::ffi::OsString;

use clap::{Args as _, Command, CommandFactory, Parser, Subcommand as _};

use super::setting::Env;
use crate::exit::Exit;

use access::AccessArgs;
pub use access::{Access, Endpoint};
pub use bench::BenchArgs;
pub use drill::DrillArgs;
pub use verbs::*;

/// What is asked of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTask {
    /// What to do.
    pub verb: Verb,
    /// The way to the cluster.
    pub access: Access,
}

/// The hidden word of [`Bound`].
pub const BOUND: &str = "__bound";

/// A command that dies with its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The process that must still be the parent.
    pub parent: u32,
    /// The program and its arguments.
    pub command: Vec<OsString>,
}

/// Reads what the client wrote: the parent, and the command.
///
/// # Errors
/// Somebody else wrote it.
pub(super) fn bound(mut words: impl Iterator<Item = OsString>) -> Result<Bound, Exit> {
    let parent = words.next().and_then(|word| word.to_str()?.parse().ok());
    let (parent, command) = (parent, words.collect::<Vec<_>>());
    match parent {
        Some(parent) if !command.is_empty() => Ok(Bound { parent, command }),
        _ => Err(Exit::usage("this word is for hraftd lock alone")),
    }
}

/// True for the verbs of `hraftd token`; any other word there is a file.
pub(super) fn is_token_verb(word: &OsString) -> bool {
    let verbs = TokenVerb::augment_subcommands(Command::new("token"));
    word.to_str().is_some_and(|word| verbs.get_subcommands().any(|verb| verb.get_name() == word))
}

#[derive(Debug, Parser)]
#[command(name = "hraftd", no_binary_name = true, max_term_width = 100, args_override_self = true)]
#[command(disable_help_subcommand = true)]
struct ClientArgs {
    #[command(flatten)]
    access: AccessArgs,
    #[command(subcommand)]
    verb: Verb,
}

/// Reads the command line of a verb, if `word` is one.
pub(super) fn task(
    word: &str,
    words: impl Iterator<Item = OsString>,
    env: Env<'_>,
) -> Option<Result<ClientTask, Exit>> {
    let all = Verb::augment_subcommands(Command::new("hraftd"));
    let is_verb = all.get_subcommands().any(|verb| verb.get_name() == word);
    is_verb.then(|| {
        let words = std::iter::once(OsString::from(word)).chain(words);
        let program = format!("hraftd {word}");
        let command = ClientArgs::command().mut_subcommand(word, |verb| with_examples(verb).bin_name(&program));
        let ClientArgs { access, verb } = super::args::read_with(command, &program, words)?;
        Ok(ClientTask { verb, access: access.read(env)? })
    })
}

/// The verbs as commands, each with all of its flags: for help, completions and manual pages.
pub(super) fn commands() -> Vec<Command> {
    let all = Verb::augment_subcommands(Command::new("hraftd"));
    let with_access = |verb: &Command| with_examples(AccessArgs::augment_args(verb.clone()));
    all.get_subcommands().map(with_access).collect()
}

fn with_examples(verb: Command) -> Command {
    let Some(examples) = examples::of(verb.get_name()) else { return verb };
    let note = verb.get_after_help().map(|note| format!("{note}\n\n")).unwrap_or_default();
    verb.after_help(format!("{note}Examples:\n  {}", examples.replace('\n', "\n  ")))
}

/// Examples of a verb.
#[cfg(test)]
pub(super) fn examples(verb: &str) -> Option<&'static str> {
    examples::of(verb)
}

/// What is to be said of a verb, beside its flags.
#[cfg(test)]
pub(super) fn note(verb: &str) -> String {
    let all = Verb::augment_subcommands(Command::new("hraftd"));
    let note = all.find_subcommand(verb).and_then(|verb| verb.get_after_help().map(ToString::to_string));
    note.unwrap_or_default()
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
        assert_eq!((why.verb, why.access.json), (Verb::Why { index: 17 }, true));
        assert_eq!(why.access.endpoints[0].to_string(), "a:1");
        let status = typed("status").unwrap();
        assert_eq!(status.verb, Verb::Status);
        assert_eq!(status.access.endpoints.len(), 2, "of the environment");
        assert_eq!(typed("health -ready").unwrap().verb, Verb::Health { ready: true });
        assert!(task("serve", std::iter::empty(), &|_| None).is_none());
        let Verb::Put(put) = typed("put k -5 --ttl 3s").unwrap().verb else { panic!() };
        assert_eq!((put.value, put.ttl), ("-5".into(), Some(std::time::Duration::from_secs(3))));
    }

    #[test]
    fn bad_command_lines_are_one_line() {
        for (line, error) in [
            ("why", "INDEX is missing; hraftd why --help says more"),
            ("why x", "INDEX \"x\": not a number from 0 on"),
            ("status 7", "unexpected argument \"7\": hraftd status --help lists what it takes"),
            ("doctor --ready", "unknown flag --ready; hraftd doctor --help lists them"),
            ("status -o yaml", "-o yaml: the only format is json"),
            (
                "status --endpoint a",
                "unknown flag --endpoint (did you mean --endpoints?); hraftd status --help lists them",
            ),
            ("put k", "VALUE|-|@FILE is missing; hraftd put --help says more"),
            ("touch k", "--ttl is missing; hraftd touch --help says more"),
            ("token put", "NAME and GRANT are missing; hraftd token --help says more"),
            ("put k v --ttl 1", "--ttl \"1\": the unit is missing: ms, s, m or h"),
            ("put k v --ttl 0s", "--ttl \"0s\": not between 1s and 87600h, ten years"),
            ("touch k --ttl 87601h", "--ttl \"87601h\": not between 1s and 87600h, ten years"),
            ("token put a read: --ttl 5", "--ttl \"5\": not a duration such as 30s, 24h or 90d"),
            ("token rotate a --grace x", "--grace \"x\": not a duration such as 30s, 24h or 90d"),
            ("token rm a/b", "NAME \"a/b\": a name has letters, digits and ._-, and at least one"),
            ("get k --level x", "--level \"x\": not a read level: linearizable, weak, none, strong or auto"),
            ("bench --level x", "--level \"x\": not a read level: linearizable, weak, none, strong or auto"),
            ("incr k --by x", "--by \"x\": not a whole number, or one that does not fit 64 bits"),
            ("members lead ", "ID: the value is missing"),
            ("status --timeout 0s", "--timeout 0s: not between 1ms and 1h"),
        ] {
            assert_eq!(typed(line).unwrap_err(), Exit::usage(error), "{line}");
        }
    }

    #[test]
    fn flags_of_all_verbs_are_sound() {
        for command in commands() {
            command.debug_assert();
        }
    }
}
