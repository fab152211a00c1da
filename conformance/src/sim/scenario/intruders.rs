//! Malicious peers: some runs have them.

use std::time::Duration;

use linksocks_sansio::wire::Auth;
use linksocks_sansio::{InstanceId, Token};
use uuid::Uuid;

use super::peers::token;
use super::{HEALED, Shape};
use crate::sim::app::intruder::{IntruderPlan, Role};
use crate::sim::clock::Time;
use crate::sim::dice::Dice;

pub(super) fn draw(shape: Shape, dice: &mut Dice) -> Vec<IntruderPlan> {
    if shape.impostor {
        return vec![plan(0, Time::ZERO, HEALED, Role::Server, dice)];
    }
    let count = if dice.chance(25) { dice.between(1, 4) } else { 0 };
    (0..count as usize)
        .map(|id| {
            let start = Time::ZERO + dice.duration(Duration::from_millis(1), HEALED.since_start());
            let end = (start + dice.duration(Duration::from_millis(10), HEALED.since_start())).min(HEALED);
            let role = client(dice);
            plan(id, start, end, role, dice)
        })
        .collect()
}

fn plan(id: usize, start: Time, end: Time, role: Role, dice: &mut Dice) -> IntruderPlan {
    // At most some thousand messages.
    let pause = dice.duration(Duration::from_millis(1), Duration::from_secs(1)).max((end - start) / 3000);
    IntruderPlan { id, start, end, role, pause, reads: dice.chance(80), lingers: dice.chance(30) }
}

fn client(dice: &mut Dice) -> Role {
    let extensions = match dice.below(4) {
        0 => None,
        1 => Some("session, , window;finish".to_owned()),
        2 => Some("window, finish".to_owned()),
        _ => Some("window, finish, session".to_owned()),
    };
    let known = token(!dice.chance(15));
    let (path_and_query, first) = match dice.below(6) {
        0 => ((*dice.pick(&["/nowhere", "/", "/api/status", "/api/token"])).to_owned(), None),
        1 => ("/socket".to_owned(), None),
        2 => ("/socket/".to_owned(), Some(auth(known))),
        _ => (format!("/socket?reverse=false&token={}", known.digest().to_hex()), None),
    };
    Role::Client { path_and_query, extensions, first }
}

fn auth(token: Token) -> bytes::Bytes {
    Auth { token, reverse: false, instance: InstanceId(Uuid::nil()) }.encode()
}
