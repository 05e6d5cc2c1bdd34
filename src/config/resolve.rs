//! Gives the typed values their meaning: defaults, derived addresses, and the checks across flags.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use crate::config::address::{LOOPBACK, Partial};
use crate::config::advertise::Advertiser;
use crate::config::args::Args;
use crate::config::bind::Bind;
use crate::config::host_info::Machine;
use crate::config::setting::file::ConfigFile;
use crate::config::setting::{Env, Origin, Setting, Sources};
use crate::config::{Config, DataPlace, address, advertise, backup, security, values};
use crate::exit::Exit;
use crate::node::ReadLevel;
use crate::node_id::{HostPort, PublicId};
use crate::observe::RequestLog;
use crate::raft_types::Role;
use crate::telemetry::{LogFilter, LogFormat, LogSettings};

const DEFAULT_HOST: &str = "localhost";
const DEFAULT_HTTP_PORT: u16 = 11000;
/// The default Raft port is the client port plus this.
const RAFT_PORT_OFFSET: u16 = 1000;
const DEFAULT_MAX_VALUE_BYTES: usize = 1 << 20;
const DEFAULT_MAX_REQUEST_BYTES: usize = 8 << 20;
/// One request is one log entry, and that is one write and one message between nodes.
const MAX_REQUEST_BYTES: usize = 64 << 20;
/// 1 PiB: no machine has that memory.
const MAX_QUOTA_BYTES: usize = 1 << 50;
const DEFAULT_SNAPSHOT_THRESHOLD_ENTRIES: u64 = 100_000;
const DEFAULT_WATCH_HISTORY_EVENTS: u64 = 65_536;
const DEFAULT_IDEMPOTENCY_WINDOW_MS: u64 = 600_000;
/// More voters than that make a cluster slow, and are a mistake.
const MAX_FOUNDERS: u64 = 99;
const DEFAULT_HEARTBEAT_MS: u64 = 100;
const DEFAULT_ELECTION_MS: u64 = 400;
/// With fewer, one late heartbeat would start an election.
const MIN_HEARTBEATS_PER_ELECTION: u64 = 3;

/// Makes a configuration of the command line and the environment.
///
/// # Errors
/// See [`crate::config::parse`].
pub(super) fn config(args: Args, env: Env<'_>, machine: &dyn Machine) -> Result<Config, Exit> {
    let named = Setting::find("--config", args.config, env)?;
    let sources = Sources::new(env, named.as_ref().map(ConfigFile::read).transpose()?.unwrap_or_default());
    let find = |flag: &str, typed: Option<OsString>| sources.find(flag, typed);
    let mut warnings = Vec::new();

    let security = security::security(args.security, &sources)?;
    let (http_bind, raft_bind) = binds(find("--haddr", args.haddr)?, find("--raddr", args.raddr)?)?;
    let rjoin = rjoin(args.rjoin, &sources, &http_bind)?;
    let allow_hosts = allow_hosts(args.allow_host, &sources)?;
    let iface = find("--iface", args.iface)?;
    let iface_name = iface.as_ref().map(|given| given.text.clone());
    let iface = iface.map(|given| advertise::interface(&given, machine).map(|ips| (given, ips))).transpose()?;
    let hadv = find("--hadv", args.hadv)?.map(|given| advertised(&given)).transpose()?;
    let radv = find("--radv", args.radv)?.map(|given| advertised(&given)).transpose()?;
    let mut advertiser = Advertiser { iface, rjoin: &rjoin, machine, warnings: Vec::new() };
    let public_id = advertiser.public_id(&http_bind, &raft_bind, hadv.as_ref(), radv.as_ref())?;
    let advertise_warnings = advertiser.warnings;
    check_ids(&public_id, &http_bind, &raft_bind)?;
    // With a secret nobody gets in at the Raft port who does not belong.
    let closed = security.cluster_secret.is_some() && !security.cluster_secret_optional;
    let binds: &[&Bind] = if closed { &[&http_bind] } else { &[&http_bind, &raft_bind] };
    warn_of_addresses(&public_id, binds, &rjoin, machine, &mut warnings);
    warnings.extend(advertise_warnings);

    let rdir = find("--rdir", args.rdir)?;
    let in_memory = find("--rmem", args.rmem)?.map(|given| values::switch(&given)).transpose()?.unwrap_or(false);
    let (data, data_label) = data(rdir, in_memory, http_bind.port, env, &mut warnings)?;

    let non_voter = find("--non-voter", args.non_voter)?;
    let role = match non_voter.as_ref().map(values::switch).transpose()? {
        Some(true) => Role::Learner,
        _ => Role::Voter,
    };
    if let (Some(given), Role::Learner, true) = (&non_voter, role, rjoin.is_empty()) {
        return Err(given.bad("a learner cannot form a cluster; name a node of one with --rjoin"));
    }

    let bootstrap_expect = bootstrap_expect(find("--bootstrap-expect", args.bootstrap_expect)?, role, &rjoin)?;

    let quota_bytes = find("--quota", args.quota)?.map_or(Ok(0), |given| values::size(&given, 0..=MAX_QUOTA_BYTES))?;
    let (max_value_bytes, max_request_bytes) =
        limits(find("--max-value", args.max_value)?, find("--max-request", args.max_request)?)?;
    let watch_history = find("--watch-history", args.watch_history)?
        .map_or(Ok(DEFAULT_WATCH_HISTORY_EVENTS), |given| values::number(&given, 1..=100_000_000))?;
    let idempotency_window_ms = find("--idempotency-window", args.idempotency_window)?
        .map_or(Ok(DEFAULT_IDEMPOTENCY_WINDOW_MS), |given| values::time_ms(&given, 1_000..=86_400_000))?;
    let snapshot_threshold = find("--snapshot-threshold", args.snapshot_threshold)?
        .map_or(Ok(DEFAULT_SNAPSHOT_THRESHOLD_ENTRIES), |given| values::number(&given, 1..=1_000_000_000))?;
    let backups = backup::plan(
        find("--backup-to", args.backup_to)?,
        find("--backup-every", args.backup_every)?,
        find("--backup-keep", args.backup_keep)?,
    )?;
    let (heartbeat_ms, election_min_ms) = timers(
        find("--heartbeat-interval", args.heartbeat_interval)?,
        find("--election-timeout", args.election_timeout)?,
    )?;

    let (file, anonymous) = (find("--root-token-file", args.root_token_file)?, find("--anonymous", args.anonymous)?);
    let root_tokens = super::tokens::root_token_file(file, anonymous, closed)?;
    if let Some(file) = &root_tokens
        && security.tls.is_none()
        && !http_bind.is_loopback()
    {
        warnings.push(format!("{}: without --tls-auto or --tls-cert tokens travel in clear", file.label));
    }

    let moved = find("--moved", args.moved)?;
    let is_moved = moved.as_ref().map(values::switch).transpose()?.unwrap_or(false);
    if let (Some(given), true) = (moved.filter(|given| given.origin == Origin::File), is_moved) {
        warnings
            .push(format!("{given}: it is meant for one start; take it out of the file once this node has started"));
    }
    let read_level = find("--read-level", args.read_level)?
        .map_or(Ok(ReadLevel::Linearizable), |given| values::read_level(&given))?;
    let log = LogSettings {
        filter: log_filter(find("--log-level", args.log_level)?, env)?,
        format: find("--log-format", args.log_format)?
            .map_or(Ok(LogFormat::Text), |given| values::log_format(&given))?,
    };
    let request_log = request_log(find("--log-requests", args.log_requests)?, find("--slow", args.slow)?)?;

    Ok(Config {
        file: named.map(|given| PathBuf::from(given.text)),
        origins: sources.found.into_inner(),
        iface: iface_name,
        public_id,
        http_bind,
        raft_bind,
        rjoin,
        bootstrap_expect,
        allow_hosts,
        security,
        data,
        data_label,
        role,
        moved: is_moved,
        root_tokens,
        read_level,
        quota_bytes: quota_bytes as u64,
        max_value_bytes,
        max_request_bytes,
        snapshot_threshold,
        backups,
        watch_history: usize::try_from(watch_history).unwrap_or(usize::MAX),
        idempotency_window_ms,
        heartbeat_ms,
        election_min_ms,
        election_max_ms: 2 * election_min_ms,
        log,
        request_log,
        warnings,
    })
}

fn request_log(logged: Option<Setting>, slow: Option<Setting>) -> Result<RequestLog, Exit> {
    let default = RequestLog::default();
    let logged = logged.map_or(Ok(default.logged), |given| given.text.parse().map_err(|why: String| given.bad(why)))?;
    let slow = slow.map(|given| values::time_ms(&given, 1..=3_600_000)).transpose()?;
    Ok(RequestLog { logged, slow: slow.map_or(default.slow, Duration::from_millis) })
}

/// The two bind addresses; each follows from the other where only one is given.
fn binds(haddr: Option<Setting>, raddr: Option<Setting>) -> Result<(Bind, Bind), Exit> {
    let read = |given: &Setting| {
        let (host, port) = Partial::parse_with_port(&given.text).map_err(|why| given.bad(why))?;
        Ok(Bind { host, port, flag: given.name.clone() })
    };
    let derived = |of: &Bind, port, flag: &str| Bind { host: of.host.clone(), port, flag: flag.to_owned() };
    match (haddr, raddr) {
        (Some(haddr), Some(raddr)) => {
            let (http, raft) = (read(&haddr)?, read(&raddr)?);
            let plain = |bind: &Bind| bind.host.as_deref().map(|host| address::plain_loopback(host).to_owned());
            let may_meet = plain(&http) == plain(&raft) || http.is_unspecified() || raft.is_unspecified();
            if http.port == raft.port && may_meet {
                return Err(raddr.bad(format_args!("the same port as {haddr}")));
            }
            Ok((http, raft))
        }
        (None, Some(raddr)) => {
            let raft = read(&raddr)?;
            let port = raft.port.checked_sub(RAFT_PORT_OFFSET).filter(|port| *port > 0);
            let port = port.ok_or_else(|| {
                raddr.bad("no client port follows from it (port - 1000 is below 1); give --haddr too")
            })?;
            Ok((derived(&raft, port, "--haddr"), raft))
        }
        (haddr, None) => {
            let default = Setting::typed("--haddr", format!("{DEFAULT_HOST}:{DEFAULT_HTTP_PORT}"));
            let haddr = haddr.unwrap_or(default);
            let http = read(&haddr)?;
            let port = http.port.checked_add(RAFT_PORT_OFFSET).ok_or_else(|| {
                haddr.bad("no Raft port follows from it (port + 1000 is over 65535); give --raddr too")
            })?;
            let raft = derived(&http, port, "--raddr");
            Ok((http, raft))
        }
    }
}

fn rjoin(typed: Vec<OsString>, sources: &Sources<'_>, http: &Bind) -> Result<Vec<HostPort>, Exit> {
    let own_host = match http.host.as_deref() {
        Some(host) if !http.is_unspecified() => address::plain_loopback(host),
        _ => LOOPBACK,
    };
    let mut list = Vec::new();
    for one in all_of("--rjoin", typed, sources)? {
        address::parse_list(&one.text, own_host, &mut list).map_err(|why| one.bad(why))?;
    }
    Ok(list)
}

fn bootstrap_expect(given: Option<Setting>, role: Role, rjoin: &[HostPort]) -> Result<Option<usize>, Exit> {
    let Some(given) = given else { return Ok(None) };
    let expect = values::number(&given, 1..=MAX_FOUNDERS)?;
    if role == Role::Learner {
        return Err(given.bad("a learner forms no cluster; leave out this flag or --non-voter"));
    }
    if expect > 1 && rjoin.is_empty() {
        return Err(given.bad("nobody is to be found; name the others with --rjoin"));
    }
    Ok(usize::try_from(expect).ok())
}

fn allow_hosts(typed: Vec<OsString>, sources: &Sources<'_>) -> Result<Vec<String>, Exit> {
    let mut names = Vec::new();
    for given in all_of("--allow-host", typed, sources)? {
        for item in given.text.split(',').map(str::trim) {
            match Partial::parse(item) {
                Ok(Partial { host: Some(host), port: None }) => names.push(host),
                Ok(_) => return Err(given.bad(format_args!("{item:?}: give a name, without a port"))),
                Err(why) => return Err(given.bad(format_args!("{item:?}: {why}"))),
            }
        }
    }
    Ok(names)
}

/// What a flag that adds up was given: each time it was typed, else its variable, else the file's.
fn all_of(flag: &str, typed: Vec<OsString>, sources: &Sources<'_>) -> Result<Vec<Setting>, Exit> {
    let mut given = Vec::new();
    for value in typed {
        given.extend(sources.find(flag, Some(value))?);
    }
    if given.is_empty() {
        given.extend(sources.find(flag, None)?);
    }
    Ok(given)
}

fn advertised(given: &Setting) -> Result<Partial, Exit> {
    let partial = Partial::parse(&given.text).map_err(|why| given.bad(why))?;
    match partial.host.as_deref().and_then(address::ip) {
        Some(ip) if !address::may_be_told(ip) => Err(given.bad("no other machine can connect to that")),
        _ => Ok(partial),
    }
}

/// Both ports may differ and the told addresses still be one: `--hadv a:1 --radv a:1`.
fn check_ids(id: &PublicId, http: &Bind, raft: &Bind) -> Result<(), Exit> {
    if id.haddr == id.raddr {
        let line = format!(
            "--hadv and --radv: both addresses told to others would be {} ({http} and {raft} are bound)",
            id.haddr
        );
        return Err(Exit::usage(line));
    }
    Ok(())
}

fn warn_of_addresses(
    id: &PublicId,
    binds: &[&Bind],
    rjoin: &[HostPort],
    machine: &dyn Machine,
    warnings: &mut Vec<String>,
) {
    let mut open: Vec<String> = Vec::new();
    for bind in binds.iter().filter(|bind| !bind.is_loopback()) {
        // Debian gives a machine's own name the address 127.0.1.1.
        match bind.host.as_deref().and_then(|host| Some((host, loopback_here(host, machine)?))) {
            Some((host, ip)) => warnings.push(format!(
                "{} {bind}: {host} is {ip} on this machine, which is loopback: no other machine can connect; give an \
                 address of this machine, or :{} for all",
                bind.flag, bind.port
            )),
            None => open.push(bind.to_string()),
        }
    }
    if !open.is_empty() {
        let open = open.join(" and ");
        warnings.push(format!(
            "{open} can be reached from other machines and there is no authentication: who can connect can read and write"
        ));
    }
    if id.haddr.is_loopback() != id.raddr.is_loopback() {
        warnings.push(format!(
            "of {} and {} only one can be reached from other machines; see --hadv and --radv",
            id.haddr, id.raddr
        ));
    }
    if rjoin.contains(&id.raddr) {
        warnings
            .push(format!("--rjoin {}: that is this node's Raft address; --rjoin takes client addresses", id.raddr));
    }
}

/// The address of a name that leads to loopback alone.
fn loopback_here(name: &str, machine: &dyn Machine) -> Option<std::net::IpAddr> {
    if address::ip(name).is_some() {
        return None;
    }
    let ips = machine.resolve(name).ok()?;
    ips.iter().all(|ip| ip.is_loopback()).then(|| ips.first().copied()).flatten()
}

fn data(
    rdir: Option<Setting>,
    in_memory: bool,
    http_port: u16,
    env: Env<'_>,
    warnings: &mut Vec<String>,
) -> Result<(DataPlace, String), Exit> {
    if in_memory {
        warnings.extend(rdir.map(|given| format!("{given} is not used: --rmem keeps everything in memory")));
        return Ok((DataPlace::Memory, "--rmem".to_owned()));
    }
    if let Some(given) = rdir {
        if given.text.is_empty() {
            return Err(given.bad("the directory has no name"));
        }
        if given.text.contains('\0') {
            return Err(given.bad("no directory can have that name"));
        }
        if given.text.starts_with('~') {
            warnings.push(format!("{given}: the ~ is taken literally, as the name of a directory"));
        }
        return Ok((DataPlace::Dir(PathBuf::from(&given.text)), given.to_string()));
    }
    let Some(home) = env("HOME").filter(|home| !home.is_empty()) else {
        return Err(Exit::config("HOME is not set, and the data directory is in it by default; give --rdir DIR"));
    };
    let home = Path::new(&home);
    if !home.is_absolute() {
        let home = home.display();
        return Err(Exit::config(format!("HOME={home}: not an absolute path; correct it or give --rdir DIR")));
    }
    let dir = home.join(".hraftd").join(http_port.to_string());
    let label = format!("HOME={} (data directory {})", home.display(), dir.display());
    Ok((DataPlace::Dir(dir), label))
}

/// A value travels in a request, so the request's limit bounds it too.
fn limits(value: Option<Setting>, request: Option<Setting>) -> Result<(usize, usize), Exit> {
    let read = |given: &Option<Setting>, default| {
        given.as_ref().map_or(Ok(default), |given| values::size(given, 1..=MAX_REQUEST_BYTES))
    };
    let max_request = read(&request, DEFAULT_MAX_REQUEST_BYTES)?;
    let max_value = read(&value, DEFAULT_MAX_VALUE_BYTES.min(max_request))?;
    if let (Some(given), true) = (value, max_value > max_request) {
        let request = request.map_or_else(
            || format!("--max-request ({} by default)", values::show_size(max_request)),
            |given| given.to_string(),
        );
        return Err(given.bad(format_args!("more than {request}, which a value has to fit in")));
    }
    Ok((max_value, max_request))
}

fn timers(heartbeat: Option<Setting>, election: Option<Setting>) -> Result<(u64, u64), Exit> {
    let read = |given: &Option<Setting>, range, default| {
        given.as_ref().map_or(Ok(default), |given| values::time_ms(given, range))
    };
    let heartbeat_ms = read(&heartbeat, 10..=10_000, DEFAULT_HEARTBEAT_MS)?;
    let election_ms = read(&election, 30..=60_000, DEFAULT_ELECTION_MS)?;
    if heartbeat_ms * MIN_HEARTBEATS_PER_ELECTION > election_ms {
        let least = heartbeat_ms * MIN_HEARTBEATS_PER_ELECTION;
        return Err(match (heartbeat, election) {
            (heartbeat, Some(election)) => {
                let heartbeat = heartbeat.map_or_else(
                    || format!("--heartbeat-interval ({heartbeat_ms}ms by default)"),
                    |given| given.to_string(),
                );
                election.bad(format_args!("less than three times {heartbeat}; {least}ms is the least"))
            }
            (Some(heartbeat), None) => heartbeat.bad(format_args!(
                "more than a third of --election-timeout ({election_ms}ms by default); set that to {least}ms or more"
            )),
            (None, None) => Exit::config("the default Raft timers contradict each other"),
        });
    }
    Ok((heartbeat_ms, election_ms))
}

/// The flag, its variable, `RUST_LOG`, or info.
fn log_filter(given: Option<Setting>, env: Env<'_>) -> Result<LogFilter, Exit> {
    if let Some(given) = given {
        return given.text.parse().map_err(|why: String| given.bad(why));
    }
    match Setting::in_env("RUST_LOG", env)? {
        // A single word that is no level is another program's target.
        Some(given) => {
            given.text.parse().or_else(|_| LogFilter::from_directives(&given.text)).map_err(|why| given.bad(why))
        }
        None => Ok(LogFilter::Level(LevelFilter::INFO)),
    }
}
