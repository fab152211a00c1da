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
/// Owned and clonable, so that a recording of all inputs with their times reproduces a run.
#[derive(Clone, Debug)]
pub enum Input {
    /// The instant of the last [`Output::Timeout`](super::Output::Timeout) has come (or any other wake-up).
    Timeout,
    /// A call of the embedder.
    Command(Command),

    /// A peer asks the HTTP front door for a WebSocket. Answered by [`Action::AcceptLink`](super::Action::AcceptLink) or
    /// [`Action::RejectLink`](super::Action::RejectLink).
    LinkOffered {
        /// Returned with the answer.
        ticket: Ticket,
        /// The parts of the HTTP request that matter.
        request: UpgradeRequest,
    },
    /// Somebody asks the HTTP front door for something else than a WebSocket. Answered by
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
    /// is released; the id is dead.
    LinkFailed {
        /// The link.
        link: LinkId,
        /// Why.
        error: LinkFailure,
    },
    /// One binary WebSocket message. Uses [`receive_cost`](super::receive_cost) of the link's receive credit.
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
        /// Sum of the lengths of those messages, as given in [`Output::Transmit`](super::Output::Transmit).
        bytes: usize,
    },
    /// A pong came in answer to [`Action::Ping`](super::Action::Ping).
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
    /// The answer to an [`Action::Resolve`](super::Action::Resolve).
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
    /// Open a channel to `target` without SOCKS. Answered by [`Action::AdoptSocket`](super::Action::AdoptSocket) once the
    /// other side has connected, or by [`Action::Refuse`](super::Action::Refuse).
    Open {
        /// Returned with the answer.
        ticket: Ticket,
        /// Where the dial side shall connect to.
        target: TargetAddr,
    },
    /// Open a UDP association without SOCKS. Answered by [`Action::AdoptDatagrams`](super::Action::AdoptDatagrams) once the other
    /// side has agreed, or by [`Action::Refuse`](super::Action::Refuse).
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
