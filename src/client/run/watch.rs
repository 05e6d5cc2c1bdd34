//! `hraftd watch`: changes as they come, or a command for each.
//!
//! A stream that ends is opened again, at the next node, after the last event that was done with. So none is left out and
//! none comes twice, or it is told that history was too short.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Buf, Bytes, BytesMut};
use rustix::process::Signal;
use serde_json::value::RawValue;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::child::{Child, code};
use crate::client::link::{Cluster, MAX_BYTES, Request, Stream, encoded, query};
use crate::client::out::{self, say};
use crate::client::signals::{Signals, ended_by};
use crate::config::WatchArgs;
use crate::exit::{EX_FAILURE, EX_NOPERM, Exit};
use crate::quote::{escaped, is_escaped, json_escaped};

/// A node says something every 15 s.
const IDLE: Duration = Duration::from_secs(40);

/// Before streams are opened again, where none could be.
const PAUSE: Duration = Duration::from_millis(500);

/// A command that is told to end has this time.
const GRACE: Duration = Duration::from_secs(4);

struct Watch<'a> {
    args: &'a WatchArgs,
    json: bool,
    /// The id of what was done with last.
    after: Option<String>,
    /// The present state is to be told before what comes.
    initial: bool,
    signals: Signals,
}

/// Why a stream is not read on.
enum Over {
    /// Go on where it was.
    Broken,
    /// History does not reach back so far: there is a gap.
    Gap,
    /// The end of the process.
    End(Exit),
}

impl From<Exit> for Over {
    fn from(exit: Exit) -> Self {
        Self::End(exit)
    }
}

pub(crate) async fn watch(cluster: &Cluster, args: &WatchArgs, json: bool) -> Result<Exit, Exit> {
    let signals = Signals::take()?;
    let mut watch = Watch { args, json, after: None, initial: args.initial, signals };
    let mut is_first = true;
    loop {
        let request = watch.request();
        let opened = tokio::select! {
            signal = watch.signals.end() => return Err(ended_by(signal)),
            opened = open(cluster, &request) => opened,
        };
        let over = match opened {
            Ok(Some(stream)) => watch.follow(stream).await,
            Ok(None) => Over::Gap,
            Err(exit) if is_first || cluster.is_elsewhere() || matches!(exit.code, EX_FAILURE | EX_NOPERM) => {
                Over::End(exit)
            }
            Err(_) => Over::Broken,
        };
        is_first = false;
        match over {
            Over::End(exit) => return Err(exit),
            Over::Gap => {
                let from = watch.after.take().unwrap_or_default();
                let on = if args.initial { "the present state comes again" } else { "it goes on from now" };
                say(&format!("watch: history no longer reaches back to {from}: changes were missed; {on}"));
                watch.initial = args.initial;
            }
            Over::Broken => cluster.next_endpoint(),
        }
        if let Ok(signal) = timeout(PAUSE, watch.signals.end()).await {
            return Err(ended_by(signal));
        }
    }
}

/// `None`: there is a gap.
async fn open(cluster: &Cluster, request: &Request) -> Result<Option<Stream>, Exit> {
    match cluster.open_or_refused(request).await? {
        Ok(stream) => stream.of_type("application/x-ndjson").map(Some),
        Err(answer) if answer.code() == "compacted" => Ok(None),
        Err(answer) => Err(answer.refused()),
    }
}

impl Watch<'_> {
    fn request(&self) -> Request {
        let initial = (self.initial && self.after.is_none()).then(String::new);
        let path = format!("/hraftd/watch?prefix={}", encoded(&self.args.prefix));
        let path = query(&path, &[("initial", initial), ("after", self.after.clone())]);
        Request::get(path).header("accept", "application/x-ndjson")
    }

    async fn follow(&mut self, mut stream: Stream) -> Over {
        let mut text = BytesMut::new();
        let mut searched = 0;
        loop {
            while let Some(end) = text[searched..].iter().position(|byte| *byte == b'\n') {
                let line = text.split_to(searched + end).freeze();
                text.advance(1);
                searched = 0;
                if let Err(over) = self.line(&line).await {
                    return over;
                }
            }
            searched = text.len();
            if searched > MAX_BYTES {
                return Over::End(Exit::error(EX_FAILURE, format!("{}: an event is too long", stream.endpoint)));
            }
            tokio::select! {
                signal = self.signals.end() => return Over::End(ended_by(signal)),
                more = stream.next(IDLE) => match more {
                    Ok(Some(more)) => text.extend_from_slice(&more),
                    Ok(None) | Err(_) => return Over::Broken,
                },
            }
        }
    }

    async fn line(&mut self, line: &Bytes) -> Result<(), Over> {
        if line.is_empty() {
            return Ok(());
        }
        let event: Event = serde_json::from_slice(line)
            .map(Event)
            .map_err(|error| Exit::error(EX_FAILURE, format!("the answer is not hraftd's: {error}")))?;
        let name = event.text("event").unwrap_or_default();
        match name.as_str() {
            "compacted" => return Err(Over::Gap),
            "unauthorized" => {
                let why = event.text("msg").unwrap_or_default();
                return Err(Over::End(Exit::error(EX_NOPERM, format!("watch: {why}"))));
            }
            "position" | "synced" => {
                if self.json && self.args.exec.is_none() {
                    self.print(line)?;
                }
            }
            _ => match &self.args.exec {
                Some(command) => self.run(command, &name, &event).await?,
                None if self.json => self.print(line)?,
                None => self.print(shown(&name, &event).as_bytes())?,
            },
        }
        // Events of the present state have no id: it is told again from its beginning, until it was told whole.
        if let Some(id) = event.text("id") {
            self.after = Some(id);
            self.initial = false;
        }
        Ok(())
    }

    fn print(&self, line: &[u8]) -> Result<(), Over> {
        out::write(&[line, b"\n"]).map(drop).map_err(Over::End)
    }

    /// Runs the command for one change, to its end.
    async fn run(&mut self, command: &OsString, name: &str, event: &Event) -> Result<(), Over> {
        let shell = ["/bin/sh".into(), "-c".into(), command.clone()];
        let key = event.text("key").unwrap_or_default();
        // A variable cannot have it.
        let told = key.replace('\0', "\u{fffd}");
        let variables =
            [("HRAFTD_EVENT", name.to_owned()), ("HRAFTD_KEY", told), ("HRAFTD_INDEX", event.json("index").to_owned())];
        let mut child = Child::start(&shell, &variables, true)?;
        let (input, value, handle) = (child.input(), event.value(), child.handle());
        let feed = async {
            if let Some(mut input) = input {
                // A command need not read it.
                let _ = input.write_all(&value).await;
                let _ = input.shutdown().await;
            }
        };
        let mut ended = std::pin::pin!(async { tokio::join!(child.ended(), feed).0 });
        let status = tokio::select! {
            status = &mut ended => status?,
            signal = self.signals.end() => {
                handle.signal(signal);
                if timeout(GRACE, &mut ended).await.is_err() {
                    handle.signal(Signal::KILL);
                    let _ = ended.await;
                }
                return Err(Over::End(ended_by(signal)));
            }
        };
        if !status.success() {
            say(&format!("watch: the command ended with {} for {name} of {key:?}", code(status)));
        }
        Ok(())
    }
}

/// A line, member by member: numbers keep all their digits.
struct Event(BTreeMap<String, Box<RawValue>>);

impl Event {
    fn json(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |value| value.get())
    }

    fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.json(name)).ok()
    }

    /// The bytes of the value: a text as it is, bytes, or JSON; none where there is none.
    fn value(&self) -> Vec<u8> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Encoded {
            base64: String,
        }
        let encoded =
            serde_json::from_str(self.json("value")).ok().and_then(|Encoded { base64 }| BASE64.decode(base64).ok());
        encoded.or_else(|| self.text("value").map(String::into_bytes)).unwrap_or_else(|| self.json("value").into())
    }
}

/// A change on a line.
fn shown(name: &str, event: &Event) -> String {
    let key = event.text("key").unwrap_or_default();
    let key = if key.contains(|c| is_escaped(c) || c == ' ') { format!("{key:?}") } else { key };
    let value = if name == "set" { format!(" {}", json_escaped(event.json("value"))) } else { String::new() };
    format!("{} {} {key}{value}", json_escaped(event.json("index")), escaped(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(line: &str) -> Event {
        Event(serde_json::from_str(line).unwrap())
    }

    #[test]
    fn values_are_bytes() {
        let value = |json: &str| event(&format!("{{\"value\":{json}}}")).value();
        for (json, bytes) in [
            ("\"a\\n\"", &b"a\n"[..]),
            ("12345678901234567890.10", b"12345678901234567890.10"),
            ("null", b"null"),
            ("{\"base64\":\"/wA=\"}", b"\xff\0"),
            ("{\"base64\":\"/wA=\",\"a\":1}", b"{\"base64\":\"/wA=\",\"a\":1}"),
        ] {
            assert_eq!(value(json), bytes, "{json}");
        }
        assert_eq!(event("{\"key\":\"a\"}").value(), b"");
    }

    #[test]
    fn changes_are_lines() {
        assert_eq!(shown("set", &event(r#"{"key":"a b","index":7,"value":[1]}"#)), "7 set \"a b\" [1]");
        assert_eq!(shown("expire", &event(r#"{"key":"a","index":7}"#)), "7 expire a");
        let evil = event("{\"key\":\"a\u{202e}\",\"index\":7,\"value\":\"\u{9b}1m\"}");
        assert_eq!(shown("set", &evil), "7 set \"a\\u{202e}\" \"\\u009b1m\"");
    }
}
