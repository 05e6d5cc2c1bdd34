//! Validates commands: those that a peer forwards for its client, and those in entries.

use std::sync::Arc;
use std::time::Duration;

use super::{Checked, check};
use crate::command::{
    Action, Command, Condition, Grants, Key, Leased, MAX_GRANTS, MAX_KEY_BYTES, MAX_RENEWED_TTL,
    MAX_TESTS_OF_CONDITION, MAX_TOKEN_NAME_BYTES, MAX_TTL, MAX_TXN_ITEMS, MAX_WAIT, Op, Principal, Stamped, Test,
    TestOf, Value,
};
use crate::node::NodeError;
use crate::node::rpc::{ForwardError, PeerReply};

/// The most bytes of a Content-Type that is kept.
const MAX_CONTENT_TYPE_BYTES: usize = 255;

/// The most bytes of an `Idempotency-Key`.
const MAX_IDEMPOTENCY_KEY_BYTES: usize = 128;

/// Levels that a JSON value may nest.
pub(super) const MAX_JSON_DEPTH: usize = 128;

/// The limits of this node's clients, which forwarded commands must keep too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandLimits {
    /// Largest value, in bytes.
    pub max_value_bytes: usize,
    /// Largest request, in bytes.
    pub max_request_bytes: usize,
}

/// Tells the commands that may be proposed from those that break a limit.
///
/// The second list has a place for each command: `None` for those in the first, the reason for the others.
pub(in crate::network) fn commands(
    commands: Vec<Arc<Command>>,
    limits: CommandLimits,
) -> (Vec<Arc<Command>>, Vec<Option<String>>) {
    let reasons: Vec<_> = commands.iter().map(|command| forwarded(command, limits).err()).collect();
    let good = commands.into_iter().zip(&reasons).filter(|(_, why)| why.is_none()).map(|(command, _)| command);
    (good.collect(), reasons)
}

/// Puts the outcomes of the commands that were proposed and the reasons of the others back in order.
pub(in crate::network) fn merge(reply: PeerReply, reasons: Vec<Option<String>>) -> PeerReply {
    let PeerReply::Forward(outcomes) = reply else { return reply };
    let mut outcomes = outcomes.into_iter();
    let missing = || Err(ForwardError::Failed(NodeError::Internal("no outcome of a command".to_owned())));
    let in_order = reasons.into_iter().map(|why| match why {
        Some(why) => Err(ForwardError::Failed(NodeError::BadRequest(why))),
        None => outcomes.next().unwrap_or_else(missing),
    });
    PeerReply::Forward(in_order.collect())
}

/// Checks the names in a command of an entry: those that could not be stored.
pub(super) fn names(command: &Command) -> Checked {
    match command {
        Command::Set(pairs) => pairs.iter().try_for_each(|(key, _)| check_key(key)),
        Command::Delete(key) => check_key(key),
        Command::Stamped(stamped) => keys(&stamped.action, &mut check_key),
        Command::By(by, stamped) => {
            client(by)?;
            keys(&stamped.action, &mut check_key)
        }
    }
}

/// Shows each key and lock name of an action to `visit`, up to its first error. Prefixes are no keys.
fn keys(action: &Action, visit: &mut impl FnMut(&Key) -> Checked) -> Checked {
    match action {
        Action::Set { pairs, .. } => pairs.iter().try_for_each(|(key, _)| visit(key)),
        Action::Put { key, value, .. } | Action::Leased { write: Leased::Put { key, value, .. }, .. } => {
            content_type(value)?;
            visit(key)
        }
        Action::Leased { write: Leased::Set { pairs, .. }, .. } => pairs.iter().try_for_each(|(key, _)| visit(key)),
        Action::Leased { write: Leased::Incr { key, .. } | Leased::Acquire { name: key, .. }, .. } => visit(key),
        Action::Delete { key, .. }
        | Action::Incr { key, .. }
        | Action::Touch { key, .. }
        | Action::Acquire { name: key, .. }
        | Action::Renew { name: key, .. }
        | Action::Release { name: key, .. }
        | Action::Cancel { name: key, .. } => visit(key),
        Action::Txn(txn) => {
            txn.tests.iter().filter(|test| !is_of_lease(test)).try_for_each(|test| visit(&test.key))?;
            txn.then.iter().chain(&txn.otherwise).try_for_each(|op| match op {
                Op::Set { pairs, .. } | Op::SetLeased { pairs, .. } => pairs.iter().try_for_each(|(key, _)| visit(key)),
                Op::Incr { pairs, .. } | Op::IncrLeased { pairs, .. } => {
                    pairs.iter().try_for_each(|(key, _)| visit(key))
                }
                Op::Touch { keys, .. } => keys.iter().try_for_each(&mut *visit),
                Op::Delete(key) | Op::Get(key) => visit(key),
                Op::DeletePrefix(_) => Ok(()),
            })
        }
        Action::PutToken { name, grants, .. } => {
            token_name(name)?;
            check_grants(grants)
        }
        Action::RotateToken { name, .. } | Action::DeleteToken { name } => token_name(name),
        Action::Authentication { anonymous, .. } => anonymous.as_ref().map_or(Ok(()), check_grants),
        Action::DeletePrefix { .. }
        | Action::Tick { .. }
        | Action::Mark
        | Action::Raise { .. }
        | Action::Quota { .. }
        | Action::Grant { .. }
        | Action::KeepAlive { .. }
        | Action::Revoke { .. } => Ok(()),
    }
}

/// Its key is empty.
fn is_of_lease(test: &Test) -> bool {
    matches!(test.of, TestOf::Alive(_)) && test.key.is_empty()
}

pub(super) fn check_key(key: &Key) -> Checked {
    check(!key.is_empty() && key.len() <= MAX_KEY_BYTES, || format!("a key of {} bytes", key.len()))
}

fn content_type(value: &Value) -> Checked {
    let fits =
        |text: &str| text.len() <= MAX_CONTENT_TYPE_BYTES && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    check(value.content_type.as_deref().is_none_or(fits), || "a Content-Type that no header can have".to_owned())
}

/// Checks a command that another node's client sent, as this node's own clients' are.
fn forwarded(command: &Command, limits: CommandLimits) -> Checked {
    let Some(Stamped { retry, action, .. }) = command.stamped() else {
        return Err("a command of the first format, which is not written any more".to_owned());
    };
    command.by().map_or(Ok(()), client)?;
    if let Some(retry) = retry {
        check((1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&retry.key.len()), || {
            format!("an Idempotency-Key of {} bytes", retry.key.len())
        })?;
        ttl(Some(retry.window_ms))?;
    }
    keys(action, &mut check_key)?;
    let json = |value: &[u8]| json_value(value, limits);
    match action {
        Action::Set { pairs, ttl_ms, conditions } => {
            ttl(*ttl_ms)?;
            check_conditions(conditions)?;
            pairs.iter().try_for_each(|(_, value)| json(value))
        }
        Action::Put { value, ttl_ms, conditions, .. } => {
            ttl(*ttl_ms)?;
            check_conditions(conditions)?;
            if value.is_bytes { value_bytes(&value.data, limits) } else { json(&value.data) }
        }
        Action::Delete { conditions, .. } => check_conditions(conditions),
        Action::Incr { ttl_ms, conditions, .. } => {
            ttl(*ttl_ms)?;
            check_conditions(conditions)
        }
        Action::Touch { ttl_ms, conditions, .. } => {
            ttl(Some(*ttl_ms))?;
            check_conditions(conditions)
        }
        Action::DeletePrefix { prefix } => prefix_bytes(prefix),
        Action::Txn(txn) => {
            let conditions = txn.tests.len().div_ceil(MAX_TESTS_OF_CONDITION);
            let items = conditions.max(txn.then.len()).max(txn.otherwise.len());
            check(items <= MAX_TXN_ITEMS, || format!("a transaction of {items} items"))?;
            for test in &txn.tests {
                match &test.of {
                    TestOf::Value(value) => json(value)?,
                    TestOf::Number(_, than) => {
                        json(than)?;
                        let is_number = matches!(than.trim_ascii_start().first(), Some(b'-' | b'0'..=b'9'));
                        check(is_number, || "a comparison with what is no number".to_owned())?;
                    }
                    _ => {}
                }
            }
            txn.then.iter().chain(&txn.otherwise).try_for_each(|op| match op {
                Op::Set { pairs, ttl_ms } => {
                    ttl(*ttl_ms)?;
                    pairs.iter().try_for_each(|(_, value)| json(value))
                }
                Op::SetLeased { pairs, .. } => pairs.iter().try_for_each(|(_, value)| json(value)),
                Op::Incr { ttl_ms, .. } => ttl(*ttl_ms),
                Op::IncrLeased { .. } => Ok(()),
                Op::Touch { ttl_ms, keys } => {
                    check(keys.len() <= MAX_TXN_ITEMS, || format!("a touch of {} keys", keys.len()))?;
                    ttl(Some(*ttl_ms))
                }
                Op::DeletePrefix(prefix) => prefix_bytes(prefix),
                Op::Delete(_) | Op::Get(_) => Ok(()),
            })
        }
        Action::Acquire { ttl_ms, body, wait_ms, .. } => {
            renewed_ttl(Some(*ttl_ms))?;
            wait(*wait_ms)?;
            body.as_deref().map_or(Ok(()), json)
        }
        Action::Renew { ttl_ms, .. } => renewed_ttl(*ttl_ms),
        Action::PutToken { ttl_ms, .. } => ttl(*ttl_ms),
        Action::RotateToken { grace_ms, .. } => ttl(Some(*grace_ms)),
        Action::Authentication { .. } | Action::DeleteToken { .. } => Ok(()),
        Action::Release { .. } | Action::Cancel { .. } | Action::Revoke { .. } => Ok(()),
        Action::Grant { ttl_ms, body } => {
            renewed_ttl(Some(*ttl_ms))?;
            body.as_deref().map_or(Ok(()), json)
        }
        Action::KeepAlive { ttl_ms, .. } => renewed_ttl(*ttl_ms),
        Action::Leased { write, .. } => match write {
            Leased::Set { pairs, conditions } => {
                check_conditions(conditions)?;
                pairs.iter().try_for_each(|(_, value)| json(value))
            }
            Leased::Put { value, conditions, .. } => {
                check_conditions(conditions)?;
                if value.is_bytes { value_bytes(&value.data, limits) } else { json(&value.data) }
            }
            Leased::Incr { conditions, .. } => check_conditions(conditions),
            Leased::Acquire { body, wait_ms, .. } => {
                wait(*wait_ms)?;
                body.as_deref().map_or(Ok(()), json)
            }
        },
        Action::Tick { .. } | Action::Mark | Action::Raise { .. } | Action::Quota { .. } => {
            Err(format!("a {action}, which only a leader proposes"))
        }
    }
}

/// The name of a token, as the API has it.
fn token_name(name: &str) -> Checked {
    let fits = (1..=MAX_TOKEN_NAME_BYTES).contains(&name.len());
    check(fits, || format!("a token's name of {} bytes", name.len()))
}

fn check_grants(grants: &Grants) -> Checked {
    let count = grants.0.len();
    check(count <= MAX_GRANTS, || format!("{count} grants of one token"))?;
    check(grants.bytes() <= MAX_GRANTS * MAX_KEY_BYTES, || "grants for names that are too long".to_owned())
}

/// Nodes vouch for what their clients showed them.
pub(super) fn client(by: &Principal) -> Checked {
    match by {
        Principal::Token(holder) => token_name(&holder.name),
        Principal::Node | Principal::Root | Principal::Anonymous { .. } => Ok(()),
    }
}

fn renewed_ttl(ttl_ms: Option<u64>) -> Checked {
    let fits = ttl_ms.is_none_or(|ms| Duration::from_millis(ms) <= MAX_RENEWED_TTL);
    check(fits, || "a lock or a lease for more than a day".to_owned())
}

fn wait(ms: u64) -> Checked {
    check(Duration::from_millis(ms) <= MAX_WAIT, || format!("a wait of {ms} ms"))
}

fn ttl(ttl_ms: Option<u64>) -> Checked {
    check(ttl_ms.is_none_or(|ms| Duration::from_millis(ms) <= MAX_TTL), || {
        "a time to live of more than ten years".to_owned()
    })
}

fn prefix_bytes(prefix: &str) -> Checked {
    check(prefix.len() <= MAX_KEY_BYTES, || format!("a prefix of {} bytes", prefix.len()))
}

fn check_conditions(conditions: &[Condition]) -> Checked {
    let items = |condition: &Condition| match condition {
        Condition::Exists | Condition::Missing => 1,
        Condition::ModifiedBy(indexes) | Condition::NotModifiedBy(indexes) => indexes.len(),
    };
    let count: usize = conditions.iter().map(items).sum();
    // They come in headers.
    check(count <= 1 << 16, || format!("{count} conditions"))
}

fn value_bytes(value: &[u8], limits: CommandLimits) -> Checked {
    check(value.len() <= limits.max_value_bytes, || {
        format!("a value of {} bytes, more than {} (--max-value of the leader)", value.len(), limits.max_value_bytes)
    })
}

fn json_value(value: &[u8], limits: CommandLimits) -> Checked {
    value_bytes(value, limits)?;
    check(depth(value) <= MAX_JSON_DEPTH, || format!("a value that nests deeper than {MAX_JSON_DEPTH} levels"))?;
    let json = std::str::from_utf8(value).map_err(|_| "a value that is not UTF-8")?;
    serde_json::from_str::<serde::de::IgnoredAny>(json)
        .map_err(|error| format!("a value that is not JSON: {error}"))?;
    Ok(())
}

/// Levels that brackets outside of strings nest, without recursion.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
