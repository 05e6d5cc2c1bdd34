//! Query parameters, each known and given once: a typo must not become another request.
//!
//! Encoded as every client's query encoder writes them (`+` is a space here, `%2B` a plus).

use std::borrow::Cow;
use std::time::Duration;

use crate::api::request::key_path::percent_decode;
use crate::api::response::error::ApiError;
use crate::api::response::text;
use crate::duration::parse_duration;

/// The parameters of one request.
#[derive(Debug, Default)]
pub struct Query<'a> {
    given: Vec<(&'static str, Option<Cow<'a, str>>)>,
}

impl<'a> Query<'a> {
    /// Parses the raw query; only the `known` names may be in it.
    pub fn parse(raw: Option<&'a str>, known: &[&'static str]) -> Result<Self, ApiError> {
        Self::parse_repeatable(raw, known, None)
    }

    /// As [`parse`](Self::parse), with one name that may be given more than once: [`values`](Self::values).
    pub fn parse_repeatable(
        raw: Option<&'a str>,
        known: &[&'static str],
        repeatable: Option<&str>,
    ) -> Result<Self, ApiError> {
        let mut query = Self::default();
        for part in raw.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (decode(name, part)?, Some(decode(value, part)?)),
                None => (decode(part, part)?, None),
            };
            let Some(&name) = known.iter().find(|&&known| known == name) else {
                return Err(unknown(&name, known));
            };
            if repeatable != Some(name) && query.get(name).is_some() {
                return bad(format!("the query parameter {name} is repeated; give it once"));
            }
            query.given.push((name, value));
        }
        Ok(query)
    }

    fn get(&self, name: &str) -> Option<Option<&str>> {
        self.given.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_deref())
    }

    /// A parameter that needs a value.
    pub fn value(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(None | Some("")) => bad(format!("the query parameter {name} needs a value: {name}=…")),
            Some(value) => Ok(value),
        }
    }

    /// A parameter that needs a value, which may be empty.
    pub fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.get(name) {
            Some(None) => bad(format!("the query parameter {name} needs a value, which may be empty: {name}=")),
            given => Ok(given.flatten()),
        }
    }

    /// All values of a parameter that may be repeated.
    pub fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.given().filter(move |(given, _)| *given == name).map(|(_, value)| value.unwrap_or_default())
    }

    /// All that was given, in its order.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        self.given.iter().map(|(name, value)| (*name, value.as_deref()))
    }

    /// A parameter that is either there or not.
    pub fn switch(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None => Ok(false),
            Some(None | Some("1" | "true")) => Ok(true),
            Some(Some(value)) => bad(format!(
                "the query parameter {name} is a switch: it takes no value, 1 or true, not {}; leave it out for no",
                text::quoted(value)
            )),
        }
    }

    /// A parameter that is a duration.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        let Some(value) = self.value(name)? else { return Ok(None) };
        parse_duration(value).map(Some).map_err(|why| ApiError::BadRequest(format!("{name}={value}: {why}")))
    }

    /// A parameter that is a log index.
    pub fn index(&self, name: &str) -> Result<Option<u64>, ApiError> {
        self.number(name, "a log index")
    }

    /// A parameter that is a number without a sign; `what` it is otherwise not.
    pub fn number(&self, name: &str, what: &str) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.value(name)? else { return Ok(None) };
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        let number = value.parse().ok().filter(|_| digits);
        number.map(Some).ok_or_else(|| ApiError::BadRequest(format!("{name}={value} is not {what}")))
    }

    /// A parameter that is a whole number, with a sign or without.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.value(name)? else { return Ok(None) };
        value
            .parse()
            .map(Some)
            .map_err(|_| ApiError::BadRequest(format!("{name}={} is not an integer of 64 bits", text::quoted(value))))
    }

    /// A parameter that is a duration between two others.
    pub fn duration_within(&self, name: &str, least: Duration, most: Duration) -> Result<Option<Duration>, ApiError> {
        match self.duration(name)? {
            Some(duration) if duration < least || duration > most => bad(format!(
                "{name}={} is not between {} and {}",
                text::go_duration(duration),
                text::go_duration(least),
                text::go_duration(most)
            )),
            duration => Ok(duration),
        }
    }

    /// `timeout=`, more than nothing and at most `most`.
    pub fn timeout(&self, default: Duration, most: Duration) -> Result<Duration, ApiError> {
        let Some(duration) = self.duration("timeout")? else {
            return Ok(default);
        };
        if duration.is_zero() || duration > most {
            return bad(format!(
                "timeout={} is not more than 0 and at most {}",
                text::go_duration(duration),
                text::go_duration(most)
            ));
        }
        Ok(duration)
    }
}

fn bad<T>(msg: String) -> Result<T, ApiError> {
    Err(ApiError::BadRequest(msg))
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

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["level", "timeout", "force"];

    fn message<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
        match result {
            Err(ApiError::BadRequest(msg)) => msg,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn good_queries() {
        let query = Query::parse(Some("level=no%6Ee&&%66orce&"), KNOWN).unwrap();
        assert_eq!(query.value("level").unwrap(), Some("none"));
        assert_eq!(query.value("timeout").unwrap(), None);
        assert_eq!((query.text("level").unwrap(), query.text("timeout").unwrap()), (Some("none"), None));
        assert_eq!(Query::parse(Some("level="), KNOWN).unwrap().text("level").unwrap(), Some(""));
        assert!(query.switch("force").unwrap());
        assert!(!Query::parse(None, KNOWN).unwrap().switch("force").unwrap());
        for on in ["force", "force=1", "force=true"] {
            assert!(Query::parse(Some(on), KNOWN).unwrap().switch("force").unwrap(), "{on}");
        }
        let spaced = Query::parse(Some("level=a+b%2Bc"), KNOWN).unwrap();
        assert_eq!(spaced.value("level").unwrap(), Some("a b+c"));
    }

    #[test]
    fn values_that_are_empty_or_repeated() {
        let query = |raw| Query::parse_repeatable(Some(raw), KNOWN, Some("level")).unwrap();
        assert_eq!(query("level=").text("level").unwrap(), Some(""));
        assert_eq!(query("force").text("level").unwrap(), None);
        assert!(message(query("level").text("level")).contains("level="));
        assert_eq!(query("level=b&force&level=a&level").values("level").collect::<Vec<_>>(), ["b", "a", ""]);
        assert_eq!(query("").values("level").count(), 0);
        let given = [("level", Some("b c")), ("force", None)];
        assert_eq!(query("level=b+c&force").given().collect::<Vec<_>>(), given);
        assert!(message(Query::parse_repeatable(Some("force&force"), KNOWN, Some("level"))).contains("force"));
    }

    #[test]
    fn bad_queries_name_the_parameter() {
        let cases = [
            ("levle=none", "\"levle\""),
            ("Level=none", "\"Level\""),
            ("=1", "\"\""),
            ("force&level=a&force", "force is repeated"),
            ("level=a&%6cevel=a", "level is repeated"),
            ("level=%", "\"level=%\""),
            ("level=%ff", "UTF-8"),
        ];
        for (raw, part) in cases {
            let msg = message(Query::parse(Some(raw), KNOWN));
            assert!(msg.contains(part), "{raw}: {msg}");
        }
        for off in ["force=", "force=0", "force=false", "force=TRUE", "force=yes"] {
            assert!(message(Query::parse(Some(off), KNOWN).unwrap().switch("force")).contains("force"), "{off}");
        }
        assert!(message(Query::parse(Some("level"), KNOWN).unwrap().text("level")).contains("level="));
        for empty in ["level", "level="] {
            assert!(message(Query::parse(Some(empty), KNOWN).unwrap().value("level")).contains("level"), "{empty}");
        }
    }

    #[test]
    fn timeouts() {
        let (ten, sixty) = (Duration::from_secs(10), Duration::from_secs(60));
        let timeout = |raw| Query::parse(raw, KNOWN).unwrap().timeout(ten, sixty);
        assert_eq!(timeout(None).unwrap(), ten);
        assert_eq!(timeout(Some("timeout=1m")).unwrap(), sixty);
        assert_eq!(timeout(Some("timeout=150ms")).unwrap(), Duration::from_millis(150));
        for bad in ["timeout", "timeout=", "timeout=0s", "timeout=61s", "timeout=10", "timeout=-1s", "timeout=1.5s"] {
            assert!(message(timeout(Some(bad))).contains("timeout"), "{bad}");
        }
        assert!(message(timeout(Some("timeout=2m"))).contains("at most 1m0s"));
    }
}
