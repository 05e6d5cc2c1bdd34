//! Requests that a web page made a browser send. Browsers add what they know of a node to them by themselves: a session,
//! a password, a certificate; and where there is no authentication nothing is needed. So a page of another site could
//! otherwise write here (cross-site request), or read here under a name of its own (DNS rebinding).
//!
//! `curl` and the like send no `Origin` and are not touched, nor is a client of HTTP/1.0 without
//! `Host`. In HTTP/2 `:authority` is the host.

use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, Version};

use crate::api::request::hosts::Hosts;
use crate::api::response::error::ApiError;
use crate::api::response::text;
use crate::http::UnderTls;

const SEC_FETCH_SITE: &str = "sec-fetch-site";

const SEC_FETCH_MODE: &str = "sec-fetch-mode";

/// Pages send it: in plain text browsers say nothing of their own.
const REQUESTED_WITH: &str = "x-requested-with";

/// Whether a browser sends it for a page, and not because somebody opened an address: a login box is of no use then.
pub fn is_by_script<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    headers.contains_key(REQUESTED_WITH) || headers.get(SEC_FETCH_MODE).is_some_and(|mode| mode != "navigate")
}

/// Refuses a request that a web page of another site made.
pub fn check(head: &Parts, allowed: &Hosts) -> Result<(), ApiError> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return bad("there are several Host headers; a request has one (RFC 9112, 3.2)"),
        (None, _) if head.version == Version::HTTP_11 => {
            return bad("there is no Host header; a request of HTTP/1.1 has one (RFC 9112, 3.2)");
        }
        (Some(host), None) => Some(as_str(host)?),
        (None, _) => None,
    };
    // A target in absolute form names a host too, and it is the one that counts (RFC 9112, 3.2.2).
    let named = head.uri.authority().map(|authority| authority.as_str());
    // In HTTP/2 that is how the host is named (RFC 9113, 8.3.1).
    let host = match (host, named) {
        _ if head.version != Version::HTTP_2 => host,
        (None, None) => {
            return bad("there is neither :authority nor Host; a request of HTTP/2 has one (RFC 9113, 8.3.1)");
        }
        (Some(host), Some(named)) if !host.eq_ignore_ascii_case(named) => {
            return bad("Host and :authority differ (RFC 9113, 8.3.1)");
        }
        (_, Some(named)) if named.contains('@') => {
            return bad(":authority names a user, and may have none (RFC 9113, 8.3.1)");
        }
        (host, named) => host.or(named),
    };
    for host in host.into_iter().chain(named) {
        if let Err(why) = allowed.check(host) {
            return Err(ApiError::Forbidden(format!("{} {why}", text::quoted(host))));
        }
    }
    if is_visit(head) {
        return Ok(());
    }
    // Browsers of today say on whose behalf they ask, also where they send no Origin: for an image, say.
    if head.headers.get_all(SEC_FETCH_SITE).iter().any(|site| site != "same-origin" && site != "none") {
        return Err(ApiError::OtherSite(
            "a page of another site may not use this node; only pages it served itself may (Sec-Fetch-Site)".to_owned(),
        ));
    }
    for origin in head.headers.get_all(ORIGIN) {
        let origin = as_str(origin)?;
        // A page in plain text is of another site than the same host under TLS: anybody on the way may have written it.
        let is_weaker = head.extensions.get::<UnderTls>().is_some() && !origin.starts_with("https://");
        if is_weaker || !host.is_some_and(|host| same_host(origin, host)) {
            return Err(ApiError::OtherSite(format!(
                "a page of {} may not use this node; only pages it served itself may",
                text::quoted(origin)
            )));
        }
    }
    Ok(())
}

/// Somebody follows a link to the page that this node serves, perhaps from that of another member. The page itself shows
/// nothing of what is stored, and lets itself be framed by nobody.
fn is_visit(head: &Parts) -> bool {
    let is = |name: &str, value: &str| head.headers.get(name).is_some_and(|given| given == value);
    let path = head.uri.path();
    let is_page = path == "/" || path == "/ui" || path.starts_with("/ui/");
    head.method == Method::GET && is_page && is(SEC_FETCH_MODE, "navigate") && is("sec-fetch-dest", "document")
}

fn bad<T>(why: &str) -> Result<T, ApiError> {
    Err(ApiError::BadRequest(why.to_owned()))
}

fn as_str(value: &HeaderValue) -> Result<&str, ApiError> {
    value.to_str().map_err(|_| ApiError::BadRequest("the header Host or Origin is not ASCII".to_owned()))
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

    fn asked(host: Option<&str>, header: Option<(&str, &str)>) -> bool {
        let mut request = Request::builder().uri("/");
        request = match host {
            Some(host) => request.header(HOST, host),
            None => request.version(Version::HTTP_10),
        };
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        check(&request.body(()).unwrap().into_parts().0, &Hosts::default()).is_ok()
    }

    #[test]
    fn hosts() {
        assert!(asked(Some("n1:11000"), None));
        assert!(!asked(Some("evil.example"), None));
        assert!(asked(None, None), "HTTP/1.0 without Host");
    }

    #[test]
    fn a_target_in_absolute_form() {
        for (target, host, fits) in [
            ("http://n1:11000/key/k", Some("n1:11000"), true),
            ("http://evil.example/key/k", Some("n1:11000"), false),
            ("http://n1:11000/key/k", Some("evil.example"), false),
            ("http://evil.example/key/k", None, false),
        ] {
            let request = Request::builder().uri(target);
            let request = match host {
                Some(host) => request.header(HOST, host),
                None => request.version(Version::HTTP_10),
            };
            let head = request.body(()).unwrap().into_parts().0;
            assert_eq!(check(&head, &Hosts::default()).is_ok(), fits, "{target} {host:?}");
        }
    }

    #[test]
    fn in_http_2_the_authority_is_the_host() {
        for (authority, hosts, origin, fits) in [
            ("n1:11000", &[][..], None, true),
            ("n1:11000", &["N1:11000"], None, true),
            ("", &["n1:11000"], None, true),
            ("", &[], None, false),
            ("n1:11000", &["n2:11000"], None, false),
            ("n1:11000", &["n1:11000", "n1:11000"], None, false),
            ("evil.example", &[], None, false),
            ("user@n1:11000", &[], None, false),
            ("n1:11000", &[], Some("http://n1:11000"), true),
            ("n1:11000", &[], Some("http://evil.example"), false),
            ("n1:11000", &["n1:11000"], Some("http://evil.example"), false),
        ] {
            let uri = if authority.is_empty() { "/key/k".to_owned() } else { format!("http://{authority}/key/k") };
            let mut request = Request::builder().version(Version::HTTP_2).uri(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            if let Some(origin) = origin {
                request = request.header(ORIGIN, origin);
            }
            let head = request.body(()).unwrap().into_parts().0;
            assert_eq!(check(&head, &Hosts::default()).is_ok(), fits, "{authority} {hosts:?} {origin:?}");
        }
    }

    #[test]
    fn on_whose_behalf() {
        for (site, fits) in
            [("same-origin", true), ("none", true), ("cross-site", false), ("same-site", false), ("x", false)]
        {
            assert_eq!(asked(Some("n1"), Some(("Sec-Fetch-Site", site))), fits, "{site}");
        }
    }

    #[test]
    fn a_link_to_the_page_may_be_anywhere() {
        let asked = |path: &str, dest: &str, host: &str| {
            let request = Request::builder().uri(path).header(HOST, host).header("Sec-Fetch-Site", "cross-site");
            let request = request.header("Sec-Fetch-Mode", "navigate").header("Sec-Fetch-Dest", dest);
            check(&request.body(()).unwrap().into_parts().0, &Hosts::default()).is_ok()
        };
        assert!(["/", "/ui", "/ui/", "/ui/index.html"].into_iter().all(|path| asked(path, "document", "n1")));
        assert!(!asked("/hraftd/key/a", "document", "n1"));
        assert!(!asked("/ui/", "iframe", "n1") && !asked("/ui/", "document", "evil.example"));
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
            assert_eq!(asked(Some(host), Some(("Origin", origin))), same, "{origin} {host}");
        }
        assert!(!asked(None, Some(("Origin", "http://n1:11000"))));
    }
}
