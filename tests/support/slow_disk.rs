//! A disk that is slow, or hangs: a program whose flushes take longer than the disk does.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is loaded before libc. It is compiled by the linker that Rust itself needs.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <unistd.h>
int fdatasync(int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    struct timespec wait = {0, MS * 1000000L};
    nanosleep(&wait, 0);
    while (access("HANG", F_OK) == 0) usleep(10000);
    return real(file);
}
"#;

/// A script in `dir` that runs `program`, each of whose flushes takes `ms` longer, up to 999, and does not end while there
/// is a file `hang` in `dir`.
pub fn slow(dir: &Path, program: &Path, ms: u32) -> PathBuf {
    let (source, library, script) = (dir.join("slow.c"), dir.join("slow.so"), dir.join("slow"));
    std::fs::write(&source, SOURCE.replace("MS", &ms.to_string()).replace("HANG", dir.join("hang").to_str().unwrap()))
        .unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
    assert!(compiled.unwrap().success(), "cc compiles {}", source.display());
    let text = format!("#!/bin/sh\nLD_PRELOAD={} exec {} \"$@\"\n", library.display(), program.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}
