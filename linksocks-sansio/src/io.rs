//! The whole contract between an engine and its driver.
//!
//! A driver feeds [`Input`]s with [`Engine::handle_input`] and then carries out what
//! [`Engine::poll_output`] returns until it says [`Output::Timeout`]. [`Input`], [`Output`] and
//! [`Action`] are exhaustive enums: a driver that misses an effect does not compile.
//!
//! # Rules
//!
//! 1. Same config, seed and inputs give the same outputs, byte for byte.
//! 2. Any number of inputs may come before a drain. Every input first fires the timers that are
//!    due at its `now`; a `now` that goes back is clamped.
//! 3. [`Output::Timeout`] means drained. Handling [`Input::Timeout`] at the returned instant always
//!    makes progress.
//! 4. No input panics, hangs or grows memory past its budget.
//! 5. Stale ids are ignored, because closes race with IO.
//! 6. Outputs for one link or one socket come in order.
//!
//! # Sequences
//!
//! What follows what; `→` is an output, `←` an input.
//!
//! - **A client's link:** → [`Action::Resolve`] if the server has a name, ← [`Input::Resolved`];
//!   → [`Action::Connect`], ← [`Input::SocketOpened`] (or [`Input::SocketFailed`]); through a proxy:
//!   → [`Output::Write`] and [`Output::Read`], ← [`Input::SocketRead`], by turns;
//!   → [`Action::OpenLink`] turns that socket into a WebSocket, ← [`Input::LinkOpened`] (or
//!   [`Input::LinkFailed`]). If that is a [`LinkFailure::Redirect`], all of it again, with new ids.
//! - **A server's link:** ← [`Input::LinkOffered`]; → [`Action::AcceptLink`] (or
//!   [`Action::RejectLink`]), ← [`Input::LinkOpened`] (or [`Input::LinkFailed`]).
//! - **Any other HTTP request to a server:** ← [`Input::HttpRequest`]; → [`Action::HttpResponse`].
//! - **On a link:** → [`Output::Receive`], ← [`Input::LinkReceived`]; → [`Output::Transmit`],
//!   ← [`Input::LinkWritten`]; → [`Action::Ping`], ← [`Input::LinkPong`]; at last
//!   → [`Action::CloseLink`] or the peer's doing, ← [`Input::LinkClosed`].
//! - **A SOCKS connection:** → [`Action::Listen`], ← [`Input::ListenerOpened`]; → [`Output::Accept`],
//!   ← [`Input::SocketAccepted`]; → [`Action::AdoptSocket`] (or [`Action::Refuse`]). It is the same
//!   for an application that speaks HTTP.
//! - **A channel without SOCKS:** ← [`Command::Open`]; → [`Action::AdoptSocket`] (or
//!   [`Action::Refuse`]), from then on it is a socket whose other end is the embedder.
//! - **A dial:** → [`Action::Resolve`], ← [`Input::Resolved`]; → [`Action::Connect`],
//!   ← [`Input::SocketOpened`] or [`Input::SocketFailed`]; a proxy on the way is talked to as above.
//! - **On a socket:** → [`Output::Read`], ← [`Input::SocketRead`] …, ← [`Input::SocketEof`];
//!   → [`Output::Write`], ← [`Input::SocketWritten`]; → [`Action::ShutdownWrite`]; at last
//!   → [`Action::Close`] or [`Action::Reset`], ← [`Input::SocketClosed`]; or it breaks,
//!   ← [`Input::SocketFailed`].
//! - **Datagrams:** → [`Action::Bind`], ← [`Input::SocketBound`] (or [`Input::SocketFailed`]);
//!   → [`Output::ReceiveDatagrams`], ← [`Input::DatagramReceived`]; → [`Output::SendDatagram`],
//!   ← [`Input::DatagramsSent`]; at last → [`Action::Close`], ← [`Input::SocketClosed`].
//! - **An association without SOCKS:** ← [`Command::Associate`]; → [`Action::AdoptDatagrams`] (or
//!   [`Action::Refuse`]), from then on it is a datagram socket whose other end is the embedder, who
//!   ends it with ← [`Input::SocketEof`].
//! - **The end:** ← [`Command::Shutdown`]; → [`Action::Stop`], after which nothing follows.
//!
//! # Credit
//!
//! Nothing enters or leaves without permission, and all permission is counted in bytes (accepts in
//! connections, datagrams in datagrams). Each permission adds to what is left of the earlier ones:
//!
//! | permission | given by | used by | limits |
//! |---|---|---|---|
//! | [`Output::Read`] | engine | [`Input::SocketRead`] | bytes read from a socket |
//! | [`Output::Receive`] | engine | [`Input::LinkReceived`] | bytes of messages read from a link |
//! | [`Output::Accept`] | engine | [`Input::SocketAccepted`] | connections accepted |
//! | [`Output::ReceiveDatagrams`] | engine | [`Input::DatagramReceived`] | datagrams read from a socket |
//! | [`Input::DatagramsSent`] | driver | [`Output::SendDatagram`] | datagrams waiting in the driver for a socket |
//! | [`Input::SocketWritten`] | driver | [`Output::Write`] | bytes waiting in the driver for a socket |
//! | [`Input::LinkWritten`] | driver | [`Output::Transmit`] | bytes waiting in the driver for a link |

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use crate::config::Limits;
use crate::error::{LinkFailure, SocketError, StopReason};
use crate::event::Event;
use crate::header::RequestHeader;
use crate::ids::{ChannelId, LinkId, ListenerId, QueryId, SocketId, Ticket};
use crate::secret::Token;
use crate::socks5::TargetAddr;
use crate::stats::Stats;
use crate::token::{AddedToken, NewToken, TokenError};
use crate::wire::DATA_HEADER_LEN;

/// A complete LinkSocks peer without sockets, threads or clocks.
///
/// Implemented by [`ClientEngine`](crate::ClientEngine) and [`ServerEngine`](crate::ServerEngine).
pub trait Engine: sealed::Sealed {
    /// Applies one input at `now`. Infallible and bounded; may be called many times in a row.
    fn handle_input(&mut self, now: Instant, input: Input);

    /// Returns the next effect. [`Output::Timeout`] is only returned when nothing else is left.
    #[must_use]
    fn poll_output(&mut self) -> Output;

    /// A snapshot of counters and of the memory in use.
    fn stats(&self) -> Stats;
}

pub(crate) mod sealed {
    /// Only this crate has engines.
    #[expect(unnameable_types, reason = "that is what seals it")]
    pub trait Sealed {}
}

/// Everything that can reach an engine.
///
/// Owned and clonable, so that a recording of all inputs with their times reproduces a run.
#[derive(Clone, Debug)]
pub enum Input {
    /// The instant of the last [`Output::Timeout`] has come (or any other wake-up).
    Timeout,
    /// A call of the embedder.
    Command(Command),

    /// A peer asks the HTTP front door for a WebSocket. Answered by [`Action::AcceptLink`] or
    /// [`Action::RejectLink`].
    LinkOffered {
        /// Returned with the answer.
        ticket: Ticket,
        /// The parts of the HTTP request that matter.
        request: UpgradeRequest,
    },
    /// Somebody asks the HTTP front door for something else than a WebSocket. Answered by
    /// [`Action::HttpResponse`].
    HttpRequest {
        /// Returned with the answer.
        ticket: Ticket,
        /// The request.
        request: HttpRequest,
    },
    /// The WebSocket of an [`Action::OpenLink`] or [`Action::AcceptLink`] is up.
    LinkOpened {
        /// The link.
        link: LinkId,
        /// The parts of the HTTP response that matter (empty on the accepting side).
        response: UpgradeResponse,
    },
    /// [`Action::OpenLink`] or [`Action::AcceptLink`] did not lead to a WebSocket. Its transport
    /// is released; the id is dead.
    LinkFailed {
        /// The link.
        link: LinkId,
        /// Why.
        error: LinkFailure,
    },
    /// One binary WebSocket message. Uses [`receive_cost`] of the link's receive credit.
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
    /// Transmitted messages have been handed to the network. Returns credit.
    LinkWritten {
        /// The link.
        link: LinkId,
        /// Sum of the lengths of those messages, as given in [`Output::Transmit`].
        bytes: usize,
    },
    /// A pong came in answer to [`Action::Ping`].
    LinkPong {
        /// The link.
        link: LinkId,
    },
    /// The WebSocket is gone and its transport is released; the id is dead. The answer to
    /// [`Action::CloseLink`], or the news that the peer closed or the transport failed.
    LinkClosed {
        /// The link.
        link: LinkId,
        /// How it ended.
        cause: LinkClose,
    },

    /// A listener accepted a connection. Answered by [`Action::AdoptSocket`] or
    /// [`Action::Refuse`].
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
    /// The connection of an [`Action::Connect`] is established.
    SocketOpened {
        /// The socket.
        socket: SocketId,
    },
    /// The connection could not be made, or broke. The descriptor is released; the id is dead.
    SocketFailed {
        /// The socket.
        socket: SocketId,
        /// Why.
        error: SocketError,
    },
    /// Bytes from a socket. Uses as much of its read credit.
    SocketRead {
        /// The socket.
        socket: SocketId,
        /// The bytes, in memory that leaves room for a message header.
        buf: ReadBuf,
    },
    /// The other end has shut down its write half. Nothing more will be read.
    SocketEof {
        /// The socket.
        socket: SocketId,
    },
    /// Written bytes have been handed to the kernel. Returns credit.
    SocketWritten {
        /// The socket.
        socket: SocketId,
        /// How many bytes.
        bytes: usize,
    },
    /// The datagram socket of an [`Action::Bind`] is bound.
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
    /// The descriptor of an [`Action::Close`] or [`Action::Reset`] is released; the id is dead.
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
    /// The answer to an [`Action::Resolve`].
    Resolved {
        /// The lookup.
        query: QueryId,
        /// The addresses in the resolver's order, or why there are none.
        result: Result<SmallVec<[IpAddr; 4]>, SocketError>,
    },
}

/// A call of the embedder.
#[derive(Clone, Debug)]
pub enum Command {
    /// Open a channel to `target` without SOCKS. Answered by [`Action::AdoptSocket`] once the
    /// other side has connected, or by [`Action::Refuse`].
    Open {
        /// Returned with the answer.
        ticket: Ticket,
        /// Where the dial side shall connect to.
        target: TargetAddr,
    },
    /// Open a UDP association without SOCKS. Answered by [`Action::AdoptDatagrams`] once the other
    /// side has agreed, or by [`Action::Refuse`].
    Associate {
        /// Returned with the answer.
        ticket: Ticket,
    },
    /// Add a token to a server. Answered by [`Action::AnswerToken`].
    AddToken {
        /// Returned with the answer.
        ticket: Ticket,
        /// The token.
        token: NewToken,
    },
    /// Remove a token from a server, and with a reverse token its connector tokens. Their clients are
    /// cut off. Answered by [`Action::AnswerToken`].
    RemoveToken {
        /// Returned with the answer.
        ticket: Ticket,
        /// The token.
        token: Token,
    },
    /// Stop: accept nothing new, let channels finish for up to `drain`, then close all links.
    /// Ends with [`Action::Stop`]. Until channels are being closed, another one replaces `drain`.
    Shutdown {
        /// How long channels may go on.
        drain: Duration,
    },
}

/// Everything that can come out of an engine.
#[derive(Clone, Debug, Hash)]
pub enum Output {
    /// Send one binary WebSocket message.
    Transmit {
        /// The link.
        link: LinkId,
        /// The whole message.
        message: Bytes,
    },
    /// Write to a socket, after all earlier writes.
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
    /// Permission to receive messages from a link. A message may be received while any credit is
    /// left, even if it is longer; the debt is taken from the next grant.
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
    /// Send one datagram, after all earlier ones of this socket. What the kernel refuses is lost.
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
    /// Information for people and metrics. A driver may ignore every event.
    Event(Event),
    /// Drained. Call again after the next input; give [`Input::Timeout`] at this instant if none
    /// comes before.
    Timeout(Option<Instant>),
}

/// A request to the driver.
#[derive(Clone, Debug, Hash)]
pub enum Action {
    /// Look up the addresses of a name. Answered by [`Input::Resolved`].
    Resolve {
        /// The lookup.
        query: QueryId,
        /// A host name.
        host: String,
    },
    /// Open a TCP connection. Answered by [`Input::SocketOpened`] or [`Input::SocketFailed`].
    Connect {
        /// The socket.
        socket: SocketId,
        /// Where to.
        address: SocketAddr,
        /// Permission to read from the start.
        read: ReadCredit,
    },
    /// Make a WebSocket client of an opened socket, which ceases to exist as a socket (its id is
    /// dead). Answered by [`Input::LinkOpened`] or [`Input::LinkFailed`].
    OpenLink {
        /// The link.
        link: LinkId,
        /// The connection to the server.
        socket: SocketId,
        /// The upgrade request to send.
        request: LinkRequest,
    },
    /// Accept an offered link: answer 101. Followed by [`Input::LinkOpened`] or
    /// [`Input::LinkFailed`].
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
    /// `linger`, release the transport. Answered by [`Input::LinkClosed`].
    CloseLink {
        /// The link.
        link: LinkId,
        /// Close code and reason (RFC 6455 section 7.4), or `None` to drop the transport at once.
        close: Option<CloseFrame>,
        /// The longest time for all of it.
        linger: Duration,
    },
    /// Take an accepted connection, or the in-memory stream of [`Command::Open`], as a socket.
    AdoptSocket {
        /// The offer.
        ticket: Ticket,
        /// The socket.
        socket: SocketId,
        /// Permission to read.
        read: ReadCredit,
    },
    /// Take the in-memory datagram socket of [`Command::Associate`] as a socket.
    AdoptDatagrams {
        /// The offer.
        ticket: Ticket,
        /// The socket.
        socket: SocketId,
    },
    /// Bind a datagram socket. Answered by [`Input::SocketBound`] or [`Input::SocketFailed`].
    Bind {
        /// The socket.
        socket: SocketId,
        /// Where; port 0 lets the system choose.
        address: SocketAddr,
    },
    /// Drop an accepted connection, or fail [`Command::Open`] or [`Command::Associate`].
    Refuse {
        /// The offer.
        ticket: Ticket,
        /// Why.
        error: crate::error::OpenError,
    },
    /// The answer to [`Command::AddToken`] and [`Command::RemoveToken`].
    AnswerToken {
        /// The command.
        ticket: Ticket,
        /// The token that was added or removed, or why not.
        result: Result<AddedToken, TokenError>,
    },
    /// Bind a listener. Answered by [`Input::ListenerOpened`] or [`Input::ListenerFailed`].
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
    /// error or `linger`; then release the descriptor. Answered by [`Input::SocketClosed`].
    ///
    /// A plain close with unread bytes would make the kernel send RST, which destroys what the
    /// application has not read yet. A datagram socket is released after its last datagram.
    Close {
        /// The socket.
        socket: SocketId,
        /// The longest time to read and discard.
        linger: Duration,
    },
    /// Drop unwritten bytes and release the descriptor with RST (zero linger), so that the
    /// application can't take a truncated stream for a whole one. Answered by
    /// [`Input::SocketClosed`]. A datagram socket is just released.
    Reset {
        /// The socket.
        socket: SocketId,
    },
    /// The engine has ended: release everything and stop feeding it. Always the last action.
    Stop {
        /// Why.
        reason: StopReason,
    },
}

/// What a received message of `length` bytes takes from the credit of [`Output::Receive`], and what
/// it is charged while it waits: its length plus an overhead, so that even empty messages cost.
#[must_use]
pub const fn receive_cost(length: usize) -> usize {
    length + Limits::MESSAGE_OVERHEAD
}

/// Permission to read from a socket; adds to what is left of earlier permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ReadCredit {
    /// How many more bytes may be read.
    pub bytes: usize,
    /// The most that one read may take, from now on. It becomes a message, or a part of one.
    pub chunk: usize,
}

/// The most bytes of text that a close frame can carry: 125 less the code (RFC 6455 section 5.5).
pub const MAX_CLOSE_REASON: usize = 123;

/// A WebSocket close frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CloseFrame {
    /// Close code (RFC 6455 section 7.4).
    pub code: u16,
    /// UTF-8 text of at most [`MAX_CLOSE_REASON`] bytes.
    pub reason: String,
}

/// How a link ended, as far as the driver knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkClose {
    /// A close frame came from the peer.
    Peer(Option<CloseFrame>),
    /// The transport ended or failed without a close frame.
    Transport(SocketError),
    /// We closed it, as [`Action::CloseLink`] asked.
    Local,
}

/// A rule of the WebSocket layer that the peer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameViolation {
    /// A message over the size limit.
    TooLarge,
    /// A text message; LinkSocks messages are binary.
    Text,
    /// Anything else: bad opcode, mask, fragmentation, length.
    Framing,
}

/// The parts of an upgrade request that the server engine decides on.
///
/// `Debug` leaves the query out: it carries the token hash.
#[derive(Clone, PartialEq, Eq)]
pub struct UpgradeRequest {
    /// The path, still percent-encoded.
    pub path: String,
    /// The query without `?`, still percent-encoded; empty if there is none.
    pub query: String,
    /// The value of the header `LinkSocks-Extensions`.
    pub extensions: Option<String>,
    /// The TCP peer.
    pub peer: SocketAddr,
}

impl fmt::Debug for UpgradeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradeRequest")
            .field("path", &self.path)
            .field("extensions", &self.extensions)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// A request to the HTTP front door of a server that asks for no WebSocket.
///
/// `Debug` shows neither key nor path nor body: in all of them may be tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// Who asks.
    pub peer: SocketAddr,
    /// The method, in capitals as it was sent.
    pub method: String,
    /// The path without the query, still percent-encoded.
    pub path: String,
    /// The value of the header [`X-API-Key`](crate::http::admin::KEY_HEADER); `None` also if it can be
    /// no key, because it is too long or not UTF-8.
    pub api_key: Option<Token>,
    /// The whole body, at most [`MAX_BODY`](crate::http::admin::MAX_BODY) bytes. A driver may leave
    /// that of a request without a key away.
    pub body: Bytes,
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish_non_exhaustive()
    }
}

/// The answer to an [`HttpRequest`].
///
/// `Debug` leaves the body out: there may be tokens in it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HttpResponse {
    /// The HTTP status code.
    pub status: u16,
    /// The value of the header `Content-Type`.
    pub content_type: &'static str,
    /// The whole body.
    pub body: Bytes,
}

impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .field("content_type", &self.content_type)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

/// The parts of a 101 response that the client engine decides on.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct UpgradeResponse {
    /// The value of the header `LinkSocks-Extensions`.
    pub extensions: Option<String>,
}

/// The upgrade request that a client sends.
///
/// `Debug` leaves the query out: it carries the token hash.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LinkRequest {
    /// Whether the connection is to be secured by TLS first (`wss`).
    pub secure: bool,
    /// Whom a certificate must be for: a name, or an IP address without brackets.
    pub server_name: String,
    /// The value of the `Host` header: host and, unless it is the default, port.
    pub authority: String,
    /// Path and query.
    pub path_and_query: String,
    /// The value of the header `LinkSocks-Extensions`, if one is to be sent.
    pub extensions: Option<String>,
    /// More headers.
    pub headers: Vec<RequestHeader>,
}

impl fmt::Debug for LinkRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkRequest")
            .field("secure", &self.secure)
            .field("server_name", &self.server_name)
            .field("authority", &self.authority)
            .field("extensions", &self.extensions)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

/// Bytes read from a socket, in memory whose first [`ReadBuf::HEADROOM`] bytes are left free, so
/// that the header of the message can be filled in without moving the payload.
///
/// ```
/// use linksocks_sansio::ReadBuf;
/// let mut memory = ReadBuf::headroom(4096);
/// memory.extend_from_slice(b"hello"); // a driver reads from its socket here
/// let buf = ReadBuf::new(memory);
/// assert_eq!(buf.payload(), b"hello");
/// ```
#[derive(Clone)]
pub struct ReadBuf {
    memory: BytesMut,
}

impl ReadBuf {
    /// The length of the header of a TCP Data message.
    pub const HEADROOM: usize = DATA_HEADER_LEN;

    /// New memory that holds the headroom and has space for `capacity` bytes behind it.
    #[must_use]
    pub fn headroom(capacity: usize) -> BytesMut {
        let mut memory = BytesMut::with_capacity(Self::HEADROOM + capacity);
        memory.resize(Self::HEADROOM, 0);
        memory
    }

    /// Wraps memory that begins with [`Self::HEADROOM`] free bytes.
    ///
    /// # Panics
    /// If `memory` is shorter than the headroom: a bug of the driver.
    #[must_use]
    pub fn new(memory: BytesMut) -> Self {
        assert!(memory.len() >= Self::HEADROOM, "a ReadBuf begins with its headroom");
        Self { memory }
    }

    /// A copy of `payload` with headroom. For tests and simulations.
    #[must_use]
    pub fn copy_from(payload: &[u8]) -> Self {
        let mut memory = Self::headroom(payload.len());
        memory.extend_from_slice(payload);
        Self { memory }
    }

    /// The bytes that were read.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.memory[Self::HEADROOM..]
    }

    /// How many bytes were read.
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory.len() - Self::HEADROOM
    }

    /// Whether nothing was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory, headroom first.
    pub(crate) fn into_memory(self) -> BytesMut {
        self.memory
    }
}

impl fmt::Debug for ReadBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadBuf({} bytes)", self.len())
    }
}

/// Where a channel stands in logs: its link and its wire id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelRef {
    /// The link that carries it.
    pub link: LinkId,
    /// Its id on the wire.
    pub id: ChannelId,
}
