use super::*;
use crate::api::methods;

fn spec() -> serde_json::Value {
    serde_json::from_slice(&document()).unwrap()
}

/// What `GET /` lists is described, and nothing else.
#[test]
fn every_route_is_described() {
    let spec = spec();
    let mut described: Vec<String> = Vec::new();
    for (path, item) in spec["paths"].as_object().unwrap() {
        // Whatever takes GET takes HEAD.
        for method in item.as_object().unwrap().keys().filter(|method| *method != "head") {
            described.push(format!("{} {path}", method.to_ascii_uppercase()));
        }
    }
    let mut listed: Vec<String> = methods::list().into_iter().map(str::to_owned).collect();
    described.sort();
    listed.sort();
    assert_eq!(described, listed);
}

#[test]
fn every_operation_says_what_can_come() {
    let spec = spec();
    assert!(spec["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(spec["info"]["version"], env!("CARGO_PKG_VERSION"));
    for (path, item) in spec["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("200") || responses.contains_key("201"), "{method} {path}");
            for (status, response) in responses {
                let place = format!("{method} {path} {status}");
                assert!(!response["description"].as_str().unwrap().is_empty(), "{place}");
                let is_error = status.as_str() >= "400";
                let schema = &response["content"]["application/json"]["schema"]["$ref"];
                assert_eq!(is_error && method != "head", schema == "#/components/schemas/Problem", "{place}");
            }
        }
    }
}
