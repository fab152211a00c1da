//! What can go wrong between a TCP connection and a WebSocket.

use thiserror::Error;

/// Why a connection could not be secured by TLS (RFC 8446).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub enum TlsFailure {
    /// No certificate authority that we trust has signed the server's certificate.
    #[error("the server's certificate is signed by an unknown authority")]
    UnknownIssuer,
    /// The certificate is one of another server.
    #[error("the server's certificate is not valid for the name {0}")]
    WrongName(String),
    /// The certificate has expired.
    #[error("the server's certificate has expired")]
    Expired,
    /// The certificate will be valid later; or our clock is wrong.
    #[error("the server's certificate is not valid yet; check the clock")]
    NotYetValid,
    /// The certificate was revoked.
    #[error("the server's certificate has been revoked")]
    Revoked,
    /// Anything else that is wrong with the certificate.
    #[error("the server's certificate is invalid: {0}")]
    Certificate(String),
    /// The name to verify is none.
    #[error("'{0}' is no name that a certificate could be for")]
    InvalidName(String),
    /// The server does not know the name that we ask for.
    #[error("the server has no certificate for the name {0}")]
    UnknownName(String),
    /// The answer was something else than TLS.
    #[error("the server does not speak TLS on this port")]
    NotTls,
    /// Both sides have no version or cipher of TLS in common.
    #[error("no common version or cipher of TLS: {0}")]
    Incompatible(String),
    /// The server has ended the handshake.
    #[error("the server refused the TLS handshake: {0}")]
    Alert(String),
    /// The server broke the protocol.
    #[error("TLS: {0}")]
    Protocol(String),
    /// The certificates that we trust can't be had.
    #[error("no certificate can be verified: {0}")]
    Setup(String),
}

impl TlsFailure {
    /// Whether trying again can't help: the operator must act.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Alert(_) | Self::Protocol(_))
    }
}

/// Why a redirect was not followed. Texts show no parameters: they may be secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub enum RedirectError {
    /// The `Location` is no URL that a link can be opened at.
    #[error("malformed Location: {0}")]
    Malformed(String),
    /// From TLS to a connection that anyone can read.
    #[error("from wss to {0}, which is not secured")]
    Downgrade(String),
    /// To another host than the user's, which would be sent the token itself.
    #[error("to {0}, another host, which would be sent the token; name it in the URL to trust it")]
    Foreign(String),
    /// Back to a URL that has redirected us before.
    #[error("back to {0}, in a circle")]
    Loop(String),
    /// One more than are followed.
    #[error("more than {0} in a row")]
    TooMany(usize),
}
