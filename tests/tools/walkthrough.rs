//! The commands of README.md and docs/, run as they are written there, and what they print compared with what is shown;
//! and the walkthrough of the original README.

mod page;
mod pictures;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::namespace::{in_own_network, in_own_network_within};
use crate::shell::{Background, Shell};
use crate::support::lab::Lab;
use crate::support::machine::{Machine, lan, voters};
use crate::support::process::finish;
use crate::support::wait::{SETTLE, check, eventually};
use page::Step;
use pictures::Pictures;
use session::{End, Session};

/// What begins so is not run here, but elsewhere.
const ELSEWHERE: &[(&str, &str)] = &[
    ("cargo build --release", ".ci/fresh-clone"),
    ("cargo run --release", ".ci/fresh-clone"),
    ("cargo test", "this is it"),
    (ON_EACH_MACHINE, "walkthrough::several_machines"),
];

/// The line that README.md and docs/operations.md have for three machines.
const ON_EACH_MACHINE: &str = "hraftd --haddr :11000 --rjoin 192.168.0.1:11000,192.168.0.2:11000,192.168.0.3:11000";

/// The longest that one page may take.
const PAGE_WITHIN: Duration = Duration::from_secs(420);

const PROGRAMS: [(&str, &str); 5] =
    [("jq", "jq"), ("http", "httpie"), ("bash", "bash"), ("supervisorctl", "supervisor"), ("openssl", "openssl")];

fn repository(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn is_elsewhere(line: &str) -> bool {
    ELSEWHERE.iter().any(|(begins, _)| line.starts_with(begins))
}

/// What was printed, for whoever changes a page: `target/tmp/walkthrough/`.
struct Transcript(File);

impl Transcript {
    fn new(page: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("walkthrough");
        std::fs::create_dir_all(&dir).unwrap();
        Self(File::create(dir.join(page.replace('/', "-"))).unwrap())
    }

    fn add(&mut self, command: &str, printed: &str) {
        writeln!(self.0, "$ {command}\n{}", printed.trim_end_matches('\n')).unwrap();
    }
}

/// Runs a page from its top to its end.
fn walk(test: &str, file: &str) {
    in_own_network_within(test, &PROGRAMS, PAGE_WITHIN, || {
        let lab = Lab::new();
        let mut session = Session::new(lab.path());
        let home = lab.path().join("home").display().to_string();
        let mut transcript = Transcript::new(file);
        let mut pictures = Pictures::of(file, lab.path());
        for (line, step) in page::steps(&repository(file)) {
            match step {
                Step::Save { file, text } => session.save(&file, &text),
                Step::Script(text) => {
                    let here = text.lines().filter(|line| !is_elsewhere(line)).collect::<Vec<_>>().join("\n");
                    let End { code, stdout, stderr } = session.run(&here);
                    assert_eq!(code, "0", "{file}:{line}\n{here}\n{stdout}{stderr}");
                }
                Step::Picture { file: picture, of } => {
                    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
                    pictures.make(&dir.with_file_name(picture), of.as_deref());
                }
                Step::Command { command, .. } if is_elsewhere(&command) => {}
                Step::Command { command, prints } => {
                    let mut last = String::new();
                    let mut look = || {
                        let End { code, stdout, stderr } = session.run(&command);
                        last.clone_from(&stdout);
                        check(page::is_as_shown(&command, &prints, &stdout, &home), || {
                            let shown = prints.join("\n");
                            format!("--- shown\n{shown}\n--- printed, exit code {code}\n{stdout}--- stderr\n{stderr}")
                        })
                    };
                    let what = format!("{file}:{line}: $ {command}");
                    if page::is_look(&command) {
                        eventually(SETTLE, &what, look);
                    } else if let Err(seen) = look() {
                        panic!("{what}\n{seen}");
                    }
                    transcript.add(&command, &last);
                    pictures.look();
                }
            }
        }
    });
}

#[test]
fn the_readme() {
    walk("walkthrough::the_readme", "README.md");
}

#[test]
fn docs_api() {
    walk("walkthrough::docs_api", "docs/api.md");
}

#[test]
fn docs_cli() {
    walk("walkthrough::docs_cli", "docs/cli.md");
}

#[test]
fn docs_flags() {
    walk("walkthrough::docs_flags", "docs/flags.md");
}

#[test]
fn docs_operations() {
    walk("walkthrough::docs_operations", "docs/operations.md");
}

#[test]
fn docs_runbook() {
    walk("walkthrough::docs_runbook", "docs/runbook.md");
}

#[test]
fn docs_raft() {
    walk("walkthrough::docs_raft", "docs/raft.md");
}

#[test]
fn docs_recipes() {
    for (line, step) in page::steps(&repository("docs/recipes.md")) {
        if let Step::Save { file, text } = step {
            assert!(text.lines().count() <= 30, "docs/recipes.md:{line}: {file} has more than thirty lines");
        }
    }
    walk("walkthrough::docs_recipes", "docs/recipes.md");
}

#[test]
fn docs_security_tokens() {
    walk("walkthrough::docs_security_tokens", "docs/security-tokens.md");
}

#[test]
fn docs_security() {
    walk("walkthrough::docs_security", "docs/security.md");
}

/// The `[default: …]` of the flag that these words of the help are about; they go on with the next one.
fn default_of(words: &[&str]) -> String {
    let ends = words
        .windows(2)
        .position(|two| two[0].starts_with("--") && (two[1].starts_with('<') || two[0].contains("[=<")));
    let about = words[..ends.unwrap_or(words.len())].join(" ");
    about.split_once("[default: ").map_or("–", |(_, rest)| rest.split(']').next().unwrap()).to_owned()
}

/// In any order: here the last one first.
#[test]
fn several_machines() {
    in_own_network("walkthrough::several_machines", &[("nsenter", "util-linux")], || {
        let lab = Lab::new();
        let (outside, machines) = lan(&lab);
        let _nodes: Vec<Background> =
            machines.iter().rev().map(|machine| machine.start("hraftd", ON_EACH_MACHINE)).collect();
        let ids: Vec<String> = machines.iter().map(Machine::id).collect();
        for machine in &machines {
            eventually(SETTLE, "three voters", || {
                let found = voters(&outside, &format!("{}:11000", machine.addr))?;
                check(found == ids, || format!("{found:?}"))
            });
        }
    });
}

/// `--help` and docs/flags.md name the same flags, with the same defaults.
#[test]
fn flags_are_those_of_the_help() {
    let help = finish(Command::new(env!("CARGO_BIN_EXE_hraftd")).arg("--help"), Duration::from_secs(10)).stdout;
    let words: Vec<&str> = help.split_whitespace().collect();
    let mut told = BTreeMap::new();
    for (at, word) in words.iter().enumerate() {
        let Some(flag) = word.strip_prefix("--") else { continue };
        // `--name <VALUE>` or `--name[=<VALUE>]`; without one it is only spoken of.
        if !words.get(at + 1).is_some_and(|next| next.starts_with('<')) && !flag.contains("[=<") {
            continue;
        }
        told.insert(flag.split('[').next().unwrap().to_owned(), default_of(&words[at + 1..]));
    }
    let page = repository("docs/flags.md").replace('`', "");
    let written: BTreeMap<String, String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| --"))
        .map(|row| {
            let mut cells = row.split(" | ");
            (cells.next().unwrap().to_owned(), cells.next().unwrap().to_owned())
        })
        .collect();
    assert!(told.len() > 15, "{told:?}");
    assert_eq!(written, told);
}

/// What a page names is there: files in code spans, and what links lead to.
#[test]
fn what_pages_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for page in pages().into_iter().chain(["CONTRIBUTING.md".to_owned()]) {
        let text = repository(&page);
        let dir = root.join(&page).parent().unwrap().to_owned();
        for file in page::files(&text) {
            if !root.join(file).exists() {
                missing.push(format!("{page}: `{file}`"));
            }
        }
        for link in page::links(&text) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { root.join(&page) } else { dir.join(file) };
            let leads_there = if anchor.is_empty() {
                file.exists()
            } else {
                let target = std::fs::read_to_string(&file).unwrap_or_default();
                page::anchors(&target).any(|heading| heading == anchor)
            };
            if !leads_there {
                missing.push(format!("{page}: ({link})"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

fn pages() -> BTreeSet<String> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let names = std::fs::read_dir(docs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let docs = names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}"));
    docs.chain(["README.md".to_owned()]).collect()
}

/// A page with commands has its test above, and what is run elsewhere is still there.
#[test]
fn every_page_is_walked() {
    let walked = [
        "README.md",
        "docs/api.md",
        "docs/cli.md",
        "docs/flags.md",
        "docs/operations.md",
        "docs/raft.md",
        "docs/recipes.md",
        "docs/runbook.md",
        "docs/security.md",
        "docs/security-tokens.md",
    ];
    let pages = pages();
    let mut all = String::new();
    for page in &pages {
        let text = repository(page);
        assert!(
            walked.contains(&page.as_str()) || page::steps(&text).is_empty(),
            "{page} has commands that nobody runs"
        );
        all.push_str(&text);
    }
    for (begins, _) in ELSEWHERE {
        assert!(all.lines().any(|line| line.trim_start_matches("$ ").starts_with(begins)), "{begins}: no page has it");
    }
}

const PORTS: [u16; 3] = [11000, 11001, 11002];

fn start(shell: &Shell, port: u16) -> Background {
    shell.start(&port.to_string(), &format!("hraftd --rjoin :11000 --haddr :{port}"))
}

fn node_id(port: u16) -> String {
    format!("127.0.0.1:{port},127.0.0.1:{}", port + 1000)
}

/// Waits until each of these nodes sees all three as voters, and one of them lead; the leader's port.
fn one_leader(shell: &Shell, asked: &[u16]) -> u16 {
    eventually(SETTLE, "three voters with a leader", || {
        let mut leaders = Vec::new();
        for port in asked {
            let stats = shell.try_run(&format!("curl -sf localhost:{port}/hraftd/raft/stats"))?;
            let seen: Value = serde_json::from_str(&stats).map_err(|error| error.to_string())?;
            let servers = seen["latest_configuration"].as_array().cloned().unwrap_or_default();
            let voters = servers.iter().filter(|server| server["suffrage"] == "Voter").count();
            check((servers.len(), voters) == (3, 3), || format!("{port}: {seen}"))?;
            shell.try_run(&format!("curl -sf localhost:{port}/hraftd/raft/ready"))?;
            if seen["state"] == "Leader" {
                leaders.push(*port);
            }
        }
        check(leaders.len() == 1, || format!("leaders: {leaders:?}"))?;
        Ok(leaders[0])
    })
}

fn answers(shell: &Shell, line: &str) -> String {
    eventually(SETTLE, line, || shell.try_run(line))
}

fn stop(mut node: Background) {
    node.process.signal(Signal::TERM);
    let status = node.process.wait(Duration::from_secs(8), "hraftd stops after SIGTERM");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn one_node_with_curl_and_httpie() {
    in_own_network("walkthrough::one_node_with_curl_and_httpie", &[("http", "httpie")], || {
        let lab = Lab::new();
        let shell = Shell::new(&lab.path().join("home"));
        let node = shell.start("hraftd", "hraftd");
        answers(&shell, "curl -sf localhost:11000/hraftd/raft/ready");
        shell.run(r#"curl -v -H "Content-Type: application/json" localhost:11000/hraftd/key -d '{"user1": "batman"}'"#);
        assert_eq!(shell.run("curl localhost:11000/hraftd/key/user1"), r#"{"user1":"batman"}"#);
        shell.run("http :11000/hraftd/key foo=barst");
        assert_eq!(
            serde_json::from_str::<Value>(&shell.run("http :11000/hraftd/key/foo")).unwrap(),
            serde_json::json!({"foo": "barst"})
        );
        // The line that it prints at its start works.
        let log = node.log_text();
        let printed = log.lines().find_map(|line| Some(&line[line.find("curl ")?..]));
        let printed = printed.unwrap_or_else(|| panic!("no curl line:\n{log}")).trim_end_matches(['`', '"', '\'']);
        shell.run(&format!("curl -f {}", printed.trim_start_matches("curl ")));
        assert!(lab.path().join("home/.hraftd/11000").is_dir(), "the default data directory");
        stop(node);
        // The same node, said at length.
        let node = start(&shell, 11000);
        answers(&shell, "curl -sf localhost:11000/hraftd/raft/ready");
        assert_eq!(shell.run("curl localhost:11000/hraftd/key/user1"), r#"{"user1":"batman"}"#);
        assert!(shell.run("curl -s localhost:11000/hraftd/raft/stats").contains(&node_id(11000)));
        stop(node);
    });
}

#[test]
fn a_local_cluster() {
    in_own_network("walkthrough::a_local_cluster", &[("http", "httpie"), ("jq", "jq"), ("python3", "python3")], || {
        let lab = Lab::new();
        let shell = Shell::new(&lab.path().join("home"));
        let mut nodes: Vec<Background> = PORTS.into_iter().map(|port| start(&shell, port)).collect();
        one_leader(&shell, &PORTS);

        shell.run(r#"curl localhost:11000/hraftd/key -d '{"user1": "batman"}'"#);
        assert_eq!(
            shell.run("curl localhost:11000/hraftd/key/user1 localhost:11001/key/user1 localhost:11002/key/user1"),
            r#"{"user1":"batman"}"#.repeat(3)
        );
        shell.run(r#"curl localhost:11000/hraftd/key -d '{"user2": "robin"}'"#);
        assert_eq!(
            shell.run("curl localhost:11000/hraftd/key/user2 localhost:11001/key/user2 localhost:11002/key/user2"),
            r#"{"user2":"robin"}"#.repeat(3)
        );
        assert_eq!(shell.run("curl localhost:11000/hraftd/raft/stats |jq -r .num_peers").trim(), "2");
        let pretty = shell.run("curl localhost:11000/hraftd/raft/cluster | python3 -m json.tool");
        let cluster: Value = serde_json::from_str(&shell.run("http :11000/hraftd/raft/cluster")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&pretty).unwrap(), cluster);
        assert_eq!(cluster["servers"].as_array().unwrap().len(), 3);

        // Kill the leader and watch one of the others be elected.
        let killed = one_leader(&shell, &PORTS);
        nodes.remove(PORTS.iter().position(|port| *port == killed).unwrap());
        let living: Vec<u16> = PORTS.into_iter().filter(|port| *port != killed).collect();
        let next = one_leader(&shell, &living);
        assert_ne!(next, killed);
        shell.run(&format!(r#"curl -sf localhost:{next}/hraftd/key -d '{{"user3": "alfred"}}'"#));
        for port in &living {
            assert_eq!(shell.run(&format!("curl localhost:{port}/key/user2")), r#"{"user2":"robin"}"#);
        }
        // Restarted, it learns about any updates that occurred while it was down.
        nodes.push(start(&shell, killed));
        one_leader(&shell, &PORTS);
        let line = format!("curl -sf 'localhost:{killed}/hraftd/key/user3?level=none'");
        assert_eq!(answers(&shell, &line), r#"{"user3":"alfred"}"#);

        let gone = node_id(11002);
        let removed = shell.run(&format!("http DELETE :11001/raft/remove id={gone}"));
        assert_eq!(serde_json::from_str::<Value>(&removed).unwrap(), serde_json::json!({"ok": true, "msg": "OK"}));
        eventually(SETTLE, "the removed one says so", || {
            let state = shell.try_run("curl -s localhost:11002/hraftd/raft/state")?;
            check(state.contains("Shutdown"), || state)
        });
        assert_eq!(shell.run("curl localhost:11000/hraftd/raft/stats |jq -r .num_peers").trim(), "1");
        for node in nodes {
            stop(node);
        }
    });
}

/// Go's flag style, both addresses given; curl on IPv4 and IPv6.
#[test]
fn wildcards_on_both_protocols() {
    in_own_network("walkthrough::wildcards_on_both_protocols", &[], || {
        let lab = Lab::new();
        let shell = Shell::new(&lab.path().join("home"));
        let _nodes: Vec<Background> = PORTS
            .into_iter()
            .map(|port| {
                let line = format!("hraftd -haddr :{port} -raddr :{} -rjoin :11000", port + 1000);
                shell.start(&port.to_string(), &line)
            })
            .collect();
        one_leader(&shell, &PORTS);
        shell.run(r#"curl -sf 127.0.0.1:11001/key -d '{"k": 1}'"#);
        assert_eq!(shell.run("curl -sf -g '[::1]:11002/key/k'"), r#"{"k":1}"#);
    });
}
