//! What a driver tells an engine.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{FrameViolation, HttpRequest, LinkClose, ReadBuf, UpgradeRequest, UpgradeResponse};
use crate::error::{LinkFailure, SocketError};
use crate::ids::{LinkId, ListenerId, QueryId, SocketId, Ticket};
use crate::secret::Token;
use crate::socks5::TargetAddr;
use crate::token::NewToken;

/// Everything that can reach an engine.
///
/// Owned and clonable, so that a recording of all inputs with their times reproduces a run. What comes
/// before and after each is listed in [`io`](super).
///
/// ```
/// # use std::time::Instant;
/// # use linksocks_sansio::{
/// #     Action, ClientConfig, ClientEngine, Engine, Input, Output, ReadBuf, ServerUrl, Ticket, Token,
/// # };
/// # let now = Instant::now();
/// # let mut config = ClientConfig::new(ServerUrl::parse("ws://192.0.2.1")?, Token::new("secret")?);
/// # (config.listen, config.listen_early) = (Some("127.0.0.1:9870".parse()?), true);
/// # let mut engine = ClientEngine::new(config, [7; 32], now);
/// # let drain = |engine: &mut ClientEngine| -> Vec<Output> {
/// #     std::iter::from_fn(|| Some(engine.poll_output()).filter(|o| !matches!(o, Output::Timeout(_)))).collect()
/// # };
/// # let listener = drain(&mut engine).into_iter().find_map(|output| match output {
/// #     Output::Action(Action::Listen { listener, .. }) => Some(listener),
/// #     _ => None,
/// # }).unwrap();
/// # let (local, peer) = ("127.0.0.1:9870".parse()?, "127.0.0.1:50000".parse()?);
/// // The port that Action::Listen asked for is open, and an application has connected to it.
/// engine.handle_input(now, Input::ListenerOpened { listener, local });
/// let ticket = Ticket(1);
/// engine.handle_input(now, Input::SocketAccepted { ticket, listener, local, peer });
/// let adopted = drain(&mut engine).into_iter().find_map(|output| match output {
///     Output::Action(Action::AdoptSocket { ticket: Ticket(1), socket, read }) => Some((socket, read)),
///     _ => None,
/// });
/// let (socket, read) = adopted.expect("neither refused nor forgotten");
///
/// // Within its credit, what the application sends is read: the greeting of SOCKS5.
/// let greeting = b"\x05\x01\x00";
/// assert!(greeting.len() <= read.bytes.min(read.chunk));
/// engine.handle_input(now, Input::SocketRead { socket, buf: ReadBuf::copy_from(greeting) });
/// let [Output::Write { data, .. }] = &drain(&mut engine)[..] else { panic!("an answer") };
/// assert_eq!(data, &b"\x05\x00"[..]);
///
/// // When the kernel has taken it:
/// engine.handle_input(now, Input::SocketWritten { socket, bytes: data.len() });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub enum Input {
    /// The instant of the last [`Output::Timeout`](super::Output::Timeout) has come. At any other time it does no harm.
    Timeout,
    /// A call of the embedder.
    Command(Command),

    /// A peer asks the HTTP front door of a server for a WebSocket, by a valid upgrade request (RFC 6455
    /// section 4.2.1) for a [link path](super::is_link_path). Answered by
    /// [`Action::AcceptLink`](super::Action::AcceptLink) or [`Action::RejectLink`](super::Action::RejectLink).
    LinkOffered {
        /// Returned with the answer.
        ticket: Ticket,
        /// The parts of the HTTP request that matter.
        request: UpgradeRequest,
    },
    /// Somebody asks the HTTP front door for another path. Answered by
    /// [`Action::HttpResponse`](super::Action::HttpResponse).
    HttpRequest {
        /// Returned with the answer.
        ticket: Ticket,
        /// The request.
        request: Box<HttpRequest>,
    },
    /// The WebSocket of an [`Action::OpenLink`](super::Action::OpenLink) or [`Action::AcceptLink`](super::Action::AcceptLink) is up.
    LinkOpened {
        /// The link.
        link: LinkId,
        /// The parts of the HTTP response that matter (empty on the accepting side).
        response: UpgradeResponse,
    },
    /// [`Action::OpenLink`](super::Action::OpenLink) or [`Action::AcceptLink`](super::Action::AcceptLink) did not lead to a WebSocket. Its transport
    /// is released; the id is dead. The driver follows no redirect and tries nothing again: the engine does.
    LinkFailed {
        /// The link.
        link: LinkId,
        /// Why.
        error: LinkFailure,
    },
    /// One binary WebSocket message, of at most [`Limits::MAX_MESSAGE`](crate::config::Limits::MAX_MESSAGE)
    /// bytes. Uses [`receive_cost`](super::receive_cost) of the link's receive credit.
    LinkReceived {
        /// The link.
        link: LinkId,
        /// The whole message.
        message: Bytes,
    },
    /// The peer broke a rule of the WebSocket layer. Nothing more can be received from it; the
    /// link still writes until the engine closes it.
    LinkInvalid {
        /// The link.
        link: LinkId,
        /// What was wrong.
        violation: FrameViolation,
    },
    /// Transmitted messages have been handed to the network, not just to a buffer of the WebSocket layer:
    /// how fast a link is, is measured by this. Returns credit.
    LinkWritten {
        /// The link.
        link: LinkId,
        /// Sum of the lengths of those messages, as given in [`Output::Transmit`](super::Output::Transmit).
        bytes: usize,
    },
    /// A pong came in answer to [`Action::Ping`](super::Action::Ping). Unasked pongs are dropped, and pings
    /// of the peer are answered, without the engine.
    LinkPong {
        /// The link.
        link: LinkId,
    },
    /// The WebSocket is gone and its transport is released; the id is dead. The answer to
    /// [`Action::CloseLink`](super::Action::CloseLink), or the news that the peer closed or the transport failed.
    LinkClosed {
        /// The link.
        link: LinkId,
        /// How it ended.
        cause: LinkClose,
    },

    /// A listener accepted a connection. Answered by [`Action::AdoptSocket`](super::Action::AdoptSocket) or
    /// [`Action::Refuse`](super::Action::Refuse).
    SocketAccepted {
        /// Returned with the answer.
        ticket: Ticket,
        /// The listener.
        listener: ListenerId,
        /// Our address of this connection.
        local: SocketAddr,
        /// The address of the application.
        peer: SocketAddr,
    },
    /// The connection of an [`Action::Connect`](super::Action::Connect) is established.
    SocketOpened {
        /// The socket.
        socket: SocketId,
    },
    /// The connection could not be made, or broke. The descriptor is released; the id is dead. What was
    /// read before, and what can still be read, is reported first.
    SocketFailed {
        /// The socket.
        socket: SocketId,
        /// Why.
        error: SocketError,
    },
    /// Bytes from a socket, at least one, at most [`ReadCredit::chunk`](super::ReadCredit::chunk). Uses as
    /// much of its read credit.
    SocketRead {
        /// The socket.
        socket: SocketId,
        /// The bytes, in memory that leaves room for a message header.
        buf: ReadBuf,
    },
    /// The answer to [`Output::Revoke`](super::Output::Revoke).
    Revoked {
        /// The socket.
        socket: SocketId,
        /// How many bytes it might still have read.
        bytes: usize,
    },
    /// The other end has shut down its write half. Nothing more will be read; writing goes on.
    SocketEof {
        /// The socket.
        socket: SocketId,
    },
    /// Written bytes have been handed to the kernel, perhaps a part of an
    /// [`Output::Write`](super::Output::Write) or several. Returns credit.
    SocketWritten {
        /// The socket.
        socket: SocketId,
        /// How many bytes.
        bytes: usize,
    },
    /// The datagram socket of an [`Action::Bind`](super::Action::Bind) is bound.
    SocketBound {
        /// The socket.
        socket: SocketId,
        /// Where it is bound (a port 0 of the request is filled in).
        local: SocketAddr,
    },
    /// One datagram. Uses one of the socket's receive credit.
    DatagramReceived {
        /// The socket.
        socket: SocketId,
        /// Who sent it. From an embedder: anything.
        from: SocketAddr,
        /// Its payload; may be empty. From an embedder: with a SOCKS header (RFC 1928 section 7).
        payload: Bytes,
    },
    /// Datagrams have been handed to the kernel, or could not be. Returns credit.
    DatagramsSent {
        /// The socket.
        socket: SocketId,
        /// How many.
        count: usize,
        /// How many of them the kernel refused to send.
        failed: usize,
    },
    /// The descriptor of an [`Action::Close`](super::Action::Close) or [`Action::Reset`](super::Action::Reset) is released; the id is dead.
    SocketClosed {
        /// The socket.
        socket: SocketId,
    },

    /// A listener is bound.
    ListenerOpened {
        /// The listener.
        listener: ListenerId,
        /// Where it really listens (a port 0 of the request is filled in).
        local: SocketAddr,
    },
    /// A listener could not be bound, or broke. The id is dead.
    ListenerFailed {
        /// The listener.
        listener: ListenerId,
        /// Why.
        error: SocketError,
    },
    /// The answer to an [`Action::Resolve`](super::Action::Resolve), however late: a lookup counts until then.
    Resolved {
        /// The lookup.
        query: QueryId,
        /// The addresses in the resolver's order, or why there are none.
        result: Result<SmallVec<[IpAddr; 4]>, SocketError>,
    },
}

/// A call of the embedder. All but [`Command::Shutdown`] have a ticket, which is answered exactly once.
///
/// ```
/// # use std::time::{Duration, Instant};
/// # use linksocks_sansio::{
/// #     Action, ClientConfig, ClientEngine, Command, Engine, Input, Output, ServerUrl, Ticket, Token,
/// # };
/// # use linksocks_sansio::error::{OpenError, StopReason};
/// # let now = Instant::now();
/// # let config = ClientConfig::new(ServerUrl::parse("ws://192.0.2.1")?, Token::new("secret")?);
/// # let mut client = ClientEngine::new(config, [7; 32], now);
/// // A stream to this target, as soon as there is a link. But then the program is to end.
/// let (ticket, target) = (Ticket(1), "example.com:80".parse()?);
/// client.handle_input(now, Input::Command(Command::Open { ticket, target }));
/// client.handle_input(now, Input::Command(Command::Shutdown { drain: Duration::ZERO }));
///
/// let mut refused = None;
/// let reason = loop {
///     match client.poll_output() {
///         Output::Action(Action::Refuse { ticket: Ticket(1), error }) => refused = Some(error),
///         Output::Action(Action::Reset { socket }) => {
///             client.handle_input(now, Input::SocketClosed { socket });
///         }
///         Output::Action(Action::Stop { reason }) => break reason,
///         Output::Timeout(_) => panic!("all that was open is closed"),
///         _ => {}
///     }
/// };
/// assert_eq!((refused, reason), (Some(OpenError::Shutdown), StopReason::Shutdown));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub enum Command {
    /// Open a channel to `target` without SOCKS, on a client with the role
    /// [`SocksSide`](crate::config::ClientRole::SocksSide); refused elsewhere. Answered by
    /// [`Action::AdoptSocket`](super::Action::AdoptSocket) once the other side has connected, or by [`Action::Refuse`](super::Action::Refuse).
    Open {
        /// Returned with the answer.
        ticket: Ticket,
        /// Where the dial side shall connect to.
        target: TargetAddr,
    },
    /// Open a UDP association without SOCKS, on a client with the role
    /// [`SocksSide`](crate::config::ClientRole::SocksSide); refused elsewhere. Answered by
    /// [`Action::AdoptDatagrams`](super::Action::AdoptDatagrams) once the other side has agreed, or by [`Action::Refuse`](super::Action::Refuse).
    Associate {
        /// Returned with the answer.
        ticket: Ticket,
    },
    /// Add a token to a server. Answered by [`Action::AnswerToken`](super::Action::AnswerToken).
    AddToken {
        /// Returned with the answer.
        ticket: Ticket,
        /// The token.
        token: NewToken,
    },
    /// Remove a token from a server, and with a reverse token its connector tokens. Their clients are
    /// cut off. Answered by [`Action::AnswerToken`](super::Action::AnswerToken).
    RemoveToken {
        /// Returned with the answer.
        ticket: Ticket,
        /// The token.
        token: Token,
    },
    /// Stop: accept nothing new, let channels finish for up to `drain`, then close all links.
    /// Ends with [`Action::Stop`](super::Action::Stop). Until channels are being closed, another one replaces `drain`.
    Shutdown {
        /// How long channels may go on.
        drain: Duration,
    },
}
