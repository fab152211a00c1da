//! Sockets: what the driver reports of them, and the credit in both directions.

use std::collections::VecDeque;

use bytes::Bytes;

use super::http::{HttpWork, PipeEnd};
use super::{Relay, Socket, SocketOwner, Timer};
use crate::channel::ReadPacer;
use crate::error::SocketError;
use crate::ids::SocketId;
use crate::io::{Action, Output, ReadBuf};

/// The most writes in the driver per socket. Small ones beyond it are joined while they wait, so
/// that they don't each pin the buffer that they came in.
const MAX_WRITES: usize = 8;

impl Socket {
    pub(super) fn new(owner: SocketOwner, read_min: usize) -> Self {
        Self {
            owner,
            pacer: ReadPacer::new(read_min),
            writes: VecDeque::new(),
            writing: 0,
            listener: None,
            application: None,
        }
    }

    /// Whether everything is written.
    pub(super) fn is_written(&self) -> bool {
        self.writing == 0
    }

    fn on_written(&mut self, mut bytes: usize) {
        self.writing = self.writing.saturating_sub(bytes);
        while let Some(first) = self.writes.front_mut() {
            if *first > bytes {
                *first -= bytes;
                return;
            }
            bytes -= *first;
            self.writes.pop_front();
        }
    }
}

impl Relay {
    /// Whether the driver may be given another write for this socket.
    pub(super) fn can_write(&self, id: SocketId) -> bool {
        self.sockets.get(id).is_some_and(|socket| {
            socket.writing < self.config.limits.socket_write_window && socket.writes.len() < MAX_WRITES
        })
    }

    pub(super) fn write(&mut self, id: SocketId, data: Bytes) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if data.is_empty() {
            return;
        }
        socket.writing += data.len();
        socket.writes.push_back(data.len());
        match socket.application {
            None => self.push(Output::Write { socket: id, data }),
            Some(application) => self.hand_over(application, id, data),
        }
    }

    /// Lets the other end see EOF behind the last write.
    pub(super) fn shut_down_write(&mut self, id: SocketId) {
        match self.sockets.get(id).and_then(|socket| socket.application) {
            None => self.act(Action::ShutdownWrite { socket: id }),
            Some(application) => self.end_pipe(application, id, PipeEnd::Eof),
        }
    }

    pub(crate) fn on_socket_opened(&mut self, id: SocketId) {
        if let Some(Socket { owner: SocketOwner::Dial(dial), .. }) = self.sockets.get(id) {
            let dial = *dial;
            self.on_attempt_opened(dial, id);
        }
    }

    pub(crate) fn on_socket_read(&mut self, id: SocketId, buf: ReadBuf) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        match &socket.owner {
            SocketOwner::Socks(_) => self.on_socks_read(id, buf),
            SocketOwner::Http(_) => self.on_http_read(id, &buf),
            SocketOwner::Channel(channel) => {
                let channel = *channel;
                socket.pacer.on_read(buf.len());
                self.on_local_data(channel, buf);
            }
            SocketOwner::Control(_) => self.on_control_read(id, buf.len()),
            SocketOwner::Dial(dial) => {
                let dial = *dial;
                self.on_proxy_read(dial, id, &buf);
            }
            SocketOwner::Datagrams(_) | SocketOwner::Closing => {}
        }
    }

    pub(crate) fn on_socket_eof(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        match &mut socket.owner {
            SocketOwner::Socks(session) if session.wants_datagrams => self.on_control_eof(id),
            SocketOwner::Socks(session) if session.is_waiting() => session.early.eof = true,
            SocketOwner::Socks(_) => self.close_socket(id),
            SocketOwner::Http(_) => self.on_http_eof(id),
            SocketOwner::Channel(channel) => {
                let channel = *channel;
                self.on_local_eof(channel);
            }
            SocketOwner::Control(association) | SocketOwner::Datagrams(association) => {
                let association = *association;
                self.end_association(association, None);
            }
            SocketOwner::Dial(_) => self.on_proxy_eof(id),
            SocketOwner::Closing => {}
        }
    }

    pub(crate) fn on_socket_written(&mut self, id: SocketId, bytes: usize) {
        let Some(socket) = self.sockets.get_mut(id) else { return };
        socket.on_written(bytes);
        match socket.owner {
            SocketOwner::Channel(channel) => self.on_local_progress(channel),
            SocketOwner::Http(_) => self.http_work.push_back(HttpWork::Serve(id)),
            SocketOwner::Socks(_)
            | SocketOwner::Control(_)
            | SocketOwner::Datagrams(_)
            | SocketOwner::Dial(_)
            | SocketOwner::Closing => {}
        }
    }

    pub(crate) fn on_socket_failed(&mut self, id: SocketId, error: SocketError) {
        match self.forget_socket(id).map(|socket| socket.owner) {
            Some(SocketOwner::Socks(session)) => self.on_socks_failed(&session, error),
            Some(SocketOwner::Http(session)) => self.on_http_failed(&session, error),
            Some(SocketOwner::Channel(channel)) => self.on_local_failure(channel, error),
            Some(SocketOwner::Control(association)) => self.end_association(association, None),
            Some(SocketOwner::Datagrams(association)) => self.on_port_failed(association, id, error),
            Some(SocketOwner::Dial(dial)) => self.on_attempt_failed(dial, id, error),
            Some(SocketOwner::Closing) | None => {}
        }
    }

    pub(crate) fn on_socket_closed(&mut self, id: SocketId) {
        if self.sockets.get(id).is_some_and(|socket| matches!(socket.owner, SocketOwner::Closing)) {
            self.forget_socket(id);
        }
    }

    /// Removes a socket whose descriptor is released.
    fn forget_socket(&mut self, id: SocketId) -> Option<Socket> {
        self.timers.cancel(Timer::Handshake(id));
        let socket = self.sockets.remove(id)?;
        if let Some(listener) = socket.listener {
            self.on_connection_closed(listener);
        }
        Some(socket)
    }

    /// Closes a socket after its last write.
    pub(super) fn close_socket(&mut self, id: SocketId) {
        let linger = self.config.timeouts.close_linger;
        self.release_socket(id, Action::Close { socket: id, linger });
    }

    /// Makes the other end of a socket see a reset.
    pub(super) fn reset_socket(&mut self, id: SocketId) {
        self.release_socket(id, Action::Reset { socket: id });
    }

    fn release_socket(&mut self, id: SocketId, action: Action) {
        self.timers.cancel(Timer::Handshake(id));
        let Some(socket) = self.sockets.get_mut(id) else { return };
        if let Some(application) = socket.application {
            self.sockets.remove(id);
            let reset = matches!(action, Action::Reset { .. });
            self.end_pipe(application, id, if reset { PipeEnd::Reset } else { PipeEnd::Closed });
        } else if !matches!(socket.owner, SocketOwner::Closing) {
            socket.owner = SocketOwner::Closing;
            self.act(action);
        }
    }
}
