//! What goes wrong while the page is open is on the page, soon and in order.

use std::time::Instant;

use super::{on_a_cluster, page, put};
use crate::support::namespace::say_figure;
use crate::support::wait::{SETTLE, check, eventually};

/// The leader is killed while somebody watches: the reason, the votes and the new leader come in that order.
#[test]
fn leader_killed() {
    on_a_cluster("page::faults::leader_killed", 3, |mut cluster, browser| {
        let leader = cluster.leader();
        let asked = cluster.follower();
        browser.go(&page(&cluster.nodes[asked], "live"));
        browser.sees("main", &["leads in term", &cluster.nodes[leader].haddr]);
        (0..4).for_each(|n| put(&cluster.nodes[asked], &format!("app/{n}"), "", b"1"));
        browser.sees(".events", &["entries"]);
        let gone = cluster.nodes[leader].haddr.clone();
        let killed = Instant::now();
        cluster.nodes[leader].kill();
        let text = eventually(SETTLE, "another leader on the page", || {
            let text = browser.text(".lead")?;
            let is_other = text.contains(" leads in term ") && text.contains(": ") && !text.starts_with(&gone);
            check(is_other, || text.clone())?;
            Ok(text)
        });
        let after = killed.elapsed();
        say_figure(&format!("the page showed the next leader {after:?} after the kill: {text}"));
        assert!(text.contains("is gone") || text.contains("no leader was heard"), "{text}");
        let now = cluster.leader();
        assert!(text.starts_with(&cluster.nodes[now].haddr), "{text}");
        let votes = browser.sees(".under", &["voted for it", "the candidate's log"]);
        say_figure(&format!("and why: {votes}"));

        // In the order of the log, by the table.
        let term: u64 =
            text.split(" leads in term ").nth(1).unwrap().split([':', '.']).next().unwrap().parse().unwrap();
        let rows = browser.sees(".events tbody", &[&format!("is elected in term {term}")]);
        let place = |part: &str| rows.find(part).unwrap_or_else(|| panic!("no {part:?} in\n{rows}"));
        let begins = place(&format!("begins an election for term {term}"));
        let asks = place(&format!("for its vote in term {term}"));
        let votes = place(&format!("votes for {} in term {term}", cluster.nodes[now].haddr));
        let elected = place(&format!("is elected in term {term}"));
        assert!(begins < asks && asks < votes && votes < elected, "{rows}");
        browser.shoot("leader-killed");

        // It comes back, and so it is told.
        cluster.nodes[leader].start();
        cluster.settled();
        browser.sees(".stage", &[&gone]);
        eventually(SETTLE, "nobody is lost", || {
            let lanes = browser.run(
                "return [...document.querySelectorAll('.lane-state')].map((one) => one.textContent).join(' ')",
                &[],
            );
            let lanes = lanes.as_str().unwrap_or_default().to_owned();
            check(!lanes.contains("Lost") && lanes.contains("Leader") && lanes.contains("Follower"), || lanes.clone())
        });
    });
}

/// The node that the page asks is gone: it says so, names the other members, and goes on by itself once that is back; at
/// another member where it does not come back.
#[test]
fn asked_node_gone() {
    on_a_cluster("page::faults::asked_node_gone", 3, |mut cluster, browser| {
        browser.go(&page(&cluster.nodes[0], "cluster"));
        browser.sees("main", &["All 3 voters answer"]);
        let other = cluster.nodes[1].haddr.clone();
        browser.sees("main", &[&other]);
        cluster.nodes[0].kill();
        let said = browser.sees("#banner", &["does not answer", "Go on at another member", &other]);
        assert!(said.contains(&cluster.nodes[0].haddr) && said.contains("it goes on at"), "{said}");
        browser.click("Stay here");
        // There the same view is shown.
        let script = "return [...document.querySelectorAll('#banner a')].map((one) => one.href)";
        let links = browser.run(script, &[]).to_string();
        assert!(links.contains(&format!("http://{other}/ui/#cluster")), "{links}");
        cluster.nodes[0].start();
        eventually(SETTLE, "the page goes on", || {
            let banner = browser.text("#banner")?;
            check(!banner.contains("does not answer"), || banner)
        });
        browser.sees("main", &["All 3 voters answer"]);

        // A click leads from one member's page to another's, which is another site to a browser.
        browser.go(&page(&cluster.nodes[0], "cluster"));
        browser.sees("main", &["All 3 voters answer"]);
        let script = "[...document.querySelectorAll('.addr')].find((one) => one.textContent === arguments[0]).click()";
        browser.run(script, &[other.as_str().into()]);
        eventually(SETTLE, "the other's page", || {
            let at = browser.run("return location.host", &[]);
            check(at == other.as_str(), || at.to_string())
        });
        browser.sees("main", &["All 3 voters answer", "this page asks it"]);

        // That one does not come back: the page goes on at another.
        cluster.nodes[1].kill();
        eventually(SETTLE * 2, "another's page", || {
            let at = browser.run("return location.host", &[]);
            check([0, 2].iter().any(|number| at == cluster.nodes[*number].haddr.as_str()), || at.to_string())
        });
        browser.sees("main", &["2 of 3 voters answer", "this page asks it"]);
    });
}

/// Without a quorum there is no leader: the page says so, and what is left to do. The removal of the last but one voter says
/// what it means before it is done.
#[test]
fn quorum_gone() {
    on_a_cluster("page::faults::quorum_gone", 3, |mut cluster, browser| {
        browser.go(&page(&cluster.nodes[0], "cluster"));
        browser.sees("main", &["All 3 voters answer"]);
        cluster.nodes[2].kill();
        browser.sees("main", &["2 of 3 voters answer; if one more is lost, nothing can be written"]);
        browser.sees(".findings", &[&cluster.nodes[2].haddr]);
        cluster.nodes[1].kill();
        browser.sees(
            "main",
            &["there can be none", "1 of 3 voters answers", "nothing can be written until one more is back", "Lost"],
        );
        browser.sees("#banner", &["No leader"]);
        browser.sees(".findings", &["no quorum: 1 of 3 voters answers, 2 are needed"]);
        let controls = "return [...document.querySelectorAll('.acts button')].filter((one) => !one.disabled).length";
        assert_eq!(browser.run(controls, &[]), 0, "nothing is offered that needs a leader");
        browser.sees(".lane", &["Needs a leader"]);
        browser.shoot("no-quorum");
        browser.go(&page(&cluster.nodes[0], "live"));
        browser.sees("main", &["Lost", "There is no leader: 1 of 3 members answers", "Not heard of"]);
        browser.shoot("live-no-quorum");
        cluster.nodes[1].start();
        cluster.nodes[2].start();
        cluster.settled();
        browser.go(&page(&cluster.nodes[0], "cluster"));
        browser.sees("main", &["All 3 voters answer"]);
        let remove = |haddr: &str| {
            let script = "const button = document.querySelector(`[aria-label=\"Remove: ${arguments[0]}\"]`); \
                          const can = !button.disabled; button.click(); return can";
            eventually(SETTLE, "there is a leader to do that", || {
                check(browser.run(script, &[haddr.into()]) == true, || browser.body())
            });
        };
        remove(&cluster.nodes[2].haddr);
        browser.sees("dialog", &["2 voters are left, and a quorum of them is 2"]);
        browser.click("Remove it");
        browser.sees("main", &["All 2 voters answer", "is no member any more"]);
        remove(&cluster.nodes[1].haddr);
        let said = browser.sees("dialog", &["would be alone", "no second copy"]);
        assert!(said.contains(&cluster.nodes[0].haddr), "{said}");
        browser.click("Cancel");
    });
}

/// The events of a day, at the rate of a busy cluster: what is kept does not grow.
#[test]
fn open_for_a_day() {
    on_a_cluster("page::faults::open_for_a_day", 1, |cluster, browser| {
        browser.go(&page(&cluster.nodes[0], "live"));
        browser.sees(".events", &["is elected in term"]);
        let script = r"return import('./history.js').then(async ({ history, KEPT }) => {
            const { node, term } = history.events.find((event) => event.event === 'elected');
            const begin = Date.now();
            const feed = (from, count) => {
                for (let n = from; n < from + count; n += 1) {
                    const kind = n % 1000 === 0 ? 'role' : ['append', 'commit', 'apply'][n % 3];
                    history.take({ event: kind, node, term, index: 100 + n, time: new Date(begin + n * 60).toISOString(), text: `${node} is Leader: event ${n}.`, count: 1 });
                }
            };
            const used = [];
            const rows = [];
            for (let round = 0; round < 6; round += 1) {
                for (let part = 0; part < 10; part += 1) {
                    feed((round * 10 + part) * 24_000, 24_000);
                    await new Promise((done) => setTimeout(done, 20));
                }
                await new Promise((done) => setTimeout(done, 400));
                used.push(performance.memory.usedJSHeapSize);
                rows.push(document.querySelectorAll('*').length);
            }
            return [history.events.length <= KEPT + 200, history.dropped > 1_400_000 - 2 * KEPT, used, rows];
        })";
        let seen = browser.run(script, &[]);
        assert_eq!((&seen[0], &seen[1]), (&true.into(), &true.into()), "{seen}");
        let most = |which: &serde_json::Value| {
            which.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect::<Vec<_>>()
        };
        let (used, elements) = (most(&seen[2]), most(&seen[3]));
        assert!(used[5] < used[0] + 30e6, "bytes of the heap after each sixth of a day: {used:?}");
        assert!(elements.iter().all(|count| *count < 6_000.0), "elements of the page: {elements:?}");
        say_figure(&format!(
            "1,440,000 events later the page has {} MB of heap and {} elements",
            (used[5] / 1e6).round(),
            elements[5]
        ));
    });
}
