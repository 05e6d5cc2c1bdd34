//! `hraftd` as a client: asks a cluster over the public API, and shows the answers to people.
//!
//! * `ask`: which endpoint answers, and what that means for the exit code.
//! * `show`: answers as tables.
//!
//! Exit codes: 0; 1 refused, not found, or something to mend; 64 a bad command line; 69 no node reachable; 75 try again;
//! 77 not permitted.

mod ask;
mod show;

use serde_json::Value;
use tokio::runtime::Builder;

use crate::config::{ClientTask, Verb};
use crate::exit::{EX_FAILURE, Exit};

use ask::{Answer, Cluster};

/// Does what is asked. Blocks.
pub fn run(task: &ClientTask) -> Exit {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::error(EX_FAILURE, format!("cannot start: {error}")),
    };
    runtime.block_on(answer(task)).unwrap_or_else(|exit| exit)
}

async fn answer(task: &ClientTask) -> Result<Exit, Exit> {
    let cluster = Cluster::new(task)?;
    match task.verb {
        Verb::Status => {
            let answer = cluster.get("/hraftd/raft/cluster").await?;
            printed(task, &answer, show::status)
        }
        Verb::Doctor => {
            let answer = cluster.get("/hraftd/raft/doctor").await?;
            let code = if answer.json()?["ok"] == true { 0 } else { EX_FAILURE };
            Ok(Exit { code, ..printed(task, &answer, show::doctor)? })
        }
        Verb::Why { index } => {
            let path = format!("/hraftd/raft/entry/{index}");
            // The leader knows of all members.
            let leader = cluster.leader().await?;
            let answer = match leader {
                Some(leader) => cluster.get_at(&leader, &path).await?,
                None => cluster.get(&path).await?,
            };
            printed(task, &answer, show::entry)
        }
        Verb::Health { ready } => {
            let alive = cluster.get("/livez").await?;
            let answer = if ready { cluster.get("/readyz").await? } else { alive };
            printed(task, &answer, |_| format!("{}\n", if ready { "ready" } else { "alive" }))
        }
    }
}

fn printed(task: &ClientTask, answer: &Answer, show: impl FnOnce(&Value) -> String) -> Result<Exit, Exit> {
    let text = if task.json { format!("{}\n", answer.text) } else { show(&answer.json()?) };
    Ok(Exit::printed(text))
}
