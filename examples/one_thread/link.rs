//! A link: a WebSocket by tungstenite, which does not mind that its stream never waits.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::time::Instant;

use bytes::Bytes;
use linksocks_sansio::config::Limits;
use linksocks_sansio::error::{LinkFailure, SocketError};
use linksocks_sansio::io::{
    CloseFrame, FrameViolation, LinkClose, LinkRequest, UpgradeResponse, receive_cost,
};
use linksocks_sansio::link::EXTENSIONS_HEADER;
use linksocks_sansio::{Input, LinkId};
use mio::net::TcpStream;
use tungstenite::client::IntoClientRequest;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::protocol::{CloseFrame as WireCloseFrame, WebSocketConfig};
use tungstenite::{ClientRequestBuilder, Error, Message, WebSocket};

use crate::Turn;
use crate::socket::{Stream, attempt, socket_error};

pub(crate) struct Link {
    id: LinkId,
    stage: Stage,
    token: mio::Token,
    readable: bool,
    writable: bool,
    /// What may still be received; a message may overdraw it.
    credit: i64,
    /// The peer broke a rule: what it sends means nothing any more.
    deaf: bool,
    /// What the WebSocket does not have yet.
    queue: VecDeque<Message>,
    /// Lengths of the messages that the WebSocket has, but not yet the network.
    unwritten: usize,
    /// The WebSocket has something for the network.
    unflushed: bool,
    /// Pings that no pong came for.
    pings: usize,
    /// Ordered to close, by then at the latest.
    closing: Option<Instant>,
}

enum Stage {
    /// The answer to the upgrade request has not come.
    Upgrading(MidHandshake<ClientHandshake<TcpStream>>),
    Open(WebSocket<TcpStream>),
    /// To be released.
    Over,
}

impl Link {
    /// Begins to make a WebSocket of a connection.
    pub(crate) fn open(id: LinkId, stream: Stream, request: LinkRequest) -> Result<Self, LinkFailure> {
        if request.secure {
            return Err(LinkFailure::Unsupported("TLS"));
        }
        let uri = format!("ws://{}{}", request.authority, request.path_and_query).parse();
        let uri = uri.map_err(|_| LinkFailure::Handshake("unusable URL".to_owned()))?;
        let mut builder = ClientRequestBuilder::new(uri);
        if let Some(extensions) = request.extensions {
            builder = builder.with_header(EXTENSIONS_HEADER, extensions);
        }
        for header in &request.headers {
            builder = builder.with_header(header.name(), header.value());
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(Limits::MAX_MESSAGE))
            .max_frame_size(Some(Limits::MAX_MESSAGE));
        let request = builder.into_client_request().map_err(failure)?;
        let handshake = ClientHandshake::start(stream.tcp, request, Some(config)).map_err(failure)?;
        Ok(Self {
            id,
            stage: Stage::Upgrading(handshake),
            token: stream.token,
            readable: true,
            writable: true,
            credit: 0,
            deaf: false,
            queue: VecDeque::new(),
            unwritten: 0,
            unflushed: false,
            pings: 0,
            closing: None,
        })
    }

    pub(crate) fn transmit(&mut self, message: Bytes) {
        self.queue.push_back(Message::Binary(message));
    }

    pub(crate) fn receive(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_add_unsigned(bytes as u64);
    }

    pub(crate) fn ping(&mut self) {
        self.pings += 1;
        self.queue.push_back(Message::Ping(Bytes::new()));
    }

    /// Without a close frame, or before it is open, a link ends at once.
    pub(crate) fn close(&mut self, frame: Option<CloseFrame>, until: Instant) {
        self.closing = Some(until);
        match frame {
            Some(CloseFrame { code, reason }) if matches!(self.stage, Stage::Open(_)) => {
                let frame = WireCloseFrame { code: code.into(), reason: reason.into() };
                self.queue.push_back(Message::Close(Some(frame)));
            }
            Some(_) | None => self.stage = Stage::Over,
        }
    }

    /// Returns whether it lives on.
    pub(crate) fn work(&mut self, turn: &mut Turn) -> bool {
        if turn.news.contains(&self.token) {
            (self.readable, self.writable) = (true, true);
        }
        let link = self.id;
        let end = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Upgrading(handshake) => match handshake.handshake() {
                Ok((websocket, response)) => {
                    let extensions = response.headers().get(EXTENSIONS_HEADER);
                    let extensions = extensions.and_then(|value| value.to_str().ok()).map(str::to_owned);
                    let response = UpgradeResponse { extensions };
                    turn.inputs.push(Input::LinkOpened { link, response });
                    self.stage = Stage::Open(websocket);
                    None
                }
                Err(HandshakeError::Interrupted(handshake)) => {
                    self.stage = Stage::Upgrading(handshake);
                    None
                }
                Err(HandshakeError::Failure(error)) => {
                    Some(Input::LinkFailed { link, error: failure(error) })
                }
            },
            Stage::Open(mut websocket) => {
                let ended = match self.closing {
                    Some(until) => self.discard(&mut websocket, turn, until),
                    None => self.read(&mut websocket, turn),
                };
                if self.write(&mut websocket, turn).is_err() {
                    // The peer may have said why before it went: reading tells how this ended.
                    (self.unflushed, self.writable) = (false, false);
                    self.queue.clear();
                }
                self.stage = Stage::Open(websocket);
                ended.map(|cause| Input::LinkClosed { link, cause })
            }
            Stage::Over => Some(Input::LinkClosed { link, cause: LinkClose::Local }),
        };
        let alive = end.is_none();
        turn.inputs.extend(end);
        alive
    }

    /// Gives all that is queued to the WebSocket, then flushes once: a flush for each message would be a
    /// system call for each.
    fn write(&mut self, websocket: &mut WebSocket<TcpStream>, turn: &mut Turn) -> Result<(), Error> {
        while self.writable && (self.unflushed || !self.queue.is_empty()) {
            self.unflushed = true;
            while self.writable
                && let Some(message) = self.queue.pop_front()
            {
                if let Message::Binary(message) = &message {
                    self.unwritten += message.len();
                }
                // It is taken in any case; if the network is full, more would only pile up.
                self.writable = !would_wait(websocket.write(message))?;
            }
            self.writable = !would_wait(websocket.flush())?;
            if self.writable {
                self.unflushed = false;
                let bytes = std::mem::take(&mut self.unwritten);
                if bytes > 0 {
                    turn.inputs.push(Input::LinkWritten { link: self.id, bytes });
                }
            }
        }
        Ok(())
    }

    /// Receives what the engine permits. That bounds a turn, too. Returns how the link has ended.
    fn read(&mut self, websocket: &mut WebSocket<TcpStream>, turn: &mut Turn) -> Option<LinkClose> {
        let link = self.id;
        while self.readable && self.credit > 0 && !self.deaf {
            let violation = match websocket.read() {
                Ok(Message::Binary(message)) => {
                    self.credit = self.credit.saturating_sub_unsigned(receive_cost(message.len()) as u64);
                    turn.inputs.push(Input::LinkReceived { link, message });
                    continue;
                }
                Ok(Message::Ping(_)) => {
                    self.unflushed = true; // tungstenite has prepared the pong
                    continue;
                }
                Ok(Message::Pong(_)) => {
                    if self.pings > 0 {
                        self.pings -= 1;
                        turn.inputs.push(Input::LinkPong { link });
                    }
                    continue;
                }
                Ok(Message::Close(frame)) => {
                    self.unflushed = true; // tungstenite has prepared the answer
                    let frame = frame.map(|frame| (frame.code.into(), frame.reason.as_str().to_owned()));
                    return Some(LinkClose::Peer(frame.map(|(code, reason)| CloseFrame { code, reason })));
                }
                Ok(Message::Text(_)) => FrameViolation::Text,
                Ok(Message::Frame(_)) => unreachable!("tungstenite never returns raw frames"),
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    continue;
                }
                Err(Error::Io(error)) => return Some(LinkClose::Transport(socket_error(&error))),
                Err(Error::Capacity(_)) => FrameViolation::TooLarge,
                Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                    return Some(LinkClose::Transport(SocketError::UnexpectedEof));
                }
                Err(Error::Protocol(_) | Error::Utf8(_)) => FrameViolation::Framing,
                Err(_) => return Some(LinkClose::Transport(SocketError::Other)),
            };
            self.deaf = true; // and the engine says how it ends
            turn.inputs.push(Input::LinkInvalid { link, violation });
        }
        None
    }

    /// Reads what the peer still sends until it has closed, too, so that no RST overtakes our close
    /// frame.
    fn discard(
        &mut self,
        websocket: &mut WebSocket<TcpStream>,
        turn: &mut Turn,
        until: Instant,
    ) -> Option<LinkClose> {
        turn.wake_up_at(until);
        let mut over = turn.now >= until;
        if self.readable && !over {
            match attempt(&mut self.readable, || websocket.get_mut().read(&mut turn.scratch)) {
                Ok(None) => {}
                Ok(Some(0)) | Err(_) => over = true,
                Ok(Some(_)) => turn.wake_up_at(turn.now), // others first
            }
        }
        over.then_some(LinkClose::Local)
    }
}

/// Whether the kernel could not take all of it yet.
fn would_wait(result: Result<(), Error>) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(false),
        Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

/// The engine's name for a failed upgrade.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others say in words what is wrong")]
fn failure(error: Error) -> LinkFailure {
    match error {
        Error::Io(error) => LinkFailure::Io(socket_error(&error)),
        Error::Http(response) => {
            let location = response.headers().get("Location").and_then(|value| value.to_str().ok());
            match (response.status().as_u16(), location) {
                (301 | 302 | 303 | 307 | 308, Some(location)) => {
                    LinkFailure::Redirect { location: location.to_owned() }
                }
                (status, _) => LinkFailure::Status(status),
            }
        }
        error => LinkFailure::Handshake(error.to_string()),
    }
}
