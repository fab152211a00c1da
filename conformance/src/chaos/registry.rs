//! The streams that are not over: where a target learns what it has to do on a connection.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use super::script::{Role, Script};
use super::side;
use super::stream::{Clock, Stream, lock};
use super::tally::Tally;
use crate::interop::load::{ask, read_header};

/// All streams that are not over, by key.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) clock: Clock,
    pub(super) tally: Arc<Tally>,
    streams: Mutex<HashMap<u64, Arc<Stream>>>,
    next_key: AtomicU64,
    first_key: u64,
}

impl Registry {
    /// Streams get the keys from `first_key` on.
    pub(super) fn new(clock: Clock, tally: Arc<Tally>, first_key: u64) -> Self {
        Self { clock, tally, streams: Mutex::default(), next_key: AtomicU64::new(first_key), first_key }
    }

    /// A key for one more stream.
    pub(super) fn next_key(&self) -> u64 {
        self.next_key.fetch_add(1, SeqCst)
    }

    /// The first key that is not used yet.
    pub(super) fn unused_key(&self) -> u64 {
        self.next_key.load(SeqCst)
    }

    /// Adds a stream that begins now.
    pub(super) fn add(&self, script: Script) -> Arc<Stream> {
        let stream = Arc::new(Stream::new(script, self.clock.now()));
        lock(&self.streams).insert(stream.script.key, Arc::clone(&stream));
        stream
    }

    pub(super) fn all(&self) -> Vec<Arc<Stream>> {
        lock(&self.streams).values().cloned().collect()
    }

    pub(super) fn remove(&self, stream: &Stream) {
        lock(&self.streams).remove(&stream.script.key);
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.streams).len()
    }

    /// The target's end of a connection.
    ///
    /// # Errors
    /// Those of the socket, before it says which stream it is.
    pub(super) fn serve(&self, mut socket: TcpStream, patience: Duration) -> io::Result<()> {
        socket.set_read_timeout(Some(patience))?;
        let (key, check) = read_header(&mut socket)?;
        if check != !key || !(self.first_key..self.unused_key()).contains(&key) {
            self.tally
                .add_failure(format!("a target was sent a header that nobody sent: {key:#x} {check:#x}"));
            return Ok(());
        }
        // A stream that is over is of no interest any more.
        let stream = lock(&self.streams).get(&key).cloned();
        if let Some(stream) = stream {
            side::play(&socket, &stream, Role::Target, self.clock);
        }
        Ok(())
    }
}

/// Says which stream a connection is.
///
/// # Errors
/// Those of the socket.
pub(super) fn introduce(socket: &mut TcpStream, key: u64) -> io::Result<()> {
    ask(socket, key, !key)
}
