//! What reaches an owner from elsewhere than its pumps: things that need a ticket or an answer.

use std::net::SocketAddr;
use std::time::Duration;

use futures_channel::{mpsc, oneshot};
use linksocks_sansio::error::OpenError;
use linksocks_sansio::io::{HttpRequest, HttpResponse, UpgradeRequest};
use linksocks_sansio::socks5::TargetAddr;
use linksocks_sansio::token::{AddedToken, NewToken, TokenError};
use linksocks_sansio::{LinkId, ListenerId, Stats, Token};

use crate::datagrams::DatagramEnd;
use crate::pipe::PipeEnd;
use crate::pumps::Inbox;
use crate::pumps::link::LinkCommand;
use crate::pumps::stream::StreamCommand;

/// Something for the owner to do.
#[derive(Debug)]
pub(crate) enum Request {
    /// A listener has accepted a connection, whose task waits for its first command.
    Accepted {
        listener: ListenerId,
        local: SocketAddr,
        peer: SocketAddr,
        commands: mpsc::UnboundedSender<StreamCommand>,
    },
    /// Somebody asks the HTTP front door for a WebSocket.
    Offer { request: UpgradeRequest, answer: oneshot::Sender<OfferAnswer> },
    /// Somebody asks the HTTP front door for something else.
    Http { request: Box<HttpRequest>, answer: oneshot::Sender<HttpResponse> },
    /// The embedder wants a channel.
    Open { target: TargetAddr, stream: PipeEnd, answer: oneshot::Sender<Result<(), OpenError>> },
    /// The embedder wants a UDP association.
    Associate { datagrams: DatagramEnd, answer: oneshot::Sender<Result<(), OpenError>> },
    /// The embedder of a server has another token for it.
    AddToken { token: NewToken, answer: oneshot::Sender<Result<AddedToken, TokenError>> },
    /// The embedder of a server wants a token gone.
    RemoveToken { token: Token, answer: oneshot::Sender<Result<AddedToken, TokenError>> },
    /// The embedder wants numbers.
    Stats { answer: oneshot::Sender<Stats> },
    /// The embedder wants an end.
    Shutdown { drain: Duration },
}

/// The engine's answer to [`Request::Offer`].
#[derive(Debug)]
pub(crate) enum OfferAnswer {
    /// Upgrade the connection and pump it.
    Accept {
        link: LinkId,
        extensions: Option<String>,
        commands: mpsc::UnboundedReceiver<LinkCommand>,
        inbox: Inbox,
    },
    /// Answer with this status and text.
    Reject { status: u16, reason: &'static str },
}

/// Where requests are put. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Requests(mpsc::UnboundedSender<Request>);

impl Requests {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Request>) {
        let (sender, receiver) = mpsc::unbounded();
        (Self(sender), receiver)
    }

    /// Hands over `request`. If the owner has stopped, it is dropped, and so is the answer that it
    /// asks for.
    pub(crate) fn put(&self, request: Request) {
        let _ = self.0.unbounded_send(request);
    }
}
