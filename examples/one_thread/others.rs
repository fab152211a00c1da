//! The listener, UDP sockets, and the engine's names of errors.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use linksocks_sansio::error::SocketError;
use linksocks_sansio::{Input, ListenerId, SocketId, Ticket};
use mio::net::{TcpListener, UdpSocket};

use crate::{Next, Turn};

/// The pause after a failed `accept`: out of descriptors, it fails again at once.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Listener {
    id: ListenerId,
    pub(crate) socket: TcpListener,
    pub(crate) readable: bool,
    /// How many connections may be accepted.
    pub(crate) credit: usize,
}

impl Listener {
    /// Listens. Returns also where.
    pub(crate) fn open(id: ListenerId, address: SocketAddr) -> Result<(Self, SocketAddr), SocketError> {
        let socket = TcpListener::bind(address).map_err(|error| socket_error(&error))?;
        let local = socket.local_addr().map_err(|error| socket_error(&error))?;
        Ok((Self { id, socket, readable: true, credit: 0 }, local))
    }

    pub(crate) fn work(&mut self, turn: &mut Turn) -> Next {
        while self.readable && self.credit > 0 {
            match self.socket.accept().and_then(|(socket, peer)| Ok((socket.local_addr()?, socket, peer))) {
                Ok((local, socket, peer)) => {
                    // A connection that takes no options is dead; reading will tell.
                    let _ = socket.set_nodelay(true);
                    self.credit -= 1;
                    let ticket = Ticket(turn.next_ticket);
                    turn.next_ticket += 1;
                    turn.offers.insert(ticket, socket);
                    turn.inputs.push(Input::SocketAccepted { ticket, listener: self.id, local, peer });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                // The listener is as good as before.
                Err(_) => return Next::At(turn.now + PAUSE),
            }
        }
        Next::News
    }
}

/// A UDP socket.
pub(crate) struct Datagrams {
    id: SocketId,
    pub(crate) socket: UdpSocket,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// How many datagrams may be received.
    pub(crate) credit: usize,
    pub(crate) queue: VecDeque<(SocketAddr, Bytes)>,
    pub(crate) closing: bool,
}

impl Datagrams {
    /// Binds. Returns also where.
    pub(crate) fn bind(id: SocketId, address: SocketAddr) -> Result<(Self, SocketAddr), SocketError> {
        let socket = UdpSocket::bind(address).map_err(|error| socket_error(&error))?;
        let local = socket.local_addr().map_err(|error| socket_error(&error))?;
        let queue = VecDeque::new();
        Ok((Self { id, socket, readable: true, writable: true, credit: 0, queue, closing: false }, local))
    }

    pub(crate) fn work(&mut self, turn: &mut Turn) -> Next {
        self.send(turn);
        if self.closing {
            // What the kernel has not taken is lost, as datagrams may be.
            turn.inputs.push(Input::SocketClosed { socket: self.id });
            return Next::Gone;
        }
        while self.readable && self.credit > 0 {
            match self.socket.recv_from(&mut turn.scratch) {
                Ok((length, from)) => {
                    self.credit -= 1;
                    let payload = Bytes::copy_from_slice(&turn.scratch[..length]);
                    turn.inputs.push(Input::DatagramReceived { socket: self.id, from, payload });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                // Some systems tell here that an earlier datagram was not wanted where it went.
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused) => {}
                Err(error) => {
                    let error = socket_error(&error);
                    turn.inputs.push(Input::SocketFailed { socket: self.id, error });
                    return Next::Gone;
                }
            }
        }
        Next::News
    }

    fn send(&mut self, turn: &mut Turn) {
        let (mut count, mut failed) = (0, 0);
        while self.writable
            && let Some((to, payload)) = self.queue.front()
        {
            match self.socket.send_to(payload, *to) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.writable = false;
                    break;
                }
                // This one can't be sent, which says nothing about the next one.
                Err(_) => failed += 1,
                Ok(_) => {}
            }
            count += 1;
            self.queue.pop_front();
        }
        if count > 0 {
            turn.inputs.push(Input::DatagramsSent { socket: self.id, count, failed });
        }
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
        _ => SocketError::Other,
    }
}
