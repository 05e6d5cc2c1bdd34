//! Requests that are repeated until they are answered count once.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::task::JoinSet;

use super::sim::{Sim, keyed, until_answered};
use crate::command::{Action, Reply};

const CLIENTS: u64 = 8;
const EACH: u64 = 250;

#[tokio::test(start_paused = true)]
async fn increments_through_leader_crashes_and_lost_answers_end_exact() {
    let mut sim = Sim::start(11, Vec::new()).await;
    sim.net.lose_every_nth_answer(4);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (net, mut rng) = (sim.net.clone(), StdRng::seed_from_u64(client));
        clients.spawn(async move {
            let mut answers = Vec::new();
            for number in 0..EACH {
                let incr = Action::Incr { key: "n".into(), by: 1, ttl_ms: None, conditions: Vec::new() };
                let command = keyed(format!("{client}-{number}"), incr);
                match until_answered(&net, &mut rng, &command).await {
                    (index, Reply::Number(number)) => answers.push((index, number)),
                    (_, other) => panic!("{other:?}"),
                }
                // So that the faults fall among them.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            answers
        });
    }
    let mut crashes = 0;
    let mut answers = Vec::new();
    while !clients.is_empty() {
        while let Some(done) = clients.try_join_next() {
            answers.extend(done.unwrap());
        }
        sim.wait(3_000).await;
        match crashes % 4 {
            3 => sim.crash_all(500).await,
            _ => sim.crash_leader(1_500).await,
        }
        crashes += 1;
        sim.settled().await;
    }
    let total = CLIENTS * EACH;
    assert!(crashes > 5, "{crashes}");
    answers.sort_unstable();
    let numbers: Vec<u64> = answers.iter().map(|(_, number)| u64::try_from(*number).unwrap()).collect();
    assert_eq!(numbers, (1..=total).collect::<Vec<_>>(), "each once, in the order of their entries");
    assert_eq!(answers.iter().map(|(index, _)| index).collect::<BTreeSet<_>>().len() as u64, total);
    let kv = sim.all_equal().await;
    assert_eq!(kv.get("n").unwrap().value(), total.to_string().as_bytes());
    assert_eq!(kv.kept().count() as u64, total);
}
