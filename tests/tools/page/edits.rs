//! Keys are made, changed and deleted on the page, and nobody's change is lost.

use super::{on_a_cluster, page, put};

/// Two edit one key: the second sees both, and decides. So it is where the key is deleted meanwhile.
#[test]
fn conflicts() {
    on_a_cluster("page::edits::conflicts", 3, |cluster, browser| {
        let (node, other) = (&cluster.nodes[0], &cluster.nodes[1]);
        let value = || node.get("/hraftd/key/app/motd?raw").map(|reply| reply.text());
        put(node, "app/motd", "", b"first");
        browser.go(&page(node, "keys/app%2Fmotd"));
        browser.sees(".detail", &["first", "version"]);
        // It follows changes while it is open.
        put(other, "app/motd", "", b"second");
        browser.sees(".detail", &["second"]);

        browser.click("Edit");
        browser.fill("#new-value", "mine");
        put(other, "app/motd", "", b"theirs");
        browser.sees(".conflict", &["Somebody changed this key while you edited it", "theirs", "mine"]);
        assert_eq!(value().unwrap(), "theirs");
        browser.shoot("conflict");
        // Theirs changes once more before it is decided.
        put(other, "app/motd", "", b"theirs again");
        browser.sees(".conflict", &["theirs again"]);
        browser.click("Replace theirs with yours");
        browser.sees(".detail", &["mine", "version"]);
        assert_eq!(value().unwrap(), "mine");

        browser.click("Edit");
        browser.fill("#new-value", "too late");
        node.delete("/hraftd/key/app/motd", None).unwrap().ok().unwrap();
        browser.sees(".conflict", &["was deleted, or has expired", "too late"]);
        browser.click("Leave it, discard mine");
        browser.sees(".detail", &["This key is not there"]);
        assert_eq!(node.get("/hraftd/key/app/motd").unwrap().status, 404);

        // It is changed to one that lives for a second, and ends.
        put(node, "app/ends", "", b"first");
        browser.go(&page(node, "keys/app%2Fends"));
        browser.sees(".detail", &["first", "version"]);
        browser.click("Edit");
        browser.fill("#new-value", "mine");
        put(other, "app/ends", "?ttl=1s", b"short");
        browser.sees(".conflict", &["was deleted, or has expired", "mine"]);
        browser.click("Store yours");
        browser.sees(".detail", &["mine", "version"]);

        // Somebody is quicker by a hair: the page has not heard of it when it writes.
        put(node, "app/race", "", b"first");
        browser.go(&page(node, "keys/app%2Frace"));
        browser.sees(".detail", &["first", "version"]);
        browser.click("Edit");
        browser.fill("#new-value", "mine");
        let quicker = "const real = window.fetch; window.fetch = async (where, how) => { if (how?.method === 'PUT') { \
                       window.fetch = real; await real('../hraftd/key/app/race', {method: 'PUT', body: 'quicker'}); } \
                       return real(where, how); }";
        browser.run(quicker, &[]);
        browser.click("Save");
        browser.sees(".conflict", &["Somebody changed this key while you edited it", "quicker", "mine"]);
        assert_eq!(node.get("/hraftd/key/app/race?raw").unwrap().text(), "quicker");
        // What was no success, the test brought about.
        assert_eq!(browser.complaints(&["404 (Not Found)", "412 (Precondition Failed)"]), Vec::<String>::new());
    });
}

/// A key is made with a time to live, which counts down and takes it; another is deleted.
#[test]
fn made_and_deleted() {
    on_a_cluster("page::edits::made_and_deleted", 1, |cluster, browser| {
        let node = &cluster.nodes[0];
        browser.go(&page(node, "keys"));
        browser.sees("main", &["There are no keys yet", "curl"]);
        browser.click("New key");
        browser.fill("#new-key", "made/here & now?");
        browser.fill("#new-value", "{\"n\": 12345678901234567890}");
        browser.run("document.querySelector('#new-kind').value = 'json'", &[]);
        browser.fill("#new-ttl", "10s");
        browser.click("Make it");
        browser.sees(".detail", &["made/here & now?", "12345678901234567890", "ends in"]);
        let reply = node.get("/hraftd/key/made/here%20&%20now%3F?raw").unwrap();
        assert_eq!(reply.text(), "{\"n\": 12345678901234567890}");
        browser.sees(".detail", &["This key is not there"]);

        put(node, "gone", "", b"x");
        browser.go(&page(node, "keys/gone"));
        browser.sees(".detail", &["Delete…"]);
        browser.click("Delete…");
        browser.sees("dialog", &["Delete this key?"]);
        browser.click("Delete");
        browser.sees(".detail", &["This key is not there"]);
        assert_eq!(node.get("/hraftd/key/gone").unwrap().status, 404);

        // What is refused is said, and nothing is stored.
        browser.click("New key");
        browser.fill("#new-key", "bad");
        browser.run("document.querySelector('#new-kind').value = 'json'", &[]);
        browser.fill("#new-value", "{not json");
        browser.click("Make it");
        browser.sees(".detail", &["the body must be one JSON value"]);
        assert_eq!(node.get("/hraftd/key/bad").unwrap().status, 404);
        assert_eq!(browser.complaints(&["404 (Not Found)", "400 (Bad Request)"]), Vec::<String>::new());
    });
}
