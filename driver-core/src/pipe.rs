//! A stream in memory: what [`ClientHandle::open`](crate::embed::ClientHandle::open) gives out.
//!
//! It behaves as a TCP connection between the embedder ([`PipeStream`]) and the driver
//! ([`PipeEnd`]), half-close and reset included.

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use futures_io::{AsyncRead, AsyncWrite};

use crate::runtime::RuntimeStream;

/// How many bytes wait in each direction before writes do.
pub(crate) const CAPACITY: usize = 64 * 1024;

/// A connected pair; each direction holds up to `capacity` bytes.
#[must_use]
pub fn pipe(capacity: usize) -> (PipeStream, PipeEnd) {
    let shared = Arc::new(Mutex::new(Pipe { up: Lane::new(capacity), down: Lane::new(capacity) }));
    (PipeStream { shared: Arc::clone(&shared) }, PipeEnd { shared })
}

/// The embedder's end of a channel.
///
/// Close it ([`AsyncWrite::poll_close`]) to end the sending direction regularly. Dropping it ends
/// the channel: regularly if the end of the other direction has been read, with a reset otherwise,
/// so that the other side never takes an abandoned stream for a complete one.
#[derive(Debug)]
pub struct PipeStream {
    shared: Arc<Mutex<Pipe>>,
}

/// The driver's end of a channel. Dropping it without closing resets the other end.
#[derive(Debug)]
pub struct PipeEnd {
    shared: Arc<Mutex<Pipe>>,
}

#[derive(Debug)]
struct Pipe {
    /// From the embedder to the driver.
    up: Lane,
    /// From the driver to the embedder.
    down: Lane,
}

/// One direction.
#[derive(Debug)]
struct Lane {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// How it ends once all bytes are read.
    end: Option<End>,
    /// EOF has been read.
    eof_read: bool,
    /// Nobody will read any more.
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Eof,
    Reset,
}

impl Lane {
    fn new(capacity: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            capacity,
            end: None,
            eof_read: false,
            reader_gone: false,
            reader: None,
            writer: None,
        }
    }

    fn poll_readable(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.bytes.is_empty() && self.end.is_none() {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Lets `take` copy bytes out.
    fn poll_read(
        &mut self,
        cx: &Context<'_>,
        take: impl FnOnce(&mut VecDeque<u8>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if self.poll_readable(cx).is_pending() {
            return Poll::Pending;
        }
        if !self.bytes.is_empty() {
            wake(&mut self.writer);
            return Poll::Ready(take(&mut self.bytes));
        }
        Poll::Ready(match self.end {
            Some(End::Reset) => Err(io::ErrorKind::ConnectionReset.into()),
            Some(End::Eof) | None => {
                self.eof_read = true;
                Ok(0)
            }
        })
    }

    fn poll_write(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.end {
            Some(End::Reset) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Some(End::Eof) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            None if self.reader_gone => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            None => {}
        }
        let length = bytes.len().min(self.capacity - self.bytes.len());
        if length == 0 && !bytes.is_empty() {
            self.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.bytes.extend(&bytes[..length]);
        wake(&mut self.reader);
        Poll::Ready(Ok(length))
    }

    /// Ends the direction, unless it has ended.
    fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    /// Ends the direction in any case, and drops what is in it.
    fn reset(&mut self) {
        self.bytes.clear();
        self.end = Some(End::Reset);
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    fn abandon(&mut self) {
        self.reader_gone = true;
        self.bytes = VecDeque::new();
        wake(&mut self.writer);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// No code that can panic runs under the lock, so a poisoned one is still sound.
fn lock(shared: &Mutex<Pipe>) -> MutexGuard<'_, Pipe> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for PipeStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        lock(&self.shared).down.poll_read(cx, |bytes| bytes.read(buf))
    }
}

impl AsyncWrite for PipeStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.shared).up.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.shared).up.finish(End::Eof);
        Poll::Ready(Ok(()))
    }
}

impl Drop for PipeStream {
    fn drop(&mut self) {
        let mut pipe = lock(&self.shared);
        let end = if pipe.down.eof_read { End::Eof } else { End::Reset };
        pipe.up.finish(end);
        pipe.down.abandon();
    }
}

impl AsyncRead for PipeEnd {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        lock(&self.shared).up.poll_read(cx, |bytes| bytes.read(buf))
    }
}

impl AsyncWrite for PipeEnd {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.shared).down.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.shared).down.finish(End::Eof);
        Poll::Ready(Ok(()))
    }
}

impl RuntimeStream for PipeEnd {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.shared).up.poll_readable(cx).map(Ok)
    }

    fn poll_read_buf(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let max = max.min(buf.capacity() - buf.len());
        lock(&self.shared).up.poll_read(cx, |bytes| {
            let (front, _) = bytes.as_slices();
            let length = front.len().min(max);
            buf.extend_from_slice(&front[..length]);
            bytes.drain(..length);
            Ok(length)
        })
    }

    fn set_nodelay(&self) -> io::Result<()> {
        Ok(())
    }

    fn reset(self) {
        let mut pipe = lock(&self.shared);
        pipe.up.reset();
        pipe.down.reset();
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let mut pipe = lock(&self.shared);
        pipe.down.finish(End::Reset);
        pipe.up.abandon();
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use futures_util::task::noop_waker_ref;
    use futures_util::{AsyncReadExt, AsyncWriteExt, FutureExt};

    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> T {
        Box::pin(future).now_or_never().expect("the pipe is ready")
    }

    #[test]
    fn bytes_and_eof_pass_in_both_directions() {
        let (mut user, mut driver) = pipe(8);
        now(user.write_all(b"ping")).unwrap();
        now(user.close()).unwrap();
        let mut buf = BytesMut::with_capacity(3);
        let mut cx = Context::from_waker(noop_waker_ref());
        assert!(matches!(driver.poll_read_buf(&mut cx, &mut buf, 2), Poll::Ready(Ok(2))));
        assert!(matches!(driver.poll_read_buf(&mut cx, &mut buf, 2), Poll::Ready(Ok(1))));
        assert_eq!(&buf[..], b"pin");
        let mut rest = Vec::new();
        assert_eq!(now(driver.read_to_end(&mut rest)).unwrap(), 1);

        now(driver.write_all(b"pong")).unwrap();
        now(driver.close()).unwrap();
        let mut text = String::new();
        now(user.read_to_string(&mut text)).unwrap();
        assert_eq!(text, "pong");
    }

    #[test]
    fn a_full_pipe_takes_no_more() {
        let (mut user, mut driver) = pipe(4);
        let mut cx = Context::from_waker(noop_waker_ref());
        assert!(matches!(Pin::new(&mut user).poll_write(&mut cx, b"hello"), Poll::Ready(Ok(4))));
        assert!(Pin::new(&mut user).poll_write(&mut cx, b"o").is_pending());
        assert_eq!(now(driver.read(&mut [0; 3])).unwrap(), 3);
        assert!(matches!(Pin::new(&mut user).poll_write(&mut cx, b"o!"), Poll::Ready(Ok(2))));
    }

    #[test]
    fn reset_reaches_reader_and_writer() {
        let (mut user, mut driver) = pipe(8);
        now(driver.write_all(b"lost")).unwrap();
        driver.reset();
        assert_eq!(now(user.read(&mut [0; 8])).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(now(user.write(b"x")).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn dropping_the_users_end_resets_unless_everything_was_read() {
        let (mut user, mut driver) = pipe(8);
        now(user.write_all(b"last")).unwrap();
        drop(user);
        assert_eq!(now(driver.read(&mut [0; 8])).unwrap(), 4);
        assert_eq!(now(driver.read(&mut [0; 8])).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(now(driver.write(b"x")).unwrap_err().kind(), ErrorKind::BrokenPipe);

        let (mut user, mut driver) = pipe(8);
        now(driver.close()).unwrap();
        assert_eq!(now(user.read(&mut [0; 8])).unwrap(), 0);
        drop(user);
        assert_eq!(now(driver.read(&mut [0; 8])).unwrap(), 0);
    }

    #[test]
    fn dropping_the_drivers_end_is_eof_only_after_close() {
        let (mut user, mut driver) = pipe(8);
        now(driver.close()).unwrap();
        drop(driver);
        assert_eq!(now(user.read(&mut [0; 8])).unwrap(), 0);

        let (mut user, driver) = pipe(8);
        drop(driver);
        assert_eq!(now(user.read(&mut [0; 8])).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}
