//! HTTP/2 with the clients that people have: curl, httpx, node, a browser.
//!
//! httpx comes from PyPI: `.ci/run` puts it where [`super::openapi`] looks. Node is used where it is installed. Go is not
//! tried.

use std::path::Path;

use crate::namespace::{in_own_network, is_there};
use crate::shell::Shell;
use crate::support::lab::Lab;
use crate::support::wait::{SETTLE, check, eventually};

const AT: &str = "127.0.0.1:11000";

/// As the browser and scripts of clients do: several at a time on one connection, a large value both ways, a long poll that
/// ends by a write, and a stream of changes that is broken off. Prints the versions it met.
const HTTPX: &str = r"
import asyncio, httpx, ssl, sys
base = sys.argv[1]
verify = ssl.create_default_context(cafile=sys.argv[2]) if len(sys.argv) > 2 else True
async def main():
    async with httpx.AsyncClient(http2=True, http1=False, verify=verify, timeout=20, limits=httpx.Limits(max_connections=1)) as c:
        url = base + '/hraftd/key/'
        done = await asyncio.gather(*[c.put(f'{url}x{i}', content=b'%d' % i) for i in range(100)])
        assert all(r.status_code == 201 for r in done), [r.text for r in done]
        big = b'x' * 1_000_000
        assert (await c.put(url + 'big', content=big)).status_code in (200, 201)
        assert len((await c.get(url + 'big?raw')).content) >= len(big)
        first = await c.get(url + 'x1')
        poll = asyncio.create_task(c.get(url + 'x1', params={'wait': '15s'}, headers={'If-None-Match': first.headers['etag']}))
        async with c.stream('GET', base + '/hraftd/watch?key=x2') as changes:
            lines = changes.aiter_lines()
            await lines.__anext__()
            assert (await c.put(url + 'x1', content=b'2')).status_code == 200
            assert (await c.put(url + 'x2', content=b'3')).status_code == 200
            assert (await poll).json() == {'x1': '2'}
            async for line in lines:
                if '3' in line: break
        print((await c.get(url + 'x1')).http_version)
asyncio.run(main())
";

const NODE: &str = r"
const http2 = require('http2'), fs = require('fs');
const [base, ca] = process.argv.slice(2);
const client = http2.connect(base, ca ? { ca: fs.readFileSync(ca) } : {});
client.on('error', (error) => { console.error(error); process.exit(1); });
const ask = (method, path, body) => new Promise((resolve, reject) => {
  const stream = client.request({ ':method': method, ':path': path });
  let text = '', status;
  stream.on('response', (head) => { status = head[':status']; });
  stream.on('data', (part) => { text += part; });
  stream.on('end', () => resolve([status, text]));
  stream.on('error', reject);
  stream.end(body);
});
(async () => {
  const done = await Promise.all([...Array(100).keys()].map((i) => ask('PUT', `/hraftd/key/n${i}`, `${i}`)));
  if (!done.every(([status]) => status === 201)) throw new Error(JSON.stringify(done));
  const [status, text] = await ask('GET', '/hraftd/key/n42');
  console.log(status, text, client.alpnProtocol);
  client.close();
})().catch((error) => { console.error(error); process.exit(1); });
";

/// All of it at one node; `ca` where it speaks TLS.
fn clients(shell: &Shell, home: &Path, ca: Option<&str>) {
    let (base, curl) = match ca {
        None => (format!("http://{AT}"), "curl -sS --http2-prior-knowledge".to_owned()),
        Some(ca) => (format!("https://{AT}"), format!("curl -sS --http2 --cacert {ca}")),
    };
    let version = |line: &str| shell.run(&format!("{curl} -o /dev/null -w '%{{http_version}} %{{http_code}}' {line}"));
    assert_eq!(version(&format!("-X PUT -d 1 {base}/hraftd/key/c")), "2 201");
    assert_eq!(version(&format!("{base}/hraftd/key/c")), "2 200");
    assert_eq!(version(&format!("-I {base}/hraftd/key/c")), "2 200");
    assert_eq!(version(&format!("-X PUT {base}/hraftd/key/c")), "2 400", "it has no body");
    assert_eq!(version(&format!("-X PUT -d '' {base}/hraftd/key/empty")), "2 201");
    assert_eq!(version(&format!("-H 'Origin: http://evil.example' {base}/hraftd/key/c")), "2 403");
    assert_eq!(version(&format!("-H 'Host: evil.example' {base}/hraftd/key/c")), "2 403");
    std::fs::write(home.join("big"), vec![b'x'; 900_000]).unwrap();
    assert_eq!(version(&format!("-T big {base}/hraftd/key/big")), "2 201");
    assert_eq!(shell.run(&format!("{curl} '{base}/hraftd/key/big?raw' | wc -c")).trim(), "900000");
    // One that speaks HTTP/1.1 is served beside them.
    let tls = ca.map(|ca| format!("--cacert {ca}")).unwrap_or_default();
    let old = format!("curl -sS --http1.1 {tls} -o /dev/null -w '%{{http_version}}' {base}/hraftd/key/c");
    assert_eq!(shell.run(&old), "1.1");

    let httpx = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python3");
    let has_httpx = |python: &str| shell.try_run(&format!("{python} -c 'import httpx, h2'")).is_ok();
    let python = [httpx.display().to_string(), "python3".to_owned()].into_iter().find(|python| has_httpx(python));
    match python {
        Some(python) => {
            std::fs::write(home.join("h.py"), HTTPX).unwrap();
            let said = shell.run(&format!("{python} h.py {base} {}", ca.unwrap_or_default()));
            assert_eq!(said.trim(), "HTTP/2");
        }
        None => crate::support::namespace::skip("http2: httpx", "missing from PyPI: httpx[http2]"),
    }
    if is_there("node") {
        std::fs::write(home.join("h.js"), NODE).unwrap();
        let said = shell.run(&format!("node h.js {base} {}", ca.unwrap_or_default()));
        let protocol = if ca.is_some() { "h2" } else { "h2c" };
        assert_eq!(said.trim(), format!("200 {{\"n42\":\"42\"}} {protocol}"));
    } else {
        crate::support::say("http2: node is not installed, and not tried");
    }
}

#[test]
fn in_plain_text() {
    in_own_network("http2::in_plain_text", &[("curl", "curl")], || {
        let lab = Lab::new();
        let home = lab.path().join("home");
        let shell = Shell::new(&home);
        let _node = shell.start("hraftd", "hraftd --rmem");
        eventually(SETTLE, "the node is ready", || {
            shell.try_run(&format!("curl -sf {AT}/hraftd/raft/ready")).map(drop)
        });
        clients(&shell, &home, None);
        // A lock that somebody waits for: a stream that is reset gives its place back.
        shell.run(&format!("curl -sf -X POST {AT}/hraftd/lock/l?ttl=60s"));
        let waiter = format!("curl -sS --http2-prior-knowledge -X POST '{AT}/hraftd/lock/l?ttl=60s&wait=60s'");
        let waiter = shell.start("waiter", &waiter);
        let waiters = |count: &'static str| {
            eventually(SETTLE, "waiters for the lock", || {
                let page = shell.try_run(&format!("curl -sf {AT}/metrics"))?;
                check(page.contains(&format!("\nhraftd_lock_waiters {count}\n")), || page)
            });
        };
        waiters("1");
        drop(waiter);
        waiters("0");
    });
}

#[test]
fn under_tls() {
    let needs = [("curl", "curl"), ("chromium", "chromium")];
    in_own_network("http2::under_tls", &needs, || {
        let lab = Lab::new();
        let home = lab.path().join("home");
        let shell = Shell::new(&home);
        shell.run("hraftd secret secret && hraftd ca --cluster-secret-file secret > ca.pem");
        let _node = shell.start("hraftd", "hraftd --rmem --cluster-secret-file secret --tls-auto");
        let curl = format!("curl -sf --cacert ca.pem https://{AT}");
        eventually(SETTLE, "the node is ready", || shell.try_run(&format!("{curl}/hraftd/raft/ready")).map(drop));
        clients(&shell, &home, Some("ca.pem"));
        let count = || {
            let page = shell.run(&format!("{curl}/metrics --http1.1"));
            let line =
                page.lines().find_map(|line| line.strip_prefix("hraftd_http2_streams_total ")).unwrap().to_owned();
            line.parse::<u64>().unwrap()
        };
        let before = count();
        let page = shell.run(&format!(
            "timeout 60 chromium --headless --no-sandbox --disable-gpu --ignore-certificate-errors --user-data-dir=profile \
             --virtual-time-budget=5000 --dump-dom https://{AT}/ui/ 2>chromium.log"
        ));
        assert!(page.contains("127.0.0.1:11000"), "{page}");
        assert!(count() > before, "the page came over HTTP/2");
    });
}
