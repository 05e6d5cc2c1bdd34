//! A terminal in which a page's commands are typed: one bash, so that variables, aliases and jobs stay.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::support::node::hraftd;
use crate::support::shell::print_logs;

/// Reads the names of files, runs each in this shell, and tells how it ended. What a file starts keeps running.
const LOOP: &str = r#"
shopt -s expand_aliases
while read -r step; do
  if grep -q '^http ' "$step"; then . "$step" >"$step.out" 2>"$step.err" <&-; else . "$step" >"$step.out" 2>"$step.err" </dev/null; fi
  echo $?
done
"#;

/// The longest that one step may take.
const STEP_WITHIN: Duration = Duration::from_secs(150);

/// The terminal of one page.
pub struct Session {
    dir: PathBuf,
    steps: usize,
    shell: Child,
    ends: Receiver<String>,
}

/// How a step ended, and what it printed.
pub struct End {
    pub code: String,
    pub stdout: String,
    pub stderr: String,
}

impl Session {
    /// At the top of what looks like a checkout, with a home of its own.
    pub fn new(dir: &Path) -> Self {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["run", "steps", "home/.config/httpie", "target/release"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        // Its look for updates forks a process that prints what is still buffered: a redirected answer comes twice.
        std::fs::write(dir.join("home/.config/httpie/config.json"), r#"{"disable_update_warnings": true}"#).unwrap();
        std::fs::copy(repository.join("supervisord.ini"), dir.join("supervisord.ini")).unwrap();
        let binary = Path::new(env!("CARGO_BIN_EXE_hraftd"));
        std::os::unix::fs::symlink(binary, dir.join("target/release/hraftd")).unwrap();
        // Stands in for the one of AWS: `aws s3 cp - s3://BUCKET/NAME`.
        let aws = dir.join("target/release/aws");
        std::fs::write(&aws, "#!/bin/sh\n[ \"$1 $2 $3\" = 's3 cp -' ] && cat >\"run/${4##*/}\"\n").unwrap();
        std::fs::set_permissions(&aws, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = [dir.join("target/release"), "/usr/sbin".into(), "/sbin".into()];
        let mut environment = Command::new("bash");
        for (name, value) in hraftd(&dir.join("home")).get_envs() {
            match value {
                Some(value) => environment.env(name, value),
                None => environment.env_remove(name),
            };
        }
        let path = std::env::join_paths(dirs.into_iter().chain(std::env::split_paths(&path))).unwrap();
        environment.env("PATH", path).args(["--norc", "-c", LOOP]).current_dir(dir);
        environment.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = environment.spawn().unwrap();
        let output = shell.stdout.take().unwrap();
        let (tell, ends) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        Self { dir: dir.to_owned(), steps: 0, shell, ends }
    }

    /// Runs some commands to their end.
    pub fn run(&mut self, commands: &str) -> End {
        self.steps += 1;
        let file = self.dir.join(format!("steps/{}", self.steps));
        std::fs::write(&file, format!("{commands}\n")).unwrap();
        let input = self.shell.stdin.as_mut().unwrap();
        writeln!(input, "{}", file.display()).and_then(|()| input.flush()).unwrap();
        let code = self.ends.recv_timeout(STEP_WITHIN).unwrap_or_else(|_| format!("none within {STEP_WITHIN:?}"));
        let read = |kind: &str| {
            let bytes = std::fs::read(file.with_extension(kind)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        End { code, stdout: read("out"), stderr: read("err") }
    }

    /// Saves a file, as with an editor.
    pub fn save(&self, file: &str, text: &str) {
        std::fs::write(self.dir.join(file), text).unwrap();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if std::thread::panicking() {
            print_logs(&self.dir.join("run"));
        }
        // The namespace ends what it has started.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
