//! Where authentication is on the page asks who one is, shows what the token may see, and notices when that ends.

use super::{Browser, PROGRAMS, WITHIN, page};
use crate::support::http::{self, Reply};
use crate::support::lab::Lab;
use crate::support::namespace::in_own_network_within;
use crate::support::node::hraftd;
use crate::support::process::finish;
use crate::support::wait::{SETTLE, check, eventually};

#[test]
fn sign_in() {
    in_own_network_within("page::sign_in::sign_in", PROGRAMS, WITHIN, || {
        let lab = Lab::new();
        let file = |kind: &str| {
            let path = lab.path().join(kind).display().to_string();
            let made = finish(hraftd(lab.path()).args([kind, &path]), SETTLE);
            assert_eq!(made.code, Some(0), "{made:?}");
            path
        };
        let (secret, token) = (file("secret"), file("token"));
        let mut node = lab.node("n0").args(&["--cluster-secret-file", &secret, "--root-token-file", &token]);
        node.start();
        node.wait_ready();
        let root = std::fs::read_to_string(&token).unwrap().trim().to_owned();
        let admin = |method: &str, path: &str, body: Option<&str>| -> Reply {
            let bearer = format!("Bearer {root}");
            http::call_with(&node.haddr, method, path, &[("Authorization", &bearer)], body.map(str::as_bytes)).unwrap()
        };
        let made = admin("PUT", "/hraftd/auth/token/web", Some(r#"{"grants":["read:app/","write:app/"]}"#));
        assert_eq!(made.status, 201, "{}", made.brief());
        let web = made.json()["token"].as_str().unwrap().to_owned();
        for (key, value) in [("app/motd", "hello"), ("other", "secret")] {
            assert_eq!(admin("PUT", &format!("/hraftd/key/{key}"), Some(value)).status, 201);
        }

        let browser = Browser::open(lab.path(), 1280, 1000);
        browser.set_dark(false);
        // Its files are public, and nothing else is.
        browser.go(&page(&node, "keys/app%2Fmotd"));
        browser.sees("main", &["Sign in", "This cluster asks who you are"]);
        browser.shoot("sign-in");
        browser.fill("#token", &format!("{}x", &web[..web.len() - 1]));
        browser.click("Sign in");
        eventually(SETTLE, "a refusal", || {
            let text = browser.text("#token-why")?;
            check(!text.is_empty(), || text)
        });
        browser.fill("#token", &web);
        browser.click("Sign in");
        browser.sees(".detail", &["app/motd", "hello"]);
        browser.sees(".asked", &["web", "Sign out"]);
        // No script could take it along.
        assert_eq!(browser.run("return document.cookie", &[]), "");
        let kept = browser.run("return JSON.stringify({...localStorage, ...sessionStorage})", &[]);
        assert!(!kept.as_str().unwrap().contains("hrt_"), "{kept}");

        // What the grants do not cover says so.
        browser.go(&page(&node, "cluster"));
        browser.sees("main", &["This token may not see that", "status", "read:app/"]);
        browser.go(&page(&node, "live"));
        browser.sees("main", &["This token may not see that"]);
        browser.go(&page(&node, "keys/other"));
        browser.sees(".detail", &["this needs the grant", "other"]);

        // Revoked while the page is open.
        browser.go(&page(&node, "keys/app%2Fmotd"));
        browser.sees(".detail", &["hello"]);
        assert_eq!(admin("DELETE", "/hraftd/auth/token/web", None).status, 200);
        let text = browser.sees("main", &["Sign in", "The session has ended"]);
        assert!(!text.contains("hello"), "{text}");
        browser.fill("#token", &root);
        browser.click("Sign in");
        browser.sees(".detail", &["hello"]);
        browser.go(&page(&node, "cluster"));
        browser.sees("main", &["leads in term", "Leader"]);
        browser.click("Sign out");
        browser.sees("main", &["Sign in", "This cluster asks who you are"]);
        assert_eq!(browser.complaints(&["401 (Unauthorized)", "403 (Forbidden)"]), Vec::<String>::new());
    });
}
