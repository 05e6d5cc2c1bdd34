//! One setting as it was given: the text, and whether a flag, the environment or the configuration file gave it.
//!
//! A flag beats the environment, and that the file. An empty variable counts as unset; an empty flag is a value, and mostly
//! a bad one.

pub(super) mod file;
pub(super) mod unknown;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

use crate::exit::Exit;
use file::ConfigFile;

/// Looks up a variable of the environment.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What gave a setting its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The command line.
    Flag,
    /// The environment.
    Env,
    /// The configuration file.
    File,
}

/// A value with its origin, for error lines: prints as `--haddr :11000`, `HRAFTD_HADDR=:11000` or
/// `hraftd.toml line 3: haddr = :11000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// The flag with its dashes, or the variable; of a file its name, the line and the key.
    pub name: String,
    /// The value as it was given.
    pub text: String,
    /// What gave it.
    pub origin: Origin,
}

/// All that gives settings their values beside the command line, and what was found there.
pub(super) struct Sources<'a> {
    /// The environment.
    pub env: Env<'a>,
    /// The configuration file; an empty one where none is named.
    pub file: ConfigFile,
    /// Where each flag that has a value has it from.
    pub found: RefCell<BTreeMap<String, String>>,
}

impl<'a> Sources<'a> {
    /// The environment, and a file.
    pub fn new(env: Env<'a>, file: ConfigFile) -> Self {
        Self { env, file, found: RefCell::default() }
    }

    /// The flag's value, else its variable's, else the file's, else none.
    ///
    /// # Errors
    /// The value is not UTF-8.
    pub fn find(&self, flag: &str, typed: Option<OsString>) -> Result<Option<Setting>, Exit> {
        let found = Setting::find(flag, typed, self.env)?.or_else(|| self.file.get(flag));
        if let Some(given) = &found {
            let place = match given.origin {
                Origin::Flag => "the command line".to_owned(),
                Origin::Env => given.name.clone(),
                Origin::File => given.name.rsplit_once(": ").map_or("", |(place, _)| place).to_owned(),
            };
            self.found.borrow_mut().insert(flag.trim_start_matches('-').to_owned(), place);
        }
        Ok(found)
    }
}

impl Setting {
    /// The flag's value, else its variable's, else none. `flag` is `--haddr`; its variable is then `HRAFTD_HADDR`.
    ///
    /// # Errors
    /// The value is not UTF-8.
    pub fn find(flag: &str, typed: Option<OsString>, env: Env<'_>) -> Result<Option<Self>, Exit> {
        match typed {
            Some(value) => Self::new(flag, value, Origin::Flag).map(Some),
            None => Self::in_env(&variable(flag), env),
        }
    }

    /// The value of a variable that has one.
    ///
    /// # Errors
    /// The value is not UTF-8.
    pub fn in_env(name: &str, env: Env<'_>) -> Result<Option<Self>, Exit> {
        env(name).filter(|value| !value.is_empty()).map(|value| Self::new(name, value, Origin::Env)).transpose()
    }

    /// A flag's value as if it had been typed.
    pub fn typed(flag: &str, text: impl Into<String>) -> Self {
        Self { name: flag.to_owned(), text: text.into(), origin: Origin::Flag }
    }

    fn new(name: &str, value: OsString, origin: Origin) -> Result<Self, Exit> {
        let given = |text| Self { name: name.to_owned(), text, origin };
        value.into_string().map(given).map_err(|value| given(lossy(&value)).bad("not UTF-8"))
    }

    /// The error that this value is: names it, and says why it cannot be. 64; 78 where it is from a file.
    pub fn bad(&self, why: impl fmt::Display) -> Exit {
        let line = format!("{self}: {why}");
        if self.origin == Origin::File { Exit::config(line) } else { Exit::usage(line) }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let odd = self.text.is_empty() || self.text.chars().any(|c| c.is_whitespace() || c.is_control());
        let text = if odd { format!("{:?}", self.text) } else { self.text.clone() };
        write!(f, "{}{}{text}", self.name, if self.origin == Origin::Env { '=' } else { ' ' })
    }
}

/// The variable of a flag: `--read-level` is `HRAFTD_READ_LEVEL`.
pub(super) fn variable(flag: &str) -> String {
    format!("HRAFTD_{}", flag.trim_start_matches('-').replace('-', "_").to_ascii_uppercase())
}

fn lossy(value: &OsStr) -> String {
    value.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_beats_environment_and_empty_is_unset() {
        let env = |name: &str| match name {
            "HRAFTD_READ_LEVEL" => Some(OsString::from("none")),
            "HRAFTD_RDIR" => Some(OsString::new()),
            _ => None,
        };
        let find = |flag, typed: Option<&str>| {
            Setting::find(flag, typed.map(OsString::from), &env).unwrap().map(|given| given.to_string())
        };
        assert_eq!(find("--read-level", Some("x")).as_deref(), Some("--read-level x"));
        assert_eq!(find("--read-level", None).as_deref(), Some("HRAFTD_READ_LEVEL=none"));
        assert_eq!(find("--rdir", None), None);
        assert_eq!(find("--rdir", Some("")).as_deref(), Some("--rdir \"\""));
        assert_eq!(find("--rdir", Some("a b\n")).as_deref(), Some("--rdir \"a b\\n\""));
    }

    #[test]
    fn what_is_not_utf8_is_named() {
        use std::os::unix::ffi::OsStringExt;
        let env = |_: &str| Some(OsString::from_vec(vec![b'a', 0xff]));
        let exit = Setting::find("--haddr", None, &env).unwrap_err();
        assert_eq!(exit, Exit::usage("HRAFTD_HADDR=a\u{fffd}: not UTF-8"));
    }
}
