//! What the tests of pumps share: ids, a connected pair, an inbox with patience.

pub mod udp;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use driver_core::pumps::Inbox;
use driver_core::runtime::Runtime;
use futures_channel::mpsc::UnboundedReceiver;
use futures_util::StreamExt;
use linksocks_sansio::io::UpgradeResponse;
use linksocks_sansio::{
    Action, ClientConfig, ClientEngine, Engine, Input, LinkId, ListenerId, Output, ServerUrl, SocketId, Token,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Longer than anything takes; only a failing test waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Port 0 of the loopback interface.
pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// An address where nobody listens. As long as the socket is there the system gives the port to nobody,
/// but who asks for it can listen there.
pub fn reserved() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(ANY_PORT).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Sends back to everyone what they send.
pub async fn serve_echo(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let (mut reading, mut writing) = stream.split();
            // Who cuts the connection wants no echo.
            if tokio::io::copy(&mut reading, &mut writing).await.is_ok() {
                let _ = writing.shutdown().await;
            }
        });
    }
}

/// Ids are only given out by engines.
pub struct Ids {
    pub socket: SocketId,
    pub link: LinkId,
    pub listener: ListenerId,
}

impl Ids {
    /// Gets an engine to connect, to open a link and to listen.
    pub fn new() -> Self {
        let mut config =
            ClientConfig::new(ServerUrl::parse("ws://127.0.0.1:1").unwrap(), Token::new("x").unwrap());
        config.listen = Some(ANY_PORT);
        config.listen_early = true;
        let now = Instant::now();
        let mut engine = ClientEngine::new(config, [0; 32], now);
        let (mut socket, mut link, mut listener) = (None, None, None);
        while socket.is_none() || link.is_none() || listener.is_none() {
            match engine.poll_output() {
                Output::Action(Action::Connect { socket: id, .. }) => {
                    socket = Some(id);
                    engine.handle_input(now, Input::SocketOpened { socket: id });
                }
                Output::Action(Action::OpenLink { link: id, .. }) => link = Some(id),
                Output::Action(Action::Listen { listener: id, .. }) => listener = Some(id),
                Output::Timeout(_) => panic!("the engine did not do what it should"),
                _ => {}
            }
        }
        Self { socket: socket.unwrap(), link: link.unwrap(), listener: listener.unwrap() }
    }
}

/// Both ends of a loopback connection: the pump's and the application's.
pub async fn connected<R: Runtime>(runtime: &R) -> (R::Stream, TcpStream) {
    let (listener, address) = runtime.listen(ANY_PORT).await.unwrap();
    let (application, accepted) = tokio::join!(TcpStream::connect(address), runtime.accept(&listener));
    (accepted.unwrap().stream, application.unwrap())
}

/// What a pump reports.
pub struct Reports(UnboundedReceiver<Input>);

impl Reports {
    pub fn new() -> (Inbox, Self) {
        let (inbox, inputs) = Inbox::new();
        (inbox, Self(inputs))
    }

    /// The next report; `None` if the pump has ended.
    pub async fn next(&mut self) -> Option<Input> {
        patient(self.0.next()).await
    }

    /// The next report, as what `pick` makes of it.
    pub async fn expect<T>(&mut self, what: &str, pick: impl FnOnce(Input) -> Option<T>) -> T {
        let input = self.next().await.unwrap_or_else(|| panic!("the pump ended without {what}"));
        let text = format!("{input:?}");
        pick(input).unwrap_or_else(|| panic!("{text} instead of {what}"))
    }

    /// Reads from a socket until `length` bytes are there.
    pub async fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let read = self.expect("data", |input| match input {
                Input::SocketRead { buf, .. } => Some(buf.payload().to_vec()),
                _ => None,
            });
            bytes.extend(read.await);
        }
        bytes
    }

    /// Asserts that nothing has been reported.
    pub fn assert_silent(&mut self) {
        if let Ok(input) = self.0.try_recv() {
            panic!("unexpected {input:?}");
        }
    }

    pub async fn closed(&mut self) {
        self.expect("SocketClosed", |input| matches!(input, Input::SocketClosed { .. }).then_some(())).await;
    }

    pub async fn opened(&mut self) -> UpgradeResponse {
        let response = |input| match input {
            Input::LinkOpened { response, .. } => Some(response),
            _ => None,
        };
        self.expect("LinkOpened", response).await
    }
}

/// Fails instead of waiting for ever.
pub async fn patient<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("waited too long")
}

/// Bytes that show when one is missing or out of place.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8).collect()
}
