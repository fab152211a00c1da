//! Messages that make no sense, or only some: what a broken or malicious peer may send.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use linksocks_sansio::wire::{
    Ack, AuthResponse, Compression, Connect, ConnectRequest, ConnectResponse, Connector, ConnectorOperation,
    ConnectorResponse, Data, Disconnect, Endpoint, Endpoints, Finish, Hello, Log, Message, Partners,
    SessionHello, Window, kind,
};
use linksocks_sansio::{ChannelId, Token};

use super::intruder::IntruderPlan;
use crate::sim::dice::Dice;

/// The longest payload.
pub(super) const LONGEST: usize = 1 << 20;

/// A source of messages.
#[derive(Debug)]
pub(super) struct Nonsense {
    dice: Dice,
    /// Ids to speak of: some of its own, and those that were heard.
    channels: Vec<ChannelId>,
    /// Ids of others, that it should not know.
    overheard: Vec<ChannelId>,
    /// What to ask for.
    targets: Vec<(String, u16)>,
    /// Tokens of others.
    tokens: Vec<Token>,
    /// What to say first.
    messages: VecDeque<Bytes>,
    /// How many in a hundred messages are of the kind that ends a link at once. A peer that never
    /// sends one gets further.
    fatal_percent: u64,
}

impl Nonsense {
    pub(super) fn new(mut dice: Dice, targets: Vec<(String, u16)>, plan: &IntruderPlan) -> Self {
        let mut id = || {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&dice.word().to_be_bytes());
            ChannelId(id)
        };
        let channels = vec![id(), id(), id(), id()];
        let fatal_percent = *dice.pick(&[0, 0, 1, 10]);
        let (tokens, messages) = (plan.tokens.clone(), plan.messages.clone().into());
        Self { dice, channels, overheard: Vec::new(), targets, tokens, messages, fatal_percent }
    }

    /// Learns of channels of others.
    pub(super) fn overhear(&mut self, channels: &[ChannelId]) {
        self.overheard.clear();
        self.overheard.extend_from_slice(channels);
    }

    /// A message came in: its channel may be spoken of. Returns an answer, if a proper one is due.
    pub(super) fn hear(&mut self, message: &Message) -> Option<Bytes> {
        let Message::Connect(Connect { channel, .. }) = message else { return None };
        self.channels.push(*channel);
        let response = ConnectResponse { channel: *channel, result: Ok(()) };
        self.dice.chance(70).then(|| response.encode())
    }

    /// The next thing to say.
    pub(super) fn message(&mut self) -> Bytes {
        if let Some(message) = self.messages.pop_front() {
            return self.about_a_channel(message);
        }
        let is_fatal = self.dice.chance(self.fatal_percent);
        let message = if is_fatal && self.dice.chance(50) { self.fatal() } else { self.harmless() };
        let mut bytes = BytesMut::from(message.encode().expect("no field is too long"));
        if is_fatal {
            let place = self.dice.below(bytes.len() as u64) as usize;
            match self.dice.below(3) {
                0 => bytes.truncate(place),
                1 => bytes[place] ^= 1 << self.dice.below(8),
                _ => bytes.extend_from_slice(&[0xA5; 9]),
            }
        }
        bytes.freeze()
    }

    /// Puts a channel that means something to the peer into a message as it was given, mostly.
    fn about_a_channel(&mut self, message: Bytes) -> Bytes {
        let place = match message.get(1) {
            Some(&(kind::CONNECT | kind::DATA | kind::CONNECT_RESPONSE)) => 3..19,
            Some(_) | None => 2..18,
        };
        let channel = self.channel();
        let mut message = BytesMut::from(message);
        if let Some(id) = message.get_mut(place).filter(|_| self.dice.chance(80)) {
            id.copy_from_slice(&channel.0);
        }
        message.freeze()
    }

    /// A channel of its own or, if some were overheard, as often one of others.
    fn channel(&mut self) -> ChannelId {
        let others = !self.overheard.is_empty() && self.dice.chance(50);
        *self.dice.pick(if others { &self.overheard } else { &self.channels })
    }

    /// A message that has no business on an open link.
    fn fatal(&mut self) -> Message {
        match self.dice.below(4) {
            0 => Message::Hello(self.hello(None)),
            1 => Message::Ack(Ack { received: self.dice.word() }),
            2 => Message::AuthResponse(AuthResponse::Failure { error: self.text() }),
            _ => Message::AuthResponse(AuthResponse::Success { assigned: None }),
        }
    }

    /// A well-formed message of any other type, in no order.
    fn harmless(&mut self) -> Message {
        let channel = self.channel();
        match self.dice.below(19) {
            0..=2 => {
                Message::Connect(Connect { channel, request: self.request(), resume: self.dice.chance(5) })
            }
            3..=9 => Message::Data(self.data(channel)),
            10 => {
                let result = if self.dice.chance(70) { Ok(()) } else { Err(self.text()) };
                Message::ConnectResponse(ConnectResponse { channel, result })
            }
            11 => {
                Message::Disconnect(Disconnect { channel, error: self.dice.chance(70).then(|| self.text()) })
            }
            12 | 13 => {
                let bytes = *self.dice.pick(&[0, 1, 1000, 100_000, u32::MAX]);
                Message::Window(Window { channel, bytes })
            }
            14 => Message::Finish(Finish { channel }),
            15 => Message::Log(Log { level: "trace".to_owned(), msg: self.text() }),
            16 => Message::Partners(Partners { count: self.dice.word() }),
            17 => self.foreign(channel),
            _ => Message::Unknown(self.dice.below(256) as u8),
        }
    }

    /// A Hello, mostly with everything in it, and mostly with the session that the peer speaks of.
    pub(super) fn hello(&mut self, heard: Option<&SessionHello>) -> Hello {
        let window = self.dice.chance(95).then(|| self.dice.size(1, 1 << 24) as u32);
        let session = self.dice.chance(95).then(|| {
            let flags = *self.dice.pick(&[0, 0, 0, 0, 0, SessionHello::RESUME, SessionHello::ABANDON, 0xFF]);
            match heard.filter(|_| self.dice.chance(90)) {
                Some(heard) => SessionHello { flags, ..heard.clone() },
                None => {
                    let id = [self.dice.below(4) as u8; 16];
                    SessionHello { id, secret: id, received: self.dice.below(4), flags }
                }
            }
        });
        Hello { window, finish: self.dice.chance(95), session }
    }

    fn request(&mut self) -> ConnectRequest {
        match self.dice.below(10) {
            0 => ConnectRequest::Udp,
            1 => ConnectRequest::Unknown(9),
            2 => ConnectRequest::Tcp { address: String::new(), port: 80 },
            _ => {
                let (address, port) = self.dice.pick(&self.targets).clone();
                ConnectRequest::Tcp { address, port }
            }
        }
    }

    fn data(&mut self, channel: ChannelId) -> Data {
        let longest = if self.dice.chance(2) { LONGEST } else { 32 << 10 };
        let payload = vec![self.dice.below(256) as u8; self.dice.size(0, longest)];
        let compression = if self.dice.chance(5) { Compression::Gzip } else { Compression::None };
        let datagram =
            self.dice.chance(3).then(|| Endpoints::One(Endpoint { address: self.text(), port: 53 }));
        Data { channel, compression, payload: payload.into(), datagram, sequence: None }
    }

    /// Messages that are not for whoever gets them.
    fn foreign(&mut self, request: ChannelId) -> Message {
        match self.dice.below(3) {
            0 => Message::Ack(Ack { received: 0 }),
            1 => Message::ConnectorResponse(ConnectorResponse { request, result: Ok(None) }),
            _ => {
                let (token, operation) = match self.tokens.is_empty() {
                    true => (Token::anonymous(), ConnectorOperation::Add),
                    false => (self.dice.pick(&self.tokens).clone(), ConnectorOperation::Remove),
                };
                Message::Connector(Connector { request, token, operation })
            }
        }
    }

    fn text(&mut self) -> String {
        let texts = ["", "EOF", "probe:1", "i/o timeout", "\u{0}\n\u{202e}", "EOF "];
        match self.dice.below(10) {
            0 => "x".repeat(200),
            _ => (*self.dice.pick(&texts)).to_owned(),
        }
    }
}
