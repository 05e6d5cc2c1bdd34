//! `hraftd export`.

use super::item;
use super::progress::Progress;
use crate::client::link::{Cluster, Request, encoded};
use crate::client::out;
use crate::client::pages::Pages;
use crate::config::ExportArgs;
use crate::exit::Exit;

pub(crate) async fn export(cluster: &Cluster, args: &ExportArgs) -> Result<Exit, Exit> {
    let mut pages = Pages::new(&args.prefix, args.after.clone());
    let mut progress = Progress::new("export");
    if args.after.is_none() {
        let path = format!("/hraftd/key?prefix={}&count", encoded(&args.prefix));
        progress.of = cluster.send(&Request::get(path)).await?.ok()?.json()?["count"].as_u64();
    }
    loop {
        let page = match pages.values(cluster).await {
            Ok(page) => page,
            Err(exit) => return Err(go_on(exit, pages.after())),
        };
        if page.is_empty() {
            return Ok(Exit::printed(""));
        }
        let mut text = Vec::new();
        page.iter().for_each(|shown| item::write(&mut text, shown));
        out::write(&[&text])?;
        progress.keys += page.len() as u64;
        progress.bytes += text.len() as u64;
        progress.show();
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
