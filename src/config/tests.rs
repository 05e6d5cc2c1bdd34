//! The rules across flags, on machines made of tables.

use std::ffi::OsString;

use super::*;
use crate::config::host_info::fake::FakeMachine;

/// A machine on two networks, with IPv6 on the second.
fn machine() -> FakeMachine {
    FakeMachine {
        names: vec![
            ("localhost", &["127.0.0.1", "::1"]),
            ("self.example", &["192.168.0.1"]),
            ("debian", &["127.0.1.1"]),
            ("n2.example", &["192.168.0.2"]),
            ("all.example", &["192.168.0.1", "192.168.0.2"]),
        ],
        routes: vec![
            ("192.168.0.2", "192.168.0.1"),
            ("2001:db8:1::2", "2001:db8:1::1"),
            ("10.9.9.9", "10.0.0.1"),
            ("192.0.2.1", "10.0.0.1"),
        ],
        interfaces: vec![
            ("lo", "127.0.0.1"),
            ("lo", "::1"),
            ("eth0", "192.168.0.1"),
            ("eth0", "fe80::1"),
            ("eth1", "2001:db8:1::1"),
            ("eth1", "10.0.0.1"),
            ("v6only", "2001:db8:2::1"),
            ("linklocal", "fe80::2"),
        ],
        name: "self",
    }
}

/// Words of which the leading `NAME=value` ones are the environment; `HOME` is `/home/u` unless said.
fn run_on(line: &str, machine: &FakeMachine) -> Result<Config, Exit> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let flags_at = words.iter().position(|word| word.starts_with('-')).unwrap_or(words.len());
    let (vars, flags) = words.split_at(flags_at);
    let env = |name: &str| {
        let set = vars.iter().find_map(|var| var.strip_prefix(name)?.strip_prefix('='));
        set.or((name == "HOME").then_some("/home/u")).map(OsString::from)
    };
    let argv = std::iter::once("hraftd").chain(flags.iter().copied()).map(OsString::from);
    parse(argv, env, machine)
}

fn run(line: &str) -> Result<Config, Exit> {
    run_on(line, &machine())
}

fn ok(line: &str) -> Config {
    run(line).unwrap_or_else(|exit| panic!("{line}: {exit:?}"))
}

#[test]
fn readme_lines_give_these_ids() {
    for (line, id) in [
        ("", "127.0.0.1:11000,127.0.0.1:12000"),
        ("--haddr :11000 --rjoin :11000", "127.0.0.1:11000,127.0.0.1:12000"),
        ("--rjoin :11000 --haddr :11001", "127.0.0.1:11001,127.0.0.1:12001"),
        ("-haddr :11001 -raddr :12001 -rjoin :11000", "127.0.0.1:11001,127.0.0.1:12001"),
        ("-haddr :11000 -rjoin 192.168.0.1:11000", "192.168.0.1:11000,192.168.0.1:12000"),
        ("-haddr :11000 -rjoin 192.168.0.2:11000", "192.168.0.1:11000,192.168.0.1:12000"),
    ] {
        assert_eq!(ok(line).public_id.to_string(), id, "{line}");
    }
}

#[test]
fn plain_hraftd_and_the_readme_first_node_are_one_node() {
    let (plain, readme) = (ok(""), ok("--haddr :11000 --rjoin :11000"));
    assert_eq!(plain.public_id, readme.public_id);
    assert_eq!(plain.data, readme.data);
    assert_eq!(plain.data, DataPlace::Dir("/home/u/.hraftd/11000".into()));
    let first = &readme.rjoin[0];
    assert!(readme.is_this_node_on(first, &machine()) && plain.is_this_node_on(first, &machine()));
    assert!(plain.loopback_only() && !readme.loopback_only());
}

#[test]
fn advertised_addresses() {
    for (line, id) in [
        // A host in the bind address is told as it is.
        ("--haddr 10.0.0.1:1", "10.0.0.1:1,10.0.0.1:1001"),
        ("--haddr N2.example:1", "n2.example:1,n2.example:1001"),
        ("--haddr 127.0.0.2:1", "127.0.0.2:1,127.0.0.2:1001"),
        ("--haddr localhost:1", "127.0.0.1:1,127.0.0.1:1001"),
        ("--haddr 10.0.0.1:1 --rjoin 192.168.0.2:1", "10.0.0.1:1,10.0.0.1:1001"),
        // One bind address from the other.
        ("--raddr :12005", "127.0.0.1:11005,127.0.0.1:12005"),
        ("--raddr 10.0.0.1:1001", "10.0.0.1:1,10.0.0.1:1001"),
        ("--haddr :64535", "127.0.0.1:64535,127.0.0.1:65535"),
        ("--haddr 10.0.0.1:1 --raddr 192.168.0.1:1", "10.0.0.1:1,192.168.0.1:1"),
        // The route.
        ("--haddr 0.0.0.0:1 --rjoin 10.9.9.9:1", "10.0.0.1:1,10.0.0.1:1001"),
        ("--haddr [::]:1 --rjoin n2.example:1", "192.168.0.1:1,192.168.0.1:1001"),
        ("--haddr :1 --rjoin localhost:1,n2.example:1", "192.168.0.1:1,192.168.0.1:1001"),
        ("--haddr :1 --rjoin [2001:db8:1::2]:1", "[2001:db8:1::1]:1,[2001:db8:1::1]:1001"),
        // A name that leads to loopback is no route to others.
        ("--haddr :1 --rjoin debian:1", "127.0.0.1:1,127.0.0.1:1001"),
        ("--haddr :1 --rjoin debian:1,10.9.9.9:1", "10.0.0.1:1,10.0.0.1:1001"),
        // Not to be reached now: the default route's address; a socket on 0.0.0.0 hears no IPv6.
        ("--haddr :1 --rjoin later.example:1", "10.0.0.1:1,10.0.0.1:1001"),
        ("--haddr 0.0.0.0:1 --rjoin [2001:db8:1::2]:1", "10.0.0.1:1,10.0.0.1:1001"),
        // The interface.
        ("--haddr :1 --iface eth0 --rjoin 10.9.9.9:1", "192.168.0.1:1,192.168.0.1:1001"),
        ("--haddr :1 --iface eth1", "10.0.0.1:1,10.0.0.1:1001"),
        ("--haddr :1 --iface v6only", "[2001:db8:2::1]:1,[2001:db8:2::1]:1001"),
        ("--haddr :1 --iface lo", "127.0.0.1:1,127.0.0.1:1001"),
        ("--haddr 10.0.0.1:1 --raddr :2 --iface eth0", "10.0.0.1:1,192.168.0.1:2"),
        // IPv6 loopback only if bound to that alone.
        ("--haddr [::1]:1", "[::1]:1,[::1]:1001"),
        ("--haddr [::]:1", "127.0.0.1:1,127.0.0.1:1001"),
        // What is said counts first, and each address lends the other its host.
        ("--haddr :1 --hadv a.example:2 --radv b.example:3 --rjoin 10.9.9.9:1", "a.example:2,b.example:3"),
        ("--haddr :1 --hadv a.example:2 --rjoin 10.9.9.9:1", "a.example:2,a.example:1001"),
        ("--haddr :1 --radv b.example:3", "b.example:1,b.example:3"),
        ("--haddr :1 --hadv a.example", "a.example:1,a.example:1001"),
        ("--haddr :1 --hadv [2001:db8::9]", "[2001:db8::9]:1,[2001:db8::9]:1001"),
        ("--haddr :1 --hadv :2", "127.0.0.1:2,127.0.0.1:1001"),
        ("--haddr :1 --hadv a.example --radv :3", "a.example:1,a.example:3"),
        ("--haddr :1 --hadv LOCALHOST:1", "127.0.0.1:1,127.0.0.1:1001"),
    ] {
        assert_eq!(ok(line).public_id.to_string(), id, "{line}");
    }
}

#[test]
fn a_machine_without_a_network_is_loopback_and_says_so() {
    let alone = FakeMachine { names: vec![], routes: vec![], interfaces: vec![("lo", "127.0.0.1")], name: "" };
    let config = run_on("--haddr :1 --rjoin 10.9.9.9:1", &alone).unwrap();
    assert_eq!(config.public_id.to_string(), "127.0.0.1:1,127.0.0.1:1001");
    let warning =
        "--rjoin 10.9.9.9:1: found no route to it now, so this node calls itself 127.0.0.1; --hadv says it for certain";
    assert_eq!(config.warnings().iter().filter(|line| *line == warning).count(), 1, "{:?}", config.warnings());
}

#[test]
fn bind_addresses() {
    for (line, http, raft) in [
        ("", "localhost:11000", "localhost:12000"),
        ("--haddr :1", ":1", ":1001"),
        ("--raddr [::1]:1001", "[::1]:1", "[::1]:1001"),
        ("--haddr 10.0.0.1:1 --raddr :5", "10.0.0.1:1", ":5"),
    ] {
        let config = ok(line);
        assert_eq!((config.http_bind.to_string(), config.raft_bind.to_string()), (http.to_owned(), raft.to_owned()));
    }
    let config = ok("HRAFTD_HADDR=:1");
    assert_eq!((config.http_bind.flag.as_str(), config.raft_bind.flag.as_str()), ("HRAFTD_HADDR", "--raddr"));
}

#[test]
fn rjoin_lists() {
    for (line, list) in [
        ("", &[][..]),
        ("--rjoin :1", &["127.0.0.1:1"]),
        ("--haddr :5 --rjoin :1", &["127.0.0.1:1"]),
        ("--haddr 10.0.0.1:5 --rjoin :1", &["10.0.0.1:1"]),
        ("--haddr [::1]:5 --rjoin :1", &["[::1]:1"]),
        ("--haddr [::]:5 --rjoin :1", &["127.0.0.1:1"]),
        ("--rjoin a:1,b:1 --rjoin c:1,a:1", &["a:1", "b:1", "c:1"]),
        ("HRAFTD_RJOIN=a:1,b:1 --haddr :2", &["a:1", "b:1"]),
        ("HRAFTD_RJOIN=a:1,b:1 --rjoin c:1", &["c:1"]),
    ] {
        let texts: Vec<String> = ok(line).rjoin.iter().map(ToString::to_string).collect();
        assert_eq!(texts, list, "{line}");
    }
}

#[test]
fn which_addresses_are_this_node() {
    for (line, addr, own) in [
        ("", "localhost:11000", true),
        ("", "127.0.0.1:11000", true),
        ("", "127.0.0.1:11001", false),
        ("", "[::1]:11000", true),
        ("", "192.168.0.1:11000", false),
        ("--haddr :1", "192.168.0.1:1", true),
        ("--haddr :1", "self.example:1", true),
        ("--haddr :1", "debian:1", true),
        ("--haddr :1", "[2001:db8:1::1]:1", true),
        ("--haddr :1", "[::1]:1", true),
        ("--haddr 0.0.0.0:1", "[2001:db8:1::1]:1", false),
        ("--haddr :1", "192.168.0.2:1", false),
        ("--haddr :1", "n2.example:1", false),
        ("--haddr :1", "unknown.example:1", false),
        // A name for the whole cluster is nobody in particular.
        ("--haddr :1", "all.example:1", false),
        // Nodes side by side, one port, an address each.
        ("--haddr 127.0.0.2:1", "127.0.0.2:1", true),
        ("--haddr 127.0.0.2:1", "127.0.0.3:1", false),
        ("--haddr 192.168.0.1:1", "127.0.0.1:1", false),
        ("--haddr self.example:1", "192.168.0.1:1", true),
        ("--haddr self.example:1", "SELF.example:1", true),
        // Behind a forwarded port.
        ("--haddr :1 --hadv nat.example:7", "nat.example:7", true),
        ("--haddr :1 --hadv nat.example:7", "nat.example:1", false),
        ("--haddr :1 --hadv nat.example:7", "192.168.0.1:1", true),
    ] {
        assert_eq!(ok(line).is_this_node_on(&addr.parse().unwrap(), &machine()), own, "{line} / {addr}");
    }
}

/// Issue 15, row 5: what leads here may lead others to themselves.
#[test]
fn which_addresses_are_certainly_this_node() {
    for (line, addr, certain) in [
        ("", "localhost:11000", true),
        ("", "127.0.0.1:11000", true),
        ("", "127.0.0.1:11001", false),
        ("--haddr :1", "127.0.0.1:1", true),
        ("--haddr :1", "192.168.0.1:1", true),
        ("--haddr :1", "192.168.0.2:1", false),
        ("--haddr 127.0.0.2:1", "127.0.0.3:1", false),
        // The machine's own name, and the one it is bound to.
        ("--haddr :1", "self.example:1", true),
        ("--haddr debian:1", "debian:1", true),
        // Leads here today, and is nobody's name.
        ("--haddr :1", "debian:1", false),
        // A name for all, even where it is bound to or told.
        ("--haddr :1", "all.example:1", false),
        ("--haddr all.example:1", "all.example:1", false),
        ("--haddr :1 --hadv all.example", "all.example:1", false),
        ("--haddr :1", "n2.example:1", false),
        ("--haddr :1", "unknown.example:1", false),
        // Behind a forwarded port.
        ("--haddr :1 --hadv nat.example:7", "nat.example:7", true),
        ("--haddr :1 --hadv n2.example:7", "n2.example:7", true),
        ("--haddr :1 --hadv nat.example:7", "nat.example:1", false),
        ("--haddr :1 --hadv nat.example:7", "192.168.0.1:1", true),
    ] {
        assert_eq!(ok(line).is_certainly_this_node_on(&addr.parse().unwrap(), &machine()), certain, "{line} / {addr}");
    }
}

#[test]
fn defaults_and_other_values() {
    let plain = ok("");
    assert_eq!((plain.max_value_bytes, plain.max_request_bytes), (1 << 20, 8 << 20));
    assert_eq!((plain.heartbeat_ms, plain.election_min_ms, plain.election_max_ms), (100, 400, 800));
    assert_eq!((plain.snapshot_threshold, plain.read_level), (100_000, ReadLevel::Linearizable));
    assert_eq!(plain.log.filter.directives(), "warn,hraftd=info,openraft=off");
    assert_eq!(plain.warnings(), [""; 0]);

    let config = ok("HRAFTD_RMEM=1 HRAFTD_MAX_VALUE=2M HRAFTD_READ_LEVEL=none -max-value 64K \
                     -heartbeat-interval 50ms -election-timeout 1s -snapshot-threshold 7 -log-format json");
    assert_eq!((&config.data, config.max_value_bytes, config.read_level), (&DataPlace::Memory, 65536, ReadLevel::None));
    assert_eq!((config.heartbeat_ms, config.election_min_ms, config.election_max_ms), (50, 1000, 2000));
    assert_eq!(config.snapshot_threshold, 7);
    // A small request limit alone bounds values too.
    let config = ok("--max-request 64K");
    assert_eq!((config.max_value_bytes, config.max_request_bytes), (65536, 65536));
}

#[test]
fn data_directories() {
    for (line, dir, label) in [
        ("--haddr :7", "/home/u/.hraftd/7", "HOME=/home/u (data directory /home/u/.hraftd/7)"),
        ("--raddr :1007", "/home/u/.hraftd/7", "HOME=/home/u (data directory /home/u/.hraftd/7)"),
        ("--rdir /x/y", "/x/y", "--rdir /x/y"),
        ("HRAFTD_RDIR=x HOME= --haddr :7", "x", "HRAFTD_RDIR=x"),
        ("HRAFTD_RDIR= HRAFTD_HADDR=:8", "/home/u/.hraftd/8", "HOME=/home/u (data directory /home/u/.hraftd/8)"),
        ("--rmem=false --rdir y", "y", "--rdir y"),
    ] {
        let config = ok(line);
        assert_eq!((&config.data, config.data_label.as_str()), (&DataPlace::Dir(dir.into()), label), "{line}");
    }
    assert_eq!(ok("HOME= --rmem").data, DataPlace::Memory);
}

#[test]
fn log_levels() {
    for (line, directives) in [
        ("RUST_LOG=debug --rmem", "warn,hraftd=debug,openraft=info"),
        ("RUST_LOG=hyper=trace --rmem", "hyper=trace"),
        ("RUST_LOG=other_program --rmem", "other_program"),
        ("RUST_LOG=debug HRAFTD_LOG_LEVEL=error --rmem", "error,openraft=off"),
        ("RUST_LOG=debug HRAFTD_LOG_LEVEL=error --log-level trace", "trace"),
    ] {
        assert_eq!(ok(line).log.filter.directives(), directives, "{line}");
    }
}

#[test]
fn warnings() {
    let open = " can be reached from other machines and there is no authentication: who can connect can read and write";
    for (line, warnings) in [
        ("--haddr :1", vec![format!(":1 and :1001{open}")]),
        ("--haddr 127.0.0.1:1 --raddr :5", vec![format!(":5{open}")]),
        (
            "--iface eth0",
            vec!["--iface eth0 has no effect: --haddr and --raddr name a host, or --hadv or --radv does (--haddr :11000 \
                  would bind to every interface)"
                .to_owned()],
        ),
        ("--rmem --rdir x", vec!["--rdir x is not used: --rmem keeps everything in memory".to_owned()]),
        ("--rdir ~/x", vec!["--rdir ~/x: the ~ is taken literally, as the name of a directory".to_owned()]),
        (
            "--hadv a.example:1 --radv localhost:2",
            vec!["of a.example:1 and 127.0.0.1:2 only one can be reached from other machines; see --hadv and --radv".to_owned()],
        ),
        (
            "--rjoin :12000",
            vec!["--rjoin 127.0.0.1:12000: that is this node's Raft address; --rjoin takes client addresses".to_owned()],
        ),
    ] {
        assert_eq!(ok(line).warnings(), warnings, "{line}");
    }
}

#[test]
fn bad_configurations_are_one_line_that_names_flag_and_value() {
    for (line, code, message) in [
        ("--haddr x", 64, "--haddr x: the port is missing: give HOST:PORT or :PORT"),
        ("--haddr 11000", 64, "--haddr 11000: a port alone is written :11000"),
        ("HRAFTD_HADDR=x:y", 64, "HRAFTD_HADDR=x:y: the port is not a number"),
        ("--haddr=", 64, "--haddr \"\": the address is empty"),
        ("--haddr :0", 64, "--haddr :0: the port is not between 1 and 65535"),
        (
            "--haddr host:64999",
            64,
            "--haddr host:64999: no Raft port follows from it (port + 1000 is over 65535); give --raddr too",
        ),
        (
            "-raddr :1000",
            64,
            "--raddr :1000: no client port follows from it (port - 1000 is below 1); give --haddr too",
        ),
        ("--haddr :1 --raddr 10.0.0.1:1", 64, "--raddr 10.0.0.1:1: the same port as --haddr :1"),
        ("--haddr localhost:1 --raddr 127.0.0.1:1", 64, "--raddr 127.0.0.1:1: the same port as --haddr localhost:1"),
        (
            "--hadv a:1 --radv a:1",
            64,
            "--hadv and --radv: both addresses told to others would be a:1 (localhost:11000 and localhost:12000 are bound)",
        ),
        ("--hadv 0.0.0.0:1", 64, "--hadv 0.0.0.0:1: no other machine can connect to that"),
        ("--radv [fe80::1]:1", 64, "--radv [fe80::1]:1: no other machine can connect to that"),
        ("--rjoin a:1,,b:1", 64, "--rjoin a:1,,b:1: \"\": the address is empty"),
        ("--rjoin a:1,b", 64, "--rjoin a:1,b: \"b\": the port is missing: give HOST:PORT or :PORT"),
        ("--rjoin http://a:1", 64, "--rjoin http://a:1: give HOST:PORT, without a scheme"),
        ("--iface averyverylongname", 64, "--iface averyverylongname: not the name of an interface"),
        (
            "--iface eth9",
            78,
            "--iface eth9: no such interface, or it has no address (these have: eth0, eth1, linklocal, lo, v6only)",
        ),
        (
            "--iface linklocal",
            78,
            "--iface linklocal: no such interface, or it has no address (these have: eth0, eth1, linklocal, lo, v6only)",
        ),
        (
            "--haddr 0.0.0.0:1 --iface v6only",
            78,
            "--iface v6only: it has no IPv4 address, and --haddr 0.0.0.0:1 is IPv4",
        ),
        ("HOME=", 78, "HOME is not set, and the data directory is in it by default; give --rdir DIR"),
        ("HOME=x", 78, "HOME=x: not an absolute path; correct it or give --rdir DIR"),
        ("--rdir=", 64, "--rdir \"\": the directory has no name"),
        ("--rmem=maybe", 64, "--rmem maybe: not true or false"),
        ("HRAFTD_RMEM=yes", 64, "HRAFTD_RMEM=yes: not true or false"),
        ("--read-level wake", 64, "--read-level wake: not a read level: linearizable, weak, none, strong or auto"),
        ("--read-level stale", 64, "--read-level stale: not a read level: linearizable, weak, none, strong or auto"),
        ("--max-value 1P", 64, "--max-value 1P: not a size such as 65536, 512K or 1MiB"),
        ("--max-request 65M", 64, "--max-request 65M: not between 1 byte and 64 MiB"),
        (
            "--max-value 9M",
            64,
            "--max-value 9M: more than --max-request (8 MiB by default), which a value has to fit in",
        ),
        (
            "--max-value 2K --max-request 1K",
            64,
            "--max-value 2K: more than --max-request 1K, which a value has to fit in",
        ),
        ("--snapshot-threshold 0", 64, "--snapshot-threshold 0: not between 1 and 1000000000"),
        ("--snapshot-threshold 1e3", 64, "--snapshot-threshold 1e3: not a whole number"),
        ("--heartbeat-interval 100", 64, "--heartbeat-interval 100: the unit is missing: ms, s, m or h"),
        ("--heartbeat-interval 1ms", 64, "--heartbeat-interval 1ms: not between 10ms and 10000ms"),
        (
            "--heartbeat-interval 200ms",
            64,
            "--heartbeat-interval 200ms: more than a third of --election-timeout (400ms by default); set that to 600ms or more",
        ),
        (
            "--election-timeout 299ms",
            64,
            "--election-timeout 299ms: less than three times --heartbeat-interval (100ms by default); 300ms is the least",
        ),
        (
            "--heartbeat-interval 1s --election-timeout 2s",
            64,
            "--election-timeout 2s: less than three times --heartbeat-interval 1s; 3000ms is the least",
        ),
        ("--log-level inof", 64, "--log-level inof: not a level: error, warn, info, debug, trace or off"),
        ("--log-format xml", 64, "--log-format xml: not text or json"),
        ("--xyzzy", 64, "unknown flag --xyzzy; hraftd --help lists them"),
    ] {
        let exit = run(line).unwrap_err();
        assert_eq!((exit.code, exit.err.as_deref(), exit.out), (code, Some(message), None), "{line}");
    }
}

#[test]
fn allowed_hosts_add_up() {
    let names = |line: &str| run(line).map(|config| config.allow_hosts);
    assert_eq!(names("--allow-host KV,kv.example.com --allow-host=db").unwrap(), ["kv", "kv.example.com", "db"]);
    assert_eq!(names("HRAFTD_ALLOW_HOST=kv").unwrap(), ["kv"]);
    for (given, why) in [("kv:80", "without a port"), ("http://kv", "scheme"), ("kv,,db", "empty")] {
        let exit = names(&format!("--allow-host {given}")).unwrap_err();
        assert!(exit.err.as_ref().is_some_and(|line| line.contains(why)), "{given}: {exit:?}");
    }
}

/// Issue 18, D11: it listened on loopback, and warned that other machines can connect.
#[test]
fn a_name_that_is_loopback_here_is_said_to_be() {
    let told = ok("--haddr debian:1").warnings().join("\n");
    assert!(told.contains("debian is 127.0.1.1 on this machine, which is loopback"), "{told}");
    assert!(told.contains("--raddr debian:1001") && !told.contains("authentication"), "{told}");
    let told = ok("--haddr self.example:1").warnings().join("\n");
    assert!(!told.contains("loopback") && told.contains("authentication"), "{told}");
}
