//! Headless Chromium through chromedriver, which speaks JSON over HTTP (WebDriver): no Selenium is needed for that.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::http::Conn;
use crate::support::ports;
use crate::support::process::Reaped;
use crate::support::wait::{SETTLE, eventually};

/// A browser on a loaded machine takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the tests of the page need, with the Debian packages.
pub const PROGRAMS: &[(&str, &str)] = &[("chromium", "chromium"), ("chromedriver", "chromium-driver")];

/// One window of a browser of its own.
#[derive(Debug)]
pub struct Browser {
    addr: String,
    session: String,
    _driver: Reaped,
    shots: PathBuf,
}

/// axe-core, which `.ci/steps` puts there.
pub fn axe() -> Option<String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    std::fs::read_to_string(target.join("axe/axe.min.js")).ok()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Browser {
    /// Opens a window of this size. `dir` takes what it writes.
    pub fn open(dir: &Path, width: u32, height: u32) -> Self {
        Self::open_with(dir, width, height, &[])
    }

    /// The same, with more arguments.
    pub fn open_with(dir: &Path, width: u32, height: u32, more: &[&str]) -> Self {
        let port = ports::free_pair();
        let addr = format!("127.0.0.1:{port}");
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).env("HOME", dir).env("TMPDIR", dir);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = Reaped::spawn(&mut command);
        let mut browser =
            Self { addr, session: String::new(), _driver: driver, shots: root().join("target/page-screenshots") };
        std::fs::create_dir_all(&browser.shots).unwrap();
        eventually(SETTLE, "chromedriver", || browser.call("GET", "/status", None).map(drop));
        let window = format!("--window-size={width},{height}");
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
            &window,
        ];
        let args: Vec<&str> = args.iter().chain(more).copied().collect();
        let wanted = json!({
            "goog:chromeOptions": {"args": args, "prefs": {"profile.default_content_setting_values.clipboard": 1}},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "timeouts": {"script": PATIENCE.as_millis()},
        });
        let wanted = json!({"capabilities": {"alwaysMatch": wanted}});
        let answer = browser.call("POST", "/session", Some(&wanted)).unwrap();
        browser.session = format!("/session/{}", answer["sessionId"].as_str().unwrap());
        browser
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let mut conn = Conn::open_within(&self.addr, PATIENCE)?;
        let body = body.map(Value::to_string);
        let headers = [("Content-Type", "application/json"), ("Connection", "close")];
        let reply = conn.request(method, path, &headers, body.as_ref().map(String::as_bytes))?;
        match reply.status {
            200 => Ok(reply.json()["value"].clone()),
            _ => Err(reply.brief()),
        }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let path = format!("{}{path}", self.session);
        self.call(method, &path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn cdp(&self, command: &str, params: &Value) -> Value {
        self.ask("POST", "/goog/cdp/execute", Some(&json!({"cmd": command, "params": params})))
    }

    /// Goes to an address.
    pub fn go(&self, url: &str) {
        self.ask("POST", "/url", Some(&json!({"url": url})));
    }

    /// The same, where it may be refused.
    pub fn try_go(&self, url: &str) -> Result<(), String> {
        let path = format!("{}/url", self.session);
        self.call("POST", &path, Some(&json!({"url": url}))).map(drop)
    }

    /// The cookies that it would send to this place.
    pub fn cookies(&self) -> Value {
        self.ask("GET", "/cookie", None)
    }

    /// What a script returns; `arguments` are its arguments. It may be a promise.
    pub fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.ask("POST", "/execute/sync", Some(&json!({"script": script, "args": arguments})))
    }

    /// The text of the first element of a selector, as it is seen; an error where there is none.
    pub fn text(&self, selector: &str) -> Result<String, String> {
        let script =
            "const found = document.querySelector(arguments[0]); return found?.innerText ?? found?.textContent ?? null";
        let found = self.run(script, &[selector.into()]);
        found.as_str().map(str::to_owned).ok_or_else(|| format!("no {selector} in: {}", self.body()))
    }

    /// All that is seen.
    pub fn body(&self) -> String {
        self.run("return document.body.innerText", &[]).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until all of these are seen at a selector.
    pub fn sees(&self, selector: &str, wanted: &[&str]) -> String {
        eventually(SETTLE, &format!("{wanted:?} at {selector}"), || {
            let text = self.text(selector)?;
            let missing: Vec<_> = wanted.iter().filter(|wanted| !text.contains(**wanted)).collect();
            if missing.is_empty() { Ok(text) } else { Err(format!("without {missing:?}: {text}")) }
        })
    }

    /// Clicks on what a selector finds, or on the button with this text, as a person would.
    pub fn click(&self, wanted: &str) {
        let (using, value) = if wanted.starts_with(['.', '#', '[']) {
            ("css selector", wanted.to_owned())
        } else {
            ("xpath", format!("//button[normalize-space()='{wanted}']"))
        };
        // What is found may be painted anew before it is clicked.
        eventually(SETTLE, &format!("a click on {wanted}"), || {
            let path = format!("{}/element", self.session);
            let found = self.call("POST", &path, Some(&json!({"using": using, "value": value})))?;
            let id = found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
            self.call("POST", &format!("{}/element/{id}/click", self.session), Some(&json!({}))).map(drop)
        });
    }

    /// Types into the field of a selector, in place of what it has.
    pub fn fill(&self, selector: &str, text: &str) {
        eventually(SETTLE, selector, || self.text(selector).map(drop));
        let script =
            "const field = document.querySelector(arguments[0]); field.focus(); field.select?.(); return field";
        let field = self.run(script, &[selector.into()]);
        let id = field.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
        self.ask("POST", &format!("/element/{id}/value"), Some(&json!({"text": text})));
    }

    /// Presses keys, one after the other, wherever the focus is.
    pub fn press(&self, keys: &[char]) {
        let actions: Vec<Value> = keys
            .iter()
            .flat_map(|key| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})])
            .collect();
        self.ask("POST", "/actions", Some(&json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]})));
    }

    /// How the system is set: dark or light, with or without motion.
    pub fn set_dark(&self, dark: bool) {
        let scheme = json!({"name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" }});
        let motion = json!({"name": "prefers-reduced-motion", "value": "reduce"});
        self.cdp("Emulation.setEmulatedMedia", &json!({"features": [scheme, motion]}));
    }

    /// The window is as narrow as that of a telephone.
    pub fn set_width(&self, width: u32) {
        let size = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false});
        self.cdp("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Keeps a picture of what is seen, in `target/page-screenshots`.
    pub fn shoot(&self, name: &str) -> Vec<u8> {
        let shot = self.ask("GET", "/screenshot", None);
        let png = base64::engine::general_purpose::STANDARD.decode(shot.as_str().unwrap()).unwrap();
        std::fs::write(self.shots.join(format!("{name}.png")), &png).unwrap();
        png
    }

    /// The part of the page from the top of what one selector finds to the end of what another does.
    pub fn part(&self, from: &str, to: &str) -> Value {
        let script = "scrollTo(0, 0); const box = (one) => document.querySelector(one).getBoundingClientRect(); \
                      const top = box(arguments[0]).top - 12; \
                      return {x: 0, y: top, width: innerWidth, height: box(arguments[1]).bottom + 2 - top, scale: 1}";
        self.run(script, &[from.into(), to.into()])
    }

    /// Keeps a picture of a part of the page.
    pub fn shoot_part(&self, part: &Value, file: &Path) {
        let shot = self.cdp("Page.captureScreenshot", &json!({"clip": part, "captureBeyondViewport": true}));
        let png = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(file, png).unwrap();
    }

    /// What axe-core finds, each with the first element that it is about.
    pub fn violations(&self, axe: &str) -> Vec<String> {
        self.run(&format!("{axe}; return null"), &[]);
        let script = "return axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations.map((one) => \
                      `${one.id}: ${one.nodes[0].html.slice(0, 200)} ${one.nodes[0].any[0]?.message ?? ''}`))";
        let found = self.run(script, &[]);
        found.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    }

    /// What the console has that is wrong. Answers that are no success are among it: `expected` are parts of those that the
    /// test brought about.
    pub fn complaints(&self, expected: &[&str]) -> Vec<String> {
        let log = self.ask("POST", "/se/log", Some(&json!({"type": "browser"})));
        let lines = log.as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap_or_default().to_owned());
        lines.filter(|line| !expected.iter().any(|part| line.contains(part))).collect()
    }

    /// The origins that were asked for anything.
    pub fn origins(&self) -> Vec<String> {
        let log = self.ask("POST", "/se/log", Some(&json!({"type": "performance"})));
        let mut origins: Vec<String> = log
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line["message"].as_str()?).ok())
            .filter(|line| line["message"]["method"] == "Network.requestWillBeSent")
            .filter_map(|line| line["message"]["params"]["request"]["url"].as_str().map(str::to_owned))
            .filter(|url| !url.starts_with("data:") && !url.starts_with("chrome:"))
            .map(|url| url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/"))
            .collect();
        origins.sort();
        origins.dedup();
        origins
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.session.is_empty() {
            eprintln!(
                "--- the page\n{:?}",
                self.call(
                    "POST",
                    &format!("{}/execute/sync", self.session),
                    Some(&json!({"script": "return document.body.innerText", "args": []}))
                )
            );
        }
        // chromedriver ends its browser with the session; alone it would leave it running.
        if !self.session.is_empty() {
            let _ = self.call("DELETE", &self.session, None);
        }
    }
}
