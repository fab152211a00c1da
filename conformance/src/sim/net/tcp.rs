//! One TCP connection, as the kernels at its two ends see it.
//!
//! Modelled, because engines and drivers depend on it: bounded send and receive buffers (a write
//! may be short), flow control (a reader that doesn't read stops the writer), transmission time and
//! latency, FIN for each direction, and RST, which destroys what the other end has received but not
//! read. Closing a descriptor with unread bytes, or receiving bytes for a closed one, is a RST.
//!
//! Not modelled: loss and retransmission (a network that stalls looks the same from above), and
//! kernels that let an application read on after a RST: the harsher kind finds more.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use linksocks_sansio::error::SocketError;

use super::Owner;
use super::rope::Rope;
use crate::sim::clock::Time;

/// The most that travels in one piece. Larger than on a real network, which only saves events.
const SEGMENT: usize = 16 * 1024;

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The one that connected.
    Dialer,
    /// The one that accepted.
    Listener,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Dialer => Self::Listener,
            Self::Listener => Self::Dialer,
        }
    }
}

/// What came of reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// At least one byte.
    Data(Bytes),
    /// The other end has shut down its write half, and everything before was read.
    Eof,
    /// Nothing has come yet.
    Pending,
}

/// The way between two ends.
#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) latency: Duration,
    /// Bytes per second.
    pub(super) bandwidth: u64,
    /// Nothing arrives before.
    pub(super) stalled_until: Time,
    /// Nothing arrives any more, and nobody is told.
    pub(super) dead: bool,
}

/// A connection, from the first SYN on.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) path: Path,
    ends: [End; 2],
}

/// What one kernel keeps for its end.
#[derive(Debug)]
pub(super) struct End {
    /// Who is woken when something changes.
    pub(super) owner: Owner,
    /// Written by the application, not on its way yet.
    unsent: Rope,
    /// On its way to the other end.
    in_flight: VecDeque<Segment>,
    in_flight_bytes: usize,
    send_capacity: usize,
    /// Until when earlier segments occupy the wire.
    wire_busy_until: Time,
    fin: Fin,
    /// Received, not read yet.
    unread: Rope,
    receive_capacity: usize,
    /// The FIN of the other end has arrived.
    peer_finished: bool,
    error: Option<SocketError>,
    /// The descriptor is closed.
    pub(super) released: bool,
    /// Whether the network has an arrival of this end's segments on its agenda.
    pub(super) scheduled: bool,
}

#[derive(Debug)]
struct Segment {
    arrival: Time,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Data(Bytes),
    Fin,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    /// The application may write on.
    Open,
    /// To be sent after the last byte.
    Queued,
    /// Sent; or never to be sent, after a RST.
    Done,
}

impl End {
    pub(super) fn new(owner: Owner, send_capacity: usize, receive_capacity: usize) -> Self {
        Self {
            owner,
            unsent: Rope::default(),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            send_capacity,
            wire_busy_until: Time::ZERO,
            fin: Fin::Open,
            unread: Rope::default(),
            receive_capacity,
            peer_finished: false,
            error: None,
            released: false,
            scheduled: false,
        }
    }

    /// The connection is over for this end: a RST came, or the dial failed.
    pub(super) fn fail(&mut self, error: SocketError) {
        self.error.get_or_insert(error);
        self.unsent.clear();
        self.unread.clear();
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.fin = Fin::Done;
    }

    pub(super) const fn error(&self) -> Option<SocketError> {
        self.error
    }

    fn writable(&self) -> usize {
        self.send_capacity.saturating_sub(self.unsent.len() + self.in_flight_bytes)
    }

    fn launch(&mut self, arrival: Time, content: Content) {
        let arrival = self.in_flight.back().map_or(arrival, |last| arrival.max(last.arrival));
        self.in_flight.push_back(Segment { arrival, content });
    }
}

impl Connection {
    pub(super) const fn new(path: Path, dialer: End, listener: End) -> Self {
        Self { path, ends: [dialer, listener] }
    }

    pub(super) const fn end(&self, side: Side) -> &End {
        &self.ends[side as usize]
    }

    pub(super) const fn end_mut(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    /// Writes as much as fits into the send buffer, taking it from the front of `bytes`.
    pub(super) fn write(&mut self, side: Side, bytes: &mut Bytes, now: Time) -> Result<usize, SocketError> {
        let end = self.end_mut(side);
        if let Some(error) = end.error {
            return Err(error);
        }
        assert!(end.fin == Fin::Open && !end.released, "wrote to a connection after closing it");
        let written = bytes.split_to(bytes.len().min(end.writable()));
        let count = written.len();
        end.unsent.push(written);
        self.transmit(side, now);
        Ok(count)
    }

    /// Reads at most `max` bytes.
    pub(super) fn read(&mut self, side: Side, max: usize, now: Time) -> Result<Read, SocketError> {
        let end = self.end_mut(side);
        if let Some(error) = end.error {
            return Err(error);
        }
        if end.unread.is_empty() {
            return Ok(if end.peer_finished { Read::Eof } else { Read::Pending });
        }
        let bytes = end.unread.take_up_to(max);
        self.transmit(side.peer(), now);
        Ok(Read::Data(bytes))
    }

    /// Sends a FIN after the last byte.
    pub(super) fn shutdown_write(&mut self, side: Side, now: Time) {
        let end = self.end_mut(side);
        if end.fin == Fin::Open {
            end.fin = Fin::Queued;
        }
        self.transmit(side, now);
    }

    /// Closes the descriptor as `close(2)` does: regular unless received bytes were not read.
    /// Returns whether it was regular.
    pub(super) fn release(&mut self, side: Side, now: Time) -> bool {
        let end = self.end_mut(side);
        if !end.unread.is_empty() {
            self.abort(side, now);
            return false;
        }
        end.released = true;
        self.shutdown_write(side, now);
        true
    }

    /// Closes the descriptor with a RST (zero linger). What is unsent is dropped.
    pub(super) fn abort(&mut self, side: Side, now: Time) {
        let latency = self.path.latency;
        let end = self.end_mut(side);
        if end.error.is_none() {
            end.launch(now + latency, Content::Reset);
        }
        end.unsent.clear();
        end.unread.clear();
        end.fin = Fin::Done;
        end.released = true;
    }

    /// When the next segment of `from` arrives, if one is on its way.
    pub(super) fn next_arrival(&self, from: Side) -> Option<Time> {
        let first = self.end(from).in_flight.front()?;
        (!self.path.dead).then(|| first.arrival.max(self.path.stalled_until))
    }

    /// Takes in everything of `from` that has arrived by now. Returns whether anything has.
    pub(super) fn arrive(&mut self, from: Side, now: Time) -> bool {
        let mut any = false;
        while self.next_arrival(from).is_some_and(|arrival| arrival <= now) {
            let Some(segment) = self.end_mut(from).in_flight.pop_front() else { break };
            any = true;
            if let Content::Data(bytes) = &segment.content {
                self.end_mut(from).in_flight_bytes -= bytes.len();
            }
            self.take_in(from.peer(), segment.content, now);
        }
        if any {
            self.transmit(from, now);
        }
        any
    }

    fn take_in(&mut self, side: Side, content: Content, now: Time) {
        let latency = self.path.latency;
        let end = self.end_mut(side);
        if end.error.is_some() {
            return;
        }
        match content {
            Content::Reset => end.fail(SocketError::Reset),
            Content::Data(_) if end.released => {
                if !end.in_flight.iter().any(|segment| matches!(segment.content, Content::Reset)) {
                    end.unsent.clear();
                    end.fin = Fin::Done;
                    end.launch(now + latency, Content::Reset);
                }
            }
            Content::Data(bytes) => end.unread.push(bytes),
            Content::Fin => end.peer_finished = true,
        }
    }

    /// Puts on the wire what the receiver has room for, and the FIN behind the last byte.
    fn transmit(&mut self, side: Side, now: Time) {
        let receiver = self.end(side.peer());
        let (receive_capacity, unread) = (receiver.receive_capacity, receiver.unread.len());
        let Path { latency, bandwidth, .. } = self.path;
        let end = self.end_mut(side);
        loop {
            let room = receive_capacity.saturating_sub(unread + end.in_flight_bytes);
            let length = end.unsent.len().min(SEGMENT);
            // Many tiny segments help nobody: wait for a worthwhile window (RFC 9293 section 3.8.6.2.1).
            if length == 0 || room < length.min(receive_capacity / 2) {
                break;
            }
            let piece = end.unsent.take_up_to(length.min(room));
            let transmission = Duration::from_nanos(piece.len() as u64 * 1_000_000_000 / bandwidth.max(1));
            end.wire_busy_until = end.wire_busy_until.max(now) + transmission;
            end.in_flight_bytes += piece.len();
            end.launch(end.wire_busy_until + latency, Content::Data(piece));
        }
        if end.fin == Fin::Queued && end.unsent.is_empty() {
            end.fin = Fin::Done;
            end.launch(end.wire_busy_until.max(now) + latency, Content::Fin);
        }
    }
}

#[cfg(test)]
mod tests;
