//! A client of etcd. A unary gRPC call is a POST over HTTP/2 whose body is a length and a protobuf message. The messages
//! needed here have two fields at most, so `h2` is enough.

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tokio::net::TcpStream;

use super::template::{Target, Template};

/// Larger than all answers in flight: flow control is not what is measured.
const WINDOW: u32 = 1 << 24;

/// Shared by many clients, each with one request in flight.
#[derive(Clone)]
pub struct Channel(pub(super) SendRequest<Bytes>);

impl Channel {
    pub async fn open(addr: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(addr).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).enable_push(false);
        let (send, connection) = builder.handshake(stream).await.map_err(|error| error.to_string())?;
        // Ends with its last request.
        tokio::spawn(connection);
        Ok(Self(send))
    }
}

pub struct Client {
    channel: Channel,
    put: (Request<()>, Template),
    range: (Request<()>, Template),
    value_bytes: usize,
}

impl Client {
    pub fn new(channel: Channel, target: &Target) -> Result<Self, String> {
        let key = target.first_key();
        let mut put = Vec::new();
        field(&mut put, 1, key.as_bytes());
        field(&mut put, 2, target.value().as_bytes());
        let mut range = Vec::new();
        field(&mut range, 1, key.as_bytes());
        if !target.linearizable {
            // serializable = true: field 7, a number.
            range.extend([7 << 3, 1]);
        }
        Ok(Self {
            channel,
            put: (head(&target.addrs[0], "KV/Put")?, Template::new(&key, framed(&put))),
            range: (head(&target.addrs[0], "KV/Range")?, Template::new(&key, framed(&range))),
            value_bytes: target.value_bytes,
        })
    }

    pub async fn put(&mut self, key: usize) -> Result<(), String> {
        let message = Bytes::copy_from_slice(self.put.1.with_key(key));
        unary(&self.channel, self.put.0.clone(), message).await.map(drop)
    }

    pub async fn get(&mut self, key: usize) -> Result<(), String> {
        let message = Bytes::copy_from_slice(self.range.1.with_key(key));
        let length = unary(&self.channel, self.range.0.clone(), message).await?;
        if length < self.value_bytes { Err(format!("an answer of {length} bytes")) } else { Ok(()) }
    }
}

fn head(addr: &str, method: &str) -> Result<Request<()>, String> {
    Request::post(format!("http://{addr}/etcdserverpb.{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(|error| error.to_string())
}

/// A protobuf field of bytes.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

/// The body of a request with this message: not compressed, its length, then itself.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
    out
}

/// Calls a method such as `Lease/LeaseGrant` once, on a connection of its own.
pub fn call(addr: &str, method: &str, message: &[u8]) -> Result<(), String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let channel = Channel::open(addr).await?;
        unary(&channel, head(addr, method)?, framed(message).into()).await.map(drop)
    })
}

/// The length of the answer's body.
async fn unary(channel: &Channel, head: Request<()>, message: Bytes) -> Result<usize, String> {
    let call = async {
        let mut send = channel.0.clone().ready().await?;
        let (answer, mut body) = send.send_request(head, false)?;
        body.send_data(message, true)?;
        let answer = answer.await?;
        let headers = answer.headers().clone();
        let mut body = answer.into_body();
        let mut length = 0;
        while let Some(data) = body.data().await {
            let data = data?;
            length += data.len();
            body.flow_control().release_capacity(data.len())?;
        }
        Ok::<_, h2::Error>((length, headers, body.trailers().await?))
    };
    let (length, headers, trailers) = call.await.map_err(|error| error.to_string())?;
    let status = |headers: &HeaderMap| headers.get("grpc-status").is_some_and(|status| status == "0");
    // An error is said in the trailers, or in the headers where there is nothing else.
    if trailers.as_ref().is_some_and(status) { Ok(length) } else { Err(format!("{headers:?} {trailers:?}")) }
}
