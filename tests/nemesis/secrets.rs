//! The cluster is closed: nodes share a secret, clients speak TLS and show tokens. All three are rotated while everything else
//! goes wrong, and tokens are revoked: nobody is refused for that, and who was revoked writes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::http::{Conn, Reply};
use crate::support::say;
use crate::support::secure::{self, secure, tool};
use crate::support::wait::{SETTLE, check, eventually};
use crate::world::{NODES, World};

/// The token of all clients.
const APP: &str = "app";
const GRANTS: &str = r#"{"grants":["read:","write:","lock:","status","members"]}"#;
const PATIENCE: Duration = Duration::from_secs(3);
/// What was sent with the token before has its answer by then.
const ROTATED_EACH: Duration = Duration::from_secs(12);

/// What an operator has done, and waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// All nodes have one secret.
    One,
    /// A new one is to be trusted everywhere.
    Trusted,
    /// The new one is to issue everywhere.
    Issues,
    /// The old one is to be gone everywhere.
    Gone,
}

#[derive(Debug)]
pub struct Secrets {
    dir: PathBuf,
    haddrs: Vec<String>,
    root: String,
    /// All that were made; the last one is the newest.
    made: Vec<PathBuf>,
    step: Step,
    changed: Instant,
    /// What a node logs that has read its file again.
    logged: String,
    token: String,
    /// When the token was rotated; `None` where nobody knows whether it was.
    rotated: Option<Instant>,
    /// How often the secret was replaced, and the token.
    replaced: (u64, u64),
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

impl Secrets {
    pub fn make(dir: &Path, haddrs: Vec<String>) -> Self {
        let (dir, changed) = (dir.to_owned(), Instant::now());
        tool(&dir, &["token", dir.join("root").to_str().unwrap()]);
        let root = text(&dir.join("root")).trim().to_owned();
        let (made, token, rotated) = (Vec::new(), root.clone(), Some(changed));
        let mut secrets = Self {
            dir,
            haddrs,
            root,
            made,
            step: Step::One,
            changed,
            logged: String::new(),
            token,
            rotated,
            replaced: (0, 0),
        };
        secrets.another();
        secrets.hand_out(&[0]);
        secrets
    }

    fn another(&mut self) {
        let path = self.dir.join(format!("secret-{}", self.made.len()));
        tool(&self.dir, &["secret", path.to_str().unwrap()]);
        self.made.push(path);
    }

    fn file(&self, number: usize) -> PathBuf {
        self.dir.join(format!("secret-of-{number}"))
    }

    /// What a node is started with.
    pub fn args(&self, number: usize) -> String {
        let (file, root) = (self.file(number), self.dir.join("root"));
        format!(" --cluster-secret-file {} --tls-auto --root-token-file {}", file.display(), root.display())
    }

    pub fn root(&self) -> &str {
        &self.root
    }

    /// Has each node's file hold these, and clients trust what follows from them.
    fn hand_out(&mut self, which: &[usize]) {
        self.changed = Instant::now();
        let all: String = which.iter().map(|at| text(&self.made[*at])).collect();
        for number in 0..NODES {
            let (file, new) = (self.file(number), self.dir.join("new"));
            std::fs::write(&new, &all).unwrap();
            std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            std::fs::rename(&new, &file).unwrap();
        }
        let ids = tool(&self.dir, &["secret", "--id", self.file(0).to_str().unwrap()]);
        self.logged = format!("the cluster secrets are now {}; the first issues", ids.trim().replace('\n', " and "));
        self.tell_clients();
    }

    fn tell_clients(&self) {
        let file = self.file(0);
        let ca = tool(&self.dir, &["ca", "--cluster-secret-file", file.to_str().unwrap()]);
        secure(&self.haddrs, &ca, Some(&self.token));
    }

    /// Makes the token of the clients.
    pub fn make_token(&mut self) {
        let reply = eventually(SETTLE, "a token for the clients", || {
            let reply = self.ask(0, "PUT", &format!("/hraftd/auth/token/{APP}"), Some(GRANTS))?;
            check(reply.status == 201, || reply.brief())?;
            Ok(reply)
        });
        self.token = reply.json()["token"].as_str().unwrap().to_owned();
        self.tell_clients();
    }

    fn ask(&self, at: usize, method: &str, path: &str, body: Option<&str>) -> Result<Reply, String> {
        showing(&self.root, &self.haddrs[at], method, path, body)
    }

    /// Goes on with what an operator does, where all nodes have what he did last.
    pub fn look(&mut self, world: &World) {
        let newest = self.made.len() - 1;
        if !world.nodes.iter().all(|place| place.has_secrets(self.changed, &self.logged)) {
            return;
        }
        match self.step {
            Step::One => {
                self.rotate_token();
                self.another();
                self.hand_out(&[newest, newest + 1]);
                self.step = Step::Trusted;
            }
            Step::Trusted => {
                self.hand_out(&[newest, newest - 1]);
                self.step = Step::Issues;
            }
            Step::Issues => {
                self.hand_out(&[newest]);
                self.step = Step::Gone;
            }
            Step::Gone => {
                self.replaced.0 += 1;
                self.step = Step::One;
            }
        }
    }

    /// Clients go on with the old one until they have the new one. Where the answer is lost the old one is good for the
    /// grace, as long as nobody rotates it once more.
    fn rotate_token(&mut self) {
        if self.rotated.is_none_or(|last| last.elapsed() < ROTATED_EACH) {
            return;
        }
        let path = format!("/hraftd/auth/token/{APP}?rotate&grace=1h&timeout=2s");
        self.rotated = match self.ask(self.made.len() % NODES, "PUT", &path, None) {
            Ok(reply) if reply.status == 200 => {
                self.token = reply.json()["token"].as_str().unwrap().to_owned();
                self.tell_clients();
                self.replaced.1 += 1;
                Some(Instant::now())
            }
            // It was refused, and so not done.
            Ok(reply) if reply.status == 503 => self.rotated,
            _ => None,
        };
    }

    /// That nobody was refused for who he is.
    pub fn check(&self) {
        let (secrets, tokens) = self.replaced;
        say(&format!("nemesis: the secret was replaced {secrets} times, the token {tokens} times"));
        assert!(secrets > 0, "no secret was replaced");
        let refused = secure::refused();
        assert!(refused.is_empty(), "{} were refused: {:#?}", refused.len(), &refused[..refused.len().min(5)]);
    }
}

fn showing(token: &str, addr: &str, method: &str, path: &str, body: Option<&str>) -> Result<Reply, String> {
    let mut conn = Conn::open_within(addr, PATIENCE)?;
    let bearer = format!("Bearer {token}");
    conn.request(method, path, &[("Authorization", &bearer), ("Connection", "close")], body.map(str::as_bytes))
}

/// Makes tokens, writes with them, revokes them and writes on: each write that is sent after the revocation was acknowledged
/// is refused. The keys of those, and how many tokens were revoked.
pub fn revoke(haddrs: &[String], stop: &AtomicBool, root: &str, seed: u64) -> (BTreeSet<String>, u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut late, mut revoked) = (BTreeSet::new(), 0);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("gone-{number}");
        let (path, grants) = (format!("/hraftd/auth/token/{name}"), r#"{"grants":["write:gone/"]}"#);
        let mut any = || haddrs[rng.random_range(0..haddrs.len())].clone();
        let made = showing(root, &any(), "PUT", &format!("{path}?timeout=2s"), Some(grants));
        let Some(token) = made.ok().and_then(|made| Some(made.json()["token"].as_str()?.to_owned())) else {
            std::thread::park_timeout(Duration::from_millis(100));
            continue;
        };
        let is_gone = AtomicBool::new(false);
        let places: Vec<String> = (0..6).map(|_| any()).collect();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut late = Vec::new();
                for (at, addr) in places.iter().cycle().enumerate() {
                    let (key, was_gone) = (format!("gone/{number}/{at}"), is_gone.load(Ordering::SeqCst));
                    let written = showing(&token, addr, "PUT", &format!("/hraftd/key/{key}?timeout=1s"), Some("1"));
                    if was_gone {
                        if let Ok(written) = &written {
                            assert!(![200, 201].contains(&written.status), "{name} wrote {key}, and is revoked");
                        }
                        late.push(key);
                    }
                    if late.len() >= places.len() {
                        break;
                    }
                    std::thread::park_timeout(Duration::from_millis(10));
                }
                late
            });
            for addr in places.iter().cycle() {
                let gone = showing(root, addr, "DELETE", &format!("{path}?timeout=2s"), None);
                // One whose answer was lost is gone the next time.
                if gone.is_ok_and(|gone| matches!(gone.status, 200 | 404)) {
                    break;
                }
                std::thread::park_timeout(Duration::from_millis(100));
            }
            is_gone.store(true, Ordering::SeqCst);
            revoked += 1;
            late.extend(writer.join().unwrap());
        });
    }
    (late, revoked)
}

/// None of these is there.
pub fn check_revoked(world: &World, (late, revoked): &(BTreeSet<String>, u64)) {
    for key in late {
        let read = eventually(SETTLE, "a read", || {
            let read = world.nodes[0].get(&format!("/hraftd/key/{key}"))?;
            check(matches!(read.status, 200 | 404), || read.brief())?;
            Ok(read)
        });
        assert_eq!(read.status, 404, "{key} was written by a token that was revoked: {}", read.brief());
    }
    say(&format!("nemesis: {revoked} tokens were revoked, and {} of their writes came later", late.len()));
    assert!(*revoked > 0, "no token was revoked");
}
