//! Sessions of browsers: the cookie that has one, and the keys that sign it.

use std::sync::Arc;

use axum::http::header::COOKIE;
use axum::http::request::Parts;
use parking_lot::RwLock;
use zeroize::Zeroizing;

use crate::http::UnderTls;
use crate::secret::{Session, SessionKey};

/// The cookie in plain text.
const PLAIN: &str = "hraftd_session";

/// The cookie under TLS: browsers take it from this very host alone, and never send it in clear.
const SECURE: &str = "__Host-hraftd_session";

/// How long a session lasts, in milliseconds of log time.
pub const SESSION_MS: u64 = 12 * 3600 * 1000;

/// The keys that sign sessions: the first issues, all verify. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Sessions(Arc<RwLock<Vec<SessionKey>>>);

impl Sessions {
    /// With these.
    pub fn new(keys: Vec<SessionKey>) -> Self {
        Self(Arc::new(RwLock::new(keys)))
    }

    /// From now on these count.
    pub fn replace(&self, keys: Vec<SessionKey>) {
        *self.0.write() = keys;
    }

    /// The text of a session; `None` where this node has no cluster secret.
    pub fn issue(&self, session: &Session) -> Option<Zeroizing<String>> {
        self.0.read().first().map(|key| session.sign(key))
    }

    pub(super) fn verify(&self, text: &str) -> Option<Session> {
        Session::verify(text, &self.0.read())
    }
}

/// The name of the cookie on the connection of this request.
fn name(head: &Parts) -> &'static str {
    if head.extensions.get::<UnderTls>().is_some() { SECURE } else { PLAIN }
}

/// The text that the cookie of this request has, the first where there are several.
pub(super) fn cookie(head: &Parts) -> Option<&str> {
    let name = name(head);
    let headers = head.headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
    let mut pairs = headers.flat_map(|header| header.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(of, _)| of.trim() == name).map(|(_, text)| text.trim())
}

/// The header that has a browser keep a session for so long, or forget it (`""`, 0).
pub fn set_cookie(head: &Parts, text: &str, seconds: u64) -> Zeroizing<String> {
    let name = name(head);
    let secure = if name == SECURE { "; Secure" } else { "" };
    Zeroizing::new(format!("{name}={text}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn head(cookies: &[&str], tls: bool) -> Parts {
        let mut request = Request::builder().uri("/");
        for cookie in cookies {
            request = request.header(COOKIE, *cookie);
        }
        let mut head = request.body(()).unwrap().into_parts().0;
        if tls {
            head.extensions.insert(UnderTls);
        }
        head
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        for (cookies, plain, tls) in [
            (&[][..], None, None),
            (&["a=b; hraftd_session=x ;c=d"], Some("x"), None),
            (&["a=b", "hraftd_session=x"], Some("x"), None),
            (&["hraftd_session=x; hraftd_session=y"], Some("x"), None),
            (&["__Host-hraftd_session=x; hraftd_session=y"], Some("y"), Some("x")),
            (&["hraftd_session; xhraftd_session=z; HRAFTD_SESSION=z"], None, None),
            (&["hraftd_session="], Some(""), None),
        ] {
            assert_eq!((cookie(&head(cookies, false)), cookie(&head(cookies, true))), (plain, tls), "{cookies:?}");
        }
    }

    #[test]
    fn scripts_and_other_sites_do_not_get_it() {
        let plain = set_cookie(&head(&[], false), "x", 9);
        assert_eq!(*plain, "hraftd_session=x; Path=/; Max-Age=9; HttpOnly; SameSite=Strict");
        let tls = set_cookie(&head(&[], true), "", 0);
        assert_eq!(*tls, "__Host-hraftd_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict; Secure");
    }
}
