//! The pictures of docs/raft.md, which are made while its commands run: each shows on the page what the commands above it
//! brought about.
//!
//! `HRAFTD_PICTURES=1 cargo test --test tools walkthrough::docs_raft` makes them anew; a recording needs `img2webp`, of
//! Debian's `webp`. Without that variable none is made, and no browser is needed.

use std::path::Path;
use std::process::Command;

use crate::page::browser::Browser;
use crate::support::wait::{SETTLE, check, eventually};

/// The page that is looked at, and its view.
const LOOKED_AT: &str = "http://localhost:11001/ui/#live";

/// The steps of a recording, the first of which are before what it is about.
const FRAMES: usize = 18;
const BEFORE: usize = 4;
const FRAME_MS: &str = "1300";
const LAST_FRAME_MS: &str = "4000";

/// Chooses the last event whose row in the table fits a pattern.
const CHOOSE: &str = "const fits = new RegExp(arguments[0]); const row = [...document.querySelectorAll('.events tbody tr')]\
                      .findLast((row) => fits.test(row.innerText)); row?.click(); return Boolean(row)";

/// A browser that looks at the cluster of a page while its commands run.
#[derive(Debug)]
pub struct Pictures {
    browser: Option<Browser>,
    looks: bool,
}

impl Pictures {
    /// Of this page; `dir` takes what the browser writes.
    pub fn of(page: &str, dir: &Path) -> Self {
        let wanted = page == "docs/raft.md" && std::env::var_os("HRAFTD_PICTURES").is_some();
        Self { browser: wanted.then(|| Browser::open(dir, 1180, 1000)), looks: false }
    }

    /// Looks from now on, where it does not yet: the nodes are started.
    pub fn look(&mut self) {
        let Some(browser) = self.browser.as_ref().filter(|_| !self.looks) else { return };
        browser.set_dark(false);
        eventually(SETTLE, "the page", || browser.try_go(LOOKED_AT));
        browser.sees("main", &["leads in term"]);
        self.looks = true;
    }

    /// Makes a picture of the event that fits a pattern; of what is under way, where there is none. `PORT: PATTERN` is of the
    /// page of that node, which knows what it did before anybody looked.
    pub fn make(&self, file: &Path, pattern: Option<&str>) {
        let Some(browser) = &self.browser else { return };
        let node = pattern.and_then(|pattern| pattern.split_once(": ")).filter(|(port, _)| port.parse::<u16>().is_ok());
        if let Some((port, _)) = node {
            browser.go(&LOOKED_AT.replace("11001", port));
        }
        let pattern = node.map(|(_, pattern)| pattern).or(pattern);
        if let Some(pattern) = pattern {
            eventually(SETTLE, pattern, || {
                let found = browser.run(CHOOSE, &[pattern.into()]);
                check(found == true, || browser.body())
            });
        }
        let is_recording = file.extension().is_some_and(|extension| extension == "webp");
        if is_recording {
            record(browser, file);
        } else {
            browser.shoot_part(&browser.part(".lead", ".tails"), file);
        }
        if node.is_some() {
            browser.go(LOOKED_AT);
        } else if pattern.is_some() {
            browser.click("Go on live");
        }
    }
}

/// Goes through what happened, from a little before the event that is chosen.
fn record(browser: &Browser, file: &Path) {
    let legend = |place: &str| browser.run(&format!("const legend = document.querySelector('.legend'); {place}"), &[]);
    legend("legend.style.display = 'none'");
    (0..BEFORE).for_each(|_| browser.click(".deck [aria-label='One step back']"));
    let frames: Vec<_> = (0..FRAMES).map(|number| file.with_extension(format!("{number}.png"))).collect();
    // All of one size.
    let part = browser.part(".lead", ".events");
    for frame in &frames {
        browser.shoot_part(&part, frame);
        browser.click(".deck [aria-label='One step on']");
    }
    legend("legend.style.display = ''");
    let mut command = Command::new("img2webp");
    command
        .args(["-loop", "0", "-lossy", "-q", "75", "-m", "4", "-kmax", "30", "-d", FRAME_MS])
        .args(&frames[..FRAMES - 1]);
    command.args(["-d", LAST_FRAME_MS]).arg(&frames[FRAMES - 1]).arg("-o").arg(file);
    assert!(command.status().unwrap().success(), "img2webp makes {}", file.display());
    frames.iter().for_each(|frame| std::fs::remove_file(frame).unwrap());
}
