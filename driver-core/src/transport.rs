//! What HTTP and WebSockets run on: a TCP connection, as it is or secured by TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};
use linksocks_sansio::error::LinkFailure;
use linksocks_sansio::io::LinkRequest;

#[cfg(feature = "tls")]
use crate::tls::{ClientTls, SecureStream, ServerTls};

/// A connection.
#[derive(Debug)]
pub enum Transport<S> {
    /// As it is.
    Plain(S),
    /// Secured by TLS.
    #[cfg(feature = "tls")]
    Tls(Box<SecureStream<S>>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Transport<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Transport<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Says that nothing follows, in TLS as well (`close_notify`).
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_close(cx),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_close(cx),
        }
    }
}

/// Secures the connections of a client for which the engine asks for that. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Connector {
    #[cfg(feature = "tls")]
    tls: ClientTls,
}

impl Connector {
    /// Makes of a connection what `request` asks for.
    pub(crate) async fn connect<S>(
        &self,
        stream: S,
        request: &LinkRequest,
    ) -> Result<Transport<S>, LinkFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if !request.secure {
            return Ok(Transport::Plain(stream));
        }
        #[cfg(feature = "tls")]
        return self.tls.connect(stream, &request.server_name).await;
        #[cfg(not(feature = "tls"))]
        return Err(LinkFailure::Unsupported("wss"));
    }
}

#[cfg(feature = "tls")]
impl From<ClientTls> for Connector {
    fn from(tls: ClientTls) -> Self {
        Self { tls }
    }
}

/// Secures the connections that a server accepts, if it is to do so. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acceptor {
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
}

impl Acceptor {
    /// Makes a connection ready for HTTP. `None` if that fails: the peer has been told.
    pub(crate) async fn accept<S>(&self, stream: S) -> Option<Transport<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.accept(stream).await;
        }
        Some(Transport::Plain(stream))
    }
}

#[cfg(feature = "tls")]
impl From<ServerTls> for Acceptor {
    fn from(tls: ServerTls) -> Self {
        Self { tls: Some(tls) }
    }
}
