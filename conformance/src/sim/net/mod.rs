//! The network between all hosts and applications: addresses, dials, connections, faults.

mod datagrams;
mod rope;
mod tcp;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use linksocks_sansio::error::SocketError;

use self::datagrams::Mailboxes;
pub use self::rope::Rope;
use self::tcp::{Connection, End, Path};
pub use self::tcp::{Read, Side};
use super::clock::{Agenda, Time};
use super::dice::Dice;

/// When a kernel notices that the machine at the other end is gone, for applications that ask it to
/// (TCP keep-alive).
const KEEP_ALIVE: Duration = Duration::from_secs(90);

/// When a kernel gives up a dial that nobody answers (Linux: six SYNs).
const DIAL_TIMEOUT: Duration = Duration::from_secs(127);

/// Who is told when something happens at an end or a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The host with this number.
    Host(usize),
    /// The application that asked for the conversation with this number.
    Caller(usize),
    /// The target of the conversation with this number.
    Target(usize),
    /// The malicious peer with this number.
    Intruder(usize),
    /// Application and target of the UDP chat with this number.
    Chat(usize),
    /// Nobody.
    Nobody,
}

/// One end of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndId {
    connection: usize,
    side: Side,
}

/// Where something may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// A listener has a new connection.
    Listener(SocketAddr),
    /// An end can be read, written, or is over.
    End(EndId),
    /// A datagram socket has something to receive.
    Datagrams(SocketAddr),
}

/// How far a dial has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialState {
    /// Nobody has answered yet.
    Pending,
    /// Connected.
    Open,
    /// Over, now or later.
    Failed(SocketError),
}

/// What becomes of dials to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The host answers, but nobody listens.
    Refused,
    /// No answer at all.
    Silent,
    /// The network knows no way.
    Unreachable,
}

/// What connections to an address are like; each draws its own values from these ranges.
#[derive(Clone, Debug)]
pub struct Quality {
    /// One way.
    pub latency: (Duration, Duration),
    /// Bytes per second.
    pub bandwidth: (u64, u64),
    /// Bytes that each kernel takes from its application before they have arrived.
    pub send_buffer: (usize, usize),
    /// Bytes that each kernel keeps for its application.
    pub receive_buffer: (usize, usize),
}

impl Quality {
    /// A fast network nearby with kernels of usual generosity.
    #[must_use]
    pub const fn local() -> Self {
        Self {
            latency: (Duration::from_micros(20), Duration::from_micros(200)),
            bandwidth: (100 << 20, 1 << 30),
            send_buffer: (32 << 10, 256 << 10),
            receive_buffer: (32 << 10, 256 << 10),
        }
    }
}

/// Who of the two ends learns at once that a connection was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Both get a RST.
    Both,
    /// The one that connected; for the other the connection is half-open.
    Dialer,
    /// The one that accepted; for the other the connection is half-open.
    Listener,
    /// Neither: the connection is silently dead.
    Neither,
}

/// All connections of a run.
#[derive(Debug)]
pub struct Network {
    now: Time,
    dice: Dice,
    connections: Vec<Entry>,
    listeners: BTreeMap<SocketAddr, Listener>,
    mailboxes: Mailboxes,
    qualities: BTreeMap<IpAddr, Quality>,
    fates: BTreeMap<IpAddr, Fate>,
    agenda: Agenda<Happening>,
    woken: BTreeMap<Owner, BTreeSet<Wake>>,
}

#[derive(Debug)]
struct Entry {
    connection: Connection,
    from: SocketAddr,
    to: SocketAddr,
    dial: Dial,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dial {
    /// The SYN is on its way.
    Sent,
    /// The listener's kernel has accepted; its answer is on its way.
    Answered,
    /// Both ends know.
    Done,
    /// There is no connection. The dialer learns it when its end has the error.
    Failed,
}

#[derive(Debug)]
struct Listener {
    owner: Owner,
    backlog: VecDeque<EndId>,
}

#[derive(Clone, Debug)]
enum Happening {
    SynArrives(usize),
    DialSucceeds(usize),
    DialFails(usize, SocketError),
    SegmentsArrive(EndId),
    KeepAliveFails(EndId),
    DatagramArrives { from: SocketAddr, to: SocketAddr, payload: Bytes },
}

impl Network {
    /// A network without hosts.
    #[must_use]
    pub fn new(dice: Dice) -> Self {
        Self {
            now: Time::ZERO,
            dice,
            connections: Vec::new(),
            listeners: BTreeMap::new(),
            mailboxes: Mailboxes::default(),
            qualities: BTreeMap::new(),
            fates: BTreeMap::new(),
            agenda: Agenda::default(),
            woken: BTreeMap::new(),
        }
    }

    /// When something arrives next.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        self.agenda.next()
    }

    /// Moves time on; everything that arrives until `now` does.
    pub fn advance(&mut self, now: Time) {
        self.now = now;
        while let Some(happening) = self.agenda.pop_due(now) {
            match happening {
                Happening::SynArrives(connection) => self.syn_arrives(connection),
                Happening::DialSucceeds(connection) => self.dial_succeeds(connection),
                Happening::DialFails(connection, error) => self.fail(Self::dialer(connection), error),
                Happening::KeepAliveFails(end) => self.fail(end, SocketError::TimedOut),
                Happening::DatagramArrives { from, to, payload } => self.datagram_arrives(from, to, payload),
                Happening::SegmentsArrive(from) => self.segments_arrive(from),
            }
        }
    }

    /// The owners for whom something may have changed.
    #[must_use]
    pub fn woken(&self) -> Option<Owner> {
        self.woken.keys().next().copied()
    }

    /// Takes what may have changed for `owner`.
    pub fn take_wakes(&mut self, owner: Owner) -> BTreeSet<Wake> {
        self.woken.remove(&owner).unwrap_or_default()
    }

    /// Sets what connections to `address` are like.
    pub fn set_quality(&mut self, address: IpAddr, quality: Quality) {
        self.qualities.insert(address, quality);
    }

    /// Sets what becomes of later dials to `address`; `None`: whoever listens there accepts.
    pub fn set_fate(&mut self, address: IpAddr, fate: Option<Fate>) {
        match fate {
            Some(fate) => self.fates.insert(address, fate),
            None => self.fates.remove(&address),
        };
    }

    /// Starts to listen.
    ///
    /// # Errors
    /// [`SocketError::AddressInUse`].
    pub fn listen(&mut self, address: SocketAddr, owner: Owner) -> Result<(), SocketError> {
        if self.listeners.contains_key(&address) {
            return Err(SocketError::AddressInUse);
        }
        self.listeners.insert(address, Listener { owner, backlog: VecDeque::new() });
        Ok(())
    }

    /// Stops listening; connections that nobody has accepted are reset.
    pub fn unlisten(&mut self, address: SocketAddr) {
        let Some(listener) = self.listeners.remove(&address) else { return };
        for end in listener.backlog {
            self.abort(end);
        }
    }

    /// Takes the next connection that has come in.
    pub fn accept(&mut self, address: SocketAddr) -> Option<EndId> {
        self.listeners.get_mut(&address)?.backlog.pop_front()
    }

    /// Starts to connect.
    pub fn connect(&mut self, owner: Owner, from: SocketAddr, to: SocketAddr) -> EndId {
        let quality = self.qualities.get(&to.ip()).cloned().unwrap_or_else(Quality::local);
        let path = Path {
            latency: self.dice.duration(quality.latency.0, quality.latency.1),
            bandwidth: self.dice.size(quality.bandwidth.0 as usize, quality.bandwidth.1 as usize) as u64,
            stalled_until: Time::ZERO,
            dead: false,
        };
        let mut end = |owner| {
            let send = self.dice.size(quality.send_buffer.0, quality.send_buffer.1);
            End::new(owner, send, self.dice.size(quality.receive_buffer.0, quality.receive_buffer.1))
        };
        let connection = Connection::new(path, end(owner), end(Owner::Nobody));
        let latency = connection.path.latency;
        let id = self.connections.len();
        self.connections.push(Entry { connection, from, to, dial: Dial::Sent });
        match self.fates.get(&to.ip()) {
            None => self.agenda.enter(self.now + latency, Happening::SynArrives(id)),
            Some(Fate::Silent) => self.fail_dial(id, DIAL_TIMEOUT, SocketError::TimedOut),
            Some(Fate::Refused) => self.fail_dial(id, latency * 2, SocketError::Refused),
            Some(Fate::Unreachable) => self.fail_dial(id, latency, SocketError::HostUnreachable),
        }
        Self::dialer(id)
    }

    /// How far a dial has come.
    #[must_use]
    pub fn dial_state(&self, end: EndId) -> DialState {
        let entry = &self.connections[end.connection];
        match (entry.connection.end(end.side).error(), entry.dial) {
            (Some(error), _) => DialState::Failed(error),
            (None, Dial::Done) => DialState::Open,
            (None, Dial::Sent | Dial::Answered | Dial::Failed) => DialState::Pending,
        }
    }

    /// The address of the other end.
    #[must_use]
    pub fn peer_address(&self, end: EndId) -> SocketAddr {
        let entry = &self.connections[end.connection];
        match end.side {
            Side::Dialer => entry.to,
            Side::Listener => entry.from,
        }
    }

    /// Where the connection was dialled from.
    #[must_use]
    pub fn dialer_address(&self, end: EndId) -> SocketAddr {
        self.connections[end.connection].from
    }

    /// The error that ended the connection, if one did.
    #[must_use]
    pub fn error(&self, end: EndId) -> Option<SocketError> {
        self.connections[end.connection].connection.end(end.side).error()
    }

    /// Reads at most `max` bytes.
    ///
    /// # Errors
    /// Whatever ended the connection.
    pub fn read(&mut self, end: EndId, max: usize) -> Result<Read, SocketError> {
        let now = self.now;
        let result = self.connections[end.connection].connection.read(end.side, max, now);
        self.schedule(end.connection);
        result
    }

    /// Writes as much from the front of `bytes` as the send buffer takes.
    ///
    /// # Errors
    /// Whatever ended the connection.
    ///
    /// # Panics
    /// After [`Self::shutdown_write`] or [`Self::release`].
    pub fn write(&mut self, end: EndId, bytes: &mut Bytes) -> Result<usize, SocketError> {
        let now = self.now;
        let result = self.connections[end.connection].connection.write(end.side, bytes, now);
        self.schedule(end.connection);
        result
    }

    /// Sends a FIN after the last byte.
    pub fn shutdown_write(&mut self, end: EndId) {
        let now = self.now;
        self.connections[end.connection].connection.shutdown_write(end.side, now);
        self.schedule(end.connection);
    }

    /// Closes the descriptor as `close(2)` does. Returns whether that was regular: with unread
    /// bytes, or while still connecting, it is a RST.
    pub fn release(&mut self, end: EndId) -> bool {
        if self.dial_state(end) != DialState::Open {
            self.abort(end);
            return false;
        }
        let now = self.now;
        let regular = self.connections[end.connection].connection.release(end.side, now);
        self.schedule(end.connection);
        regular
    }

    /// Closes the descriptor with a RST.
    pub fn abort(&mut self, end: EndId) {
        let now = self.now;
        let entry = &mut self.connections[end.connection];
        match entry.dial {
            // The SYN gets lost: nobody but the dialer ever knew of it.
            Dial::Sent | Dial::Failed => {
                entry.dial = Dial::Failed;
                entry.connection.end_mut(end.side).released = true;
            }
            Dial::Answered | Dial::Done => entry.connection.abort(end.side, now),
        }
        self.schedule(end.connection);
    }

    /// Connections to `to` that both ends still hold.
    #[must_use]
    pub fn established_to(&self, to: SocketAddr) -> Vec<EndId> {
        let alive = |entry: &Entry| {
            let intact = |side| {
                let end = entry.connection.end(side);
                !end.released && end.error().is_none()
            };
            entry.to == to && entry.dial == Dial::Done && intact(Side::Dialer) && intact(Side::Listener)
        };
        let ids = self.connections.iter().enumerate().filter(|(_, entry)| alive(entry));
        ids.map(|(id, _)| Self::dialer(id)).collect()
    }

    /// Holds everything on this connection back until `until`.
    pub fn stall(&mut self, end: EndId, until: Time) {
        self.connections[end.connection].connection.path.stalled_until = until;
    }

    /// Cuts a connection: nothing arrives any more.
    pub fn cut(&mut self, end: EndId, notice: Notice) {
        let connection = &mut self.connections[end.connection].connection;
        connection.path.dead = true;
        for side in match notice {
            Notice::Both => &[Side::Dialer, Side::Listener][..],
            Notice::Dialer => &[Side::Dialer],
            Notice::Listener => &[Side::Listener],
            Notice::Neither => &[],
        } {
            self.fail(EndId { connection: end.connection, side: *side }, SocketError::Reset);
        }
    }

    /// The machine at `end` is gone: nothing arrives any more, and the other end hears nothing. If it
    /// `keeps_alive`, its kernel finds out in the end.
    pub fn unplug(&mut self, end: EndId, keeps_alive: bool) {
        self.cut(end, Notice::Neither);
        if keeps_alive {
            let other = EndId { side: end.side.peer(), ..end };
            self.agenda.enter(self.now + KEEP_ALIVE, Happening::KeepAliveFails(other));
        }
    }

    const fn dialer(connection: usize) -> EndId {
        EndId { connection, side: Side::Dialer }
    }

    fn fail_dial(&mut self, id: usize, after: Duration, error: SocketError) {
        self.connections[id].dial = Dial::Failed;
        self.agenda.enter(self.now + after, Happening::DialFails(id, error));
    }

    fn syn_arrives(&mut self, id: usize) {
        let entry = &mut self.connections[id];
        if entry.dial == Dial::Failed {
            return;
        }
        let (to, latency) = (entry.to, entry.connection.path.latency);
        let Some(listener) = self.listeners.get_mut(&to) else {
            self.fail_dial(id, latency, SocketError::Refused);
            return;
        };
        entry.dial = Dial::Answered;
        entry.connection.end_mut(Side::Listener).owner = listener.owner;
        listener.backlog.push_back(EndId { connection: id, side: Side::Listener });
        self.woken.entry(listener.owner).or_default().insert(Wake::Listener(to));
        self.agenda.enter(self.now + latency, Happening::DialSucceeds(id));
    }

    fn dial_succeeds(&mut self, id: usize) {
        let entry = &mut self.connections[id];
        if entry.dial == Dial::Answered {
            entry.dial = Dial::Done;
            self.wake(Self::dialer(id));
        }
    }

    fn fail(&mut self, end: EndId, error: SocketError) {
        self.connections[end.connection].connection.end_mut(end.side).fail(error);
        self.wake(end);
    }

    fn segments_arrive(&mut self, from: EndId) {
        let now = self.now;
        let connection = &mut self.connections[from.connection].connection;
        connection.end_mut(from.side).scheduled = false;
        if connection.arrive(from.side, now) {
            self.wake(from);
            self.wake(EndId { connection: from.connection, side: from.side.peer() });
        }
        self.schedule(from.connection);
    }

    /// Puts the next arrival in both directions on the agenda.
    fn schedule(&mut self, id: usize) {
        for side in [Side::Dialer, Side::Listener] {
            let connection = &mut self.connections[id].connection;
            let Some(arrival) = connection.next_arrival(side) else { continue };
            let end = connection.end_mut(side);
            if !end.scheduled {
                end.scheduled = true;
                let from = EndId { connection: id, side };
                self.agenda.enter(arrival.max(self.now), Happening::SegmentsArrive(from));
            }
        }
    }

    fn wake(&mut self, end: EndId) {
        let kernel = self.connections[end.connection].connection.end(end.side);
        if !kernel.released && kernel.owner != Owner::Nobody {
            self.woken.entry(kernel.owner).or_default().insert(Wake::End(end));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use bytes::Bytes;
    use linksocks_sansio::error::SocketError;

    use super::{DialState, EndId, Fate, Network, Notice, Owner, Read, Wake};
    use crate::sim::dice::Dice;

    fn addresses() -> (SocketAddr, SocketAddr) {
        (SocketAddr::from(([10, 0, 0, 1], 50_000)), SocketAddr::from(([10, 0, 0, 2], 80)))
    }

    /// Lets everything happen that is under way.
    fn settle(network: &mut Network) {
        while let Some(next) = network.next() {
            network.advance(next);
        }
    }

    fn connected() -> (Network, EndId, EndId) {
        let (from, to) = addresses();
        let mut network = Network::new(Dice::new(1, 0));
        network.listen(to, Owner::Host(1)).unwrap();
        let dialer = network.connect(Owner::Host(0), from, to);
        settle(&mut network);
        assert!(network.take_wakes(Owner::Host(1)).contains(&Wake::Listener(to)));
        let listener = network.accept(to).unwrap();
        (network, dialer, listener)
    }

    #[test]
    fn a_dial_reaches_whoever_listens() {
        let (mut network, dialer, listener) = connected();
        assert_eq!(network.dial_state(dialer), DialState::Open);
        assert_eq!(network.peer_address(listener), addresses().0);
        network.write(dialer, &mut Bytes::from_static(b"hello")).unwrap();
        settle(&mut network);
        assert_eq!(network.read(listener, 99), Ok(Read::Data(Bytes::from_static(b"hello"))));
    }

    #[test]
    fn dials_fail_as_their_fate_says() {
        let (from, to) = addresses();
        let mut network = Network::new(Dice::new(1, 0));
        for (fate, error) in [
            (None, SocketError::Refused),
            (Some(Fate::Refused), SocketError::Refused),
            (Some(Fate::Silent), SocketError::TimedOut),
            (Some(Fate::Unreachable), SocketError::HostUnreachable),
        ] {
            network.set_fate(to.ip(), fate);
            let end = network.connect(Owner::Host(0), from, to);
            assert_eq!(network.dial_state(end), DialState::Pending);
            settle(&mut network);
            assert_eq!(network.dial_state(end), DialState::Failed(error), "{fate:?}");
        }
    }

    #[test]
    fn a_dial_given_up_early_is_never_seen_and_later_is_reset() {
        let (from, to) = addresses();
        let mut network = Network::new(Dice::new(1, 0));
        network.listen(to, Owner::Host(1)).unwrap();
        let early = network.connect(Owner::Host(0), from, to);
        network.release(early);
        settle(&mut network);
        assert_eq!(network.accept(to), None);

        let late = network.connect(Owner::Host(0), from, to);
        network.advance(network.next().unwrap());
        let accepted = network.accept(to).unwrap();
        network.release(late);
        settle(&mut network);
        assert_eq!(network.error(accepted), Some(SocketError::Reset));
    }

    #[test]
    fn only_the_told_end_of_a_cut_connection_knows() {
        let (mut network, dialer, listener) = connected();
        network.cut(dialer, Notice::Listener);
        network.write(dialer, &mut Bytes::from_static(b"into the void")).unwrap();
        settle(&mut network);
        assert_eq!(network.error(listener), Some(SocketError::Reset));
        assert_eq!(network.error(dialer), None);
    }
}
