//! What truly happened, as the applications and the network know it: the measure for what engines
//! make of it.

use std::collections::BTreeSet;
use std::time::Duration;

use linksocks_sansio::wire::{Frame, Message, decode};
use linksocks_sansio::{ChannelId, Event, Input, LinkId, Output};

use super::clock::Time;

/// The two directions of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the caller to the target.
    Up,
    /// From the target to the caller.
    Down,
}

/// How the other end of a stream came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A FIN after the last byte.
    Eof,
    /// A RST.
    Reset,
}

/// How an application left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It had heard the end of the other side.
    Politely,
    /// It closed while the other side might still have sent.
    Early,
    /// It made a RST, by wish or by closing with unread bytes.
    Abruptly,
}

/// What one application did and saw at its end.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Bytes that its kernel has taken.
    pub sent: u64,
    /// Bytes that it has read.
    pub received: u64,
    /// When it said in a regular way (FIN) that nothing follows what it sent.
    pub finished: Option<Time>,
    /// What it heard of the end of the other side.
    pub heard: Option<(Time, Heard)>,
    /// How it left.
    pub left: Option<(Time, Left)>,
}

impl Account {
    /// Whether it heard this.
    #[must_use]
    pub fn has_heard(&self, what: Heard) -> bool {
        self.heard.is_some_and(|(_, heard)| heard == what)
    }

    /// Whether it left like this.
    #[must_use]
    pub fn has_left(&self, how: Left) -> bool {
        self.left.is_some_and(|(_, left)| left == how)
    }
}

/// What a client's links went through.
#[derive(Clone, Debug, Default)]
pub struct LinkHistory {
    /// How many links were lost that had been ready.
    pub broken: usize,
    /// How many new links took over channels from lost ones.
    pub resumed: usize,
    ready_links: BTreeSet<LinkId>,
    /// Whether there has ever been a link.
    pub was_ready: bool,
    /// The channels that peers have asked for.
    requested: Vec<ChannelId>,
}

impl LinkHistory {
    /// The last channels that peers have asked for.
    #[must_use]
    pub fn latest_requests(&self) -> &[ChannelId] {
        const MANY: usize = 16;
        &self.requested[self.requested.len().saturating_sub(MANY)..]
    }

    pub(crate) fn input(&mut self, input: &Input) {
        if let Input::LinkClosed { link, .. } = input
            && self.ready_links.remove(link)
        {
            self.broken += 1;
        }
        if let Input::LinkReceived { message, .. } = input
            && let Ok(Frame { message: Message::Connect(connect), .. }) = decode(message.clone())
        {
            self.requested.push(connect.channel);
        }
    }

    pub(crate) fn output(&mut self, output: &Output) {
        if let Output::Event(Event::LinkReady { link, .. }) = output {
            self.ready_links.insert(*link);
            self.was_ready = true;
        }
        if let Output::Event(Event::LinkResumed { channels: 1.., .. }) = output {
            self.resumed += 1;
        }
    }
}

/// A span in which something went wrong from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first moment.
    pub from: Time,
    /// Its last moment.
    pub until: Time,
}

impl Span {
    /// A span of a length.
    #[must_use]
    pub fn new(from: Time, length: Duration) -> Self {
        Self { from, until: from + length }
    }

    /// How long it is.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.until - self.from
    }

    /// Whether two spans have a moment in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.from <= other.until && other.from <= self.until
    }
}
