//! What is going to happen in a run: everything follows from the seed.
//!
//! Each seed draws its own rates (swarm testing): which faults occur at all and how often, what the
//! network, the drivers and the configurations are like. A run in which everything fails a little
//! finds less than many runs in which few things fail a lot.

pub(crate) mod chats;
mod faults;
mod intruders;
mod mode;
mod peers;
pub(crate) mod talks;

use std::ops::Range;
use std::time::Duration;

use linksocks_sansio::config::RelayConfig;
use linksocks_sansio::wire::DATA_HEADER_LEN;

pub use self::faults::{Exit, Fault};
pub use self::mode::{EntryPlan, Mode, SERVER};
pub use self::peers::{ClientPlan, SERVER_NAME, ServerPlan};
use super::app::chat::ChatPlan;
use super::app::intruder::{IntruderPlan, LONGEST_NONSENSE};
use super::app::plan::{Entry, TalkPlan};
use super::clock::Time;
use super::dice::Dice;
use super::net::Quality;
use super::source::Source;

/// Dice are thrown for one purpose each, so that a change in one leaves the others as they were.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Shape,
    Peers,
    Talks,
    Faults,
    Qualities,
    Network,
    World,
    /// One for each host, restarts included.
    Host,
    /// One for each caller.
    Caller,
    /// 0 for all plans, then one for each intruder.
    Intruders,
    /// 0 for all plans, then one for each UDP chat.
    Chats,
    /// 0 for the mode and its plans, 1 for faults that it makes possible, 2 for guises of malicious
    /// peers.
    Mode,
}

impl Stream {
    /// Whether there are dice of this name.
    pub(crate) const fn is_named(name: u8) -> bool {
        name <= Self::Mode as u8
    }
}

/// When faults end: what comes after must succeed.
pub const HEALED: Time = Time::from_secs(60);

/// When the conversations start that prove it.
pub const PROBES: Time = Time::from_secs(60 + 240);

/// A run before it happens.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Where all of it comes from.
    pub source: Source,
    /// What kind of run it is.
    pub shape: Shape,
    /// The server.
    pub server: ServerPlan,
    /// Those who ask, and then those who connect to targets for others.
    pub clients: Vec<ClientPlan>,
    /// Where applications come in.
    pub entries: Vec<EntryPlan>,
    /// Conversations, in the order of their numbers.
    pub talks: Vec<TalkPlan>,
    /// UDP chats, in the order of their numbers.
    pub chats: Vec<ChatPlan>,
    /// Of a hundred datagrams so many are lost, as long as there are faults.
    pub loss: u64,
    /// Malicious peers.
    pub intruders: Vec<IntruderPlan>,
    /// Faults and when they occur.
    pub faults: Vec<(Time, Fault)>,
    /// What links are like.
    pub links: Quality,
    /// What connections to targets are like.
    pub targets: Quality,
    /// What connections from applications to clients are like.
    pub callers: Quality,
}

/// How much is going on in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As much as finds most.
    Full,
    /// So little that a run takes some milliseconds.
    Small,
}

impl Size {
    /// As it is in a full run, or much less of it.
    pub(crate) fn most(self, full: u64) -> u64 {
        match self {
            Self::Full => full,
            Self::Small => full.div_ceil(16),
        }
    }
}

/// The kind of a run.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Who connects to targets for whom.
    pub mode: Mode,
    /// How much is going on.
    pub size: Size,
    /// The server offers no extensions, as an old peer.
    pub old_server: bool,
    /// Few conversations, much data.
    pub bulk: bool,
    /// No faults at all.
    pub calm: bool,
    /// Limits so small that they are reached.
    pub tight: bool,
    /// Until the faults are over, somebody malicious stands in the server's place.
    pub impostor: bool,
    /// At the end conversations begin with which nobody goes on.
    pub forgotten: bool,
    /// Readers that stall, behind kernels that keep little, while much is to be sent.
    pub clogged: bool,
}

impl Scenario {
    /// What happens with this source.
    #[must_use]
    pub fn new(source: Source, size: Size) -> Self {
        let seed = source.seed();
        let mut mode_dice = source.dice(Stream::Mode, 0);
        let mut dice = source.dice(Stream::Shape, 0);
        let mut shape = Shape {
            mode: Mode::draw(&mut mode_dice),
            old_server: seed.is_multiple_of(3),
            size,
            bulk: size == Size::Full && seed % 20 == 7,
            calm: dice.chance(25),
            tight: dice.chance(20),
            clogged: dice.chance(20),
            impostor: dice.chance(4),
            forgotten: false,
        };
        // That takes half a day.
        shape.forgotten = size == Size::Full && !shape.tight && !shape.impostor && dice.chance(4);
        let mut dice = source.dice(Stream::Peers, 0);
        let mut server = ServerPlan::draw(shape, &mut dice);
        let count = dice.between(1, if size == Size::Full { 3 } else { 2 }) as usize;
        let mut clients: Vec<_> =
            (0..count).map(|client| ClientPlan::draw(client, shape, &mut dice)).collect();
        let entries = shape.mode.arrange(shape, &mut server, &mut clients, &mut mode_dice);
        let talks = talks::draw(shape, &entries, &mut source.dice(Stream::Talks, 0));
        let mut dice = source.dice(Stream::Chats, 0);
        let chats = chats::draw(shape, &entries, &mut dice);
        let loss = if shape.calm { 0 } else { dice.below(30) };
        let intruders = intruders::draw(
            shape,
            &source,
            &mut source.dice(Stream::Intruders, 0),
            &mut source.dice(Stream::Mode, 2),
        );
        let faults = match shape.calm || shape.impostor {
            true => Vec::new(),
            false => {
                let starts: Vec<_> = talks.iter().map(|talk| talk.start).collect();
                let mut faults = faults::draw(clients.len(), &starts, &mut source.dice(Stream::Faults, 0));
                let dice = &mut source.dice(Stream::Mode, 1);
                let failover = faults::draw_failover(providers(&clients), &starts, dice);
                // Where nothing else goes wrong, nobody may notice that.
                if !failover.is_empty() && dice.chance(30) {
                    faults.clear();
                }
                faults.extend(failover);
                faults
            }
        };
        let mut dice = source.dice(Stream::Qualities, 0);
        let links = quality(shape, &mut dice);
        let [targets, callers] = [(); 2].map(|()| match shape.clogged {
            true => Quality { send_buffer: STINGY, receive_buffer: STINGY, ..Quality::local() },
            false => quality(shape, &mut dice),
        });
        Self {
            source,
            shape,
            server,
            clients,
            entries,
            talks,
            chats,
            loss,
            intruders,
            faults,
            links,
            targets,
            callers,
        }
    }

    /// Whether streams over the links of this client are to survive cuts: both sides wait long enough
    /// for a new link, even if the next ones are cut, too.
    #[must_use]
    pub fn has_sessions(&self, client: usize) -> bool {
        const ENOUGH: Duration = Duration::from_secs(30);
        [&self.clients[client].config.relay, &self.server.config.relay]
            .iter()
            .all(|relay| relay.extensions.session && relay.timeouts.transport_grace >= ENOUGH)
    }

    /// Whether all links between an entry and a host that connects to targets tell the other side about
    /// the end of one direction.
    #[must_use]
    pub fn has_finish(&self, entry: Entry, dialler: usize) -> bool {
        let hosts = [entry.host(), dialler].into_iter();
        let mut links = hosts.filter_map(|host| host.checked_sub(SERVER + 1));
        let has_finish = |relay: &RelayConfig| relay.extensions.finish;
        has_finish(&self.server.config.relay)
            && links.all(|client| has_finish(&self.clients[client].config.relay))
    }

    /// The place of a door among all.
    ///
    /// # Panics
    /// If there is no such door in this run.
    #[must_use]
    pub fn place(&self, entry: Entry) -> usize {
        let place = self.entries.iter().position(|plan| plan.entry == entry);
        place.expect("conversations come in at the doors of the run")
    }

    /// The longest message that any peer sends.
    #[must_use]
    pub fn longest_message(&self) -> usize {
        let clients = self.clients.iter().map(|client| &client.config.relay);
        let limits = clients.chain([&self.server.config.relay]).map(|relay| &relay.limits);
        let honest = limits.map(|limits| limits.message_max).max().unwrap_or_default();
        let intruders = if self.intruders.is_empty() { 0 } else { LONGEST_NONSENSE };
        honest.max(intruders) + DATA_HEADER_LEN
    }
}

/// The hosts that connect to targets for others.
fn providers(clients: &[ClientPlan]) -> Range<usize> {
    let first = clients.iter().position(ClientPlan::is_provider).unwrap_or(clients.len());
    first + 1..clients.len() + 1
}

/// The least that a connection carries, in bytes per second.
const SLOWEST: usize = 256 << 10;

/// What a kernel keeps that keeps little.
const STINGY: (usize, usize) = (1 << 10, 8 << 10);

/// A network that may be slow, far away, and served by stingy kernels, but gets on: what its
/// buffers hold takes at most some seconds to pass.
fn quality(shape: Shape, dice: &mut Dice) -> Quality {
    let latency = dice.duration(Duration::from_micros(20), Duration::from_millis(200));
    let bandwidth = dice.size(if shape.bulk { 8 << 20 } else { SLOWEST }, 1 << 30);
    // A kernel sends no more than a buffer per round trip.
    let least = (4.0 * latency.as_secs_f64() * SLOWEST as f64) as usize;
    let buffer = dice.size(least.max(2 << 10), bandwidth.clamp(256 << 10, 512 << 10));
    Quality {
        latency: (latency, latency * 2),
        bandwidth: (bandwidth as u64, bandwidth as u64 * 2),
        send_buffer: (buffer, buffer * 2),
        receive_buffer: (buffer, buffer * 2),
    }
}
