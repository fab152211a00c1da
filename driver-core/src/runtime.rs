//! What a driver needs of an async runtime, and nothing else.
//!
//! A driver for another runtime implements [`Runtime`] and [`RuntimeStream`], about 150 lines, and
//! gets everything else of this crate.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_io::{AsyncRead, AsyncWrite};

/// A sleep that can be stored.
pub type Timer = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Tasks, time, names, TCP and UDP of an async runtime. Cheap to clone.
pub trait Runtime: Clone + Send + Sync + 'static {
    /// A TCP connection.
    type Stream: RuntimeStream;
    /// A listening TCP socket; closed when dropped.
    type Listener: Send + Sync + 'static;
    /// A UDP socket; closed when dropped.
    type Datagrams: RuntimeDatagrams;

    /// Runs `task` to its end, independent of the caller.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);

    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + Sync + 'static;

    /// The clock that [`Runtime::sleep`] runs on.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Looks up the addresses of a host name.
    ///
    /// # Errors
    /// Those of the system's resolver.
    fn resolve(&self, host: String) -> impl Future<Output = io::Result<Vec<IpAddr>>> + Send;

    /// Binds a listener. Returns it with its address, which has the port that the system chose for
    /// port 0.
    ///
    /// # Errors
    /// Those of `bind` and `listen`.
    fn listen(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<(Self::Listener, SocketAddr)>> + Send;

    /// Accepts one connection. Dropping the future loses none.
    ///
    /// # Errors
    /// Those of `accept`; none of them means that the listener is broken.
    fn accept<'a>(
        &'a self,
        listener: &'a Self::Listener,
    ) -> impl Future<Output = io::Result<Accepted<Self::Stream>>> + Send + 'a;

    /// Opens a connection. Dropping the future gives up.
    ///
    /// # Errors
    /// Those of `connect`.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Binds a UDP socket. Returns it with its address, which has the port that the system chose for
    /// port 0.
    ///
    /// # Errors
    /// Those of `bind`.
    fn bind(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<(Self::Datagrams, SocketAddr)>> + Send;
}

/// A connection that came in.
#[derive(Debug)]
pub struct Accepted<S> {
    /// The connection.
    pub stream: S,
    /// Our address of it.
    pub local: SocketAddr,
    /// The other end's address.
    pub peer: SocketAddr,
}

/// A byte stream whose two directions are polled by one task.
///
/// Closing ([`AsyncWrite::poll_close`]) shuts down the write half only. Dropping releases the
/// descriptor as `close(2)` does.
pub trait RuntimeStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Ready when a read will not wait: there is data, EOF or an error. An idle stream needs no
    /// buffer this way.
    ///
    /// # Errors
    /// The stream is broken; a read would say so too.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads at most `max` bytes, and no more than fit, into the spare capacity of `buf`, which the
    /// caller has reserved. Returns how many; 0 means EOF.
    ///
    /// Safe code can't lend memory that is not initialised, so this zeroes it first. A runtime that
    /// knows a way without does better.
    ///
    /// # Errors
    /// Those of `read`.
    fn poll_read_buf(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        let start = buf.len();
        buf.resize(start + max.min(buf.capacity() - start), 0);
        let read = Pin::new(self).poll_read(cx, &mut buf[start..]);
        let length = if let Poll::Ready(Ok(length)) = read { length } else { 0 };
        buf.truncate(start + length);
        read
    }

    /// Sends small segments at once (`TCP_NODELAY`).
    ///
    /// # Errors
    /// Those of `setsockopt`.
    fn set_nodelay(&self) -> io::Result<()>;

    /// Makes the kernel find out if the other end has vanished (`SO_KEEPALIVE`): it asks after `idle`
    /// without a sign of life, and then every `interval`. Nothing for streams that are no TCP
    /// connections.
    ///
    /// # Errors
    /// Those of `setsockopt`.
    fn set_keepalive(&self, idle: Duration, interval: Duration) -> io::Result<()> {
        let _ = (idle, interval);
        Ok(())
    }

    /// Drops what is unsent and releases the descriptor with RST (zero linger).
    fn reset(self);
}

/// A datagram socket whose two directions are polled by one task.
pub trait RuntimeDatagrams: Unpin + Send + 'static {
    /// Ready when a receive will probably not wait. An idle socket needs no buffer this way.
    ///
    /// # Errors
    /// The socket is broken.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Receives one datagram: its payload, and who sent it. `buffer` is memory that may be used on the
    /// way; it is long enough for every datagram.
    ///
    /// # Errors
    /// Those of `recvfrom`. [`io::ErrorKind::UnexpectedEof`] means that nothing will come any more,
    /// which only an in-memory pipe can know.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(Bytes, SocketAddr)>>;

    /// Sends one datagram. While this is pending, the caller comes back with the same one.
    ///
    /// # Errors
    /// Those of `sendto`; none of them means that the socket is broken.
    fn poll_send(&mut self, cx: &mut Context<'_>, payload: &Bytes, to: SocketAddr) -> Poll<io::Result<()>>;
}
