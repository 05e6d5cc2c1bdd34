//! `GET /openapi.json` against the server that gives it: valid, and what schemathesis finds by asking.
//!
//! schemathesis comes from PyPI: `.ci/run` puts it where this looks, and `PATH` will do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::http::Conn;
use crate::support::lab::Lab;
use crate::support::namespace::skip;
use crate::support::process::finish;
use crate::support::wait::{SETTLE, eventually};

/// What CI asks, beyond the checks that these names say.
const CHECKS: &str = "status_code_conformance,content_type_conformance,response_schema_conformance,\
                      response_headers_conformance,no_unasked_server_error";

/// A join makes the server call any address it is given; a watch has no end.
const LEFT_OUT: &str = "/raft/join$|/watch$";

const WITHIN: Duration = Duration::from_secs(480);

fn python_program(name: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(own).chain(std::env::split_paths(&path)).map(|dir| dir.join(name)).find(|program| program.is_file())
}

#[test]
fn the_document_is_true() {
    let (Some(schemathesis), Some(validator)) =
        (python_program("schemathesis"), python_program("openapi-spec-validator"))
    else {
        return skip("openapi::the_document_is_true", "missing from PyPI: schemathesis, openapi-spec-validator");
    };
    let lab = Lab::new();
    let mut node = lab.node("n0");
    node.start();
    eventually(SETTLE, "ready", || node.ready());
    let document = Conn::open(&node.haddr).unwrap().request("GET", "/openapi.json", &[], None).unwrap().ok().unwrap();
    let file = lab.path().join("openapi.json");
    std::fs::write(&file, &document.body).unwrap();

    let end = finish(Command::new(validator).arg(&file), WITHIN);
    assert_eq!(end.code, Some(0), "{end:?}");
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools");
    let end = finish(
        Command::new(schemathesis)
            .current_dir(lab.path())
            .env("PYTHONPATH", hooks)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("SCHEMATHESIS_HOOKS", "openapi_hooks")
            .args(["run", &format!("http://{}/openapi.json", node.haddr)])
            .args(["--checks", CHECKS, "--exclude-path-regex", LEFT_OUT])
            .args(["--max-examples", "30", "--request-timeout", "20", "--seed", "1", "--no-color"]),
        WITHIN,
    );
    assert_eq!(end.code, Some(0), "{}\n{}", end.stdout, end.stderr);
    // What none of it may have done.
    node.ready().unwrap();
}
