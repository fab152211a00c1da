//! Why a cell has no value.

use std::io;

use crate::interop::{self, socks};

/// A peer did not get through a measurement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It didn't start.
    #[error(transparent)]
    Program(#[from] interop::Error),
    /// It didn't open a connection.
    #[error(transparent)]
    Socks(#[from] socks::Error),
    /// A stream broke, or brought wrong bytes.
    #[error("{0}")]
    Stream(String),
    /// Nothing got through in the time of the measurement.
    #[error("nothing got through")]
    Stalled,
    /// A socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}
