//! What an engine tells its driver.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{CloseFrame, HttpResponse, LinkRequest};
use crate::config::Limits;
use crate::error::StopReason;
use crate::event::Event;
use crate::ids::{LinkId, ListenerId, QueryId, SocketId, Ticket};
use crate::token::{AddedToken, TokenError};

/// Everything that can come out of an engine.
///
/// Match all of it: a driver that forgets one should not compile. Here time is an input like any other,
/// and five minutes pass at once:
///
/// ```
/// use std::time::{Duration, Instant};
/// use linksocks_sansio::config::BackoffConfig;
/// use linksocks_sansio::error::SocketError;
/// # use linksocks_sansio::{
/// #     Action, ClientConfig, ClientEngine, Engine, Input, Output, ServerUrl, Token,
/// # };
///
/// # let server = ServerUrl::parse("ws://192.0.2.1")?;
/// let mut config = ClientConfig::new(server, Token::new("secret")?);
/// config.backoff = BackoffConfig::fixed(Duration::from_secs(100));
/// let start = Instant::now();
/// let mut client = ClientEngine::new(config, [7; 32], start);
///
/// let (mut now, mut attempts) = (start, Vec::new());
/// while attempts.len() < 4 {
///     match client.poll_output() {
///         Output::Action(Action::Connect { socket, .. }) => {
///             attempts.push((now - start).as_secs());
///             let error = SocketError::Refused;
///             client.handle_input(now, Input::SocketFailed { socket, error });
///         }
///         Output::Timeout(deadline) => {
///             now = deadline.expect("a client never gives up");
///             client.handle_input(now, Input::Timeout);
///         }
///         _ => {}
///     }
/// }
/// assert_eq!(attempts, [0, 100, 200, 300]);
/// # Ok::<(), linksocks_sansio::ConfigError>(())
/// ```
#[derive(Clone, Debug, Hash)]
pub enum Output {
    /// Send one binary WebSocket message, after all earlier ones of this link. Answered by
    /// [`Input::LinkWritten`](super::Input::LinkWritten).
    Transmit {
        /// The link.
        link: LinkId,
        /// The whole message.
        message: Bytes,
    },
    /// Write to a socket, after all earlier writes. Answered by
    /// [`Input::SocketWritten`](super::Input::SocketWritten).
    Write {
        /// The socket.
        socket: SocketId,
        /// The bytes; never empty.
        data: Bytes,
    },
    /// Permission to read from a socket.
    Read {
        /// The socket.
        socket: SocketId,
        /// The permission.
        credit: ReadCredit,
    },
    /// Takes permission to read from a socket back: the driver forgets what is left of it, and tells how much
    /// that was with [`Input::Revoked`](super::Input::Revoked). Permissions that come later count anew. Not
    /// answered if the socket has ended meanwhile.
    Revoke {
        /// The socket.
        socket: SocketId,
    },
    /// Permission to receive messages from a link. A message may be received while any credit is
    /// left, even if it is longer; the debt is taken from the next grant. Without credit the driver leaves
    /// the socket alone, so that the kernel holds the peer back.
    ///
    /// Until the peer has authenticated, grants are for messages of at most
    /// [`Limits::MAX_UNAUTHENTICATED_MESSAGE`].
    Receive {
        /// The link.
        link: LinkId,
        /// How many more bytes.
        bytes: usize,
    },
    /// Permission to accept connections.
    Accept {
        /// The listener.
        listener: ListenerId,
        /// How many more.
        count: usize,
    },
    /// Permission to receive datagrams from a socket.
    ReceiveDatagrams {
        /// The socket.
        socket: SocketId,
        /// How many more.
        count: usize,
    },
    /// Send one datagram, after all earlier ones of this socket. What the kernel refuses is lost. Answered
    /// by [`Input::DatagramsSent`](super::Input::DatagramsSent).
    SendDatagram {
        /// The socket.
        socket: SocketId,
        /// Where to. To an embedder: of no meaning.
        to: SocketAddr,
        /// Its payload; may be empty. To an embedder: with a SOCKS header (RFC 1928 section 7).
        payload: Bytes,
    },
    /// A request to the driver.
    Action(Action),
    /// Information for people and metrics. A driver may ignore every event, and must decide nothing by one.
    Event(Event),
    /// Drained. Call again after the next input; give [`Input::Timeout`](super::Input::Timeout) at this instant if none
    /// comes before. The instant replaces all earlier ones; `None`: there is nothing to wake up for.
    Timeout(Option<Instant>),
}

/// A request to the driver, which does just that and decides nothing: which address is tried, and when,
/// what follows a redirect, a loss or a timeout, comes from the engine.
///
/// ```
/// # use std::time::{Duration, Instant};
/// # use linksocks_sansio::{
/// #     Action, ClientConfig, ClientEngine, Engine, Input, Output, ServerUrl, Token,
/// # };
/// # let config = ClientConfig::new(ServerUrl::parse("ws://server.example")?, Token::new("secret")?);
/// # let now = Instant::now();
/// # let mut client = ClientEngine::new(config, [7; 32], now);
/// # let next_action = |client: &mut ClientEngine| loop {
/// #     match client.poll_output() {
/// #         Output::Action(action) => break Some(action),
/// #         Output::Timeout(_) => break None,
/// #         _ => {}
/// #     }
/// # };
/// let action = next_action(&mut client);
/// let Some(Action::Resolve { query, host }) = action else { panic!("{action:?}") };
/// assert_eq!(host, "server.example");
///
/// // The resolver's answer, as it came.
/// let result = Ok(["2001:db8::1".parse()?, "192.0.2.1".parse()?].into_iter().collect());
/// client.handle_input(now, Input::Resolved { query, result });
/// let action = next_action(&mut client);
/// let Some(Action::Connect { address, .. }) = action else { panic!("{action:?}") };
/// assert_eq!(address, "[2001:db8::1]:80".parse()?);
/// assert!(next_action(&mut client).is_none());
///
/// // It is silent: time for the other one, beside it.
/// client.handle_input(now + Duration::from_millis(250), Input::Timeout);
/// let action = next_action(&mut client);
/// assert!(matches!(action, Some(Action::Connect { address, .. }) if address.is_ipv4()), "{action:?}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Hash)]
pub enum Action {
    /// Look up the addresses of a name. Answered by [`Input::Resolved`](super::Input::Resolved).
    Resolve {
        /// The lookup.
        query: QueryId,
        /// A host name.
        host: String,
    },
    /// Open a TCP connection. Answered by [`Input::SocketOpened`](super::Input::SocketOpened) or [`Input::SocketFailed`](super::Input::SocketFailed).
    Connect {
        /// The socket.
        socket: SocketId,
        /// Where to.
        address: SocketAddr,
        /// Permission to read from the start.
        read: ReadCredit,
    },
    /// Make a WebSocket client of an opened socket, which ceases to exist as a socket (its id is
    /// dead), after its last write: TLS if the request is [`secure`](LinkRequest::secure), then the upgrade.
    /// Answered by [`Input::LinkOpened`](super::Input::LinkOpened) or [`Input::LinkFailed`](super::Input::LinkFailed).
    OpenLink {
        /// The link.
        link: LinkId,
        /// The connection to the server.
        socket: SocketId,
        /// The upgrade request to send.
        request: LinkRequest,
    },
    /// Accept an offered link: answer 101. Followed by [`Input::LinkOpened`](super::Input::LinkOpened) or
    /// [`Input::LinkFailed`](super::Input::LinkFailed).
    AcceptLink {
        /// The offer.
        ticket: Ticket,
        /// The link.
        link: LinkId,
        /// The value of the response header `LinkSocks-Extensions`, if one is to be sent.
        extensions: Option<String>,
    },
    /// Refuse an offered link with an HTTP status.
    RejectLink {
        /// The offer.
        ticket: Ticket,
        /// The HTTP status code.
        status: u16,
        /// The text of the body.
        reason: &'static str,
    },
    /// Answer a request to the HTTP front door.
    HttpResponse {
        /// The request.
        ticket: Ticket,
        /// The answer.
        response: HttpResponse,
    },
    /// Send a WebSocket ping with an empty payload.
    Ping {
        /// The link.
        link: LinkId,
    },
    /// Send what has been transmitted, then a close frame, wait for the peer's close up to
    /// `linger`, release the transport. Answered by [`Input::LinkClosed`](super::Input::LinkClosed). If the
    /// WebSocket is not up yet, the attempt is given up at once, with the same answer.
    CloseLink {
        /// The link.
        link: LinkId,
        /// Close code and reason (RFC 6455 section 7.4), or `None` to drop the transport at once.
        close: Option<CloseFrame>,
        /// The longest time for all of it.
        linger: Duration,
    },
    /// Take an accepted connection, or the in-memory stream of [`Command::Open`](super::Command::Open), as a socket.
    AdoptSocket {
        /// The offer.
        ticket: Ticket,
        /// The socket.
        socket: SocketId,
        /// Permission to read.
        read: ReadCredit,
    },
    /// Take the in-memory datagram socket of [`Command::Associate`](super::Command::Associate) as a socket.
    AdoptDatagrams {
        /// The offer.
        ticket: Ticket,
        /// The socket.
        socket: SocketId,
    },
    /// Bind a datagram socket. Answered by [`Input::SocketBound`](super::Input::SocketBound) or [`Input::SocketFailed`](super::Input::SocketFailed).
    Bind {
        /// The socket.
        socket: SocketId,
        /// Where; port 0 lets the system choose.
        address: SocketAddr,
    },
    /// Drop an accepted connection, or fail [`Command::Open`](super::Command::Open) or [`Command::Associate`](super::Command::Associate).
    Refuse {
        /// The offer.
        ticket: Ticket,
        /// Why.
        error: crate::error::OpenError,
    },
    /// The answer to [`Command::AddToken`](super::Command::AddToken) and [`Command::RemoveToken`](super::Command::RemoveToken).
    AnswerToken {
        /// The command.
        ticket: Ticket,
        /// The token that was added or removed, or why not.
        result: Result<AddedToken, TokenError>,
    },
    /// Bind a listener. Answered by [`Input::ListenerOpened`](super::Input::ListenerOpened) or [`Input::ListenerFailed`](super::Input::ListenerFailed).
    Listen {
        /// The listener.
        listener: ListenerId,
        /// Where; port 0 lets the system choose.
        address: SocketAddr,
    },
    /// Close a listener; its id is dead. Connections that it has offered stay valid.
    Unlisten {
        /// The listener.
        listener: ListenerId,
    },
    /// Shut down the write half after the last write; keep reading.
    ShutdownWrite {
        /// The socket.
        socket: SocketId,
    },
    /// After the last write shut down the write half at once; then read and discard until EOF, an
    /// error or `linger`; then release the descriptor. Answered by [`Input::SocketClosed`](super::Input::SocketClosed).
    ///
    /// A plain close with unread bytes would make the kernel send RST, which destroys what the
    /// application has not read yet. If the last writes are not done after `linger`, the descriptor is
    /// released with RST. A socket that is not connected yet is given up, with the same answer. A datagram
    /// socket is released after its last datagram.
    Close {
        /// The socket.
        socket: SocketId,
        /// The longest time to read and discard.
        linger: Duration,
    },
    /// Drop unwritten bytes and release the descriptor with RST (zero linger), so that the
    /// application can't take a truncated stream for a whole one. Answered by
    /// [`Input::SocketClosed`](super::Input::SocketClosed). A datagram socket is just released.
    Reset {
        /// The socket.
        socket: SocketId,
    },
    /// The engine has ended: release everything and stop feeding it. The last output of all but
    /// [`Output::Timeout`].
    Stop {
        /// Why.
        reason: StopReason,
    },
}

/// What a received message of `length` bytes takes from the credit of [`Output::Receive`], and what
/// it is charged while it waits: its length plus an overhead, so that even empty messages cost.
///
/// ```
/// use linksocks_sansio::io::receive_cost;
///
/// let mut credit: i64 = 4096; // of Output::Receive
/// for length in [1000, 5000] {
///     assert!(credit > 0); // else the link is not read
///     credit -= receive_cost(length) as i64;
/// }
/// credit += 2000; // the next Output::Receive
/// assert!(credit < 0); // goes on after another one
/// ```
#[must_use]
pub const fn receive_cost(length: usize) -> usize {
    length + Limits::MESSAGE_OVERHEAD
}

/// Permission to read from a socket; adds to what is left of earlier permissions.
///
/// ```
/// use linksocks_sansio::io::ReadCredit;
///
/// // What a driver keeps for each socket. It begins with that of Connect or AdoptSocket.
/// let mut credit = ReadCredit { bytes: 40_000, chunk: 16_384 };
/// // No read is larger than that:
/// let next_read = |credit: &ReadCredit| credit.bytes.min(credit.chunk);
/// for expected in [16_384, 16_384, 7232, 0] {
///     let length = next_read(&credit); // none at 0: the kernel holds the other end back
///     assert_eq!(length, expected);
///     credit.bytes -= length; // so much has come; now Input::SocketRead
/// }
/// // Output::Read
/// let more = ReadCredit { bytes: 65_536, chunk: 32_768 };
/// credit = ReadCredit { bytes: credit.bytes + more.bytes, chunk: more.chunk };
/// assert_eq!(next_read(&credit), 32_768);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ReadCredit {
    /// How many more bytes may be read.
    pub bytes: usize,
    /// The most that one read may take, from now on. It becomes a message, or a part of one.
    pub chunk: usize,
}
