//! One task per socket: both directions of a TCP connection or of an in-memory pipe.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_channel::mpsc::UnboundedReceiver;
use futures_util::stream::StreamExt;
use linksocks_sansio::error::SocketError;
use linksocks_sansio::io::{LinkRequest, ReadCredit};
use linksocks_sansio::{Input, LinkId, ReadBuf, SocketId};

use super::link::{self, LinkCommand};
use super::{Inbox, unless_ended};
use crate::error::socket_error;
use crate::runtime::{Runtime, RuntimeStream, Timer};
use crate::transport::Connector;

/// How many writes go to the kernel in one call.
const MAX_SLICES: usize = 16;
/// How often a pump reads before it lets others run.
const READS_PER_POLL: usize = 16;
/// The rest of an allocation is worth another read from this size on.
const MIN_REST: usize = 4 * 1024;
/// How long a broken connection may wait for permission to read on.
const BROKEN_PATIENCE: Duration = Duration::from_secs(10);
/// The size of reads whose bytes nobody wants.
const DISCARD_CHUNK: usize = 16 * 1024;

/// What the owner tells the task of a socket. Carried out in order.
#[derive(Debug)]
pub enum StreamCommand {
    /// The engine takes an offered stream as a socket. The first command of such a stream; if the
    /// channel is closed instead, the stream is dropped.
    Adopt {
        /// The socket.
        socket: SocketId,
        /// Permission to read.
        read: ReadCredit,
    },
    /// See [`Output::Write`](linksocks_sansio::Output::Write).
    Write(Bytes),
    /// See [`Output::Read`](linksocks_sansio::Output::Read).
    Read(ReadCredit),
    /// See [`Output::Revoke`](linksocks_sansio::Output::Revoke).
    Revoke,
    /// See [`Action::ShutdownWrite`](linksocks_sansio::Action::ShutdownWrite).
    ShutdownWrite,
    /// See [`Action::Close`](linksocks_sansio::Action::Close).
    Close {
        /// The longest time for all of it.
        linger: Duration,
    },
    /// See [`Action::Reset`](linksocks_sansio::Action::Reset).
    Reset,
    /// See [`Action::OpenLink`](linksocks_sansio::Action::OpenLink).
    OpenLink(Box<OpenLink>),
}

impl StreamCommand {
    /// Whether nothing of the socket is wanted any more.
    fn is_final(&self) -> bool {
        matches!(self, Self::Close { .. } | Self::Reset)
    }
}

/// The stream of a socket goes on as a link.
#[derive(Debug)]
pub struct OpenLink {
    /// The link.
    pub link: LinkId,
    /// Secures the connection, if so requested.
    pub connector: Connector,
    /// The upgrade request to send.
    pub request: LinkRequest,
    /// The commands of the link.
    pub commands: UnboundedReceiver<LinkCommand>,
}

/// Connects to `address`, then pumps.
pub async fn connect<R: Runtime>(
    runtime: R,
    socket: SocketId,
    address: SocketAddr,
    read: ReadCredit,
    mut commands: UnboundedReceiver<StreamCommand>,
    inbox: Inbox,
) {
    let mut early = Vec::new();
    let connected =
        unless_ended(runtime.connect(address), &mut commands, &mut early, StreamCommand::is_final).await;
    match connected {
        Ok(Ok(stream)) => {
            // An option that can't be set means a dead connection; reading will tell.
            let _ = stream.set_nodelay();
            inbox.put(Input::SocketOpened { socket });
            Pump::new(runtime, socket, stream, read, commands, inbox).run(early).await;
        }
        Ok(Err(error)) => inbox.put(Input::SocketFailed { socket, error: socket_error(&error) }),
        Err(Some(_)) => inbox.put(Input::SocketClosed { socket }),
        Err(None) => {}
    }
}

/// Holds `stream` until the engine adopts it, then pumps.
pub async fn offer<R: Runtime, S: RuntimeStream>(
    runtime: R,
    stream: S,
    mut commands: UnboundedReceiver<StreamCommand>,
    inbox: Inbox,
) {
    if let Some(StreamCommand::Adopt { socket, read }) = commands.next().await {
        Pump::new(runtime, socket, stream, read, commands, inbox).run(Vec::new()).await;
    }
}

struct Pump<R, S> {
    runtime: R,
    socket: SocketId,
    stream: S,
    commands: UnboundedReceiver<StreamCommand>,
    inbox: Inbox,

    credit: ReadCredit,
    /// Empty, or the headroom of the next read and space behind it.
    memory: BytesMut,
    eof: bool,

    queue: VecDeque<Bytes>,
    write_half: WriteHalf,

    /// Set by [`StreamCommand::Close`]; runs until the descriptor is released in any case.
    closing: Option<Timer>,
    /// Runs while a broken connection waits for permission to read what is left in it.
    patience: Option<Timer>,
    /// Set by [`StreamCommand::OpenLink`]; waits for the last write.
    upgrade: Option<Box<OpenLink>>,
}

#[derive(Clone, Copy, PartialEq)]
enum WriteHalf {
    Open,
    /// To be shut down when the queue is empty.
    Ending,
    Shut,
    /// The connection is broken, but may hold bytes that the other end sent before.
    Broken(SocketError),
}

/// How a pump ends.
enum End {
    /// Release the descriptor.
    Closed,
    /// Release it with RST.
    Reset,
    Failed(SocketError),
    Upgraded(Box<OpenLink>),
    /// The owner is gone.
    Orphaned,
}

impl<R: Runtime, S: RuntimeStream> Pump<R, S> {
    fn new(
        runtime: R,
        socket: SocketId,
        stream: S,
        credit: ReadCredit,
        commands: UnboundedReceiver<StreamCommand>,
        inbox: Inbox,
    ) -> Self {
        Self {
            runtime,
            socket,
            stream,
            commands,
            inbox,
            credit,
            memory: BytesMut::new(),
            eof: false,
            queue: VecDeque::new(),
            write_half: WriteHalf::Open,
            closing: None,
            patience: None,
            upgrade: None,
        }
    }

    async fn run(mut self, early: Vec<StreamCommand>) {
        for command in early {
            self.apply(command);
        }
        let end = poll_fn(|cx| self.poll(cx)).await;
        let Self { runtime, socket, stream, inbox, .. } = self;
        match end {
            End::Closed => {
                drop(stream);
                inbox.put(Input::SocketClosed { socket });
            }
            End::Reset => {
                stream.reset();
                inbox.put(Input::SocketClosed { socket });
            }
            End::Failed(error) => {
                drop(stream);
                inbox.put(Input::SocketFailed { socket, error });
            }
            End::Upgraded(upgrade) => {
                let OpenLink { link, connector, request, commands } = *upgrade;
                runtime.clone().spawn(link::open(runtime, stream, connector, link, request, commands, inbox));
            }
            End::Orphaned => stream.reset(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            match self.commands.poll_next_unpin(cx) {
                Poll::Ready(Some(StreamCommand::Reset)) => return Poll::Ready(End::Reset),
                Poll::Ready(Some(command)) => self.apply(command),
                // Nobody is left, except that a close that was ordered is carried out, so that the
                // last bytes arrive, and that a link has commands of its own.
                Poll::Ready(None) if self.closing.is_none() && self.upgrade.is_none() => {
                    return Poll::Ready(End::Orphaned);
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if let Some(timer) = &mut self.closing
            && timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(if self.write_half == WriteHalf::Shut { End::Closed } else { End::Reset });
        }
        if let Err(error) = self.write(cx)
            && let Some(end) = self.write_failed(error)
        {
            return Poll::Ready(end);
        }
        if self.queue.is_empty()
            && let Some(upgrade) = self.upgrade.take()
        {
            return Poll::Ready(End::Upgraded(upgrade));
        }
        if self.closing.is_some() { self.poll_discard(cx) } else { self.poll_read(cx) }
    }

    fn apply(&mut self, command: StreamCommand) {
        match command {
            StreamCommand::Write(data) => {
                if self.write_half == WriteHalf::Open {
                    self.queue.push_back(data);
                }
            }
            StreamCommand::Read(credit) => {
                self.credit.bytes += credit.bytes;
                self.credit.chunk = credit.chunk;
                self.patience = None;
            }
            StreamCommand::Revoke => {
                let bytes = std::mem::take(&mut self.credit.bytes);
                self.inbox.put(Input::Revoked { socket: self.socket, bytes });
            }
            StreamCommand::ShutdownWrite => self.end_write_half(),
            StreamCommand::Close { linger } => {
                self.end_write_half();
                self.memory = BytesMut::new();
                self.closing = Some(Box::pin(self.runtime.sleep(linger)));
            }
            StreamCommand::OpenLink(upgrade) => self.upgrade = Some(upgrade),
            // Handled before: the one by `offer`, the other by `poll`.
            StreamCommand::Adopt { .. } | StreamCommand::Reset => {}
        }
    }

    fn end_write_half(&mut self) {
        if self.write_half == WriteHalf::Open {
            self.write_half = WriteHalf::Ending;
        }
    }

    /// Writes as much as the kernel takes, then shuts down the write half if that is due.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), SocketError> {
        let mut written = 0;
        let result = loop {
            if self.queue.is_empty() {
                break self.shut_down(cx);
            }
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            for (slice, data) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(data);
                count += 1;
            }
            match Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count]) {
                Poll::Ready(Ok(0)) => break Err(SocketError::BrokenPipe),
                Poll::Ready(Ok(length)) => {
                    written += length;
                    self.written(length);
                }
                Poll::Ready(Err(error)) => break Err(socket_error(&error)),
                Poll::Pending => break Ok(()),
            }
        };
        if written > 0 {
            self.inbox.put(Input::SocketWritten { socket: self.socket, bytes: written });
        }
        result
    }

    /// Takes written bytes off the queue.
    fn written(&mut self, mut length: usize) {
        while let Some(data) = self.queue.front_mut() {
            if length < data.len() {
                data.advance(length);
                return;
            }
            length -= data.len();
            self.queue.pop_front();
        }
    }

    fn shut_down(&mut self, cx: &mut Context<'_>) -> Result<(), SocketError> {
        if self.write_half == WriteHalf::Ending {
            match Pin::new(&mut self.stream).poll_close(cx) {
                Poll::Ready(Ok(())) => self.write_half = WriteHalf::Shut,
                // There is no connection any more that could be told; reading tells why.
                Poll::Ready(Err(error)) if error.kind() == ErrorKind::NotConnected => {
                    self.write_half = WriteHalf::Shut;
                }
                Poll::Ready(Err(error)) => return Err(socket_error(&error)),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    /// A peer may have sent its answer, and then closed before it read all that we send: what came
    /// in before the RST is still to be read, so the failure is reported after it.
    fn write_failed(&mut self, error: SocketError) -> Option<End> {
        if self.closing.is_some() {
            return Some(End::Closed);
        }
        self.queue.clear();
        self.write_half = WriteHalf::Broken(error);
        let readable = matches!(error, SocketError::Reset | SocketError::BrokenPipe) && !self.eof;
        (!readable).then_some(End::Failed(error))
    }

    /// Reads while there is credit.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut reads = 0;
        while self.credit.bytes > 0 && !self.eof && self.upgrade.is_none() {
            if reads == READS_PER_POLL {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            reads += 1;
            match self.read(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(self.read_failed(error)),
                Poll::Pending => {
                    // An idle socket holds no buffer.
                    self.memory = BytesMut::new();
                    return Poll::Pending;
                }
            }
        }
        match self.write_half {
            WriteHalf::Broken(error) if self.eof => Poll::Ready(End::Failed(error)),
            WriteHalf::Broken(error) if self.credit.bytes == 0 => {
                // Perhaps nobody ever grants more: the other end may write, in vain, before it reads.
                let runtime = &self.runtime;
                let patience = self.patience.get_or_insert_with(|| Box::pin(runtime.sleep(BROKEN_PATIENCE)));
                patience.as_mut().poll(cx).map(|()| End::Failed(error))
            }
            WriteHalf::Open | WriteHalf::Ending | WriteHalf::Shut | WriteHalf::Broken(_) => Poll::Pending,
        }
    }

    /// Reads once and reports it.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        match self.stream.poll_readable(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(socket_error(&error))),
            Poll::Pending => return Poll::Pending,
        }
        let max = self.credit.bytes.min(self.credit.chunk).max(1);
        if self.memory.is_empty() {
            self.memory = ReadBuf::headroom(max);
        }
        match self.stream.poll_read_buf(cx, &mut self.memory, max) {
            Poll::Ready(Ok(0)) => self.read_eof(),
            Poll::Ready(Ok(length)) => {
                self.credit.bytes -= length;
                let buf = ReadBuf::new(self.memory.split());
                self.inbox.put(Input::SocketRead { socket: self.socket, buf });
                self.keep_rest(length);
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(socket_error(&error))),
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(Ok(()))
    }

    /// Prepares the rest of the allocation for the next read, if one like the last one fits.
    fn keep_rest(&mut self, last: usize) {
        if self.memory.capacity() >= ReadBuf::HEADROOM + last.max(MIN_REST) {
            self.memory.resize(ReadBuf::HEADROOM, 0);
        } else {
            self.memory = BytesMut::new();
        }
    }

    fn read_eof(&mut self) {
        self.eof = true;
        self.memory = BytesMut::new();
        if !matches!(self.write_half, WriteHalf::Broken(_)) {
            self.inbox.put(Input::SocketEof { socket: self.socket });
        }
    }

    fn read_failed(&self, error: SocketError) -> End {
        match self.write_half {
            WriteHalf::Broken(first) => End::Failed(first),
            WriteHalf::Open | WriteHalf::Ending | WriteHalf::Shut => End::Failed(error),
        }
    }

    /// Reads what nobody wants until the other end has closed too. Goes on beside the last writes,
    /// so that an application that reads only after it has written gets there.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut scratch = BytesMut::new();
        for _ in 0..READS_PER_POLL {
            if self.eof {
                let done = matches!(self.write_half, WriteHalf::Shut | WriteHalf::Broken(_));
                return if done { Poll::Ready(End::Closed) } else { Poll::Pending };
            }
            match self.stream.poll_readable(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(End::Closed),
                Poll::Pending => return Poll::Pending,
            }
            scratch.clear();
            scratch.reserve(DISCARD_CHUNK);
            match self.stream.poll_read_buf(cx, &mut scratch, DISCARD_CHUNK) {
                Poll::Ready(Ok(length)) => self.eof = length == 0,
                Poll::Ready(Err(_)) => return Poll::Ready(End::Closed),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
