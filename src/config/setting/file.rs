//! The configuration file: TOML whose keys are the long names of flags, flat.
//!
//! It is read at start, and again on SIGHUP, whole: a file with one mistake gives nothing. Each value is kept as the text
//! that the flag would have, so that `config::resolve` has one meaning for all of them.
//!
//! Secrets are in files of their own, which only their owner may read: one that is pasted in here is refused, unshown.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use clap::CommandFactory;
use toml::de::{DeTable, DeValue};

use super::unknown::nearest;
use super::{Origin, Setting};
use crate::config::args::Args;
use crate::exit::Exit;
use crate::secret::{Access, mask, read_file};

/// The values of a file, by the flags' long names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::config) struct ConfigFile {
    name: String,
    values: BTreeMap<String, (usize, String)>,
}

/// What a flag takes, by what `--help` calls its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Switch,
    Number,
    Size,
    Time,
    List,
    Text,
}

impl Kind {
    fn of(value_name: &str) -> Self {
        match value_name {
            "true|false" => Self::Switch,
            "N" => Self::Number,
            "SIZE" => Self::Size,
            "TIME" => Self::Time,
            name if name.ends_with(",...") => Self::List,
            _ => Self::Text,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Switch => "true or false, without quotes",
            Self::Number => "a whole number, without quotes",
            Self::Size => "a number of bytes, or a text such as \"512K\" or \"2G\"",
            Self::Time => "a text with its unit, such as \"400ms\" or \"10m\"",
            Self::List => "a list of texts, such as [\"a\", \"b\"], or one text",
            Self::Text => "a text, in quotes",
        })
    }
}

/// The kinds of all settings that a file may have. It names no other file.
fn kinds() -> BTreeMap<String, Kind> {
    let command = Args::command();
    let kind = |flag: &clap::Arg| Some(Kind::of(flag.get_value_names()?.first()?));
    let named = command.get_opts().filter_map(|flag| Some((flag.get_long()?.to_owned(), kind(flag)?)));
    named.filter(|(name, _)| name != "config").collect()
}

impl ConfigFile {
    /// Reads the file that a setting names. Blocks.
    ///
    /// # Errors
    /// 78: it cannot be read, or something is wrong in it; with its line.
    pub fn read(named: &Setting) -> Result<Self, Exit> {
        let bad = |why: &dyn fmt::Display| Exit::config(format!("{named}: {why}"));
        if named.text.is_empty() || named.text.contains('\0') {
            return Err(bad(&"no file can have that name"));
        }
        let bytes = read_file(Path::new(&named.text), Access::Public).map_err(|error| bad(&error))?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        let text = text.ok_or_else(|| bad(&"it is not text in UTF-8; save it as that"))?;
        Self::parse(&named.text, text)
    }

    /// Reads the text of the file of this name.
    ///
    /// # Errors
    /// 78, with the line.
    pub fn parse(name: &str, text: &str) -> Result<Self, Exit> {
        let line_at = |at: usize| text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
        let bad = |at: usize, why: &str| Exit::config(mask(&format!("{name} line {}: {why}", line_at(at))));
        let table = DeTable::parse(text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            let key = text.get(span.clone()).filter(|_| error.message().contains("duplicate key"));
            let why = key.map_or_else(
                || format!("not TOML: {}", error.message()),
                |key| format!("{key} is there twice: a setting has one value"),
            );
            bad(span.start, &why)
        })?;
        let kinds = kinds();
        let mut values = BTreeMap::new();
        // In the order of the file: the first mistake is told first.
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let (at, key) = (key.span().start, key.get_ref().as_ref());
            let Some(kind) = kinds.get(key) else {
                return Err(bad(at, &unknown(key, value.get_ref(), &kinds)));
            };
            let given = text_of(*kind, value.get_ref()).ok_or_else(|| bad(at, &format!("{key} must be {kind}")))?;
            if mask(&given) != given {
                return Err(bad(
                    at,
                    &format!(
                        "{key} has a secret in it: who reads this file would have it. Put it into a file of its own, of mode \
                         0600, and write that file's name here; take it for known from now on"
                    ),
                ));
            }
            // A list of nothing is no setting; an empty text is one, and mostly a bad one.
            if !(given.is_empty() && matches!(value.get_ref(), DeValue::Array(_))) {
                values.insert(key.to_owned(), (line_at(at), given));
            }
        }
        Ok(Self { name: name.to_owned(), values })
    }

    /// The value that the file has for a flag: `--haddr`.
    pub fn get(&self, flag: &str) -> Option<Setting> {
        let key = flag.trim_start_matches('-');
        let (line, text) = self.values.get(key)?;
        let name = format!("{} line {line}: {key} =", self.name);
        Some(Setting { name, text: text.clone(), origin: Origin::File })
    }
}

/// The text that the flag would have; `None` where the value is of another type.
fn text_of(kind: Kind, value: &DeValue<'_>) -> Option<String> {
    let number = || {
        let number = value.as_integer()?;
        let digits = number.as_str().trim_start_matches('+');
        (number.radix() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.to_owned())
    };
    match kind {
        Kind::Switch => value.as_bool().map(|on| on.to_string()),
        Kind::Number => number(),
        Kind::Size => number().or_else(|| value.as_str().map(str::to_owned)),
        Kind::List => match value.as_array() {
            Some(items) => {
                let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
                Some(texts?.join(","))
            }
            None => value.as_str().map(str::to_owned),
        },
        Kind::Time | Kind::Text => value.as_str().map(str::to_owned),
    }
}

fn unknown(key: &str, value: &DeValue<'_>, kinds: &BTreeMap<String, Kind>) -> String {
    if key == "config" {
        return "config: a configuration file names no other".to_owned();
    }
    if value.is_table() {
        return format!("[{key}]: there are no sections; keys are the long names of flags, such as read-level");
    }
    let file = format!("{key}-file");
    let hint = if kinds.contains_key(&file) {
        format!("a secret is never in here; {file} names the file that has it")
    } else {
        match nearest(&key.replace('_', "-"), kinds.keys().map(String::as_str)) {
            Some(near) => format!("did you mean {near}?"),
            None => "hraftd --help lists the flags whose names can be here".to_owned(),
        }
    };
    format!("unknown setting {key}: {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, String> {
        ConfigFile::parse("f.toml", text).map_err(|exit| {
            assert_eq!(exit.code, crate::exit::EX_CONFIG);
            exit.err.unwrap()
        })
    }

    #[test]
    fn values_become_what_the_flags_would_have() {
        let text = "# ours\nhaddr = \":11000\"\r\nrjoin = [\"a:1\", \"b:2\"]\nallow-host = \"x,y\"\n\nrmem = true\n\
            bootstrap-expect = 3\nmax-value = \"512K\"\nmax-request = 1_048_576\nheartbeat-interval = '50ms'\ntls-names = []";
        let file = parse(text).unwrap();
        let got = |flag: &str| file.get(flag).map(|given| given.to_string());
        for (flag, text) in [
            ("--haddr", "line 2: haddr = :11000"),
            ("--rjoin", "line 3: rjoin = a:1,b:2"),
            ("--allow-host", "line 4: allow-host = x,y"),
            ("--rmem", "line 6: rmem = true"),
            ("--bootstrap-expect", "line 7: bootstrap-expect = 3"),
            ("--max-value", "line 8: max-value = 512K"),
            ("--max-request", "line 9: max-request = 1048576"),
            ("--heartbeat-interval", "line 10: heartbeat-interval = 50ms"),
        ] {
            assert_eq!(got(flag).as_deref(), Some(&*format!("f.toml {text}")));
        }
        assert_eq!((got("--tls-names"), got("--raddr")), (None, None));
        assert_eq!(file.get("--rmem").unwrap().bad("no").code, crate::exit::EX_CONFIG);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let quoted = "true or false, without quotes";
        for (text, error) in [
            ("\nhadr = \":1\"", "line 2: unknown setting hadr: did you mean haddr?"),
            ("read_level = \"none\"", "line 1: unknown setting read_level: did you mean read-level?"),
            ("xyzzy = 1", "line 1: unknown setting xyzzy: hraftd --help lists the flags whose names can be here"),
            ("config = \"f\"", "line 1: config: a configuration file names no other"),
            (
                "rmem = true\n[raft]\nraddr = \":1\"",
                "line 2: [raft]: there are no sections; keys are the long names of flags, such as read-level",
            ),
            ("rmem = true\n\nrmem = false", "line 3: rmem is there twice: a setting has one value"),
            ("rmem = \"true\"", &format!("line 1: rmem must be {quoted}")),
            ("rmem = 1", &format!("line 1: rmem must be {quoted}")),
            ("haddr = 11000", "line 1: haddr must be a text, in quotes"),
            ("bootstrap-expect = \"3\"", "line 1: bootstrap-expect must be a whole number, without quotes"),
            ("bootstrap-expect = -3", "line 1: bootstrap-expect must be a whole number, without quotes"),
            ("bootstrap-expect = 3.0", "line 1: bootstrap-expect must be a whole number, without quotes"),
            ("slow = 500", "line 1: slow must be a text with its unit, such as \"400ms\" or \"10m\""),
            ("rjoin = [1]", "line 1: rjoin must be a list of texts, such as [\"a\", \"b\"], or one text"),
            (
                "cluster-secret = \"x\"",
                "line 1: unknown setting cluster-secret: a secret is never in here; cluster-secret-file names the file that \
                 has it",
            ),
        ] {
            assert_eq!(parse(text), Err(format!("f.toml {error}")), "{text}");
        }
        for (text, line) in
            [("haddr = :1", 1), ("rmem = true\nhaddr", 2), ("rmem = true\n\nhaddr = \"x", 3), ("= 1", 1)]
        {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(&format!("f.toml line {line}: not TOML: ")), "{text}: {error}");
        }
    }

    #[test]
    fn a_secret_is_refused_and_not_shown() {
        for key in ["cluster-secret-file", "root-token-file", "anonymous", "haddr", "hadrr"] {
            for value in ["hrs_abcdefghijklmnopqrstuvwxyz", "hrt_abcdefghijklmnopqrstuvwxyz"] {
                for text in [format!("{key} = \"{value}\""), format!("{value} = \"{key}\"")] {
                    let error = parse(&text).unwrap_err();
                    assert!(!error.contains("ijklmnop"), "{error}");
                }
            }
        }
        let error = parse("root-token-file = \"hrt_abcdefghijklmnopqrstuvwxyz\"").unwrap_err();
        assert!(error.contains("line 1: root-token-file has a secret in it"), "{error}");
    }

    #[test]
    fn each_flag_can_be_a_key() {
        let kinds = kinds();
        let command = Args::command();
        let flags: Vec<_> =
            command.get_opts().filter_map(clap::Arg::get_long).filter(|name| *name != "config").collect();
        assert_eq!(kinds.len(), flags.len());
        for (name, kind) in &kinds {
            let value = match kind {
                Kind::Switch => "false",
                Kind::Number => "7",
                Kind::Size => "\"7K\"",
                Kind::Time => "\"7s\"",
                Kind::List => "[\"a\"]",
                Kind::Text => "\"a\"",
            };
            assert!(parse(&format!("{name} = {value}")).unwrap().get(name).is_some(), "{name}");
        }
    }
}
