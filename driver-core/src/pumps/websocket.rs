//! The WebSocket layer (RFC 6455): async-tungstenite over any poll-based stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use futures_io::{AsyncRead, AsyncWrite};
use linksocks_sansio::config::Limits;

/// tungstenite zeroes this much before every read, and gets no larger pieces of memory for small
/// messages from `BytesMut` either.
const READ_BUFFER: usize = 64 * 1024;
/// Small messages are collected up to this size before they are written.
const WRITE_BUFFER: usize = 128 * 1024;

/// What may be read of a peer before it has authenticated: two of the longest messages that it may
/// send until then, with their frame headers, and a few pings.
const UNAUTHENTICATED_BYTES: usize = 2 * Limits::MAX_UNAUTHENTICATED_MESSAGE + 1024;

/// What is read of a peer before others run. Tiny fragments of one message never end a read otherwise, for as
/// long as the peer sends them.
const TURN: usize = 1024 * 1024;

/// A WebSocket.
pub(super) type WebSocket<S> = WebSocketStream<Metered<S>>;

/// A stream of which only so much is read at a time, and altogether until [`Metered::open`]: what is longer
/// than anything that an unauthenticated peer has to say stays in the kernel.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    /// What may still be read before others run.
    turn: usize,
    /// What may still be read; `None` = anything.
    left: Option<usize>,
}

impl<S> Metered<S> {
    fn new(stream: S, left: Option<usize>) -> Self {
        Self { stream, turn: TURN, left }
    }

    /// Others have run.
    pub(super) fn begin_turn(&mut self) {
        self.turn = TURN;
    }

    /// Lets everything through from now on. Whoever waits for more is not woken.
    pub(super) fn open(&mut self) {
        self.left = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let length = self.left.unwrap_or(usize::MAX).min(buf.len());
        if length == 0 {
            return Poll::Pending;
        }
        let length = length.min(self.turn);
        if length == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut buf[..length]);
        if let Poll::Ready(Ok(read)) = read {
            self.turn -= read;
            self.left = self.left.map(|left| left - read);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER + 2 * Limits::MAX_MESSAGE)
        .max_message_size(Some(Limits::MAX_MESSAGE))
        .max_frame_size(Some(Limits::MAX_MESSAGE))
}

/// The accepting side, after the upgrade. `read` came in behind the upgrade request.
pub(super) async fn accepted<S>(stream: S, read: Vec<u8>) -> WebSocket<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let left = Some(UNAUTHENTICATED_BYTES.saturating_sub(read.len()));
    WebSocketStream::from_partially_read(Metered::new(stream, left), read, Role::Server, Some(config())).await
}

/// The connecting side, after the upgrade. `read` came in behind the answer.
pub(super) async fn connected<S>(stream: S, read: Vec<u8>) -> WebSocket<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    WebSocketStream::from_partially_read(Metered::new(stream, None), read, Role::Client, Some(config())).await
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use futures_util::io::{AsyncReadExt, Cursor, repeat};

    use super::{Metered, TURN};

    #[test]
    fn no_more_than_the_limit_is_read_until_it_is_lifted() {
        let mut metered = Metered::new(Cursor::new([7; 100]), Some(60));
        let mut cx = Context::from_waker(Waker::noop());
        let mut buf = [0; 40];
        let mut read = |metered: &mut Metered<_>| {
            std::pin::pin!(metered.read(&mut buf)).poll(&mut cx).map(Result::unwrap)
        };
        assert_eq!(read(&mut metered), Poll::Ready(40));
        assert_eq!(read(&mut metered), Poll::Ready(20));
        assert_eq!(read(&mut metered), Poll::Pending);
        metered.open();
        assert_eq!(read(&mut metered), Poll::Ready(40));
        assert_eq!(read(&mut metered), Poll::Ready(0), "the end is seen");
    }

    #[test]
    fn others_run_in_between() {
        let mut metered = Metered::new(repeat(7), None);
        let mut cx = Context::from_waker(Waker::noop());
        let mut buf = [0; 4096];
        for _ in 0..2 {
            let mut total = 0;
            while let Poll::Ready(read) = std::pin::pin!(metered.read(&mut buf)).poll(&mut cx) {
                total += read.unwrap();
            }
            assert_eq!(total, TURN);
            metered.begin_turn();
        }
    }
}
