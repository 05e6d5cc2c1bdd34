//! Whole requests, and the parsers of their parts.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Request, StatusCode, header};
use bolero::check;
use http_body_util::BodyExt;

use super::fake::Fake;
use super::{settings, *};
use crate::api::keys::incr::IncrParams;
use crate::api::keys::listing::ListParams;
use crate::api::request::conditions::{self, CasParams};
use crate::api::request::idempotency::IdempotencyHeader;
use crate::api::request::query::Query;
use crate::api::request::read::ReadParams;
use crate::api::request::ttl::TtlParams;
use crate::api::request::{json_body, key_path, value};
use crate::api::response::{json, text};
use crate::fuzz::{SOME, bounded};

/// Requests parted by a line `---`: `METHOD target`, header lines, an empty line, the body.
const PART: &[u8] = b"\n---\n";

/// A stream is read for so long; the clock stands still but for who waits for it.
const A_WHILE: Duration = Duration::from_secs(90);

fn api(fake: Fake) -> Api<Fake> {
    Api::new(fake, settings())
}

fn parts<'a>(mut input: &'a [u8], part: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut more = true;
    std::iter::from_fn(move || {
        if !std::mem::take(&mut more) {
            return None;
        }
        let Some(at) = input.windows(part.len()).position(|window| window == part) else { return Some(input) };
        let found = &input[..at];
        (input, more) = (&input[at + part.len()..], true);
        Some(found)
    })
}

/// What hyper would make of it; `None` where it would refuse it.
fn request(input: &[u8]) -> Option<Request<Body>> {
    let (head, body) = match input.windows(2).position(|window| window == b"\n\n") {
        Some(at) => (&input[..at], &input[at + 2..]),
        None => (input, &b""[..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let mut request = Request::builder().method(&first[..space]).uri(&first[space + 1..]);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request = request.header(&line[..colon], value);
    }
    let mut request = request.body(Body::from(body.to_vec())).ok()?;
    // Where none is given, as curl would have it.
    request.headers_mut().entry(header::HOST).or_insert(HeaderValue::from_static("localhost:11000"));
    Some(request)
}

/// What every answer keeps.
async fn answered(api: &Api<Fake>, request: Request<Body>) {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let before = api.app.service.digest();
    let response = api.answer(request).await;
    let status = response.status();
    let known = matches!(
        status.as_u16(),
        200 | 201 | 204 | 304 | 400 | 403..=405 | 409 | 410 | 412 | 413 | 415 | 422 | 503 | 504
    );
    assert!(known, "{method} {uri}: {status}");
    let is_json = response.headers().get(header::CONTENT_TYPE) == Some(&json::CONTENT);
    let is_stored = response.headers().contains_key(header::CONTENT_SECURITY_POLICY);
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    let whole = tokio::time::timeout(A_WHILE, async {
        while let Some(frame) = body.frame().await {
            bytes.extend(frame.expect("nothing breaks off").into_data().unwrap_or_default());
        }
    });
    let is_whole = whole.await.is_ok();
    assert!(is_whole || uri.path().ends_with("/watch"), "{method} {uri} has no end");
    let shown = String::from_utf8_lossy(&bytes);
    if is_whole && is_json && !is_stored && method != "HEAD" && status != StatusCode::NOT_MODIFIED {
        assert!(serde_json::from_slice::<&serde_json::value::RawValue>(&bytes).is_ok(), "{method} {uri}: {shown}");
    }
    if status.is_client_error() || status.is_server_error() {
        assert!(is_json, "{method} {uri}: {status}");
        assert!(method == "HEAD" || shown.starts_with("{\"ok\":false,\"code\":\""), "{method} {uri}: {shown}");
    }
    // These are found while a request is read, before anything of it is proposed.
    if matches!(status.as_u16(), 400 | 403..=405 | 413 | 415) {
        assert_eq!(api.app.service.digest(), before, "{method} {uri} was refused, and has changed something");
    }
}

fn requests(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let api = api(Fake::default());
        for part in parts(input, PART).take(16) {
            if let Some(request) = request(part) {
                answered(&api, request).await;
            }
        }
    });
}

#[test]
fn a_request_gets_its_answer() {
    check!(name = "requests").with_iterations(SOME).for_each(requests);
}

/// Refused with a 4xx and few words.
#[track_caller]
fn refused(error: ApiError) {
    let (ApiError::BadRequest(msg) | ApiError::TooLarge(msg)) = error else { panic!("{error:?}") };
    assert!(!msg.is_empty() && msg.len() < 1000, "{msg}");
}

#[test]
fn bodies() {
    check!(name = "bodies").with_iterations(SOME).for_each(|input: &[u8]| {
        let body = Bytes::copy_from_slice(input);
        bounded(body.len(), 40, 4096, || match json_body::parse(&body, 1000) {
            Ok(pairs) => {
                // What is stored is what was sent, so it says the same when it is sent again.
                let mut again = Vec::new();
                let mut object = json::Object::new(&mut again);
                for (key, value) in &pairs {
                    assert!(key_path::check(key).is_ok() && value.len() <= 1000, "{key}");
                    object.name(key).extend_from_slice(value);
                }
                object.end();
                assert_eq!(json_body::parse(&Bytes::from(again), 1000).expect("it was taken before"), pairs);
            }
            Err(error) => refused(error),
        });
        bounded(body.len(), 40, 4096, || match json_body::one(&body) {
            Ok(value) => {
                assert_eq!(json_body::one(&value).expect("it was taken before"), value);
                let mut compact = Vec::new();
                watch::without_spaces::compact(&mut compact, &value);
                let once = json_body::one(&Bytes::copy_from_slice(&compact)).expect("white space says nothing");
                assert!(watch::without_spaces::is_compact(&once) && crate::kv::same_json(&value, &once), "{once:?}");
            }
            Err(error) => refused(error),
        });
        for (content_type, json) in [(None, false), (Some(&b"application/json"[..]), false), (None, true)] {
            match value::parse(&body, content_type, json, 1000) {
                // Text is kept as JSON, which takes at most six bytes for one.
                Ok(value) => {
                    assert!(value.data.len() <= 1000 && (value.is_bytes || json_body::one(&value.data).is_ok()))
                }
                Err(error) => refused(error),
            }
        }
    });
}

#[test]
fn transactions() {
    check!(name = "transactions").with_iterations(SOME).for_each(|input: &[u8]| {
        let body = Bytes::copy_from_slice(input);
        bounded(body.len(), 100, 1 << 14, || match txn::parse::parse(&body, 1000) {
            Ok(txn) => assert!(txn.then.len() <= 1024 && txn.otherwise.len() <= 1024, "{txn:?}"),
            Err(error) => refused(error),
        });
    });
}

/// Lines: a query, a header, a path. Each parser takes each.
#[test]
fn words() {
    check!(name = "words").with_iterations(SOME).for_each(|input: &[u8]| {
        for line in parts(input, b"\n").take(4) {
            headers(line);
            let Ok(text) = std::str::from_utf8(line) else { continue };
            bounded(line.len(), 60, 4096, || {
                match Query::parse::<AllKinds>(Some(text)) {
                    Ok(query) => query_values(&query),
                    Err(error) => refused(error),
                }
                key(text);
            });
            match crate::duration::parse_duration(text) {
                Ok(duration) => {
                    let again = crate::duration::parse_duration(&format!("{}ms", duration.as_millis()));
                    assert_eq!(again, Ok(duration));
                    assert!(!text::go_duration(duration).is_empty());
                }
                Err(why) => assert!(!why.is_empty()),
            }
            if let Ok(id) = text.parse::<crate::node_id::PublicId>() {
                assert_eq!(id.to_string().parse(), Ok(id));
            }
            if let Some(position) = crate::watch::Position::parse(text) {
                assert_eq!(crate::watch::Position::parse(&position.to_string()), Some(position));
            }
        }
    });
}

/// Parameters of all kinds.
type AllKinds = (ListParams, ReadParams, TtlParams, IncrParams);

fn query_values(query: &Query<'_>) {
    match query.read::<AllKinds>() {
        Ok((_, read, ..)) => read.resolve(ReadLevel::Linearizable).err().into_iter().for_each(refused),
        Err(error) => refused(error),
    }
}

fn key(raw: &str) {
    match key_path::decode(raw) {
        Ok(key) => {
            let encoded = percent_encoding::utf8_percent_encode(&key, percent_encoding::NON_ALPHANUMERIC).to_string();
            assert_eq!(key_path::decode(&encoded).expect("it is a key"), key);
        }
        Err(error) => refused(error),
    }
}

fn headers(line: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(line) else { return };
    for name in [header::IF_MATCH, header::IF_NONE_MATCH] {
        let request = Request::builder().header(name, &value).header("idempotency-key", &value);
        let (head, ()) = request.body(()).expect("a header's value").into_parts();
        if let Err(error) = conditions::of_write(&head, &CasParams::default()) {
            refused(error);
        }
        match IdempotencyHeader::parse(&head.headers) {
            Ok(header) => assert!(header.retry(&head, line, 1).is_some_and(|retry| retry.key.as_bytes() == line)),
            Err(error) => refused(error),
        }
    }
}
