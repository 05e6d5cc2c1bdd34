//! A client of redis: `SET` and `GET` over one connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::template::{Target, Template};

/// More than the line before a value, and more than an error.
const LINE_BYTES: usize = 4096;

pub struct Connection {
    stream: TcpStream,
    put: Template,
    get: Template,
    buffer: Vec<u8>,
    value_bytes: usize,
}

impl Connection {
    pub async fn open(addr: &str, target: &Target) -> Result<Self, String> {
        let stream = TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (key, value) = (target.first_key(), target.value());
        Ok(Self {
            stream,
            put: Template::new(&key, command(&["SET", &key, &value])),
            get: Template::new(&key, command(&["GET", &key])),
            buffer: vec![0; LINE_BYTES + target.value_bytes],
            value_bytes: target.value_bytes,
        })
    }

    pub async fn put(&mut self, key: usize) -> Result<(), String> {
        self.stream.write_all(self.put.with_key(key)).await.map_err(|error| error.to_string())?;
        self.answer(|answer| answer.ends_with(b"\r\n"), b"+OK\r\n").await
    }

    pub async fn get(&mut self, key: usize) -> Result<(), String> {
        self.stream.write_all(self.get.with_key(key)).await.map_err(|error| error.to_string())?;
        let start = format!("${}\r\n", self.value_bytes).into_bytes();
        let length = start.len() + self.value_bytes + 2;
        // Whatever does not begin as the value should is an error of one line.
        let whole = |answer: &[u8]| {
            answer.len() >= length
                || (!start.starts_with(&answer[..answer.len().min(start.len())]) && answer.ends_with(b"\r\n"))
        };
        self.answer(whole, &start).await
    }

    /// Reads until the answer is whole; an error unless it starts with `start`.
    async fn answer(&mut self, whole: impl Fn(&[u8]) -> bool, start: &[u8]) -> Result<(), String> {
        let mut filled = 0;
        while filled == 0 || !whole(&self.buffer[..filled]) {
            let read = self.stream.read(&mut self.buffer[filled..]).await.map_err(|error| error.to_string())?;
            if read == 0 {
                return Err(format!("closed after {filled} bytes of an answer, or too long for the buffer"));
            }
            filled += read;
        }
        let answer = &self.buffer[..filled];
        if answer.starts_with(start) { Ok(()) } else { Err(String::from_utf8_lossy(answer).into_owned()) }
    }
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len());
    for word in words {
        out.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    out.into_bytes()
}
