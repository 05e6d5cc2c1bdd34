//! Reads and writes of a few keys, with nothing to tell repetitions by.

use std::time::Duration;

use tokio::time::Instant;

use super::{Ask, Client, Outcome};
use crate::client::drill::check::{Op, What};
use crate::sim::invariants::linearizable::Linearizable;
use crate::sim::world;

/// How many there are.
pub const KEYS: u64 = 3;

/// A weak read is no older than the election maximum, and the moment that the leader takes to apply what it has committed.
const WEAK_BOUND: Duration = Duration::from_millis(400 + 5);

pub fn name(number: u64) -> String {
    format!("reg{number}")
}

/// The oldest index that the answer to a read that begins now may show.
pub fn floor() -> u64 {
    world::check(|seen| Ok(Linearizable::floor(&seen.linearizable)))
}

impl Client {
    pub async fn use_registers(mut self, mut values: impl FnMut() -> u64) {
        while self.goes_on() {
            let key = name(self.below(KEYS));
            let port = self.any_port();
            match self.below(100) {
                0..25 => self.put(port, &key, values(), None).await,
                25..35 => {
                    // On what it reads first.
                    if let Some((_, modified)) = self.get(port, &key, "linearizable", 0).await {
                        let port = self.any_port();
                        self.put(port, &key, values(), Some(modified)).await;
                    }
                }
                35..45 => self.delete(port, &key).await,
                45..75 => {
                    let _ = self.get(port, &key, "linearizable", 0).await;
                }
                75..85 => {
                    let _ = self.get(port, &key, "weak", 0).await;
                }
                85..92 => {
                    let _ = self.get(port, &key, "none", 0).await;
                }
                _ => {
                    let min_index = floor();
                    let _ = self.get(port, &key, "none", min_index).await;
                }
            }
            self.pause(120).await;
        }
    }

    /// Once more, of each key at each of these nodes.
    pub async fn read_all(mut self, ports: Vec<u16>) {
        for port in ports {
            for number in 0..KEYS {
                self.get(port, &name(number), "linearizable", 0).await;
            }
        }
    }

    fn patience(&mut self) -> Duration {
        Duration::from_millis(200 + self.below(2_000))
    }

    async fn put(&mut self, port: u16, key: &str, value: u64, cas: Option<u64>) {
        let text = value.to_string();
        let cas_of = cas.map_or_else(String::new, |index| format!("?cas={index}"));
        let ask = Ask::new("PUT", format!("/hraftd/key/{key}{cas_of}"), text.clone());
        let (floor, called, patience) = (floor(), self.now(), self.patience());
        let outcome = self.ask(port, &ask, patience).await;
        let returned = self.now();
        world::check(|seen| {
            let what = What::Put(value);
            match outcome {
                Outcome::Done(answer) => {
                    let index = answer.json["index"].as_u64().ok_or_else(|| format!("no index: {answer:?}"))?;
                    seen.acknowledged.stored(text.as_bytes(), index)?;
                    seen.linearizable.answered(&format!("a write to {key} at {port}"), floor, index)?;
                    seen.linearizable.add(key, Op { what, called, returned: Some(returned) });
                    if let Some(cas) = cas {
                        let before = seen.state.at(key, index - 1).map_or(0, |(_, modified)| modified);
                        if before != cas {
                            return Err(format!(
                                "linearizable: {key} was set where it was at {cas}, and was at {before}"
                            ));
                        }
                    }
                }
                Outcome::Refused(answer) => {
                    seen.acknowledged.refused(text.as_bytes())?;
                    if let (Some(answer), Some(cas)) = (answer.filter(|answer| answer.status == 412), cas) {
                        seen.linearizable.answered(&format!("a refusal of {key} at {port}"), floor, answer.index)?;
                        let held = seen.state.at(key, answer.index).map_or(0, |(_, modified)| modified);
                        if held == cas {
                            return Err(format!("linearizable: {key} was at {cas}, and cas={cas} was refused"));
                        }
                    }
                }
                Outcome::Unknown => seen.linearizable.add(key, Op { what, called, returned: None }),
            }
            Ok(())
        });
    }

    async fn delete(&mut self, port: u16, key: &str) {
        let ask = Ask::new("DELETE", format!("/hraftd/key/{key}"), String::new());
        let (floor, called, patience) = (floor(), self.now(), self.patience());
        let outcome = self.ask(port, &ask, patience).await;
        let returned = self.now();
        world::check(|seen| {
            match outcome {
                Outcome::Done(answer) => {
                    let index = answer.json["index"].as_u64().ok_or_else(|| format!("no index: {answer:?}"))?;
                    let found = answer.json["deleted"] == 1;
                    seen.acknowledged.deleted(key, index, &seen.committed)?;
                    seen.linearizable.answered(&format!("a deletion of {key} at {port}"), floor, index)?;
                    if seen.state.at(key, index - 1).is_some() != found {
                        return Err(format!("linearizable: the deletion of {key} at {index} says {found}"));
                    }
                    let what = What::Delete(Some(found));
                    seen.linearizable.add(key, Op { what, called, returned: Some(returned) });
                }
                Outcome::Refused(_) => {}
                Outcome::Unknown => {
                    seen.linearizable.add(key, Op { what: What::Delete(None), called, returned: None });
                }
            }
            Ok(())
        });
    }

    /// The value and the index that last changed it, 0 where there is none.
    async fn get(&mut self, port: u16, key: &str, level: &str, min_index: u64) -> Option<(Option<u64>, u64)> {
        let least = if min_index > 0 { format!("&min_index={min_index}") } else { String::new() };
        let ask = Ask::new("GET", format!("/hraftd/key/{key}?level={level}{least}"), String::new());
        let (floor, called, patience) = (floor(), self.now(), self.patience());
        let asked = Instant::now();
        let outcome = self.ask(port, &ask, patience).await;
        let returned = self.now();
        let Outcome::Done(answer) = outcome else { return None };
        let value = (answer.status == 200).then(|| answer.json[key].as_u64()).flatten();
        let index = answer.index;
        world::check(|seen| {
            let found = value.map(|value| value.to_string().into_bytes());
            seen.linearizable.read(key, index, &found, &seen.state)?;
            if level == "linearizable" {
                seen.linearizable.answered(&format!("a read of {key} at {port}"), floor, index)?;
                seen.linearizable.add(key, Op { what: What::Get(value), called, returned: Some(returned) });
            }
            let bound = match level {
                "none" => answer.staleness_ms.map(Duration::from_millis),
                "weak" => Some(WEAK_BOUND),
                _ => None,
            };
            if let Some(bound) = bound {
                let what = format!("a read of {key} at {port} with level={level}");
                seen.linearizable.no_older(&what, asked, bound, index)?;
            }
            if index < min_index {
                return Err(format!("linearizable: a read at min_index={min_index} is of {index}"));
            }
            Ok(Some((value, seen.state.at(key, index).map_or(0, |(_, modified)| modified))))
        })
    }
}
