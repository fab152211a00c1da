//! TLS (RFC 8446, RFC 5246) by rustls: what a client trusts, what a server shows.

mod client;
mod pem;
mod server;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures_rustls::TlsStream;
use futures_rustls::rustls;
use futures_rustls::rustls::crypto::{CryptoProvider, ring};
use futures_util::io::BufReader;
use thiserror::Error;

pub use self::client::ClientTls;
pub use self::server::ServerTls;

/// A connection secured by TLS.
///
/// rustls reads 4 KiB at a time; the buffer takes more from the kernel at once.
pub(crate) type SecureStream<S> = TlsStream<BufReader<S>>;

/// About one TLS record (RFC 8446 section 5.2).
const READ_BUFFER: usize = 17 * 1024;

/// WebSockets need HTTP/1.1, so nothing else is offered (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

/// Why certificates and keys can't be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// Something is wrong with a file.
    #[error("cannot use {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<Self>,
    },
    /// It can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no PEM text (RFC 7468).
    #[error("malformed PEM: {0}")]
    Pem(String),
    /// There is nothing in it that we look for.
    #[error("no certificate in PEM form is in it")]
    NoCertificate,
    /// As [`TlsError::NoCertificate`].
    #[error("no private key in PEM form, without a passphrase, is in it")]
    NoKey,
    /// The private key is that of another certificate.
    #[error("the certificate and the private key do not belong together")]
    Mismatch,
    /// rustls takes the certificate or the key for unusable.
    #[error("unusable certificate or private key: {0}")]
    Unusable(rustls::Error),
    /// The platform's certificate authorities can't be had.
    #[error("the certificate authorities of this system cannot be used: {0}")]
    Platform(rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
