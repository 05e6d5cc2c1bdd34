//! `hraftd export`.

use std::collections::HashMap;

use hyper::StatusCode;

use super::item;
use super::progress::Progress;
use crate::client::link::{Cluster, Request, encoded};
use crate::client::out;
use crate::client::pages::{Pages, Shown};
use crate::config::ExportArgs;
use crate::exit::Exit;

pub(crate) async fn export(cluster: &Cluster, args: &ExportArgs) -> Result<Exit, Exit> {
    let mut pages = Pages::new(&args.prefix, args.after.clone());
    let mut progress = Progress::new("export");
    if args.after.is_none() {
        let path = format!("/hraftd/key?prefix={}&count", encoded(&args.prefix));
        progress.of = cluster.send(&Request::get(path)).await?.ok()?.json()?["count"].as_u64();
    }
    let mut leases = Leases::default();
    loop {
        let before = pages.after().map(str::to_owned);
        let page = async { leases.told(cluster, pages.values(cluster).await?).await };
        let page = match page.await {
            Ok(page) => page,
            Err(exit) => return Err(go_on(exit, before.as_deref())),
        };
        let Some(page) = page else { return Ok(Exit::printed("")) };
        let mut text = Vec::new();
        page.iter().for_each(|shown| item::write(&mut text, shown));
        out::write(&[&text])?;
        progress.keys += page.len() as u64;
        progress.bytes += text.len() as u64;
        progress.show();
    }
}

/// What is left of the leases of keys; `None` for those that have ended.
#[derive(Default)]
struct Leases(HashMap<u64, Option<u64>>);

impl Leases {
    /// The keys of a page with the time that they have left by their leases, without those that are gone; `None` behind the
    /// last page.
    async fn told(&mut self, cluster: &Cluster, page: Vec<Shown>) -> Result<Option<Vec<Shown>>, Exit> {
        if page.is_empty() {
            return Ok(None);
        }
        let mut kept = Vec::with_capacity(page.len());
        for mut shown in page {
            let Some(lease) = shown.lease.filter(|_| shown.ttl_ms.is_none()) else {
                kept.push(shown);
                continue;
            };
            let left = match self.0.get(&lease) {
                Some(left) => *left,
                None => {
                    let answer = cluster.send(&Request::get(format!("/hraftd/lease/{lease}"))).await?;
                    let left = match answer.status {
                        StatusCode::NOT_FOUND => None,
                        _ => answer.ok()?.json()?["ttl_ms"].as_u64(),
                    };
                    *self.0.entry(lease).or_insert(left)
                }
            };
            // It ended since the page was read, and its keys with it.
            if left.is_some() {
                shown.ttl_ms = left;
                kept.push(shown);
            }
        }
        Ok(Some(kept))
    }
}

/// What is to be typed to go on.
fn go_on(exit: Exit, after: Option<&str>) -> Exit {
    match (after, &exit.err) {
        (Some(after), Some(why)) => {
            Exit::error(exit.code, format!("{why}. Whole lines were written; --after {after:?} goes on"))
        }
        _ => exit,
    }
}
