//! supervisord really runs the `supervisord.ini` of this repository.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::namespace::in_own_network;
use crate::shell::{Shell, print_logs};
use crate::support::lab::Lab;
use crate::support::wait::{SETTLE, check, eventually};

const PROGRAMS: [&str; 3] = ["hraftd-11000", "hraftd-11001", "hraftd-11002"];

/// What a fresh clone has after `cargo build --release`.
fn lay_out(clone: &Path) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::create_dir_all(clone.join("target/release")).unwrap();
    std::fs::create_dir(clone.join("run")).unwrap();
    for file in ["supervisord.ini", "run/.gitignore"] {
        std::fs::copy(repository.join(file), clone.join(file)).unwrap();
    }
    symlink(env!("CARGO_BIN_EXE_hraftd"), clone.join("target/release/hraftd")).unwrap();
}

/// supervisord leaves the terminal and its parent; its namespace ends with the test all the same.
struct Clone<'a>(&'a Path);

impl Drop for Clone<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            print_logs(&self.0.join("run"));
        }
    }
}

/// The exit code of `supervisorctl status` is not 0 while a program is starting.
fn all_run(shell: &Shell) {
    eventually(SETTLE, "three programs RUNNING", || {
        let status = shell.try_run("supervisorctl -c supervisord.ini status")?;
        check(status.matches(" RUNNING ").count() == PROGRAMS.len(), || status)
    });
}

fn three_voters(shell: &Shell) {
    eventually(SETTLE, "a cluster of three", || {
        for port in 11000..=11002 {
            let stats = shell.try_run(&format!("curl -sf localhost:{port}/hraftd/raft/stats"))?;
            check(stats.matches(r#""Voter""#).count() == 3, || format!("{port}: {stats}"))?;
            shell.try_run(&format!("curl -sf localhost:{port}/hraftd/raft/ready"))?;
        }
        Ok(())
    });
}

fn pid(shell: &Shell, program: &str) -> u32 {
    shell.run(&format!("supervisorctl -c supervisord.ini pid {program}")).trim().parse().unwrap()
}

#[test]
fn a_cluster_under_supervisord() {
    let needs = [("supervisord", "supervisor"), ("supervisorctl", "supervisor")];
    in_own_network("supervisor::a_cluster_under_supervisord", &needs, || {
        let lab = Lab::new();
        let home = lab.path().join("clone");
        let shell = Shell::new(&home);
        lay_out(&home);
        let _logs = Clone(&home);
        shell.run("supervisord -c supervisord.ini");
        all_run(&shell);
        three_voters(&shell);
        shell.run(r#"curl -sf localhost:11001/hraftd/key -d '{"user1": "batman"}'"#);
        assert_eq!(
            shell.run("curl -s localhost:11000/key/user1 localhost:11001/key/user1 localhost:11002/key/user1"),
            r#"{"user1":"batman"}"#.repeat(3)
        );

        for program in PROGRAMS {
            let before = pid(&shell, program);
            shell.run(&format!("kill -9 {before}"));
            eventually(SETTLE, &format!("{program} is started again"), || {
                let after = shell.try_run(&format!("supervisorctl -c supervisord.ini pid {program}"))?;
                check(!["0".to_owned(), before.to_string()].contains(&after.trim().to_owned()), || after.clone())
            });
            all_run(&shell);
            three_voters(&shell);
        }
        assert_eq!(shell.run("curl -s localhost:11000/key/user1"), r#"{"user1":"batman"}"#);

        // A removed node stays up: supervisord has nothing to bring back.
        let before = pid(&shell, "hraftd-11002");
        shell.run("curl -sf -X DELETE 'localhost:11000/raft/remove?id=127.0.0.1:11002,127.0.0.1:12002'");
        eventually(SETTLE, "the removed one says so", || {
            let state = shell.try_run("curl -s localhost:11002/hraftd/raft/state")?;
            check(state.contains("Shutdown"), || state)
        });
        assert_eq!(pid(&shell, "hraftd-11002"), before);

        shell.run("supervisorctl -c supervisord.ini shutdown");
        eventually(SETTLE, "supervisord has ended", || {
            check(!home.join("run/supervisord.pid").exists(), || "its pid file is there".to_owned())
        });
        eventually(SETTLE, "all have stopped", || {
            let running = shell.try_run("ls -l /proc/*/exe 2>/dev/null | grep -cE '/hraftd$' || true")?;
            check(running.trim() == "0", || running)
        });
        for program in PROGRAMS {
            let log = std::fs::read_to_string(home.join(format!("run/{program}.log"))).unwrap();
            assert!(!log.contains("panicked at"), "{program}:\n{log}");
        }
        let log = std::fs::read_to_string(home.join("run/supervisord.log")).unwrap();
        let graceful = |line: &&str| line.contains("stopped: hraftd-") && line.contains("exit status 0");
        assert_eq!(log.lines().filter(graceful).count(), 3, "{log}");
    });
}
