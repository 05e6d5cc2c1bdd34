//! A page of the documentation as a program: its blocks of commands, and what it says that they print.
//!
//! * A block of ```` ```sh ```` is run as it stands, and must succeed.
//! * A block of ```` ```sh ```` that begins with `#!` is a script to save. Its second line names it: `# run/NAME: what it does`.
//! * A block of ```` ```console ```` has commands after `$ `, further lines of a command after `> `, and what they print.
//!   A line `...` stands for any lines.
//! * Blocks of any other kind are not run.
//! * A line that is a picture has behind it, in a comment, a pattern for the event that it is of: `pictures` makes it.

/// A step of a page.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Commands that must succeed.
    Script(String),
    /// A script to save.
    Save { file: String, text: String },
    /// A command, and the lines that it prints.
    Command { command: String, prints: Vec<String> },
    /// A picture, and a pattern for the event that it is of.
    Picture { file: String, of: Option<String> },
}

/// The steps of a page, each with the number of its line.
pub fn steps(markdown: &str) -> Vec<(usize, Step)> {
    let mut steps = Vec::new();
    let mut lines = markdown.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if let Some(picture) = picture(line) {
            steps.push((at + 1, picture));
        }
        let Some(kind) = line.trim_start().strip_prefix("```") else { continue };
        let block: Vec<(usize, &str)> = lines
            .by_ref()
            .take_while(|(_, line)| line.trim() != "```")
            .map(|(at, line)| (at + 1, line.get(indent..).unwrap_or_default()))
            .collect();
        match kind.trim() {
            "sh" => steps.push((at + 1, script(&block))),
            "console" => steps.extend(commands(&block)),
            _ => {}
        }
    }
    steps
}

/// `![TEXT](FILE)<!-- PATTERN -->`.
fn picture(line: &str) -> Option<Step> {
    let (file, rest) = line.strip_prefix("![")?.split_once("](")?.1.split_once(')')?;
    let of = rest.strip_prefix("<!-- ").and_then(|of| of.strip_suffix(" -->"));
    Some(Step::Picture { file: file.to_owned(), of: of.map(str::to_owned) })
}

fn script(block: &[(usize, &str)]) -> Step {
    let text: String = block.iter().map(|(_, line)| format!("{line}\n")).collect();
    if !text.starts_with("#!") {
        return Step::Script(text);
    }
    let named = block.get(1).and_then(|(_, line)| line.strip_prefix("# ")?.split_once(':'));
    let (file, _) = named.unwrap_or_else(|| panic!("the second line of a script names it, `# run/NAME: …`:\n{text}"));
    Step::Save { file: file.to_owned(), text }
}

fn commands(block: &[(usize, &str)]) -> Vec<(usize, Step)> {
    let mut steps: Vec<(usize, Step)> = Vec::new();
    for &(at, line) in block {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => {
                steps.push((at, Step::Command { command: command.to_owned(), prints: Vec::new() }));
            }
            (None, Some((_, Step::Command { command, prints }))) => match line.strip_prefix("> ") {
                Some(more) if prints.is_empty() => command.extend(["\n", more]),
                _ => prints.push(line.to_owned()),
            },
            (None, _) => panic!("line {at}: what is printed follows a command: {line}"),
        }
    }
    steps
}

/// The text outside of blocks.
fn prose(markdown: &str) -> impl Iterator<Item = &str> {
    let mut outside = true;
    markdown.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        outside ^= is_fence;
        outside && !is_fence
    })
}

/// The files of this repository that stand in code spans.
pub fn files(markdown: &str) -> impl Iterator<Item = &str> {
    let spans = prose(markdown).flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.filter(|span| {
        let begins = ["src/", "tests/", "docs/", "benches/", "vendor/", ".ci/"];
        begins.iter().any(|dir| span.starts_with(dir)) && !span.contains(['*', ' ', '…', '{', '<'])
    })
}

/// What links lead to within the repository.
pub fn links(markdown: &str) -> impl Iterator<Item = &str> {
    let links = prose(markdown).flat_map(|line| line.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
    links.filter(|link| !link.contains("://"))
}

/// The anchors of the headings, as GitHub makes them.
pub fn anchors(markdown: &str) -> impl Iterator<Item = String> {
    prose(markdown).filter_map(|line| line.strip_prefix('#')).map(|heading| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        words
            .chars()
            .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
            .collect::<String>()
            .replace(' ', "-")
    })
}

/// Whether a command only looks, so that it may be repeated until it sees what the page shows.
pub fn is_look(command: &str) -> bool {
    let first = command.split_whitespace().next().unwrap_or_default();
    let changes = [" -d ", " -X ", "--json", " -T ", "DELETE", "POST", "PUT", "kill", "rm ", ":=", "recover"];
    let commands = ["put", "delete", "incr", "touch", "txn", "edit", "lock", "elect", "members", "token", "import"];
    let writes = commands.iter().any(|verb| command.contains(&format!("hraftd {verb} ")));
    ["curl", "cat", "tail", "grep", "head", "sed", "ls", "hraftd", "supervisorctl", "test"].contains(&first)
        && !writes
        && !changes.iter().any(|sign| command.contains(sign))
        && !command.contains(" & ")
        && !command.ends_with(" &")
}

/// Whether the order of the lines is chance, as in logs, or by random ids: then those shown are among those printed.
fn is_unordered(command: &str) -> bool {
    let is_log = command.starts_with("cat ") && command.trim_end().ends_with(".log");
    is_log || command.starts_with("hraftd inspect ") || command.starts_with("hraftd recover ")
}

/// What differs from run to run comes after one of these, if it is a number.
const VARYING_AFTER: &[&str] = &[
    "\"index\":",
    "\"index\": ",
    "_index\":",
    "\"token\":",
    "\"ttl_ms\":",
    "\"stamp_ms\":",
    "\"n\":",
    "\"term\":",
    "index ",
    "term ",
    "id: ",
    "\"id\":\"",
    " after ",
    "-index: ",
    "-ms: ",
    "pid ",
    "uptime ",
    "etag: \"",
    "Raft id ",
    "Raft id    ",
    "content-length: ",
    "line ",
    "position ",
];

/// Or before one of these.
const VARYING_BEFORE: &[&str] = &[" bytes", " entries, ", "\"}]"];

/// A line without what differs from run to run: times, ids, indexes.
fn mask(line: &str) -> String {
    if line.starts_with("date: ") {
        return "date: #".to_owned();
    }
    let mut masked = String::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let word_ends = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_ends);
        if is_time(rest) {
            masked.push('#');
            let ends = rest.find('Z').map_or(rest.len(), |at| at + 1);
            rest = &rest[ends..];
        } else if word.len() >= 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            masked.push('#');
            rest = after;
        } else if c.is_ascii_digit() && !masked.ends_with(|c: char| c.is_ascii_alphanumeric()) {
            let ends = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
            let (number, after) = rest.split_at(ends);
            let varies = VARYING_AFTER.iter().any(|before| masked.ends_with(before))
                || VARYING_BEFORE.iter().any(|behind| after.starts_with(behind));
            masked.push_str(if varies { "#" } else { number });
            rest = after;
        } else {
            masked.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    masked
}

/// `2026-11-23T06:11:21.098Z`
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 20
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && bytes[10] == b'T'
        && bytes[13] == b':'
}

/// Whether a command printed what the page shows.
pub fn is_as_shown(command: &str, shown: &[String], printed: &str, home: &str) -> bool {
    let tidy = |line: &str| mask(line.replace(home, "/home/you").trim_end());
    let shown: Vec<String> = shown.iter().map(|line| tidy(line)).collect();
    // A page ends a block without the empty lines that a program may print last.
    let printed: Vec<String> = printed.trim_end_matches('\n').split('\n').map(tidy).collect();
    if is_unordered(command) {
        return !shown.is_empty() && shown.iter().all(|line| line == "..." || printed.contains(line));
    }
    let printed = if printed == [""] { Vec::new() } else { printed };
    let mut chunks = shown.split(|line| line == "...");
    let first = chunks.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let mut chunks = chunks.peekable();
    if chunks.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(chunk) = chunks.next() {
        if chunks.peek().is_none() {
            return rest.ends_with(chunk);
        }
        let Some(at) = (0..=rest.len()).find(|&at| rest[at..].starts_with(chunk)) else { return false };
        rest = &rest[at + chunk.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn blocks() {
        let page = "```sh\na\nb\n```\n* x\n  ```console\n  $ c\n  > d\n  1\n\n  2\n  ```\n```text\n$ e\n```\n```sh\n#!/bin/sh\n# run/f: g\n```\n";
        let wanted = [
            (1, Step::Script("a\nb\n".to_owned())),
            (7, Step::Command { command: "c\nd".to_owned(), prints: lines("1\n\n2") }),
            (16, Step::Save { file: "run/f".to_owned(), text: "#!/bin/sh\n# run/f: g\n".to_owned() }),
        ];
        assert_eq!(steps(page), wanted);
    }

    #[test]
    fn what_is_as_shown() {
        for (shown, printed, same) in [
            ("{\"index\":7}", "{\"index\":12}\n", true),
            ("{\"hits\":1}", "{\"hits\":2}\n", false),
            ("1\n...\n4", "1\n2\n3\n4\n", true),
            ("1\n...\n4", "1\n4\n5\n", false),
            ("1\n...\n3\n...", "1\n2\n3\n4\n", true),
            ("", "", true),
            ("", "x", false),
            ("x", "", false),
            (
                "2026-11-23T06:11:21.098Z  INFO formed cluster 6840e4da092f22c4d956c4d189664a15",
                "2027-01-02T16:11:21.000Z  INFO formed cluster 7840e4da092f22c4d956c4d189664a15",
                true,
            ),
            ("at /home/you/x", "at /tmp/home/x", true),
            ("2 of 3 voters", "1 of 3 voters", false),
        ] {
            assert_eq!(is_as_shown("curl x", &lines(shown), printed, "/tmp/home"), same, "{shown}\n{printed}");
        }
        assert!(is_as_shown("cat run/0.log", &lines("b\na"), "a\nx\nb", "/tmp/home"));
        assert!(!is_as_shown("cat run/0.log", &lines("b\nc"), "a\nx\nb", "/tmp/home"));
    }

    #[test]
    fn looks() {
        for look in ["curl localhost:11000/x", "cat run/0.log", "curl -N x | jq .a"] {
            assert!(is_look(look), "{look}");
        }
        for change in
            ["curl x -d 1", "curl -X PUT x", "hraftd 2>run/0.log & a=$!", "kill -9 $a", "i=$(curl x)", "curl -N x >y &"]
        {
            assert!(!is_look(change), "{change}");
        }
    }
}
