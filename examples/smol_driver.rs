//! LinkSocks on smol: everything that a runtime has to implement.

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use driver_core::runtime::{Accepted, Runtime, RuntimeDatagrams, RuntimeStream};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::FutureExt;
use smol::{Async, Timer};
use socket2::{SockRef, TcpKeepalive};

/// Runs on smol's global executor.
#[derive(Clone, Copy, Debug, Default)]
pub struct SmolRuntime;

impl Runtime for SmolRuntime {
    type Stream = SmolStream;
    type Listener = Async<TcpListener>;
    type Datagrams = SmolDatagrams;

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(task).detach();
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + Sync + 'static {
        Timer::after(duration).map(drop)
    }

    async fn resolve(&self, host: String) -> io::Result<Vec<IpAddr>> {
        let addresses = smol::net::resolve((host, 0)).await?;
        Ok(addresses.iter().map(SocketAddr::ip).collect())
    }

    async fn listen(&self, address: SocketAddr) -> io::Result<(Self::Listener, SocketAddr)> {
        let listener = Async::<TcpListener>::bind(address)?;
        let local = listener.get_ref().local_addr()?;
        Ok((listener, local))
    }

    async fn accept(&self, listener: &Self::Listener) -> io::Result<Accepted<SmolStream>> {
        let (stream, peer) = listener.accept().await?;
        let local = stream.get_ref().local_addr()?;
        Ok(Accepted { stream: stream.into(), local, peer })
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<SmolStream> {
        Async::<TcpStream>::connect(address).await.map(SmolStream::from)
    }

    async fn bind(&self, address: SocketAddr) -> io::Result<(SmolDatagrams, SocketAddr)> {
        let socket = Async::<UdpSocket>::bind(address)?;
        let local = socket.get_ref().local_addr()?;
        Ok((SmolDatagrams(socket), local))
    }
}

/// A TCP connection on smol.
#[derive(Debug)]
pub struct SmolStream {
    stream: Async<TcpStream>,
    /// There may be something to read. Saves asking the kernel before each read.
    readable: bool,
}

impl From<Async<TcpStream>> for SmolStream {
    fn from(stream: Async<TcpStream>) -> Self {
        Self { stream, readable: true }
    }
}

impl RuntimeStream for SmolStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.readable {
            // Begins with what the kernel holds already, whatever has been told before.
            ready!(self.stream.poll_readable(cx))?;
            self.readable = true;
        }
        Poll::Ready(Ok(()))
    }

    fn set_nodelay(&self) -> io::Result<()> {
        self.stream.get_ref().set_nodelay(true)
    }

    fn set_keepalive(&self, idle: Duration, interval: Duration) -> io::Result<()> {
        let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval);
        SockRef::from(&self.stream).set_tcp_keepalive(&keepalive)
    }

    fn reset(self) {
        // If the option can't be set, the connection is dead already.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

impl AsyncRead for SmolStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        // Less than there is room for: that was all.
        self.readable = matches!(read, Poll::Ready(Ok(length)) if length == buf.len());
        read
    }
}

impl AsyncWrite for SmolStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.get_ref().shutdown(Shutdown::Write))
    }
}

/// A UDP socket on smol.
#[derive(Debug)]
pub struct SmolDatagrams(Async<UdpSocket>);

impl RuntimeDatagrams for SmolDatagrams {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_readable(cx)
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(Bytes, SocketAddr)>> {
        let received = attempt(|| self.0.get_ref().recv_from(buffer), || self.0.poll_readable(cx));
        let (length, from) = ready!(received)?;
        Poll::Ready(Ok((Bytes::copy_from_slice(&buffer[..length]), from)))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, payload: &Bytes, to: SocketAddr) -> Poll<io::Result<()>> {
        let sent = attempt(|| self.0.get_ref().send_to(payload, to), || self.0.poll_writable(cx));
        sent.map_ok(drop)
    }
}

/// Calls the kernel, again when it says that it is worth it. smol tells only what has changed since
/// the last time, so the call comes first.
fn attempt<T>(
    mut call: impl FnMut() -> io::Result<T>,
    mut poll_ready: impl FnMut() -> Poll<io::Result<()>>,
) -> Poll<io::Result<T>> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => ready!(poll_ready())?,
            result => return Poll::Ready(result),
        }
    }
}

/// Compiles the guide.
#[cfg(doctest)]
#[doc = include_str!("../docs/bring-your-own-runtime.md")]
struct Guide;
