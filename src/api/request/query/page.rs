//! The link to the next page of a listing.

use axum::http::HeaderValue;
use axum::http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Query;

/// All but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The next page as a `Link` header has it: the same request after the last name of this one.
pub fn next_page(head: &Parts, query: &Query<'_>, last: &str) -> Option<HeaderValue> {
    let encoded = |text| utf8_percent_encode(text, ENCODED);
    let mut url = format!("<{}?", head.uri.path());
    for (name, value) in query.given().filter(|(name, _)| *name != "after") {
        url.push_str(name);
        if let Some(value) = value {
            url.extend(["="].into_iter().chain(encoded(value)));
        }
        url.push('&');
    }
    url.push_str("after=");
    url.extend(encoded(last));
    url.push_str(">; rel=\"next\"");
    HeaderValue::try_from(url).ok()
}
