//! What can go wrong with a program under test.

use std::io;

use super::socks;

/// A program under test did not do its part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program can't be had on this machine.
    #[error("{0}")]
    Missing(String),
    /// The process ended, or stayed silent past its deadline.
    #[error("{program}: {problem}\n{output}")]
    Process {
        /// Which program.
        program: String,
        /// What was expected of it.
        problem: String,
        /// The last lines it printed.
        output: String,
    },
    /// The SOCKS side refused or misbehaved.
    #[error(transparent)]
    Socks(#[from] socks::Error),
    /// A socket or process call of this side failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}
