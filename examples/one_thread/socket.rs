//! TCP connections, the listener, UDP sockets.
//!
//! mio tells each news once. So a socket stays readable, or writable, until the kernel says that a read or
//! write would wait.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use linksocks_sansio::error::SocketError;
use linksocks_sansio::io::ReadCredit;
use linksocks_sansio::{Input, ListenerId, SocketId, Ticket};
use mio::net::{TcpListener, TcpStream, UdpSocket};
use socket2::SockRef;

use crate::Turn;

/// The pause after a failed `accept`: out of descriptors, it fails again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs a call that never waits. `None`: it would, and there will be news when it does no more.
pub(crate) fn attempt<T>(ready: &mut bool, mut call: impl FnMut() -> io::Result<T>) -> io::Result<Option<T>> {
    loop {
        match call() {
            Ok(value) => return Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                *ready = false;
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
}

/// A TCP connection: of an application, or to the server.
pub(crate) struct Stream {
    id: SocketId,
    pub(crate) tcp: TcpStream,
    pub(crate) token: mio::Token,
    connecting: bool,
    readable: bool,
    writable: bool,
    /// What may be read.
    pub(crate) credit: ReadCredit,
    eof: bool,
    /// What is to be written.
    pub(crate) queue: VecDeque<Bytes>,
    /// The write half is to be shut down behind that.
    pub(crate) ending: bool,
    shut: bool,
    /// Ordered to close: reads and throws away, until then at the latest.
    closing: Option<Instant>,
    pub(crate) resetting: bool,
}

impl Stream {
    pub(crate) fn new(
        id: SocketId,
        mut tcp: TcpStream,
        credit: ReadCredit,
        connecting: bool,
        turn: &mut Turn,
    ) -> io::Result<Self> {
        let token = turn.register(&mut tcp)?;
        Ok(Self {
            id,
            tcp,
            token,
            connecting,
            readable: !connecting,
            writable: !connecting,
            credit,
            eof: false,
            queue: VecDeque::new(),
            ending: false,
            shut: false,
            closing: None,
            resetting: false,
        })
    }

    pub(crate) fn close(&mut self, until: Instant) {
        self.ending = true;
        self.closing = Some(until);
        self.resetting = self.connecting;
    }

    /// Returns whether it lives on.
    pub(crate) fn work(&mut self, turn: &mut Turn) -> bool {
        if turn.news.contains(&self.token) {
            (self.readable, self.writable) = (true, true);
        }
        let (socket, closing) = (self.id, self.closing.is_some());
        let over = match self.progress(turn) {
            Ok(false) => return true,
            Ok(true) => Input::SocketClosed { socket },
            Err(_) if closing => Input::SocketClosed { socket },
            Err(error) => Input::SocketFailed { socket, error: socket_error(&error) },
        };
        turn.inputs.push(over);
        false
    }

    /// Returns whether it is over, as the engine has ordered. An error ends all of it: when a write
    /// fails, what the other end has sent before is lost, too. (`driver-core` reads that first.)
    fn progress(&mut self, turn: &mut Turn) -> io::Result<bool> {
        if self.connecting && !self.resetting && !self.is_connected(turn)? {
            return Ok(false);
        }
        // Without linger, releasing the descriptor sends RST. So it does to who has not taken the last
        // bytes in time: what it got must not look complete.
        let late = self.closing.is_some_and(|until| turn.now >= until);
        if self.resetting || (late && !self.shut) {
            // If the option can't be set, the connection is dead already.
            let _ = SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO));
        }
        if self.resetting || late {
            return Ok(true);
        }
        self.write(turn)?;
        match self.closing {
            None => self.read(turn).map(|()| false),
            Some(until) => {
                turn.wake_up_at(until);
                self.discard(turn)
            }
        }
    }

    fn is_connected(&mut self, turn: &mut Turn) -> io::Result<bool> {
        if !self.writable {
            return Ok(false);
        }
        if let Some(error) = self.tcp.take_error()? {
            return Err(error);
        }
        if self.tcp.peer_addr().is_err() {
            self.writable = false; // not yet: that was news of something else
            return Ok(false);
        }
        self.connecting = false;
        self.tcp.set_nodelay(true)?;
        turn.inputs.push(Input::SocketOpened { socket: self.id });
        Ok(true)
    }

    /// Writes as much as the kernel takes, then shuts down the write half if that is due.
    fn write(&mut self, turn: &mut Turn) -> io::Result<()> {
        let mut written = 0;
        while self.writable
            && let Some(data) = self.queue.front_mut()
            && let Some(length) = attempt(&mut self.writable, || self.tcp.write(data))?
        {
            written += length;
            data.advance(length);
            if data.is_empty() {
                self.queue.pop_front();
            }
        }
        if written > 0 {
            turn.inputs.push(Input::SocketWritten { socket: self.id, bytes: written });
        }
        if self.ending && !self.shut && self.queue.is_empty() {
            self.tcp.shutdown(Shutdown::Write)?;
            self.shut = true;
        }
        Ok(())
    }

    /// Reads what the engine permits. That bounds a turn, too.
    fn read(&mut self, turn: &mut Turn) -> io::Result<()> {
        let socket = self.id;
        while self.readable && !self.eof && self.credit.bytes > 0 {
            let most = self.credit.bytes.min(self.credit.chunk).clamp(1, turn.scratch.len());
            match attempt(&mut self.readable, || self.tcp.read(&mut turn.scratch[..most]))? {
                None => {}
                Some(0) => {
                    self.eof = true;
                    turn.inputs.push(Input::SocketEof { socket });
                }
                Some(length) => {
                    self.credit.bytes -= length;
                    let buf = turn.read(length);
                    turn.inputs.push(Input::SocketRead { socket, buf });
                }
            }
        }
        Ok(())
    }

    /// Reads what nobody wants until the other end has closed, too: to release the descriptor with
    /// unread bytes would send RST, and destroy what the other end has not read. Returns whether that
    /// is done.
    fn discard(&mut self, turn: &mut Turn) -> io::Result<bool> {
        if self.readable && !self.eof {
            match attempt(&mut self.readable, || self.tcp.read(&mut turn.scratch))? {
                None => {}
                Some(0) => self.eof = true,
                Some(_) => turn.wake_up_at(turn.now), // others first
            }
        }
        Ok(self.eof && self.shut)
    }
}

pub(crate) struct Listener {
    id: ListenerId,
    socket: TcpListener,
    token: mio::Token,
    readable: bool,
    /// How many connections may be accepted.
    pub(crate) credit: usize,
}

impl Listener {
    /// Listens. Returns also where.
    pub(crate) fn open(
        id: ListenerId,
        address: SocketAddr,
        turn: &mut Turn,
    ) -> io::Result<(Self, SocketAddr)> {
        let mut socket = TcpListener::bind(address)?;
        let (token, local) = (turn.register(&mut socket)?, socket.local_addr()?);
        Ok((Self { id, socket, token, readable: true, credit: 0 }, local))
    }

    pub(crate) fn work(&mut self, turn: &mut Turn) {
        self.readable |= turn.news.contains(&self.token);
        while self.readable && self.credit > 0 {
            let accepted = attempt(&mut self.readable, || {
                let (tcp, peer) = self.socket.accept()?;
                tcp.set_nodelay(true)?;
                Ok((tcp.local_addr()?, tcp, peer))
            });
            match accepted {
                Ok(None) => {}
                Ok(Some((local, tcp, peer))) => {
                    self.credit -= 1;
                    let ticket = Ticket(turn.next_ticket);
                    turn.next_ticket += 1;
                    turn.offers.insert(ticket, tcp);
                    turn.inputs.push(Input::SocketAccepted { ticket, listener: self.id, local, peer });
                }
                Err(_) => return turn.wake_up_at(turn.now + PAUSE), // the listener is as good as before
            }
        }
    }
}

/// A UDP socket.
pub(crate) struct Datagrams {
    id: SocketId,
    socket: UdpSocket,
    token: mio::Token,
    readable: bool,
    writable: bool,
    /// How many datagrams may be received.
    pub(crate) credit: usize,
    pub(crate) queue: VecDeque<(SocketAddr, Bytes)>,
    pub(crate) closing: bool,
}

impl Datagrams {
    /// Binds. Returns also where.
    pub(crate) fn bind(id: SocketId, address: SocketAddr, turn: &mut Turn) -> io::Result<(Self, SocketAddr)> {
        let mut socket = UdpSocket::bind(address)?;
        let (token, local) = (turn.register(&mut socket)?, socket.local_addr()?);
        let (readable, writable, credit, queue) = (true, true, 0, VecDeque::new());
        Ok((Self { id, socket, token, readable, writable, credit, queue, closing: false }, local))
    }

    /// Returns whether it lives on.
    pub(crate) fn work(&mut self, turn: &mut Turn) -> bool {
        if turn.news.contains(&self.token) {
            (self.readable, self.writable) = (true, true);
        }
        let socket = self.id;
        let (mut count, mut failed) = (0, 0);
        while self.writable
            && let Some((to, payload)) = self.queue.front()
        {
            match attempt(&mut self.writable, || self.socket.send_to(payload, *to)) {
                Ok(None) => break,
                Ok(Some(_)) => {}
                Err(_) => failed += 1, // which says nothing about the next one
            }
            count += 1;
            self.queue.pop_front();
        }
        if count > 0 {
            turn.inputs.push(Input::DatagramsSent { socket, count, failed });
        }
        while self.readable && self.credit > 0 && !self.closing {
            match attempt(&mut self.readable, || self.socket.recv_from(&mut turn.scratch)) {
                Ok(None) => {}
                Ok(Some((length, from))) => {
                    self.credit -= 1;
                    let payload = Bytes::copy_from_slice(&turn.scratch[..length]);
                    turn.inputs.push(Input::DatagramReceived { socket, from, payload });
                }
                Err(error) => {
                    turn.inputs.push(Input::SocketFailed { socket, error: socket_error(&error) });
                    return false;
                }
            }
        }
        if self.closing {
            turn.inputs.push(Input::SocketClosed { socket });
        }
        !self.closing
    }
}

/// The engine's name for a failed socket operation.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds have no name of their own here")]
pub(crate) fn socket_error(error: &io::Error) -> SocketError {
    match error.kind() {
        ErrorKind::ConnectionRefused => SocketError::Refused,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => SocketError::Reset,
        ErrorKind::BrokenPipe | ErrorKind::NotConnected => SocketError::BrokenPipe,
        ErrorKind::TimedOut => SocketError::TimedOut,
        ErrorKind::HostUnreachable => SocketError::HostUnreachable,
        ErrorKind::NetworkUnreachable => SocketError::NetworkUnreachable,
        ErrorKind::AddrInUse => SocketError::AddressInUse,
        ErrorKind::AddrNotAvailable => SocketError::AddressNotAvailable,
        ErrorKind::PermissionDenied => SocketError::PermissionDenied,
        ErrorKind::UnexpectedEof => SocketError::UnexpectedEof,
        _ => SocketError::Other,
    }
}
