//! Many keys at once: `GET /hraftd/key?prefix=…` and `?key=…&key=…`, `DELETE /hraftd/key?prefix=…`.
//!
//! A listing is of one index: it reads a clone of the state, which costs nothing to make, and lets go of it with the last
//! chunk. Folders are skipped, not read.

mod items;

use std::pin::pin;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::LINK;
use axum::http::request::Parts;
use compact_str::CompactString;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::api::admission::Pass;
use crate::api::keys::write::no_body;
use crate::api::keys::{read_options, too_slow};
use crate::api::request::query::Query;
use crate::api::request::{conditions, key_path};
use crate::api::response::error::ApiError;
use crate::api::response::stream::Pieces;
use crate::api::response::{Answer, json, metadata, stream, text};
use crate::api::service::Service;
use crate::api::write::{self, Time};
use crate::api::{App, spec, timer, within};
use crate::command::{Action, Key, MAX_KEY_BYTES, Reply};
use crate::node::StateView;
use crate::record::Record;
use items::Items;

/// All but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How many are counted before others get a turn.
const COUNT: u64 = 4096;

/// What is shown of each key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `{"key":value}`.
    Values,
    /// `["key"]`.
    Names,
    /// Metadata objects in an array.
    Meta,
}

/// What is to be listed.
#[derive(Debug, PartialEq, Eq)]
enum Which {
    Keys(Vec<Key>),
    Prefix { prefix: String, separator: Option<String>, after: Option<String>, limit: Option<u64> },
}

/// Reads many keys at one index
///
/// Those that begin with `prefix` (which may be empty), or those named by `key`. An object of keys and values, which
/// another cluster takes as a POST; an array of keys; or an array of metadata. Without `limit` all of it; with it a page,
/// and where there is more, the header Link tells the next.
#[utoipa::path(
    get,
    path = "/hraftd/key",
    tag = "keys",
    params(
        ("prefix" = Option<String>, Query, description = "how the keys begin; may be empty"),
        ("key" = Option<Vec<String>>, Query, description = "instead of a prefix: these keys", explode),
        ("keys" = Option<bool>, Query, description = "names only"),
        ("meta" = Option<bool>, Query, description = "metadata objects; not together with keys"),
        ("separator" = Option<String>, Query, description = "with keys: folders once, such as app/x/"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "a page of so many"),
        ("after" = Option<String>, Query, description = "only what comes after this key or folder"),
        spec::ReadParams,
    ),
    responses(
        (
            status = 200,
            description = "those that exist, in the order of their bytes",
            body = spec::ListForms,
            headers(("Link" = String, description = "the next page, with a limit and where there is more"))
        ),
    )
)]
pub(in crate::api) async fn get<S: Service>(
    app: &App<S>,
    head: &Parts,
    pass: &mut Pass<'_>,
) -> Result<Answer, ApiError> {
    let known =
        ["prefix", "key", "keys", "meta", "separator", "limit", "after", "level", "freshness", "min_index", "timeout"];
    let query = Query::parse_repeatable(head.uri.query(), &known, Some("key"))?;
    let (form, which) = (form(&query)?, which(&query)?);
    let options = read_options(&query, app.settings.read_level)?;
    let time = Time::of(&query)?;
    pass.read(&options, app.service.applied_index())?;

    let view = pin!(app.service.view(options, time.deadline));
    let view = within(pin!(timer(time.deadline)), view).await.unwrap_or_else(|| Err(too_slow(&time)))?;
    let StateView { kv, index, settled } = view;
    let (items, limit) = match which {
        Which::Keys(keys) => (Items::of(&kv, keys), None),
        Which::Prefix { prefix, separator, after, limit } => {
            (Items::with_prefix(kv, &prefix, separator.as_deref(), after.as_deref()), limit)
        }
    };
    let next = match limit {
        Some(limit) => last_of_page(items.clone(), limit).await.and_then(|last| next_page(head, &query, &last)),
        None => None,
    };
    let (left, log_time_ms) = (limit.unwrap_or(u64::MAX), app.service.log_time_ms());
    let mut response = json::response(stream::body(Listing { items, form, left, began: false, log_time_ms }));
    if let Some(next) = next {
        response.headers_mut().insert(LINK, next);
    }
    Ok(Answer::read(Ok(response), index, settled))
}

fn bad<T>(what: &str) -> Result<T, ApiError> {
    Err(ApiError::BadRequest(what.to_owned()))
}

fn form(query: &Query<'_>) -> Result<Form, ApiError> {
    match (query.switch("keys")?, query.switch("meta")?) {
        (true, true) => bad("keys and meta are two forms of a listing; ask for one"),
        (true, false) => Ok(Form::Names),
        (false, true) => Ok(Form::Meta),
        (false, false) => Ok(Form::Values),
    }
}

fn which(query: &Query<'_>) -> Result<Which, ApiError> {
    let (prefix, separator) = (query.text("prefix")?, query.value("separator")?);
    let (after, limit) = (query.text("after")?, query.number("limit", "a number of keys")?);
    let keys = query.values("key").map(|key| key_path::check(key).map(|()| Key::from(key)));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    match prefix {
        Some(_) if !keys.is_empty() => bad("prefix= and key= are two requests; give one of them"),
        None if keys.is_empty() => {
            bad("say which keys: prefix=app/ (an empty prefix= is all of them) or key=a&key=b; a single one is GET \
             /hraftd/key/{key}")
        }
        None if separator.is_some() || after.is_some() || limit.is_some() => {
            bad("separator=, after= and limit= are for prefix=, not for key=")
        }
        None => Ok(Which::Keys(keys)),
        Some(_) if limit == Some(0) => bad("limit=0 would list nothing; give at least 1"),
        Some(_) if separator.is_some() && !query.switch("keys")? => {
            bad("separator= makes folders of names: it needs keys")
        }
        Some(prefix) => {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            Ok(Which::Prefix { prefix: prefix.to_owned(), separator: owned(separator), after: owned(after), limit })
        }
    }
}

/// A listing that is being sent.
struct Listing {
    items: Items,
    form: Form,
    /// How many more there may be.
    left: u64,
    began: bool,
    log_time_ms: u64,
}

/// The last name of a page, where there is more after it.
async fn last_of_page(mut items: Items, limit: u64) -> Option<CompactString> {
    let mut last = None;
    for count in 1..=limit {
        let (name, _) = items.next()?;
        last = Some(name);
        if count % COUNT == 0 {
            tokio::task::yield_now().await;
        }
    }
    last.filter(|_| items.has_more())
}

/// The next page as a `Link` header has it: the same request after the last name of this one.
fn next_page(head: &Parts, query: &Query<'_>, last: &str) -> Option<HeaderValue> {
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

fn write_item(out: &mut Vec<u8>, form: Form, name: &str, record: Option<&Record>, log_time_ms: u64) {
    match (form, record) {
        (Form::Names, _) | (_, None) => json::string(out, name),
        (Form::Values, Some(record)) => {
            json::string(out, name);
            out.push(b':');
            out.extend_from_slice(&record.json());
        }
        (Form::Meta, Some(record)) => metadata::write(out, name, record, log_time_ms),
    }
}

impl Pieces for Listing {
    fn piece(&mut self, out: &mut Vec<u8>) -> bool {
        let (open, close) = if self.form == Form::Values { (b'{', b'}') } else { (b'[', b']') };
        let item = if self.left > 0 { self.items.next() } else { None };
        let began = std::mem::replace(&mut self.began, true);
        let Some((name, record)) = item else {
            if !began {
                out.push(open);
            }
            out.push(close);
            return false;
        };
        self.left -= 1;
        out.push(if began { b',' } else { open });
        write_item(out, self.form, &name, record.as_ref(), self.log_time_ms);
        true
    }
}

/// Deletes all keys that begin so
#[utoipa::path(
    delete,
    path = "/hraftd/key",
    tag = "keys",
    params(
        ("prefix" = String, Query, description = "how the keys begin"),
        ("all" = Option<bool>, Query, description = "needed with an empty prefix"),
        spec::WriteParams,
        spec::RetryParams,
    ),
    responses(
        (status = 200, description = "they are not there any more", body = spec::Deleted),
        (status = 422, description = "the Idempotency-Key came with another request", body = spec::Problem),
    )
)]
pub(in crate::api) async fn delete<S: Service>(app: &App<S>, head: &Parts, body: Body) -> Result<Answer, ApiError> {
    let query = Query::parse(head.uri.query(), &["prefix", "all", "timeout"])?;
    let time = Time::of(&query)?;
    let prefix = match (query.text("prefix")?, query.switch("all")?) {
        (None, _) => return bad("say which keys: prefix=app/; a single one is DELETE /hraftd/key/{key}"),
        (Some(""), false) => return bad("an empty prefix= is all keys; add all where that is what you want"),
        (Some(prefix), true) if !prefix.is_empty() => return bad("all is for an empty prefix=; give one of them"),
        (Some(prefix), _) => prefix,
    };
    check_prefix(prefix)?;
    conditions::none(head, "POST /hraftd/txn takes conditions on many")?;
    no_body(app, body, &time).await?;
    let action = Action::DeletePrefix { prefix: prefix.into() };
    let outcome = write::write(app, action, head, &[], &time).await?;
    Ok(match outcome.reply {
        Reply::Deleted(count) => {
            let index = outcome.index;
            let body = format!("{{\"ok\":true,\"msg\":\"OK\",\"deleted\":{count},\"index\":{index}}}");
            outcome.answer(Ok(json::response(body)))
        }
        _ => outcome.refused(app, ""),
    })
}

/// What is longer than any key begins none; it need not go into the log.
pub(in crate::api) fn check_prefix(prefix: &str) -> Result<(), ApiError> {
    if prefix.len() <= MAX_KEY_BYTES {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!(
        "the prefix {} is longer than {MAX_KEY_BYTES} bytes, the limit of a key",
        text::quoted(prefix)
    )))
}
