//! An application that sends datagrams to an echo target: each may be lost, none may be changed.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use linksocks_sansio::socks5::TargetAddr;

use crate::interop::pattern::random_bytes;
use crate::interop::udp::Association;
use crate::sim::Dice;

/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_millis(500);
/// The longest payload.
const LONGEST: usize = 1200;

/// What came of the datagrams.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) sent: u64,
    pub(super) answered: u64,
}

#[derive(Debug)]
pub(super) enum Error {
    /// An answer is not what was sent, or nobody's.
    Wrong(String),
    /// There was no association, or no answer at all.
    Silent(String),
}

/// Sends datagrams one by one and waits a little for each answer.
///
/// # Errors
/// [`Error`].
pub(super) fn exchange(
    proxy: SocketAddr,
    target: SocketAddr,
    key: u64,
    mut dice: Dice,
) -> Result<Exchange, Error> {
    let silent = |error: io::Error| Error::Silent(error.to_string());
    let association = Association::open(proxy).map_err(|error| Error::Silent(error.to_string()))?;
    association.socket.set_read_timeout(Some(ANSWER)).map_err(silent)?;
    let target = TargetAddr::from(target);
    let mut outstanding = HashSet::new();
    let count = dice.between(5, 20);
    for number in 0..count {
        let length = dice.between(1, LONGEST as u64) as usize;
        let mut payload = [key.to_be_bytes(), number.to_be_bytes()].concat();
        payload.extend(random_bytes(key ^ (number << 32), length));
        // One that can't be sent is one that is lost.
        let _ = association.send_to(&payload, &target);
        outstanding.insert(payload);
        receive(&association, &target, &mut outstanding)?;
    }
    match count - outstanding.len() as u64 {
        0 => Err(Error::Silent(format!("none of {count} datagrams was answered"))),
        answered => Ok(Exchange { sent: count, answered }),
    }
}

/// Takes one answer, if one comes in time, off those that are missing.
fn receive(
    association: &Association,
    target: &TargetAddr,
    outstanding: &mut HashSet<Vec<u8>>,
) -> Result<(), Error> {
    match association.recv_from() {
        Ok((payload, from)) if from == *target && outstanding.remove(&payload[..]) => Ok(()),
        Ok((payload, from)) => {
            Err(Error::Wrong(format!("{} bytes from {from} are no answer that is missing", payload.len())))
        }
        Err(error) if error.kind() == ErrorKind::Other => Err(Error::Wrong(error.to_string())),
        // Late, lost, or told by ICMP that the association is gone.
        Err(_) => Ok(()),
    }
}
