//! Where it runs: the unit, the manifests, the image's tree and the archive of a release are what they say.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::namespace::{in_own_network, is_there, skip};
use crate::support::lab::Lab;
use crate::support::node::hraftd;
use crate::support::process::finish;
use crate::support::shell::{Background, Shell};
use crate::support::wait::{SETTLE, check, eventually};

const BUILT: &str = env!("CARGO_BIN_EXE_hraftd");
const WITHIN: Duration = Duration::from_secs(120);

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(deploy(file)).unwrap()
}

fn run(command: &mut Command) -> String {
    let end = finish(command, WITHIN);
    assert_eq!(end.code, Some(0), "{command:?}: {end:?}");
    end.stdout
}

#[test]
fn systemd_takes_the_unit() {
    if !is_there("systemd-analyze") {
        return skip("places::systemd_takes_the_unit", "missing Debian packages: systemd");
    }
    let lab = Lab::new();
    let unit = text("systemd/hraftd.service").replace("/usr/local/bin/hraftd", BUILT);
    let path = lab.path().join("hraftd.service");
    std::fs::write(&path, &unit).unwrap();
    let end = finish(Command::new("systemd-analyze").arg("verify").arg(&path), WITHIN);
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{end:?}");
    // The command line of it is one that the program takes.
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let config = lab.path().join("hraftd.toml");
    std::fs::write(&config, "haddr = \":11000\"\nrjoin = [\"n1:11000\", \"n2:11000\", \"n3:11000\"]\n").unwrap();
    let line =
        line.replace("/etc/hraftd/hraftd.toml", config.to_str().unwrap()).replace("%S", lab.path().to_str().unwrap());
    let words = line.split(' ').skip(1);
    let shown = run(hraftd(lab.path()).args(["check", "config"]).args(words));
    assert!(shown.contains("haddr = \":11000\"") && shown.contains("/hraftd\""), "{shown}");
}

#[test]
fn kubernetes_takes_the_manifests() {
    let python = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let validate = python.join("python/bin/kubernetes-validate");
    if !validate.exists() {
        return skip("places::kubernetes_takes_the_manifests", "missing kubernetes-validate: .ci/steps installs it");
    }
    let manifest = deploy("kubernetes/hraftd.yaml");
    let end = finish(Command::new(&validate).args(["--strict", "-k", "1.31"]).arg(&manifest), WITHIN);
    assert_eq!(end.code, Some(0), "{end:?}");
    for resource in ["service/hraftd ", "service/hraftd-client", "poddisruptionbudget/hraftd", "statefulset/hraftd"] {
        assert!(end.stdout.contains(resource) || end.stderr.contains(resource), "{resource}: {end:?}");
    }
    // A name that is not there is found.
    let lab = Lab::new();
    let wrong = lab.path().join("wrong.yaml");
    std::fs::write(&wrong, text("kubernetes/hraftd.yaml").replace("podManagementPolicy", "podManagmentPolicy"))
        .unwrap();
    assert_ne!(finish(Command::new(&validate).args(["--strict", "-k", "1.31"]).arg(&wrong), WITHIN).code, Some(0));
    // Its arguments are a configuration.
    let (secret, token) = (lab.path().join("secret"), lab.path().join("token"));
    run(hraftd(lab.path()).arg("secret").arg(&secret));
    run(hraftd(lab.path()).arg("token").arg(&token));
    let yaml = text("kubernetes/hraftd.yaml");
    let arguments = yaml.lines().filter_map(|line| line.trim().strip_prefix("- --")).map(|argument| {
        format!("--{argument}")
            .replace("$(POD_NAME)", "hraftd-0")
            .replace("$(POD_NAMESPACE)", "default")
            .replace("/run/secrets/hraftd/cluster-secret", secret.to_str().unwrap())
            .replace("/run/secrets/hraftd/root-token", token.to_str().unwrap())
            .replace("/var/lib/hraftd", lab.path().join("data").to_str().unwrap())
    });
    let shown = run(hraftd(lab.path()).args(["check", "config"]).args(arguments));
    for line in ["hadv = \"hraftd-0.hraftd.default.svc:11000\"", "bootstrap-expect = 3", "tls-auto = true", "680 MiB"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
}

/// What an image of `deploy/Dockerfile` has: the program, the C library, and no shell.
fn bare_root(root: &Path, program: &Path) {
    let libraries = run(Command::new("ldd").arg(program));
    let mut files = vec![(program.to_owned(), "usr/local/bin/hraftd".to_owned())];
    for line in libraries.lines() {
        if let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) {
            files.push((path.into(), path.trim_start_matches('/').to_owned()));
        }
    }
    for (from, to) in files {
        let to = root.join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, &to).unwrap();
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for dir in ["proc", "etc", "sys/fs/cgroup", "var/lib/hraftd"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "nonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n").unwrap();
    std::fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
}

/// The lines of the Dockerfile's last stage that begin with this word, without it.
fn dockerfile(word: &str) -> Vec<String> {
    let file = text("Dockerfile");
    let last = file.rsplit("\nFROM ").next().unwrap();
    last.lines().filter_map(|line| Some(line.strip_prefix(word)?.trim().to_owned())).collect()
}

/// Runs a line as PID 1 of a container: its own root, which is read-only, one volume, and a user who is not root.
fn contained(shell: &Shell, log: &str, root: &Path, volume: &Path) -> Background {
    let variables = dockerfile("ENV ").join(" ");
    let entry = dockerfile("ENTRYPOINT ").remove(0);
    let program = entry.trim_matches(['[', ']']).replace(['"', ','], "");
    let user = dockerfile("USER ").remove(0);
    let (root, volume) = (root.display(), volume.display());
    let inside = format!(
        "mount --bind {root} {root} && mount --bind {volume} {root}/var/lib/hraftd && mount -t proc proc {root}/proc && \
         mount -o remount,ro,bind {root} && exec env -i {variables} $(command -v chroot) --userspec={user} --groups= {root} {program}"
    );
    shell.start(log, &format!("unshare --mount --pid --fork --kill-child sh -c '{inside}'"))
}

#[test]
fn the_image_runs_read_only_and_not_as_root() {
    let needs = [("mount", "mount"), ("ldd", "libc-bin"), ("chroot", "coreutils"), ("nsenter", "util-linux")];
    in_own_network("places::the_image_runs_read_only_and_not_as_root", &needs, || {
        if !rustix::process::geteuid().is_root() {
            return skip("places::the_image_runs_read_only_and_not_as_root", "it takes root");
        }
        let lab = Lab::new();
        // Who runs it may enter.
        std::fs::set_permissions(lab.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let (root, volume) = (lab.path().join("root"), lab.path().join("volume"));
        bare_root(&root, Path::new(BUILT));
        // A limit of its cgroup, which it takes for its own.
        std::fs::write(root.join("sys/fs/cgroup/memory.max"), "65536\n").unwrap();
        std::fs::create_dir(&volume).unwrap();
        std::os::unix::fs::chown(&volume, Some(65532), Some(65532)).unwrap();
        let shell = Shell::new(&lab.path().join("home"));
        for round in 0..2 {
            let mut container = contained(&shell, "container", &root, &volume);
            let log = |container: &Background| container.log_text();
            eventually(SETTLE, "the container serves", || {
                shell
                    .try_run("curl -sf localhost:11000/hraftd/raft/ready")
                    .map_err(|error| format!("{error}\n{}", log(&container)))
            });
            // The child of unshare, which is PID 1 there.
            let outer = container.process.pid();
            let pid = shell.run(&format!("cat /proc/{outer}/task/{outer}/children")).trim().to_owned();
            let status = shell.run(&format!("cat /proc/{pid}/status"));
            assert!(status.contains("Uid:\t65532\t65532\t65532\t65532"), "{status}");
            assert!(status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1")), "{status}");
            let mounts = shell.run(&format!("cat /proc/{pid}/mounts"));
            assert!(mounts.lines().any(|line| line.split(' ').nth(1) == Some("/") && line.contains(" ro")), "{mounts}");
            // HEALTHCHECK, as it stands in the file.
            let check_line = dockerfile("HEALTHCHECK ").remove(0);
            let health = check_line.split_once("CMD ").unwrap().1.trim_matches(['[', ']']).replace(['"', ','], "");
            shell.run(&format!(
                "nsenter --mount=/proc/{pid}/ns/mnt chroot --userspec=65532:65532 {} {health}",
                root.display()
            ));
            if round == 0 {
                let value = "x".repeat(40_000);
                shell.run(&format!("printf '{{\"k\": \"{value}\"}}' | curl -sf localhost:11000/hraftd/key -d @-"));
                let cluster = shell.run("curl -sf localhost:11000/hraftd/raft/cluster");
                assert!(cluster.contains("half of the 65536 bytes of memory"), "{cluster}");
            } else {
                assert!(shell.run("curl -sf localhost:11000/hraftd/key/k").contains("xxx"), "the volume was kept");
            }
            shell.run(&format!("kill -TERM {pid}"));
            let status = container.process.wait(Duration::from_secs(20), "it stops at SIGTERM, as PID 1");
            assert_eq!(status.code(), Some(0), "{}", container.log_text());
        }
    });
}

#[test]
fn the_archive_of_a_release_runs_on_a_bare_root() {
    let needs = [("strip", "binutils"), ("ldd", "libc-bin"), ("chroot", "coreutils")];
    in_own_network("places::the_archive_of_a_release_runs_on_a_bare_root", &needs, || {
        let lab = Lab::new();
        let (out, root) = (lab.path().join("out"), lab.path().join("root"));
        let make = || {
            run(Command::new(deploy("release"))
                .arg(&out)
                .env("HRAFTD_RELEASE_BINARY", BUILT)
                .env("SOURCE_DATE_EPOCH", "0"))
        };
        let archive = make().trim().to_owned();
        let first = std::fs::read(&archive).unwrap();
        make();
        assert!(std::fs::read(&archive).unwrap() == first, "the same tree gives the same bytes");
        let shell = Shell::new(&lab.path().join("home"));
        let out = out.display();
        shell.run(&format!("cd {out} && sha256sum -c *.sha256 && tar xzf *.tar.gz"));
        let list = shell.run(&format!("cd {out}/hraftd-*/ && ls"));
        for file in ["hraftd", "hraftd.service", "LICENSE", "README.md", "CHANGELOG.md"] {
            assert!(list.lines().any(|line| line == file), "{file}: {list}");
        }
        let completions =
            shell.run(&format!("cd {out}/hraftd-*/ && ls completions && bash -n completions/hraftd.bash"));
        assert_eq!(completions.lines().collect::<Vec<_>>(), ["hraftd.bash", "hraftd.fish", "hraftd.zsh"]);
        let manual = shell.run(&format!("cat {out}/hraftd-*/hraftd.1"));
        assert!(manual.contains("\n.TH hraftd 1 ") && manual.contains("rjoin"), "{manual}");
        let program = shell.run(&format!("echo {out}/hraftd-*/hraftd")).trim().to_owned();
        assert!(!shell.run(&format!("readelf -S {program}")).contains(".debug_info"), "it is stripped");
        bare_root(&root, Path::new(&program));
        let root = root.display();
        let version = shell.run(&format!("chroot {root} /usr/local/bin/hraftd --version"));
        assert_eq!(version.trim(), format!("hraftd {}", env!("CARGO_PKG_VERSION")));
        let _node = shell.start("node", &format!("env -i $(command -v chroot) {root} /usr/local/bin/hraftd --rmem"));
        eventually(SETTLE, "it serves", || {
            let told = shell.try_run("curl -sf localhost:11000/hraftd/key -d '{\"k\": 1}'")?;
            check(told.contains("\"ok\":true"), || told.clone())
        });
    });
}
