//! The tokens of a state, as an operator has to know them: names and grants, nothing of a secret.

use super::count;
use super::inspect::line;
use crate::kv::KvStore;

/// So many are shown.
const SHOWN: usize = 100;

/// Whether clients need tokens, and which there are; nothing where that was never asked.
pub(super) fn tokens(text: &mut String, kv: &KvStore) {
    let auth = kv.auth();
    let Some(record) = auth.record() else { return };
    let granted = match record.anonymous.texts() {
        none if none.is_empty() => String::new(),
        some => format!("; without a token: {}", some.join(" ")),
    };
    let word = if record.on { "on" } else { "off" };
    line(text, "tokens", format_args!("authentication is {word}, by {}{granted}", record.by));
    let now_ms = kv.log_time_ms();
    for (_, token) in auth.by_name().take(SHOWN) {
        let over = if token.expires_ms.is_some_and(|ends_ms| ends_ms <= now_ms) { ", expired" } else { "" };
        let before =
            if token.before.is_some_and(|(_, ends_ms)| ends_ms > now_ms) { ", and the one before" } else { "" };
        let grants = token.grants.texts().join(" ");
        let secret = format!("secret {}{before}", token.generation);
        line(text, "", format_args!("{}  {grants}  ({secret}, by {}{over})", token.name, token.by));
    }
    let more = auth.by_name().count().saturating_sub(SHOWN);
    if more > 0 {
        line(text, "", format_args!("and {}", count(more as u64, "more", "more")));
    }
}
