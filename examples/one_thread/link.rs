//! One link: a WebSocket by tungstenite, which does not mind that its stream never waits.

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
use tungstenite::error::ProtocolError;
use tungstenite::handshake::client::{ClientHandshake, Response};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::protocol::{CloseFrame as WireCloseFrame, WebSocketConfig};
use tungstenite::{ClientRequestBuilder, Error, Message, WebSocket, client::IntoClientRequest};

use crate::others::socket_error;
use crate::{Next, Turn};

pub(crate) struct Link {
    id: LinkId,
    stage: Stage,
    readable: bool,
    writable: bool,

    /// What may still be received; a message may overdraw it.
    credit: i64,
    /// The peer broke the rules: the rest of what it sends means nothing.
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
    Over,
}

impl Link {
    /// Begins to make a WebSocket of a connection.
    pub(crate) fn open(id: LinkId, socket: TcpStream, request: LinkRequest) -> Result<Self, LinkFailure> {
        if request.secure {
            return Err(LinkFailure::Unsupported("TLS"));
        }
        let LinkRequest { authority, path_and_query, extensions, headers, .. } = request;
        let uri = format!("ws://{authority}{path_and_query}").parse();
        let mut builder = ClientRequestBuilder::new(uri.map_err(|_| handshake_failure("unusable URL"))?);
        if let Some(extensions) = extensions {
            builder = builder.with_header(EXTENSIONS_HEADER, extensions);
        }
        for header in &headers {
            builder = builder.with_header(header.name(), header.value());
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(Limits::MAX_MESSAGE))
            .max_frame_size(Some(Limits::MAX_MESSAGE));
        let request = builder.into_client_request().map_err(|error| failure(&error))?;
        let handshake =
            ClientHandshake::start(socket, request, Some(config)).map_err(|error| failure(&error))?;
        Ok(Self {
            id,
            stage: Stage::Upgrading(handshake),
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

    pub(crate) fn wake(&mut self) {
        (self.readable, self.writable) = (true, true);
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

    /// A link that is not open yet, or is to end without a close frame, ends at once.
    pub(crate) fn close(&mut self, frame: Option<CloseFrame>, until: Instant) {
        self.closing = Some(until);
        match (frame, &self.stage) {
            (Some(CloseFrame { code, reason }), Stage::Open(_)) => {
                let frame = WireCloseFrame { code: code.into(), reason: reason.into() };
                self.queue.push_back(Message::Close(Some(frame)));
            }
            (None, _) | (_, Stage::Upgrading(_) | Stage::Over) => self.stage = Stage::Over,
        }
    }

    pub(crate) fn work(&mut self, turn: &mut Turn) -> Next {
        let id = self.id;
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Upgrading(handshake) => match handshake.handshake() {
                Ok((websocket, response)) => {
                    self.stage = Stage::Open(websocket);
                    turn.inputs.push(Input::LinkOpened { link: id, response: answer(&response) });
                    Next::Soon
                }
                Err(HandshakeError::Interrupted(handshake)) => {
                    self.stage = Stage::Upgrading(handshake);
                    Next::News
                }
                Err(HandshakeError::Failure(error)) => {
                    turn.inputs.push(Input::LinkFailed { link: id, error: failure(&error) });
                    Next::Gone
                }
            },
            Stage::Open(mut websocket) => {
                let ended = match self.closing {
                    Some(until) => self.discard(&mut websocket, turn, until),
                    None => self.read(&mut websocket, turn),
                };
                if let Some(cause) = ended {
                    turn.inputs.push(Input::LinkClosed { link: id, cause });
                    return Next::Gone;
                }
                if self.write(&mut websocket, turn).is_err() {
                    // The peer may have said why before it went: reading tells how it ended.
                    (self.unflushed, self.writable) = (false, false);
                    self.queue.clear();
                }
                self.stage = Stage::Open(websocket);
                match self.closing {
                    Some(until) if self.readable => Next::At(turn.now.min(until)),
                    Some(until) => Next::At(until),
                    None => Next::News,
                }
            }
            Stage::Over => {
                turn.inputs.push(Input::LinkClosed { link: id, cause: LinkClose::Local });
                Next::Gone
            }
        }
    }

    /// Gives all that is queued to the WebSocket, then flushes once: a flush for each small message
    /// would be a system call for each.
    fn write(&mut self, websocket: &mut WebSocket<TcpStream>, turn: &mut Turn) -> Result<(), Error> {
        while self.writable && (self.unflushed || !self.queue.is_empty()) {
            while let Some(message) = self.queue.pop_front() {
                if let Message::Binary(message) = &message {
                    self.unwritten += message.len();
                }
                self.unflushed = true;
                if would_wait(websocket.write(message))? {
                    break; // it was taken all the same; more would only pile up
                }
            }
            if would_wait(websocket.flush())? {
                self.writable = false;
                break;
            }
            self.unflushed = false;
            let bytes = std::mem::take(&mut self.unwritten);
            if bytes > 0 {
                turn.inputs.push(Input::LinkWritten { link: self.id, bytes });
            }
        }
        Ok(())
    }

    /// Receives what the engine permits. That bounds a turn, too. `Some`: the link is over.
    fn read(&mut self, websocket: &mut WebSocket<TcpStream>, turn: &mut Turn) -> Option<LinkClose> {
        while self.readable && self.credit > 0 && !self.deaf {
            let violation = match websocket.read() {
                Ok(Message::Binary(message)) => {
                    self.credit = self.credit.saturating_sub_unsigned(receive_cost(message.len()) as u64);
                    turn.inputs.push(Input::LinkReceived { link: self.id, message });
                    continue;
                }
                Ok(Message::Ping(_)) => {
                    self.unflushed = true; // tungstenite has prepared the pong
                    continue;
                }
                Ok(Message::Pong(_)) => {
                    if self.pings > 0 {
                        self.pings -= 1;
                        turn.inputs.push(Input::LinkPong { link: self.id });
                    }
                    continue;
                }
                Ok(Message::Close(frame)) => {
                    // tungstenite has prepared the answer. If it can't be sent: the peer is going anyway.
                    let _ = websocket.flush();
                    return Some(LinkClose::Peer(frame.map(|frame| CloseFrame {
                        code: frame.code.into(),
                        reason: frame.reason.as_str().to_owned(),
                    })));
                }
                Ok(Message::Text(_)) => FrameViolation::Text,
                Ok(Message::Frame(_)) => unreachable!("tungstenite never returns raw frames"),
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    break;
                }
                Err(Error::Capacity(_)) => FrameViolation::TooLarge,
                Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                    return Some(LinkClose::Transport(SocketError::UnexpectedEof));
                }
                Err(Error::Protocol(_) | Error::Utf8(_)) => FrameViolation::Framing,
                Err(error) => return Some(LinkClose::Transport(transport_error(&error))),
            };
            // The engine says how it ends.
            self.deaf = true;
            turn.inputs.push(Input::LinkInvalid { link: self.id, violation });
        }
        None
    }

    /// On the way to the peer's end: reads what it still sends, so that no RST overtakes our close
    /// frame. `Some`: the link is over.
    fn discard(
        &mut self,
        websocket: &mut WebSocket<TcpStream>,
        turn: &mut Turn,
        until: Instant,
    ) -> Option<LinkClose> {
        if turn.now >= until {
            return Some(LinkClose::Local);
        }
        match websocket.get_mut().read(&mut turn.scratch) {
            Ok(0) => Some(LinkClose::Local),
            Ok(_) => None,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                None
            }
            Err(_) => Some(LinkClose::Local),
        }
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

fn answer(response: &Response) -> UpgradeResponse {
    let extensions = response.headers().get(EXTENSIONS_HEADER).and_then(|value| value.to_str().ok());
    UpgradeResponse { extensions: extensions.map(str::to_owned) }
}

fn handshake_failure(text: &str) -> LinkFailure {
    LinkFailure::Handshake(text.to_owned())
}

/// The engine's name for a failed upgrade.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others say in words what is wrong")]
fn failure(error: &Error) -> LinkFailure {
    match error {
        Error::Io(error) => LinkFailure::Io(socket_error(error)),
        Error::Http(response) => {
            let location = response.headers().get("Location").and_then(|value| value.to_str().ok());
            match (response.status().as_u16(), location) {
                (301 | 302 | 303 | 307 | 308, Some(location)) => {
                    LinkFailure::Redirect { location: location.to_owned() }
                }
                (status, _) => LinkFailure::Status(status),
            }
        }
        error => handshake_failure(&error.to_string()),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the others are not about the transport")]
fn transport_error(error: &Error) -> SocketError {
    match error {
        Error::Io(error) => socket_error(error),
        Error::ConnectionClosed | Error::AlreadyClosed => SocketError::UnexpectedEof,
        _ => SocketError::Other,
    }
}
