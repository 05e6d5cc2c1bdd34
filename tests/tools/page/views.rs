//! Each view shows what is so, to everybody, in light and dark, wide and narrow; and nothing that is stored is taken for more
//! than text.

use serde_json::{Value, json};

use super::browser::axe;
use super::{on_a_cluster, page, put};
use crate::support::http;
use crate::support::namespace::skip;
use crate::support::wait::{SETTLE, check, eventually};

/// Views, and what is seen there once they are complete.
const VIEWS: [(&str, &str, &[&str]); 6] = [
    ("cluster", "main", &["leads in term", "Leader", "Follower", "Add a node", "hraftd --haddr HOST:PORT --rjoin"]),
    ("live", "main", &["leads in term", "What does this mean?", "In order", "elected"]),
    ("write", "main", &["Write it"]),
    ("keys/app%2Fconfig", "main", &["app/config", "12345678901234567890", "changed at index"]),
    ("watch", "main", &["Changes", "jobs/report", "Holder"]),
    ("keys", "main", &["Choose a key", "many/"]),
];

#[test]
fn views() {
    if axe().is_none() {
        return skip("page::views::views", "missing from npm: axe-core, which .ci/steps puts into target/axe");
    }
    on_a_cluster("page::views::views", 3, |cluster, browser| {
        let axe = axe().unwrap();
        let leader = &cluster.nodes[cluster.leader()];
        put(leader, "app/config", "?json", br#"{"name":"web","big":12345678901234567890,"on":true}"#);
        put(leader, "app/text", "?ttl=1h", b"some text");
        for chunk in 0..10 {
            let keys: serde_json::Map<String, Value> =
                (0..1_000).map(|n| (format!("many/{:05}", chunk * 1_000 + n), n.into())).collect();
            leader.post("/hraftd/key", &Value::from(keys).to_string()).unwrap().ok().unwrap();
        }
        leader.post("/hraftd/lock/jobs/report?ttl=10m", r#"{"host":"a"}"#).unwrap().ok().unwrap();

        // As somebody types it.
        browser.go(&format!("http://{}/", leader.haddr));
        let text = browser.sees("main", &["Leader", "Follower"]);
        for node in &cluster.nodes {
            assert!(text.contains(&node.haddr), "{} is not in {text}", node.haddr);
        }
        let place = browser.run("return location.pathname", &[]);
        assert_eq!(place, "/ui/");

        for dark in [false, true] {
            browser.set_dark(dark);
            for (view, place, wanted) in VIEWS {
                browser.go(&page(leader, view));
                browser.sees(place, wanted);
                if view == "write" {
                    browser.click("Write it");
                    browser.sees("main", &["The request", "quorum", "committed"]);
                }
                let name = view.split('/').next().unwrap();
                let name = if view.contains('/') { "key" } else { name };
                browser.shoot(&format!("{name}-{}", if dark { "dark" } else { "light" }));
                assert_eq!(browser.violations(&axe), Vec::<String>::new(), "{view}, dark {dark}");
            }
        }
        browser.set_dark(false);
        browser.set_width(360);
        for (view, place, wanted) in VIEWS {
            browser.go(&page(leader, view));
            browser.sees(place, wanted);
            let overflow = browser.run("return document.documentElement.scrollWidth - innerWidth", &[]);
            assert!(overflow.as_i64().unwrap() <= 0, "{view} is {overflow} too wide at 360 px");
            browser.shoot(&format!("{}-360", view.split('/').next().unwrap()));
        }
        assert_eq!(browser.complaints(&[]), Vec::<String>::new());
        assert_eq!(browser.origins(), [format!("http://{}", leader.haddr)]);
        listing_is_in_pages(&browser, leader);
    });
}

/// Of 10,000 keys in a folder a page asks for a hundred, and for more where that is wished.
fn listing_is_in_pages(browser: &super::Browser, leader: &crate::support::node::Node) {
    browser.set_width(1280);
    browser.go(&page(leader, "keys"));
    browser.sees(".tree", &["many/"]);
    browser.run(
        "[...document.querySelectorAll('.tree button')].find((one) => one.textContent.includes('many/')).click()",
        &[],
    );
    browser.sees(".tree", &["00099", "Show 100 more"]);
    let nodes = || browser.run("return document.querySelectorAll('.tree .node').length", &[]).as_u64().unwrap();
    assert!(nodes() < 120, "{}", nodes());
    browser.click("Show 100 more after 100");
    browser.sees(".tree", &["00199"]);
    assert!(nodes() < 220, "{}", nodes());
    // A search by prefix.
    browser.fill("#prefix", "many/0999");
    browser.sees(".tree", &["9", "0"]);
    eventually(SETTLE, "ten keys", || {
        let text = browser.text(".split")?;
        check(text.contains("10 keys"), || text)
    });
}

/// A hostile key or value is text in every view: nothing runs, nothing is fetched, and what would turn the text is seen.
#[test]
fn hostile() {
    on_a_cluster("page::views::hostile", 1, |cluster, browser| {
        let node = &cluster.nodes[0];
        let markup = "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script>";
        let turned = "evil/\u{202e}gnp.exe\u{200b}\n\t\u{7}";
        let long = format!("evil/{}", "k".repeat(4_000));
        let values = json!({
            markup: {markup: markup},
            turned: format!("a\u{202e}b\u{0}c"),
            &long: "x".repeat(1_000_000),
            "evil/deep": {"constructor": {"__proto__": [markup]}},
        });
        node.post("/hraftd/key", &values.to_string()).unwrap().ok().unwrap();
        put(node, "evil/bytes", "", &(0..=255).collect::<Vec<u8>>());
        let lock = http::call(
            &node.haddr,
            "POST",
            "/hraftd/lock/%3Cb%3Elock?ttl=10m",
            Some(json!(markup).to_string().as_bytes()),
        );
        lock.unwrap().ok().unwrap();

        let shown = |key: &str, wanted: &[&str]| {
            let key: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
            browser.go(&page(node, &format!("keys/{key}")));
            browser.sees(".detail", wanted);
        };
        shown(markup, &[markup, "\"<img src=x onerror=\\\"window.pwned=1\\\">"]);
        shown(turned, &["evil/<202E>gnp.exe<200B><000A><0009><0007>", "a<202E>b<0000>c"]);
        shown(&long, &["kkkkkkkkkk", "976.6 KiB", "Show all of it"]);
        shown("evil/deep", &["__proto__", "<script>"]);
        shown("evil/bytes", &["256 B", "00 01 02 03", "f0 f1 f2"]);
        browser.go(&page(node, "watch"));
        browser.sees("main", &["<b>lock", "Nothing has changed yet"]);
        put(node, "%3Cu%3Ekey", "", markup.as_bytes());
        browser.sees(".feed", &["<u>key", "<img src=x"]);
        for index in ["live", "cluster"] {
            browser.go(&page(node, index));
            browser.sees("main", &["leads in term"]);
        }
        assert_eq!(browser.run("return window.pwned ?? null", &[]), Value::Null);
        assert_eq!(
            browser.run("return document.querySelectorAll('main img, main script, main b, main u').length", &[]),
            0
        );
        assert_eq!(browser.complaints(&[]), Vec::<String>::new());
        assert_eq!(browser.origins(), [format!("http://{}", node.haddr)]);
    });
}

/// The keyboard alone: to a view, through the events, into a dialogue and out again.
#[test]
fn keyboard() {
    const TAB: char = '\u{e004}';
    const ENTER: char = '\u{e007}';
    const SPACE: char = ' ';
    const ESCAPE: char = '\u{e00c}';
    on_a_cluster("page::views::keyboard", 3, |cluster, browser| {
        let node = &cluster.nodes[cluster.leader()];
        browser.go(&page(node, "cluster"));
        browser.sees("main", &["leads in term", "Remove…"]);
        let focused = || {
            let script = "const is = document.activeElement; if (['BODY', 'MAIN', 'DIV', 'SECTION'].includes(is.tagName)) return ''; return `${is.tagName} ${(is.getAttribute('aria-label') ?? is.innerText ?? '').trim()}`";
            browser.run(script, &[]).as_str().unwrap_or_default().to_owned()
        };
        let tab_to = |wanted: &str| {
            for _ in 0..60 {
                browser.press(&[TAB]);
                if focused().contains(wanted) {
                    return;
                }
            }
            panic!("TAB does not come to {wanted}: {}", focused());
        };
        tab_to("Remove");
        browser.press(&[ENTER]);
        browser.sees(
            "dialog",
            &["from the cluster?", "voters are left", "Then the loss of any one of them stops all writes"],
        );
        assert!(focused().contains("Cancel"), "{}", focused());
        browser.press(&[ESCAPE]);
        eventually(SETTLE, "no dialogue", || {
            let open = browser.run("return document.querySelectorAll('dialog').length", &[]);
            check(open == 0, || open.to_string())
        });
        browser.run("document.activeElement.blur()", &[]);
        tab_to("Raft, live");
        browser.press(&[ENTER]);
        browser.sees("main", &["In order", "elected"]);
        tab_to("Pause");
        browser.press(&[SPACE]);
        browser.sees(".deck", &["Go on live"]);
        tab_to("One step back");
        let before = browser.text(".deck .num").unwrap();
        browser.press(&[ENTER, ENTER]);
        let after = browser.text(".deck .num").unwrap();
        assert_ne!(before, after);
        browser.sees(".meaning", &["What does this mean?", "§"]);
    });
}
