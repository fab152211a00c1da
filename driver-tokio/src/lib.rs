//! LinkSocks on tokio: the [`Runtime`] of `driver-core`, and its API for embedders.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use driver_core::runtime::{Accepted, Runtime, RuntimeDatagrams, RuntimeStream};
use futures_io::{AsyncRead, AsyncWrite};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead as _, AsyncWrite as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio_util::io::poll_read_buf;

pub use driver_core::embed::{
    Client, ClientBuilder, ClientHandle, DatagramChannel, DatagramReceiver, DatagramSender, Events,
    PipeStream, Server, ServerBuilder, ServerHandle, StartError, Tap,
};
#[cfg(feature = "tls")]
pub use driver_core::embed::{ClientTls, ServerTls, TlsError};
pub use driver_core::linksocks_sansio;

/// Runs on a tokio runtime.
#[derive(Clone, Debug)]
pub struct TokioRuntime {
    handle: Handle,
}

impl TokioRuntime {
    /// The runtime that the caller runs on; it needs `net` and `time`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn current() -> Self {
        Self { handle: Handle::current() }
    }
}

impl Runtime for TokioRuntime {
    type Stream = TokioStream;
    type Listener = TcpListener;
    type Datagrams = TokioDatagrams;

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + Sync + 'static {
        tokio::time::sleep(duration)
    }

    fn now(&self) -> std::time::Instant {
        tokio::time::Instant::now().into_std()
    }

    async fn resolve(&self, host: String) -> io::Result<Vec<IpAddr>> {
        let addresses = tokio::net::lookup_host((host, 0)).await?;
        Ok(addresses.map(|address| address.ip()).collect())
    }

    async fn listen(&self, address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        Ok((listener, local))
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<Accepted<TokioStream>> {
        let (stream, peer) = listener.accept().await?;
        let local = stream.local_addr()?;
        Ok(Accepted { stream: TokioStream(stream), local, peer })
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TokioStream> {
        TcpStream::connect(address).await.map(TokioStream)
    }

    async fn bind(&self, address: SocketAddr) -> io::Result<(TokioDatagrams, SocketAddr)> {
        let socket = UdpSocket::bind(address).await?;
        let local = socket.local_addr()?;
        Ok((TokioDatagrams(socket), local))
    }
}

/// A TCP connection on tokio.
#[derive(Debug)]
pub struct TokioStream(TcpStream);

impl From<TcpStream> for TokioStream {
    fn from(stream: TcpStream) -> Self {
        Self(stream)
    }
}

impl RuntimeStream for TokioStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(cx)
    }

    fn poll_read_buf(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<usize>> {
        poll_read_buf(Pin::new(&mut self.0), cx, &mut buf.limit(max))
    }

    fn set_nodelay(&self) -> io::Result<()> {
        self.0.set_nodelay(true)
    }

    fn set_keepalive(&self, idle: Duration, interval: Duration) -> io::Result<()> {
        let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval);
        SockRef::from(&self.0).set_tcp_keepalive(&keepalive)
    }

    fn reset(self) {
        // If the option can't be set, the connection is dead already.
        let _ = self.0.set_zero_linger();
    }
}

impl AsyncRead for TokioStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = tokio::io::ReadBuf::new(buf);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }
}

impl AsyncWrite for TokioStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A UDP socket on tokio.
#[derive(Debug)]
pub struct TokioDatagrams(UdpSocket);

impl RuntimeDatagrams for TokioDatagrams {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_recv_ready(cx)
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(Bytes, SocketAddr)>> {
        let mut buffer = tokio::io::ReadBuf::new(buffer);
        let from = ready!(self.0.poll_recv_from(cx, &mut buffer))?;
        Poll::Ready(Ok((Bytes::copy_from_slice(buffer.filled()), from)))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, payload: &Bytes, to: SocketAddr) -> Poll<io::Result<()>> {
        self.0.poll_send_to(cx, payload, to).map_ok(|_| ())
    }
}

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
