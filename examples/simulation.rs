//! A client and a server in virtual time, without any socket: a channel through a slow link to a target
//! that sends back what it gets. Engines depend on nothing but their configuration, their seed and what
//! they are told, so the same seed prints the same, byte for byte.
//!
//! ```sh
//! cargo run -p examples --bin simulation [SEED]
//! ```

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::error::Error;
use std::time::{Duration, Instant};

use linksocks_sansio::io::{LinkClose, ReadCredit, UpgradeRequest, UpgradeResponse};
use linksocks_sansio::{Action, ClientConfig, ClientEngine, Command, Engine, Input, LinkId, Output, ReadBuf};
use linksocks_sansio::{ServerConfig, ServerEngine, ServerUrl, SocketId, Ticket, Token};

const LATENCY: Duration = Duration::from_millis(30);
const TIME_PER_BYTE: Duration = Duration::from_micros(8); // 1 Mbit/s
const LENGTH: u8 = 100; // what the application sends, in KiB
const SIDES: [&str; 2] = ["client", "server"];
const CLIENT: usize = 0;
const SERVER: usize = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let seed: u8 = std::env::args().nth(1).map_or(Ok(1), |seed| seed.parse())?;
    let token = Token::new("a secret")?;
    let client = ClientConfig::new(ServerUrl::parse("ws://192.0.2.1")?, token.clone());
    let server = ServerConfig::forward(token)?;
    let start = Instant::now(); // the only look at a clock: an origin for virtual time
    let mut world = World {
        start,
        now: start,
        engines: [
            Box::new(ClientEngine::new(client, [seed; 32], start)),
            Box::new(ServerEngine::new(server, [seed; 32], start)),
        ],
        wake_ups: [None; 2],
        links: [None; 2],
        line_free: [start; 2],
        agenda: BTreeMap::new(),
        planned: 0,
        sockets: HashMap::new(),
        data: (0..LENGTH).flat_map(|block| [block ^ seed; 1024]).collect(),
    };
    let open = Command::Open { ticket: Ticket(0), target: "192.0.2.7:7".parse()? };
    world.plan(Duration::ZERO, CLIENT, Input::Command(open));
    while world.step() {}
    Ok(())
}

/// Two engines, the line between them, the application of the client and the target of the server.
struct World {
    start: Instant,
    now: Instant,
    engines: [Box<dyn Engine>; 2],
    wake_ups: [Option<Instant>; 2],
    links: [Option<LinkId>; 2],
    /// When the line has taken all that each side has for it.
    line_free: [Instant; 2],
    /// What will reach which side: by time, then as planned.
    agenda: BTreeMap<(Instant, usize), (usize, Input)>,
    planned: usize,
    sockets: HashMap<(usize, SocketId), FarEnd>,
    /// What the application sends and wants back.
    data: Vec<u8>,
}

/// The other end of a socket.
struct FarEnd {
    credit: ReadCredit,
    to_send: VecDeque<u8>,
    /// An EOF comes behind that.
    ends: bool,
    received: Vec<u8>,
}

impl World {
    fn plan(&mut self, delay: Duration, side: usize, input: Input) {
        self.planned += 1;
        self.agenda.insert((self.now + delay, self.planned), (side, input));
    }

    fn print(&self, side: usize, text: &str) {
        println!("{:9.3} ms  {}: {text}", (self.now - self.start).as_secs_f64() * 1e3, SIDES[side]);
    }

    /// Carries out what both engines want, then lets the next thing happen. Returns whether there is one.
    fn step(&mut self) -> bool {
        for side in [CLIENT, SERVER] {
            loop {
                match self.engines[side].poll_output() {
                    Output::Timeout(at) => break self.wake_ups[side] = at,
                    Output::Action(Action::Stop { reason }) => {
                        self.print(side, &format!("{reason}"));
                        return false;
                    }
                    output => self.carry_out(side, output),
                }
            }
        }
        let wake_up =
            [CLIENT, SERVER].into_iter().filter_map(|side| Some((self.wake_ups[side]?, side))).min();
        let (side, input) = match (self.agenda.first_entry(), wake_up) {
            (Some(next), wake_up) if wake_up.is_none_or(|(at, _)| next.key().0 <= at) => {
                self.now = next.key().0;
                next.remove()
            }
            (_, Some((at, side))) => {
                self.now = at;
                (side, Input::Timeout)
            }
            (_, None) => return false,
        };
        self.engines[side].handle_input(self.now, input);
        true
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else happens here; a driver has no such arm")]
    fn carry_out(&mut self, side: usize, output: Output) {
        let other = 1 - side;
        match output {
            Output::Transmit { link, message } => {
                let bytes = message.len();
                self.print(side, &format!("{bytes} bytes to the {}", SIDES[other]));
                let sent = self.line_free[side].max(self.now) + TIME_PER_BYTE * bytes as u32;
                self.line_free[side] = sent;
                self.plan(sent - self.now, side, Input::LinkWritten { link, bytes });
                if let Some(link) = self.links[other] {
                    self.plan(sent + LATENCY - self.now, other, Input::LinkReceived { link, message });
                }
            }
            Output::Write { socket, data } => {
                self.plan(Duration::ZERO, side, Input::SocketWritten { socket, bytes: data.len() });
                self.far_end(side, socket, |far| match side {
                    CLIENT => far.received.extend(data),
                    _ => far.to_send.extend(data),
                });
            }
            Output::Read { socket, credit } => self.far_end(side, socket, |far| {
                far.credit = ReadCredit { bytes: far.credit.bytes + credit.bytes, chunk: credit.chunk };
            }),
            Output::Action(action) => self.act(side, action),
            Output::Event(event) => self.print(side, &format!("{event:?}")),
            _ => {} // so little is on its way here that no other credit ever ends
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "as above")]
    fn act(&mut self, side: usize, action: Action) {
        match action {
            Action::Connect { socket, read: credit, .. } => {
                let far = FarEnd { credit, to_send: VecDeque::new(), ends: false, received: Vec::new() };
                self.sockets.insert((side, socket), far);
                self.plan(2 * LATENCY, side, Input::SocketOpened { socket });
            }
            Action::OpenLink { link, request, .. } => {
                self.links[side] = Some(link);
                let (path, query) = request.path_and_query.split_once('?').unwrap_or_default();
                let request = UpgradeRequest {
                    path: path.to_owned(),
                    query: query.to_owned(),
                    extensions: request.extensions,
                    peer: ([192, 0, 2, 9], 50_000).into(),
                };
                self.plan(LATENCY, SERVER, Input::LinkOffered { ticket: Ticket(0), request });
            }
            Action::AcceptLink { link, extensions, .. } => {
                self.links[side] = Some(link);
                self.plan(
                    Duration::ZERO,
                    side,
                    Input::LinkOpened { link, response: UpgradeResponse::default() },
                );
                if let Some(link) = self.links[CLIENT] {
                    self.plan(
                        LATENCY,
                        CLIENT,
                        Input::LinkOpened { link, response: UpgradeResponse { extensions } },
                    );
                }
            }
            Action::CloseLink { link, close, .. } => {
                self.plan(2 * LATENCY, side, Input::LinkClosed { link, cause: LinkClose::Local });
                if let Some(link) = self.links[1 - side] {
                    self.plan(LATENCY, 1 - side, Input::LinkClosed { link, cause: LinkClose::Peer(close) });
                }
            }
            Action::AdoptSocket { socket, read: credit, .. } => {
                let far =
                    FarEnd { credit, to_send: self.data.clone().into(), ends: true, received: Vec::new() };
                self.sockets.insert((side, socket), far);
                self.far_end(side, socket, |_| {});
            }
            Action::ShutdownWrite { socket } => self.far_end(side, socket, |far| far.ends |= side == SERVER),
            Action::Close { socket, .. } | Action::Reset { socket } => {
                self.plan(Duration::ZERO, side, Input::SocketClosed { socket });
                if let Some(far) = self.sockets.remove(&(side, socket)).filter(|_| side == CLIENT) {
                    let verdict =
                        if far.received == self.data { "all of them right" } else { "but not these" };
                    self.print(side, &format!("the application got {} bytes, {verdict}", far.received.len()));
                    let shutdown = Command::Shutdown { drain: Duration::from_secs(1) };
                    self.plan(Duration::ZERO, side, Input::Command(shutdown));
                }
            }
            _ => {}
        }
    }

    /// Does something to the far end of a socket, then lets it send what it has and may.
    fn far_end(&mut self, side: usize, socket: SocketId, change: impl FnOnce(&mut FarEnd)) {
        let Some(mut far) = self.sockets.remove(&(side, socket)) else { return };
        change(&mut far);
        while !far.to_send.is_empty() && far.credit.bytes > 0 {
            let length = far.to_send.len().min(far.credit.bytes).min(far.credit.chunk);
            far.credit.bytes -= length;
            let bytes: Vec<u8> = far.to_send.drain(..length).collect();
            self.plan(Duration::ZERO, side, Input::SocketRead { socket, buf: ReadBuf::copy_from(&bytes) });
        }
        if far.to_send.is_empty() && std::mem::take(&mut far.ends) {
            self.plan(Duration::ZERO, side, Input::SocketEof { socket });
        }
        self.sockets.insert((side, socket), far);
    }
}
