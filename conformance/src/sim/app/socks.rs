//! The client side of SOCKS5 (RFC 1928, RFC 1929), as applications speak it: well, badly, in tiny
//! pieces, or without waiting for answers.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use linksocks_sansio::error::SocketError;
use linksocks_sansio::socks5::{Host, TargetAddr};

use super::Scene;
use crate::sim::clock::Time;
use crate::sim::dice::Dice;
use crate::sim::net::{EndId, Read};

/// What an application says before it has a stream.
#[derive(Clone, Debug)]
pub struct SocksPlan {
    /// The methods that it offers.
    pub methods: Vec<u8>,
    /// User name and password, for when the proxy asks.
    pub login: Option<(String, String)>,
    /// What it asks for.
    pub request: SocksRequest,
    /// Sends everything at once, the first bytes of the stream included.
    pub pipelined: bool,
    /// Writes a byte or a few at a time.
    pub crumbles: bool,
    /// Closes after so many bytes of the handshake.
    pub abandons_after: Option<usize>,
}

/// What an application asks a proxy for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocksRequest {
    /// A connection to its target.
    Connect,
    /// A listener, which we don't offer.
    Bind,
    /// A connection to an address of a type that nobody knows.
    UnknownAddressType,
}

/// How far a handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Pending,
    /// The proxy has chosen a method that was not to be had, refused the login, or answered the
    /// request: with this code.
    Answered(Answer),
}

/// The proxy's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// None of the methods.
    NoMethod,
    /// Wrong user name or password.
    LoginRefused,
    /// The reply to the request, with its code.
    Reply(u8),
}

/// A handshake under way.
#[derive(Debug)]
pub(super) struct Handshake {
    plan: SocksPlan,
    target: TargetAddr,
    expected: Expected,
    /// What has been read of the expected message.
    answer: BytesMut,
    unsent: BytesMut,
    sent: usize,
    /// When the next crumb goes out.
    next_write: Time,
    /// Whether the stream ends behind what is sent early, and when the application said so.
    finishes: bool,
    pub(super) finished: Option<Time>,
    /// Where the stream begins in what was sent, once that is known.
    request_ends: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Method,
    Login,
    Reply,
}

impl Handshake {
    /// `early`: the first bytes of the stream, for an application that does not wait; `finishes`: it
    /// has no more to say, and does not wait with that either.
    pub(super) fn new(plan: SocksPlan, target: TargetAddr, early: &Bytes, finishes: bool, now: Time) -> Self {
        let mut handshake = Self {
            plan,
            target,
            expected: Expected::Method,
            answer: BytesMut::new(),
            unsent: BytesMut::new(),
            sent: 0,
            next_write: now,
            finishes,
            finished: None,
            request_ends: None,
        };
        let methods = &handshake.plan.methods;
        handshake.unsent.extend_from_slice(&[5, methods.len() as u8]);
        handshake.unsent.extend_from_slice(methods);
        if handshake.plan.pipelined {
            if handshake.plan.login.is_some() {
                handshake.push_login();
            }
            handshake.push_request();
            handshake.unsent.extend_from_slice(early);
        }
        handshake
    }

    /// How many bytes of the stream have gone out behind the request.
    pub(super) fn early_sent(&self) -> u64 {
        self.request_ends.map_or(0, |end| self.sent.saturating_sub(end)) as u64
    }

    /// Whether the whole request has gone out.
    pub(super) fn has_asked(&self) -> bool {
        self.request_ends.is_some_and(|end| self.sent >= end)
    }

    pub(super) fn wake(&self, now: Time) -> Option<Time> {
        Some(self.next_write).filter(|at| *at > now)
    }

    /// Whether the application has lost interest.
    pub(super) fn is_abandoned(&self) -> bool {
        self.plan.abandons_after.is_some_and(|limit| self.sent >= limit)
    }

    /// Does all that can be done now.
    pub(super) fn run(
        &mut self,
        end: EndId,
        dice: &mut Dice,
        scene: &mut Scene<'_>,
    ) -> Result<Progress, SocketError> {
        loop {
            self.write(end, dice, scene)?;
            let missing = self.expected_length().saturating_sub(self.answer.len());
            // Never more than the expected message: what follows belongs to the stream.
            match scene.net.read(end, missing)? {
                Read::Pending => return Ok(Progress::Pending),
                Read::Eof => return Err(SocketError::UnexpectedEof),
                Read::Data(bytes) => self.answer.extend_from_slice(&bytes),
            }
            if self.answer.len() == self.expected_length()
                && let Some(answer) = self.take_answer()
            {
                return Ok(Progress::Answered(answer));
            }
        }
    }

    fn write(&mut self, end: EndId, dice: &mut Dice, scene: &mut Scene<'_>) -> Result<(), SocketError> {
        while !self.unsent.is_empty() && self.next_write <= scene.now && !self.is_abandoned() {
            let mut max = self.unsent.len();
            if self.plan.crumbles {
                max = max.min(dice.size(1, 16));
                self.next_write =
                    scene.now + dice.duration(Duration::from_micros(50), Duration::from_millis(50));
            }
            if let Some(limit) = self.plan.abandons_after {
                max = max.min(limit - self.sent);
            }
            let mut bytes = self.unsent.split_to(max).freeze();
            self.sent += scene.net.write(end, &mut bytes)?;
            if !bytes.is_empty() {
                let behind = std::mem::take(&mut self.unsent);
                self.unsent.extend_from_slice(&bytes);
                self.unsent.extend_from_slice(&behind);
                break;
            }
        }
        if self.finishes && self.finished.is_none() && self.has_asked() && self.unsent.is_empty() {
            scene.net.shutdown_write(end);
            self.finished = Some(scene.now);
        }
        Ok(())
    }

    /// The length of the expected message, as far as it can be told yet.
    fn expected_length(&self) -> usize {
        match self.expected {
            Expected::Method | Expected::Login => 2,
            Expected::Reply => match self.answer.get(3) {
                Some(1) => 10,
                Some(4) => 22,
                // The length of a name stands before it.
                Some(3) => self.answer.get(4).map_or(5, |length| 7 + usize::from(*length)),
                Some(_) | None => 4,
            },
        }
    }

    /// Reads the complete message; returns the verdict, if it is one.
    fn take_answer(&mut self) -> Option<Answer> {
        let answer = self.answer.split();
        match (self.expected, answer[1]) {
            (Expected::Method, 0xFF) => return Some(Answer::NoMethod),
            (Expected::Method, 2) => {
                self.expected = Expected::Login;
                if !self.plan.pipelined {
                    self.push_login();
                }
            }
            (Expected::Login, status) if status != 0 => return Some(Answer::LoginRefused),
            (Expected::Method | Expected::Login, _) => {
                self.expected = Expected::Reply;
                if !self.plan.pipelined {
                    self.push_request();
                }
            }
            (Expected::Reply, code) => return Some(Answer::Reply(code)),
        }
        None
    }

    fn push_login(&mut self) {
        let (name, password) = self.plan.login.clone().unwrap_or_default();
        self.unsent.extend_from_slice(&[1, name.len() as u8]);
        self.unsent.extend_from_slice(name.as_bytes());
        self.unsent.extend_from_slice(&[password.len() as u8]);
        self.unsent.extend_from_slice(password.as_bytes());
    }

    fn push_request(&mut self) {
        let command = if self.plan.request == SocksRequest::Bind { 2 } else { 1 };
        self.unsent.extend_from_slice(&[5, command, 0]);
        match (&self.target.host, self.plan.request) {
            (_, SocksRequest::UnknownAddressType) => self.unsent.extend_from_slice(&[9, 127, 0, 0, 1]),
            (Host::Ip(std::net::IpAddr::V4(ip)), _) => {
                self.unsent.extend_from_slice(&[1]);
                self.unsent.extend_from_slice(&ip.octets());
            }
            (Host::Ip(std::net::IpAddr::V6(ip)), _) => {
                self.unsent.extend_from_slice(&[4]);
                self.unsent.extend_from_slice(&ip.octets());
            }
            (Host::Name(name), _) => {
                self.unsent.extend_from_slice(&[3, name.len() as u8]);
                self.unsent.extend_from_slice(name.as_bytes());
            }
        }
        self.unsent.extend_from_slice(&self.target.port.to_be_bytes());
        self.request_ends = Some(self.sent + self.unsent.len());
    }
}
