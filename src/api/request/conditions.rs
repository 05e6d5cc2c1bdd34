//! Conditional requests (RFC 9110, 13): `If-Match`, `If-None-Match`, and `?cas=` for those who find
//! headers clumsy.
//!
//! The ETag of a key is its `modify_index` in quotes. Other tags are legal and match nothing.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::request::query;
use crate::api::response::error::ApiError;
use crate::command::Condition;

/// The tags of one header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// `*`: any version.
    Any,
    /// These versions, by `modify_index`.
    These(Vec<u64>),
}

impl Tags {
    /// Tells whether a key that was last changed at `index` is meant; `None`: there is no such key.
    pub fn match_index(&self, index: Option<u64>) -> bool {
        match (self, index) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::These(indexes), Some(index)) => indexes.contains(&index),
        }
    }
}

/// Conditions on one key.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct ConditionHeaders {
    /// ETags of which one must be the key's, or `*`: it exists.
    #[param(rename = "If-Match", value_type = Option<String>, example = "\"17\"")]
    pub if_match: Option<Tags>,
    /// ETags of which none may be the key's, or `*`: it does not exist.
    #[param(rename = "If-None-Match", value_type = Option<String>, example = "*")]
    pub if_none_match: Option<Tags>,
}

/// A condition as a parameter.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct CasParams {
    /// The `modify_index` that the key must have; 0: it must not exist. Not together with the
    /// headers.
    #[serde(deserialize_with = "query::index")]
    #[param(minimum = 0)]
    cas: Option<u64>,
}

impl ConditionHeaders {
    /// Reads them. `If-Match` is compared strongly: a weak tag matches nothing; `If-None-Match` is
    /// compared weakly.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`]: a header is no list of tags.
    pub fn parse(headers: &HeaderMap) -> Result<Self, ApiError> {
        Ok(Self {
            if_match: tags(headers, header::IF_MATCH, false)?,
            if_none_match: tags(headers, header::IF_NONE_MATCH, true)?,
        })
    }
}

/// The conditions of a write on its key.
///
/// # Errors
/// [`ApiError::BadRequest`]: a header is no list of tags, or there is `cas=` too.
pub fn of_write(head: &Parts, cas: &CasParams) -> Result<Vec<Condition>, ApiError> {
    let ConditionHeaders { if_match, if_none_match } = ConditionHeaders::parse(&head.headers)?;
    if let Some(index) = cas.cas {
        if if_match.is_some() || if_none_match.is_some() {
            return Err(ApiError::BadRequest(
                "there is cas= and If-Match or If-None-Match; give the condition in one form".to_owned(),
            ));
        }
        return Ok(vec![if index == 0 { Condition::Missing } else { Condition::ModifiedBy(vec![index]) }]);
    }
    let if_match = if_match.map(|tags| match tags {
        Tags::Any => Condition::Exists,
        Tags::These(indexes) => Condition::ModifiedBy(indexes),
    });
    let if_none_match = if_none_match.map(|tags| match tags {
        Tags::Any => Condition::Missing,
        Tags::These(indexes) => Condition::NotModifiedBy(indexes),
    });
    Ok(if_match.into_iter().chain(if_none_match).collect())
}

/// Refuses conditions where none can be kept: a write that was to depend on one must not be done
/// without.
pub fn none(head: &Parts, instead: &str) -> Result<(), ApiError> {
    match [header::IF_MATCH, header::IF_NONE_MATCH].iter().find(|name| head.headers.contains_key(*name)) {
        Some(name) => Err(ApiError::BadRequest(format!("{name} is about one key; {instead}"))),
        None => Ok(()),
    }
}

fn tags(headers: &HeaderMap, name: HeaderName, weak_count: bool) -> Result<Option<Tags>, ApiError> {
    let mut found = None;
    for value in headers.get_all(&name) {
        let bad = || {
            let shown = String::from_utf8_lossy(value.as_bytes());
            ApiError::BadRequest(format!(
                "{name}: {shown} is not * or a list of ETags such as \"17\" (with the quotes)"
            ))
        };
        let both = || ApiError::BadRequest(format!("{name}: * stands alone; give it once, or ETags"));
        let text = value.to_str().map_err(|_| bad())?;
        let these = match list(text, weak_count).ok_or_else(bad)? {
            Tags::Any if found.is_none() => Tags::Any,
            Tags::These(mut indexes) => match found {
                None => Tags::These(indexes),
                Some(Tags::These(before)) => {
                    indexes.extend(before);
                    Tags::These(indexes)
                }
                Some(Tags::Any) => return Err(both()),
            },
            Tags::Any => return Err(both()),
        };
        found = Some(these);
    }
    Ok(found)
}

/// `*`, or entity tags between commas. A tag may hold commas, but no quotes.
fn list(text: &str, weak_count: bool) -> Option<Tags> {
    let mut rest = text.trim();
    if rest == "*" {
        return Some(Tags::Any);
    }
    let mut indexes = Vec::new();
    loop {
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (tag, after) = quoted.strip_prefix('"')?.split_once('"')?;
        let index = tag.parse::<u64>().ok().filter(|index| index.to_string() == tag);
        indexes.extend(index.filter(|_| weak_count || !weak));
        rest = after.trim_start();
        if rest.is_empty() {
            return Some(Tags::These(indexes));
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn conditions(query: Option<&str>, headers: &[(&str, &str)]) -> Result<Vec<Condition>, String> {
        let mut request = Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let head = request.body(()).unwrap().into_parts().0;
        let (cas,) = query::parse(query).unwrap();
        of_write(&head, &cas).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn what_is_demanded() {
        let modified = |indexes: &[u64]| Condition::ModifiedBy(indexes.to_vec());
        let not_modified = |indexes: &[u64]| Condition::NotModifiedBy(indexes.to_vec());
        for (query, headers, wanted) in [
            (None, vec![], vec![]),
            (Some("cas=17"), vec![], vec![modified(&[17])]),
            (Some("cas=0"), vec![], vec![Condition::Missing]),
            (None, vec![("if-match", "\"17\"")], vec![modified(&[17])]),
            (None, vec![("if-match", "*")], vec![Condition::Exists]),
            (None, vec![("if-match", " \"1\" ,\"x,y\",W/\"3\", \"04\",\"5\"")], vec![modified(&[1, 5])]),
            (None, vec![("if-match", "\"1\""), ("if-match", "\"2\"")], vec![modified(&[2, 1])]),
            (None, vec![("if-none-match", "*")], vec![Condition::Missing]),
            (None, vec![("if-none-match", "W/\"3\",\"\"")], vec![not_modified(&[3])]),
            (None, vec![("if-match", "*"), ("if-none-match", "\"9\"")], vec![Condition::Exists, not_modified(&[9])]),
        ] {
            assert_eq!(conditions(query, &headers), Ok(wanted), "{query:?} {headers:?}");
        }
    }

    #[test]
    fn what_makes_no_sense() {
        for value in ["", "17", "\"17", "17\"", "\"1\" \"2\"", "\"1\",", "*, \"1\"", "w/\"1\"", ",\"1\""] {
            let found = conditions(None, &[("if-match", value)]);
            assert!(found.as_ref().is_err_and(|error| error.contains("if-match")), "{value}: {found:?}");
        }
        for (first, second) in [("*", "\"1\""), ("\"1\"", "*"), ("*", "*")] {
            let found = conditions(None, &[("if-none-match", first), ("if-none-match", second)]);
            assert!(found.unwrap_err().contains("stands alone"), "{first} {second}");
        }
        for both in ["if-match", "if-none-match"] {
            assert!(conditions(Some("cas=1"), &[(both, "*")]).unwrap_err().contains("one form"));
        }
    }
}
