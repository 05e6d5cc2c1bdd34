//! What a request shows of who sent it.

use std::sync::Arc;

use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::sessions::{self, Sessions};
use crate::api::request::key_path::percent_decode;
use crate::api::response::error::ApiError;
use crate::secret::{Generated, Session, Token};
use crate::tls::ClientCertificate;

/// The longest header that is looked into; tokens have 75 characters.
const MAX_HEADER_BYTES: usize = 1024;

/// What a request shows.
#[derive(Debug)]
pub enum Shown {
    /// A well-formed token.
    Token(Token),
    /// What was given to a browser for one.
    Session(Session),
    /// A certificate that the client port has verified.
    Certificate(Arc<ClientCertificate>),
    /// Something that is none, or none that is known here.
    Garbage,
}

/// What a request shows; the first kind that is there counts.
///
/// # Errors
/// 400: there are two, or a token stands where logs and histories would have it.
pub fn of(head: &Parts, keys: &Sessions) -> Result<Option<Shown>, ApiError> {
    if head.uri.query().is_some_and(has_token) {
        return Err(ApiError::BadRequest(
            "there is a token in the query, where logs and histories have it: send it as Authorization: Bearer, and rotate it \
             now"
                .to_owned(),
        ));
    }
    let mut headers = head.headers.get_all(AUTHORIZATION).iter();
    if let Some(header) = headers.next() {
        if headers.next().is_some() {
            return Err(ApiError::BadRequest("there are several Authorization headers; send one".to_owned()));
        }
        return Ok(Some(authorization(header.as_bytes())));
    }
    if let Some(text) = sessions::cookie(head) {
        return Ok(Some(keys.verify(text).map_or(Shown::Garbage, Shown::Session)));
    }
    Ok(head.extensions.get::<Arc<ClientCertificate>>().cloned().map(Shown::Certificate))
}

fn authorization(header: &[u8]) -> Shown {
    let text = std::str::from_utf8(header).ok().filter(|text| text.len() <= MAX_HEADER_BYTES);
    let Some((scheme, rest)) = text.and_then(|text| text.trim().split_once(' ')) else { return Shown::Garbage };
    let rest = rest.trim();
    let token = match scheme {
        scheme if scheme.eq_ignore_ascii_case("bearer") => Token::parse(rest).ok(),
        scheme if scheme.eq_ignore_ascii_case("basic") => basic(rest),
        _ => None,
    };
    token.map_or(Shown::Garbage, Shown::Token)
}

/// The password is the token, the name says nothing.
fn basic(encoded: &str) -> Option<Token> {
    let decoded = zeroize::Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Token::parse(password).ok()
}

/// Whether a query has a well-formed token in it.
fn has_token(query: &str) -> bool {
    query.contains(['h', '%'])
        && query.split(['&', '=']).any(|part| percent_decode(part).is_ok_and(|text| Token::parse(&text).is_ok()))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn shown(headers: &[String], uri: &str) -> Result<Option<Shown>, ApiError> {
        let mut request = Request::builder().uri(uri);
        for header in headers {
            request = request.header(AUTHORIZATION, header);
        }
        of(&request.body(()).unwrap().into_parts().0, &Sessions::default())
    }

    fn is_token(found: Result<Option<Shown>, ApiError>, token: &Token) -> bool {
        matches!(found, Ok(Some(Shown::Token(found))) if found.is_same(token))
    }

    #[test]
    fn tokens_are_shown_in_two_ways() {
        let token = Token::generate().unwrap();
        let text = token.text();
        for good in [
            format!("Bearer {}", *text),
            format!("bearer   {} ", *text),
            format!("Basic {}", STANDARD.encode(format!("x:{}", *text))),
            format!("BASIC {}", STANDARD.encode(format!(":{}", *text))),
        ] {
            assert!(is_token(shown(std::slice::from_ref(&good), "/"), &token), "{good}");
        }
        let mut wrong = text.to_string();
        let last = if wrong.pop() == Some('a') { 'b' } else { 'a' };
        wrong.push(last);
        for bad in [
            String::new(),
            "Bearer".to_owned(),
            "Bearer x".to_owned(),
            format!("Bearer {wrong}"),
            format!("Bearer {}", "x".repeat(1 << 20)),
            format!("Digest {}", *text),
            format!("Basic {}", STANDARD.encode(&*text)),
            "Basic %%%".to_owned(),
            format!("Basic {}", STANDARD.encode(b"x:\xff")),
        ] {
            let found = shown(std::slice::from_ref(&bad), "/");
            assert!(matches!(found, Ok(Some(Shown::Garbage))), "{:?} {found:?}", &bad[..bad.len().min(80)]);
        }
        assert!(matches!(shown(&[], "/"), Ok(None)));
    }

    #[test]
    fn two_of_them_and_one_in_a_query_are_refused() {
        let token = Token::generate().unwrap();
        let header = format!("Bearer {}", *token.text());
        assert!(shown(&[header.clone(), header.clone()], "/").is_err());
        for query in
            ["token=TOKEN", "a=1&access_token=TOKEN", "TOKEN", "t=hrt%5FREST", "t=%68rt_REST", "t=%68%72%74%5fREST"]
        {
            let query = query.replace("TOKEN", &token.text()).replace("REST", &token.text()[4..]);
            assert!(shown(std::slice::from_ref(&header), &format!("/?{query}")).is_err(), "{query}");
        }
        assert!(is_token(shown(&[header], "/?prefix=hrt_keys/"), &token));
    }
}
