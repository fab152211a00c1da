//! What an application does with its stream.

use std::time::Duration;

/// The part of one end.
#[derive(Clone, Debug)]
pub struct Script {
    /// When it starts to send.
    pub begin: Begin,
    /// How many bytes it sends.
    pub send: u64,
    /// In pieces of this size.
    pub chunk: usize,
    /// With this pause after each piece.
    pub pause: Duration,
    /// How it reads.
    pub reading: Reading,
    /// How it ends.
    pub ending: Ending,
    /// What it does instead of coming to the end.
    pub mishap: Option<Mishap>,
}

/// When an end starts to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// As soon as there is a connection.
    AtOnce,
    /// After so many bytes have come.
    AfterReceiving(u64),
    /// After the other side has finished.
    AfterEof,
}

/// How an end reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Whatever comes.
    Eager,
    /// A piece now and then.
    Slow {
        /// The size of a piece.
        chunk: usize,
        /// The time between two.
        every: Duration,
    },
    /// Stops once for a while.
    Stalls {
        /// After so many bytes.
        after: u64,
        /// For so long.
        length: Duration,
    },
}

/// How an end ends once it has sent everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Says so (half-close), reads until the other side has finished, closes.
    Finish,
    /// Waits until the other side has finished, closes.
    FollowPeer,
    /// Closes at once, whatever may still come.
    Close,
}

/// What may come between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// RST after so many bytes sent.
    AbortAfterSending(u64),
    /// RST after so many bytes received.
    AbortAfterReceiving(u64),
    /// Closes after some time, finished or not.
    CloseAfter(Duration),
    /// RST after some time, finished or not.
    AbortAfter(Duration),
}

impl Script {
    /// Sends so many bytes at once and in large pieces, reads eagerly, and finishes.
    #[must_use]
    pub const fn plain(send: u64) -> Self {
        Self {
            begin: Begin::AtOnce,
            send,
            chunk: 64 * 1024,
            pause: Duration::ZERO,
            reading: Reading::Eager,
            ending: Ending::Finish,
            mishap: None,
        }
    }
}
