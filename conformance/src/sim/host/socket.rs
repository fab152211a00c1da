//! The pump of one socket: does what the engine says and decides nothing.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use linksocks_sansio::error::SocketError;
use linksocks_sansio::io::ReadCredit;
use linksocks_sansio::{Input, ReadBuf, SocketId};

use super::Surroundings;
use crate::sim::clock::Time;
use crate::sim::net::{DialState, EndId, Read};

/// A descriptor with what the engine has asked of it.
#[derive(Debug)]
pub(super) struct SocketPump {
    id: SocketId,
    pub(super) end: EndId,
    phase: Phase,
    credit: ReadCredit,
    unwritten: VecDeque<Bytes>,
    eof: bool,
    shut_down: ShutDown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Open,
    /// Close was asked for; the last writes are under way.
    Closing {
        linger: Duration,
    },
    /// The write half is shut; what comes is read and discarded.
    Discarding {
        until: Time,
    },
    /// Released; the engine has been told.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShutDown {
    No,
    AfterLastWrite,
    Done,
}

impl SocketPump {
    /// A connection that is being dialled.
    pub(super) const fn connecting(id: SocketId, end: EndId, credit: ReadCredit) -> Self {
        let (phase, shut_down) = (Phase::Connecting, ShutDown::No);
        Self { id, end, phase, credit, unwritten: VecDeque::new(), eof: false, shut_down }
    }

    /// A connection that exists.
    pub(super) const fn open(id: SocketId, end: EndId, credit: ReadCredit) -> Self {
        let mut pump = Self::connecting(id, end, credit);
        pump.phase = Phase::Open;
        pump
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// When the pump must run even if nothing happens on the network.
    pub(super) const fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Discarding { until } => Some(until),
            Phase::Connecting | Phase::Open | Phase::Closing { .. } | Phase::Over => None,
        }
    }

    pub(super) fn grant(&mut self, credit: ReadCredit) {
        self.credit.bytes += credit.bytes;
        self.credit.chunk = credit.chunk;
    }

    pub(super) fn revoke(&mut self, around: &mut Surroundings<'_>) {
        if !self.is_over() {
            let bytes = std::mem::take(&mut self.credit.bytes);
            around.inbox.push_back(Input::Revoked { socket: self.id, bytes });
        }
    }

    pub(super) fn write(&mut self, data: Bytes) {
        self.unwritten.push_back(data);
    }

    pub(super) fn shut_down_write(&mut self) {
        if self.shut_down == ShutDown::No {
            self.shut_down = ShutDown::AfterLastWrite;
        }
    }

    pub(super) fn close(&mut self, linger: Duration, around: &mut Surroundings<'_>) {
        match self.phase {
            Phase::Connecting => self.release(around),
            Phase::Open => {
                self.shut_down_write();
                self.phase = Phase::Closing { linger };
            }
            Phase::Closing { .. } | Phase::Discarding { .. } | Phase::Over => {}
        }
    }

    pub(super) fn reset(&mut self, around: &mut Surroundings<'_>) {
        if !self.is_over() {
            around.net.abort(self.end);
            self.over(around, Input::SocketClosed { socket: self.id });
        }
    }

    /// Does all that can be done now.
    pub(super) fn run(&mut self, around: &mut Surroundings<'_>) {
        if self.phase == Phase::Connecting {
            match around.net.dial_state(self.end) {
                DialState::Pending => return,
                DialState::Failed(error) => return self.fail(error, around),
                DialState::Open => {
                    self.phase = Phase::Open;
                    around.inbox.push_back(Input::SocketOpened { socket: self.id });
                }
            }
        }
        if self.is_over() {
            return;
        }
        let broken = around.net.error(self.end).filter(|_| around.habits.notices_errors);
        let result = broken.map_or(Ok(()), Err).and_then(|()| self.write_out(around));
        let result = result.and_then(|()| match self.phase {
            Phase::Discarding { until } => self.discard(until, around),
            Phase::Open => self.read_in(around),
            Phase::Connecting | Phase::Closing { .. } | Phase::Over => Ok(()),
        });
        if let Err(error) = result {
            self.fail(error, around);
        }
    }

    fn write_out(&mut self, around: &mut Surroundings<'_>) -> Result<(), SocketError> {
        let mut written = 0;
        while let Some(front) = self.unwritten.front_mut() {
            match around.net.write(self.end, front)? {
                0 => break,
                count => written += count,
            }
            if front.is_empty() {
                self.unwritten.pop_front();
            }
        }
        if written > 0 {
            around.inbox.push_back(Input::SocketWritten { socket: self.id, bytes: written });
        }
        if self.unwritten.is_empty() && self.shut_down == ShutDown::AfterLastWrite {
            around.net.shutdown_write(self.end);
            self.shut_down = ShutDown::Done;
        }
        if let (Phase::Closing { linger }, ShutDown::Done) = (self.phase, self.shut_down) {
            self.phase = Phase::Discarding { until: around.now + linger };
        }
        Ok(())
    }

    fn read_in(&mut self, around: &mut Surroundings<'_>) -> Result<(), SocketError> {
        while !self.eof && self.credit.bytes > 0 {
            let mut max = self.credit.bytes.min(self.credit.chunk);
            if around.habits.short_reads {
                max = around.dice.between(1, max as u64) as usize;
            }
            match around.net.read(self.end, max)? {
                Read::Pending => break,
                Read::Eof => {
                    self.eof = true;
                    around.inbox.push_back(Input::SocketEof { socket: self.id });
                }
                Read::Data(bytes) => {
                    self.credit.bytes -= bytes.len();
                    let buf = ReadBuf::copy_from(&bytes);
                    around.inbox.push_back(Input::SocketRead { socket: self.id, buf });
                }
            }
        }
        Ok(())
    }

    fn discard(&mut self, until: Time, around: &mut Surroundings<'_>) -> Result<(), SocketError> {
        while let Read::Data(_) = around.net.read(self.end, usize::MAX)? {}
        if around.net.read(self.end, 1)? == Read::Eof || around.now >= until {
            self.release(around);
        }
        Ok(())
    }

    fn release(&mut self, around: &mut Surroundings<'_>) {
        around.net.release(self.end);
        self.over(around, Input::SocketClosed { socket: self.id });
    }

    /// The connection broke: news to the engine, unless it had asked for the end anyway.
    fn fail(&mut self, error: SocketError, around: &mut Surroundings<'_>) {
        match self.phase {
            Phase::Closing { .. } | Phase::Discarding { .. } => self.release(around),
            Phase::Connecting | Phase::Open => {
                around.net.release(self.end);
                self.over(around, Input::SocketFailed { socket: self.id, error });
            }
            Phase::Over => {}
        }
    }

    fn over(&mut self, around: &mut Surroundings<'_>, news: Input) {
        self.phase = Phase::Over;
        self.unwritten.clear();
        around.inbox.push_back(news);
    }
}
