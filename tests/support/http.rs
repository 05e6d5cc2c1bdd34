//! A small blocking HTTP/1.1 client that sends exactly the bytes it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::secure::{self, Stream};

/// Longer than any answer may take at the default `timeout=` of 10 s.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header, where there is one.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.brief()))
    }

    /// Itself when the status is 200, else what was seen.
    pub fn ok(self) -> Result<Self, String> {
        if self.status == 200 { Ok(self) } else { Err(self.brief()) }
    }

    /// Status and the beginning of the body, for messages.
    pub fn brief(&self) -> String {
        format!("{} {}", self.status, self.text().chars().take(300).collect::<String>())
    }
}

/// One request on a connection of its own.
pub fn call(addr: &str, method: &str, path: &str, body: Option<&[u8]>) -> Result<Reply, String> {
    call_with(addr, method, path, &[], body)
}

/// As [`call`], with more headers.
pub fn call_with(
    addr: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Result<Reply, String> {
    let mut conn = Conn::open(addr)?;
    conn.request(method, path, &[headers, &[("Connection", "close")]].concat(), body)
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    addr: String,
    stream: BufReader<Stream>,
}

impl Conn {
    pub fn open(addr: &str) -> Result<Self, String> {
        Self::open_within(addr, PATIENCE)
    }

    /// As [`Conn::open`], with how long it, and one read or write afterwards, may block.
    pub fn open_within(addr: &str, patience: Duration) -> Result<Self, String> {
        let socket: SocketAddr = addr.parse().map_err(|error| format!("{addr}: {error}"))?;
        let stream =
            TcpStream::connect_timeout(&socket, patience).map_err(|error| format!("connect {addr}: {error}"))?;
        stream.set_nodelay(true).unwrap();
        set_patience(&stream, patience);
        Ok(Self { addr: addr.to_owned(), stream: BufReader::new(Stream::open(addr, stream)?) })
    }

    /// How long one read or write may block.
    pub fn patience(&self, patience: Duration) {
        set_patience(self.stream.get_ref().tcp(), patience);
    }

    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Reply, String> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.addr);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let shows = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        let own = if shows { None } else { secure::token_of(&self.addr) };
        if let Some(token) = &own {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        if let Some(body) = body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        // A server that has heard enough may answer and close before it has read all: then its answer counts.
        let sent = self.send(head.as_bytes()).and_then(|()| self.send(body.unwrap_or_default()));
        let reply = self.reply(method == "HEAD").map_err(|error| match sent {
            Ok(()) => error,
            Err(sent) => format!("{sent}; {error}"),
        })?;
        if own.is_some() && matches!(reply.status, 401 | 403) {
            secure::note_refused(format!("{method} {path} at {}: {}", self.addr, reply.brief()));
        }
        Ok(reply)
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let stream = self.stream.get_mut();
        let sent = stream.write_all(bytes).and_then(|()| stream.flush());
        sent.map_err(|error| format!("send to {}: {error}", self.addr))
    }

    /// Reads one answer.
    pub fn reply(&mut self, head_only: bool) -> Result<Reply, String> {
        let mut reply = self.head()?;
        if !head_only {
            reply.body = self.body(&reply)?;
        }
        Ok(reply)
    }

    /// Reads the head of one answer.
    pub fn head(&mut self) -> Result<Reply, String> {
        let line = self.line()?;
        let status = line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| format!("{} answered no HTTP: {line:?}", self.addr))?;
        let mut reply = Reply { status, headers: Vec::new(), body: Vec::new() };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| format!("bad header {line:?}"))?;
            reply.headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        Ok(reply)
    }

    /// Reads the next chunk of a body; `None` at its end.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>, String> {
        let line = self.line()?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(|error| format!("bad chunk {line:?}: {error}"))?;
        let chunk = self.exactly(size)?;
        self.line()?;
        Ok((size > 0).then_some(chunk))
    }

    /// Reads the body of an answer whose head was read.
    pub fn rest_of(&mut self, mut head: Reply) -> Result<Reply, String> {
        head.body = self.body(&head)?;
        Ok(head)
    }

    /// All that comes until the other side closes.
    pub fn rest(&mut self) -> Result<Vec<u8>, String> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).map_err(|error| format!("read from {}: {error}", self.addr))?;
        Ok(rest)
    }

    fn body(&mut self, reply: &Reply) -> Result<Vec<u8>, String> {
        if reply.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk()? {
                body.extend(chunk);
            }
            return Ok(body);
        }
        match reply.header("content-length").map(str::parse) {
            Some(Ok(size)) => self.exactly(size),
            Some(Err(error)) => Err(format!("bad Content-Length: {error}")),
            None if reply.status < 200 || reply.status == 204 => Ok(Vec::new()),
            None => self.rest(),
        }
    }

    fn exactly(&mut self, size: usize) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; size];
        self.stream.read_exact(&mut bytes).map_err(|error| format!("read from {}: {error}", self.addr))?;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).map_err(|error| format!("read from {}: {error}", self.addr))?;
        if read == 0 {
            return Err(format!("{} closed the connection", self.addr));
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

fn set_patience(stream: &TcpStream, patience: Duration) {
    stream.set_read_timeout(Some(patience)).unwrap();
    stream.set_write_timeout(Some(patience)).unwrap();
}
