//! The link to the next page of a listing.

use axum::http::HeaderValue;
use axum::http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Query;

/// All but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How many items of a page are counted before other tasks get a turn.
const ITEMS_A_TURN: u64 = 4096;

/// The page after that of so many of these names, as a `Link` header has it; `None` without a limit, and where nothing comes
/// after it.
pub async fn next_page<N: AsRef<str>>(
    head: &Parts,
    query: &Query<'_>,
    limit: Option<u64>,
    names: impl Iterator<Item = N>,
) -> Option<HeaderValue> {
    let last = last_of_page(names, limit?).await?;
    link(head, query, last.as_ref())
}

/// The last name of a page, where there is more after it.
async fn last_of_page<N>(mut names: impl Iterator<Item = N>, limit: u64) -> Option<N> {
    let mut last = None;
    for count in 1..=limit {
        last = Some(names.next()?);
        if count % ITEMS_A_TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
    last.filter(|_| names.next().is_some())
}

/// The same request after the last name of this page.
fn link(head: &Parts, query: &Query<'_>, last: &str) -> Option<HeaderValue> {
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
