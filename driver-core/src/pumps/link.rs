//! One task per link: both directions of a WebSocket.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_tungstenite::tungstenite::error::ProtocolError;
use async_tungstenite::tungstenite::protocol::CloseFrame as WireCloseFrame;
use async_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use bytes::Bytes;
use futures_channel::mpsc::UnboundedReceiver;
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::sink::SinkExt;
use futures_util::stream::StreamExt;
use linksocks_sansio::config::Limits;
use linksocks_sansio::error::{LinkFailure, SocketError};
use linksocks_sansio::io::{
    CloseFrame, FrameViolation, LinkClose, LinkRequest, UpgradeResponse, receive_cost,
};
use linksocks_sansio::{Input, LinkId};

use super::upgrade::upgrade;
use super::websocket::{self, WebSocket};
use super::{Inbox, unless_ended};
use crate::error::socket_error;
use crate::runtime::{Runtime, Timer};
use crate::transport::Connector;

/// How much is given to the WebSocket before it is flushed.
const FLUSH_AFTER: usize = 1024 * 1024;
/// How many frames are read before others run.
const FRAMES_PER_POLL: usize = 256;
/// How many pings of a peer are answered before the answers have left. The WebSocket keeps them all, so of a
/// peer that sends pings and reads nothing no more is read.
const MAX_PONGS: usize = 64;
/// How long a link whose peer has closed, or whose connection can't be written to any more, is
/// given for the rest.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Until a peer has authenticated, no grant is larger: what one message may take, and what the one
/// before may have overdrawn.
const MAX_UNAUTHENTICATED_GRANT: usize = 2 * receive_cost(Limits::MAX_UNAUTHENTICATED_MESSAGE);

/// What the owner tells the task of a link. Carried out in order.
#[derive(Debug)]
pub enum LinkCommand {
    /// See [`Output::Transmit`](linksocks_sansio::Output::Transmit).
    Transmit(Bytes),
    /// See [`Output::Receive`](linksocks_sansio::Output::Receive).
    Receive(usize),
    /// See [`Action::Ping`](linksocks_sansio::Action::Ping).
    Ping,
    /// See [`Action::CloseLink`](linksocks_sansio::Action::CloseLink).
    Close {
        /// Code and reason, or `None` to drop the transport at once.
        close: Option<CloseFrame>,
        /// The longest time for all of it.
        linger: Duration,
    },
}

impl LinkCommand {
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Close { .. })
    }
}

/// Makes a WebSocket client of `stream`, secured by `connector` if so requested, then pumps.
pub async fn open<R: Runtime, S>(
    runtime: R,
    stream: S,
    connector: Connector,
    link: LinkId,
    request: LinkRequest,
    commands: UnboundedReceiver<LinkCommand>,
    inbox: Inbox,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = async {
        let stream = connector.connect(stream, &request).await?;
        let (stream, read, response) = upgrade(stream, &request).await?;
        Ok((websocket::connected(stream, read).await, response))
    };
    run(runtime, handshake, link, commands, inbox).await;
}

/// Waits for the transport of an accepted link and what was already read from it, then pumps.
pub async fn accept<R: Runtime, S>(
    runtime: R,
    upgrade: impl Future<Output = Result<(S, Vec<u8>), LinkFailure>>,
    link: LinkId,
    commands: UnboundedReceiver<LinkCommand>,
    inbox: Inbox,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = async {
        let (stream, read) = upgrade.await?;
        Ok((websocket::accepted(stream, read).await, UpgradeResponse::default()))
    };
    run(runtime, handshake, link, commands, inbox).await;
}

async fn run<R: Runtime, S>(
    runtime: R,
    handshake: impl Future<Output = Result<(WebSocket<S>, UpgradeResponse), LinkFailure>>,
    link: LinkId,
    mut commands: UnboundedReceiver<LinkCommand>,
    inbox: Inbox,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut early = Vec::new();
    match unless_ended(handshake, &mut commands, &mut early, LinkCommand::is_final).await {
        Ok(Ok((websocket, response))) => {
            inbox.put(Input::LinkOpened { link, response });
            let mut pump = Pump::new(runtime, link, websocket, commands, inbox);
            for command in early {
                pump.apply(command);
            }
            let cause = poll_fn(|cx| pump.poll(cx)).await;
            let Pump { websocket, inbox, .. } = pump;
            drop(websocket);
            inbox.put(Input::LinkClosed { link, cause });
        }
        Ok(Err(error)) => inbox.put(Input::LinkFailed { link, error }),
        Err(Some(_)) => inbox.put(Input::LinkClosed { link, cause: LinkClose::Local }),
        Err(None) => {}
    }
}

struct Pump<R, S> {
    runtime: R,
    link: LinkId,
    websocket: WebSocket<S>,
    commands: UnboundedReceiver<LinkCommand>,
    inbox: Inbox,

    /// Messages and pings that the WebSocket doesn't have yet.
    queue: VecDeque<Message>,
    /// Lengths of the messages that the WebSocket has, but not yet the network.
    unwritten: usize,
    /// The WebSocket has something for the network.
    unflushed: bool,

    /// What may still be received; a message may overdraw it.
    credit: i64,
    /// Pings that no pong came for.
    pings: usize,
    /// Pings of the peer whose answers have not left.
    pongs: usize,
    reading: Reading,
    ending: Option<Ending>,
}

#[derive(Clone, Copy, PartialEq)]
enum Reading {
    Messages,
    /// The peer sent a message that it must not: wants nothing but its close frame.
    Refused,
    /// The peer broke the framing: its bytes mean nothing any more.
    Garbage,
    /// Its close frame has come.
    Done,
}

/// A link on its way out.
struct Ending {
    cause: LinkClose,
    /// To be sent behind the queue.
    close: Option<CloseFrame>,
    /// When it ends in any case.
    timer: Timer,
}

impl<R, S> Pump<R, S>
where
    R: Runtime,
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn new(
        runtime: R,
        link: LinkId,
        websocket: WebSocket<S>,
        commands: UnboundedReceiver<LinkCommand>,
        inbox: Inbox,
    ) -> Self {
        Self {
            runtime,
            link,
            websocket,
            commands,
            inbox,
            queue: VecDeque::new(),
            unwritten: 0,
            unflushed: false,
            credit: 0,
            pings: 0,
            pongs: 0,
            reading: Reading::Messages,
            ending: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkClose> {
        self.websocket.get_mut().begin_turn();
        loop {
            match self.commands.poll_next_unpin(cx) {
                Poll::Ready(Some(LinkCommand::Close { close: None, .. })) => {
                    return Poll::Ready(LinkClose::Local);
                }
                Poll::Ready(Some(command)) => self.apply(command),
                // Nobody is left to listen, except to a close that was ordered before.
                Poll::Ready(None) if self.ending.is_none() => return Poll::Ready(LinkClose::Local),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if let Poll::Ready(cause) = self.poll_read(cx) {
            return Poll::Ready(self.ended(cause));
        }
        match self.write(cx) {
            Ok(()) if self.reading == Reading::Done && !self.unflushed => {
                // TLS has an end of its own to tell.
                if Pin::new(self.websocket.get_mut()).poll_close(cx).is_ready() {
                    return Poll::Ready(self.ended(LinkClose::Local));
                }
            }
            Ok(()) => {}
            Err(error) => {
                if let Some(cause) = self.write_failed(&error) {
                    return Poll::Ready(cause);
                }
            }
        }
        match &mut self.ending {
            Some(ending) => ending.timer.as_mut().poll(cx).map(|()| ending.cause.clone()),
            None => Poll::Pending,
        }
    }

    /// `cause`, unless another one was there before.
    fn ended(&mut self, cause: LinkClose) -> LinkClose {
        self.ending.take().map_or(cause, |ending| ending.cause)
    }

    fn end(&mut self, cause: LinkClose, close: Option<CloseFrame>, linger: Duration) {
        let timer = Box::pin(self.runtime.sleep(linger));
        self.ending = Some(Ending { cause, close, timer });
    }

    fn apply(&mut self, command: LinkCommand) {
        match command {
            LinkCommand::Transmit(message) => {
                if self.ending.is_none() {
                    self.queue.push_back(Message::Binary(message));
                }
            }
            LinkCommand::Ping => {
                if self.ending.is_none() {
                    self.pings += 1;
                    self.queue.push_back(Message::Ping(Bytes::new()));
                }
            }
            LinkCommand::Receive(bytes) => {
                if bytes > MAX_UNAUTHENTICATED_GRANT {
                    self.websocket.get_mut().open();
                }
                self.credit = self.credit.saturating_add_unsigned(bytes as u64);
            }
            LinkCommand::Close { close, linger } => {
                if self.ending.is_none() {
                    self.end(LinkClose::Local, close, linger);
                }
            }
        }
    }

    /// Gives all that is queued to the WebSocket, and flushes once. Flushing each small message
    /// would cost a system call each.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        loop {
            while self.unwritten < FLUSH_AFTER
                && let Some(message) = self.next_message()
            {
                if self.websocket.poll_ready_unpin(cx)?.is_pending() {
                    self.queue.push_front(message);
                    return Ok(());
                }
                if let Message::Binary(message) = &message {
                    self.unwritten += message.len();
                }
                self.unflushed = true;
                self.websocket.start_send_unpin(message)?;
            }
            if !self.unflushed || self.websocket.poll_flush_unpin(cx)?.is_pending() {
                return Ok(());
            }
            self.unflushed = false;
            if std::mem::take(&mut self.pongs) >= MAX_PONGS {
                // Reading goes on.
                cx.waker().wake_by_ref();
            }
            let bytes = std::mem::take(&mut self.unwritten);
            if bytes > 0 {
                self.inbox.put(Input::LinkWritten { link: self.link, bytes });
            }
        }
    }

    /// What is queued, then the close frame.
    fn next_message(&mut self) -> Option<Message> {
        self.queue.pop_front().or_else(|| {
            let close = self.ending.as_mut()?.close.take()?;
            Some(Message::Close(Some(wire_close_frame(close))))
        })
    }

    /// The peer may have said why before it went: reads on, but not for long.
    fn write_failed(&mut self, error: &Error) -> Option<LinkClose> {
        let cause = LinkClose::Transport(transport_error(error));
        if self.ending.is_some() || self.reading != Reading::Messages {
            return Some(self.ended(cause));
        }
        self.queue.clear();
        self.unflushed = false;
        self.end(cause, None, LAST_WORDS);
        None
    }

    /// Whether a message may be received: with credit, or to throw it away on the way to the
    /// peer's close frame.
    fn may_read(&self) -> bool {
        if self.pongs >= MAX_PONGS {
            return false;
        }
        let closing = matches!(&self.ending, Some(ending) if ending.cause == LinkClose::Local);
        match self.reading {
            Reading::Messages => self.credit > 0 || closing,
            Reading::Refused | Reading::Garbage => closing,
            Reading::Done => false,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<LinkClose> {
        for _ in 0..FRAMES_PER_POLL {
            if !self.may_read() {
                return Poll::Pending;
            }
            if self.reading == Reading::Garbage {
                match self.discard(cx) {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(LinkClose::Transport(SocketError::UnexpectedEof));
                    }
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(LinkClose::Transport(socket_error(&error)));
                    }
                    Poll::Pending => return Poll::Pending,
                }
                continue;
            }
            match self.websocket.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(message))) => self.received(message),
                Poll::Ready(Some(Err(error))) => match violation(&error) {
                    Some(violation) => self.invalid(violation, Reading::Garbage),
                    None => return Poll::Ready(LinkClose::Transport(transport_error(&error))),
                },
                Poll::Ready(None) => {
                    return Poll::Ready(LinkClose::Transport(SocketError::UnexpectedEof));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn received(&mut self, message: Message) {
        match message {
            Message::Binary(message) => {
                self.credit = self.credit.saturating_sub_unsigned(receive_cost(message.len()) as u64);
                // A write error does not make what the peer has said before any less true.
                if self.ending.as_ref().is_none_or(|ending| ending.cause != LinkClose::Local) {
                    self.inbox.put(Input::LinkReceived { link: self.link, message });
                }
            }
            Message::Text(_) => self.invalid(FrameViolation::Text, Reading::Refused),
            // The WebSocket has prepared the pong.
            Message::Ping(_) => {
                self.pongs += 1;
                self.unflushed = true;
            }
            Message::Pong(_) => {
                if self.pings > 0 {
                    self.pings -= 1;
                    self.inbox.put(Input::LinkPong { link: self.link });
                }
            }
            Message::Close(frame) => self.peer_closed(frame),
            Message::Frame(_) => unreachable!("the WebSocket never returns raw frames"),
        }
    }

    fn peer_closed(&mut self, frame: Option<WireCloseFrame>) {
        self.reading = Reading::Done;
        self.queue.clear();
        if !matches!(&self.ending, Some(Ending { cause: LinkClose::Local | LinkClose::Peer(_), .. })) {
            let frame = frame.map(|frame| CloseFrame {
                code: frame.code.into(),
                reason: frame.reason.as_str().to_owned(),
            });
            // The WebSocket has prepared the answer.
            self.unflushed = self.ending.is_none();
            self.end(LinkClose::Peer(frame), None, LAST_WORDS);
        }
    }

    fn invalid(&mut self, violation: FrameViolation, reading: Reading) {
        self.reading = reading;
        if self.ending.is_none() {
            self.inbox.put(Input::LinkInvalid { link: self.link, violation });
        }
    }

    /// Reads what the peer still sends, so that no RST overtakes our close frame.
    fn discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Pin::new(self.websocket.get_mut()).poll_read(cx, &mut [0; 4096])
    }
}

fn wire_close_frame(frame: CloseFrame) -> WireCloseFrame {
    WireCloseFrame { code: frame.code.into(), reason: Utf8Bytes::from(frame.reason) }
}

/// What the peer did wrong, if it is the peer's fault.
#[expect(clippy::wildcard_enum_match_arm, reason = "none of the others is the peer's fault")]
fn violation(error: &Error) -> Option<FrameViolation> {
    match error {
        Error::Capacity(_) => Some(FrameViolation::TooLarge),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) | Error::Utf8(_) => Some(FrameViolation::Framing),
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the others are not about the transport")]
fn transport_error(error: &Error) -> SocketError {
    match error {
        Error::Io(error) => socket_error(error),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => SocketError::UnexpectedEof,
        _ => SocketError::Other,
    }
}
