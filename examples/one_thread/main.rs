//! A LinkSocks client without any async runtime and without `driver-core`: one thread waits for all
//! sockets at once (crate `mio`) and drives the engine directly. A real client in forward mode: SOCKS5
//! and HTTP proxy on a local port, TCP and UDP, reconnecting.
//!
//! ```sh
//! cargo run -p examples --bin one_thread ws://127.0.0.1:8765 TOKEN [SOCKS_PORT]
//! ```
//!
//! Here is the loop, and everything that the engine can ask for; in `socket.rs` are TCP connections, the
//! listener and UDP, in `link.rs` is the WebSocket. Left out: TLS, TCP keep-alive, and a graceful end
//! (`Command::Shutdown`), which needs a signal handler.

mod link;
mod socket;

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, ToSocketAddrs};
use std::ops::ControlFlow;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use linksocks_sansio::error::{LinkFailure, SocketError, StopReason};
use linksocks_sansio::{Action, ClientConfig, ClientEngine, Engine, Event, Input, Output, ReadBuf};
use linksocks_sansio::{LinkId, ListenerId, ServerUrl, SocketId, Ticket, Token};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Waker};

use self::link::Link;
use self::socket::{Datagrams, Listener, Stream, socket_error};

/// The most that one read takes; no datagram is longer.
const SCRATCH: usize = 256 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: one_thread URL TOKEN [SOCKS_PORT]";
    let mut arguments = std::env::args().skip(1);
    let url = ServerUrl::parse(&arguments.next().ok_or(usage)?)?;
    let mut config = ClientConfig::new(url, Token::new(arguments.next().ok_or(usage)?)?);
    let port = arguments.next().map_or(Ok(9870), |port| port.parse())?;
    config.listen = Some((Ipv4Addr::LOCALHOST, port).into());
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;

    let reason = Driver::new(config, seed)?.run()?;
    Err(format!("stopped: {reason}").into())
}

struct Driver {
    engine: ClientEngine,
    turn: Turn,
    listeners: HashMap<ListenerId, Listener>,
    streams: HashMap<SocketId, Stream>,
    datagrams: HashMap<SocketId, Datagrams>,
    links: HashMap<LinkId, Link>,
    /// For threads that look up names: what they found, and how to wake up the loop.
    found: mpsc::Sender<Input>,
    lookups: mpsc::Receiver<Input>,
    waker: Arc<Waker>,
}

/// What sockets work with, and where they report.
struct Turn {
    now: Instant,
    poll: Poll,
    last_token: mio::Token,
    /// Of whom the kernel has told news.
    news: HashSet<mio::Token>,
    /// When somebody has to be looked at again, if there is no news before.
    wake_up: Option<Instant>,
    /// What has happened and the engine does not know yet.
    inputs: Vec<Input>,
    /// Accepted connections that wait for the engine's answer.
    offers: HashMap<Ticket, TcpStream>,
    next_ticket: u64,
    /// All read into this. What has come is copied, so that an idle socket needs no memory.
    scratch: Vec<u8>,
}

impl Turn {
    /// Lets the kernel tell news of `source`, under the token that is returned.
    fn register(&mut self, source: &mut impl mio::event::Source) -> io::Result<mio::Token> {
        self.last_token.0 += 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(source, self.last_token, interest)?;
        Ok(self.last_token)
    }

    fn wake_up_at(&mut self, at: Instant) {
        self.wake_up = Some(self.wake_up.map_or(at, |other| other.min(at)));
    }

    /// What has been read, as the engine wants it.
    fn read(&self, length: usize) -> ReadBuf {
        ReadBuf::copy_from(&self.scratch[..length])
    }
}

impl Driver {
    fn new(config: ClientConfig, seed: [u8; 32]) -> io::Result<Self> {
        let now = Instant::now();
        let poll = Poll::new()?;
        let last_token = mio::Token(0);
        let waker = Arc::new(Waker::new(poll.registry(), last_token)?);
        let (found, lookups) = mpsc::channel();
        let turn = Turn {
            now,
            poll,
            last_token,
            news: HashSet::new(),
            wake_up: None,
            inputs: Vec::new(),
            offers: HashMap::new(),
            next_ticket: 0,
            scratch: vec![0; SCRATCH],
        };
        Ok(Self {
            engine: ClientEngine::new(config, seed, now),
            turn,
            listeners: HashMap::new(),
            streams: HashMap::new(),
            datagrams: HashMap::new(),
            links: HashMap::new(),
            found,
            lookups,
            waker,
        })
    }

    fn run(mut self) -> io::Result<StopReason> {
        let mut events = Events::with_capacity(256);
        loop {
            // What the engine wants ...
            let deadline = match self.drain() {
                ControlFlow::Continue(deadline) => deadline,
                ControlFlow::Break(reason) => return Ok(reason),
            };
            // ... as far as it can be done without waiting ...
            self.turn.wake_up = deadline;
            self.work();
            // ... then sleep until there is more to do.
            let wake_up = if self.turn.inputs.is_empty() { self.turn.wake_up } else { Some(self.turn.now) };
            let timeout = wake_up.map(|at| at.saturating_duration_since(Instant::now()));
            match self.turn.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            self.turn.now = Instant::now();
            self.turn.news = events.iter().map(mio::event::Event::token).collect();

            // What has happened. Each input fires the timers that are due; without any, this one does.
            self.turn.inputs.extend(self.lookups.try_iter());
            if self.turn.inputs.is_empty() && deadline.is_some_and(|at| at <= self.turn.now) {
                self.turn.inputs.push(Input::Timeout);
            }
            for input in self.turn.inputs.drain(..) {
                self.engine.handle_input(self.turn.now, input);
            }
        }
    }

    /// Lets everybody do what can be done, and drops those that have told the engine of their end.
    /// Those without anything to do cost no system call. A driver for a hundred thousand sockets would
    /// remember who has.
    fn work(&mut self) {
        let turn = &mut self.turn;
        self.listeners.values_mut().for_each(|listener| listener.work(turn));
        self.streams.retain(|_, stream| stream.work(turn));
        self.datagrams.retain(|_, datagrams| datagrams.work(turn));
        self.links.retain(|_, link| link.work(turn));
    }

    /// Tells everybody what the engine wants; [`Self::work`] does it. Some are gone already, and the
    /// engine will learn of it: closes race with IO. Returns when the engine wants to be called again,
    /// or why it has stopped.
    fn drain(&mut self) -> ControlFlow<StopReason, Option<Instant>> {
        loop {
            match self.engine.poll_output() {
                Output::Transmit { link, message } => {
                    self.links.entry(link).and_modify(|link| link.transmit(message));
                }
                Output::Receive { link, bytes } => {
                    self.links.entry(link).and_modify(|link| link.receive(bytes));
                }
                Output::Write { socket, data } => {
                    self.streams.entry(socket).and_modify(|stream| stream.queue.push_back(data));
                }
                Output::Read { socket, credit } => {
                    self.streams.entry(socket).and_modify(|stream| {
                        stream.credit.bytes += credit.bytes;
                        stream.credit.chunk = credit.chunk;
                    });
                }
                Output::Revoke { socket } => {
                    if let Some(stream) = self.streams.get_mut(&socket) {
                        let bytes = std::mem::take(&mut stream.credit.bytes);
                        self.turn.inputs.push(Input::Revoked { socket, bytes });
                    }
                }
                Output::Accept { listener, count } => {
                    self.listeners.entry(listener).and_modify(|listener| listener.credit += count);
                }
                Output::ReceiveDatagrams { socket, count } => {
                    self.datagrams.entry(socket).and_modify(|datagrams| datagrams.credit += count);
                }
                Output::SendDatagram { socket, to, payload } => {
                    self.datagrams
                        .entry(socket)
                        .and_modify(|datagrams| datagrams.queue.push_back((to, payload)));
                }
                Output::Action(Action::Stop { reason }) => return ControlFlow::Break(reason),
                Output::Action(action) => {
                    let answer = self.act(action);
                    self.turn.inputs.extend(answer);
                }
                Output::Event(Event::SocksListening { local }) => println!("SOCKS5 on {local}"),
                Output::Event(event) => println!("{event:?}"),
                Output::Timeout(deadline) => return ControlFlow::Continue(deadline),
            }
        }
    }

    /// Does what is done at once, and returns the answer if there is one.
    fn act(&mut self, action: Action) -> Option<Input> {
        let turn = &mut self.turn;
        match action {
            Action::Listen { listener, address } => match Listener::open(listener, address, turn) {
                Ok((source, local)) => {
                    self.listeners.insert(listener, source);
                    return Some(Input::ListenerOpened { listener, local });
                }
                Err(error) => {
                    return Some(Input::ListenerFailed { listener, error: socket_error(&error) });
                }
            },
            Action::Unlisten { listener } => {
                self.listeners.remove(&listener);
            }
            Action::AdoptSocket { ticket, socket, read } => {
                let tcp = turn.offers.remove(&ticket)?;
                match Stream::new(socket, tcp, read, false, turn) {
                    Ok(stream) => self.streams.insert(socket, stream),
                    Err(error) => return Some(Input::SocketFailed { socket, error: socket_error(&error) }),
                };
            }
            Action::Refuse { ticket, error: _ } => {
                turn.offers.remove(&ticket);
            }
            Action::Resolve { query, host } => {
                // The system's resolver waits, so it gets a thread; the engine limits how many.
                let (found, waker) = (self.found.clone(), Arc::clone(&self.waker));
                thread::spawn(move || {
                    let addresses = (host, 0).to_socket_addrs().map_err(|_| SocketError::LookupFailed);
                    let result = addresses.map(|addresses| addresses.map(|address| address.ip()).collect());
                    // Both fail only if nobody wants to know any more.
                    let _ = found.send(Input::Resolved { query, result });
                    let _ = waker.wake();
                });
            }
            Action::Connect { socket, address, read } => {
                let connect = TcpStream::connect(address);
                match connect.and_then(|tcp| Stream::new(socket, tcp, read, true, turn)) {
                    Ok(stream) => self.streams.insert(socket, stream),
                    Err(error) => return Some(Input::SocketFailed { socket, error: socket_error(&error) }),
                };
            }
            Action::ShutdownWrite { socket } => {
                self.streams.entry(socket).and_modify(|stream| stream.ending = true);
            }
            Action::Close { socket, linger } => {
                let until = turn.now + linger;
                self.streams.entry(socket).and_modify(|stream| stream.close(until));
                self.datagrams.entry(socket).and_modify(|datagrams| datagrams.closing = true);
            }
            Action::Reset { socket } => {
                self.streams.entry(socket).and_modify(|stream| stream.resetting = true);
                self.datagrams.entry(socket).and_modify(|datagrams| datagrams.closing = true);
            }
            Action::OpenLink { link, socket, request } => {
                // Nothing waits to be written: only with a proxy would the engine have spoken before.
                let stream = self.streams.remove(&socket).ok_or(LinkFailure::Io(SocketError::Reset));
                match stream.and_then(|stream| Link::open(link, stream, request)) {
                    Ok(source) => self.links.insert(link, source),
                    Err(error) => return Some(Input::LinkFailed { link, error }),
                };
            }
            Action::Ping { link } => {
                self.links.entry(link).and_modify(Link::ping);
            }
            Action::CloseLink { link, close, linger } => {
                let until = turn.now + linger;
                self.links.entry(link).and_modify(|link| link.close(close, until));
            }
            Action::Bind { socket, address } => match Datagrams::bind(socket, address, turn) {
                Ok((source, local)) => {
                    self.datagrams.insert(socket, source);
                    return Some(Input::SocketBound { socket, local });
                }
                Err(error) => return Some(Input::SocketFailed { socket, error: socket_error(&error) }),
            },

            // What follows only if a server or an embedder has asked for something.
            Action::AcceptLink { link, .. } => {
                return Some(Input::LinkFailed { link, error: LinkFailure::Unsupported("a server") });
            }
            Action::AdoptDatagrams { socket, .. } => {
                return Some(Input::SocketFailed { socket, error: SocketError::Other });
            }
            Action::RejectLink { .. } | Action::HttpResponse { .. } | Action::AnswerToken { .. } => {}
            Action::Stop { .. } => unreachable!("`drain` takes this one"),
        }
        None
    }
}
