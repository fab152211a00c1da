//! A proxy for one client connection: CONNECT, and requests in absolute form, one after the other.

use std::mem;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::body::{Body, ChunkError};
use super::head::{HeadBuffer, HeadError, LineEnds};
use super::message::{self, Context, FinalResponse, Forward, Login, Request, Response};
use super::refusal::Refusal;
use crate::secret::Credentials;
use crate::socks5::TargetAddr;

/// The most bytes that are put into one chunk of a response that came without a length.
const CHUNK: usize = 16 * 1024;

/// What is to be done, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The client asks for a tunnel. What it has sent behind the request, and all that follows on
    /// this connection, is not ours any more.
    Tunnel(TargetAddr),
    /// Connect to the target of a request. Answered by [`ProxyServer::connected`] or
    /// [`ProxyServer::refused`].
    Dial(TargetAddr),
    /// Send to the target. Never empty.
    ToTarget(Bytes),
    /// Nothing more comes from the client: shut down the write half towards the target.
    EndToTarget,
    /// Send to the client. Never empty.
    ToClient(Bytes),
    /// Nothing more comes from the target: shut down the write half towards the client.
    EndToClient,
    /// The target has said all that is wanted of it, and been told all.
    Release,
    /// Close the connection to the client behind what was sent, and drop the target.
    Close(Option<Refusal>),
    /// Reset the connection to the client, whose response is cut off, and drop the target.
    Reset,
}

/// The state of a client connection. Each request gets a connection to its target of its own, which
/// is told to close behind the response; the client's own stays open as long as both sides can tell
/// where a message ends. Requests that are sent ahead wait for their turn.
///
/// The bytes may be cut anywhere. Nothing is kept of them but one head of at most 64 KiB in each
/// direction: the caller keeps what can't be taken yet.
#[derive(Debug)]
pub(crate) struct ProxyServer {
    login: Option<Arc<Credentials>>,
    /// No login is looked at.
    locked: bool,
    state: State,
    /// Nothing more comes from the client.
    client_ended: bool,
}

#[derive(Debug)]
enum State {
    /// A request is awaited.
    Idle(HeadBuffer),
    /// Its target is being connected to.
    Dialing(Box<Forward>),
    /// Request and response are under way.
    Exchange(Box<Exchange>),
    /// The connection speaks another protocol: each direction ends on its own.
    Upgraded {
        client_ended: bool,
        target_ended: bool,
    },
    /// To be closed.
    Closing(Option<Refusal>),
    Over,
}

#[derive(Debug)]
struct Exchange {
    context: Context,
    /// What is left of the head to be sent.
    head: Bytes,
    request: Body,
    response: Progress,
}

impl Exchange {
    fn request_is_complete(&self) -> bool {
        self.head.is_empty() && self.request.is_complete()
    }
}

#[derive(Debug)]
enum Progress {
    Head(HeadBuffer),
    Body { body: Body, in_chunks: bool, persistent: bool },
}

impl Progress {
    fn awaited() -> Self {
        Self::Head(HeadBuffer::new(LineEnds::Lenient))
    }

    fn is_complete(&self) -> bool {
        matches!(self, Self::Body { body, .. } if body.is_complete())
    }
}

impl ProxyServer {
    /// A new connection, whose client must present `login`, if there is one.
    pub(crate) fn new(login: Option<Arc<Credentials>>) -> Self {
        Self { login, locked: false, state: Self::idle(), client_ended: false }
    }

    fn idle() -> State {
        State::Idle(HeadBuffer::new(LineEnds::Strict))
    }

    /// Whether any login is refused from now on, be it right or wrong.
    pub(crate) fn set_locked(&mut self, locked: bool) {
        self.locked = locked;
    }

    /// Whether the client has to log in.
    pub(crate) fn wants_login(&self) -> bool {
        self.login.is_some()
    }

    /// Whether no request has begun.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(&self.state, State::Idle(head) if head.is_empty())
    }

    /// Takes what it can of the client's bytes off the front of `input`, of which the target takes
    /// `room` now. To be called until nothing comes of it.
    pub(crate) fn handle_client(&mut self, input: &mut BytesMut, room: usize) -> Option<Effect> {
        match &mut self.state {
            State::Idle(head) => match head.push(input) {
                Ok((taken, None)) => {
                    let _ = input.split_to(taken);
                    (input.is_empty() && self.client_ended).then(|| self.close())
                }
                Ok((taken, Some(head))) => {
                    let _ = input.split_to(taken);
                    Some(self.begin(&head))
                }
                Err(HeadError::TooLong) => {
                    Some(self.refuse(Refusal::BadRequest("Request header too large"), false))
                }
                Err(HeadError::LineEnd) => Some(self.refuse(Refusal::BadRequest("Malformed request"), false)),
            },
            State::Exchange(exchange) => {
                if !exchange.head.is_empty() {
                    let length = exchange.head.len().min(room);
                    return (length > 0).then(|| Effect::ToTarget(exchange.head.split_to(length)));
                }
                if exchange.request.is_complete() {
                    return None;
                }
                if input.is_empty() && self.client_ended {
                    return Some(self.abort());
                }
                let length = input.len().min(room);
                match exchange.request.take(&input[..length]) {
                    Ok(0) => None,
                    Ok(taken) => Some(Effect::ToTarget(input.split_to(taken).freeze())),
                    Err(ChunkError) => Some(self.fail(Refusal::BadRequest("Malformed chunk"))),
                }
            }
            State::Upgraded { client_ended, target_ended } => {
                let length = input.len().min(room);
                if length > 0 {
                    return Some(Effect::ToTarget(input.split_to(length).freeze()));
                }
                if *client_ended || !self.client_ended || !input.is_empty() {
                    return None;
                }
                *client_ended = true;
                if *target_ended {
                    self.state = State::Closing(None);
                    return Some(Effect::Release);
                }
                Some(Effect::EndToTarget)
            }
            State::Closing(refusal) => {
                let refusal = *refusal;
                self.state = State::Over;
                Some(Effect::Close(refusal))
            }
            State::Dialing(_) | State::Over => None,
        }
    }

    /// Nothing more comes from the client than what is in the input: to be told once.
    pub(crate) fn client_ended(&mut self) {
        self.client_ended = true;
    }

    pub(crate) fn has_client_ended(&self) -> bool {
        self.client_ended
    }

    fn begin(&mut self, head: &[u8]) -> Effect {
        let locked = self.locked;
        let login = self.login.as_deref().map(|credentials| Login { credentials, locked });
        match message::read_request(head, login) {
            Ok(Request::Tunnel(target)) => {
                self.state = State::Over;
                Effect::Tunnel(target)
            }
            Ok(Request::Forward(forward)) => {
                let target = forward.target.clone();
                self.state = State::Dialing(forward);
                Effect::Dial(target)
            }
            Err(refusal) => self.refuse(refusal, false),
        }
    }

    /// The target of the last [`Effect::Dial`] is connected.
    pub(crate) fn connected(&mut self) {
        if let State::Dialing(forward) = &mut self.state {
            let (head, request) = (mem::take(&mut forward.head), mem::replace(&mut forward.body, Body::NONE));
            let exchange =
                Exchange { context: forward.context, head, request, response: Progress::awaited() };
            self.state = State::Exchange(Box::new(exchange));
        }
    }

    /// The target of the last [`Effect::Dial`] can't be had.
    pub(crate) fn refused(&mut self, refusal: Refusal) -> Option<Effect> {
        let State::Dialing(forward) = &self.state else { return None };
        let to_head = forward.context.to_head;
        Some(self.refuse(refusal, to_head))
    }

    /// Takes what it can of the target's bytes off the front of `input`. To be called until nothing
    /// comes of it, at least once after all other calls.
    pub(crate) fn handle_target(&mut self, input: &mut Bytes) -> Option<Effect> {
        match &mut self.state {
            State::Exchange(exchange) => match &mut exchange.response {
                Progress::Head(head) => match head.push(input) {
                    Ok((taken, head)) => {
                        let _ = input.split_to(taken);
                        self.answer(&head?)
                    }
                    Err(_) => Some(self.fail(Refusal::ConnectionFailed)),
                },
                Progress::Body { body, .. } if body.is_complete() => Some(self.release()),
                Progress::Body { body, in_chunks: true, .. } => {
                    debug_assert!(*body == Body::UntilClose, "only that has no chunks of its own");
                    let data = input.split_to(input.len().min(CHUNK));
                    (!data.is_empty()).then(|| Effect::ToClient(chunk(&data)))
                }
                Progress::Body { body, .. } => match body.take(input) {
                    Ok(0) => None,
                    Ok(taken) => Some(Effect::ToClient(input.split_to(taken))),
                    Err(ChunkError) => Some(self.abort()),
                },
            },
            State::Upgraded { .. } => (!input.is_empty()).then(|| Effect::ToClient(mem::take(input))),
            State::Idle(_) | State::Dialing(_) | State::Closing(_) | State::Over => None,
        }
    }

    /// Takes the head of a response.
    fn answer(&mut self, head: &[u8]) -> Option<Effect> {
        let State::Exchange(exchange) = &mut self.state else { return None };
        match message::read_response(head, exchange.context) {
            None => Some(self.fail(Refusal::ConnectionFailed)),
            Some(Response::Provisional(head)) => (!head.is_empty()).then_some(Effect::ToClient(head)),
            Some(Response::Upgraded(head)) if exchange.request_is_complete() => {
                self.state = State::Upgraded { client_ended: false, target_ended: false };
                Some(Effect::ToClient(head))
            }
            Some(Response::Upgraded(_)) => Some(self.fail(Refusal::ConnectionFailed)),
            Some(Response::Final(FinalResponse { head, body, in_chunks, persistent })) => {
                exchange.response = Progress::Body { body, in_chunks, persistent };
                Some(Effect::ToClient(head))
            }
        }
    }

    /// The response is complete.
    fn release(&mut self) -> Effect {
        let State::Exchange(exchange) = &self.state else { return Effect::Release };
        let persistent = matches!(exchange.response, Progress::Body { persistent: true, .. });
        // Where the next request would begin is not known before this one has ended.
        if !exchange.request_is_complete() {
            return self.close();
        }
        self.state = if persistent { Self::idle() } else { State::Closing(None) };
        Effect::Release
    }

    /// The target has sent all that it has to say, and it has been taken. `is_gone`: nor does it take
    /// any more.
    pub(crate) fn target_ended(&mut self, is_gone: bool) -> Option<Effect> {
        match &mut self.state {
            State::Exchange(exchange) => match &mut exchange.response {
                Progress::Body { body, in_chunks: true, .. } if *body == Body::UntilClose => {
                    *body = Body::NONE;
                    Some(Effect::ToClient(Bytes::from_static(b"0\r\n\r\n")))
                }
                Progress::Body { body, .. } if *body == Body::UntilClose => {
                    *body = Body::NONE;
                    Some(self.release())
                }
                Progress::Body { body, .. } if body.is_complete() => Some(self.release()),
                Progress::Body { .. } | Progress::Head(_) => Some(self.fail(Refusal::ConnectionFailed)),
            },
            State::Upgraded { client_ended, .. } if *client_ended || is_gone => {
                self.state = State::Closing(None);
                Some(Effect::Release)
            }
            State::Upgraded { target_ended, .. } => {
                *target_ended = true;
                Some(Effect::EndToClient)
            }
            State::Idle(_) | State::Dialing(_) | State::Closing(_) | State::Over => None,
        }
    }

    /// The connection to the target broke.
    pub(crate) fn target_lost(&mut self) -> Option<Effect> {
        match &self.state {
            State::Exchange(exchange) if exchange.response.is_complete() => Some(self.release()),
            State::Exchange(_) | State::Upgraded { .. } => Some(self.fail(Refusal::ConnectionFailed)),
            State::Idle(_) | State::Dialing(_) | State::Closing(_) | State::Over => None,
        }
    }

    /// Answers with an error, or cuts the answer off if it has begun.
    fn fail(&mut self, refusal: Refusal) -> Effect {
        if let State::Exchange(exchange) = &self.state
            && let Progress::Head(_) = exchange.response
        {
            let to_head = exchange.context.to_head;
            return self.refuse(refusal, to_head);
        }
        self.abort()
    }

    fn refuse(&mut self, refusal: Refusal, to_head: bool) -> Effect {
        self.state = State::Closing(Some(refusal));
        Effect::ToClient(refusal.encode(to_head))
    }

    fn close(&mut self) -> Effect {
        self.state = State::Over;
        Effect::Close(None)
    }

    fn abort(&mut self) -> Effect {
        self.state = State::Over;
        Effect::Reset
    }
}

/// One chunk with `data`.
fn chunk(data: &[u8]) -> Bytes {
    let size = format!("{:x}\r\n", data.len());
    [size.as_bytes(), data, b"\r\n"].concat().into()
}

#[cfg(test)]
mod tests;
