//! Peers that speak WebSocket and mean no good: a client that a server must bear, or an impostor in
//! the server's place whom clients must bear.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use linksocks_sansio::error::SocketError;
use linksocks_sansio::io::{CloseFrame, FrameViolation};
use linksocks_sansio::wire::{AuthResponse, Message, SessionHello, decode};
use linksocks_sansio::{ChannelId, Token};

use super::Scene;
use super::nonsense::Nonsense;
use super::plan::server_address;
use crate::sim::clock::Time;
use crate::sim::dice::Dice;
use crate::sim::frame::Frame;
use crate::sim::net::{DialState, EndId, Owner, Read, Rope, Wake};
use crate::sim::scenario::talks::{REFUSING, SILENT, SINK};

/// The most that an intruder keeps to be written.
const BACKLOG: usize = 256 * 1024;

/// The longest payload that it sends.
pub const LONGEST_NONSENSE: usize = super::nonsense::LONGEST;

/// What a malicious peer is going to do.
#[derive(Clone, Debug)]
pub struct IntruderPlan {
    /// Its number.
    pub id: usize,
    /// When it starts.
    pub start: Time,
    /// When it leaves.
    pub end: Time,
    /// Where it stands.
    pub role: Role,
    /// The time between two messages.
    pub pause: Duration,
    /// Whether it reads what it is sent.
    pub reads: bool,
    /// Whether it just falls silent when it leaves.
    pub lingers: bool,
    /// Tokens of others.
    pub tokens: Vec<Token>,
    /// What it says on each connection before it thinks of something itself; may be no messages at all.
    pub messages: Vec<Bytes>,
}

/// Where a malicious peer stands.
#[derive(Clone, Debug)]
pub enum Role {
    /// It is a client, with this upgrade request.
    Client {
        /// Path and query.
        path_and_query: String,
        /// The extensions that it offers.
        extensions: Option<String>,
        /// The first message, if it is a proper one.
        first: Option<Bytes>,
    },
    /// It listens in the server's place.
    Server,
}

/// A malicious peer.
#[derive(Debug)]
pub struct Intruder {
    plan: IntruderPlan,
    dice: Dice,
    dialing: Option<EndId>,
    sessions: BTreeMap<EndId, Session>,
    has_started: bool,
    has_left: bool,
}

/// One connection of it.
#[derive(Debug)]
struct Session {
    nonsense: Nonsense,
    received: Rope,
    unwritten: VecDeque<Bytes>,
    /// Whether the upgrade is done.
    is_open: bool,
    /// Whether a Hello was sent that made sense.
    has_greeted: bool,
    /// Whether it breaks the rules of the WebSocket layer, too.
    breaks_frames: bool,
    next: Time,
}

impl Intruder {
    /// An intruder before it starts.
    #[must_use]
    pub const fn new(plan: IntruderPlan, dice: Dice) -> Self {
        Self { plan, dice, dialing: None, sessions: BTreeMap::new(), has_started: false, has_left: false }
    }

    fn owner(&self) -> Owner {
        Owner::Intruder(self.plan.id)
    }

    /// When it must run next even if nothing happens on the network.
    pub(crate) fn wake(&self, now: Time) -> Option<Time> {
        if self.has_left {
            return None;
        }
        let sessions = self.sessions.values().filter(|session| session.is_open).map(|session| session.next);
        sessions.chain([self.plan.start, self.plan.end]).filter(|at| *at > now).min()
    }

    /// Does its worst. `overheard`: channels of others.
    pub(crate) fn run(&mut self, overheard: &[ChannelId], scene: &mut Scene<'_>) {
        let wakes = scene.net.take_wakes(self.owner());
        if self.has_left || scene.now < self.plan.start {
            return;
        }
        if scene.now >= self.plan.end {
            return self.leave(scene);
        }
        if !self.has_started {
            self.has_started = true;
            self.start(scene);
        }
        self.finish_dial(scene);
        if wakes.contains(&Wake::Listener(server_address())) {
            while let Some(end) = scene.net.accept(server_address()) {
                self.begin(end, scene.now);
            }
        }
        let ended: Vec<EndId> = self
            .sessions
            .iter_mut()
            .filter_map(|(end, session)| {
                session.nonsense.overhear(overheard);
                session.run(*end, &self.plan, &mut self.dice, scene).err().map(|_| *end)
            })
            .collect();
        for end in ended {
            self.sessions.remove(&end);
            scene.net.release(end);
        }
    }

    fn start(&mut self, scene: &mut Scene<'_>) {
        match self.plan.role {
            Role::Client { .. } => {
                let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 6, 6, self.plan.id as u8)), 6666);
                self.dialing = Some(scene.net.connect(self.owner(), from, server_address()));
            }
            Role::Server => {
                scene.net.listen(server_address(), self.owner()).expect("the server is not there yet");
            }
        }
    }

    fn finish_dial(&mut self, scene: &mut Scene<'_>) {
        let Some(end) = self.dialing else { return };
        match scene.net.dial_state(end) {
            DialState::Pending => {}
            DialState::Failed(_) => {
                scene.net.release(end);
                self.dialing = None;
            }
            DialState::Open => {
                self.dialing = None;
                self.begin(end, scene.now);
            }
        }
    }

    fn begin(&mut self, end: EndId, now: Time) {
        let targets = [REFUSING, SILENT, SINK].map(|ip| (ip.to_string(), 9));
        let dice = Dice::new(self.dice.word(), 0);
        let mut session = Session {
            breaks_frames: self.dice.chance(30),
            has_greeted: false,
            nonsense: Nonsense::new(dice, targets.to_vec(), &self.plan),
            received: Rope::default(),
            unwritten: VecDeque::new(),
            is_open: false,
            next: now,
        };
        if let Role::Client { path_and_query, extensions, .. } = &self.plan.role {
            let (path_and_query, extensions) = (path_and_query.clone(), extensions.clone());
            session.send(Frame::Request { path_and_query, extensions });
        }
        self.sessions.insert(end, session);
    }

    fn leave(&mut self, scene: &mut Scene<'_>) {
        scene.note("intruder", "leaves");
        self.has_left = true;
        if let Role::Server = self.plan.role {
            scene.net.unlisten(server_address());
        }
        let ends = std::mem::take(&mut self.sessions).into_keys().chain(self.dialing.take());
        for end in ends.filter(|_| !self.plan.lingers) {
            scene.net.release(end);
        }
    }
}

impl Session {
    fn send(&mut self, frame: Frame) {
        self.unwritten.extend(frame.encode());
    }

    fn run(
        &mut self,
        end: EndId,
        plan: &IntruderPlan,
        dice: &mut Dice,
        scene: &mut Scene<'_>,
    ) -> Result<(), SocketError> {
        self.read(end, plan, dice, scene)?;
        if self.is_open && self.next <= scene.now {
            self.next = scene.now + plan.pause;
            if self.unwritten.iter().map(Bytes::len).sum::<usize>() < BACKLOG {
                let frame = self.frame(dice);
                self.send(frame);
            }
        }
        while let Some(bytes) = self.unwritten.front_mut() {
            scene.net.write(end, bytes)?;
            if !bytes.is_empty() {
                break;
            }
            self.unwritten.pop_front();
        }
        Ok(())
    }

    fn greet(&mut self, heard: Option<&SessionHello>) {
        self.has_greeted = true;
        let hello = self.nonsense.hello(heard);
        self.send(Frame::Binary(hello.encode()));
    }

    fn frame(&mut self, dice: &mut Dice) -> Frame {
        let lowest = if self.breaks_frames { 0 } else { 3 };
        match dice.between(lowest, 100) {
            0 => Frame::Invalid(FrameViolation::Text),
            1 => Frame::Invalid(FrameViolation::TooLarge),
            2 => Frame::Close(Some(CloseFrame {
                code: dice.below(5000) as u16,
                reason: "so there".to_owned(),
            })),
            3..=5 => Frame::Ping,
            6..=8 => Frame::Pong,
            _ => Frame::Binary(self.nonsense.message()),
        }
    }

    fn read(
        &mut self,
        end: EndId,
        plan: &IntruderPlan,
        dice: &mut Dice,
        scene: &mut Scene<'_>,
    ) -> Result<(), SocketError> {
        while plan.reads || !self.is_open {
            match Frame::decode(&mut self.received) {
                Some(frame) => self.hear(frame, plan, dice),
                None => match scene.net.read(end, usize::MAX)? {
                    Read::Pending => break,
                    Read::Eof => return Err(SocketError::UnexpectedEof),
                    Read::Data(bytes) => self.received.push(bytes),
                },
            }
        }
        Ok(())
    }

    fn hear(&mut self, frame: Frame, plan: &IntruderPlan, dice: &mut Dice) {
        match (frame, &plan.role) {
            (Frame::Response { status, .. }, Role::Client { first, .. }) => {
                self.is_open = status == 101;
                // What makes no sense comes after the login, or nobody would listen.
                self.next = self.next + Duration::from_secs(2);
                if let Some(first) = first {
                    self.send(Frame::Binary(first.clone()));
                }
            }
            (Frame::Request { path_and_query, .. }, Role::Server) if dice.chance(5) => {
                let places = ["/elsewhere", "http://[", "ftp://server.test/", path_and_query.as_str()];
                self.send(Frame::Redirect { location: (*dice.pick(&places)).to_owned() });
            }
            (Frame::Request { extensions, .. }, Role::Server) => {
                let status = if dice.chance(90) { 101 } else { *dice.pick(&[200, 404, 503]) };
                let answer =
                    if dice.chance(80) { extensions } else { Some("window, finish, session".to_owned()) };
                let has_extensions = answer.is_some();
                self.send(Frame::Response { status, extensions: answer });
                self.is_open = status == 101;
                if self.is_open && dice.chance(90) {
                    let welcome = AuthResponse::Success { assigned: None };
                    self.send(Frame::Binary(welcome.encode()));
                    if has_extensions {
                        self.greet(None);
                    }
                }
            }
            (Frame::Binary(message), _) => {
                let Ok(frame) = decode(message) else { return };
                if let Some(answer) = self.nonsense.hear(&frame.message) {
                    self.send(Frame::Binary(answer));
                }
                if let Message::Hello(hello) = frame.message {
                    let asks = hello.session.as_ref().is_some_and(|session| session.flags != 0);
                    if !self.has_greeted || asks {
                        self.greet(hello.session.as_ref());
                    }
                }
            }
            (Frame::Ping, _) => self.send(Frame::Pong),
            (
                Frame::Pong
                | Frame::Close(_)
                | Frame::Invalid(_)
                | Frame::Request { .. }
                | Frame::Response { .. }
                | Frame::Redirect { .. },
                _,
            ) => {}
        }
    }
}
