//! Many keys at once: `GET /hraftd/key?prefix=…` and `?key=…&key=…`, and their deletion.
//!
//! A listing shows one index: it reads a clone of the state, which costs nothing to make, and drops
//! it with the last chunk. Folders are skipped, not read.

pub mod delete;
mod items;

use std::sync::Arc;

use axum::http::header::LINK;
use serde::{Deserialize, Deserializer};
use utoipa::IntoParams;

use crate::api::App;
use crate::api::access::{Caller, Guard, Head, need_of};
use crate::api::admission::Pass;
use crate::api::request::key_path;
use crate::api::request::query::{self, Query};
use crate::api::request::read::{self, ReadParams};
use crate::api::response::error::ApiError;
use crate::api::response::shapes;
use crate::api::response::stream::Pieces;
use crate::api::response::{Answer, Count, json, metadata, stream};
use crate::api::service::Service;
use crate::api::write;
use crate::command::{Key, Need};
use crate::kv::KvStore;
use crate::node::StateView;
use crate::record::Record;
use crate::task;
use crate::watch::Filter;
use items::Items;

/// So many keys are counted in less than a millisecond.
const COUNTED_AT_ONCE: usize = 100_000;

/// It is looked for in each key, at a cost that grows with it.
const MAX_SEPARATOR_BYTES: usize = 64;

/// The form in which keys are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `{"key":value}`.
    Values,
    /// `["key"]`.
    Names,
    /// Metadata objects in an array.
    Meta,
    /// `{"count":12}`.
    Count,
}

/// Which keys a listing shows.
#[derive(Debug, PartialEq, Eq)]
enum Which {
    Keys(Vec<Key>),
    Prefix { prefix: String, separator: Option<String>, after: Option<String>, limit: Option<u64> },
}

impl Which {
    /// The same, to be looked at again while it is sent.
    fn filters(&self) -> Vec<Filter> {
        match self {
            Which::Keys(keys) => keys.iter().cloned().map(Filter::Key).collect(),
            Which::Prefix { prefix, .. } => vec![Filter::Prefix(prefix.as_str().into())],
        }
    }

    /// What a client needs for it.
    fn needs(&self) -> Vec<Need<'_>> {
        match self {
            Which::Keys(keys) => keys.iter().map(|key| Need::Read(key)).collect(),
            Which::Prefix { prefix, .. } => vec![Need::ReadAll(prefix)],
        }
    }
}

/// Which keys to list, and in which form.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// how the keys begin; may be empty
    prefix: Option<String>,
    /// instead of a prefix: these keys
    #[param(explode)]
    key: Vec<String>,
    /// names only
    keys: bool,
    /// the same as keys, less like key=
    keys_only: bool,
    /// metadata objects; not together with keys
    meta: bool,
    /// how many there are, and nothing else
    count: bool,
    /// with keys: folders once, such as app/x/; at most 64 bytes
    #[serde(deserialize_with = "query::non_empty")]
    separator: Option<String>,
    /// a page of so many
    #[serde(deserialize_with = "number_of_keys")]
    #[param(minimum = 1)]
    limit: Option<u64>,
    /// only what comes after this key or folder
    after: Option<String>,
}

fn number_of_keys<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    query::number(value, "a number of keys")
}

/// Reads many keys at one index
///
/// Those that begin with `prefix` (which may be empty), or those named by `key`. An object of keys
/// and values, which another cluster takes as a POST; an array of keys; or an array of metadata.
/// Without `limit` all of it; with it a page, and where there is more, the header Link tells the
/// next.
#[utoipa::path(
    get,
    path = "/hraftd/key",
    tag = "keys",
    params(ListParams, ReadParams),
    responses(
        (
            status = 200,
            description = "those that exist, in the order of their bytes",
            body = shapes::ListForms,
            headers(("Link" = String, description = "the next page, with a limit and where there is more"))
        ),
    )
)]
pub async fn get<S: Service>(app: &Arc<App<S>>, head: &Head, pass: &mut Pass<'_>) -> Result<Answer, ApiError> {
    let query = Query::parse::<(ListParams, ReadParams)>(head.uri.query())?;
    let (params, read): (ListParams, ReadParams) = query.read()?;
    let (form, which) = (params.form()?, params.which()?);
    let (options, deadline) = read.resolve(app.settings.read_level)?;
    let caller = Caller::of(head);
    let needs = which.needs();
    needs.iter().try_for_each(|need| caller.demand(*need))?;
    pass.read(&options, app.service.applied_index())?;

    let view = app.service.view(caller.by(), &needs, options, deadline.at);
    let view = read::in_time(&deadline, view).await?;
    let StateView { kv, index, settled } = view;
    if form == Form::Count {
        return Ok(Answer::read(Ok(Count::response(count(kv, which).await?)), index, settled));
    }
    let gone = kv.gone();
    let followed: Vec<Filter> = which.filters();
    let goes_on = Guard::listing(app, caller, move |look| {
        followed.iter().try_fold(None, |until, filter| Ok(until.into_iter().chain(look(need_of(filter))?).min()))
    });
    let (items, limit) = match which {
        Which::Keys(keys) => (Items::of_keys(&kv, keys), None),
        Which::Prefix { prefix, separator, after, limit } => {
            (Items::with_prefix(kv, &prefix, separator.as_deref(), after.as_deref()), limit)
        }
    };
    let next = query::next_page(head, &query, limit, items.clone().map(|(name, _)| name)).await;
    let (left, log_time_ms) = (limit.unwrap_or(u64::MAX), app.service.log_time_ms());
    let listing = Listing { items, form, left, began: false, log_time_ms };
    let mut response = json::response(stream::body(listing, Some(gone), Some(goes_on)));
    if let Some(next) = next {
        response.headers_mut().insert(LINK, next);
    }
    Ok(Answer::read(Ok(response), index, settled))
}

/// Counts whole pages of keys. Where that takes milliseconds, another thread does it.
async fn count(kv: KvStore, which: Which) -> Result<usize, ApiError> {
    let prefix = match which {
        Which::Keys(keys) => return Ok(Items::of_keys(&kv, keys).count()),
        Which::Prefix { prefix, .. } => prefix,
    };
    if kv.about_count(&prefix) <= COUNTED_AT_ONCE {
        return Ok(kv.count(&prefix));
    }
    write::joined(task::spawn_blocking(move || kv.count(&prefix))).await
}

fn bad<T>(what: &str) -> Result<T, ApiError> {
    Err(ApiError::BadRequest(what.to_owned()))
}

impl ListParams {
    fn form(&self) -> Result<Form, ApiError> {
        match (self.names_only(), self.meta, self.count) {
            (true, false, false) => Ok(Form::Names),
            (false, true, false) => Ok(Form::Meta),
            (false, false, true) => Ok(Form::Count),
            (false, false, false) => Ok(Form::Values),
            _ => bad("keys (or keys_only), meta and count are three forms of a listing; ask for one"),
        }
    }

    fn names_only(&self) -> bool {
        self.keys || self.keys_only
    }

    fn which(self) -> Result<Which, ApiError> {
        let names_only = self.names_only();
        let Self { prefix, key: keys, separator, limit, after, count, .. } = self;
        for key in &keys {
            key_path::check(key)?;
        }
        match prefix {
            Some(_) if !keys.is_empty() => bad("prefix= and key= are two requests; give one of them"),
            None if keys.is_empty() => bad(
                "say which keys: prefix=app/ (an empty prefix= is all of them) or key=a&key=b; a single one is GET \
                 /hraftd/key/{key}",
            ),
            None if separator.is_some() || after.is_some() || limit.is_some() => {
                bad("separator=, after= and limit= are for prefix=, not for key=")
            }
            None => Ok(Which::Keys(keys.into_iter().map(Key::from).collect())),
            Some(_) if limit == Some(0) => bad("limit=0 would list nothing; give at least 1"),
            Some(_) if count && (separator.is_some() || after.is_some() || limit.is_some()) => {
                bad("count counts all keys of a prefix=; separator=, after= and limit= are for what lists them")
            }
            Some(_) if separator.is_some() && !names_only => bad("separator= makes folders of names: it needs keys"),
            Some(_) if separator.as_ref().is_some_and(|text| text.len() > MAX_SEPARATOR_BYTES) => {
                Err(ApiError::BadRequest(format!(
                    "separator= is longer than {MAX_SEPARATOR_BYTES} bytes; give a shorter one"
                )))
            }
            Some(prefix) => Ok(Which::Prefix { prefix, separator, after, limit }),
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

fn write_item(out: &mut Vec<u8>, form: Form, name: &str, record: Option<&Record>, log_time_ms: u64) {
    match (form, record) {
        (Form::Names | Form::Count, _) | (_, None) => json::string(out, name),
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
