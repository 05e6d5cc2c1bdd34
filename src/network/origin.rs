//! Refuses requests at the Raft port that a web page may have sent.
//!
//! A page can make a browser send a POST with any body to any address, this machine's loopback included, without being
//! asked by the receiver (`no-cors`). Browsers add headers to such a request that no node sends: `Origin`, `Sec-Fetch-*`,
//! and a content type of the page's choice among a few. The Raft port has a content type of its own.
//!
//! Caveat: a request without a content type is taken, because nodes of earlier versions send none.

use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HeaderMap, ORIGIN};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// The content type of messages between nodes.
pub(super) const RAFT_CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.hraftd.raft");

/// Answers a request that a browser sent with 403, one of another content type with 415; passes the others on.
pub(super) async fn refuse_browsers(request: Request, next: Next) -> Response {
    match refusal(request.headers()) {
        Some(status) => {
            tracing::debug!(%status, "refused what no node sends");
            status.into_response()
        }
        None => next.run(request).await,
    }
}

fn refusal(headers: &HeaderMap) -> Option<StatusCode> {
    if headers.contains_key(ORIGIN) || headers.keys().any(|name| name.as_str().starts_with("sec-fetch-")) {
        return Some(StatusCode::FORBIDDEN);
    }
    let foreign = headers.get(CONTENT_TYPE).is_some_and(|given| given != RAFT_CONTENT_TYPE);
    foreign.then_some(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 18, B2: the Raft port took what a web page sent, whatever its `Origin`.
    #[test]
    fn what_a_web_page_can_send_is_refused() {
        for (name, value, wanted) in [
            ("origin", "http://evil.example", Some(StatusCode::FORBIDDEN)),
            ("origin", "null", Some(StatusCode::FORBIDDEN)),
            ("sec-fetch-site", "cross-site", Some(StatusCode::FORBIDDEN)),
            ("sec-fetch-mode", "no-cors", Some(StatusCode::FORBIDDEN)),
            ("content-type", "text/plain", Some(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
            ("content-type", "application/x-www-form-urlencoded", Some(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
            ("content-type", "application/vnd.hraftd.raft", None),
            ("user-agent", "anything", None),
        ] {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static(value))]);
            assert_eq!(refusal(&headers), wanted, "{name}: {value}");
        }
    }
}
