//! Edges of ranges, and what a long poll asks for again.

use super::*;

/// All words of these letters, up to three long, but the empty one.
fn words() -> Vec<String> {
    let letters = ["a", "b", "/"];
    let longer = |words: &[String]| -> Vec<String> {
        words.iter().flat_map(|word| letters.iter().map(move |letter| format!("{word}{letter}"))).collect()
    };
    let one = longer(&[String::new()]);
    let two = longer(&one);
    let three = longer(&two);
    [one, two, three].concat()
}

/// What a listing of names has to show, said as plainly as it can be.
fn model(keys: &[String], prefix: &str, after: Option<&str>, separator: bool) -> Vec<String> {
    let shown = |key: &String| -> Option<String> {
        let rest = key.strip_prefix(prefix)?;
        let folder = rest.find('/').filter(|_| separator).map(|at| key[..prefix.len() + at + 1].to_owned());
        Some(folder.unwrap_or_else(|| key.clone()))
    };
    let mut names: Vec<String> = keys.iter().filter_map(shown).collect();
    names.sort_unstable();
    names.dedup();
    // What lies within a folder that was listed already is listed with it.
    names.retain(|name| {
        after.is_none_or(|after| name.as_str() > after && !(separator && is_within(after, name, prefix)))
    });
    names
}

/// Whether `after` is a key within the folder `name`, so that the page before had it.
fn is_within(after: &str, name: &str, prefix: &str) -> bool {
    name.ends_with('/') && name.len() > prefix.len() && after.starts_with(name)
}

/// `after` before the prefix, the prefix itself, a key, between keys, a folder, past all.
#[tokio::test]
async fn after_is_where_it_is_said_to_be() {
    let keys: Vec<String> = words().into_iter().step_by(2).collect();
    let server = Server::start().await;
    let body: serde_json::Map<String, serde_json::Value> =
        keys.iter().map(|key| (key.clone(), serde_json::Value::from(1))).collect();
    server.ask("POST", "/key", &serde_json::Value::from(body).to_string()).await;
    let mut nonempty = 0;
    for prefix in ["", "a", "b", "/", "ab", "a/", "/a", "b//"] {
        for after in [String::new(), "aaaa".to_owned(), "zz".to_owned()].into_iter().chain(words()) {
            for separator in [false, true] {
                let rest = if separator { "&separator=/" } else { "" };
                let target = format!("/key?prefix={prefix}&keys&after={after}{rest}").replace("/&", "%2F&");
                let answer = server.get(&target).await;
                let listed: Vec<String> = serde_json::from_str(&answer.body).unwrap();
                let wanted = model(&keys, prefix, Some(&after), separator);
                assert_eq!(listed, wanted, "{target}");
                nonempty += usize::from(!listed.is_empty());
            }
        }
    }
    assert!(nonempty > 100, "{nonempty} listings had something: no test");
}

/// Every page begins where the one before has ended, whatever its size.
#[tokio::test]
async fn pages_leave_nothing_out_and_repeat_nothing() {
    let keys: Vec<String> = words().into_iter().step_by(2).collect();
    let server = Server::start().await;
    for key in &keys {
        server.ask("POST", "/key", &format!("{{{}:1}}", serde_json::Value::from(key.as_str()))).await;
    }
    for prefix in ["", "a", "b/", "/"] {
        for separator in [false, true] {
            for limit in 1..=5 {
                let rest = if separator { "&separator=%2F" } else { "" };
                let mut target = Some(format!("/key?prefix={}&keys&limit={limit}{rest}", prefix.replace('/', "%2F")));
                let mut listed = Vec::new();
                while let Some(next) = target {
                    let answer = server.get(&next).await;
                    let page: Vec<String> = serde_json::from_str(&answer.body).unwrap();
                    assert!(page.len() <= limit, "{next}: {page:?}");
                    listed.extend(page);
                    let link = answer.header("link").map(str::to_owned);
                    target = link.map(|link| link[1..link.find('>').unwrap()].to_owned());
                }
                assert_eq!(listed, model(&keys, prefix, None, separator), "{prefix} {limit} {separator}");
            }
        }
    }
}

/// What it read first may have been the leader's: its own copy is read from there on only.
#[tokio::test]
async fn a_long_poll_goes_on_from_what_it_has_read() {
    let server = Server::start().await;
    server.ask("POST", "/key", r#"{"other":1}"#).await;
    for (level, first) in [("linearizable", "Linearizable"), ("weak", "Weak"), ("none", "None"), ("auto", "Auto")] {
        server.fake.calls();
        server.get(&format!("/key/k?level={level}&wait=1ms")).await.is_error(404, "not_found", "no key");
        let calls = server.fake.calls();
        assert_eq!(calls[0], format!("get k {first} in 10"));
        assert!(calls.len() > 1 && calls[1..].iter().all(|call| call == "get k None None 11 in 10"), "{calls:?}");
    }
}
