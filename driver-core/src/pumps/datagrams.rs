//! One task per datagram socket: both directions of a UDP socket or of an in-memory pipe.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_channel::mpsc::UnboundedReceiver;
use futures_util::stream::StreamExt;
use linksocks_sansio::error::SocketError;
use linksocks_sansio::{Input, SocketId};

use super::{Inbox, unless_ended};
use crate::error::socket_error;
use crate::runtime::{Runtime, RuntimeDatagrams};

/// No datagram is longer.
const LONGEST: usize = 65_535;
/// How many buffers are kept for later.
const SPARE_BUFFERS: usize = 4;
/// How often a pump receives before it lets others run.
const RECEIVES_PER_POLL: usize = 32;

/// What the owner tells the task of a datagram socket. Carried out in order.
#[derive(Debug)]
pub enum DatagramCommand {
    /// The engine takes an in-memory pipe as a socket. Its first command; if the channel is closed
    /// instead, the pipe is dropped.
    Adopt {
        /// The socket.
        socket: SocketId,
    },
    /// See [`Output::ReceiveDatagrams`](linksocks_sansio::Output::ReceiveDatagrams).
    Receive(usize),
    /// See [`Output::SendDatagram`](linksocks_sansio::Output::SendDatagram).
    Send {
        /// Where to.
        to: SocketAddr,
        /// The datagram.
        payload: Bytes,
    },
    /// See [`Action::Close`](linksocks_sansio::Action::Close). What the kernel does not take at once
    /// is lost.
    Close,
}

/// Memory to receive into, shared by all sockets, so that an idle one holds none. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Buffers(Arc<Mutex<Vec<Box<[u8]>>>>);

impl Buffers {
    fn take(&self) -> Box<[u8]> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| vec![0; LONGEST].into_boxed_slice())
    }

    fn put(&self, buffer: Box<[u8]>) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_BUFFERS {
            spare.push(buffer);
        }
    }
}

/// Binds a socket, then pumps.
pub async fn bind<R: Runtime>(
    runtime: R,
    socket: SocketId,
    address: SocketAddr,
    mut commands: UnboundedReceiver<DatagramCommand>,
    inbox: Inbox,
    buffers: Buffers,
) {
    let mut early = Vec::new();
    let is_final = |command: &DatagramCommand| matches!(command, DatagramCommand::Close);
    match unless_ended(runtime.bind(address), &mut commands, &mut early, is_final).await {
        Ok(Ok((datagrams, local))) => {
            inbox.put(Input::SocketBound { socket, local });
            Pump::new(socket, datagrams, commands, inbox, buffers).run(early).await;
        }
        Ok(Err(error)) => inbox.put(Input::SocketFailed { socket, error: socket_error(&error) }),
        Err(Some(_)) => inbox.put(Input::SocketClosed { socket }),
        Err(None) => {}
    }
}

/// Holds an in-memory pipe until the engine adopts it, then pumps.
pub async fn offer<D: RuntimeDatagrams>(
    datagrams: D,
    mut commands: UnboundedReceiver<DatagramCommand>,
    inbox: Inbox,
    buffers: Buffers,
) {
    if let Some(DatagramCommand::Adopt { socket }) = commands.next().await {
        Pump::new(socket, datagrams, commands, inbox, buffers).run(Vec::new()).await;
    }
}

struct Pump<D> {
    socket: SocketId,
    datagrams: D,
    commands: UnboundedReceiver<DatagramCommand>,
    inbox: Inbox,
    buffers: Buffers,
    /// How many datagrams may be received.
    credit: usize,
    /// Nothing will be received any more.
    eof: bool,
    queue: VecDeque<(SocketAddr, Bytes)>,
    closing: bool,
}

/// How a pump ends.
enum End {
    Closed,
    Failed(SocketError),
    /// The owner is gone.
    Orphaned,
}

impl<D: RuntimeDatagrams> Pump<D> {
    fn new(
        socket: SocketId,
        datagrams: D,
        commands: UnboundedReceiver<DatagramCommand>,
        inbox: Inbox,
        buffers: Buffers,
    ) -> Self {
        let queue = VecDeque::new();
        Self { socket, datagrams, commands, inbox, buffers, credit: 0, eof: false, queue, closing: false }
    }

    async fn run(mut self, early: Vec<DatagramCommand>) {
        for command in early {
            self.apply(command);
        }
        let end = poll_fn(|cx| self.poll(cx)).await;
        let Self { socket, datagrams, inbox, .. } = self;
        drop(datagrams);
        match end {
            End::Closed => inbox.put(Input::SocketClosed { socket }),
            End::Failed(error) => inbox.put(Input::SocketFailed { socket, error }),
            End::Orphaned => {}
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        while let Poll::Ready(command) = self.commands.poll_next_unpin(cx) {
            match command {
                Some(command) => self.apply(command),
                None if self.closing => break,
                None => return Poll::Ready(End::Orphaned),
            }
        }
        self.send(cx);
        if self.closing {
            return Poll::Ready(End::Closed);
        }
        self.poll_receive(cx)
    }

    fn apply(&mut self, command: DatagramCommand) {
        match command {
            DatagramCommand::Receive(count) => self.credit += count,
            DatagramCommand::Send { to, payload } => self.queue.push_back((to, payload)),
            DatagramCommand::Close => self.closing = true,
            // Handled before, by `offer`.
            DatagramCommand::Adopt { .. } => {}
        }
    }

    /// Sends as much as the kernel takes.
    fn send(&mut self, cx: &mut Context<'_>) {
        let (mut count, mut failed) = (0, 0);
        while let Some((to, payload)) = self.queue.front() {
            match self.datagrams.poll_send(cx, payload, *to) {
                Poll::Ready(Ok(())) => {}
                // This one can't be sent, which says nothing about the next one.
                Poll::Ready(Err(_)) => failed += 1,
                Poll::Pending => break,
            }
            count += 1;
            self.queue.pop_front();
        }
        if count > 0 {
            self.inbox.put(Input::DatagramsSent { socket: self.socket, count, failed });
        }
    }

    /// Receives while there is credit.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.credit == 0 || self.eof {
            return Poll::Pending;
        }
        // An idle socket holds no buffer.
        match self.datagrams.poll_readable(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(End::Failed(socket_error(&error))),
            Poll::Pending => return Poll::Pending,
        }
        let mut buffer = self.buffers.take();
        let end = self.receive_into(cx, &mut buffer);
        self.buffers.put(buffer);
        end
    }

    fn receive_into(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<End> {
        for _ in 0..RECEIVES_PER_POLL {
            if self.credit == 0 || self.eof {
                return Poll::Pending;
            }
            match self.datagrams.poll_receive(cx, buffer) {
                Poll::Ready(Ok((payload, from))) => {
                    self.credit -= 1;
                    self.inbox.put(Input::DatagramReceived { socket: self.socket, from, payload });
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.eof = true;
                    self.inbox.put(Input::SocketEof { socket: self.socket });
                }
                Poll::Ready(Err(error)) if is_echo(&error) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(End::Failed(socket_error(&error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Whether an error tells what became of an earlier datagram, as Windows does when nobody listened
/// where it went. The socket is as good as before.
fn is_echo(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused)
}
