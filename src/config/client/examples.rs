//! Examples of the verbs, as `--help` and docs/cli.md show them. A test runs them, from the first to the last.

/// Verbs, each with commands after `$ ` and what they print.
pub(in crate::config) const EXAMPLES: &[(&str, &str)] = &[
    ("get", "$ hraftd put app/motd 'Hello, world'\n$ hraftd get app/motd\nHello, world"),
    (
        "put",
        "$ echo '{\"cpu\": 2}' | hraftd put app/limits - --json\n$ hraftd put session/1 alive --ttl 30s\n$ hraftd put \
         app/motd other --cas 0 || echo \"exit code $?\"\nexit code 1",
    ),
    ("delete", "$ hraftd delete session/1\n1"),
    (
        "ls",
        "$ hraftd ls app/\napp/limits\t{\"cpu\": 2}\napp/motd\t\"Hello, world\"\n$ hraftd ls --tree\napp/\n  limits\n  motd",
    ),
    ("incr", "$ hraftd incr visits\n1\n$ hraftd incr visits --by 5\n6"),
    ("touch", "$ hraftd touch visits --ttl 1h"),
    (
        "txn",
        "$ echo '{\"if\":[{\"key\":\"visits\",\"value\":6}],\"then\":[{\"incr\":{\"visits\":1}}]}' | hraftd txn - | jq -c \
         .results\n[{\"visits\":7}]",
    ),
    ("edit", "$ EDITOR='sed -i s/2/4/' hraftd edit app/limits\n$ hraftd get app/limits\n{\"cpu\": 4}"),
    (
        "watch",
        "$ timeout 3 hraftd watch app/ --initial | cut -d' ' -f2-\nset app/limits {\"cpu\":4}\nset app/motd \"Hello, \
         world\"\n$ timeout 3 hraftd watch app/ --initial --exec 'echo \"$HRAFTD_KEY: $(cat)\"'\napp/limits: {\"cpu\":4}\napp/motd: Hello, world",
    ),
    (
        "lock",
        "$ hraftd lock report --wait 5s -- sh -c 'echo \"held, with ${HRAFTD_LOCK_TOKEN:+a token}\"'\nheld, with a token",
    ),
    ("elect", "$ timeout 5 hraftd elect web -- sh -c 'echo it leads; exec sleep 60'\nit leads"),
    ("members", "$ hraftd members lead :11001\n$ hraftd members -o json | jq '.servers | length'\n3"),
    (
        "export",
        "$ hraftd export app/\n{\"key\":\"app/limits\",\"value\":{\"cpu\": 4}}\n{\"key\":\"app/motd\",\"value\":\"Hello, \
         world\"}",
    ),
    (
        "import",
        "$ hraftd export app/ | sed 's|app/|copy/|' | hraftd import --if-absent\n$ hraftd ls --keys copy/\ncopy/limits\ncopy/motd\n$ \
         hraftd export app/ | sha256sum >run/sum\n$ hraftd export copy/ | sed 's|copy/|app/|' | sha256sum | cmp - run/sum && \
         echo equal\nequal",
    ),
    (
        "drill",
        "$ hraftd drill --seconds 3 --rate 50 -o json | jq -c '[.ok, .findings]'\n[true,[]]\n$ hraftd drill --seconds 3 --prefix \
         proof/ | tail -n 1\nwrong          nothing",
    ),
    (
        "bench",
        "$ hraftd bench --seconds 2 --connections 4 --put-fraction 0.2 -o json | jq -c '[.ok, .errors]'\n[true,{}]\n$ hraftd bench \
         --seconds 2 --rate 100 | head -n 1 | cut -d: -f1\n2 s with 16 connections to 3 nodes",
    ),
    ("health", "$ hraftd health --ready\nready"),
];

/// Those of a verb.
pub(super) fn of(verb: &str) -> Option<&'static str> {
    EXAMPLES.iter().find(|(name, _)| *name == verb).map(|(_, text)| *text)
}
