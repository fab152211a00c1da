//! What both engines share: links, channels, sockets, dials, and the memory they use.
//!
//! The engines decide who may do what; the relay does it. Where it needs a decision it leaves a
//! [`Notice`], which the engine takes up at the end of each input.

mod associations;
mod batching;
mod channels;
mod cleanup;
mod compression;
mod datagrams;
mod dials;
mod early;
mod entry;
mod fast_open;
mod http;
mod joined;
mod joined_datagrams;
mod links;
mod logins;
mod memory;
mod messages;
mod opening;
mod policy;
mod read_ahead;
mod rerouting;
mod role;
mod send;
mod sessions;
mod shutdown;
mod socks;
mod streams;
mod timers;
mod upstream;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::access::AccessRules;
use crate::accounts::{Account, Accounts, Loans, Payers};
use crate::arena::Arena;
use crate::attempts::Attempts;
use crate::channel::{Addresses, Association, Channel, EarlyInput, Origin, ReadPacer};
use crate::config::{BatchingConfig, Limits, RelayConfig};
use crate::dial::{Dial, DialKey};
use crate::error::{LinkError, OpenError, StopReason};
use crate::event::Event;
use crate::ids::{
    AssociationKey, ChannelId, ChannelKey, InstanceId, LinkId, ListenerId, QueryId, SocketId, Ticket, TokenId,
};
use crate::io::{Action, Command, Input, Output};
use crate::link::{Link, LinkEnd, ReceiveBudget};
use crate::rng::EngineRng;
use crate::secret::Credentials;
use crate::socks5::Handshake;
use crate::stats::Stats;
use crate::timer::{Due, TimerQueue};
use crate::wire;
use crate::wire::gzip::Deflate;
use early::EarlyData;
use http::{HttpSession, HttpWork};
use memory::Unpaid;
use sessions::Sessions;
use shutdown::Shutdown;
use socks::Protocol;

pub(crate) use entry::{Want, Wish};
pub(crate) use links::{Ending, NOT_OPEN, close_code};
pub(crate) use role::{Role, handle_input, poll_output};
pub(crate) use timers::{EngineTimer, Timer};

/// A deadline that fires this much late proves only that we were away (suspended, starved).
const AWAY: Duration = Duration::from_secs(1);

/// How much longer a deadline that fired late waits: the answer may be in the inbox already.
const GRACE: Duration = Duration::from_secs(1);

/// A question or news for the engine that owns the relay.
#[derive(Debug)]
pub(crate) enum Notice {
    /// An application wants a channel, and may have it.
    Wanted { origin: Origin, wish: Wish },
    /// The TCP connection for a link is there.
    LinkDialed { link: LinkId, socket: SocketId },
    /// A link is ready for channels.
    LinkReady { link: LinkId },
    /// A link is gone.
    LinkDown { link: LinkId, end: LinkEnd, authenticated: bool, error: LinkError },
    /// Nothing new is to be accepted any more.
    ShutdownBegun,
    /// The peer asks us to connect to a target.
    ConnectRequested { link: LinkId, connect: wire::Connect },
    /// A client wants to add or remove a connector token.
    ConnectorRequested { link: LinkId, request: wire::Connector },
    /// The server has answered such a request.
    ConnectorAnswered { link: LinkId, response: wire::ConnectorResponse },
}

/// Whose channel ids a link may refer to: those of a process with a token.
pub(crate) type Owner = (TokenId, InstanceId);

/// What the links of one owner share: a channel is used on the link that it was opened on, but
/// known on all.
#[derive(Debug, Default)]
struct Owned {
    links: usize,
    channels: BTreeMap<ChannelId, ChannelKey>,
    associations: BTreeMap<ChannelId, AssociationKey>,
    early: EarlyData,
}

/// Whose links these are, or why the client is turned away.
pub(crate) type Login = Result<Owner, &'static str>;

/// A local TCP socket or in-memory stream.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) owner: SocketOwner,
    pub(crate) pacer: ReadPacer,
    /// Lengths of the writes that the driver has not finished.
    writes: VecDeque<usize>,
    writing: usize,
    /// The listener that it counts against.
    listener: Option<ListenerId>,
    /// It exists only in the engine: its other end is the HTTP proxy that serves this application.
    application: Option<SocketId>,
}

/// What a socket is for.
#[derive(Debug)]
pub(crate) enum SocketOwner {
    /// An application is asking for a target, or waits for the answer.
    Socks(Box<SocksSession>),
    /// An application uses us as an HTTP proxy.
    Http(Box<HttpSession>),
    /// It carries a channel.
    Channel(ChannelKey),
    /// Its connection lasts as long as a UDP association.
    Control(AssociationKey),
    /// It carries datagrams of a UDP association.
    Datagrams(AssociationKey),
    /// It is being connected.
    Dial(DialKey),
    /// It has been told to close.
    Closing,
}

/// An application that has no channel yet, and whose socket becomes the end of one.
#[derive(Debug)]
pub(crate) struct SocksSession {
    protocol: Protocol,
    /// `None` once the request is complete.
    handshake: Option<Handshake>,
    early: EarlyInput,
    /// The channel that is being opened for it.
    channel: Option<Opening>,
    ends: Ends,
    /// It has asked for a UDP association: its EOF ends that.
    wants_datagrams: bool,
}

/// Our end of an application's connection, and its own.
#[derive(Clone, Copy, Debug)]
struct Ends {
    local: SocketAddr,
    peer: SocketAddr,
}

/// A channel that is being opened for an application.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Opening {
    Stream(ChannelKey),
    Datagrams(AssociationKey),
}

/// A lookup under way.
#[derive(Debug)]
struct Query {
    owner: QueryOwner,
    /// What it is charged to, until it is answered.
    payers: Payers,
}

/// Whom a lookup is for.
#[derive(Debug)]
enum QueryOwner {
    Dial(DialKey),
    /// An application whose target has to be judged.
    Entry(entry::Entry),
    /// Datagrams to this name.
    Datagrams(AssociationKey, String),
    /// Whoever it was for has lost interest.
    Nobody,
}

/// A SOCKS port.
#[derive(Debug)]
pub(crate) struct Listener {
    credentials: Option<Arc<Credentials>>,
    /// Stands for these credentials, see [`Relay::next_door`].
    door: u64,
    /// What applications may ask for, besides what the rules of the engine say.
    rules: Arc<AccessRules>,
    /// Connections that may be accepted without another permission.
    accepts_left: usize,
    /// Accepted sockets that still exist.
    open: usize,
}

/// Links, channels, sockets, dials.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) config: RelayConfig,
    pub(crate) rng: EngineRng,
    pub(crate) now: Instant,
    pub(crate) timers: TimerQueue<Timer>,
    pub(crate) links: Arena<LinkId, Link>,
    pub(crate) notices: VecDeque<Notice>,
    channels: Arena<ChannelKey, Channel>,
    associations: Arena<AssociationKey, Association>,
    sockets: Arena<SocketId, Socket>,
    listeners: Arena<ListenerId, Listener>,
    dials: Arena<DialKey, Dial>,
    queries: Arena<QueryId, Query>,
    accounts: Accounts,
    owners: BTreeMap<Owner, Owned>,
    /// What the clients of tokens may ask for.
    policies: BTreeMap<TokenId, Arc<AccessRules>>,
    sessions: Sessions,
    outputs: VecDeque<Output>,
    /// Links that may have something to send.
    sendable: VecDeque<LinkId>,
    /// What waits of channels whose link is lost.
    detached: ReceiveBudget,
    detached_loans: Loans,
    /// Who waits for memory.
    unpaid: VecDeque<Unpaid>,
    /// When idle channels may be looked for again, to take back what they may read ahead.
    next_revocation: Instant,
    totals: Stats,
    /// Made when it is needed first.
    deflate: Option<Box<Deflate>>,
    shutdown: Shutdown,
    stop_reason: StopReason,
    /// The code of the close frames that tell peers of the shutdown.
    farewell: u16,
    /// What the HTTP proxy has to look after.
    http_work: VecDeque<HttpWork>,
    /// Failed logins of applications.
    attempts: Attempts,
    /// How many doors there were, see [`Relay::next_door`].
    doors: u64,
}

impl Relay {
    pub(crate) fn new(mut config: RelayConfig, seed: [u8; 32], now: Instant, farewell: u16) -> Self {
        config.limits.message_max = config.limits.message_max.max(Limits::LEAST_MESSAGE_MAX);
        config.batching.buffer_size = config.batching.buffer_size.max(BatchingConfig::LEAST_BUFFER);
        Self {
            rng: EngineRng::new(seed),
            now,
            timers: TimerQueue::default(),
            links: Arena::default(),
            notices: VecDeque::new(),
            channels: Arena::default(),
            associations: Arena::default(),
            sockets: Arena::default(),
            listeners: Arena::default(),
            dials: Arena::default(),
            queries: Arena::default(),
            accounts: Accounts::new(config.limits.clone()),
            owners: BTreeMap::new(),
            policies: BTreeMap::new(),
            sessions: Sessions::default(),
            outputs: VecDeque::new(),
            sendable: VecDeque::new(),
            detached: ReceiveBudget::new(config.limits.link_receive_budget),
            detached_loans: Loans::new(Payers::from_iter([Account::Everybody])),
            unpaid: VecDeque::new(),
            next_revocation: now,
            totals: Stats::default(),
            deflate: None,
            shutdown: Shutdown::No,
            stop_reason: StopReason::Shutdown,
            farewell,
            http_work: VecDeque::new(),
            attempts: Attempts::default(),
            doors: 0,
            config,
        }
    }

    /// Moves the clock; it never goes back.
    pub(crate) fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Takes the next deadline that has come and is to be acted on.
    pub(crate) fn next_due(&mut self) -> Option<Due<Timer>> {
        loop {
            let due = self.timers.pop_due(self.now)?;
            if due.key.blames_others() && !due.graced && self.is_late(due.deadline) {
                self.timers.set_grace(due.key, self.now, GRACE);
                continue;
            }
            return Some(due);
        }
    }

    /// Whether a deadline came so late that we must have been away.
    fn is_late(&self, deadline: Instant) -> bool {
        self.now.saturating_duration_since(deadline) > AWAY
    }

    /// Acts on a deadline, or returns it if it is one of the engine's own.
    pub(crate) fn on_timer(&mut self, due: Due<Timer>) -> Option<EngineTimer> {
        match due.key {
            Timer::LinkLogin(link) => self.on_login_timeout(link),
            Timer::LinkKeepAlive(link) => self.on_keep_alive(link, due.deadline),
            Timer::LinkClose(link) => self.on_close_timeout(link),
            Timer::Acknowledge(link) => self.on_ack_timer(link),
            Timer::Grace(link) => self.on_grace_over(link),
            Timer::Response(channel) => self.on_response_timeout(channel),
            Timer::HeldData(channel) => self.send_held_data(channel),
            Timer::HalfClose(channel) => self.on_half_close_timeout(channel),
            Timer::Batch(channel) => self.flush(channel),
            Timer::Inflate(channel) => self.on_local_progress(channel),
            Timer::AssociationResponse(association) => self.on_association_response_timeout(association),
            Timer::AssociationIdle(association) => self.on_association_idle(association),
            Timer::Lookup(query) => self.on_lookup_timeout(query),
            Timer::LastBytes(channel) => self.on_last_bytes_timeout(channel),
            Timer::Dial(dial) => self.on_dial_timeout(dial),
            Timer::DialStagger(dial) => self.try_next_address(dial),
            Timer::Handshake(socket) => self.on_handshake_timeout(socket),
            Timer::Early(owner) => self.on_early_timeout(owner),
            Timer::Stall(link) => self.on_stall_check(link),
            Timer::Sweep => self.on_sweep(),
            Timer::Shutdown => self.on_shutdown_timer(),
            Timer::Engine(timer) => return Some(timer),
        }
        None
    }

    /// Acts on an input, or returns it if the engine has to decide.
    fn apply(&mut self, input: Input) -> Option<Input> {
        match input {
            Input::Timeout => {}
            Input::LinkInvalid { link, violation } => self.on_violation(link, violation),
            Input::LinkWritten { link, bytes } => self.on_link_written(link, bytes),
            Input::LinkPong { link } => self.on_pong(link),
            Input::LinkClosed { link, cause } => self.on_link_closed(link, cause),
            Input::SocketAccepted { ticket, listener, local, peer } => {
                self.on_socket_accepted(ticket, listener, local, peer);
            }
            Input::SocketOpened { socket } => self.on_socket_opened(socket),
            Input::SocketFailed { socket, error } => self.on_socket_failed(socket, error),
            Input::SocketRead { socket, buf } => self.on_socket_read(socket, buf),
            Input::SocketEof { socket } => self.on_socket_eof(socket),
            Input::Revoked { socket, bytes } => self.on_revoked(socket, bytes),
            Input::SocketWritten { socket, bytes } => self.on_socket_written(socket, bytes),
            Input::SocketBound { socket, local } => self.on_socket_bound(socket, local),
            Input::DatagramReceived { socket, from, payload } => {
                self.on_datagram_received(socket, from, &payload);
            }
            Input::DatagramsSent { socket, count, failed } => self.on_datagrams_sent(socket, count, failed),
            Input::SocketClosed { socket } => self.on_socket_closed(socket),
            Input::Resolved { query, result } => self.on_resolved(query, result),
            Input::Command(Command::Shutdown { drain }) => self.begin_shutdown(drain, StopReason::Shutdown),
            Input::Command(
                Command::Open { .. }
                | Command::Associate { .. }
                | Command::AddToken { .. }
                | Command::RemoveToken { .. },
            )
            | Input::LinkOffered { .. }
            | Input::HttpRequest { .. }
            | Input::LinkOpened { .. }
            | Input::LinkFailed { .. }
            | Input::LinkReceived { .. }
            | Input::ListenerOpened { .. }
            | Input::ListenerFailed { .. } => return Some(input),
        }
        None
    }

    pub(crate) fn push(&mut self, output: Output) {
        if !self.is_stopped() {
            self.outputs.push_back(output);
        }
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.push(Output::Action(action));
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.push(Output::Event(event));
    }

    pub(crate) fn tell_limits(&mut self) {
        for exhausted in self.accounts.take_news() {
            self.tell(Event::LimitReached(exhausted));
        }
    }

    pub(crate) fn set_timer(&mut self, timer: Timer, delay: Duration) {
        self.timers.set(timer, self.now, delay);
    }

    pub(crate) fn poll_output(&mut self) -> Output {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return output;
            }
            if !self.send_next() {
                let deadline = if self.is_stopped() { None } else { self.timers.next() };
                return Output::Timeout(deadline);
            }
        }
    }

    /// Refuses a wish for a channel before there is one.
    pub(crate) fn refuse(&mut self, origin: Origin, error: OpenError) {
        match origin {
            Origin::Socks(socket) => self.refuse_socks(socket, &error),
            Origin::Http(socket) => self.refuse_http(socket, &error),
            Origin::Embed(ticket) => self.refuse_ticket(ticket, error),
            Origin::Leg(leg) => self.refuse_leg(leg, error),
        }
    }

    pub(crate) fn refuse_ticket(&mut self, ticket: Ticket, error: OpenError) {
        self.act(Action::Refuse { ticket, error });
    }

    pub(crate) fn stats(&self) -> Stats {
        let charged: usize = self.links.iter().map(|(_, link)| link.budget.charged()).sum();
        Stats {
            links: self.links.len(),
            ready_links: self.links.iter().filter(|(_, link)| link.is_ready()).count(),
            suspended_links: self.suspended_links(),
            session_logs: self.session_logs(),
            channels: self.channels.len() + self.associations.len(),
            associations: self.associations.len(),
            sockets: self.sockets.len(),
            receive_queued: charged + self.detached.charged(),
            refusals: self.accounts.refusals(),
            ..self.totals
        }
    }
}
