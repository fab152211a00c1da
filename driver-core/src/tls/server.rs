//! The accepting side.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use futures_io::{AsyncRead, AsyncWrite};
use futures_rustls::rustls::{self, ServerConfig};
use futures_rustls::{TlsAcceptor, TlsStream, pki_types};
use futures_util::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::{ALPN, READ_BUFFER, TlsError, pem, provider};
use crate::transport::Transport;

/// The first byte of every TLS connection: a handshake record (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// For people and programs that speak HTTP to a TLS port. HTTP/1.0, as nothing is known of them.
const PLAIN_HTTP: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
    This server wants TLS: use wss:// or https://\n";

/// The certificate that a server shows. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls(Arc<ServerConfig>);

impl ServerTls {
    /// A certificate chain, the server's own first, and its private key, from PEM files.
    ///
    /// # Errors
    /// [`TlsError`], which says what is wrong with which file, or that they don't belong together.
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::new(pem::from_file(chain, pem::certificates)?, pem::from_file(key, pem::private_key)?)
    }

    /// As [`ServerTls::from_files`], from PEM texts.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::new(pem::certificates(chain)?, pem::private_key(key)?)
    }

    fn new(
        chain: Vec<pki_types::CertificateDer<'static>>,
        key: pki_types::PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key);
        let mut config = config.map_err(|error| {
            let mismatch = matches!(error, rustls::Error::InconsistentKeys(_));
            if mismatch { TlsError::Mismatch } else { TlsError::Unusable(error) }
        })?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Does the handshake. `None` if that fails: the peer has been told.
    pub(crate) async fn accept<S>(&self, stream: S) -> Option<Transport<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = BufReader::with_capacity(READ_BUFFER, stream);
        let first = *stream.fill_buf().await.ok()?.first()?;
        if first != HANDSHAKE {
            if first.is_ascii_uppercase() {
                answer_plain(&mut stream).await;
            }
            return None;
        }
        let stream = TlsAcceptor::from(Arc::clone(&self.0)).accept(stream).await.ok()?;
        Some(Transport::Tls(Box::new(TlsStream::Server(stream))))
    }
}

/// Closing with unread bytes would destroy the answer, so the rest of the request is read.
async fn answer_plain<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>) {
    let said = async {
        stream.write_all(PLAIN_HTTP).await?;
        stream.close().await
    };
    if said.await.is_ok() {
        let mut rest = [0; 1024];
        while matches!(stream.read(&mut rest).await, Ok(1..)) {}
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls(..)")
    }
}
