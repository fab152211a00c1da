//! What can't work, whatever our programs do: the one list of such expectations.

use super::Cell;
use crate::interop::Program;

/// Why some cells can't work.
#[derive(Debug)]
pub struct Fault {
    /// A footnote.
    pub reason: &'static str,
    applies: fn(Cell) -> bool,
}

static FAULTS: [Fault; 1] = [Fault {
    reason: "LinkSocks 1.10 and pywssocks refuse each other's messages, which differ in their version byte.",
    applies: |cell| {
        links(cell).any(|ends| {
            ends == (Program::REAL, Program::Pywssocks) || ends == (Program::Pywssocks, Program::REAL)
        })
    },
}];

impl Fault {
    /// The fault that is to blame if `cell` doesn't work.
    #[must_use]
    pub fn of(cell: Cell) -> Option<&'static Self> {
        FAULTS.iter().find(|fault| (fault.applies)(cell))
    }
}

/// The server with each program that is linked to it.
fn links(cell: Cell) -> impl Iterator<Item = (Program, Program)> {
    let server = cell.cast.server();
    cell.cast.parts().skip(1).map(move |other| (server, other))
}
