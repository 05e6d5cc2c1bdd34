//! The proxies of the page on operations really run with the settings given there.

use std::path::Path;

use crate::namespace::in_own_network;
use crate::shell::{Background, Shell};
use crate::support::lab::Lab;
use crate::support::wait::{SETTLE, check, eventually};

const HOST: &str = "kv.example.com";

/// The settings for a proxy, as the page has them.
fn settings(language: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("no settings: {language}"));
    rest.split_once("```").unwrap().0.to_owned()
}

/// Writes a file, and starts a program on it that stays in the foreground.
fn start(shell: &Shell, home: &Path, name: &str, settings: &str, line: &str) -> Background {
    std::fs::write(home.join(format!("{name}.conf")), settings).unwrap();
    shell.start(name, line)
}

/// Issue 18, D5 (`field/09`): all was 403 behind a proxy, and a watch must come through at once.
#[test]
fn behind_each_proxy_of_the_page() {
    let needs = [("nginx", "nginx-light"), ("haproxy", "haproxy"), ("caddy", "caddy"), ("timeout", "coreutils")];
    in_own_network("proxies::behind_each_proxy_of_the_page", &needs, || {
        let lab = Lab::new();
        let home = lab.path().join("home");
        let shell = Shell::new(&home);
        let _node = shell.start("hraftd", &format!("hraftd --rmem --allow-host {HOST}"));
        eventually(SETTLE, "the node is ready", || {
            shell.try_run("curl -sf localhost:11000/hraftd/raft/ready").map(drop)
        });
        let tmp = "client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;";
        let nginx = settings("nginx");
        let nginx = format!("daemon off; pid nginx.pid; events {{}}\nhttp {{ access_log off; {tmp}\n{nginx}}}\n");
        let place = home.display();
        let _proxies = [
            start(&shell, &home, "nginx", &nginx, &format!("nginx -p {place} -e stderr -c {place}/nginx.conf")),
            start(&shell, &home, "haproxy", &settings("haproxy"), "haproxy -db -f haproxy.conf"),
            start(&shell, &home, "caddy", &settings("caddy"), "caddy run --adapter caddyfile --config caddy.conf"),
        ];
        for port in [8080, 8081, 8082] {
            let url = format!("-H 'Host: {HOST}:{port}' localhost:{port}/hraftd");
            eventually(SETTLE, &format!("{port} answers"), || {
                shell.try_run(&format!("curl -sf {url}/raft/ready")).map(drop)
            });
            shell.run(&format!("curl -sf -X PUT {url}/key/p{port} -d 1"));
            assert_eq!(shell.run(&format!("curl -sf {url}/key/p{port}")), format!("{{\"p{port}\":\"1\"}}"));
            // A page that came through the proxy, and one of another site.
            let page =
                format!("curl -s -o /dev/null -w '%{{http_code}}' -H 'Origin: http://{HOST}:{port}' {url}/key/p{port}");
            assert_eq!(shell.run(&page), "200");
            let page =
                format!("curl -s -o /dev/null -w '%{{http_code}}' -H 'Origin: http://evil.example' {url}/key/p{port}");
            assert_eq!(shell.run(&page), "403");
            // Buffered, the event would come with the end of the stream or with many more.
            let watch =
                format!("timeout 120 curl -sN '-HHost: {HOST}:{port}' localhost:{port}/hraftd/watch?key=w{port}");
            let watched = shell.start(&format!("watch-{port}"), &watch);
            let told = || std::fs::read_to_string(home.join(format!("watch-{port}.log"))).unwrap();
            eventually(SETTLE, "the watch has begun", || check(told().contains("id:"), told));
            shell.run(&format!("curl -sf -X PUT {url}/key/w{port} -d 7"));
            eventually(SETTLE, "the change came through", || check(told().contains("event: "), told));
            drop(watched);
        }
        let other = "curl -s -H 'Host: other.example.com' localhost:8080/hraftd/key/p8080";
        assert!(shell.run(other).contains("--allow-host"));
    });
}
