//! Transactions as API-KV.md has them.

use super::*;

async fn roomy() -> Server {
    Server::with(Fake::default(), ApiSettings { max_request_bytes: 1 << 20, ..settings() }).await
}

async fn txn(server: &Server, body: &str) -> Answer {
    server.ask("POST", "/hraftd/txn", body).await
}

#[tokio::test]
async fn all_kinds_of_operations() {
    let server = Server::start().await;
    server.ask("POST", "/key", r#"{"old":1,"cfg":{"a": 1.0},"n":5,"tmp/1":1,"tmp/2":2}"#).await;
    let answer = txn(
        &server,
        r#"{ "if": [ {"key":"lock","exists":false}, {"key":"cfg","modify_index":11}, {"key":"n","value":5},
                     {"key":"n","version":1,"create_index":11,"exists":true} ],
             "then": [ {"set":{"lock": "me" ,"b":[1, 2]},"ttl":"30s"}, {"incr":{"n":1,"m":-2}}, {"delete":"old"},
                       {"delete":"old"}, {"delete_prefix":"tmp/"}, {"get":"cfg"}, {"get":"nobody"}, {"get":"lock"} ],
             "else": [ {"get":"lock"} ] }"#,
    )
    .await;
    answer.is_ok(concat!(
        r#"{"ok":true,"succeeded":true,"index":12,"results":[{"set":2},{"n":6,"m":-2},{"deleted":1},{"deleted":0},"#,
        r#"{"deleted":2},{"cfg":{"a": 1.0}},{},{"lock":"me"}]}"#
    ));
    assert_eq!((answer.header("x-hraftd-index"), answer.header("content-length")), (Some("12"), Some("154")));
    server.get("/key?prefix=").await.is_ok(r#"{"b":[1, 2],"cfg":{"a": 1.0},"lock":"me","m":-2,"n":6}"#);
    assert!(server.get("/key/lock?meta").await.body.ends_with("\"ttl_ms\":30000}"));

    let other =
        txn(&server, r#"{"if":[{"key":"lock","exists":false}],"then":[{"delete":"b"}],"else":[{"get":"lock"}]}"#);
    other.await.is_ok(r#"{"ok":true,"succeeded":false,"index":13,"results":[{"lock":"me"}]}"#);
    let nothing = txn(&server, r#"{"if":[{"key":"lock","exists":false}],"then":[{"delete":"b"}]}"#).await;
    nothing.is_ok(r#"{"ok":true,"succeeded":false,"index":14,"results":[]}"#);
    txn(&server, r#"{"then":[]}"#).await.is_ok(r#"{"ok":true,"succeeded":true,"index":15,"results":[]}"#);
    let two = r#"{"then":[{"set":{"key":1,"value":2},"literal":true},{"set":{"key":3,"value":2,"k":1}}]}"#;
    txn(&server, two).await.is_ok(r#"{"ok":true,"succeeded":true,"index":16,"results":[{"set":2},{"set":3}]}"#);
}

#[tokio::test]
async fn values_compare_by_structure_and_numbers_by_text() {
    let server = Server::start().await;
    server.ask("POST", "/key", r#"{"n":1,"o":{"a":[1, 2],"b":"é"},"z":null}"#).await;
    server.ask_with("PUT", "/key/bytes", &[], b"\xff").await;
    for (test, holds) in [
        (r#"{"key":"n","value":1}"#, true),
        (r#"{"key":"n","value": 1 }"#, true),
        (r#"{"key":"n","value":1.0}"#, false),
        (r#"{"key":"n","value":"1"}"#, false),
        (r#"{"key":"o","value":{"b":"\u00e9","a":[1,2]}}"#, true),
        (r#"{"key":"o","value":{"b":"é","a":[2,1]}}"#, false),
        (r#"{"key":"z","value":null}"#, true),
        (r#"{"key":"nobody","value":null}"#, false),
        (r#"{"key":"nobody","version":0,"modify_index":0,"create_index":0,"exists":false}"#, true),
        (r#"{"key":"n","version":1,"exists":false}"#, false),
        (r#"{"key":"bytes","value":{"base64":"/w=="}}"#, true),
    ] {
        let answer = txn(&server, &format!(r#"{{"if":[{test}],"then":[]}}"#)).await;
        assert!(answer.body.contains(&format!("\"succeeded\":{holds}")), "{test}: {answer:?}");
    }
}

#[tokio::test]
async fn malformed_parts_are_named() {
    let server = roomy().await;
    let ops = |op: &str| format!(r#"{{"then":[{{"delete":"a"}},{op}]}}"#);
    let tests = |test: &str| format!(r#"{{"if":[{test}],"then":[{{"delete":"a"}}]}}"#);
    let long = "k".repeat(4097);
    let deep = |levels: usize| format!(r#"{{"set":{{"k":{}{}}}}}"#, "[".repeat(levels), "]".repeat(levels));
    let cases = [
        (String::new(), "ends too early"),
        ("[]".to_owned(), "it is an array"),
        ("{}".to_owned(), "no \\\"then\\\""),
        (r#"{"if":[]}"#.to_owned(), "no \\\"then\\\""),
        (r#"{"then":[]} x"#.to_owned(), "follows after its end"),
        (r#"{"then":[],"then":[]}"#.to_owned(), "\\\"then\\\" is repeated"),
        (r#"{"then":[],"esle":[]}"#.to_owned(), "esle"),
        (r#"{"then":{}}"#.to_owned(), "then: it must be an array"),
        (r#"{"then":null}"#.to_owned(), "then: it must be an array"),
        (r#"{"then":[],"else":1}"#.to_owned(), "else: it must be an array"),
        (r#"{"then":[],"if":"x"}"#.to_owned(), "if: it must be an array"),
        (r#"{"then":[],"else":[{"get":1}]}"#.to_owned(), "else[0].get: it must be a string"),
        (ops("1"), "then[1]: it must be an object"),
        (ops("[]"), "then[1]: it must be an object"),
        (ops("{}"), "then[1]: an operation is one of"),
        (ops(r#"{"ttl":"30s"}"#), "then[1]: an operation is one of"),
        (ops(r#"{"get":"a","delete":"b"}"#), "then[1]: get and delete are two"),
        (ops(r#"{"get":"a","get":"b"}"#), "then[1]: \\\"get\\\" is repeated"),
        (ops(r#"{"gett":"a"}"#), "then[1]: there is no member \\\"gett\\\""),
        (ops(r#"{"get":"a","ttl":"30s"}"#), "then[1].ttl: get takes no ttl"),
        (ops(r#"{"get":""}"#), "then[1].get: the key is empty"),
        (ops(r#"{"delete":["a"]}"#), "then[1].delete: it must be a string"),
        (ops(&format!(r#"{{"delete":"{long}"}}"#)), "then[1].delete: the key"),
        (ops(r#"{"delete":"\ud800"}"#), "then[1].delete: it must be a string"),
        (ops(r#"{"delete_prefix":""}"#), "then[1].delete_prefix: an empty prefix"),
        (ops(&format!(r#"{{"delete_prefix":"{long}"}}"#)), "then[1].delete_prefix: the prefix"),
        (ops(r#"{"set":"a"}"#), "then[1].set: it must be an object"),
        (ops(r#"{"set":{}}"#), "then[1].set: the object is empty"),
        (ops(r#"{"set":{"a":1,"\u0061":2}}"#), "then[1].set: \\\"a\\\" is repeated"),
        (ops(r#"{"set":{"key":"a","value":1}}"#), "then[1].set: it would store two keys"),
        (ops(r#"{"set":{"value":1,"key":"a"},"ttl":"30s"}"#), "then[1].set: it would store two keys"),
        (ops(r#"{"set":{"key":"a","value":1},"literal":false}"#), "then[1].set: it would store two keys"),
        (ops(r#"{"set":{"a":1},"literal":1}"#), "then[1].literal: it must be true or false"),
        (ops(r#"{"get":"a","literal":true}"#), "then[1].literal: get takes no literal"),
        (ops(r#"{"set":{"":1}}"#), "then[1].set: the key is empty"),
        (ops(r#"{"set":{"\ud800":1}}"#), "then[1].set: it must be an object"),
        (ops(r#"{"set":{"a":1},"ttl":30}"#), "then[1].ttl: it must be a string"),
        (ops(r#"{"set":{"a":1},"ttl":"30"}"#), "then[1].ttl: \\\"30\\\": the unit"),
        (ops(r#"{"set":{"a":1},"ttl":"999ms"}"#), "then[1].ttl: \\\"999ms\\\" is not between"),
        (ops(r#"{"set":{"a":1},"ttl":"87601h"}"#), "then[1].ttl: \\\"87601h\\\" is not between"),
        (ops(r#"{"incr":{"a":1.0}}"#), "then[1].incr: it must be a whole number"),
        (ops(r#"{"incr":{"a":"1"}}"#), "then[1].incr: it must be a whole number"),
        (ops(r#"{"incr":{"a":1e2}}"#), "then[1].incr: it must be a whole number"),
        (ops(r#"{"incr":{"a":9223372036854775808}}"#), "then[1].incr: it must be a whole number"),
        (ops(r#"{"incr":{}}"#), "then[1].incr: the object is empty"),
        (ops(r#"{"incr":{"a":1,"a":1}}"#), "then[1].incr: \\\"a\\\" is repeated"),
        (ops(r#"{"incr":"a"}"#), "then[1].incr: it must be an object"),
        (ops(&deep(128)), "deeper than 131 levels"),
        (tests("{}"), "if[0]: a condition needs"),
        (tests(r#"{"key":"a"}"#), "if[0]: a condition says what must hold"),
        (tests(r#"{"exists":true}"#), "if[0]: a condition needs"),
        (tests(r#"{"key":1,"exists":true}"#), "if[0].key: it must be a string"),
        (tests(r#"{"key":"","exists":true}"#), "if[0].key: the key is empty"),
        (tests(r#"{"key":"a","exists":1}"#), "if[0].exists: it must be true or false"),
        (tests(r#"{"key":"a","version":1.0}"#), "if[0].version: it must be a whole number"),
        (tests(r#"{"key":"a","version":-1}"#), "if[0].version: it must be a whole number"),
        (tests(r#"{"key":"a","modify_index":"17"}"#), "if[0].modify_index: it must be a whole number"),
        (tests(r#"{"key":"a","create_index":null}"#), "if[0].create_index: it must be a whole number"),
        (tests(r#"{"key":"a","exists":true,"exists":true}"#), "if[0]: \\\"exists\\\" is repeated"),
        (tests(r#"{"key":"a","exist":true}"#), "if[0]: there is no member \\\"exist\\\""),
        (tests("{\"key\":\"a\",\"value\":1},7"), "if[1]: it must be an object"),
    ];
    for (body, part) in cases {
        txn(&server, &body).await.is_error(400, "bad_request", part);
    }
    for body in
        [ops(r#"{"set":"X"}"#), tests(r#"{"key":"a","exists":"X"}"#), tests("\"X\""), r#"{"then":"X"}"#.to_owned()]
    {
        let answer = txn(&server, &body.replace('X', &"x".repeat(1 << 18))).await;
        answer.is_error(400, "bad_request", "it must be");
        assert!(answer.body.len() < 600, "what is refused is not sent back whole: {}", answer.body.len());
    }
    let big = format!(r#"{{"set":{{"a":1,"k":"{}"}}}}"#, "v".repeat(1000));
    txn(&server, &ops(&big)).await.is_error(413, "too_large", "then[1].set: the value of \\\"k\\\"");
    let big = format!(r#"{{"key":"k","value":"{}"}}"#, "v".repeat(1000));
    txn(&server, &tests(&big)).await.is_error(413, "too_large", "if[0].value: the value of \\\"k\\\"");
    txn(&server, &"x".repeat((1 << 20) + 1)).await.is_error(413, "too_large", "--max-request");
    txn(&server, "{\"then\":[\u{1}]}").await.is_error(400, "bad_request", "line 1");
    server.ask("POST", "/hraftd/txn?force", "{}").await.is_error(400, "bad_request", "force");
    let conditional = server.ask_with("POST", "/hraftd/txn", &["If-Match: *"], br#"{"then":[]}"#).await;
    conditional.is_error(400, "bad_request", "\\\"if\\\"");
    for method in ["GET", "PUT", "DELETE"] {
        let answer = server.ask(method, "/hraftd/txn", "").await;
        answer.is_error(405, "method_not_allowed", method);
        assert_eq!(answer.header("allow"), Some("post"));
    }
    assert!(server.fake.calls().is_empty() && server.fake.keys().is_empty(), "nothing was done");
    assert_eq!(txn(&server, &ops(&deep(127))).await.status, 200, "as deep as in a POST of keys");
}

#[tokio::test]
async fn at_most_1024_items_in_each_list() {
    let server = roomy().await;
    let list = |item: &str, count: usize| vec![item; count].join(",");
    let full = format!(
        r#"{{"if":[{}],"then":[{}],"else":[{}]}}"#,
        list(r#"{"key":"a","exists":false,"version":0}"#, 1024),
        list(r#"{"incr":{"n":1}}"#, 1024),
        list(r#"{"get":"n"}"#, 1024)
    );
    let answer = txn(&server, &full).await;
    assert!(answer.status == 200 && answer.body.ends_with(r#"{"n":1024}]}"#), "{answer:?}");
    for (name, item) in [("then", r#"{"get":"n"}"#), ("else", "1"), ("if", r#"{"key":"a","exists":true}"#)] {
        let then = if name == "then" { "" } else { r#","then":[]"# };
        let body = format!(r#"{{"{name}":[{}]{then}}}"#, list(item, 1025));
        txn(&server, &body).await.is_error(400, "bad_request", &format!("{name}: it must be an array of at most 1024"));
    }
}

/// Found by an attack: a thousand operations that each touch a thousand keys held up all writes for seconds.
#[tokio::test]
async fn at_most_1024_keys_are_touched() {
    let server = roomy().await;
    let touch = |keys: usize| format!(r#"{{"touch":[{}],"ttl":"30s"}}"#, vec![r#""a""#; keys].join(","));
    let body = |last: usize| format!(r#"{{"then":[{},{}],"else":[{}]}}"#, touch(1023), touch(last), touch(1024));
    assert_eq!(txn(&server, &body(1)).await.status, 200);
    let refused = "then: all its touch operations together name more than 1024 keys; nothing was done";
    txn(&server, &body(2)).await.is_error(400, "bad_request", refused);
}

#[tokio::test]
async fn what_fails_when_it_is_run_changes_nothing() {
    let server = Server::start().await;
    server.ask("POST", "/key", r#"{"text":"5","word":"x","most":9223372036854775807}"#).await;
    for (key, part) in [("text", "store a number"), ("word", "not an integer"), ("most", "64 bits")] {
        let body = format!(r#"{{"then":[{{"set":{{"a":1}}}},{{"delete":"word"}},{{"incr":{{"b":1,"{key}":1}}}}]}}"#);
        let answer = txn(&server, &body.replace("{\"delete\":\"word\"},", "")).await;
        answer.is_error(409, "not_a_number", "then[1].incr: ");
        assert!(answer.body.contains(part) && answer.body.contains("nothing was changed"), "{answer:?}");
    }
    let body = r#"{"if":[{"key":"a","exists":true}],"then":[],"else":[{"incr":{"word":1}}]}"#;
    txn(&server, body).await.is_error(409, "not_a_number", "else[0].incr: ");
    server.get("/key?prefix=&keys").await.is_ok(r#"["most","text","word"]"#);
}

#[tokio::test]
async fn a_repetition_is_answered_the_same_but_for_what_was_read() {
    let server = Server::start().await;
    let ask = async |body: &str| server.ask_with("POST", "/hraftd/txn", &["Idempotency-Key: t"], body.as_bytes()).await;
    let body = r#"{"then":[{"incr":{"n":1}},{"get":"n"},{"set":{"k":1}},{"delete":"x"}]}"#;
    let first = ask(body).await;
    first.is_ok(r#"{"ok":true,"succeeded":true,"index":11,"results":[{"n":1},{"n":1},{"set":1},{"deleted":0}]}"#);
    let again = ask(body).await;
    again.is_ok(r#"{"ok":true,"succeeded":true,"index":11,"results":[{"n":1},null,{"set":1},{"deleted":0}]}"#);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    ask(r#"{"then":[]}"#).await.is_error(422, "idempotency_mismatch", "another request");
    server.fake.order(fake::Orders { hang: true, ..fake::Orders::default() });
    let slow = server.ask("POST", "/hraftd/txn?timeout=300ms", r#"{"then":[]}"#).await;
    slow.is_error(504, "timeout", "outcome of this write is unknown");
}

#[tokio::test]
async fn long_results_are_sent_in_chunks() {
    let server = roomy().await;
    let value = format!("\"{}\"", "v".repeat(900));
    txn(&server, &format!(r#"{{"then":[{{"set":{{"k":{value}}}}}]}}"#)).await;
    let gets = vec![r#"{"get":"k"}"#; 1000].join(",");
    let body = format!(r#"{{"then":[{gets}]}}"#);
    let request = format!("POST /hraftd/txn HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let answer = server.raw(&request).await;
    let results = vec![format!("{{\"k\":{value}}}"); 1000].join(",");
    assert!(answer.body == format!(r#"{{"ok":true,"succeeded":true,"index":12,"results":[{results}]}}"#));
    assert_eq!(answer.header("content-length"), None);
}
