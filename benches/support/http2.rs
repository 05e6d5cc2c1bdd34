//! A client of hraftd over HTTP/2. Many share a connection, each with one request in flight.

use bytes::Bytes;
use http::Request;
use http::uri::PathAndQuery;

use super::grpc::Channel;
use super::template::{Target, Template};

pub struct Client {
    channel: Channel,
    put: (Request<()>, Template),
    /// Without the key's number.
    get: (Request<()>, Template),
    value_bytes: usize,
}

impl Client {
    pub fn new(channel: Channel, target: &Target) -> Result<Self, String> {
        let (key, addr) = (target.first_key(), &target.addrs[0]);
        let body = format!("{{\"{key}\":\"{}\"}}", target.value());
        let level = if target.linearizable { "linearizable" } else { "none" };
        let path = format!("/hraftd/key/{key}?level={level}");
        let request = |request: http::request::Builder| request.body(()).map_err(|error| error.to_string());
        let put = Request::post(format!("http://{addr}/hraftd/key")).header("content-length", body.len());
        Ok(Self {
            channel,
            put: (request(put)?, Template::new(&key, body.into())),
            get: (request(Request::get(format!("http://{addr}{path}")))?, Template::new(&key, path.into())),
            value_bytes: target.value_bytes,
        })
    }

    pub async fn put(&mut self, key: usize) -> Result<(), String> {
        let body = Bytes::copy_from_slice(self.put.1.with_key(key));
        answer(&self.channel, self.put.0.clone(), Some(body)).await.map(drop)
    }

    pub async fn get(&mut self, key: usize) -> Result<(), String> {
        let (mut request, path) = (self.get.0.clone(), Bytes::copy_from_slice(self.get.1.with_key(key)));
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.path_and_query = Some(PathAndQuery::from_maybe_shared(path).map_err(|error| error.to_string())?);
        *request.uri_mut() = uri.try_into().map_err(|error: http::uri::InvalidUriParts| error.to_string())?;
        let length = answer(&self.channel, request, None).await?;
        if length < self.value_bytes { Err(format!("an answer of {length} bytes")) } else { Ok(()) }
    }
}

/// The length of the answer's body.
async fn answer(channel: &Channel, head: Request<()>, body: Option<Bytes>) -> Result<usize, String> {
    let call = async {
        let mut send = channel.0.clone().ready().await?;
        let (answer, mut stream) = send.send_request(head, body.is_none())?;
        if let Some(body) = body {
            stream.send_data(body, true)?;
        }
        let answer = answer.await?;
        let status = answer.status();
        let (mut body, mut length) = (answer.into_body(), 0);
        while let Some(data) = body.data().await {
            let data = data?;
            length += data.len();
            body.flow_control().release_capacity(data.len())?;
        }
        Ok::<_, h2::Error>((status, length))
    };
    let (status, length) = call.await.map_err(|error| error.to_string())?;
    if status == 200 { Ok(length) } else { Err(format!("{status}")) }
}
