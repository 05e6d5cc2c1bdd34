//! Namespaces of a test's own: only a loopback interface, mounts that nobody else sees, and no process outlives the test.

use std::process::Command;
use std::time::Duration;

use super::lab::Lab;
use super::process::finish;
use super::say;

/// Set to the test's name in the process that runs inside.
const INSIDE: &str = "HRAFTD_TEST_INSIDE";
/// Begins what the process outside passes on of a line.
const FIGURE: &str = "in its own network: ";
const WITHIN: Duration = Duration::from_secs(180);

/// Programs that every test here needs, each with its Debian package.
const ALWAYS: &[(&str, &str)] = &[("unshare", "util-linux"), ("ip", "iproute2"), ("curl", "curl")];

/// Runs `body` in a process of its own (this test binary again, for the one test of this name) inside new network and
/// process namespaces with loopback up.
pub fn in_own_network(test: &str, needs: &[(&str, &str)], body: impl FnOnce()) {
    run_inside(test, needs, WITHIN, Lab::new, body);
}

/// As [`in_own_network`], where it may take longer.
pub fn in_own_network_within(test: &str, needs: &[(&str, &str)], within: Duration, body: impl FnOnce()) {
    run_inside(test, needs, within, Lab::new, body);
}

/// As [`in_own_network`], for a test that keeps a processor busy, or that demands that nobody is elected.
pub fn busy_in_own_network(test: &str, needs: &[(&str, &str)], body: impl FnOnce()) {
    run_inside(test, needs, WITHIN, Lab::busy, body);
}

/// `lab` takes the shares of the machine for the process inside, which has labs of its own.
fn run_inside(test: &str, needs: &[(&str, &str)], within: Duration, lab: fn() -> Lab, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some_and(|name| name == test) {
        return body();
    }
    let missing: Vec<&str> =
        ALWAYS.iter().chain(needs).filter(|(program, _)| !is_there(program)).map(|&(_, package)| package).collect();
    if !missing.is_empty() {
        return skip(test, &format!("missing Debian packages: {}", missing.join(" ")));
    }
    if finish(&mut unshare(&["true"]), WITHIN).code != Some(0) {
        return skip(test, "this machine allows no namespaces (unshare)");
    }
    let _shares = lab();
    let binary = std::env::current_exe().unwrap();
    let inside = format!(
        "ip link set lo up && exec {} --exact {test} --include-ignored --nocapture --test-threads=1",
        binary.display()
    );
    let end = finish(unshare(&["sh", "-c", &inside]).env(INSIDE, test), within);
    assert!(
        end.code == Some(0) && end.stdout.contains("1 passed"),
        "inside its own network, {:?} after {:?}:\n{}\n{}",
        end.code,
        end.took,
        end.stdout,
        end.stderr
    );
    end.stdout.lines().filter_map(|line| line.find(FIGURE).map(|at| &line[at..])).for_each(say);
}

/// Prints a line that is seen outside too, even when the test passes.
pub fn say_figure(line: &str) {
    say(&format!("{FIGURE}{line}"));
}

fn unshare(command: &[&str]) -> Command {
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]).args(command);
    unshare
}

pub fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
        || ["/sbin", "/usr/sbin"].iter().any(|dir| std::path::Path::new(dir).join(program).is_file())
}

/// Locally a note; in CI, where everything is to be there, a failure.
pub fn skip(test: &str, why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{test}: {why}");
    say(&format!("{test} ... SKIPPED: {why}"));
}
