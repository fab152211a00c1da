//! The WebSocket layer (RFC 6455) over a poll-based stream.
//!
//! tungstenite is written for blocking streams. [`Blocking`] shows it one: what is pending becomes
//! [`WouldBlock`](io::ErrorKind::WouldBlock), and the waker was registered on the way. One waker is
//! enough, since one task does both directions.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_io::{AsyncRead, AsyncWrite};
use linksocks_sansio::config::Limits;
use linksocks_sansio::error::{LinkFailure, SocketError};
use linksocks_sansio::io::{LinkRequest, UpgradeResponse};
use linksocks_sansio::link::EXTENSIONS_HEADER;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::client::{Request, generate_key};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{ClientHandshake, Error, WebSocket};

use crate::error::socket_error;

/// tungstenite zeroes this much before every read, and gets no larger pieces of memory for small
/// messages from `BytesMut` either.
const READ_BUFFER: usize = 64 * 1024;
/// Small messages are collected up to this size before they are written.
const WRITE_BUFFER: usize = 128 * 1024;

/// A poll-based stream as a non-blocking one.
#[derive(Debug)]
pub(super) struct Blocking<S> {
    stream: S,
    waker: Waker,
}

impl<S> Blocking<S> {
    fn new(stream: S) -> Self {
        Self { stream, waker: Waker::noop().clone() }
    }

    /// Makes what follows wake the task of `cx`.
    pub(super) fn register(&mut self, cx: &Context<'_>) {
        self.waker.clone_from(cx.waker());
    }

    /// Gives access to the stream, past the WebSocket.
    pub(super) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }
}

fn ready<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<S: AsyncRead + Unpin> Read for Blocking<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        ready(Pin::new(&mut self.stream).poll_read(&mut Context::from_waker(&self.waker), buf))
    }
}

impl<S: AsyncWrite + Unpin> Write for Blocking<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        ready(Pin::new(&mut self.stream).poll_write(&mut Context::from_waker(&self.waker), buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        ready(Pin::new(&mut self.stream).poll_flush(&mut Context::from_waker(&self.waker)))
    }
}

/// Whether the call only has to be repeated when the stream is ready.
pub(super) fn would_block(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn config(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
}

/// The accepting side, after the upgrade. `read` came in behind the upgrade request. Until
/// [`raise_limit`] a message may be no longer than one that authenticates.
pub(super) fn accepted<S>(stream: S, read: Vec<u8>) -> WebSocket<Blocking<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = config(Limits::MAX_UNAUTHENTICATED_MESSAGE);
    WebSocket::from_partially_read(Blocking::new(stream), read, Role::Server, Some(config))
}

/// Accepts messages of any legal size from now on.
pub(super) fn raise_limit<S>(websocket: &mut WebSocket<Blocking<S>>) {
    websocket.set_config(|current| *current = config(Limits::MAX_MESSAGE));
}

/// Sends the upgrade request and reads the answer.
pub(super) async fn connect<S>(
    stream: S,
    request: &LinkRequest,
) -> Result<(WebSocket<Blocking<S>>, UpgradeResponse), LinkFailure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = upgrade_request(request).map_err(|error| LinkFailure::Handshake(error.to_string()))?;
    let mut handshake = Some(
        ClientHandshake::start(Blocking::new(stream), request, Some(config(Limits::MAX_MESSAGE)))
            .map_err(failure)?,
    );
    poll_fn(|cx| {
        let mut current: MidHandshake<ClientHandshake<Blocking<S>>> =
            handshake.take().expect("polled once more only after it was interrupted");
        current.get_mut().get_mut().register(cx);
        match current.handshake() {
            Ok((websocket, response)) => {
                let extensions = response.headers().get(EXTENSIONS_HEADER);
                let extensions = extensions.and_then(|value| value.to_str().ok()).map(str::to_owned);
                Poll::Ready(Ok((websocket, UpgradeResponse { extensions })))
            }
            Err(HandshakeError::Interrupted(rest)) => {
                handshake = Some(rest);
                Poll::Pending
            }
            Err(HandshakeError::Failure(error)) => Poll::Ready(Err(failure(error))),
        }
    })
    .await
}

fn upgrade_request(request: &LinkRequest) -> Result<Request, http::Error> {
    let uri = format!("ws://{}{}", request.authority, request.path_and_query);
    let mut builder = Request::get(uri)
        .header("Host", &request.authority)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key());
    if let Some(extensions) = &request.extensions {
        builder = builder.header(EXTENSIONS_HEADER, extensions);
    }
    builder.body(())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only the text of the others matters")]
fn failure(error: Error) -> LinkFailure {
    match error {
        Error::Http(response) => LinkFailure::Status(response.status().as_u16()),
        Error::Io(error) => LinkFailure::Io(socket_error(&error)),
        Error::Protocol(ProtocolError::HandshakeIncomplete) => LinkFailure::Io(SocketError::UnexpectedEof),
        error => LinkFailure::Handshake(error.to_string()),
    }
}
