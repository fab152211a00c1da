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
    /// Drained. Call again after the next input; give [`Input::Timeout`](super::Input::Timeout) at this instant if none
    /// comes before.
    Timeout(Option<Instant>),
}

/// A request to the driver.
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
    /// dead). Answered by [`Input::LinkOpened`](super::Input::LinkOpened) or [`Input::LinkFailed`](super::Input::LinkFailed).
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
    /// `linger`, release the transport. Answered by [`Input::LinkClosed`](super::Input::LinkClosed).
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
    /// application has not read yet. A datagram socket is released after its last datagram.
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
