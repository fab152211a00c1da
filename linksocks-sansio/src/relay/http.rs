//! The HTTP proxy on the SOCKS port.
//!
//! A request to a target gets a channel of its own, whose local end is not the application's socket:
//! one application uses many, one after the other. It is a socket that no driver knows. What a
//! channel tells it comes to the [`Pipe`] of the application, and what a driver would tell comes from
//! there, so that a channel can't see the difference.

use std::collections::VecDeque;
use std::net::IpAddr;

use bytes::{Bytes, BytesMut};

use super::{Ends, Relay, SocketOwner, SocksSession, Timer, Want};
use crate::channel::{EarlyInput, Origin};
use crate::error::{OpenError, SocketError};
use crate::http::{Effect, ProxyServer, Refusal};
use crate::ids::{ChannelKey, SocketId};
use crate::io::{Output, ReadBuf, ReadCredit};

/// An application that uses us as an HTTP proxy.
#[derive(Debug)]
pub(crate) struct HttpSession {
    proxy: ProxyServer,
    ends: Ends,
    /// What the application has sent and the proxy has not taken yet: no more than it was allowed to.
    input: BytesMut,
    /// The channel that is being opened for it.
    pub(super) channel: Option<ChannelKey>,
    /// The connection to the target of the current request.
    pipe: Option<Pipe>,
}

/// The HTTP proxy's end of a socket that exists only in the engine.
#[derive(Debug)]
struct Pipe {
    socket: SocketId,
    /// What may be sent to the target.
    credit: ReadCredit,
    /// What came from it and has not been taken yet. The channel counts it as unwritten.
    output: VecDeque<Bytes>,
    end: Option<PipeEnd>,
    /// The target has ended its direction.
    has_ended: bool,
}

/// How the direction from the target ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PipeEnd {
    Eof,
    /// The other direction has ended, too.
    Closed,
    Reset,
}

/// Something to be done once the relay is at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HttpWork {
    /// Something has changed for this application.
    Serve(SocketId),
    /// Nobody wants what is written to this socket.
    Drop(SocketId),
}

/// What one step of a session has come to.
#[derive(Debug, Default)]
struct Step {
    from_client: usize,
    /// The socket whose bytes were taken, and how many.
    from_target: Option<(SocketId, usize)>,
    effect: Option<Effect>,
}

impl Step {
    fn is_nothing(&self) -> bool {
        self.from_client == 0 && self.from_target.is_none() && self.effect.is_none()
    }
}

impl HttpSession {
    /// The socket that leads to the target.
    fn target(&self) -> Option<SocketId> {
        self.pipe.as_ref().map(|pipe| pipe.socket)
    }

    /// Makes one step. `can_write`: the application takes more now.
    fn step(&mut self, can_write: bool) -> Step {
        let step = self.step_from_target(can_write);
        if !step.is_nothing() {
            return step;
        }
        let room = self.pipe.as_ref().map_or(0, |pipe| pipe.credit.bytes.min(pipe.credit.chunk));
        let before = self.input.len();
        let effect = self.proxy.handle_client(&mut self.input, room);
        if let (Some(pipe), Some(Effect::ToTarget(bytes))) = (&mut self.pipe, &effect) {
            pipe.credit.bytes -= bytes.len();
        }
        Step { from_client: before - self.input.len(), from_target: None, effect }
    }

    fn step_from_target(&mut self, can_write: bool) -> Step {
        let Some(pipe) = &mut self.pipe else { return Step::default() };
        if pipe.end == Some(PipeEnd::Reset) {
            self.pipe = None;
            return Step { effect: self.proxy.target_lost(), ..Step::default() };
        }
        if !can_write {
            return Step::default();
        }
        let mut nothing = Bytes::new();
        let input = pipe.output.front_mut().unwrap_or(&mut nothing);
        let before = input.len();
        let effect = self.proxy.handle_target(input);
        let taken = before - input.len();
        if before > 0 && input.is_empty() {
            pipe.output.pop_front();
        }
        let from_target = (taken > 0).then_some((pipe.socket, taken));
        if effect.is_none()
            && from_target.is_none()
            && pipe.output.is_empty()
            && let Some(end) = pipe.end.take()
        {
            let is_gone = end == PipeEnd::Closed;
            return Step { effect: self.proxy.target_ended(is_gone), ..Step::default() };
        }
        Step { from_client: 0, from_target, effect }
    }
}

impl Relay {
    fn http_session(&mut self, application: SocketId) -> Option<&mut HttpSession> {
        match &mut self.sockets.get_mut(application)?.owner {
            SocketOwner::Http(session) => Some(session),
            SocketOwner::Socks(_)
            | SocketOwner::Channel(_)
            | SocketOwner::Control(_)
            | SocketOwner::Datagrams(_)
            | SocketOwner::Dial(_)
            | SocketOwner::Closing => None,
        }
    }

    /// The pipe behind `socket`, if it is still of interest to the application.
    fn pipe(&mut self, application: SocketId, socket: SocketId) -> Option<&mut Pipe> {
        self.http_session(application)?.pipe.as_mut().filter(|pipe| pipe.socket == socket)
    }

    fn serve_http(&mut self, application: SocketId) {
        self.http_work.push_back(HttpWork::Serve(application));
    }

    pub(crate) fn has_http_work(&self) -> bool {
        !self.http_work.is_empty()
    }

    pub(crate) fn do_http_work(&mut self) {
        while let Some(work) = self.http_work.pop_front() {
            match work {
                HttpWork::Serve(application) => self.run_http(application),
                HttpWork::Drop(socket) => self.on_socket_failed(socket, SocketError::BrokenPipe),
            }
        }
    }

    fn run_http(&mut self, application: SocketId) {
        loop {
            let login = self.http_login(application);
            let locked = login.is_some_and(|address| self.is_locked_out(application, address));
            let can_write = self.can_write(application);
            let Some(session) = self.http_session(application) else { return };
            session.proxy.set_locked(locked);
            let step = session.step(can_write);
            if step.is_nothing() {
                break;
            }
            if let Some(socket) = self.sockets.get_mut(application) {
                socket.pacer.on_released(step.from_client);
            }
            if let Some((socket, taken)) = step.from_target {
                self.on_socket_written(socket, taken);
            }
            if let Some(effect) = step.effect {
                if let Some(address) = login {
                    self.judge_login(application, address, &effect);
                }
                self.carry_out(application, effect);
            }
        }
        let largest = self.config.limits.message_min;
        if let Some(socket) = self.sockets.get_mut(application)
            && let window = socket.pacer.window(largest, 0)
            && let Some(credit) = socket.pacer.top_up(window)
        {
            self.push(Output::Read { socket: application, credit });
        }
    }

    /// Where an application is that has to log in with each of its requests.
    fn http_login(&mut self, application: SocketId) -> Option<IpAddr> {
        let session = self.http_session(application)?;
        session.proxy.wants_login().then(|| session.ends.peer.ip())
    }

    /// What a request has come to tells whether its login was right.
    fn judge_login(&mut self, application: SocketId, address: IpAddr, effect: &Effect) {
        match effect {
            Effect::Tunnel(_) | Effect::Dial(_) => self.on_login(application, address, true),
            Effect::Close(Some(Refusal::WrongLogin)) => self.on_login(application, address, false),
            Effect::ToTarget(_)
            | Effect::EndToTarget
            | Effect::ToClient(_)
            | Effect::EndToClient
            | Effect::Release
            | Effect::Close(_)
            | Effect::Reset => {}
        }
    }

    fn carry_out(&mut self, application: SocketId, effect: Effect) {
        match effect {
            Effect::Tunnel(target) => {
                self.timers.cancel(Timer::Handshake(application));
                if let Some(socket) = self.sockets.get_mut(application)
                    && let SocketOwner::Http(session) = &mut socket.owner
                {
                    let early = EarlyInput {
                        bytes: std::mem::take(&mut session.input),
                        eof: session.proxy.has_client_ended(),
                    };
                    let session = SocksSession::tunnel(early, session.ends);
                    socket.owner = SocketOwner::Socks(Box::new(session));
                    self.want(Origin::Socks(application), Want::Stream(target));
                }
            }
            Effect::Dial(target) => {
                self.timers.cancel(Timer::Handshake(application));
                self.want(Origin::Http(application), Want::Stream(target));
            }
            Effect::ToTarget(bytes) => {
                if let Some(socket) = self.http_session(application).and_then(|session| session.target()) {
                    self.on_socket_read(socket, ReadBuf::copy_from(&bytes));
                }
            }
            Effect::EndToTarget => {
                if let Some(socket) = self.http_session(application).and_then(|session| session.target()) {
                    self.on_socket_eof(socket);
                }
            }
            Effect::ToClient(bytes) => self.write(application, bytes),
            Effect::EndToClient => self.shut_down_write(application),
            Effect::Release => {
                self.set_timer(Timer::Handshake(application), self.config.timeouts.http_keep_alive);
                self.release_pipe(application);
            }
            Effect::Close(refusal) => {
                self.drop_pipe(application, SocketError::BrokenPipe);
                match refusal {
                    Some(refusal) => self.fail_socks(application, refusal.to_string()),
                    None => self.close_socket(application),
                }
            }
            Effect::Reset => {
                self.drop_pipe(application, SocketError::Reset);
                self.reset_socket(application);
            }
        }
    }

    /// The target has answered, and has nothing more to say: it has a moment to close its end, too.
    fn release_pipe(&mut self, application: SocketId) {
        let Some(pipe) = self.http_session(application).and_then(|session| session.pipe.take()) else {
            return;
        };
        if !pipe.output.is_empty() {
            self.on_socket_failed(pipe.socket, SocketError::BrokenPipe);
            return;
        }
        if !pipe.has_ended {
            self.set_timer(Timer::Handshake(pipe.socket), self.config.timeouts.close_linger);
        }
        self.on_socket_eof(pipe.socket);
    }

    /// The connection to the target breaks.
    fn drop_pipe(&mut self, application: SocketId, error: SocketError) {
        if let Some(pipe) = self.http_session(application).and_then(|session| session.pipe.take()) {
            self.on_socket_failed(pipe.socket, error);
        }
    }

    // ---- the application's socket

    /// Takes an application for an HTTP client if its first byte is a capital letter, as that of every
    /// method. `false`: it is not one.
    pub(super) fn begin_http(&mut self, id: SocketId, buf: &ReadBuf) -> bool {
        let Some(socket) = self.sockets.get_mut(id) else { return false };
        let SocketOwner::Socks(session) = &socket.owner else { return false };
        let Some(login) = session.handshake.as_ref().and_then(crate::socks5::Handshake::fresh) else {
            return false;
        };
        if !buf.payload().first().is_some_and(u8::is_ascii_uppercase) {
            return false;
        }
        let session = HttpSession {
            proxy: ProxyServer::new(login),
            ends: session.ends,
            input: BytesMut::new(),
            channel: None,
            pipe: None,
        };
        socket.owner = SocketOwner::Http(Box::new(session));
        self.on_http_read(id, buf);
        true
    }

    pub(super) fn on_http_read(&mut self, id: SocketId, buf: &ReadBuf) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.pacer.on_read(buf.len());
        if let SocketOwner::Http(session) = &mut socket.owner {
            session.input.extend_from_slice(buf.payload());
            self.serve_http(id);
        }
    }

    pub(super) fn on_http_eof(&mut self, id: SocketId) {
        if let Some(session) = self.http_session(id) {
            session.proxy.client_ended();
            self.serve_http(id);
        }
    }

    /// The application is gone.
    pub(super) fn on_http_failed(&mut self, session: &HttpSession, error: SocketError) {
        if let Some(channel) = session.channel {
            self.abandon_channel(channel, error);
        }
        if let Some(pipe) = &session.pipe {
            self.on_socket_failed(pipe.socket, error);
        }
    }

    /// Whether nothing of a request has come.
    pub(super) fn is_idle_http(&mut self, id: SocketId) -> bool {
        self.http_session(id).is_some_and(|session| session.input.is_empty() && session.proxy.is_idle())
    }

    pub(super) fn refuse_http(&mut self, id: SocketId, error: &OpenError) {
        let Some(session) = self.http_session(id) else { return };
        session.channel = None;
        if let Some(effect) = session.proxy.refused(Refusal::from(error)) {
            self.carry_out(id, effect);
            self.serve_http(id);
        }
    }

    // ---- the channel's socket

    /// The channel for the current request is open: `socket` is its end.
    pub(super) fn connect_pipe(&mut self, application: SocketId, socket: SocketId, credit: ReadCredit) {
        if let Some(session) = self.http_session(application) {
            session.channel = None;
            session.pipe =
                Some(Pipe { socket, credit, output: VecDeque::new(), end: None, has_ended: false });
            session.proxy.connected();
            self.serve_http(application);
        }
    }

    /// The channel may be sent more.
    pub(super) fn widen_pipe(&mut self, application: SocketId, socket: SocketId, credit: ReadCredit) {
        if let Some(pipe) = self.pipe(application, socket) {
            pipe.credit = ReadCredit { bytes: pipe.credit.bytes + credit.bytes, chunk: credit.chunk };
            self.serve_http(application);
        }
    }

    /// The channel writes.
    pub(super) fn hand_over(&mut self, application: SocketId, socket: SocketId, data: Bytes) {
        if let Some(pipe) = self.pipe(application, socket) {
            pipe.output.push_back(data);
            self.serve_http(application);
        } else {
            self.http_work.push_back(HttpWork::Drop(socket));
        }
    }

    /// The channel ends its direction, or itself.
    pub(super) fn end_pipe(&mut self, application: SocketId, socket: SocketId, end: PipeEnd) {
        if let Some(pipe) = self.pipe(application, socket) {
            pipe.end = Some(end);
            pipe.has_ended = true;
            self.serve_http(application);
        }
    }
}
