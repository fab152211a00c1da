//! Datagrams in memory: what [`ClientHandle::open_udp`](crate::embed::ClientHandle::open_udp) gives
//! out.
//!
//! The engine takes the embedder for an application that speaks SOCKS, so each datagram carries a
//! SOCKS header in between.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_channel::mpsc;
use futures_core::Stream as _;
use futures_util::StreamExt as _;
use linksocks_sansio::config::Limits;
use linksocks_sansio::socks5::{Datagram, Reply, TargetAddr};

use crate::runtime::RuntimeDatagrams;

/// How many datagrams wait in each direction.
const CAPACITY: usize = 64;

/// A connected pair.
#[must_use]
pub fn pipe() -> (DatagramChannel, DatagramEnd) {
    let (up, from_embedder) = mpsc::channel(CAPACITY);
    let (to_embedder, down) = mpsc::channel(CAPACITY);
    let channel = DatagramChannel { sender: DatagramSender(up), receiver: DatagramReceiver(down) };
    (channel, DatagramEnd { from_embedder, to_embedder })
}

/// The embedder's end of a UDP association. Dropping it ends the association.
#[derive(Debug)]
pub struct DatagramChannel {
    sender: DatagramSender,
    receiver: DatagramReceiver,
}

impl DatagramChannel {
    /// See [`DatagramSender::send_to`].
    ///
    /// # Errors
    /// As there.
    pub async fn send_to(&mut self, payload: impl Into<Bytes>, target: TargetAddr) -> io::Result<()> {
        self.sender.send_to(payload, target).await
    }

    /// See [`DatagramReceiver::recv_from`].
    pub async fn recv_from(&mut self) -> Option<(Bytes, TargetAddr)> {
        self.receiver.recv_from().await
    }

    /// Takes both directions apart, for use in different tasks.
    #[must_use]
    pub fn split(self) -> (DatagramSender, DatagramReceiver) {
        (self.sender, self.receiver)
    }
}

/// Sends datagrams. The association ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct DatagramSender(mpsc::Sender<Bytes>);

impl DatagramSender {
    /// Sends a datagram; waits while many others do. A name is looked up by the dial side. Whether it
    /// arrives is as uncertain as with any UDP socket.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if the target can't be one or the payload has more than
    /// [`Limits::MAX_DATAGRAM`] bytes, [`io::ErrorKind::BrokenPipe`] if the association has ended.
    pub async fn send_to(&mut self, payload: impl Into<Bytes>, target: TargetAddr) -> io::Result<()> {
        let payload = payload.into();
        if payload.len() > Limits::MAX_DATAGRAM {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the datagram is too long"));
        }
        let datagram = Datagram { address: target, payload }.encode();
        let datagram = datagram.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        poll_fn(|cx| self.0.poll_ready(cx)).await.map_err(ended)?;
        self.0.start_send(datagram).map_err(ended)
    }
}

/// Receives datagrams.
#[derive(Debug)]
pub struct DatagramReceiver(mpsc::Receiver<Bytes>);

impl DatagramReceiver {
    /// The next datagram and where it came from; `None` when the association has ended. Who receives
    /// too slowly misses some.
    pub async fn recv_from(&mut self) -> Option<(Bytes, TargetAddr)> {
        loop {
            // What the engine sends is well-formed.
            if let Ok(Datagram { address, payload }) = Datagram::decode(&self.0.next().await?) {
                return Some((payload, address));
            }
        }
    }
}

/// The driver's end of a UDP association.
#[derive(Debug)]
pub struct DatagramEnd {
    /// Dropped first: who has been told of the end can't send any more.
    from_embedder: mpsc::Receiver<Bytes>,
    to_embedder: mpsc::Sender<Bytes>,
}

impl RuntimeDatagrams for DatagramEnd {
    /// Always: there is no buffer to be saved.
    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<(Bytes, SocketAddr)>> {
        let next = ready!(Pin::new(&mut self.from_embedder).poll_next(cx));
        Poll::Ready(match next {
            Some(datagram) => Ok((datagram, Reply::NO_ADDRESS)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        })
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, payload: &Bytes, _: SocketAddr) -> Poll<io::Result<()>> {
        ready!(self.to_embedder.poll_ready(cx)).map_err(ended)?;
        Poll::Ready(self.to_embedder.start_send(payload.clone()).map_err(ended))
    }
}

fn ended(_: mpsc::SendError) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}
