//! Clients and servers inside of other programs.
//!
//! A driver crate re-exports this module together with its [`Runtime`].

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_channel::oneshot;
use linksocks_sansio::error::{OpenError, StopReason};
use linksocks_sansio::http::forwarded::TrustedProxies;
use linksocks_sansio::socks5::TargetAddr;
use linksocks_sansio::token::{AddedToken, NewToken, TokenError};
use linksocks_sansio::{ClientConfig, ClientEngine, Engine, ServerConfig, ServerEngine, Stats, Token};
use thiserror::Error;

use crate::datagrams;
use crate::front::{self, Front};
use crate::observer::{self, Observer, Reporter};
use crate::owner::{FrontDoor, Owner};
use crate::pipe;
use crate::pumps::Inbox;
use crate::request::{Request, Requests};
use crate::runtime::Runtime;
use crate::tap::{Tapped, Tapping};
use crate::transport::{Acceptor, Connector};

pub use crate::datagrams::{DatagramChannel, DatagramReceiver, DatagramSender};
pub use crate::observer::Events;
pub use crate::pipe::PipeStream;
pub use crate::tap::Tap;
#[cfg(feature = "tls")]
pub use crate::tls::{ClientTls, ServerTls, TlsError};

/// Why a client or server could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// A certificate can't be used, or none can be verified.
    #[cfg(feature = "tls")]
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// The address can't be listened on.
    #[error("failed to listen on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
}

/// A LinkSocks client.
#[derive(Debug)]
pub enum Client {}

impl Client {
    /// Prepares a client.
    #[must_use]
    pub fn builder(config: ClientConfig) -> ClientBuilder {
        let observed = observer::observe(config.listen.is_some());
        ClientBuilder {
            config,
            seed: None,
            #[cfg(feature = "tls")]
            tls: ClientTls::default(),
            tap: Tapping::default(),
            observed,
        }
    }
}

/// A client that is about to be started.
#[derive(Debug)]
pub struct ClientBuilder {
    config: ClientConfig,
    seed: Option<[u8; 32]>,
    #[cfg(feature = "tls")]
    tls: ClientTls,
    tap: Tapping,
    observed: (Reporter, Observer),
}

impl ClientBuilder {
    /// Replaces the seed of the engine's random numbers, which the system gives otherwise. Only for
    /// tests: all secrets of the engine follow from it.
    #[must_use]
    pub fn seed(mut self, seed: [u8; 32]) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Whom to trust if the server's URL, or a redirect, asks for TLS. Default: every certificate
    /// authority that the system trusts.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = tls;
        self
    }

    /// Shows all that goes into the engine and comes out of it.
    #[must_use]
    pub fn tap(mut self, tap: impl Tap) -> Self {
        self.tap = Tapping(Some(Box::new(tap)));
        self
    }

    /// What will happen, from the start on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.observed.1.events()
    }

    /// Starts the client. It is not connected yet: see [`ClientHandle::ready`].
    ///
    /// # Errors
    /// [`StartError::Random`]; [`StartError::Tls`] for a `wss` URL, if no certificate can be verified.
    #[expect(clippy::unused_async, reason = "the same call as that of a server, which binds here")]
    pub async fn start<R: Runtime>(self, runtime: R) -> Result<ClientHandle, StartError> {
        let seed = seed(self.seed)?;
        #[cfg(feature = "tls")]
        if self.config.server.is_secure() {
            self.tls.prepare()?;
        }
        #[cfg(feature = "tls")]
        let connector = self.tls.into();
        #[cfg(not(feature = "tls"))]
        let connector = Connector::default();
        let config = self.config;
        let engine = Tapped::new(runtime.now(), self.tap, |now| ClientEngine::new(config, seed, now));
        let (requests, inbox) = (Requests::new(), Inbox::new());
        let engine = EngineHandle::start(runtime, engine, self.observed, None, connector, requests, inbox);
        Ok(ClientHandle { engine })
    }
}

/// A running client. Dropping it ends the client at once.
#[derive(Debug)]
pub struct ClientHandle {
    engine: EngineHandle,
}

impl ClientHandle {
    /// Completes when the first link is usable and, if the client offers SOCKS, its port is open.
    ///
    /// # Errors
    /// The reason why the client has stopped instead.
    pub async fn ready(&self) -> Result<(), StopReason> {
        self.engine.observer.ready().await
    }

    /// Where the client offers SOCKS, once the port is open.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.engine.observer.listening()
    }

    /// Opens a channel to `target`, without SOCKS. Dropping the future gives up.
    ///
    /// # Errors
    /// [`OpenError`]. What can't succeed any more, such as a login with a wrong token, is found in
    /// [`OpenError::Stopped`].
    pub async fn open(&self, target: TargetAddr) -> Result<PipeStream, OpenError> {
        let (ours, stream) = pipe::pipe(pipe::CAPACITY);
        let (answer, answered) = oneshot::channel();
        self.engine.requests.put(Request::Open { target, stream, answer });
        match answered.await {
            Ok(answer) => answer.map(|()| ours),
            Err(oneshot::Canceled) => Err(OpenError::Stopped(self.stopped().await)),
        }
    }

    /// Opens a UDP association, without SOCKS. Dropping the future gives up.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_udp(&self) -> Result<DatagramChannel, OpenError> {
        let (ours, datagrams) = datagrams::pipe();
        let (answer, answered) = oneshot::channel();
        self.engine.requests.put(Request::Associate { datagrams, answer });
        match answered.await {
            Ok(answer) => answer.map(|()| ours),
            Err(oneshot::Canceled) => Err(OpenError::Stopped(self.stopped().await)),
        }
    }

    /// Numbers of now; zeros if the client has stopped.
    pub async fn stats(&self) -> Stats {
        self.engine.stats().await
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.engine.observer.events()
    }

    /// Accepts nothing new, lets channels finish for up to `drain`, then stops.
    pub async fn shutdown(&self, drain: Duration) -> StopReason {
        self.engine.shutdown(drain).await
    }

    /// Completes when the client has stopped and everything is released.
    pub async fn stopped(&self) -> StopReason {
        self.engine.observer.stopped().await
    }
}

/// A LinkSocks server.
#[derive(Debug)]
pub enum Server {}

impl Server {
    /// Prepares a server.
    #[must_use]
    pub fn builder(config: ServerConfig) -> ServerBuilder {
        ServerBuilder {
            config,
            address: DEFAULT_ADDRESS,
            seed: None,
            acceptor: Acceptor::default(),
            trusted: TrustedProxies::default(),
            tap: Tapping::default(),
            observed: observer::observe(false),
        }
    }
}

/// Where a server listens unless told otherwise: all of IPv4, as the real one.
const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 8765);

/// A server that is about to be started.
#[derive(Debug)]
pub struct ServerBuilder {
    config: ServerConfig,
    address: SocketAddr,
    seed: Option<[u8; 32]>,
    acceptor: Acceptor,
    trusted: TrustedProxies,
    tap: Tapping,
    observed: (Reporter, Observer),
}

impl ServerBuilder {
    /// Where to listen; port 0 lets the system choose. Default `0.0.0.0:8765`.
    #[must_use]
    pub fn bind(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// See [`ClientBuilder::seed`].
    #[must_use]
    pub fn seed(mut self, seed: [u8; 32]) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Speaks TLS (`wss`, `https`) and nothing else, with this certificate. Default: no TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.acceptor = tls.into();
        self
    }

    /// Reverse proxies that may say in headers whose requests they pass on: see
    /// [`forwarded`](linksocks_sansio::http::forwarded). Default: none, the client is the TCP peer.
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.trusted = proxies;
        self
    }

    /// See [`ClientBuilder::tap`].
    #[must_use]
    pub fn tap(mut self, tap: impl Tap) -> Self {
        self.tap = Tapping(Some(Box::new(tap)));
        self
    }

    /// What will happen, from the start on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.observed.1.events()
    }

    /// Binds and starts the server.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start<R: Runtime>(self, runtime: R) -> Result<ServerHandle, StartError> {
        let seed = seed(self.seed)?;
        let address = self.address;
        let bound = runtime.listen(address).await;
        let (listener, local) = bound.map_err(|error| StartError::Listen { address, error })?;
        let config = self.config;
        let engine = Tapped::new(runtime.now(), self.tap, |now| ServerEngine::new(config, seed, now));
        let (front_door, stop) = oneshot::channel();
        let (requests, inbox) = (Requests::new(), Inbox::new());
        let (acceptor, connector) = (self.acceptor, Connector::default());
        let front = Front::new(acceptor, self.trusted, requests.0.clone());
        let front = front::serve(runtime.clone(), listener, front, stop, inbox.0.clone());
        runtime.spawn(front);
        let observed = self.observed;
        let engine =
            EngineHandle::start(runtime, engine, observed, Some(front_door), connector, requests, inbox);
        Ok(ServerHandle { engine, local })
    }
}

/// A running server. Dropping it ends the server at once.
#[derive(Debug)]
pub struct ServerHandle {
    engine: EngineHandle,
    local: SocketAddr,
}

impl ServerHandle {
    /// Where the server listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Lets clients in by another token.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn add_token(&self, token: NewToken) -> Result<AddedToken, TokenError> {
        let (answer, answered) = oneshot::channel();
        self.engine.requests.put(Request::AddToken { token, answer });
        answered.await.unwrap_or(Err(TokenError::Stopped))
    }

    /// Removes a token, and with a reverse token its connector tokens. Their clients are cut off.
    ///
    /// # Errors
    /// [`TokenError::Unknown`] or [`TokenError::Stopped`].
    pub async fn remove_token(&self, token: Token) -> Result<(), TokenError> {
        let (answer, answered) = oneshot::channel();
        self.engine.requests.put(Request::RemoveToken { token, answer });
        answered.await.unwrap_or(Err(TokenError::Stopped)).map(drop)
    }

    /// Numbers of now; zeros if the server has stopped.
    pub async fn stats(&self) -> Stats {
        self.engine.stats().await
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.engine.observer.events()
    }

    /// Closes the HTTP port, lets channels finish for up to `drain`, then stops.
    pub async fn shutdown(&self, drain: Duration) -> StopReason {
        self.engine.shutdown(drain).await
    }

    /// Completes when the server has stopped and everything is released.
    pub async fn stopped(&self) -> StopReason {
        self.engine.observer.stopped().await
    }
}

/// What both handles share.
#[derive(Debug)]
struct EngineHandle {
    requests: Requests,
    observer: Observer,
}

impl EngineHandle {
    fn start<R: Runtime, E: Engine + Send + 'static>(
        runtime: R,
        engine: Tapped<E>,
        (reporter, observer): (Reporter, Observer),
        front_door: Option<FrontDoor>,
        connector: Connector,
        requests: (Requests, futures_channel::mpsc::UnboundedReceiver<Request>),
        inbox: (Inbox, futures_channel::mpsc::UnboundedReceiver<linksocks_sansio::Input>),
    ) -> Self {
        let handle = Self { requests: requests.0.clone(), observer };
        runtime
            .clone()
            .spawn(Owner::new(runtime, engine, reporter, front_door, connector, inbox, requests).run());
        handle
    }

    async fn stats(&self) -> Stats {
        let (answer, answered) = oneshot::channel();
        self.requests.put(Request::Stats { answer });
        answered.await.unwrap_or_default()
    }

    async fn shutdown(&self, drain: Duration) -> StopReason {
        self.requests.put(Request::Shutdown { drain });
        self.observer.stopped().await
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        self.requests.put(Request::Shutdown { drain: Duration::ZERO });
    }
}

fn seed(given: Option<[u8; 32]>) -> Result<[u8; 32], getrandom::Error> {
    match given {
        Some(seed) => Ok(seed),
        None => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed)?;
            Ok(seed)
        }
    }
}
