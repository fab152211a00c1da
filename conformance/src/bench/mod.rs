//! Measures SOCKS tunnels against each other.
//!
//! Each cell (a row of one peer) runs in fresh processes, and the peers take turns within each row of each round, so that
//! whatever the machine does meanwhile happens to all of them. Every byte is checked. Cells end on time even when a peer
//! stalls.

mod error;
mod peer;
mod report;
mod row;

pub use error::Error;
pub use peer::{Peer, Running, UnknownPeer};
pub use report::Report;
pub use row::{Metric, Row, Sample};

use std::time::Duration;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Who takes part, in the order of the table.
    pub peers: Vec<Peer>,
    /// What is measured, in the order of the table.
    pub rows: Vec<Row>,
    /// How often.
    pub rounds: u32,
    /// How long each cell measures; connections and warm-up come on top.
    pub duration: Duration,
    /// Index of the peer to which the others are compared.
    pub against: usize,
}

/// Runs the plan; `progress` hears of each cell before it starts.
#[must_use]
pub fn run(plan: &Plan, mut progress: impl FnMut(u32, Row, &Peer)) -> Report {
    let mut report = Report::new(plan);
    for round in 0..plan.rounds {
        for &row in &plan.rows {
            for turn in 0..plan.peers.len() {
                // Each round another peer goes first.
                let index = (turn + round as usize) % plan.peers.len();
                let peer = &plan.peers[index];
                progress(round, row, peer);
                report.add(index, row, cell(peer, row, plan.duration));
            }
        }
    }
    report
}

fn cell(peer: &Peer, row: Row, duration: Duration) -> Result<Vec<Sample>, Error> {
    row.measure(&peer.start()?, duration)
}
