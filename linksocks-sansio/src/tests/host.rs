//! An engine with a fake driver that does at once whatever it is asked to.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;

use crate::error::{OpenError, SocketError, StopReason};
use crate::event::Event;
use crate::ids::{LinkId, ListenerId, QueryId, SocketId, Ticket};
use crate::io::{
    Action, CloseFrame, Command, Engine, HttpResponse, Input, LinkClose, LinkRequest, Output, ReadBuf,
    ReadCredit, UpgradeResponse,
};
use crate::token::{AddedToken, TokenError};
use crate::wire::{self, Message};

/// What happens to a connection attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Accept,
    Refuse,
    Silence,
}

/// The other end of a socket of the engine: an application or a target.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// What the engine wrote.
    pub(super) got: Vec<u8>,
    /// The engine has shut down its write half.
    pub(super) eof: bool,
    /// The engine has reset the socket.
    pub(super) reset: bool,
    /// The descriptor is released.
    pub(super) released: bool,
    /// Don't take what the engine writes: keep it unwritten.
    pub(super) stalled: bool,
    /// Written by the engine, not taken.
    pub(super) pending: VecDeque<Bytes>,
    credit: usize,
    chunk: usize,
    /// To be read by the engine when it may.
    to_send: VecDeque<u8>,
    to_send_eof: bool,
}

impl Peer {
    /// What the engine has not read of what is sent to it.
    pub(super) fn unread(&self) -> usize {
        self.to_send.len()
    }

    /// What the engine may be given of what is to be sent to it.
    fn next_input(&mut self, socket: SocketId) -> Option<Input> {
        let length = self.to_send.len().min(self.credit).min(self.chunk);
        if self.released {
            None
        } else if length > 0 {
            let bytes: Vec<u8> = self.to_send.drain(..length).collect();
            self.credit -= length;
            Some(Input::SocketRead { socket, buf: ReadBuf::copy_from(&bytes) })
        } else if self.to_send.is_empty() && std::mem::take(&mut self.to_send_eof) {
            Some(Input::SocketEof { socket })
        } else {
            None
        }
    }
}

/// An engine and its surroundings.
pub(super) struct Host<E> {
    pub(super) engine: E,
    pub(super) now: Instant,
    pub(super) peers: BTreeMap<SocketId, Peer>,
    pub(super) events: Vec<Event>,
    /// Messages for each link that nobody has taken.
    pub(super) sent: VecDeque<(LinkId, Bytes)>,
    pub(super) opening: VecDeque<(LinkId, LinkRequest)>,
    pub(super) accepted: VecDeque<(Ticket, LinkId, Option<String>)>,
    pub(super) rejected: Vec<(Ticket, u16)>,
    pub(super) responses: BTreeMap<Ticket, HttpResponse>,
    pub(super) adopted: BTreeMap<Ticket, SocketId>,
    pub(super) refused: BTreeMap<Ticket, OpenError>,
    /// The answers to commands that add tokens.
    pub(super) tokens: BTreeMap<Ticket, Result<AddedToken, TokenError>>,
    pub(super) pings: VecDeque<LinkId>,
    pub(super) closed_links: VecDeque<(LinkId, Option<CloseFrame>)>,
    pub(super) stopped: Option<StopReason>,
    pub(super) listener: Option<ListenerId>,
    pub(super) dials: Answer,
    /// Addresses asked for, in order.
    pub(super) dialed: Vec<(SocketId, SocketAddr)>,
    /// What every name resolves to.
    pub(super) resolves_to: Result<Vec<IpAddr>, SocketError>,
    pub(super) queries: Vec<(QueryId, String)>,
    /// Don't answer lookups.
    pub(super) resolver_stalled: bool,
    /// Datagram sockets and where they are bound, in order.
    pub(super) bound: Vec<(SocketId, SocketAddr)>,
    /// What becomes of attempts to bind a datagram socket.
    pub(super) binds: Answer,
    /// Datagrams that the engine has sent.
    pub(super) datagrams: VecDeque<(SocketId, SocketAddr, Bytes)>,
    /// Don't report datagrams as sent.
    pub(super) datagrams_stalled: bool,
    /// How many datagrams may be received from each socket.
    pub(super) receivable: BTreeMap<SocketId, usize>,
    /// Receive credit per link.
    pub(super) receive: BTreeMap<LinkId, i64>,
    /// Don't report messages as written to the network.
    pub(super) links_stalled: bool,
    pub(super) unwritten: Vec<(LinkId, usize)>,
    next_deadline: Option<Instant>,
    next_ticket: u64,
}

impl<E: Engine> Host<E> {
    pub(super) fn new(engine: E, now: Instant) -> Self {
        let mut host = Self {
            engine,
            now,
            peers: BTreeMap::new(),
            events: Vec::new(),
            sent: VecDeque::new(),
            opening: VecDeque::new(),
            accepted: VecDeque::new(),
            rejected: Vec::new(),
            responses: BTreeMap::new(),
            adopted: BTreeMap::new(),
            refused: BTreeMap::new(),
            tokens: BTreeMap::new(),
            pings: VecDeque::new(),
            closed_links: VecDeque::new(),
            stopped: None,
            listener: None,
            dials: Answer::Accept,
            dialed: Vec::new(),
            resolves_to: Ok(vec![IpAddr::from([127, 0, 0, 1])]),
            queries: Vec::new(),
            resolver_stalled: false,
            bound: Vec::new(),
            binds: Answer::Accept,
            datagrams: VecDeque::new(),
            datagrams_stalled: false,
            receivable: BTreeMap::new(),
            receive: BTreeMap::new(),
            links_stalled: false,
            unwritten: Vec::new(),
            next_deadline: None,
            next_ticket: 0,
        };
        host.drain();
        host
    }

    pub(super) fn input(&mut self, input: Input) {
        self.engine.handle_input(self.now, input);
        self.drain();
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    /// When the engine wants to be woken.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Lets an application connect to the SOCKS port.
    pub(super) fn connect_app(&mut self) -> SocketId {
        self.connect_app_from(SocketAddr::from(([127, 0, 0, 1], 50_000)))
    }

    pub(super) fn connect_app_from(&mut self, peer: SocketAddr) -> SocketId {
        let listener = self.listener.expect("the SOCKS port is open");
        let ticket = self.ticket();
        self.input(Input::SocketAccepted { ticket, listener, local: peer, peer });
        self.adopted[&ticket]
    }

    pub(super) fn open(&mut self, target: &str) -> Ticket {
        let ticket = self.ticket();
        let target = target.parse().unwrap();
        self.input(Input::Command(Command::Open { ticket, target }));
        ticket
    }

    /// The other end of `socket` sends bytes.
    pub(super) fn send(&mut self, socket: SocketId, bytes: &[u8]) {
        self.peers.get_mut(&socket).unwrap().to_send.extend(bytes);
        self.pump(socket);
    }

    /// The other end of `socket` shuts down its write half.
    pub(super) fn send_eof(&mut self, socket: SocketId) {
        self.peers.get_mut(&socket).unwrap().to_send_eof = true;
        self.pump(socket);
    }

    /// A datagram comes in at a socket, if it may.
    pub(super) fn receive_datagram(&mut self, socket: SocketId, from: &str, payload: &[u8]) {
        let receivable = self.receivable.get_mut(&socket).expect("the socket may receive");
        *receivable = receivable.checked_sub(1).expect("there is credit");
        let payload = Bytes::copy_from_slice(payload);
        self.input(Input::DatagramReceived { socket, from: from.parse().unwrap(), payload });
    }

    /// The connection of `socket` breaks.
    pub(super) fn fail(&mut self, socket: SocketId, error: SocketError) {
        self.peers.get_mut(&socket).unwrap().released = true;
        self.input(Input::SocketFailed { socket, error });
    }

    /// The other end of `socket` takes what it has left untaken.
    pub(super) fn take_pending(&mut self, socket: SocketId) {
        while let Some(bytes) = self.peers.get_mut(&socket).unwrap().pending.pop_front() {
            self.peers.get_mut(&socket).unwrap().got.extend_from_slice(&bytes);
            self.input(Input::SocketWritten { socket, bytes: bytes.len() });
        }
    }

    /// A message comes from the peer of a link.
    pub(super) fn receive(&mut self, link: LinkId, message: &Message) {
        self.receive_bytes(link, message.encode().unwrap());
    }

    pub(super) fn receive_bytes(&mut self, link: LinkId, message: Bytes) {
        *self.receive.entry(link).or_default() -=
            i64::try_from(crate::io::receive_cost(message.len())).unwrap();
        self.input(Input::LinkReceived { link, message });
    }

    /// The driver releases the links that the engine has closed.
    pub(super) fn release_links(&mut self) {
        for (link, _) in std::mem::take(&mut self.closed_links) {
            self.input(Input::LinkClosed { link, cause: LinkClose::Local });
        }
    }

    /// The messages sent so far, decoded.
    pub(super) fn take_sent(&mut self) -> Vec<Message> {
        self.sent.drain(..).map(|(_, message)| wire::decode(message).unwrap().message).collect()
    }

    fn pump(&mut self, socket: SocketId) {
        while let Some(input) = self.peers.get_mut(&socket).and_then(|peer| peer.next_input(socket)) {
            self.input(input);
        }
    }

    fn add_peer(&mut self, socket: SocketId, read: ReadCredit) {
        let peer = Peer { credit: read.bytes, chunk: read.chunk, ..Peer::default() };
        assert!(self.peers.insert(socket, peer).is_none(), "{socket} is new");
    }

    fn drain(&mut self) {
        let mut answers = VecDeque::new();
        loop {
            match self.engine.poll_output() {
                Output::Timeout(deadline) => {
                    self.next_deadline = deadline;
                    let Some(answer) = answers.pop_front() else { return };
                    self.engine.handle_input(self.now, answer);
                }
                Output::Transmit { link, message } => {
                    let bytes = message.len();
                    self.sent.push_back((link, message));
                    if self.links_stalled {
                        self.unwritten.push((link, bytes));
                    } else {
                        answers.push_back(Input::LinkWritten { link, bytes });
                    }
                }
                Output::Write { socket, data } => {
                    let peer = self.peers.get_mut(&socket).expect("a write to a known socket");
                    assert!(!peer.eof && !peer.reset && !peer.released, "a write after the end");
                    if peer.stalled {
                        peer.pending.push_back(data);
                    } else {
                        peer.got.extend_from_slice(&data);
                        answers.push_back(Input::SocketWritten { socket, bytes: data.len() });
                    }
                }
                Output::Read { socket, credit } => {
                    let peer = self.peers.get_mut(&socket).expect("credit for a known socket");
                    peer.credit += credit.bytes;
                    peer.chunk = credit.chunk;
                    while let Some(input) = peer.next_input(socket) {
                        answers.push_back(input);
                    }
                }
                Output::Revoke { socket } => {
                    let peer = self.peers.get_mut(&socket).expect("credit of a known socket");
                    answers.push_back(Input::Revoked { socket, bytes: std::mem::take(&mut peer.credit) });
                }
                Output::Receive { link, bytes } => {
                    *self.receive.entry(link).or_default() += i64::try_from(bytes).unwrap();
                }
                Output::Accept { .. } => {}
                Output::ReceiveDatagrams { socket, count } => {
                    *self.receivable.entry(socket).or_default() += count;
                }
                Output::SendDatagram { socket, to, payload } => {
                    let peer = self.peers.get(&socket).expect("a datagram for a known socket");
                    assert!(!peer.released, "a datagram after the end");
                    self.datagrams.push_back((socket, to, payload));
                    if !self.datagrams_stalled {
                        answers.push_back(Input::DatagramsSent { socket, count: 1, failed: 0 });
                    }
                }
                Output::Event(event) => self.events.push(event),
                Output::Action(action) => self.act(action, &mut answers),
            }
        }
    }

    fn act(&mut self, action: Action, answers: &mut VecDeque<Input>) {
        match action {
            Action::Resolve { query, host } => {
                self.queries.push((query, host));
                let result = self.resolves_to.clone().map(Into::into);
                if !self.resolver_stalled {
                    answers.push_back(Input::Resolved { query, result });
                }
            }
            Action::Connect { socket, address, read } => {
                self.dialed.push((socket, address));
                self.add_peer(socket, read);
                match self.dials {
                    Answer::Accept => answers.push_back(Input::SocketOpened { socket }),
                    Answer::Refuse => {
                        self.peers.remove(&socket);
                        answers.push_back(Input::SocketFailed { socket, error: SocketError::Refused });
                    }
                    Answer::Silence => {}
                }
            }
            Action::OpenLink { link, socket, request } => {
                self.peers.remove(&socket).expect("a link is made of an open socket");
                self.opening.push_back((link, request));
            }
            Action::AcceptLink { ticket, link, extensions } => {
                self.accepted.push_back((ticket, link, extensions));
            }
            Action::RejectLink { ticket, status, .. } => self.rejected.push((ticket, status)),
            Action::HttpResponse { ticket, response } => {
                assert!(self.responses.insert(ticket, response).is_none(), "a ticket is answered once");
            }
            Action::Ping { link } => self.pings.push_back(link),
            Action::CloseLink { link, close, .. } => self.closed_links.push_back((link, close)),
            Action::AdoptSocket { ticket, socket, read } => {
                assert!(self.adopted.insert(ticket, socket).is_none(), "a ticket is answered once");
                self.add_peer(socket, read);
            }
            Action::AdoptDatagrams { ticket, socket } => {
                assert!(self.adopted.insert(ticket, socket).is_none(), "a ticket is answered once");
                self.add_peer(socket, ReadCredit::default());
            }
            Action::Bind { socket, address } => {
                let port = 40_000 + u16::try_from(self.bound.len()).unwrap();
                let local = SocketAddr::new(address.ip(), port);
                match self.binds {
                    Answer::Accept => {
                        self.add_peer(socket, ReadCredit::default());
                        self.bound.push((socket, local));
                        answers.push_back(Input::SocketBound { socket, local });
                    }
                    Answer::Refuse => {
                        answers.push_back(Input::SocketFailed { socket, error: SocketError::Exhausted });
                    }
                    Answer::Silence => {
                        self.add_peer(socket, ReadCredit::default());
                        self.bound.push((socket, local));
                    }
                }
            }
            Action::AnswerToken { ticket, result } => {
                assert!(self.tokens.insert(ticket, result).is_none(), "a ticket is answered once");
            }
            Action::Refuse { ticket, error } => {
                assert!(self.refused.insert(ticket, error).is_none(), "a ticket is answered once");
            }
            Action::Listen { listener, address } => {
                self.listener = Some(listener);
                answers.push_back(Input::ListenerOpened { listener, local: address });
            }
            Action::Unlisten { .. } => self.listener = None,
            Action::ShutdownWrite { socket } => self.peers.get_mut(&socket).unwrap().eof = true,
            Action::Close { socket, .. } => {
                let peer = self.peers.get_mut(&socket).expect("a known socket closes");
                assert!(!peer.released, "a socket is released once");
                assert!(peer.pending.is_empty(), "a close waits for the last write");
                (peer.eof, peer.released) = (true, true);
                answers.push_back(Input::SocketClosed { socket });
            }
            Action::Reset { socket } => {
                let peer = self.peers.get_mut(&socket).expect("a known socket is reset");
                assert!(!peer.released, "a socket is released once");
                (peer.reset, peer.released) = (true, true);
                answers.push_back(Input::SocketClosed { socket });
            }
            Action::Stop { reason } => self.stopped = Some(reason),
        }
    }

    /// Accepts an opened link as a server would, without a peer engine.
    pub(super) fn open_link(&mut self, extensions: Option<&str>) -> (LinkId, LinkRequest) {
        let (link, request) = self.opening.pop_front().expect("a link is being opened");
        let response = UpgradeResponse { extensions: extensions.map(str::to_owned) };
        self.input(Input::LinkOpened { link, response });
        (link, request)
    }
}
