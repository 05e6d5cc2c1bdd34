//! `hraftd export`.

use std::collections::HashMap;
use std::time::Duration;

use hyper::StatusCode;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::item;
use crate::client::link::{Cluster, Request, encoded};
use crate::client::out;
use crate::client::pages::{Pages, Shown};
use crate::client::progress::Progress;
use crate::client::signals::{Signals, ended_by};
use crate::config::ExportArgs;
use crate::exit::{EX_FAILURE, Exit};

/// Whoever is told to end may write the lines that it has for so long.
const LAST_LINES: Duration = Duration::from_secs(2);

pub(crate) async fn export(cluster: &Cluster, args: &ExportArgs) -> Result<Exit, Exit> {
    let mut signals = Signals::take()?;
    // No key is empty: after that is all there is.
    let after = args.after.clone().filter(|after| !after.is_empty());
    let mut pages = Pages::new(&args.prefix, after.clone());
    let mut progress = Progress::new("export");
    if after.is_none() {
        let path = format!("/hraftd/key?prefix={}&count", encoded(&args.prefix));
        let request = Request::get(path);
        let counted = tokio::select! {
            counted = cluster.send(&request) => counted?,
            signal = signals.end() => return Err(ended_by(signal)),
        };
        // An older node cannot count: then it is not told how many are left.
        progress.of = counted.ok().and_then(|answer| answer.json()).ok().and_then(|said| said["count"].as_u64());
    }
    let mut leases = Leases::default();
    loop {
        let before = pages.after().map(str::to_owned);
        let told = |signal| Exit::error(ended_by(signal).code, "told to end");
        let page = async { leases.told(cluster, pages.values(cluster).await?).await };
        let page = tokio::select! {
            page = page => page,
            signal = signals.end() => Err(told(signal)),
        };
        let page = match page {
            Ok(page) => page,
            Err(exit) => return Err(go_on(&exit, before.as_deref())),
        };
        let Some(page) = page else { return Ok(Exit::printed("")) };
        let mut text = Vec::new();
        page.iter().for_each(|shown| item::write(&mut text, shown));
        progress.keys += page.len() as u64;
        progress.bytes += text.len() as u64;
        // Not here: whoever reads it may not, and a signal is to end it then, too.
        let mut written = spawn_blocking(move || out::write(&[&text]));
        let failed = |error: tokio::task::JoinError| Exit::error(EX_FAILURE, error.to_string());
        tokio::select! {
            written = &mut written => written.map_err(failed)??,
            signal = signals.end() => return Err(match timeout(LAST_LINES, written).await {
                Ok(written) => {
                    written.map_err(failed)??;
                    go_on(&told(signal), pages.after())
                }
                Err(_) => {
                    let after = before.map_or_else(String::new, |after| format!("; --after {after:?} goes on before them"));
                    Exit::error(told(signal).code, format!("told to end: the last lines may not be whole{after}"))
                }
            }),
        };
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
fn go_on(exit: &Exit, after: Option<&str>) -> Exit {
    match (after, &exit.err) {
        (Some(after), Some(why)) => {
            Exit::error(exit.code, format!("{why}. Whole lines were written; --after {after:?} goes on"))
        }
        _ => exit.clone(),
    }
}
