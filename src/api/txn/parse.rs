//! Parses the body of a transaction strictly: what is unknown, repeated or of another type is
//! refused, with its place.
//!
//! By hand and not by serde, for two reasons: messages name the place (`then[3].set`), and values
//! are slices of the body. As in [`json_body`], nesting is counted before anything is parsed, and
//! lists end at their limit, so that a hostile body costs little more than its own size.

use std::fmt::{self, Display};

use bytes::Bytes;
use compact_str::CompactString;
use serde::Deserializer;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::api::request::json_body::Member;
use crate::api::request::{json_body, json_error, key_path, ttl};
use crate::api::response::error::ApiError;
use crate::api::response::text;
use crate::command::{Key, MAX_TESTS_OF_CONDITION, MAX_TXN_ITEMS, Op, Order, Test, TestOf, Txn};
use crate::duration::{as_ms, parse_duration};

/// A value may nest as deep as in a `POST /hraftd/key`; here it is three levels further in.
const MAX_DEPTH: usize = json_body::MAX_DEPTH + 3;

/// All that is taken can be compared.
const _: () = assert!(MAX_DEPTH <= crate::kv::MAX_JSON_DEPTH);

const OPERATIONS: &str = "set, incr, touch, delete, delete_prefix or get";

const REQUIREMENTS: [&str; MAX_TESTS_OF_CONDITION] =
    ["exists", "modify_index", "create_index", "version", "value", "lt", "le", "gt", "ge"];

/// Parses and checks the body.
pub fn parse(body: &Bytes, max_value_bytes: usize) -> Result<Txn, ApiError> {
    let bad = |why: String| {
        ApiError::BadRequest(format!(
            "the body must be a JSON object such as {{\"then\":[{{\"set\":{{\"k\":1}}}}]}}: {why}"
        ))
    };
    let json = json_body::text_of(body, MAX_DEPTH).map_err(bad)?;
    let members = json_body::members(json).map_err(|error| bad(json_error::why(&error)))?;
    let parser = Parser { body, max_value_bytes };
    parser.known(&members, "the body", &["if", "then", "else"])?;
    let then = get(&members, "then").ok_or_else(|| bad("it has no \"then\"".to_owned()))?;
    Ok(Txn {
        tests: parser.list(get(&members, "if"), "if", Parser::tests)?.into_iter().flatten().collect(),
        then: parser.branch(Some(then), "then")?,
        otherwise: parser.branch(get(&members, "else"), "else")?,
    })
}

fn get<'a>(members: &[Member<'a>], name: &str) -> Option<&'a RawValue> {
    members.iter().find(|(member, _)| member == name).map(|(_, value)| *value)
}

fn refuse<T>(place: impl Display, why: impl Display) -> Result<T, ApiError> {
    Err(ApiError::BadRequest(format!("{place}: {why}; nothing was done")))
}

/// Puts a place before what others found wrong.
fn at<T>(place: &str, result: Result<T, ApiError>) -> Result<T, ApiError> {
    result.map_err(|error| match error {
        ApiError::BadRequest(why) => ApiError::BadRequest(format!("{place}: {why}")),
        ApiError::TooLarge(why) => ApiError::TooLarge(format!("{place}: {why}")),
        other => other,
    })
}

struct Parser<'b> {
    body: &'b Bytes,
    max_value_bytes: usize,
}

impl Parser<'_> {
    fn list<T>(
        &self,
        json: Option<&RawValue>,
        name: &str,
        parse: impl Fn(&Self, &RawValue, &str) -> Result<T, ApiError>,
    ) -> Result<Vec<T>, ApiError> {
        let Some(json) = json else { return Ok(Vec::new()) };
        let items = typed(json, name, "an array of at most 1024 items", |json| {
            serde_json::Deserializer::from_str(json).deserialize_seq(Items)
        })?;
        items.iter().enumerate().map(|(number, item)| parse(self, item, &format!("{name}[{number}]"))).collect()
    }

    fn branch(&self, json: Option<&RawValue>, name: &str) -> Result<Vec<Op>, ApiError> {
        let ops = self.list(json, name, Parser::op)?;
        // With eight bytes for each, a body would have room for a million.
        let touched = |op: &Op| if let Op::Touch { keys, .. } = op { keys.len() } else { 0 };
        if ops.iter().map(touched).sum::<usize>() > MAX_TXN_ITEMS {
            return refuse(name, "all its touch operations together name more than 1024 keys");
        }
        Ok(ops)
    }

    /// The members of an object, none of them repeated.
    fn object<'a>(&self, json: &'a RawValue, place: &str) -> Result<Vec<Member<'a>>, ApiError> {
        let members = typed(json, place, "an object", json_body::members)?;
        match json_body::repeated(&members) {
            Some(name) => refuse(place, format_args!("{} is repeated", text::quoted(name))),
            None => Ok(members),
        }
    }

    fn known(&self, members: &[Member<'_>], place: &str, known: &[&str]) -> Result<(), ApiError> {
        if let Some(name) = json_body::repeated(members) {
            return refuse(place, format_args!("{} is repeated", text::quoted(name)));
        }
        match members.iter().find(|(name, _)| !known.contains(&&**name)) {
            Some((name, _)) => {
                let known = known.join(", ");
                refuse(place, format_args!("there is no member {}; it takes {known}", text::quoted(name)))
            }
            None => Ok(()),
        }
    }

    fn value(&self, key: &str, json: &RawValue, place: &str) -> Result<Bytes, ApiError> {
        at(place, json_body::check_value(key, json, self.max_value_bytes))?;
        Ok(self.body.slice_ref(json.get().as_bytes()))
    }

    /// A condition with several members is as many conditions.
    fn tests(&self, json: &RawValue, place: &str) -> Result<Vec<Test>, ApiError> {
        let members = self.object(json, place)?;
        if let Some(lock) = get(&members, "lock") {
            self.known(&members, place, &["lock", "token"])?;
            let Some(token) = get(&members, "token") else {
                return refuse(place, "a condition on a lock needs the \"token\" that it must be held with");
            };
            let token = number(token, &format!("{place}.token"), "a whole number from 0 on")?;
            return Ok(vec![Test { key: key_of(lock, &format!("{place}.lock"))?, of: TestOf::Holder(token) }]);
        }
        if let Some(lease) = get(&members, "lease") {
            self.known(&members, place, &["lease"])?;
            let of = TestOf::Alive(lease_of(lease, &format!("{place}.lease"))?);
            return Ok(vec![Test { key: Key::default(), of }]);
        }
        let known: Vec<&str> = ["key"].into_iter().chain(REQUIREMENTS).chain(["lock", "lease"]).collect();
        self.known(&members, place, &known)?;
        let Some(key) = get(&members, "key") else {
            return refuse(place, "a condition needs \"key\", or \"lock\" and \"token\", or \"lease\"");
        };
        let key = key_of(key, &format!("{place}.key"))?;
        let mut tests = Vec::new();
        for (name, json) in members.iter().filter(|(name, _)| name != "key") {
            let place = format!("{place}.{name}");
            let number = || number(json, &place, "a whole number from 0 on");
            let order = |order| {
                if !matches!(json.get().as_bytes().first(), Some(b'-' | b'0'..=b'9')) {
                    return refuse(&place, format_args!("it must be a number, not {}", text::quoted(json.get())));
                }
                Ok(TestOf::Number(order, self.value(&key, json, &place)?))
            };
            let of = match &**name {
                "exists" => TestOf::Exists(typed(json, &place, "true or false", serde_json::from_str)?),
                "modify_index" => TestOf::ModifyIndex(number()?),
                "create_index" => TestOf::CreateIndex(number()?),
                "version" => TestOf::Version(number()?),
                "lt" => order(Order::Less)?,
                "le" => order(Order::LessOrEqual)?,
                "gt" => order(Order::Greater)?,
                "ge" => order(Order::GreaterOrEqual)?,
                _ => TestOf::Value(self.value(&key, json, &place)?),
            };
            tests.push(Test { key: key.clone(), of });
        }
        if tests.is_empty() {
            let all = REQUIREMENTS.join(", ");
            return refuse(place, format_args!("a condition says what must hold, one or more of {all}"));
        }
        Ok(tests)
    }

    fn op(&self, json: &RawValue, place: &str) -> Result<Op, ApiError> {
        let members = self.object(json, place)?;
        self.known(
            &members,
            place,
            &["set", "incr", "touch", "delete", "delete_prefix", "get", "ttl", "lease", "literal"],
        )?;
        let mut names = members.iter().filter(|(name, _)| !matches!(&**name, "ttl" | "lease" | "literal"));
        let (name, json) = match (names.next(), names.next()) {
            (Some((name, json)), None) => (&**name, *json),
            (Some((one, _)), Some((two, _))) => {
                return refuse(place, format_args!("{one} and {two} are two operations; make two of it"));
            }
            (None, _) => return refuse(place, format_args!("an operation is one of {OPERATIONS}")),
        };
        let ttl = get(&members, "ttl").map(|json| ttl_ms(json, &format!("{place}.ttl"))).transpose()?;
        if ttl.is_some() && !matches!(name, "set" | "incr" | "touch") {
            return refuse(format_args!("{place}.ttl"), format_args!("{name} takes no ttl; set, incr and touch do"));
        }
        let lease = get(&members, "lease").map(|json| lease_of(json, &format!("{place}.lease"))).transpose()?;
        if lease.is_some() && !matches!(name, "set" | "incr") {
            return refuse(format_args!("{place}.lease"), format_args!("{name} takes no lease; set and incr do"));
        }
        if ttl.is_some() && lease.is_some() {
            return at(place, Err(ttl::both()));
        }
        let literal = get(&members, "literal");
        if literal.is_some() && name != "set" {
            return refuse(format_args!("{place}.literal"), format_args!("{name} takes no literal; set does"));
        }
        let literal =
            literal.map(|json| typed(json, &format!("{place}.literal"), "true or false", serde_json::from_str));
        let place = format!("{place}.{name}");
        if name == "set" && !literal.transpose()?.unwrap_or(false) {
            self.not_a_pair(json, &place)?;
        }
        Ok(match name {
            "set" => {
                let pairs = self.pairs(json, &place, |key, json| self.value(key, json, &place))?;
                match lease {
                    Some(lease) => Op::SetLeased { pairs, lease },
                    None => Op::Set { pairs, ttl_ms: ttl },
                }
            }
            "incr" => {
                let by = |_: &str, json: &RawValue| number(json, &place, "a whole number of 64 bits to add");
                let pairs = self.pairs(json, &place, by)?;
                match lease {
                    Some(lease) => Op::IncrLeased { pairs, lease },
                    None => Op::Incr { pairs, ttl_ms: ttl },
                }
            }
            "touch" => {
                let Some(ttl_ms) = ttl else {
                    return refuse(place, "touch sets how long keys live: it needs \"ttl\"");
                };
                let keys = self.list(Some(json), &place, |_, json, place| key_of(json, place))?;
                if keys.is_empty() {
                    return refuse(place, "the array is empty");
                }
                Op::Touch { keys, ttl_ms }
            }
            "delete" => Op::Delete(key_of(json, &place)?),
            "get" => Op::Get(key_of(json, &place)?),
            _ => Op::DeletePrefix(prefix_of(json, &place)?),
        })
    }

    /// Refuses `{"key":…,"value":…}`: it looks like one key and its value, and is two keys.
    fn not_a_pair(&self, json: &RawValue, place: &str) -> Result<(), ApiError> {
        let members = self.object(json, place)?;
        if members.len() != 2 || get(&members, "key").is_none() || get(&members, "value").is_none() {
            return Ok(());
        }
        refuse(
            place,
            "it would store two keys, key and value; one key and its value are {\"set\":{\"name\":value}}, and two keys \
             of these names {\"set\":{\"key\":…,\"value\":…},\"literal\":true}",
        )
    }

    /// Keys, and what `parse` makes of each.
    fn pairs<T>(
        &self,
        json: &RawValue,
        place: &str,
        parse: impl Fn(&str, &RawValue) -> Result<T, ApiError>,
    ) -> Result<Vec<(Key, T)>, ApiError> {
        let members = self.object(json, place)?;
        if members.is_empty() {
            return refuse(place, "the object is empty");
        }
        let pair = |(key, json): &Member<'_>| {
            at(place, key_path::check(key))?;
            Ok((Key::from(&**key), parse(key, json)?))
        };
        members.iter().map(pair).collect()
    }
}

/// Parses a text; the error says what it should be.
fn typed<'a, T>(
    json: &'a RawValue,
    place: &str,
    wanted: &str,
    parse: impl FnOnce(&'a str) -> serde_json::Result<T>,
) -> Result<T, ApiError> {
    // The text is JSON; what is left to go wrong is its type, its size, and escapes that are no
    // characters.
    parse(json.get()).or_else(|error| {
        let why = json_error::why(&error);
        let why = why.split(" at line ").next().unwrap_or_default();
        refuse(place, format_args!("it must be {wanted}, not {}: {why}", text::quoted(json.get())))
    })
}

/// `1.0` is no whole number, and neither is `1e3`: numbers count by their text.
fn number<T: std::str::FromStr>(json: &RawValue, place: &str, wanted: &str) -> Result<T, ApiError> {
    let text = json.get();
    text.parse().or_else(|_| refuse(place, format_args!("it must be {wanted}, not {}", text::quoted(text))))
}

fn string(json: &RawValue, place: &str) -> Result<String, ApiError> {
    typed(json, place, "a string", serde_json::from_str)
}

fn key_of(json: &RawValue, place: &str) -> Result<Key, ApiError> {
    let key = string(json, place)?;
    at(place, key_path::check(&key))?;
    Ok(key.into())
}

fn prefix_of(json: &RawValue, place: &str) -> Result<CompactString, ApiError> {
    let prefix = string(json, place)?;
    if prefix.is_empty() {
        return refuse(place, "an empty prefix is all keys; only DELETE /hraftd/key?prefix=&all deletes them");
    }
    at(place, key_path::check_prefix(&prefix))?;
    Ok(prefix.into())
}

fn ttl_ms(json: &RawValue, place: &str) -> Result<u64, ApiError> {
    let given = string(json, place)?;
    let duration = match parse_duration(&given) {
        Ok(duration) => duration,
        Err(why) => return refuse(place, format_args!("{}: {why}", text::quoted(&given))),
    };
    if !ttl::is_allowed(duration) {
        return refuse(place, format_args!("{} is not between 1 s and 10 years", text::quoted(&given)));
    }
    Ok(as_ms(duration))
}

fn lease_of(json: &RawValue, place: &str) -> Result<u64, ApiError> {
    number(json, place, "the id of a lease, a whole number")
}

/// The items of an array, as text, up to the limit.
struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() == MAX_TXN_ITEMS {
                return Err(A::Error::custom(format_args!(
                    "it has more than {MAX_TXN_ITEMS} items, the limit of one list"
                )));
            }
            items.push(item);
        }
        Ok(items)
    }
}
