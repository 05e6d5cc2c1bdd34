//! `hraftd ls`.

use std::borrow::Cow;
use std::time::Duration;

use super::link::{Cluster, Request, encoded};
use super::out;
use super::pages::Pages;
use crate::config::LsArgs;
use crate::exit::{EX_TEMPFAIL, Exit};
use crate::quote::{is_escaped, json_escaped};

/// A listing that says nothing for so long has broken.
const IDLE: Duration = Duration::from_secs(20);

pub(super) async fn ls(cluster: &Cluster, args: &LsArgs, json: bool) -> Result<Exit, Exit> {
    if json {
        return as_it_is(cluster, args).await;
    }
    let mut pages = Pages::new(&args.prefix, None);
    let mut before: Vec<String> = Vec::new();
    loop {
        let mut text = String::new();
        let is_last = if args.keys || args.tree {
            let page = pages.keys(cluster).await?;
            for key in &page {
                if args.tree { branch(&mut text, &mut before, key) } else { text.extend([&*on_a_line(key), "\n"]) }
            }
            page.is_empty()
        } else {
            let page = pages.values(cluster).await?;
            for shown in &page {
                text.extend([&*on_a_line(&shown.key), "\t", &json_escaped(shown.value.get()), "\n"]);
            }
            page.is_empty()
        };
        out::write(&[text.as_bytes()])?;
        if is_last {
            return Ok(Exit::printed(""));
        }
    }
}

/// The server's answer, as it comes.
async fn as_it_is(cluster: &Cluster, args: &LsArgs) -> Result<Exit, Exit> {
    let keys = if args.keys || args.tree { "&keys" } else { "" };
    let path = format!("/hraftd/key?prefix={}{keys}", encoded(&args.prefix));
    let mut stream = cluster.open(&Request::get(path)).await?.of_a_node()?;
    while let Some(bytes) = stream.next(IDLE).await.map_err(|why| Exit::error(EX_TEMPFAIL, why))? {
        out::write(&[&bytes])?;
    }
    out::write(&[b"\n"])
}

/// A key that has line ends or the like is quoted.
pub(super) fn on_a_line(key: &str) -> Cow<'_, str> {
    match key.contains(is_escaped) {
        true => Cow::Owned(format!("{key:?}")),
        false => Cow::Borrowed(key),
    }
}

/// The parts of a key that the one before does not have, each on a line.
fn branch(text: &mut String, before: &mut Vec<String>, key: &str) {
    let parts: Vec<String> = key.split_inclusive('/').map(str::to_owned).collect();
    let same = parts.iter().zip(before.iter()).take_while(|(a, b)| a == b).count();
    for (depth, part) in parts.iter().enumerate().skip(same) {
        text.extend([&*"  ".repeat(depth), &on_a_line(part), "\n"]);
    }
    *before = parts;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_a_tree() {
        let (mut text, mut before) = (String::new(), Vec::new());
        for key in ["a", "a/b", "a/c/d", "a/c/e\n", "a/c/f\u{202e}", "b/c/d"] {
            branch(&mut text, &mut before, key);
        }
        assert_eq!(text, "a\na/\n  b\n  c/\n    d\n    \"e\\n\"\n    \"f\\u{202e}\"\nb/\n  c/\n    d\n");
    }
}
