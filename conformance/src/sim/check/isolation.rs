//! Nobody gets what is meant for others.
//!
//! Streams and datagrams have bytes of their own, so that any of them that comes out at the wrong end
//! is seen there. What is left are those who connect to targets, and what is said about channels.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use linksocks_sansio::wire::{DecodeError, Message, decode};
use linksocks_sansio::{Action, ChannelId, Input, LinkId, Output, Ticket};

use super::{Verdict, Violation, require};
use crate::sim::app::Dialler;

const RULE: &str = "nobody gets what is meant for others";

/// Only hosts connect to a target that serve whoever asks for it. Returns which one did.
pub(crate) fn dialled_by_the_right_host(diallers: &[Dialler], from: IpAddr) -> Result<Dialler, Violation> {
    let dialler = diallers.iter().find(|dialler| dialler.address == from).copied();
    dialler.ok_or_else(|| Violation { rule: RULE, details: format!("{from} connects for {diallers:?}") })
}

/// Which peer of a server has opened which channels, or was asked for them: all that it may hear of. A
/// client has one peer only, which is known by no address.
#[derive(Debug, Default)]
pub(super) struct Isolation {
    offered: BTreeMap<Ticket, IpAddr>,
    peers: BTreeMap<LinkId, IpAddr>,
    opened: BTreeSet<(Option<IpAddr>, ChannelId)>,
    /// Channels of which a peer has said something, whether they are its own or not: it may be told
    /// that they are not.
    mentioned: BTreeSet<(Option<IpAddr>, ChannelId)>,
}

impl Isolation {
    pub(super) fn input(&mut self, input: &Input) {
        if let Input::LinkOffered { ticket, request } = input {
            self.offered.insert(*ticket, request.peer.ip());
        }
        let Input::LinkReceived { link, message } = input else { return };
        let (channel, is_connect) = match decode(message.clone()) {
            Ok(frame) => (subject(&frame.message), matches!(frame.message, Message::Connect(_))),
            // A Connect that asks for nonsense is answered.
            Err(DecodeError::Utf8 { channel, .. }) => (channel, true),
            Err(_) => return,
        };
        let Some(channel) = channel else { return };
        let peer = self.peers.get(link).copied();
        if is_connect {
            self.opened.insert((peer, channel));
        }
        self.mentioned.insert((peer, channel));
    }

    pub(super) fn output(&mut self, output: &Output) -> Verdict {
        if let Output::Action(Action::AcceptLink { ticket, link, .. }) = output
            && let Some(peer) = self.offered.remove(ticket)
        {
            self.peers.insert(*link, peer);
        }
        let Output::Transmit { link, message } = output else { return Ok(()) };
        let Ok(frame) = decode(message.clone()) else { return Ok(()) };
        let Some(channel) = subject(&frame.message) else { return Ok(()) };
        let peer = self.peers.get(link).copied();
        if let Message::Connect(_) = frame.message {
            self.opened.insert((peer, channel));
        }
        let is_answer = matches!(frame.message, Message::Disconnect(_));
        let name = (peer, channel);
        let may_hear = self.opened.contains(&name) || is_answer && self.mentioned.contains(&name);
        require(may_hear, RULE, || format!("{link} gets a {:?}", frame.message))
    }
}

/// The channel of which a message speaks.
const fn subject(message: &Message) -> Option<ChannelId> {
    match message {
        Message::Connect(connect) => Some(connect.channel),
        Message::ConnectResponse(response) => Some(response.channel),
        Message::Data(data) => Some(data.channel),
        Message::Disconnect(disconnect) => Some(disconnect.channel),
        Message::Window(window) => Some(window.channel),
        Message::Finish(finish) => Some(finish.channel),
        Message::Auth(_)
        | Message::AuthResponse(_)
        | Message::Connector(_)
        | Message::ConnectorResponse(_)
        | Message::Log(_)
        | Message::Partners(_)
        | Message::Direct(_)
        | Message::Hello(_)
        | Message::Ack(_)
        | Message::Unknown(_) => None,
    }
}
