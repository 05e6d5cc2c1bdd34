//! The network between hosts, and between clients and hosts: everything that sockets do, and do wrong.
//!
//! A message is one HTTP exchange: it is late, lost on its way or on its way back, arrives twice, or not while the way is
//! cut. What was sent goes on its way even if its sender dies. Messages overtake one another, as on several connections.
//!
//! Caveats: HTTP itself sends nothing twice, so only messages between nodes that may be repeated are: a write that is
//! passed on would count twice. A message is encoded and decoded as on the wire, but streams of snapshots are not. Appends
//! have connections of their own: `connection`. Requests of clients that are left when a process stops are cut off with the
//! process, a little later than the product does.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use super::host::Host;
use super::world;
use crate::api::Api;
use crate::http::Handler as _;
use crate::node::{Node, NodeSlot};

/// A server: who listens at a host's two ports.
#[derive(Debug, Clone)]
pub struct Server {
    pub host: Host,
    /// What both ports tell of.
    pub slot: NodeSlot,
    /// The client port, where it has one: tests of nodes ask these themselves.
    api: Option<Api<NodeSlot>>,
    /// Each request of a client holds one of [`CLIENTS`]; closed with the client port.
    clients: Arc<Semaphore>,
}

/// The most requests of clients at a time.
const CLIENTS: u32 = 1 << 20;

impl Server {
    pub fn new(host: Host, slot: NodeSlot, api: Option<Api<NodeSlot>>) -> Self {
        Self { host, slot, api, clients: Arc::new(Semaphore::new(CLIENTS as usize)) }
    }

    /// A place for one more request; `None` once clients are no longer taken. Peers always have one.
    fn place(&self, from: u16) -> Option<Option<OwnedSemaphorePermit>> {
        match from {
            OUTSIDE => self.clients.clone().try_acquire_owned().ok().map(Some),
            _ => Some(None),
        }
    }

    /// Takes no more clients, and waits until those that are there have their answers, but no longer than `most`.
    pub async fn drain(&self, most: Duration) {
        let all = self.clients.acquire_many(CLIENTS);
        // Those that are left are cut off where the process ends.
        let _some_are_left = timeout(most, all).await;
        self.clients.close();
    }

    /// The node, once its process has come so far.
    pub fn node(&self) -> Option<Node> {
        self.slot.node().cloned()
    }
}

/// How well the network does. Chances are out of a thousand.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// How long a message takes one way, in milliseconds.
    pub delay_ms: (u64, u64),
    /// That it takes ten times as long.
    pub late: u64,
    /// That it is lost, each way.
    pub lost: u64,
    /// That it arrives twice.
    pub twice: u64,
}

impl Weather {
    pub const FAIR: Self = Self { delay_ms: (0, 2), late: 5, lost: 0, twice: 0 };
}

#[derive(Debug)]
struct State {
    /// By client port.
    up: BTreeMap<u16, Server>,
    /// Hosts that do not even refuse a connection.
    dark: BTreeSet<u16>,
    /// From whom to whom nothing gets through.
    cut: BTreeSet<(u16, u16)>,
    /// Names that lead to several hosts.
    names: BTreeMap<u16, Vec<u16>>,
    weather: Weather,
}

/// Clones are the same network.
#[derive(Debug, Clone)]
pub struct Net(Arc<Mutex<State>>);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nobody listens there; nothing was sent.
    Refused,
    /// The connection broke after something was sent.
    Broken,
}

/// The port that stands for clients: no node has it.
pub const OUTSIDE: u16 = 0;

impl Default for Net {
    fn default() -> Self {
        let (up, dark, cut, names) = Default::default();
        Self(Arc::new(Mutex::new(State { up, dark, cut, names, weather: Weather::FAIR })))
    }
}

/// How a connection is made there.
enum Reach {
    Server(Server),
    Refused,
    Silence,
}

impl Net {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    pub fn up(&self, server: Server) {
        let name = server.host.name();
        let mut state = self.state();
        state.dark.remove(&name);
        state.up.insert(name, server);
    }

    /// The server is gone; `dark`: and its host with it.
    pub fn down(&self, name: u16, dark: bool) {
        let mut state = self.state();
        state.up.remove(&name);
        if dark {
            state.dark.insert(name);
        } else {
            state.dark.remove(&name);
        }
    }

    /// The run is over: nodes know the network, and it must not keep them.
    pub fn clear(&self) {
        let nodes = std::mem::take(&mut self.state().up);
        drop(nodes);
    }

    pub fn server(&self, name: u16) -> Option<Server> {
        self.state().up.get(&name).filter(|server| !server.host.is_dead()).cloned()
    }

    pub fn set_cut(&self, from: u16, to: u16, cut: bool) {
        let mut state = self.state();
        if cut {
            state.cut.insert((from, to));
        } else {
            state.cut.remove(&(from, to));
        }
    }

    pub fn heal(&self) {
        let mut state = self.state();
        state.cut.clear();
        state.weather = Weather::FAIR;
    }

    pub fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    /// From now on this name leads to these hosts.
    pub fn set_name(&self, name: u16, hosts: Vec<u16>) {
        self.state().names.insert(name, hosts);
    }

    /// All hosts that an address leads to.
    pub fn places(&self, to: u16) -> Vec<u16> {
        self.state().names.get(&to).cloned().unwrap_or_else(|| vec![to])
    }

    /// The host that an address leads to, this time. A host that is among those of a name is often its own first one.
    pub fn resolve(&self, from: u16, to: u16) -> u16 {
        let Some(hosts) = self.state().names.get(&to).cloned() else { return to };
        if hosts.contains(&from) && world::chance(500) {
            return from;
        }
        hosts[world::below(hosts.len() as u64) as usize]
    }

    pub(super) fn is_dark(&self, name: u16) -> bool {
        self.state().dark.contains(&name)
    }

    fn is_cut(&self, from: u16, to: u16) -> bool {
        self.state().cut.contains(&(from, to))
    }

    fn weather(&self) -> Weather {
        self.state().weather
    }

    /// True where nobody refuses a connection: it hangs.
    pub fn is_silent(&self, from: u16, to: u16) -> bool {
        matches!(self.reach(from, to), Reach::Silence)
    }

    fn reach(&self, from: u16, to: u16) -> Reach {
        if self.is_cut(from, to) || self.state().dark.contains(&to) {
            return Reach::Silence;
        }
        let server = self.server(to).filter(|server| server.place(from).is_some());
        server.map_or(Reach::Refused, Reach::Server)
    }

    /// A message's way; whether it arrives.
    pub(super) async fn travel(&self, from: u16, to: u16) -> bool {
        let Weather { delay_ms, late, lost, .. } = self.weather();
        let mut delay = world::ms_between(delay_ms);
        if world::chance(late) {
            delay = (delay + Duration::from_millis(1)) * 10;
        }
        // A sleep of nothing would still take until the timer's next tick.
        if !delay.is_zero() {
            sleep(delay).await;
        }
        !world::chance(lost) && !self.is_cut(from, to)
    }

    /// One exchange: `serve` answers at the server, on its host. Without an answer it lasts until the caller gives up,
    /// unless the connection is seen to break.
    pub async fn exchange<T, F>(
        &self,
        from: u16,
        to: u16,
        may_repeat: bool,
        serve: impl Fn(Server) -> F + Send + Sync + 'static,
    ) -> Result<T, NoAnswer>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        match self.reach(from, to) {
            Reach::Server(_) => {}
            Reach::Refused => {
                // Its RST must get through.
                return if self.travel(to, from).await { Err(NoAnswer::Refused) } else { pending().await };
            }
            Reach::Silence => return pending().await,
        }
        let (sender, answer) = oneshot::channel();
        let twice = may_repeat && world::chance(self.weather().twice);
        let serve = Arc::new(serve);
        if twice {
            // Its answer is nobody's.
            tokio::spawn(self.clone().carry(from, to, serve.clone(), None));
        }
        // A task of the network's own: what was sent is on its way, whatever becomes of the sender.
        tokio::spawn(self.clone().carry(from, to, serve, Some(sender)));
        match answer.await {
            Ok(answer) => answer,
            Err(_) => pending().await,
        }
    }

    async fn carry<T, F>(
        self,
        from: u16,
        to: u16,
        serve: Arc<impl Fn(Server) -> F + Send + Sync + 'static>,
        answer: Option<oneshot::Sender<Result<T, NoAnswer>>>,
    ) where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        if !self.travel(from, to).await {
            return;
        }
        let Reach::Server(server) = self.reach(from, to) else { return };
        let Some(_place) = server.place(from) else {
            // Its port was closed while this was on its way.
            if self.travel(to, from).await {
                let _asker_is_gone = answer.map(|answer| answer.send(Err(NoAnswer::Broken)));
            }
            return;
        };
        let mut served = server.host.spawn(serve(server.clone()));
        let Some(mut answer) = answer else { return };
        let result = tokio::select! {
            biased;
            result = &mut served => result,
            () = answer.closed() => {
                // The asker is gone, and its connection: a server may or may not see that.
                if world::chance(500) {
                    served.abort();
                }
                return;
            }
        };
        let result = match result {
            Ok(result) => Ok(result),
            // A process that dies has its connections closed by its system; a machine does not.
            Err(_) if self.is_dark(to) => return,
            Err(_) => Err(NoAnswer::Broken),
        };
        if self.travel(to, from).await {
            let _asker_is_gone = answer.send(result);
        }
    }

    /// A request of a client, with the whole answer.
    pub async fn request(
        &self,
        to: u16,
        request: Request<Vec<u8>>,
        patience: Duration,
    ) -> Result<Response<Vec<u8>>, NoAnswer> {
        let serve = move |server: Server| {
            let request = request.clone();
            async move {
                let response = serve_client(&server, request).await;
                let (head, body) = response.into_parts();
                let body = http_body_util::BodyExt::collect(body).await.map(|body| body.to_bytes().to_vec());
                body.ok().map(|body| Response::from_parts(head, body))
            }
        };
        match timeout(patience, self.exchange(OUTSIDE, to, false, serve)).await {
            Ok(Ok(Some(response))) => Ok(response),
            Ok(Err(NoAnswer::Refused)) => Err(NoAnswer::Refused),
            Ok(Ok(None) | Err(NoAnswer::Broken)) | Err(_) => Err(NoAnswer::Broken),
        }
    }
}

/// Runs a request as the server's own.
///
/// # Panics
/// Where it has no client port.
pub async fn serve_client(server: &Server, request: Request<Vec<u8>>) -> Response<Body> {
    let api = server.api.as_ref().expect("a server with a client port");
    api.answer(request.map(Body::from)).await
}
