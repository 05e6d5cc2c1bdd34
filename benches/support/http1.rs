//! A client of HTTP/1.1 with keep-alive that costs as little CPU as it can: requests are templates, and only the status
//! and the length of an answer are looked at.

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::template::{Target, Template};

/// More than the head of any answer.
const HEAD_BYTES: usize = 4096;

pub struct Connection {
    stream: Either<TcpStream, TlsStream<TcpStream>>,
    put: Template,
    get: Template,
    buffer: Vec<u8>,
    value_bytes: usize,
}

impl Connection {
    pub async fn open(addr: &str, target: &Target) -> Result<Self, String> {
        let stream = TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut authorization = String::new();
        let stream = match &target.secure {
            None => Either::Left(stream),
            Some(secure) => {
                authorization = format!("authorization: Bearer {}\r\n", secure.token);
                let name = ServerName::from(stream.peer_addr().map_err(|error| error.to_string())?.ip());
                let connected = TlsConnector::from(secure.config.clone()).connect(name, stream).await;
                Either::Right(connected.map_err(|error| error.to_string())?)
            }
        };
        let (key, host) = (target.first_key(), addr);
        let body = format!("{{\"{key}\":\"{}\"}}", target.value());
        let length = body.len();
        let level = if target.linearizable { "linearizable" } else { "none" };
        Ok(Self {
            stream,
            put: Template::new(
                &key,
                format!(
                    "POST /hraftd/key HTTP/1.1\r\nhost: {host}\r\n{authorization}content-length: {length}\r\n\r\n{body}"
                )
                .into(),
            ),
            get: Template::new(
                &key,
                format!("GET /hraftd/key/{key}?level={level} HTTP/1.1\r\nhost: {host}\r\n{authorization}\r\n").into(),
            ),
            buffer: vec![0; HEAD_BYTES + target.value_bytes],
            value_bytes: target.value_bytes,
        })
    }

    pub async fn put(&mut self, key: usize) -> Result<(), String> {
        self.stream.write_all(self.put.with_key(key)).await.map_err(|error| error.to_string())?;
        self.stream.flush().await.map_err(|error| error.to_string())?;
        self.answer().await.map(drop)
    }

    pub async fn get(&mut self, key: usize) -> Result<(), String> {
        self.stream.write_all(self.get.with_key(key)).await.map_err(|error| error.to_string())?;
        self.stream.flush().await.map_err(|error| error.to_string())?;
        let length = self.answer().await?;
        if length < self.value_bytes { Err(format!("an answer of {length} bytes")) } else { Ok(()) }
    }

    /// The length of the answer's body.
    async fn answer(&mut self) -> Result<usize, String> {
        let mut filled = 0;
        let mut needed = None;
        while needed.is_none_or(|(head, body)| filled < head + body) {
            let read = self.stream.read(&mut self.buffer[filled..]).await.map_err(|error| error.to_string())?;
            if read == 0 {
                return Err(format!("closed after {filled} bytes of an answer, or too long for the buffer"));
            }
            filled += read;
            if needed.is_none() {
                needed = lengths(&self.buffer[..filled])?;
            }
        }
        let (head, body) = needed.unwrap_or_default();
        if !self.buffer.starts_with(b"HTTP/1.1 200 ") || filled != head + body {
            return Err(String::from_utf8_lossy(&self.buffer[..filled]).into_owned());
        }
        Ok(body)
    }
}

/// The lengths of head and body, once the head is there.
fn lengths(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    const NAME: &[u8] = b"content-length:";
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let line = bytes[..end]
        .split(|&byte| byte == b'\n')
        .find(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME));
    let length = line.and_then(|line| std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok());
    let length = length.ok_or_else(|| format!("no length: {}", String::from_utf8_lossy(&bytes[..end])))?;
    Ok(Some((end + 4, length)))
}
