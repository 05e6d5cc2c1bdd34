//! Query parameters: each endpoint declares a struct, and nothing but its fields may be given.
//!
//! A typing error must not become another request: unknown names, repeated names and values that do
//! not fit are refused, with the name of the parameter.
//!
//! Values are encoded as every client's query encoder writes them (`+` is a space, `%2B` a plus).
//!
//! How the type of a field reads its value:
//!
//! * `bool`: a switch, which takes no value, `1` or `true`.
//! * `String`: any value, the empty one too; [`non_empty`] refuses that.
//! * `i64`, [`number`], [`duration_within`]: a value that is one of these.
//! * an enum: one of its names.
//! * `Vec`: the only one that may be given more than once.

mod fields;
mod page;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Deserializer;
use serde::de::{DeserializeOwned, Visitor};

use crate::api::request::key_path::percent_decode;
use crate::api::response::error::ApiError;
use crate::api::response::text;
use crate::duration::parse_duration;
use fields::{Fields, QueryError, names_of};
pub use page::next_page;

/// Reads the parameters of a request that takes `P` and nothing else.
pub fn parse<P: Parameters>(raw: Option<&str>) -> Result<P, ApiError> {
    Query::parse::<P>(raw)?.read()
}

/// The parameters of a request: a tuple of structs whose fields they are.
pub trait Parameters: Sized {
    /// All names, in the order in which messages list them.
    fn names() -> impl Iterator<Item = &'static str>;

    /// Reads the values.
    fn read(query: &Query<'_>) -> Result<Self, ApiError>;
}

macro_rules! parameters {
    ($($part:ident)*) => {
        impl<$($part: DeserializeOwned),*> Parameters for ($($part,)*) {
            fn names() -> impl Iterator<Item = &'static str> {
                std::iter::empty()$(.chain(names_of::<$part>().iter().copied()))*
            }

            fn read(_query: &Query<'_>) -> Result<Self, ApiError> {
                Ok(($(_query.read_struct::<$part>()?,)*))
            }
        }
    };
}

parameters!();
parameters!(A);
parameters!(A B);
parameters!(A B C);
parameters!(A B C D);

/// The parameters that were given, in their order; every name is known.
#[derive(Debug, Default)]
pub struct Query<'a> {
    given: Vec<(&'static str, Option<Cow<'a, str>>)>,
}

impl<'a> Query<'a> {
    /// Takes the raw query apart; only the names in `P` may be in it.
    pub fn parse<P: Parameters>(raw: Option<&'a str>) -> Result<Self, ApiError> {
        let mut query = Self::default();
        for part in raw.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (decode(name, part)?, Some(decode(value, part)?)),
                None => (decode(part, part)?, None),
            };
            let Some(name) = P::names().find(|known| *known == name) else {
                return Err(unknown(&name, &P::names().collect::<Vec<_>>()));
            };
            query.given.push((name, value));
        }
        Ok(query)
    }

    /// Reads the values.
    pub fn read<P: Parameters>(&self) -> Result<P, ApiError> {
        P::read(self)
    }

    /// All that was given, in its order.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        self.given.iter().map(|(name, value)| (*name, value.as_deref()))
    }

    fn read_struct<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        T::deserialize(Fields::of_struct::<T>(self)).map_err(|QueryError { why, .. }| ApiError::BadRequest(why))
    }
}

/// Tells whether a request has this parameter, in whatever spelling.
pub fn names(raw: Option<&str>, parameter: &str) -> bool {
    let parts = raw.into_iter().flat_map(|raw| raw.split('&'));
    let mut names = parts.map(|part| part.split_once('=').map_or(part, |(name, _)| name));
    names.any(|name| decode(name, name).is_ok_and(|name| name == parameter))
}

fn decode<'a>(raw: &'a str, part: &str) -> Result<Cow<'a, str>, ApiError> {
    let spaced = if raw.contains('+') { Cow::Owned(raw.replace('+', " ")) } else { Cow::Borrowed(raw) };
    match &spaced {
        Cow::Borrowed(raw) => percent_decode(raw),
        Cow::Owned(spaced) => percent_decode(spaced).map(|text| Cow::Owned(text.into_owned())),
    }
    .map_err(|why| ApiError::BadRequest(format!("the query parameter {} {why}", text::quoted(part))))
}

fn unknown(name: &str, known: &[&str]) -> ApiError {
    ApiError::BadRequest(if known.is_empty() {
        format!("unknown query parameter {}; this request takes none", text::quoted(name))
    } else {
        format!("unknown query parameter {}; this request takes {}", text::quoted(name), known.join(", "))
    })
}

/// A field that is made of a text which is not empty; an error of `parse` follows `name=value`.
///
/// # Errors
/// The value is missing, empty, or not what `parse` takes.
pub fn text_with<'de, D: Deserializer<'de>, T>(
    value: D,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    struct Parse<F>(F);

    impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for Parse<F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            (self.0)(text).map_err(E::custom)
        }
    }

    // What asks for a str gets one that is not empty; see `Value`.
    value.deserialize_str(Parse(parse)).map(Some)
}

/// A field that is a text and not the empty one.
pub fn non_empty<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    text_with(value, |text| Ok(text.to_owned()))
}

/// A field that is a number without a sign; `what` names it in the message.
pub fn number<'de, D: Deserializer<'de>>(value: D, what: &str) -> Result<Option<u64>, D::Error> {
    text_with(value, |text| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits).ok_or_else(|| format!(" is not {what}"))
    })
}

/// A field that is a log index.
pub fn index<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    number(value, "a log index")
}

/// A field that is a duration which `check` takes.
pub fn duration_where<'de, D: Deserializer<'de>>(
    value: D,
    check: impl FnOnce(Duration) -> Result<(), String>,
) -> Result<Option<Duration>, D::Error> {
    text_with(value, |text| {
        let duration = parse_duration(text).map_err(|why| format!(": {why}"))?;
        check(duration).map(|()| duration)
    })
}

/// A field that is any duration.
pub fn duration<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    duration_where(value, |_| Ok(()))
}

/// A field that is a duration between two others.
pub fn duration_within<'de, D: Deserializer<'de>>(
    value: D,
    least: Duration,
    most: Duration,
) -> Result<Option<Duration>, D::Error> {
    duration_where(value, |duration| {
        if (least..=most).contains(&duration) {
            return Ok(());
        }
        Err(format!(" is not between {} and {}", text::duration(least), text::duration(most)))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Timing {
        #[serde(deserialize_with = "within_a_minute")]
        timeout: Option<Duration>,
        force: bool,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Others {
        level: Option<String>,
        #[serde(deserialize_with = "non_empty")]
        name: Option<String>,
        #[serde(deserialize_with = "index")]
        at: Option<u64>,
        by: Option<i64>,
        key: Vec<String>,
        colour: Option<Colour>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Colour {
        Red,
        Blue,
    }

    fn within_a_minute<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
        duration_within(value, Duration::from_millis(1), Duration::from_secs(60))
    }

    fn read(raw: &str) -> Result<(Timing, Others), String> {
        parse(Some(raw)).map_err(|error| match error {
            ApiError::BadRequest(msg) => msg,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn good_queries() {
        let nothing = (Timing::default(), Others::default());
        assert_eq!(parse::<(Timing, Others)>(None).unwrap(), nothing);
        assert_eq!(read("&&").unwrap(), nothing);
        let (timing, others) = read("level=no%6Ee&&%66orce&timeout=150ms&at=7&by=-7&colour=blue").unwrap();
        assert_eq!(timing, Timing { timeout: Some(Duration::from_millis(150)), force: true });
        assert_eq!((others.level.as_deref(), others.at, others.by), (Some("none"), Some(7), Some(-7)));
        assert_eq!(others.colour, Some(Colour::Blue));
        assert_eq!(read("level=").unwrap().1.level.as_deref(), Some(""));
        assert_eq!(read("level=a+b%2Bc").unwrap().1.level.as_deref(), Some("a b+c"));
        for on in ["force", "force=1", "force=true"] {
            assert!(read(on).unwrap().0.force, "{on}");
        }
        assert_eq!(read("key=b&force&key=a&key").unwrap().1.key, ["b", "a", ""]);
        let query = Query::parse::<(Timing, Others)>(Some("level=b+c&force")).unwrap();
        assert_eq!(query.given().collect::<Vec<_>>(), [("level", Some("b c")), ("force", None)]);
    }

    #[test]
    fn bad_queries_name_the_parameter() {
        for (raw, part) in [
            ("levle=none", "unknown query parameter \"levle\"; this request takes timeout, force, level, name"),
            ("Level=none", "\"Level\""),
            ("=1", "\"\""),
            ("force&level=a&force", "force is repeated"),
            ("level=a&%6cevel=a", "level is repeated"),
            ("at=1&at=1", "at is repeated"),
            ("level=%", "\"level=%\""),
            ("level=%ff", "UTF-8"),
            ("force=", "switch"),
            ("force=0", "switch"),
            ("force=false", "switch"),
            ("force=TRUE", "switch"),
            ("level", "level needs a value, which may be empty: level="),
            ("name", "name needs a value: name=…"),
            ("name=", "name needs a value: name=…"),
            ("at=-1", "at=-1 is not a log index"),
            ("at=18446744073709551616", "at=18446744073709551616 is not a log index"),
            ("by=1.5", "by=1.5 is not an integer of 64 bits"),
            ("colour=pink", "colour=pink is not one of red, blue"),
            ("colour=", "colour needs a value"),
            ("timeout", "timeout needs a value"),
            ("timeout=", "timeout needs a value"),
            ("timeout=0s", "timeout=0s is not between 1ms and 1m"),
            ("timeout=61s", "timeout=61s is not between"),
            ("timeout=10", "timeout=10: the unit is missing"),
            ("timeout=1.5s", "timeout=1.5s: not a duration"),
        ] {
            let msg = read(raw).unwrap_err();
            assert!(msg.contains(part), "{raw}: {msg}");
        }
        let ApiError::BadRequest(msg) = parse::<()>(Some("a")).unwrap_err() else { panic!() };
        assert_eq!(msg, "unknown query parameter \"a\"; this request takes none");
    }

    #[test]
    fn a_name_has_many_spellings() {
        for raw in ["verbose", "a&verbose=false", "%76erbose", "verbos%65=true&a", "verbose&verbose"] {
            assert!(names(Some(raw), "verbose"), "{raw}");
        }
        for raw in ["verbos", "a=verbose", "verbose%", "+verbose", ""] {
            assert!(!names(Some(raw), "verbose"), "{raw}");
        }
        assert!(!names(None, "verbose"));
    }

    #[test]
    fn what_is_refused_is_not_sent_back_whole() {
        assert!(read(&format!("at={}", "x".repeat(5000))).unwrap_err().len() < 400);
    }
}
