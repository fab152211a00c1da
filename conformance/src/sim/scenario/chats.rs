//! UDP: who sends how much to whom.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use linksocks_sansio::socks5::{Host, TargetAddr};

use super::talks::{REFUSING, SILENT, UNREACHABLE};
use super::{EntryPlan, HEALED, PROBES, Shape};
use crate::sim::app::chat::ChatPlan;
use crate::sim::clock::Time;
use crate::sim::dice::Dice;

const PORT: u16 = 7;

/// The longest datagram that fits behind a SOCKS header with a name.
const LONGEST: usize = 65_000;

pub(super) fn draw(shape: Shape, entries: &[EntryPlan], dice: &mut Dice) -> Vec<ChatPlan> {
    let count = if shape.bulk || dice.chance(40) { 0 } else { dice.between(1, shape.size.most(5)) };
    let mut chats: Vec<_> = (0..count as usize).map(|id| chat(id, shape, entries, dice)).collect();
    for entry in entries {
        chats.push(probe(chats.len(), entry));
    }
    chats
}

fn chat(id: usize, shape: Shape, entries: &[EntryPlan], dice: &mut Dice) -> ChatPlan {
    let entry = dice.pick(entries);
    let start = Time::ZERO + dice.duration(Duration::from_millis(1), HEALED.since_start());
    let (host, echo) = destination(id, dice);
    let longest = dice.size(16, LONGEST);
    let count = dice.size(1, shape.size.most(200) as usize);
    ChatPlan {
        id,
        entry: entry.entry,
        asks_for_login: entry.asks_for_login,
        start,
        target: TargetAddr { host, port: PORT },
        echo,
        lengths: (0..count).map(|_| dice.size(8, longest)).collect(),
        // Sometimes all at once, which is more than queues hold.
        pause: if dice.chance(20) {
            Duration::ZERO
        } else {
            dice.duration(Duration::from_micros(10), Duration::from_millis(300))
        },
        linger: dice.duration(Duration::from_micros(10), Duration::from_secs(30)),
        aborts: dice.chance(20),
        is_probe: false,
    }
}

/// A few datagrams that all must come back.
fn probe(id: usize, entry: &EntryPlan) -> ChatPlan {
    let echo = SocketAddr::new(alive(id, false), PORT);
    ChatPlan {
        id,
        entry: entry.entry,
        asks_for_login: entry.asks_for_login,
        start: PROBES,
        target: echo.into(),
        echo: Some(echo),
        lengths: vec![8, 100, 1400, 20_000],
        pause: Duration::from_secs(1),
        linger: Duration::from_secs(60),
        aborts: false,
        is_probe: true,
    }
}

/// The address of the target with this number.
fn alive(id: usize, is_v6: bool) -> IpAddr {
    let [high, low] = (id as u16).to_be_bytes();
    match is_v6 {
        false => IpAddr::V4(Ipv4Addr::new(10, 9, high, low)),
        true => IpAddr::V6(Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, id as u16)),
    }
}

/// What the target is called, and where it is.
fn destination(id: usize, dice: &mut Dice) -> (Host, Option<SocketAddr>) {
    let four = || Some(SocketAddr::new(alive(id, false), PORT));
    let six = || Some(SocketAddr::new(alive(id, true), PORT));
    let name = |words: &str| Host::Name(format!("{words}.c{id}.test"));
    match dice.below(12) {
        0 => (REFUSING.into(), None),
        1 => (SILENT.into(), None),
        2 => (UNREACHABLE.into(), None),
        3 => (name("nobody"), None),
        4 => (name("six"), six()),
        // Of both families IPv4 is taken.
        5 => (name("six.four"), four()),
        6 | 7 => (name("four"), four()),
        8 => (alive(id, true).into(), six()),
        _ => (alive(id, false).into(), four()),
    }
}

/// Names say what is behind them, as those of streams do.
pub(crate) fn addresses(chat: &ChatPlan) -> Option<(String, Vec<IpAddr>)> {
    let Host::Name(name) = &chat.target.host else { return None };
    let addresses = name.split('.').filter_map(|word| match word {
        "four" => Some(alive(chat.id, false)),
        "six" => Some(alive(chat.id, true)),
        _ => None,
    });
    let addresses: Vec<_> = addresses.collect();
    (!addresses.is_empty()).then(|| (name.clone(), addresses))
}
