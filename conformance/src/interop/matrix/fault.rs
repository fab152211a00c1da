//! What can't work, whatever our programs do: the one list of such expectations.

use super::{Case, Cell};
use crate::interop::{Cast, Mode, Program};

/// Why some cells can't work.
#[derive(Debug)]
pub struct Fault {
    /// A footnote.
    pub reason: &'static str,
    applies: fn(Cell) -> bool,
}

static FAULTS: [Fault; 8] = [
    Fault {
        reason: "LinkSocks 1.10 and pywssocks refuse each other's messages, which differ in their version byte.",
        applies: |Cell { cast, .. }| {
            let pair = [Program::REAL, Program::Pywssocks];
            links(cast).any(|(server, other)| [server, other] == pair || [other, server] == pair)
        },
    },
    Fault {
        reason: "pywssocks loses what arrives right behind the news that the target is connected.",
        applies: |Cell { cast, case }| case == Case::ServerFirst && cast.entry() == Program::Pywssocks,
    },
    Fault {
        reason: "The server of LinkSocks takes data that overtakes the news of its own connection for a failure.",
        applies: |Cell { cast, case }| {
            case == Case::ServerFirst && cast.mode() == Mode::Reverse && is_real(cast.server())
        },
    },
    Fault {
        reason: "The server of LinkSocks lets data overtake the news that the target is connected, and a connector of \
                 LinkSocks or pywssocks takes that for a failure.",
        applies: |Cell { cast, case }| {
            case == Case::ServerFirst && relays(cast) && is_real(cast.server()) && is_foreign(cast.entry())
        },
    },
    Fault {
        reason: "The server of LinkSocks loses data that follows the request at once, and a connector of LinkSocks \
                 sends it.",
        applies: |Cell { cast, case }| {
            case == Case::FastOpen && relays(cast) && is_real(cast.server()) && is_foreign(cast.entry())
        },
    },
    Fault {
        reason: "pywssocks disconnects behind a failed connection, which overtakes the news of the failure in a server \
                 of LinkSocks, and a connector of LinkSocks or pywssocks goes on waiting.",
        applies: |Cell { cast, case }| {
            case == Case::Refused
                && relays(cast)
                && is_real(cast.server())
                && cast.exit() == Program::Pywssocks
                && is_foreign(cast.entry())
        },
    },
    Fault {
        reason: "The server of pywssocks does not tell connectors that their target has closed.",
        applies: |Cell { cast, case }| {
            case == Case::End && relays(cast) && cast.server() == Program::Pywssocks
        },
    },
    Fault {
        reason: "LinkSocks sends compressed messages of more than 1 MiB, which a server passes on as they are and \
                 pywssocks does not accept.",
        applies: |Cell { cast, case }| {
            case == Case::Tcp
                && cast.has(Program::Pywssocks)
                && (is_real(cast.entry()) || is_real(cast.exit()))
        },
    },
];

impl Fault {
    /// The fault that is to blame if `cell` doesn't work.
    #[must_use]
    pub fn of(cell: Cell) -> Option<&'static Self> {
        FAULTS.iter().find(|fault| (fault.applies)(cell))
    }
}

/// The server with each program that is linked to it.
fn links(cast: Cast) -> impl Iterator<Item = (Program, Program)> {
    cast.parts().skip(1).map(move |other| (cast.server(), other))
}

/// Whether the server only passes on what others say.
fn relays(cast: Cast) -> bool {
    matches!(cast.mode(), Mode::Agent | Mode::Autonomy)
}

fn is_real(program: Program) -> bool {
    matches!(program, Program::Real(_))
}

fn is_foreign(program: Program) -> bool {
    !program.is_ours()
}
