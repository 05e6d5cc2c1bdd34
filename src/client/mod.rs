//! `hraftd` as a client: asks a cluster over the public API, and shows the answers to people.
//!
//! * `link`: the way to a cluster: endpoints, retries, TLS, and what an answer means for the exit code.
//! * `keys`, `more_keys`, `list`, `edit`: verbs of keys. `admin`: members and tokens. `run`: verbs that run a command.
//! * `data`: many keys in and out. `backup`: all of it. `pages`: keys in their order.
//! * [`drill`]: a proof, on a running cluster. `bench`: how much it does.
//! * `out`: standard output. `show`: answers as tables. `progress`: how far it is. `signals`: what ends it.
//!
//! Exit codes: 0; 1 refused, not found, or something to mend; 64 a bad command line; 69 no node reachable; 75 try again;
//! 77 not permitted.

mod admin;
mod backup;
mod bench;
mod data;
pub mod drill;
mod edit;
mod keys;
mod link;
mod list;
mod more_keys;
mod out;
mod pages;
mod progress;
mod run;
mod show;
mod signals;

use rand::RngExt as _;
use serde_json::Value;
use tokio::runtime::Builder;

use crate::config::{ClientTask, Verb};
use crate::exit::{EX_FAILURE, Exit};

use link::{Answer, Cluster, Request};

pub use run::become_bound;

/// Does what is asked. Blocks.
pub fn run(task: &ClientTask) -> Exit {
    // One thread, and this one: a child that is to die with this process is started here.
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Exit::error(EX_FAILURE, format!("cannot start: {error}")),
    };
    let end = runtime.block_on(answer(task)).unwrap_or_else(|exit| exit);
    runtime.shutdown_background();
    end
}

/// 128 random bits.
fn random_id() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

async fn answer(task: &ClientTask) -> Result<Exit, Exit> {
    let (cluster, json) = (Cluster::new(&task.access)?, task.access.json);
    match &task.verb {
        Verb::Get(args) => keys::get(&cluster, args, json).await,
        Verb::Put(args) => keys::put(&cluster, args, json).await,
        Verb::Delete(args) => keys::delete(&cluster, args, json).await,
        Verb::Ls(args) => list::ls(&cluster, args, json).await,
        Verb::Incr(args) => more_keys::incr(&cluster, args, json).await,
        Verb::Touch(args) => more_keys::touch(&cluster, args, json).await,
        Verb::Txn { file } => more_keys::txn(&cluster, file).await,
        Verb::Edit { key } => edit::edit(&cluster, key).await,
        Verb::Watch(args) => run::watch(&cluster, args, json).await,
        Verb::Lock(args) => run::lock(&cluster, args).await,
        Verb::Elect(args) => run::elect(&cluster, args).await,
        Verb::Members { verb } => admin::members(&cluster, verb.as_ref(), json).await,
        Verb::Token { verb } => admin::token(&cluster, verb, json).await,
        Verb::Drill(args) => drill::drill(&cluster, &task.access, args).await,
        Verb::Bench(args) => bench::bench(&cluster, &task.access, args).await,
        Verb::Export(args) => data::export(&cluster, args).await,
        Verb::Import(args) => data::import(&cluster, args).await,
        Verb::Backup(args) => backup::backup(&cluster, args, json).await,
        Verb::Status => {
            let answer = cluster.get("/hraftd/raft/cluster").await?.with_list("servers")?;
            printed(json, &answer, show::status)
        }
        Verb::Doctor => {
            let answer = cluster.get("/hraftd/raft/doctor").await?.with_list("findings")?;
            let code = if answer.json()?["ok"] == true { 0 } else { EX_FAILURE };
            Ok(Exit { code, ..printed(json, &answer, show::doctor)? })
        }
        Verb::Why { index } => {
            let path = format!("/hraftd/raft/entry/{index}");
            // The leader knows of all members.
            let answer = match cluster.leader().await? {
                Some(leader) => cluster.send_to(&leader, &Request::get(path)).await?.ok()?,
                None => cluster.get(&path).await?,
            };
            printed(json, &answer.with("index")?, show::entry)
        }
        Verb::Health { ready } => {
            let alive = cluster.get("/livez").await?.done()?;
            let answer = if *ready { cluster.get("/readyz").await?.done()? } else { alive };
            printed(json, &answer, |_| format!("{}\n", if *ready { "ready" } else { "alive" }))
        }
    }
}

fn printed(json: bool, answer: &Answer, show: impl FnOnce(&Value) -> String) -> Result<Exit, Exit> {
    let text = match json {
        true => format!("{}\n", String::from_utf8_lossy(&answer.body)),
        // An answer without a body is shown by its status alone.
        false => show(&answer.json().unwrap_or_default()),
    };
    Ok(Exit::printed(text))
}
