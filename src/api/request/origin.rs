//! Requests that a web page made a browser send. There is no authentication, so a page on another
//! site could otherwise write here (cross-site request), or read here under a name of its own (DNS
//! rebinding).
//!
//! `curl` and the like send no `Origin` and are not touched, nor is a client of HTTP/1.0 without
//! `Host`.

use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Version};

use crate::api::response::error::ApiError;
use crate::api::response::text;
use crate::node_id;

/// Refuses a request that a web page of another site made.
pub fn check(head: &Parts, loopback_only: bool) -> Result<(), ApiError> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return bad("there are several Host headers; a request has one (RFC 9112, 3.2)"),
        (None, _) if head.version == Version::HTTP_11 => {
            return bad("there is no Host header; a request of HTTP/1.1 has one (RFC 9112, 3.2)");
        }
        (Some(host), None) => Some(as_str(host)?),
        (None, _) => head.uri.authority().map(|authority| authority.as_str()),
    };
    if loopback_only
        && let Some(host) = host
        && !is_loopback(host)
    {
        return Err(ApiError::Forbidden(format!(
            "this node listens on loopback only and {} is another host; call it localhost or 127.0.0.1, or start it \
             with another --haddr",
            text::quoted(host)
        )));
    }
    for origin in head.headers.get_all(ORIGIN) {
        let origin = as_str(origin)?;
        if !host.is_some_and(|host| same_host(origin, host)) {
            return Err(ApiError::Forbidden(format!(
                "a page of {} may not use this node; only pages it served itself may",
                text::quoted(origin)
            )));
        }
    }
    Ok(())
}

fn bad<T>(why: &str) -> Result<T, ApiError> {
    Err(ApiError::BadRequest(why.to_owned()))
}

fn as_str(value: &HeaderValue) -> Result<&str, ApiError> {
    value.to_str().map_err(|_| ApiError::BadRequest("the header Host or Origin is not ASCII".to_owned()))
}

fn is_loopback(authority: &str) -> bool {
    node_id::split(authority).is_ok_and(|(host, _port)| node_id::is_loopback(host))
}

fn same_host(origin: &str, host: &str) -> bool {
    let (origin, default_port) = match (origin.strip_prefix("http://"), origin.strip_prefix("https://")) {
        (Some(rest), _) => (rest, ":80"),
        (_, Some(rest)) => (rest, ":443"),
        _ => return false,
    };
    let bare = |authority: &str| authority.strip_suffix(default_port).unwrap_or(authority).to_ascii_lowercase();
    bare(origin) == bare(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn allowed(host: Option<&str>, origin: Option<&str>, loopback_only: bool) -> bool {
        let mut request = Request::builder().uri("/");
        request = match host {
            Some(host) => request.header(HOST, host),
            None => request.version(Version::HTTP_10),
        };
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        check(&request.body(()).unwrap().into_parts().0, loopback_only).is_ok()
    }

    #[test]
    fn hosts_on_a_loopback_bind() {
        let good = ["localhost", "LocalHost:11000", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:11000"];
        for host in good {
            assert!(allowed(Some(host), None, true), "{host}");
        }
        let bad = ["", "evil.example", "evil.example:11000", "localhost.evil.example", "127.0.0.1.evil.example"];
        for host in bad.into_iter().chain(["192.168.0.1:11000", "[::2]:80", "::1", "localhost:x", "localhost@evil:1"]) {
            assert!(!allowed(Some(host), None, true), "{host}");
            assert!(allowed(Some(host), None, false), "{host}");
        }
        assert!(allowed(None, None, true), "HTTP/1.0 without Host");
    }

    #[test]
    fn origins() {
        let cases = [
            ("http://n1:11000", "n1:11000", true),
            ("https://N1:11000", "n1:11000", true),
            ("http://n1", "n1:80", true),
            ("https://n1", "n1", true),
            ("http://[::1]:11000", "[::1]:11000", true),
            ("http://n1:11001", "n1:11000", false),
            ("https://n1", "n1:80", false),
            ("http://evil.example", "n1:11000", false),
            ("http://n1:11000.evil.example", "n1:11000", false),
            ("null", "n1:11000", false),
            ("", "n1:11000", false),
            ("n1:11000", "n1:11000", false),
        ];
        for (origin, host, same) in cases {
            assert_eq!(allowed(Some(host), Some(origin), false), same, "{origin} {host}");
        }
        assert!(!allowed(None, Some("http://n1:11000"), false));
    }
}
