//! A client and a server in virtual time, without any socket: an application sends something through a
//! slow link to a target, which sends it back. Engines depend on nothing but their configuration, their
//! seed and what they are told, so the same seed prints the same, byte for byte.
//!
//! ```sh
//! cargo run -p examples --bin simulation [SEED]
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use linksocks_sansio::io::{UpgradeRequest, UpgradeResponse};
use linksocks_sansio::{Action, ClientConfig, ClientEngine, Command, Engine, Input, LinkId, Output, ReadBuf};
use linksocks_sansio::{ServerConfig, ServerEngine, ServerUrl, SocketId, Ticket, Token};

const LATENCY: Duration = Duration::from_millis(30);
const TIME_PER_BYTE: Duration = Duration::from_micros(8); // 1 Mbit/s
const DATA: &[u8] = include_bytes!("simulation.rs"); // so little that no permission to read or receive ends

fn main() -> Result<(), Box<dyn Error>> {
    let seed = [std::env::args().nth(1).map_or(Ok(1), |seed| seed.parse())?; 32];
    let token = Token::new("a secret")?;
    let client = ClientConfig::new(ServerUrl::parse("ws://192.0.2.1")?, token.clone());
    let server = ServerConfig::forward(token)?;
    let start = Instant::now(); // an origin for virtual time, and the only look at a clock
    let client: Box<dyn Engine> = Box::new(ClientEngine::new(client, seed, start));
    let mut engines = [client, Box::new(ServerEngine::new(server, seed, start))];
    let mut world = World {
        start,
        now: start,
        agenda: BTreeMap::new(),
        planned: 0,
        links: [None; 2],
        line_free: [start; 2],
        received: Vec::new(),
    };
    let open = Command::Open { ticket: Ticket(0), target: "192.0.2.7:7".parse()? };
    world.plan(Duration::ZERO, 0, Input::Command(open));
    while world.received.len() < DATA.len() {
        for (side, engine) in engines.iter_mut().enumerate() {
            let wake_up = loop {
                let output = engine.poll_output();
                if let Output::Timeout(at) = output {
                    break at;
                }
                world.carry_out(side, output);
            };
            // A wake-up that is out of date does no harm.
            world.agenda.extend(wake_up.map(|at| ((at, side), (side, Input::Timeout))));
        }
        let ((now, _), (side, input)) = world.agenda.pop_first().ok_or("nothing more happens")?;
        world.now = now;
        engines[side].handle_input(now, input);
    }
    let verdict = if world.received == DATA { "as they were" } else { "garbled" };
    world.print(0, &format!("{} bytes have come back {verdict}", world.received.len()));
    Ok(())
}

/// The line between client (side 0) and server (side 1), the application and the target.
struct World {
    start: Instant,
    now: Instant,
    /// What will reach which side: by time, then as planned.
    agenda: BTreeMap<(Instant, usize), (usize, Input)>,
    planned: usize,
    links: [Option<LinkId>; 2],
    /// When the line has taken all that each side has for it.
    line_free: [Instant; 2],
    received: Vec<u8>,
}

impl World {
    fn print(&self, side: usize, text: &str) {
        let milliseconds = (self.now - self.start).as_secs_f64() * 1e3;
        println!("{milliseconds:8.3} ms  {}: {text}", ["client", "server"][side]);
    }

    fn plan(&mut self, delay: Duration, side: usize, input: Input) {
        self.planned += 1;
        self.agenda.insert((self.now + delay, 1 + self.planned), (side, input)); // 0 and 1 are wake-ups
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else happens here; a driver has no such arm")]
    fn carry_out(&mut self, side: usize, output: Output) {
        match output {
            Output::Transmit { link, message } => {
                let (bytes, other) = (message.len(), 1 - side);
                self.line_free[side] = self.line_free[side].max(self.now) + TIME_PER_BYTE * bytes as u32;
                let sent = self.line_free[side] - self.now;
                self.plan(sent, side, Input::LinkWritten { link, bytes });
                if let Some(link) = self.links[other] {
                    self.plan(sent + LATENCY, other, Input::LinkReceived { link, message });
                }
            }
            Output::Write { socket, data } => {
                self.plan(Duration::ZERO, side, Input::SocketWritten { socket, bytes: data.len() });
                match side {
                    0 => self.received.extend(data),
                    _ => self.send(side, socket, &data),
                }
            }
            Output::Action(Action::Connect { socket, .. }) => {
                self.plan(2 * LATENCY, side, Input::SocketOpened { socket });
            }
            Output::Action(Action::OpenLink { link, request, .. }) => {
                self.links[side] = Some(link);
                let (path, query) = request.path_and_query.split_once('?').unwrap_or_default();
                let request = UpgradeRequest {
                    path: path.to_owned(),
                    query: query.to_owned(),
                    extensions: request.extensions,
                    peer: ([192, 0, 2, 9], 50_000).into(),
                };
                self.plan(LATENCY, 1, Input::LinkOffered { ticket: Ticket(0), request });
            }
            Output::Action(Action::AcceptLink { link, extensions, .. }) => {
                self.links[side] = Some(link);
                let response = UpgradeResponse::default();
                self.plan(Duration::ZERO, side, Input::LinkOpened { link, response });
                if let Some(link) = self.links[0] {
                    let response = UpgradeResponse { extensions };
                    self.plan(LATENCY, 0, Input::LinkOpened { link, response });
                }
            }
            Output::Action(Action::AdoptSocket { socket, .. }) => self.send(side, socket, DATA),
            Output::Event(event) => self.print(side, &format!("{event:?}")),
            _ => {}
        }
    }

    /// The other end of a socket sends something.
    fn send(&mut self, side: usize, socket: SocketId, data: &[u8]) {
        self.plan(Duration::ZERO, side, Input::SocketRead { socket, buf: ReadBuf::copy_from(data) });
    }
}
