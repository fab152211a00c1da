//! LinkSocks on async-std: the [`Runtime`] of `driver-core`, and its API for embedders.
//!
//! async-std is discontinued (RUSTSEC-2025-0052). This crate is for programs that use it already;
//! new ones had better take tokio, or smol by way of `examples/smol_driver.rs`.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, ToSocketAddrs as _};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use async_std::net::{TcpListener, TcpStream, UdpSocket};
use async_std::task;
use bytes::Bytes;
use driver_core::runtime::{Accepted, Runtime, RuntimeDatagrams, RuntimeStream};
use futures_io::{AsyncRead, AsyncWrite};
use socket2::{SockRef, TcpKeepalive};

pub use driver_core::embed::{
    Client, ClientBuilder, ClientHandle, DatagramChannel, DatagramReceiver, DatagramSender, Events,
    PipeStream, Server, ServerBuilder, ServerHandle, StartError, Tap,
};
#[cfg(feature = "tls")]
pub use driver_core::embed::{ClientTls, ServerTls, TlsError};
pub use driver_core::linksocks_sansio;

/// Runs on async-std, whose runtime is a global one.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsyncStdRuntime;

impl Runtime for AsyncStdRuntime {
    type Stream = AsyncStdStream;
    type Listener = TcpListener;
    type Datagrams = AsyncStdDatagrams;

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        task::spawn(task);
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + Sync + 'static {
        task::sleep(duration)
    }

    async fn resolve(&self, host: String) -> io::Result<Vec<IpAddr>> {
        // That of async-std keeps the resolver's reason to itself.
        let addresses = task::spawn_blocking(move || (host.as_str(), 0).to_socket_addrs()).await?;
        Ok(addresses.map(|address| address.ip()).collect())
    }

    async fn listen(&self, address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        Ok((listener, local))
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<Accepted<AsyncStdStream>> {
        let (stream, peer) = listener.accept().await?;
        let local = stream.local_addr()?;
        Ok(Accepted { stream: stream.into(), local, peer })
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<AsyncStdStream> {
        TcpStream::connect(address).await.map(AsyncStdStream::from)
    }

    async fn bind(&self, address: SocketAddr) -> io::Result<(AsyncStdDatagrams, SocketAddr)> {
        let socket = UdpSocket::bind(address).await?;
        let local = socket.local_addr()?;
        Ok((AsyncStdDatagrams { socket: Arc::new(socket), peek: None, sent: None }, local))
    }
}

/// A call of async-std that goes on from poll to poll. async-std has futures, not polls, and forgets
/// who waits when a future is dropped.
type Call = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Continues `call`, or begins it.
fn poll_call<F>(
    call: &mut Option<Call>,
    cx: &mut Context<'_>,
    begin: impl FnOnce() -> F,
) -> Poll<io::Result<()>>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let result = ready!(call.get_or_insert_with(|| Box::pin(begin())).as_mut().poll(cx));
    *call = None;
    Poll::Ready(result)
}

/// A TCP connection on async-std.
pub struct AsyncStdStream {
    stream: TcpStream,
    /// There may be something to read. Saves asking the kernel before each read.
    readable: bool,
    /// A peek: the only thing in async-std that waits without taking.
    peek: Option<Call>,
}

impl From<TcpStream> for AsyncStdStream {
    fn from(stream: TcpStream) -> Self {
        Self { stream, readable: true, peek: None }
    }
}

impl RuntimeStream for AsyncStdStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.readable {
            let stream = &self.stream;
            ready!(poll_call(&mut self.peek, cx, || {
                let stream = stream.clone();
                async move { stream.peek(&mut [0]).await.map(drop) }
            }))?;
            self.readable = true;
        }
        Poll::Ready(Ok(()))
    }

    fn set_nodelay(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)
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

impl AsyncRead for AsyncStdStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        // Less than there is room for: that was all.
        self.readable = matches!(read, Poll::Ready(Ok(length)) if length == buf.len());
        read
    }
}

impl AsyncWrite for AsyncStdStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// That of async-std only flushes.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(Shutdown::Write))
    }
}

/// A UDP socket on async-std.
pub struct AsyncStdDatagrams {
    socket: Arc<UdpSocket>,
    /// As that of a stream.
    peek: Option<Call>,
    /// The datagram that the kernel had no room for.
    sent: Option<Call>,
}

impl RuntimeDatagrams for AsyncStdDatagrams {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = &self.socket;
        poll_call(&mut self.peek, cx, || {
            let socket = Arc::clone(socket);
            async move {
                // What went wrong, if anything did, is for the one who receives.
                let _ = socket.peek_from(&mut [0]).await;
                Ok(())
            }
        })
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(Bytes, SocketAddr)>> {
        loop {
            if let Poll::Ready(result) = now(self.socket.recv_from(buffer)) {
                let (length, from) = result?;
                return Poll::Ready(Ok((Bytes::copy_from_slice(&buffer[..length]), from)));
            }
            ready!(self.poll_readable(cx))?;
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, payload: &Bytes, to: SocketAddr) -> Poll<io::Result<()>> {
        if self.sent.is_none()
            && let Poll::Ready(result) = now(self.socket.send_to(payload, to))
        {
            return Poll::Ready(result.map(drop));
        }
        let socket = &self.socket;
        poll_call(&mut self.sent, cx, || {
            let (socket, payload) = (Arc::clone(socket), payload.clone());
            async move { socket.send_to(&payload, to).await.map(drop) }
        })
    }
}

/// What a call achieves without waiting. It leaves nobody to be woken.
fn now<T>(call: impl Future<Output = T>) -> Poll<T> {
    pin!(call).poll(&mut Context::from_waker(Waker::noop()))
}
