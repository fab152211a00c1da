//! Conversations: who asks whom for what, and how they behave.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use linksocks_sansio::socks5::{Host, TargetAddr};

use super::{EntryPlan, HEALED, PROBES, Shape, Size};
use crate::sim::app::plan::{Destination, Entry, TalkPlan, Way, credentials};
use crate::sim::app::script::{Begin, Ending, Mishap, Reading, Script};
use crate::sim::app::{SocksPlan, SocksRequest};
use crate::sim::clock::Time;
use crate::sim::dice::Dice;

/// An address whose host refuses every connection.
pub(crate) const REFUSING: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1));
/// An address from which no answer comes.
pub(crate) const SILENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 3, 0, 1));
/// An address that the network knows no way to.
pub(crate) const UNREACHABLE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 4, 0, 1));
/// An address where somebody listens who accepts nothing and reads nothing: the kernel connects.
pub(crate) const SINK: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 5, 0, 1));

const PORT: u16 = 8080;

pub(super) fn draw(shape: Shape, entries: &[EntryPlan], dice: &mut Dice) -> Vec<TalkPlan> {
    let count = if shape.bulk { dice.between(1, 5) } else { dice.between(2, shape.size.most(24)) };
    let mut talks: Vec<_> = (0..count as usize).map(|id| talk(id, shape, entries, dice)).collect();
    for entry in entries {
        talks.push(probe(talks.len(), entry));
        if shape.forgotten {
            talks.push(forgotten(talks.len(), entry));
        }
    }
    talks
}

fn talk(id: usize, shape: Shape, entries: &[EntryPlan], dice: &mut Dice) -> TalkPlan {
    let entry = dice.pick(entries);
    let start = Time::ZERO + dice.duration(Duration::from_millis(1), HEALED.since_start());
    let way = way(entry, dice);
    let destination = destination(id, dice);
    let (caller, target) = match shape {
        Shape { bulk: true, .. } => bulk(dice),
        Shape { clogged: true, .. } => clogged(shape.size, dice),
        Shape { .. } => scripts(shape.size, dice),
    };
    TalkPlan { id, entry: entry.entry, start, way, destination, caller, target, is_probe: false }
}

/// Asks for something and gets it; nothing may go wrong.
fn probe(id: usize, entry: &EntryPlan) -> TalkPlan {
    let address = SocketAddr::new(alive(id, 0), PORT);
    let destination =
        Destination { target: TargetAddr { host: address.ip().into(), port: PORT }, alive: vec![address] };
    let caller = Script { ending: Ending::FollowPeer, ..Script::plain(500) };
    let target = Script { begin: Begin::AfterReceiving(500), ..Script::plain(20_000) };
    let way = Way::Socks(polite(entry));
    TalkPlan { id, entry: entry.entry, start: PROBES, way, destination, caller, target, is_probe: true }
}

/// Some words at the beginning, and then nothing any more.
fn forgotten(id: usize, entry: &EntryPlan) -> TalkPlan {
    let silent = Script { ending: Ending::FollowPeer, ..Script::plain(100) };
    TalkPlan { caller: silent.clone(), target: silent, ..probe(id, entry) }
}

fn polite(entry: &EntryPlan) -> SocksPlan {
    SocksPlan {
        methods: if entry.asks_for_login { vec![0, 2] } else { vec![0] },
        login: login(entry, true),
        request: SocksRequest::Connect,
        pipelined: false,
        crumbles: false,
        abandons_after: None,
    }
}

fn login(entry: &EntryPlan, right: bool) -> Option<(String, String)> {
    let (name, password) = credentials();
    entry.asks_for_login.then(|| (name, if right { password } else { "abracadabra".to_owned() }))
}

fn way(entry: &EntryPlan, dice: &mut Dice) -> Way {
    if dice.chance(15) && entry.entry != Entry::Server {
        return Way::Command;
    }
    let mut plan = polite(entry);
    plan.login = login(entry, !dice.chance(10));
    plan.pipelined = dice.chance(15);
    plan.crumbles = dice.chance(25);
    match dice.below(40) {
        0 => plan.request = SocksRequest::Bind,
        1 => plan.request = SocksRequest::UnknownAddressType,
        2 => plan.methods = vec![1, 0x80],
        3 => plan.abandons_after = Some(dice.size(1, 12)),
        _ => {}
    }
    Way::Socks(plan)
}

/// One of the addresses of the target with this number.
fn alive(id: usize, which: u16) -> IpAddr {
    let [high, low] = (id as u16).to_be_bytes();
    match which {
        0 => IpAddr::V4(Ipv4Addr::new(10, 1, high, low)),
        _ => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, which, id as u16)),
    }
}

/// Names say what is behind them: one word for each address, in the order of the resolver.
pub(crate) fn addresses(talk: &TalkPlan) -> Option<(String, Vec<IpAddr>)> {
    let Host::Name(name) = &talk.destination.target.host else { return None };
    let addresses = name.split('.').filter_map(|word| match word {
        "refusing" => Some(REFUSING),
        "silent" => Some(SILENT),
        "unreachable" => Some(UNREACHABLE),
        "four" => Some(alive(talk.id, 0)),
        "six" => Some(alive(talk.id, 1)),
        _ => None,
    });
    let addresses: Vec<_> = addresses.collect();
    (!addresses.is_empty()).then(|| (name.clone(), addresses))
}

fn destination(id: usize, dice: &mut Dice) -> Destination {
    let name = |words: &str| Host::Name(format!("{words}.t{id}.test"));
    let (host, alive_at): (Host, &[u16]) = match dice.below(20) {
        0 => (REFUSING.into(), &[]),
        1 => (SILENT.into(), &[]),
        2 => (UNREACHABLE.into(), &[]),
        3 => (name("nobody"), &[]),
        4 => (name("refusing.silent"), &[]),
        5 => (name("four"), &[0]),
        6 => (name("silent.four"), &[0]),
        7 => (name("refusing.six.silent"), &[1]),
        8 => (name("unreachable.four"), &[0]),
        9 => (name("six.four"), &[0, 1]),
        10 | 11 => (alive(id, 1).into(), &[1]),
        _ => (alive(id, 0).into(), &[0]),
    };
    let alive = alive_at.iter().map(|which| SocketAddr::new(alive(id, *which), PORT)).collect();
    Destination { target: TargetAddr { host, port: PORT }, alive }
}

/// Much data in both directions.
fn bulk(dice: &mut Dice) -> (Script, Script) {
    let mut side = || Script::plain(dice.between(512 << 10, 3 << 20));
    (side(), side())
}

/// More than the kernels on the way keep, to readers of which many stall.
fn clogged(size: Size, dice: &mut Dice) -> (Script, Script) {
    let mut side = || {
        let reading = match dice.chance(40) {
            true => Reading::Stalls {
                after: dice.size(1, 10_000) as u64,
                length: dice.duration(Duration::from_secs(1), Duration::from_secs(90)),
            },
            false => Reading::Eager,
        };
        Script { reading, ..Script::plain(dice.between(10_000, size.most(500_000))) }
    };
    (side(), side())
}

/// A usual conversation, sometimes with a reader that is slow or stalls, sometimes with a mishap.
fn scripts(size: Size, dice: &mut Dice) -> (Script, Script) {
    let (mut caller, mut target) = exchange(size, dice);
    for script in [&mut caller, &mut target] {
        vary(script, dice);
    }
    if dice.chance(20) {
        let script = if dice.chance(50) { &mut caller } else { &mut target };
        let mishap = mishap(script, dice);
        script.mishap.get_or_insert(mishap);
    }
    (caller, target)
}

/// The shapes of conversations that protocols have.
fn exchange(size: Size, dice: &mut Dice) -> (Script, Script) {
    let request = dice.size(1, 2000) as u64;
    let most = size.most(300_000) as usize;
    let (large, larger) = (dice.size(1, most) as u64, dice.size(1, most) as u64);
    let listen = Script { ending: Ending::FollowPeer, ..Script::plain(0) };
    let ask = Script { ending: Ending::FollowPeer, ..Script::plain(request) };
    let answer = Script { begin: Begin::AfterReceiving(request), ..Script::plain(large) };
    match dice.below(9) {
        // A banner, then the end.
        0 => (listen, Script::plain(large)),
        // Request and response, after which the target closes or waits for the caller's end.
        1 => (ask, Script { ending: Ending::Close, ..answer }),
        2 => (ask, answer),
        // The target answers once the request has ended.
        3 => (Script::plain(request), Script { begin: Begin::AfterEof, ..Script::plain(large) }),
        // An upload.
        4 => (Script::plain(large), listen),
        // Both at once.
        5 => (Script::plain(large), Script::plain(larger)),
        // The target closes while the caller may still be sending.
        6 => (Script::plain(large), Script { ending: Ending::Close, ..Script::plain(larger) }),
        // The caller closes as soon as it is connected.
        7 => (Script { ending: Ending::Close, ..Script::plain(0) }, Script::plain(large)),
        // Nobody answers: the caller loses its patience.
        _ => {
            let patience = dice.duration(Duration::from_millis(10), Duration::from_secs(90));
            let mishap = *dice.pick(&[Mishap::CloseAfter(patience), Mishap::AbortAfter(patience)]);
            (Script { mishap: Some(mishap), ..ask }, listen)
        }
    }
}

fn vary(script: &mut Script, dice: &mut Dice) {
    script.chunk = dice.size(1 + script.send as usize / 500, 64 << 10);
    if dice.chance(20) {
        let pieces = (script.send as usize / script.chunk + 1) as u32;
        script.pause = dice.duration(Duration::from_micros(100), Duration::from_secs(30)) / pieces;
    }
    script.reading = match dice.below(20) {
        // Even the most is read within two minutes.
        0..=2 => Reading::Slow {
            chunk: dice.size(512, 16 << 10),
            every: dice.duration(Duration::from_millis(1), Duration::from_millis(200)),
        },
        3..=4 => Reading::Stalls {
            after: dice.size(1, 100_000) as u64,
            length: dice.duration(Duration::from_millis(100), Duration::from_secs(60)),
        },
        _ => Reading::Eager,
    };
}

fn mishap(script: &Script, dice: &mut Dice) -> Mishap {
    let soon = dice.duration(Duration::from_millis(1), Duration::from_secs(20));
    match dice.below(4) {
        0 => Mishap::AbortAfterSending(dice.between(0, script.send)),
        1 => Mishap::AbortAfterReceiving(dice.size(1, 50_000) as u64),
        2 => Mishap::CloseAfter(soon),
        _ => Mishap::AbortAfter(soon),
    }
}
