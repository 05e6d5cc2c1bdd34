//! Conditional requests (RFC 9110, 13): `If-Match`, `If-None-Match`, and `?cas=` for those who find headers clumsy.
//!
//! The ETag of a key is its `modify_index` in quotes. Other tags are legal and match nothing.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};

use crate::api::request::query::Query;
use crate::api::response::error::ApiError;
use crate::command::Condition;

/// The tags of one header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// `*`: whatever is there.
    Any,
    /// Indexes.
    These(Vec<u64>),
}

impl Tags {
    /// Whether what was last changed at `index` is meant; `None`: nothing is there.
    pub fn match_index(&self, index: Option<u64>) -> bool {
        match (self, index) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::These(indexes), Some(index)) => indexes.contains(&index),
        }
    }
}

/// `If-Match`, compared strongly: a weak tag matches nothing.
pub fn if_match(headers: &HeaderMap) -> Result<Option<Tags>, ApiError> {
    tags(headers, header::IF_MATCH, false)
}

/// `If-None-Match`, compared weakly.
pub fn if_none_match(headers: &HeaderMap) -> Result<Option<Tags>, ApiError> {
    tags(headers, header::IF_NONE_MATCH, true)
}

/// What a write demands of its key.
pub fn of_write(head: &Parts, query: &Query<'_>) -> Result<Vec<Condition>, ApiError> {
    let (is, is_not) = (if_match(&head.headers)?, if_none_match(&head.headers)?);
    if let Some(index) = query.index("cas")? {
        if is.is_some() || is_not.is_some() {
            return Err(ApiError::BadRequest(
                "there is cas= and If-Match or If-None-Match; give the condition in one form".to_owned(),
            ));
        }
        return Ok(vec![if index == 0 { Condition::Missing } else { Condition::ModifiedBy(vec![index]) }]);
    }
    let is = is.map(|tags| match tags {
        Tags::Any => Condition::Exists,
        Tags::These(indexes) => Condition::ModifiedBy(indexes),
    });
    let is_not = is_not.map(|tags| match tags {
        Tags::Any => Condition::Missing,
        Tags::These(indexes) => Condition::NotModifiedBy(indexes),
    });
    Ok(is.into_iter().chain(is_not).collect())
}

/// Refuses conditions where none can be kept: a write that was to depend on one must not be done without.
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
        let text = value.to_str().map_err(|_| bad())?;
        let these = match list(text, weak_count).ok_or_else(bad)? {
            Tags::Any if found.is_none() => Tags::Any,
            Tags::These(mut indexes) => match found {
                None => Tags::These(indexes),
                Some(Tags::These(before)) => {
                    indexes.extend(before);
                    Tags::These(indexes)
                }
                Some(Tags::Any) => return Err(bad()),
            },
            Tags::Any => return Err(bad()),
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
        let query = Query::parse(query, &["cas"]).unwrap();
        of_write(&head, &query).map_err(|error| format!("{error:?}"))
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
        assert!(conditions(None, &[("if-none-match", "*"), ("if-none-match", "\"1\"")]).is_err());
        for both in ["if-match", "if-none-match"] {
            assert!(conditions(Some("cas=1"), &[(both, "*")]).unwrap_err().contains("one form"));
        }
    }
}
