//! All commands as one: for completions, manual pages and docs/cli.md.

use std::ffi::OsString;

use clap::{CommandFactory, Parser, ValueEnum};

use super::args::{self, Args};
use super::backup::RestoreArgs;
use super::client;
use super::task::{CaArgs, InspectArgs, RecoverArgs, SecretArgs};
use crate::exit::{EX_FAILURE, Exit};

/// Print a script that completes hraftd's commands and flags
#[derive(Debug, Parser)]
#[command(name = "hraftd completions", no_binary_name = true, max_term_width = 100)]
#[command(override_usage = "hraftd completions bash|zsh|fish")]
struct CompletionsArgs {
    /// bash, zsh or fish
    #[arg(value_name = "SHELL", value_parser = shell)]
    shell: clap_complete::Shell,
}

/// Print a manual page: that of hraftd, or of one of its commands
#[derive(Debug, Parser)]
#[command(name = "hraftd man", no_binary_name = true, max_term_width = 100)]
#[command(override_usage = "hraftd man [COMMAND]")]
struct ManArgs {
    /// One of the commands
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

fn shell(text: &str) -> Result<clap_complete::Shell, String> {
    clap_complete::Shell::from_str(text, false).map_err(|_| "not bash, zsh or fish".to_owned())
}

/// The daemon's flags, and each command with its own.
pub(super) fn whole() -> clap::Command {
    let tools = [
        ("inspect", InspectArgs::command()),
        ("recover", RecoverArgs::command()),
        ("restore", RestoreArgs::command()),
        ("secret", SecretArgs::command()),
        ("ca", CaArgs::command()),
        ("completions", CompletionsArgs::command()),
        ("man", ManArgs::command()),
    ];
    let tools = tools.into_iter().map(|(name, command)| command.name(name).bin_name(format!("hraftd {name}")));
    let daemon = Args::command().override_usage("hraftd [flags]\n       hraftd COMMAND [flags]");
    daemon.subcommands(client::commands()).subcommands(tools).disable_help_subcommand(true)
}

/// The script or the page that is asked for, if `word` asks for one.
pub(super) fn printed(word: &str, words: impl Iterator<Item = OsString>) -> Option<Exit> {
    let made = match word {
        "completions" => completions(words),
        "man" => man(words),
        _ => return None,
    };
    Some(made.map_or_else(|exit| exit, Exit::printed))
}

fn text(bytes: Vec<u8>) -> Result<String, Exit> {
    String::from_utf8(bytes).map_err(|error| Exit::error(EX_FAILURE, error.to_string()))
}

fn completions(words: impl Iterator<Item = OsString>) -> Result<String, Exit> {
    let CompletionsArgs { shell } = args::read_of("hraftd completions", words)?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut whole(), "hraftd", &mut script);
    text(script)
}

fn man(words: impl Iterator<Item = OsString>) -> Result<String, Exit> {
    let ManArgs { command } = args::read_of("hraftd man", words)?;
    let whole = whole();
    let (name, page) = match &command {
        None => ("hraftd".to_owned(), whole),
        Some(name) => {
            let found = whole.find_subcommand(name).cloned();
            let found = found
                .ok_or_else(|| Exit::usage(format!("man: there is no command {name:?}; hraftd --help lists them")))?;
            (format!("hraftd-{name}"), found)
        }
    };
    let mut bytes = Vec::new();
    let page = page.display_name(name);
    clap_mangen::Man::new(page).render(&mut bytes).map_err(|error| Exit::error(EX_FAILURE, error.to_string()))?;
    text(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where docs/cli.md is generated from here on.
    const MARK: &str = "<!-- From here on written by config::commands::tests::docs_are_up_to_date -->\n";

    fn words(line: &str) -> impl Iterator<Item = OsString> {
        line.split_whitespace().map(OsString::from).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn completions_and_pages_have_every_command() {
        whole().debug_assert();
        let pages = printed("man", words("")).unwrap();
        let pages = pages.out.unwrap();
        for shell in ["bash", "zsh", "fish"] {
            let script = printed("completions", words(shell)).unwrap().out.unwrap();
            for command in whole().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
            assert!(script.contains("election-timeout") && script.contains("if-absent"), "{shell}");
        }
        for command in whole().get_subcommands() {
            let name = command.get_name();
            assert!(pages.contains(&format!("hraftd\\-{name}(1)")), "{name}: {pages}");
            let page = printed("man", words(name)).unwrap();
            assert!(page.out.is_some_and(|page| page.contains(".TH") && page.contains("DESCRIPTION")), "{name}");
        }
        assert_eq!(printed("completions", words("tcsh")).unwrap().code, 64);
        assert_eq!(printed("man", words("serve")).unwrap().code, 64);
    }

    /// `hraftd --help` names them all, in few lines.
    #[test]
    fn the_footer_names_every_command() {
        let footer = Args::command().get_after_help().unwrap().to_string();
        for command in whole().get_subcommands() {
            let name = command.get_name();
            let named = footer.split(|c: char| !c.is_ascii_lowercase()).any(|word| word == name);
            assert!(named, "{name} is not in the footer of --help");
        }
    }

    #[test]
    fn docs_are_up_to_date() {
        let mut made = String::from(MARK);
        for command in client::commands() {
            let name = command.get_name().to_owned();
            let mut plain = command.clone().after_help("").bin_name(format!("hraftd {name}")).term_width(96);
            let help = plain.render_help().to_string();
            let help: Vec<&str> = help.split("\nCluster:").next().unwrap().trim().lines().collect();
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            made.push_str(&format!("\n## hraftd {name}\n\n{about}.\n\n```text\n"));
            for line in help.iter().skip(2) {
                made.push_str(&format!("{}\n", line.trim_end()));
            }
            made.push_str("```\n");
            let note = client::note(&name);
            if !note.is_empty() {
                made.push_str(&format!("\n{note}\n"));
            }
            if let Some(examples) = client::examples(&name) {
                made.push_str(&format!("\n```console\n{examples}\n```\n"));
            }
        }
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
        let there = std::fs::read_to_string(&path).unwrap();
        let prose = there.split(MARK).next().unwrap();
        let wanted = format!("{prose}{made}");
        if there != wanted {
            let new = std::env::temp_dir().join("hraftd-cli.md");
            std::fs::write(&new, wanted).unwrap();
            panic!("docs/cli.md is not what the commands say; {} is", new.display());
        }
    }
}
