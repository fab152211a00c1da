//! A LinkSocks client without any async runtime and without `driver-core`: one thread waits for all
//! sockets at once (crate `mio`) and drives the engine directly. A real client in forward mode: SOCKS5
//! and HTTP proxy on a local port, TCP and UDP, reconnecting.
//!
//! ```sh
//! cargo run -p examples --bin one_thread ws://127.0.0.1:8765 TOKEN [SOCKS_PORT]
//! ```
//!
//! | file | |
//! |---|---|
//! | `main.rs` | the loop, and everything that the engine can ask for |
//! | `stream.rs` | one TCP connection |
//! | `link.rs` | one WebSocket |
//! | `others.rs` | the listener, UDP sockets, errors |
//!
//! Left out: TLS, and a graceful end (`Command::Shutdown`), which needs a signal handler.

mod link;
mod others;
mod stream;

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use linksocks_sansio::error::{LinkFailure, SocketError, StopReason};
use linksocks_sansio::{
    Action, ClientConfig, ClientEngine, Engine, Event, Input, LinkId, ListenerId, Output, ServerUrl,
    SocketId, Ticket, Token,
};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Waker};

use self::link::Link;
use self::others::{Datagrams, Listener, socket_error};
use self::stream::Stream;

/// The SOCKS port, unless another one is given.
const SOCKS_PORT: u16 = 9870;
/// The most that one read takes; no datagram is longer.
const SCRATCH: usize = 256 * 1024;
/// Wakes the loop up when a name is resolved.
const RESOLVED: mio::Token = mio::Token(0);

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: one_thread URL TOKEN [SOCKS_PORT]";
    let mut arguments = std::env::args().skip(1);
    let url = ServerUrl::parse(&arguments.next().ok_or(usage)?)?;
    let mut config = ClientConfig::new(url, Token::new(arguments.next().ok_or(usage)?)?);
    let port = arguments.next().map_or(Ok(SOCKS_PORT), |port| port.parse())?;
    config.listen = Some((Ipv4Addr::LOCALHOST, port).into());
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;

    let reason = Driver::new(config, seed)?.run()?;
    Err(format!("stopped: {reason}").into())
}

/// Everything that the kernel tells news of, and the engine has an id for.
enum Source {
    Listener(Listener),
    Stream(Stream),
    Datagrams(Datagrams),
    Link(Box<Link>),
}

/// The engine's name for a [`Source`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Id {
    Listener(ListenerId),
    Socket(SocketId),
    Link(LinkId),
}

/// What a source needs to work, and where it reports.
struct Turn {
    now: Instant,
    /// What has happened and the engine does not know yet.
    inputs: Vec<Input>,
    /// Connections that were accepted and wait for the engine's answer.
    offers: HashMap<Ticket, TcpStream>,
    next_ticket: u64,
    /// To read into. A copy of what came is shorter lived and smaller than a buffer for each socket.
    scratch: Vec<u8>,
}

/// When a source has to be looked at again, if there is no news of it before.
enum Next {
    News,
    At(Instant),
    Soon,
    /// Never: it is to be released, and has told the engine so.
    Gone,
}

struct Driver {
    engine: ClientEngine,
    poll: Poll,
    turn: Turn,
    /// Given to threads that resolve names.
    waker: Arc<Waker>,
    answer: mpsc::Sender<Input>,
    answers: mpsc::Receiver<Input>,

    sources: HashMap<mio::Token, (Id, Source)>,
    tokens: HashMap<Id, mio::Token>,
    last_token: usize,
    /// Whoever has something to do.
    busy: BTreeSet<mio::Token>,
    /// Whoever wants to be looked at then.
    alarms: BTreeSet<(Instant, mio::Token)>,
}

impl Driver {
    fn new(config: ClientConfig, seed: [u8; 32]) -> io::Result<Self> {
        let now = Instant::now();
        let poll = Poll::new()?;
        let (answer, answers) = mpsc::channel();
        Ok(Self {
            engine: ClientEngine::new(config, seed, now),
            turn: Turn {
                now,
                inputs: Vec::new(),
                offers: HashMap::new(),
                next_ticket: 0,
                scratch: vec![0; SCRATCH],
            },
            waker: Arc::new(Waker::new(poll.registry(), RESOLVED)?),
            poll,
            answer,
            answers,
            sources: HashMap::new(),
            tokens: HashMap::new(),
            last_token: RESOLVED.0,
            busy: BTreeSet::new(),
            alarms: BTreeSet::new(),
        })
    }

    fn run(mut self) -> io::Result<StopReason> {
        let mut events = Events::with_capacity(256);
        loop {
            // What the engine wants ...
            let deadline = loop {
                match self.engine.poll_output() {
                    Output::Timeout(deadline) => break deadline,
                    Output::Action(Action::Stop { reason }) => return Ok(reason),
                    output => self.carry_out(output),
                }
            };
            // ... as far as it can be done at once ...
            self.work();

            // ... then sleep until there is more to do.
            let alarm = self.alarms.first().map(|(at, _)| *at);
            let wake_up = [deadline, alarm].into_iter().flatten().min();
            let timeout = if self.turn.inputs.is_empty() && self.busy.is_empty() {
                wake_up.map(|at| at.saturating_duration_since(Instant::now()))
            } else {
                Some(Duration::ZERO)
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            self.turn.now = Instant::now();
            for event in &events {
                if let Some((_, source)) = self.sources.get_mut(&event.token()) {
                    source.wake();
                    self.busy.insert(event.token());
                }
            }
            while let Some((at, token)) = self.alarms.first().copied()
                && at <= self.turn.now
            {
                self.alarms.pop_first();
                self.busy.insert(token);
            }

            // What has happened. Every input fires the timers that are due, so this one comes alone.
            self.turn.inputs.extend(self.answers.try_iter());
            if self.turn.inputs.is_empty() && deadline.is_some_and(|at| at <= self.turn.now) {
                self.turn.inputs.push(Input::Timeout);
            }
            for input in self.turn.inputs.drain(..) {
                self.engine.handle_input(self.turn.now, input);
            }
        }
    }

    /// Lets everybody work who has something to do.
    fn work(&mut self) {
        for token in std::mem::take(&mut self.busy) {
            let Some((id, source)) = self.sources.get_mut(&token) else { continue };
            match source.work(&mut self.turn) {
                Next::News => {}
                Next::At(at) => {
                    self.alarms.insert((at, token));
                }
                Next::Soon => {
                    self.busy.insert(token);
                }
                Next::Gone => {
                    self.tokens.remove(id);
                    self.sources.remove(&token);
                }
            }
        }
    }

    /// Ids of what is gone are still used for a moment: closes race with IO.
    fn source(&mut self, id: Id) -> Option<&mut Source> {
        let token = *self.tokens.get(&id)?;
        self.busy.insert(token);
        self.sources.get_mut(&token).map(|(_, source)| source)
    }

    fn stream(&mut self, socket: SocketId) -> Option<&mut Stream> {
        match self.source(Id::Socket(socket))? {
            Source::Stream(stream) => Some(stream),
            Source::Listener(_) | Source::Datagrams(_) | Source::Link(_) => None,
        }
    }

    fn datagrams(&mut self, socket: SocketId) -> Option<&mut Datagrams> {
        match self.source(Id::Socket(socket))? {
            Source::Datagrams(datagrams) => Some(datagrams),
            Source::Listener(_) | Source::Stream(_) | Source::Link(_) => None,
        }
    }

    fn link(&mut self, link: LinkId) -> Option<&mut Link> {
        match self.source(Id::Link(link))? {
            Source::Link(link) => Some(link),
            Source::Listener(_) | Source::Stream(_) | Source::Datagrams(_) => None,
        }
    }

    /// Lets the kernel tell news of `source`.
    fn add(&mut self, id: Id, mut source: Source) -> Result<(), SocketError> {
        let token = mio::Token(self.last_token + 1);
        let both = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        match &mut source {
            Source::Listener(listener) => registry.register(&mut listener.socket, token, Interest::READABLE),
            Source::Stream(stream) => registry.register(&mut stream.socket, token, both),
            Source::Datagrams(datagrams) => registry.register(&mut datagrams.socket, token, both),
            Source::Link(_) => Ok(()), // was a stream
        }
        .map_err(|error| socket_error(&error))?;
        self.last_token = token.0;
        self.insert(token, id, source);
        Ok(())
    }

    fn insert(&mut self, token: mio::Token, id: Id, source: Source) {
        self.tokens.insert(id, token);
        self.sources.insert(token, (id, source));
        self.busy.insert(token);
    }

    /// Passes on what concerns one source; [`Self::work`] does it.
    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Transmit { link, message } => {
                if let Some(link) = self.link(link) {
                    link.transmit(message);
                }
            }
            Output::Receive { link, bytes } => {
                if let Some(link) = self.link(link) {
                    link.receive(bytes);
                }
            }
            Output::Write { socket, data } => {
                if let Some(stream) = self.stream(socket) {
                    stream.queue.push_back(data);
                }
            }
            Output::Read { socket, credit } => {
                if let Some(stream) = self.stream(socket) {
                    stream.credit.bytes += credit.bytes;
                    stream.credit.chunk = credit.chunk;
                }
            }
            Output::Accept { listener, count } => {
                if let Some(Source::Listener(listener)) = self.source(Id::Listener(listener)) {
                    listener.credit += count;
                }
            }
            Output::ReceiveDatagrams { socket, count } => {
                if let Some(datagrams) = self.datagrams(socket) {
                    datagrams.credit += count;
                }
            }
            Output::SendDatagram { socket, to, payload } => {
                if let Some(datagrams) = self.datagrams(socket) {
                    datagrams.queue.push_back((to, payload));
                }
            }
            Output::Action(action) => self.act(action),
            Output::Event(Event::SocksListening { local }) => println!("SOCKS5 on {local}"),
            Output::Event(event) => println!("{event:?}"),
            Output::Timeout(_) => unreachable!("`run` takes this one"),
        }
    }

    fn act(&mut self, action: Action) {
        let now = self.turn.now;
        match action {
            Action::Listen { listener, address } => {
                let opened = Listener::open(listener, address).and_then(|(source, local)| {
                    self.add(Id::Listener(listener), Source::Listener(source))?;
                    Ok(local)
                });
                self.turn.inputs.push(match opened {
                    Ok(local) => Input::ListenerOpened { listener, local },
                    Err(error) => Input::ListenerFailed { listener, error },
                });
            }
            Action::Unlisten { listener } => {
                self.remove(Id::Listener(listener));
            }
            Action::AdoptSocket { ticket, socket, read } => {
                let Some(tcp) = self.turn.offers.remove(&ticket) else { return };
                self.add_stream(socket, Stream::accepted(socket, tcp, read));
            }
            Action::Refuse { ticket, error: _ } => {
                self.turn.offers.remove(&ticket);
            }
            Action::Resolve { query, host } => {
                // The system's resolver waits, so it gets a thread; the engine limits how many.
                let (answer, waker) = (self.answer.clone(), Arc::clone(&self.waker));
                thread::spawn(move || {
                    let found = (host, 0).to_socket_addrs().map_err(|_| SocketError::LookupFailed);
                    let result = found.map(|addresses| addresses.map(|address| address.ip()).collect());
                    // Both fail only if nobody listens any more.
                    let _ = answer.send(Input::Resolved { query, result });
                    let _ = waker.wake();
                });
            }
            Action::Connect { socket, address, read } => match TcpStream::connect(address) {
                Ok(tcp) => self.add_stream(socket, Stream::connecting(socket, tcp, read)),
                Err(error) => {
                    self.turn.inputs.push(Input::SocketFailed { socket, error: socket_error(&error) });
                }
            },
            Action::ShutdownWrite { socket } => {
                if let Some(stream) = self.stream(socket) {
                    stream.shut_down_write();
                }
            }
            Action::Close { socket, linger } => match self.source(Id::Socket(socket)) {
                Some(Source::Stream(stream)) => stream.close(now + linger),
                Some(Source::Datagrams(datagrams)) => datagrams.closing = true,
                Some(Source::Listener(_) | Source::Link(_)) | None => {}
            },
            Action::Reset { socket } => match self.source(Id::Socket(socket)) {
                Some(Source::Stream(stream)) => stream.resetting = true,
                Some(Source::Datagrams(datagrams)) => datagrams.closing = true,
                Some(Source::Listener(_) | Source::Link(_)) | None => {}
            },
            Action::OpenLink { link, socket, request } => {
                // Nothing waits to be written: only to a proxy would the engine have spoken before.
                let opened = match self.remove(Id::Socket(socket)) {
                    Some((token, Source::Stream(stream))) => {
                        Link::open(link, stream.socket, request).map(|source| (token, source))
                    }
                    Some((_, Source::Listener(_) | Source::Datagrams(_) | Source::Link(_))) | None => {
                        Err(LinkFailure::Io(SocketError::Reset))
                    }
                };
                match opened {
                    Ok((token, source)) => self.insert(token, Id::Link(link), Source::Link(Box::new(source))),
                    Err(error) => self.turn.inputs.push(Input::LinkFailed { link, error }),
                }
            }
            Action::Ping { link } => {
                if let Some(link) = self.link(link) {
                    link.ping();
                }
            }
            Action::CloseLink { link, close, linger } => {
                if let Some(link) = self.link(link) {
                    link.close(close, now + linger);
                }
            }
            Action::Bind { socket, address } => {
                let bound = Datagrams::bind(socket, address).and_then(|(source, local)| {
                    self.add(Id::Socket(socket), Source::Datagrams(source))?;
                    Ok(local)
                });
                self.turn.inputs.push(match bound {
                    Ok(local) => Input::SocketBound { socket, local },
                    Err(error) => Input::SocketFailed { socket, error },
                });
            }

            // Answers to what only a server's or an embedder's driver tells its engine.
            Action::AcceptLink { ticket: _, link, extensions: _ } => {
                let error = LinkFailure::Unsupported("a server");
                self.turn.inputs.push(Input::LinkFailed { link, error });
            }
            Action::AdoptDatagrams { ticket: _, socket } => {
                self.turn.inputs.push(Input::SocketFailed { socket, error: SocketError::Other });
            }
            Action::RejectLink { .. } | Action::HttpResponse { .. } | Action::AnswerToken { .. } => {}
            Action::Stop { .. } => unreachable!("`run` takes this one"),
        }
    }

    fn add_stream(&mut self, socket: SocketId, stream: Stream) {
        if let Err(error) = self.add(Id::Socket(socket), Source::Stream(stream)) {
            self.turn.inputs.push(Input::SocketFailed { socket, error });
        }
    }

    fn remove(&mut self, id: Id) -> Option<(mio::Token, Source)> {
        let token = self.tokens.remove(&id)?;
        self.sources.remove(&token).map(|(_, source)| (token, source))
    }
}

impl Source {
    /// There is news of it. Of what, a try will show.
    fn wake(&mut self) {
        match self {
            Self::Listener(listener) => listener.readable = true,
            Self::Stream(stream) => (stream.readable, stream.writable) = (true, true),
            Self::Datagrams(datagrams) => (datagrams.readable, datagrams.writable) = (true, true),
            Self::Link(link) => link.wake(),
        }
    }

    /// Does what can be done without waiting. mio tells each news once, so it has to go on until the
    /// kernel says that it would wait, or the engine's permission ends.
    fn work(&mut self, turn: &mut Turn) -> Next {
        match self {
            Self::Listener(listener) => listener.work(turn),
            Self::Stream(stream) => stream.work(turn),
            Self::Datagrams(datagrams) => datagrams.work(turn),
            Self::Link(link) => link.work(turn),
        }
    }
}
