//! Nobody sends without permission, and no permission exceeds its window.

use std::collections::BTreeMap;

use linksocks_sansio::config::Limits;
use linksocks_sansio::io::{ReadCredit, receive_cost};
use linksocks_sansio::wire::DATA_HEADER_LEN;
use linksocks_sansio::{Action, Input, LinkId, ListenerId, Output, SocketId};

use super::{Verdict, require};

const RULE: &str = "credit is conserved";

/// Control messages are sent before payload and need no credit; this is more of them than any run
/// has channels for.
const CONTROL_MESSAGES: usize = 64 * 1024;

/// What a socket may read at least, however small messages must be: a few reads from a busy socket,
/// each of which becomes a message.
const READ_AHEAD: usize = 64 * 1024;

/// What an application may say before it has a channel, in one read.
const HANDSHAKE: usize = 1024;

/// Small payloads that wait are joined to pieces of up to this size, which are written whole.
const JOINED: usize = 64 * 1024;

/// Datagrams on their way to or from a socket.
const DATAGRAMS: usize = 64;

/// The books of all permissions, in bytes (accepts in connections).
#[derive(Debug)]
pub(super) struct Credit {
    limits: Limits,
    /// The longest message that a peer sends.
    longest: usize,
    /// Whether messages are passed on as they came.
    joins: bool,
    /// Written by the engine, not yet taken by the kernel.
    unwritten: BTreeMap<SocketId, usize>,
    /// What sockets may still read.
    readable: BTreeMap<SocketId, usize>,
    /// Transmitted by the engine, not yet taken by the kernel.
    untransmitted: BTreeMap<LinkId, usize>,
    /// What links may still receive; below zero after a message longer than what was left.
    receivable: BTreeMap<LinkId, i64>,
    acceptable: BTreeMap<ListenerId, usize>,
    /// Datagrams that sockets may still receive.
    receivable_datagrams: BTreeMap<SocketId, usize>,
    /// Datagrams sent by the engine, not yet taken by the kernel.
    unsent_datagrams: BTreeMap<SocketId, usize>,
}

impl Credit {
    pub(super) const fn new(limits: Limits, longest: usize, joins: bool) -> Self {
        Self {
            limits,
            longest,
            joins,
            unwritten: BTreeMap::new(),
            readable: BTreeMap::new(),
            untransmitted: BTreeMap::new(),
            receivable: BTreeMap::new(),
            acceptable: BTreeMap::new(),
            receivable_datagrams: BTreeMap::new(),
            unsent_datagrams: BTreeMap::new(),
        }
    }

    /// Uses up what a driver uses up. That it never uses more is the simulator's own duty.
    pub(super) fn input(&mut self, input: &Input) -> Verdict {
        match input {
            Input::SocketRead { socket, buf } => {
                if let Some(left) = self.readable.get_mut(socket) {
                    let enough = *left >= buf.len();
                    require(enough, "the simulator keeps the contract", || {
                        format!("{socket} read too much")
                    })?;
                    *left -= buf.len();
                }
            }
            Input::Revoked { socket, bytes } => {
                if let Some(left) = self.readable.get_mut(socket) {
                    *left -= bytes;
                }
            }
            Input::SocketWritten { socket, bytes } => {
                if let Some(unwritten) = self.unwritten.get_mut(socket) {
                    *unwritten -= bytes;
                }
            }
            Input::LinkReceived { link, message } => {
                if let Some(left) = self.receivable.get_mut(link) {
                    require(*left > 0, "the simulator keeps the contract", || {
                        format!("{link} read too much")
                    })?;
                    *left -= receive_cost(message.len()) as i64;
                }
            }
            Input::LinkWritten { link, bytes } => {
                if let Some(untransmitted) = self.untransmitted.get_mut(link) {
                    *untransmitted -= bytes;
                }
            }
            Input::SocketAccepted { listener, .. } => {
                if let Some(left) = self.acceptable.get_mut(listener) {
                    *left -= 1;
                }
            }
            Input::DatagramReceived { socket, .. } => {
                if let Some(left) = self.receivable_datagrams.get_mut(socket) {
                    require(*left > 0, "the simulator keeps the contract", || {
                        format!("{socket} received too much")
                    })?;
                    *left -= 1;
                }
            }
            Input::DatagramsSent { socket, count, .. } => {
                if let Some(unsent) = self.unsent_datagrams.get_mut(socket) {
                    *unsent -= count;
                }
            }
            Input::SocketFailed { socket, .. } | Input::SocketClosed { socket } => {
                self.receivable_datagrams.remove(socket);
                self.unsent_datagrams.remove(socket);
                self.unwritten.remove(socket);
                self.readable.remove(socket);
            }
            Input::LinkFailed { link, .. } | Input::LinkClosed { link, .. } => {
                self.untransmitted.remove(link);
                self.receivable.remove(link);
            }
            Input::ListenerFailed { listener, .. } => {
                self.acceptable.remove(listener);
            }
            Input::Timeout
            | Input::Command(_)
            | Input::LinkOffered { .. }
            | Input::HttpRequest { .. }
            | Input::LinkOpened { .. }
            | Input::LinkInvalid { .. }
            | Input::LinkPong { .. }
            | Input::SocketOpened { .. }
            | Input::SocketEof { .. }
            | Input::SocketBound { .. }
            | Input::ListenerOpened { .. }
            | Input::Resolved { .. } => {}
        }
        Ok(())
    }

    pub(super) fn output(&mut self, output: &Output) -> Verdict {
        match output {
            Output::Transmit { link, message } => self.transmit(*link, message.len()),
            Output::Write { socket, data } => self.write(*socket, data.len()),
            Output::Read { socket, credit } => self.read(*socket, *credit),
            Output::Receive { link, bytes } => self.receive(*link, *bytes),
            Output::Accept { listener, count } => self.accept(*listener, *count),
            Output::ReceiveDatagrams { socket, count } => {
                let receivable = self.receivable_datagrams.entry(*socket).or_default();
                *receivable += count;
                require(*receivable <= DATAGRAMS, RULE, || {
                    format!("{socket} may receive {receivable} datagrams, the window is {DATAGRAMS}")
                })
            }
            Output::SendDatagram { socket, .. } => {
                let unsent = self.unsent_datagrams.entry(*socket).or_default();
                *unsent += 1;
                require(*unsent <= DATAGRAMS, RULE, || {
                    format!("{unsent} datagrams wait in the driver for {socket}, the window is {DATAGRAMS}")
                })
            }
            Output::Action(
                Action::Connect { socket, read, .. } | Action::AdoptSocket { socket, read, .. },
            ) => self.read(*socket, *read),
            Output::Action(Action::OpenLink { socket, .. }) => {
                self.readable.remove(socket);
                Ok(())
            }
            Output::Revoke { .. } | Output::Action(_) | Output::Event(_) | Output::Timeout(_) => Ok(()),
        }
    }

    /// Twice the largest message may be on its way to the network, and all control messages. One that is
    /// passed on is as long as its sender has made it.
    fn transmit(&mut self, link: LinkId, bytes: usize) -> Verdict {
        let untransmitted = self.untransmitted.entry(link).or_default();
        *untransmitted += bytes;
        let foreign = if self.joins { self.longest } else { 0 };
        let window = 2 * (self.limits.message_max + DATA_HEADER_LEN) + foreign + CONTROL_MESSAGES;
        require(*untransmitted <= window, RULE, || {
            format!("{untransmitted} bytes wait in the driver for {link}, the window is {window}")
        })
    }

    /// A payload is written whole while there is any window.
    fn write(&mut self, socket: SocketId, bytes: usize) -> Verdict {
        let unwritten = self.unwritten.entry(socket).or_default();
        *unwritten += bytes;
        let window = self.limits.socket_write_window + self.longest.max(JOINED);
        require(*unwritten <= window, RULE, || {
            format!("{unwritten} bytes wait in the driver for {socket}, the window is {window}")
        })
    }

    /// Reads ahead hold at most two messages and what is collected for a third, and one read makes at
    /// most one.
    fn read(&mut self, socket: SocketId, credit: ReadCredit) -> Verdict {
        let readable = self.readable.entry(socket).or_default();
        *readable += credit.bytes;
        let window = (2 * self.limits.message_max).max(READ_AHEAD) + self.limits.message_max;
        require(*readable <= window, RULE, || {
            format!("{socket} may read {readable} bytes, the window is {window}")
        })?;
        let usable = credit.chunk > 0 && credit.chunk <= self.limits.message_max.max(HANDSHAKE);
        require(usable || *readable == 0, RULE, || format!("{socket} may read in chunks of {}", credit.chunk))
    }

    fn receive(&mut self, link: LinkId, bytes: usize) -> Verdict {
        let receivable = self.receivable.entry(link).or_default();
        *receivable += bytes as i64;
        let window = self.limits.link_receive_window as i64;
        require(*receivable <= window, RULE, || {
            format!("{link} may receive {receivable} bytes, the window is {window}")
        })
    }

    fn accept(&mut self, listener: ListenerId, count: usize) -> Verdict {
        let acceptable = self.acceptable.entry(listener).or_default();
        *acceptable += count;
        let ahead = self.limits.accept_ahead;
        require(*acceptable <= ahead, RULE, || {
            format!("{listener} may accept {acceptable}, the limit is {ahead}")
        })
    }
}
