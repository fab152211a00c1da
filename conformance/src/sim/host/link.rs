//! The pump of one link: frames to a transport and back.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use linksocks_sansio::error::{LinkFailure, SocketError};
use linksocks_sansio::io::{CloseFrame, LinkClose, UpgradeResponse, receive_cost};
use linksocks_sansio::{Input, LinkId};

use super::Surroundings;
use crate::sim::clock::Time;
use crate::sim::frame::Frame;
use crate::sim::net::{EndId, Network, Read, Rope};

/// How long a pump tries to answer the peer's close frame.
const CLOSE_ANSWER: Duration = Duration::from_secs(2);

/// A WebSocket over a transport.
#[derive(Debug)]
pub(super) struct LinkPump {
    id: LinkId,
    pub(super) end: EndId,
    phase: Phase,
    received: Rope,
    /// The peer broke the rules of the WebSocket layer: nothing more is read.
    is_deaf: bool,
    /// Receive credit; below zero after a message longer than what was left.
    credit: i64,
    unwritten: VecDeque<Piece>,
}

/// A part of a frame that waits for the kernel.
#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    /// Credit that goes back to the engine once the piece is written.
    returns: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// A client waits for the answer to its upgrade request.
    Requesting,
    Open,
    /// A close frame is under way, or the peer's is awaited.
    Closing {
        until: Time,
        /// What the engine will be told.
        cause: LinkClose,
        /// The peer's close frame has come.
        answered: bool,
    },
    /// Released; the engine has been told.
    Over,
}

impl LinkPump {
    /// A client's link: sends the upgrade request over a connected transport.
    pub(super) fn requesting(
        id: LinkId,
        end: EndId,
        path_and_query: String,
        extensions: Option<String>,
    ) -> Self {
        let mut pump = Self::new(id, end, Phase::Requesting, Rope::default());
        pump.send(Frame::Request { path_and_query, extensions });
        pump
    }

    /// A server's link: answers the upgrade request that was read from the transport.
    pub(super) fn accepted(id: LinkId, end: EndId, received: Rope, extensions: Option<String>) -> Self {
        let mut pump = Self::new(id, end, Phase::Open, received);
        pump.send(Frame::Response { status: 101, extensions });
        pump
    }

    fn new(id: LinkId, end: EndId, phase: Phase, received: Rope) -> Self {
        Self { id, end, phase, received, is_deaf: false, credit: 0, unwritten: VecDeque::new() }
    }

    /// Turns an upgrade request down.
    pub(super) fn refuse(end: EndId, status: u16, net: &mut Network) {
        Self::answer(end, Frame::Response { status, extensions: None }, net);
    }

    /// Answers an upgrade request with something else than a link.
    pub(super) fn answer(end: EndId, answer: Frame, net: &mut Network) {
        for mut bytes in answer.encode() {
            // A visitor that has left needs no answer.
            let _gone = net.write(end, &mut bytes);
        }
        net.release(end);
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// When the pump must run even if nothing happens on the network.
    pub(super) const fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Closing { until, .. } => Some(until),
            Phase::Requesting | Phase::Open | Phase::Over => None,
        }
    }

    pub(super) fn grant(&mut self, bytes: usize) {
        self.credit += bytes as i64;
    }

    pub(super) fn transmit(&mut self, message: Bytes) {
        if self.phase == Phase::Open {
            let returns = message.len();
            self.send(Frame::Binary(message));
            if let Some(last) = self.unwritten.back_mut() {
                last.returns = returns;
            }
        }
    }

    pub(super) fn ping(&mut self) {
        if self.phase == Phase::Open {
            self.send(Frame::Ping);
        }
    }

    pub(super) fn close(
        &mut self,
        close: Option<CloseFrame>,
        linger: Duration,
        around: &mut Surroundings<'_>,
    ) {
        match (&self.phase, close) {
            (Phase::Over, _) | (Phase::Closing { .. }, Some(_)) => {}
            (Phase::Open, Some(frame)) => {
                self.send(Frame::Close(Some(frame)));
                let until = around.now + linger;
                self.phase = Phase::Closing { until, cause: LinkClose::Local, answered: false };
            }
            (Phase::Requesting | Phase::Open | Phase::Closing { .. }, _) => {
                self.closed(LinkClose::Local, around);
            }
        }
    }

    /// Does all that can be done now.
    pub(super) fn run(&mut self, around: &mut Surroundings<'_>) {
        if self.is_over() {
            return;
        }
        let broken = around.net.error(self.end).filter(|_| around.habits.notices_errors);
        let result = broken.map_or(Ok(()), Err).and_then(|()| self.write_out(around));
        let result = result.and_then(|()| match self.phase {
            Phase::Requesting => self.read_response(around),
            Phase::Open => self.read_messages(around),
            Phase::Closing { .. } => self.await_close(around),
            Phase::Over => Ok(()),
        });
        // Answers to what has just been read.
        let result = result.and_then(|()| if self.is_over() { Ok(()) } else { self.write_out(around) });
        if let Err(error) = result {
            self.fail(error, around);
        } else if let Phase::Closing { until, cause, answered } = &self.phase
            && (*answered && self.unwritten.is_empty() || *until <= around.now)
        {
            let cause = cause.clone();
            self.closed(cause, around);
        }
    }

    fn send(&mut self, frame: Frame) {
        let [head, content] = frame.encode();
        self.unwritten.push_back(Piece { bytes: head, returns: 0 });
        self.unwritten.push_back(Piece { bytes: content, returns: 0 });
    }

    fn write_out(&mut self, around: &mut Surroundings<'_>) -> Result<(), SocketError> {
        let mut returned = 0;
        while let Some(piece) = self.unwritten.front_mut() {
            around.net.write(self.end, &mut piece.bytes)?;
            if !piece.bytes.is_empty() {
                break;
            }
            returned += piece.returns;
            self.unwritten.pop_front();
        }
        if returned > 0 && self.phase == Phase::Open {
            around.inbox.push_back(Input::LinkWritten { link: self.id, bytes: returned });
        }
        Ok(())
    }

    /// The next frame, or `None` if it hasn't come in full yet.
    fn next_frame(&mut self, around: &mut Surroundings<'_>) -> Result<Option<Frame>, SocketError> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.received) {
                return Ok(Some(frame));
            }
            match around.net.read(self.end, around.habits.link_read)? {
                Read::Pending => return Ok(None),
                Read::Eof => return Err(SocketError::UnexpectedEof),
                Read::Data(bytes) => self.received.push(bytes),
            }
        }
    }

    fn read_response(&mut self, around: &mut Surroundings<'_>) -> Result<(), SocketError> {
        match self.next_frame(around)? {
            None => Ok(()),
            Some(Frame::Response { status: 101, extensions }) => {
                self.phase = Phase::Open;
                let response = UpgradeResponse { extensions };
                around.inbox.push_back(Input::LinkOpened { link: self.id, response });
                self.read_messages(around)
            }
            Some(Frame::Response { status, .. }) => {
                let error = LinkFailure::Status(status);
                self.over(around, Input::LinkFailed { link: self.id, error });
                Ok(())
            }
            Some(Frame::Redirect { location }) => {
                let error = LinkFailure::Redirect { location };
                self.over(around, Input::LinkFailed { link: self.id, error });
                Ok(())
            }
            Some(frame) => panic!("instead of an answer to the upgrade came {frame:?}"),
        }
    }

    fn read_messages(&mut self, around: &mut Surroundings<'_>) -> Result<(), SocketError> {
        while self.phase == Phase::Open && self.credit > 0 && !self.is_deaf {
            let Some(frame) = self.next_frame(around)? else { break };
            match frame {
                Frame::Binary(message) => {
                    self.credit -= receive_cost(message.len()) as i64;
                    around.inbox.push_back(Input::LinkReceived { link: self.id, message });
                }
                Frame::Invalid(violation) => {
                    self.is_deaf = true;
                    around.inbox.push_back(Input::LinkInvalid { link: self.id, violation });
                }
                Frame::Ping => self.send(Frame::Pong),
                Frame::Pong => around.inbox.push_back(Input::LinkPong { link: self.id }),
                Frame::Close(frame) => {
                    self.send(Frame::Close(frame.clone()));
                    let until = around.now + CLOSE_ANSWER;
                    self.phase = Phase::Closing { until, cause: LinkClose::Peer(frame), answered: true };
                }
                Frame::Request { .. } | Frame::Response { .. } | Frame::Redirect { .. } => {
                    panic!("on an open link came {frame:?}")
                }
            }
        }
        Ok(())
    }

    /// Discards what comes until the peer's close frame.
    fn await_close(&mut self, around: &mut Surroundings<'_>) -> Result<(), SocketError> {
        while let Some(frame) = self.next_frame(around)? {
            if let (Frame::Close(_), Phase::Closing { answered, .. }) = (frame, &mut self.phase) {
                *answered = true;
                break;
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: SocketError, around: &mut Surroundings<'_>) {
        match self.phase.clone() {
            Phase::Requesting => {
                self.over(around, Input::LinkFailed { link: self.id, error: LinkFailure::Io(error) });
            }
            Phase::Open => self.closed(LinkClose::Transport(error), around),
            Phase::Closing { cause, .. } => self.closed(cause, around),
            Phase::Over => {}
        }
    }

    fn closed(&mut self, cause: LinkClose, around: &mut Surroundings<'_>) {
        self.over(around, Input::LinkClosed { link: self.id, cause });
    }

    fn over(&mut self, around: &mut Surroundings<'_>, news: Input) {
        around.net.release(self.end);
        self.phase = Phase::Over;
        self.unwritten.clear();
        around.inbox.push_back(news);
    }
}
