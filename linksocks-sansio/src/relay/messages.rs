//! What comes on a link: messages are decoded, and given to whom they are for.

use bytes::Bytes;

use super::links::{Ending, close_code};
use super::{Notice, Relay};
use crate::error::{ChannelError, LinkError};
use crate::event::Event;
use crate::ids::LinkId;
use crate::io::receive_cost;
use crate::link::{LinkEnd, LinkPhase};
use crate::socks5::TargetError;
use crate::wire::{self, DecodeError, Message};

/// The longest text of a peer that is logged.
const MAX_LOG: usize = 1024;

/// How the text of a Log begins that asks whether we are there, and its level.
const PROBE: &str = "probe:";
const PROBE_LEVEL: &str = "trace";

impl Relay {
    /// Accounts for a message and decodes it. `None` if it has been dealt with.
    pub(crate) fn receive(&mut self, id: LinkId, message: Bytes) -> Option<(LinkPhase, Message)> {
        let link = self.links.get_mut(id)?;
        link.receive_credit.on_received(receive_cost(message.len()));
        link.keep_alive.last_heard = self.now;
        if matches!(link.phase, LinkPhase::Opening | LinkPhase::Suspended) || link.is_ending() {
            return None;
        }
        let phase = link.phase;
        if link.control.is_overrun() {
            self.protocol_error(id, "requests without acknowledgements".to_owned());
            return None;
        }
        if phase == LinkPhase::Ready && wire::is_counted(&message) {
            self.count_received(id, message.len());
        }
        let link = self.links.get_mut(id)?;
        if link.extensions.is_empty() && wire::is_extension(&message) {
            self.totals.messages_ignored += 1;
            return None;
        }
        let frame = match wire::decode(message) {
            Ok(frame) => frame,
            Err(DecodeError::Utf8 { message: "Connect", channel: Some(channel), .. })
                if phase == LinkPhase::Ready =>
            {
                self.refuse_connect(id, channel, &ChannelError::InvalidTarget(TargetError::InvalidHost));
                return None;
            }
            Err(error) if error.is_skippable() && phase == LinkPhase::Ready => {
                self.ignore_message(id, error.to_string());
                return None;
            }
            Err(DecodeError::Version(version)) => {
                self.end_link(id, LinkError::Version(version.0), Ending::Close(close_code::PROTOCOL_ERROR));
                return None;
            }
            Err(error) => {
                if phase == LinkPhase::Authenticating && matches!(link.end, LinkEnd::Server { .. }) {
                    self.send_auth_failure(id, &format!("invalid auth message: {error}"));
                }
                self.protocol_error(id, error.to_string());
                return None;
            }
        };
        if frame.version != wire::VERSION && !link.minor_reported {
            link.minor_reported = true;
            self.tell(Event::MinorVersion { link: id, version: frame.version.0 });
        }
        Some((phase, frame.message))
    }

    /// Acts on a message of a ready link. `raw`: as it came.
    pub(crate) fn on_message(&mut self, id: LinkId, message: Message, raw: &Bytes) {
        let Some(link) = self.links.get_mut(id) else { return };
        let (extensions, is_server) = (link.extensions, matches!(link.end, LinkEnd::Server { .. }));
        match message {
            Message::Data(data) => match self.find_association(id, data.channel) {
                Some(key) => self.on_association_data(key, data, raw),
                None => self.on_data(id, data, raw),
            },
            Message::Connect(connect) => {
                self.notices.push_back(Notice::ConnectRequested { link: id, connect });
            }
            Message::ConnectResponse(response) => match self.find_association(id, response.channel) {
                Some(key) => self.on_association_response(key, response.result),
                None => self.on_connect_response(id, response),
            },
            Message::Disconnect(disconnect) => match self.find_association(id, disconnect.channel) {
                Some(key) => self.on_association_disconnect(key, disconnect.error),
                None => self.on_disconnect(id, disconnect),
            },
            Message::Window(window) if extensions.window => self.on_window(id, window),
            Message::Finish(finish) if extensions.finish => self.on_finish(id, finish.channel),
            Message::Ack(ack) if extensions.session => self.on_ack(id, ack.received),
            Message::Log(log) if !is_server && log.level == PROBE_LEVEL && log.msg.starts_with(PROBE) => {
                self.answer_probe(id);
            }
            Message::Log(log) if !is_server => {
                let message = wire::cut_text(&log.msg, MAX_LOG).to_owned();
                let level = wire::cut_text(&log.level, MAX_LOG).to_owned();
                self.tell(Event::PeerLog { link: id, level, message });
            }
            Message::Hello(_) if !extensions.is_empty() => {
                self.protocol_error(id, "a second Hello".to_owned());
            }
            Message::Partners(_) => link.has_partners = true,
            Message::Direct(direct) if direct.kind == wire::DirectKind::ChannelMigrate => {
                self.on_migrate(id, &direct.json);
            }
            Message::Connector(request) if is_server => {
                self.notices.push_back(Notice::ConnectorRequested { link: id, request });
            }
            Message::ConnectorResponse(response) if !is_server => {
                self.notices.push_back(Notice::ConnectorAnswered { link: id, response });
            }
            // Harmless, or of features that this side does not have: older programs send an Auth
            // after authenticating by URL, newer ones talk of direct mode.
            Message::Auth(_)
            | Message::AuthResponse(_)
            | Message::Connector(_)
            | Message::ConnectorResponse(_)
            | Message::Log(_)
            | Message::Direct(_)
            | Message::Hello(_)
            | Message::Window(_)
            | Message::Finish(_)
            | Message::Ack(_)
            | Message::Unknown(_) => self.totals.messages_ignored += 1,
        }
    }

    /// A peer has moved a channel to the relay, where ours always are.
    fn on_migrate(&mut self, id: LinkId, json: &[u8]) {
        let Some(channel) = wire::migrated_channel(json) else { return };
        let known = self.find_channel(id, channel).is_some() || self.find_association(id, channel).is_some();
        if let Some(answer) = wire::migrate_ack(channel, known) {
            self.send_answer(id, answer);
        }
    }

    /// A real server wants to know whether we are there.
    fn answer_probe(&mut self, id: LinkId) {
        let msg = format!(r#"pong:{{"version":"v{}"}}"#, env!("CARGO_PKG_VERSION"));
        if let Ok(message) = Message::Log(wire::Log { level: PROBE_LEVEL.to_owned(), msg }).encode() {
            self.send_answer(id, message);
        }
    }

    pub(crate) fn ignore_message(&mut self, link: LinkId, reason: String) {
        self.totals.messages_ignored += 1;
        self.tell(Event::MessageIgnored { link, reason });
    }
}
