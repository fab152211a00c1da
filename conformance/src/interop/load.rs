//! Streams that move many bytes, check every one of them, and count as they go.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::pattern::{MAX_SLICE, Mismatch, Pattern};
use super::target::{close_gently, read_bytes};

/// A length that is never reached.
pub const ENDLESS: u64 = u64::MAX;

/// A stream failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not what was sent.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The connection failed or timed out.
    #[error("after {offset} bytes: {source}")]
    Io {
        /// Bytes of the stream before the failure.
        offset: u64,
        /// What the socket said.
        source: io::Error,
    },
    /// The stream ended early.
    #[error("ended after {received} of {length} bytes")]
    Short {
        /// What came.
        received: u64,
        /// What was sent.
        length: u64,
    },
}

/// A set of streams with keys from 0 on, each a [`Pattern`] of that key; shared by the threads at both ends.
#[derive(Debug)]
pub struct Load {
    received: Vec<AtomicU64>,
    stopped: AtomicBool,
    problem: Mutex<Option<String>>,
}

impl Load {
    /// A set of `streams` streams.
    #[must_use]
    pub fn new(streams: u64) -> Self {
        Self {
            received: (0..streams).map(|_| AtomicU64::new(0)).collect(),
            stopped: AtomicBool::new(false),
            problem: Mutex::new(None),
        }
    }

    /// Bytes of stream `key` that have arrived, all of them right.
    #[must_use]
    pub fn received(&self, key: u64) -> u64 {
        self.received[key as usize].load(Ordering::Relaxed)
    }

    /// Bytes of all streams that have arrived.
    #[must_use]
    pub fn total_received(&self) -> u64 {
        self.received.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Ends all streams at their next buffer. What fails from now on is not counted as a problem.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Remembers the first failure.
    pub fn report(&self, key: u64, outcome: Result<(), Error>) {
        if let Err(error) = outcome
            && !self.stopped.load(Ordering::Relaxed)
        {
            let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
            problem.get_or_insert_with(|| format!("stream {key}: {error}"));
        }
    }

    /// The first failure that was reported.
    ///
    /// # Errors
    /// Its description.
    pub fn outcome(&self) -> Result<(), String> {
        match self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            None => Ok(()),
            Some(problem) => Err(problem),
        }
    }

    /// Receives and checks stream `key`: to its end after exactly `length` bytes, or until stopped.
    ///
    /// # Errors
    /// [`enum@Error`].
    pub fn receive(&self, stream: &mut TcpStream, key: u64, length: u64) -> Result<(), Error> {
        let mut pattern = Pattern::new(key);
        let mut buffer = vec![0; MAX_SLICE];
        while !self.stopped.load(Ordering::Relaxed) {
            let read =
                stream.read(&mut buffer).map_err(|source| Error::Io { offset: pattern.offset(), source })?;
            if read == 0 {
                return match pattern.offset() {
                    received if received == length => Ok(()),
                    received => Err(Error::Short { received, length }),
                };
            }
            pattern.check(&buffer[..read])?;
            self.received[key as usize].fetch_add(read as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Sends `length` bytes of stream `key`, or until stopped.
    ///
    /// # Errors
    /// [`enum@Error`].
    pub fn send(&self, stream: &mut TcpStream, key: u64, length: u64) -> Result<(), Error> {
        let mut pattern = Pattern::new(key);
        while pattern.offset() < length && !self.stopped.load(Ordering::Relaxed) {
            let left = usize::try_from(length - pattern.offset()).unwrap_or(usize::MAX);
            let written = stream
                .write(pattern.peek(left))
                .map_err(|source| Error::Io { offset: pattern.offset(), source })?;
            pattern.advance(written);
        }
        Ok(())
    }

    /// A target's end of a stream that a client asks for with [`ask`]: sends it, then closes.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn serve_source(&self, mut stream: TcpStream) -> io::Result<()> {
        let (key, length) = read_header(&mut stream)?;
        self.report(key, self.send(&mut stream, key, length));
        close_gently(stream)
    }

    /// A target's end of a stream that a client announces with [`ask`]: checks it to its end, then answers with one
    /// byte and closes.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn serve_sink(&self, mut stream: TcpStream) -> io::Result<()> {
        let (key, length) = read_header(&mut stream)?;
        self.report(key, self.receive(&mut stream, key, length));
        stream.write_all(&[1])?;
        stream.shutdown(Shutdown::Write)
    }
}

/// What a client sends first: the key and the length of the stream that follows in one of the directions.
///
/// # Errors
/// Those of the socket.
pub fn ask(stream: &mut TcpStream, key: u64, length: u64) -> io::Result<()> {
    stream.write_all(&[key.to_be_bytes(), length.to_be_bytes()].concat())
}

/// What [`ask`] has sent.
///
/// # Errors
/// Those of the socket; [`io::ErrorKind::UnexpectedEof`] when it ends early.
pub fn read_header(stream: &mut TcpStream) -> io::Result<(u64, u64)> {
    let number = |stream: &mut TcpStream| {
        let bytes = read_bytes(stream, 8)?;
        Ok::<_, io::Error>(bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    };
    Ok((number(stream)?, number(stream)?))
}
