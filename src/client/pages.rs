//! Keys in the order of their bytes, page after page: whatever node answers, none is skipped and none comes twice.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::link::{Cluster, Request, query};
use super::out::flag;
use crate::exit::{EX_FAILURE, Exit};

/// A page of values has about so many bytes.
const PAGE_BYTES: usize = 4 << 20;

/// The most keys of a page.
const MOST_KEYS: usize = 5_000;

/// A key with all that is told of it.
#[derive(Debug, Deserialize)]
pub(super) struct Shown {
    pub(super) key: String,
    pub(super) value: Box<RawValue>,
    pub(super) content_type: String,
    pub(super) ttl_ms: Option<u64>,
    pub(super) lease: Option<u64>,
}

/// What is read next.
#[derive(Debug)]
pub(super) struct Pages {
    prefix: String,
    after: Option<String>,
    limit: usize,
    is_over: bool,
}

impl Pages {
    pub(super) fn new(prefix: &str, after: Option<String>) -> Self {
        Self { prefix: prefix.to_owned(), after, limit: 100, is_over: false }
    }

    /// The last key that was read.
    pub(super) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// The next keys with their values; none at the end.
    pub(super) async fn values(&mut self, cluster: &Cluster) -> Result<Vec<Shown>, Exit> {
        let (body, asked) = self.ask(cluster, "meta").await?;
        let page: Vec<Shown> = self.parse(&body)?;
        self.turn(page.len(), asked, page.last().map(|shown| shown.key.clone()));
        if let Some(average) = body.len().checked_div(page.len()) {
            self.limit = (PAGE_BYTES / average.max(1)).clamp(1, MOST_KEYS);
        }
        Ok(page)
    }

    /// The next keys; none at the end.
    pub(super) async fn keys(&mut self, cluster: &Cluster) -> Result<Vec<String>, Exit> {
        self.limit = MOST_KEYS;
        let (body, asked) = self.ask(cluster, "keys").await?;
        let page: Vec<String> = self.parse(&body)?;
        self.turn(page.len(), asked, page.last().cloned());
        Ok(page)
    }

    async fn ask(&self, cluster: &Cluster, shape: &str) -> Result<(bytes::Bytes, usize), Exit> {
        if self.is_over {
            return Ok((bytes::Bytes::from_static(b"[]"), self.limit));
        }
        let (limit, prefix) = (Some(self.limit.to_string()), super::link::encoded(&self.prefix));
        let path = query(
            &format!("/hraftd/key?prefix={prefix}"),
            &[(shape, flag(true)), ("limit", limit), ("after", self.after.clone())],
        );
        Ok((cluster.send(&Request::get(path)).await?.of_a_node()?.body, self.limit))
    }

    fn parse<T: for<'a> Deserialize<'a>>(&self, body: &[u8]) -> Result<T, Exit> {
        serde_json::from_slice(body)
            .map_err(|error| Exit::error(EX_FAILURE, format!("the answer is not hraftd's: {error}")))
    }

    fn turn(&mut self, came: usize, asked: usize, last: Option<String>) {
        self.is_over |= came < asked;
        self.after = last.or(self.after.take());
    }
}
