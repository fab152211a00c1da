//! One TCP connection: of an application, or to the server.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use linksocks_sansio::error::SocketError;
use linksocks_sansio::io::ReadCredit;
use linksocks_sansio::{Input, ReadBuf, SocketId};
use mio::net::TcpStream;
use socket2::SockRef;

use crate::others::socket_error;
use crate::{Next, Turn};

pub(crate) struct Stream {
    id: SocketId,
    pub(crate) socket: TcpStream,
    connecting: bool,
    /// The kernel has not said that a read, or a write, would wait.
    pub(crate) readable: bool,
    pub(crate) writable: bool,

    /// What may be read.
    pub(crate) credit: ReadCredit,
    eof: bool,
    /// What is to be written.
    pub(crate) queue: VecDeque<Bytes>,
    write_half: WriteHalf,
    /// Ordered to close: reads and throws away until then at the latest.
    closing: Option<Instant>,
    pub(crate) resetting: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum WriteHalf {
    Open,
    /// To be shut down behind the queue.
    Ending,
    Shut,
    Broken(SocketError),
}

impl Stream {
    /// On its way to the other end.
    pub(crate) fn connecting(id: SocketId, socket: TcpStream, credit: ReadCredit) -> Self {
        Self { connecting: true, readable: false, writable: false, ..Self::accepted(id, socket, credit) }
    }

    pub(crate) fn accepted(id: SocketId, socket: TcpStream, credit: ReadCredit) -> Self {
        Self {
            id,
            socket,
            connecting: false,
            readable: true,
            writable: true,
            credit,
            eof: false,
            queue: VecDeque::new(),
            write_half: WriteHalf::Open,
            closing: None,
            resetting: false,
        }
    }

    pub(crate) fn shut_down_write(&mut self) {
        if self.write_half == WriteHalf::Open {
            self.write_half = WriteHalf::Ending;
        }
    }

    pub(crate) fn close(&mut self, until: Instant) {
        self.shut_down_write();
        self.closing = Some(until);
    }

    pub(crate) fn work(&mut self, turn: &mut Turn) -> Next {
        let id = self.id;
        if self.resetting {
            return self.reset(turn);
        }
        let next = match self.connecting {
            true if self.closing.is_some() => None,
            true => Some(self.connect(turn)),
            false => {
                self.write(turn);
                match self.closing {
                    Some(until) => self.discard(turn, until),
                    None => Some(self.read(turn)),
                }
            }
        };
        match next {
            Some(Ok(next)) => next,
            Some(Err(error)) => {
                turn.inputs.push(Input::SocketFailed { socket: id, error });
                Next::Gone
            }
            None => {
                turn.inputs.push(Input::SocketClosed { socket: id });
                Next::Gone
            }
        }
    }

    /// With zero linger, releasing the descriptor sends RST.
    fn reset(&self, turn: &mut Turn) -> Next {
        // If the option can't be set, the connection is dead already.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        turn.inputs.push(Input::SocketClosed { socket: self.id });
        Next::Gone
    }

    /// Whether the kernel has connected it.
    fn connect(&mut self, turn: &mut Turn) -> Result<Next, SocketError> {
        if !self.writable {
            return Ok(Next::News);
        }
        if let Some(error) = self.socket.take_error().map_err(|error| socket_error(&error))? {
            return Err(socket_error(&error));
        }
        if self.socket.peer_addr().is_err() {
            self.writable = false; // not yet: that was news of something else
            return Ok(Next::News);
        }
        self.connecting = false;
        // A connection that takes no options is dead; reading will tell.
        let _ = self.socket.set_nodelay(true);
        turn.inputs.push(Input::SocketOpened { socket: self.id });
        Ok(Next::Soon)
    }

    /// Writes as much as the kernel takes, then shuts down the write half if that is due.
    fn write(&mut self, turn: &mut Turn) {
        let mut written = 0;
        while self.writable
            && let Some(data) = self.queue.front_mut()
        {
            match self.socket.write(data) {
                Ok(length) => {
                    written += length;
                    data.advance(length);
                    if data.is_empty() {
                        self.queue.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    // What the other end sent before it broke the connection can still be read.
                    self.write_half = WriteHalf::Broken(socket_error(&error));
                    self.queue.clear();
                }
            }
        }
        if written > 0 {
            turn.inputs.push(Input::SocketWritten { socket: self.id, bytes: written });
        }
        if self.queue.is_empty() && self.write_half == WriteHalf::Ending {
            self.write_half = match self.socket.shutdown(Shutdown::Write) {
                Ok(()) => WriteHalf::Shut,
                Err(error) => WriteHalf::Broken(socket_error(&error)),
            };
        }
        if let WriteHalf::Broken(_) = self.write_half {
            self.queue.clear();
        }
    }

    /// Reads what the engine permits. That bounds a turn, too.
    fn read(&mut self, turn: &mut Turn) -> Result<Next, SocketError> {
        while self.readable && !self.eof && self.credit.bytes > 0 {
            let most = self.credit.bytes.min(self.credit.chunk).clamp(1, turn.scratch.len());
            match self.socket.read(&mut turn.scratch[..most]) {
                Ok(0) => {
                    self.eof = true;
                    if !matches!(self.write_half, WriteHalf::Broken(_)) {
                        turn.inputs.push(Input::SocketEof { socket: self.id });
                    }
                }
                Ok(length) => {
                    self.credit.bytes -= length;
                    let buf = ReadBuf::copy_from(&turn.scratch[..length]);
                    turn.inputs.push(Input::SocketRead { socket: self.id, buf });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(socket_error(&error)),
            }
        }
        match self.write_half {
            // If something is left, it is lost: the engine resets the channel, so nobody misses it.
            WriteHalf::Broken(error) if self.eof || self.credit.bytes == 0 => Err(error),
            WriteHalf::Open | WriteHalf::Ending | WriteHalf::Shut | WriteHalf::Broken(_) => Ok(Next::News),
        }
    }

    /// Reads what nobody wants, until the other end has closed, too: to release the descriptor with
    /// unread bytes would send RST, and the other end would lose what it has not read. `None`: done.
    fn discard(&mut self, turn: &mut Turn, until: Instant) -> Option<Result<Next, SocketError>> {
        let shut = matches!(self.write_half, WriteHalf::Shut | WriteHalf::Broken(_));
        if turn.now >= until {
            if !shut {
                // The other end must not take what it got for everything.
                let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
            }
            return None;
        }
        if self.readable && !self.eof {
            match self.socket.read(&mut turn.scratch) {
                Ok(0) => self.eof = true,
                Ok(_) => return Some(Ok(Next::Soon)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => return Some(Ok(Next::Soon)),
                Err(_) => return None,
            }
        }
        if self.eof && shut { None } else { Some(Ok(Next::At(until))) }
    }
}
