//! One setting as it was given: the text, and whether a flag or the environment gave it.
//!
//! A flag beats the environment. An empty variable counts as unset; an empty flag is a value, and mostly a bad one.

use std::ffi::{OsStr, OsString};
use std::fmt;

use crate::exit::Exit;

/// Looks up a variable of the environment.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A value with its origin, for error lines: prints as `--haddr :11000` or `HRAFTD_HADDR=:11000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// The flag with its dashes, or the variable.
    pub name: String,
    /// The value as it was given.
    pub text: String,
    from_env: bool,
}

impl Setting {
    /// The flag's value, else its variable's, else none. `flag` is `--haddr`; its variable is then `HRAFTD_HADDR`.
    ///
    /// # Errors
    /// The value is not UTF-8.
    pub fn find(flag: &str, typed: Option<OsString>, env: Env<'_>) -> Result<Option<Self>, Exit> {
        match typed {
            Some(value) => Self::new(flag, value, false).map(Some),
            None => Self::in_env(&variable(flag), env),
        }
    }

    /// The value of a variable that has one.
    ///
    /// # Errors
    /// The value is not UTF-8.
    pub fn in_env(name: &str, env: Env<'_>) -> Result<Option<Self>, Exit> {
        env(name).filter(|value| !value.is_empty()).map(|value| Self::new(name, value, true)).transpose()
    }

    /// A flag's value as if it had been typed.
    pub fn typed(flag: &str, text: impl Into<String>) -> Self {
        Self { name: flag.to_owned(), text: text.into(), from_env: false }
    }

    fn new(name: &str, value: OsString, from_env: bool) -> Result<Self, Exit> {
        let given = |text| Self { name: name.to_owned(), text, from_env };
        value.into_string().map(given).map_err(|value| given(lossy(&value)).bad("not UTF-8"))
    }

    /// The error that this value is: names it, and says why it cannot be. 64.
    pub fn bad(&self, why: impl fmt::Display) -> Exit {
        Exit::usage(format!("{self}: {why}"))
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let odd = self.text.is_empty() || self.text.chars().any(|c| c.is_whitespace() || c.is_control());
        let text = if odd { format!("{:?}", self.text) } else { self.text.clone() };
        write!(f, "{}{}{text}", self.name, if self.from_env { '=' } else { ' ' })
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
