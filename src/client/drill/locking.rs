//! Two clients of a drill that want one lock.

use std::time::Duration;

use hyper::Method;
use tokio::time::sleep;

use super::Drill;
use super::history::Tenure;
use crate::client::link::{Request, encoded, query};
use crate::exit::{EX_NOPERM, Exit};

/// So many clients.
pub(super) const CLIENTS: usize = 2;

/// A lock whose holder is not heard of ends after this time.
const TTL: Duration = Duration::from_secs(5);

/// It is held so long.
const HELD: Duration = Duration::from_millis(150);

/// A request waits so long for the lock.
const WAIT: Duration = Duration::from_secs(2);

const WITHIN: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(50);

/// Takes the lock and gives it back, until the drill ends.
///
/// # Errors
/// It is not permitted: 77.
pub(super) async fn contend(drill: &Drill<'_>, client: usize) -> Result<(), Exit> {
    let path = format!("/hraftd/lock/{}", encoded(&format!("{}lock", drill.prefix)));
    let in_ms = |time: Duration| Some(format!("{}ms", time.as_millis()));
    while !drill.is_over() {
        let acquire = query(&path, &[("ttl", in_ms(TTL)), ("wait", in_ms(WAIT))]);
        let acquire = Request::write(Method::POST, acquire, "").attempt(WITHIN).within(WITHIN);
        let asked = drill.now();
        let answer = match drill.cluster.send(&acquire).await {
            Ok(answer) => answer,
            Err(exit) if exit.code == EX_NOPERM => return Err(exit),
            Err(_) => {
                sleep(PAUSE).await;
                continue;
            }
        };
        let from = drill.now();
        let said = answer.json().unwrap_or_default();
        let (true, Some(token), Some(left)) =
            (answer.status.is_success(), said["token"].as_u64(), said["ttl_ms"].as_u64())
        else {
            sleep(PAUSE).await;
            continue;
        };
        // What is left counts from when the answer was made: that is after the request that it answers was sent.
        let waited = crate::client::link::now().saturating_sub(answer.sent);
        let left = Duration::from_millis(left).saturating_sub(waited);
        sleep(HELD.min(left)).await;
        let released = drill.now();
        let end = from + u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
        drill.history.borrow_mut().tenures.push(Tenure { client, token, asked, from, until: released.min(end) });
        let release = query(&path, &[("token", Some(token.to_string()))]);
        let release = Request::write(Method::DELETE, release, "").attempt(WITHIN).within(WITHIN);
        // One that fails ends by its time.
        let released = drill.cluster.send(&release).await;
        sleep(PAUSE).await;
        // What was given back cannot be renewed, whoever has it now.
        if released.is_ok_and(|answer| answer.status.is_success()) {
            let renew = query(&path, &[("token", Some(token.to_string()))]);
            let renew = Request::write(Method::PUT, renew, "").attempt(WITHIN).within(WITHIN);
            let asked = drill.now();
            if drill.cluster.send(&renew).await.is_ok_and(|answer| answer.status.is_success()) {
                let from = drill.now();
                drill.history.borrow_mut().tenures.push(Tenure { client, token, asked, from, until: from });
            }
        }
    }
    Ok(())
}
