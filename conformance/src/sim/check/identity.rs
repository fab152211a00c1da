//! No effect on a dead id, and none that its state does not allow.
//!
//! Several inputs may come before a drain. An effect of an earlier one may then concern an id that
//! a later one has ended; drivers ignore it, as engines ignore inputs that come too late. So an id
//! is dead from the first drain after its end.

use std::collections::{BTreeMap, BTreeSet};

use linksocks_sansio::{Action, Input, LinkId, ListenerId, Output, QueryId, SocketId};

use super::{Verdict, require};

const RULE: &str = "no effect on a dead id";

/// What an engine may know of each id: built from what it said and what it was told, never from
/// what a pump knows already.
#[derive(Debug, Default)]
pub(super) struct Identity {
    sockets: BTreeMap<SocketId, SocketLife>,
    links: BTreeMap<LinkId, LinkLife>,
    listeners: BTreeMap<ListenerId, bool>,
    queries: BTreeSet<QueryId>,
    /// Ids that were in use once.
    used: BTreeSet<(Kind, u64)>,
    /// Ids that have ended since the last drain.
    ending: BTreeSet<(Kind, u64)>,
    stopped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Socket,
    Link,
    Listener,
    Query,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SocketLife {
    Connecting,
    Open,
    /// The write half is shut.
    WriteShut,
    Closing,
    Resetting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LinkLife {
    Opening,
    Open,
    Closing,
}

impl Identity {
    /// What the driver tells ends lives; inputs with stale ids are allowed and change nothing.
    pub(super) fn input(&mut self, input: &Input) {
        match input {
            Input::SocketOpened { socket } | Input::SocketBound { socket, .. } => {
                if let Some(life) =
                    self.sockets.get_mut(socket).filter(|life| **life == SocketLife::Connecting)
                {
                    *life = SocketLife::Open;
                }
            }
            Input::SocketFailed { socket, .. } | Input::SocketClosed { socket } => {
                self.sockets.remove(socket);
                self.ending.insert((Kind::Socket, socket.as_u64()));
            }
            Input::LinkOpened { link, .. } => {
                if let Some(life) = self.links.get_mut(link).filter(|life| **life == LinkLife::Opening) {
                    *life = LinkLife::Open;
                }
            }
            Input::LinkFailed { link, .. } | Input::LinkClosed { link, .. } => {
                self.links.remove(link);
                self.ending.insert((Kind::Link, link.as_u64()));
            }
            Input::ListenerOpened { listener, .. } => {
                if let Some(open) = self.listeners.get_mut(listener) {
                    *open = true;
                }
            }
            Input::ListenerFailed { listener, .. } => {
                self.listeners.remove(listener);
                self.ending.insert((Kind::Listener, listener.as_u64()));
            }
            Input::Resolved { query, .. } => {
                self.queries.remove(query);
            }
            Input::Timeout
            | Input::Command(_)
            | Input::LinkOffered { .. }
            | Input::HttpRequest { .. }
            | Input::LinkReceived { .. }
            | Input::LinkInvalid { .. }
            | Input::LinkWritten { .. }
            | Input::LinkPong { .. }
            | Input::SocketAccepted { .. }
            | Input::SocketRead { .. }
            | Input::SocketEof { .. }
            | Input::Revoked { .. }
            | Input::SocketWritten { .. }
            | Input::DatagramReceived { .. }
            | Input::DatagramsSent { .. } => {}
        }
    }

    pub(super) fn output(&mut self, output: &Output) -> Verdict {
        if let Output::Timeout(_) = output {
            self.ending.clear();
            return Ok(());
        }
        require(!self.stopped, "Stop is the last action", || format!("{output:?}"))?;
        let permitted = self.permits(output) || self.is_ending(output);
        require(permitted, RULE, || format!("{} while {}", brief(output), self.describe(output)))?;
        self.follow(output);
        Ok(())
    }

    /// Whether an output concerns an id that has ended since the last drain.
    pub(super) fn is_ending(&self, output: &Output) -> bool {
        subject(output).is_some_and(|id| self.ending.contains(&id))
    }

    /// Nothing but links and listeners outlives its work.
    pub(super) fn idle(&self) -> Verdict {
        require(self.sockets.is_empty() && self.queries.is_empty(), "nothing leaks", || {
            format!("left over: {:?} {:?}", self.sockets, self.queries)
        })
    }

    fn permits(&self, output: &Output) -> bool {
        let socket = |id: &SocketId| self.sockets.get(id).copied();
        let link = |id: &LinkId| self.links.get(id).copied();
        let new = |kind, id| !self.used.contains(&(kind, id));
        match output {
            Output::Transmit { link: id, .. } => link(id) == Some(LinkLife::Open),
            Output::Receive { link: id, .. } => link(id).is_some_and(|life| life < LinkLife::Closing),
            Output::Write { socket: id, data } => socket(id) == Some(SocketLife::Open) && !data.is_empty(),
            Output::Read { socket: id, .. } | Output::Revoke { socket: id } => {
                socket(id).is_some_and(|life| life < SocketLife::Closing)
            }
            Output::ReceiveDatagrams { socket: id, .. } => socket(id) == Some(SocketLife::Open),
            Output::SendDatagram { socket: id, .. } => socket(id) == Some(SocketLife::Open),
            Output::Accept { listener, .. } => self.listeners.get(listener) == Some(&true),
            Output::Event(_) | Output::Timeout(_) => true,
            Output::Action(action) => match action {
                Action::Resolve { query, .. } => new(Kind::Query, query.as_u64()),
                Action::Connect { socket, .. }
                | Action::AdoptSocket { socket, .. }
                | Action::AdoptDatagrams { socket, .. }
                | Action::Bind { socket, .. } => new(Kind::Socket, socket.as_u64()),
                Action::OpenLink { link, socket: id, .. } => {
                    new(Kind::Link, link.as_u64()) && socket(id) == Some(SocketLife::Open)
                }
                Action::AcceptLink { link, .. } => new(Kind::Link, link.as_u64()),
                Action::Ping { link: id } => link(id) == Some(LinkLife::Open),
                Action::CloseLink { link: id, close, .. } => match link(id) {
                    // A link that does not close in peace may still be dropped.
                    Some(LinkLife::Closing) => close.is_none(),
                    Some(LinkLife::Opening | LinkLife::Open) => true,
                    None => false,
                },
                Action::Listen { listener, .. } => new(Kind::Listener, listener.as_u64()),
                Action::Unlisten { listener } => self.listeners.contains_key(listener),
                Action::ShutdownWrite { socket: id } => socket(id) == Some(SocketLife::Open),
                Action::Close { socket: id, .. } => socket(id).is_some_and(|life| life < SocketLife::Closing),
                Action::Reset { socket: id } => socket(id).is_some_and(|life| life < SocketLife::Resetting),
                Action::RejectLink { .. }
                | Action::HttpResponse { .. }
                | Action::AnswerToken { .. }
                | Action::Refuse { .. }
                | Action::Stop { .. } => true,
            },
        }
    }

    fn follow(&mut self, output: &Output) {
        let Output::Action(action) = output else { return };
        match action {
            Action::Resolve { query, .. } => {
                self.queries.insert(*query);
                self.used.insert((Kind::Query, query.as_u64()));
            }
            Action::Connect { socket, .. } | Action::Bind { socket, .. } => {
                self.bear_socket(*socket, SocketLife::Connecting);
            }
            Action::AdoptSocket { socket, .. } | Action::AdoptDatagrams { socket, .. } => {
                self.bear_socket(*socket, SocketLife::Open);
            }
            Action::OpenLink { link, socket, .. } => {
                self.sockets.remove(socket);
                self.bear_link(*link);
            }
            Action::AcceptLink { link, .. } => self.bear_link(*link),
            Action::CloseLink { link, .. } => {
                if let Some(life) = self.links.get_mut(link) {
                    *life = LinkLife::Closing;
                }
            }
            Action::Listen { listener, .. } => {
                self.listeners.insert(*listener, false);
                self.used.insert((Kind::Listener, listener.as_u64()));
            }
            Action::Unlisten { listener } => {
                self.listeners.remove(listener);
            }
            Action::ShutdownWrite { socket } => self.age_socket(*socket, SocketLife::WriteShut),
            Action::Close { socket, .. } => self.age_socket(*socket, SocketLife::Closing),
            Action::Reset { socket } => self.age_socket(*socket, SocketLife::Resetting),
            Action::Stop { .. } => self.stopped = true,
            Action::Ping { .. }
            | Action::RejectLink { .. }
            | Action::HttpResponse { .. }
            | Action::AnswerToken { .. }
            | Action::Refuse { .. } => {}
        }
    }

    fn bear_socket(&mut self, socket: SocketId, life: SocketLife) {
        self.sockets.insert(socket, life);
        self.used.insert((Kind::Socket, socket.as_u64()));
    }

    fn age_socket(&mut self, socket: SocketId, life: SocketLife) {
        if let Some(socket) = self.sockets.get_mut(&socket) {
            *socket = life;
        }
    }

    fn bear_link(&mut self, link: LinkId) {
        self.links.insert(link, LinkLife::Opening);
        self.used.insert((Kind::Link, link.as_u64()));
    }

    fn describe(&self, output: &Output) -> String {
        let sockets = self.sockets.iter().map(|(id, life)| (Kind::Socket, id.as_u64(), format!("{life:?}")));
        let links = self.links.iter().map(|(id, life)| (Kind::Link, id.as_u64(), format!("{life:?}")));
        let mut lives = sockets.chain(links).filter(|(kind, id, _)| subject(output) == Some((*kind, *id)));
        lives.next().map_or_else(|| "there is no such id".to_owned(), |(_, _, life)| format!("it is {life}"))
    }
}

/// The id that an output acts on.
const fn subject(output: &Output) -> Option<(Kind, u64)> {
    Some(match output {
        Output::Write { socket, .. }
        | Output::Read { socket, .. }
        | Output::Revoke { socket }
        | Output::ReceiveDatagrams { socket, .. }
        | Output::SendDatagram { socket, .. }
        | Output::Action(
            Action::OpenLink { socket, .. }
            | Action::ShutdownWrite { socket }
            | Action::Close { socket, .. }
            | Action::Reset { socket },
        ) => (Kind::Socket, socket.as_u64()),
        Output::Transmit { link, .. }
        | Output::Receive { link, .. }
        | Output::Action(Action::Ping { link } | Action::CloseLink { link, .. }) => {
            (Kind::Link, link.as_u64())
        }
        Output::Accept { listener, .. } | Output::Action(Action::Unlisten { listener }) => {
            (Kind::Listener, listener.as_u64())
        }
        Output::Action(_) | Output::Event(_) | Output::Timeout(_) => return None,
    })
}

/// Names an output without its payload.
#[expect(clippy::wildcard_enum_match_arm, reason = "only some outputs have a payload")]
fn brief(output: &Output) -> String {
    match output {
        Output::Transmit { link, message } => format!("Transmit of {} bytes on {link}", message.len()),
        Output::Write { socket, data } => format!("Write of {} bytes to {socket}", data.len()),
        Output::SendDatagram { socket, payload, .. } => {
            format!("SendDatagram of {} bytes to {socket}", payload.len())
        }
        other => format!("{other:?}"),
    }
}
