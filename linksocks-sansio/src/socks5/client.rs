//! The client side of the handshake (RFC 1928, RFC 1929), for an upstream proxy.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::address::{Missing, SocksAddr, SocksAddrError, TargetAddr, TargetError, take, take_u8};
use super::{
    CONNECT, LOGIN_SUCCESS, LOGIN_VERSION, NO_ACCEPTABLE_METHOD, NO_AUTHENTICATION, Reply, USERNAME_PASSWORD,
    VERSION,
};
use crate::secret::Credentials;

/// Asks a SOCKS5 proxy for a TCP connection.
///
/// Each answer is awaited before the next message. The bytes of the proxy may be split anywhere; at
/// most one incomplete answer is buffered, which is 262 bytes for the longest.
///
/// ```
/// use linksocks_sansio::socks5::{ClientHandshake, ClientStatus};
///
/// let (mut handshake, greeting) = ClientHandshake::new(&"example.com:80".parse()?, None)?;
/// assert_eq!(greeting, b"\x05\x01\x00"[..]);
/// let progress = handshake.handle_bytes(b"\x05\x00");
/// assert_eq!(progress.send, b"\x05\x01\x00\x03\x0bexample.com\x00\x50"[..]);
/// assert_eq!(handshake.needed(), 5); // the fifth byte tells how long the answer is
///
/// // The target speaks first, right behind the answer of the proxy.
/// let input = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00SSH-2.0";
/// let progress = handshake.handle_bytes(input);
/// assert_eq!(progress.status, ClientStatus::Connected);
/// assert_eq!(input[progress.consumed..], b"SSH-2.0"[..]);
/// # Ok::<(), linksocks_sansio::socks5::TargetError>(())
/// ```
pub struct ClientHandshake {
    expected: Expected,
    /// The request, encoded.
    request: Bytes,
    credentials: Option<Credentials>,
    /// The beginning of the expected answer; never more than that answer.
    buffer: Vec<u8>,
    needed: usize,
}

/// The answer that the proxy has to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Method,
    LoginVerdict,
    Reply,
    /// None: the handshake is over.
    Nothing,
}

impl Expected {
    /// The least number of bytes that the answer has.
    fn least(self) -> usize {
        match self {
            Self::Method | Self::LoginVerdict => 2,
            // Up to the first byte of the address, which is its length if it is a name.
            Self::Reply => 5,
            Self::Nothing => 0,
        }
    }
}

impl ClientHandshake {
    /// A handshake for a connection to `target`, and the first bytes to send. A name is left for the
    /// proxy to resolve.
    ///
    /// # Errors
    /// [`TargetError`] for a target that can't travel.
    pub fn new(target: &TargetAddr, credentials: Option<Credentials>) -> Result<(Self, Bytes), TargetError> {
        let mut request = BytesMut::new();
        request.put_slice(&[VERSION, CONNECT, 0]);
        target.encode(&mut request)?;
        let greeting: &[u8] = match credentials {
            None => &[VERSION, 1, NO_AUTHENTICATION],
            Some(_) => &[VERSION, 2, NO_AUTHENTICATION, USERNAME_PASSWORD],
        };
        let handshake = Self {
            expected: Expected::Method,
            request: request.freeze(),
            credentials,
            buffer: Vec::new(),
            needed: Expected::Method.least(),
        };
        Ok((handshake, Bytes::copy_from_slice(greeting)))
    }

    /// How many bytes the proxy has to send at least before anything can come of them. Whoever reads
    /// no more at a time never reads beyond the last answer.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// Takes the next bytes of the proxy.
    ///
    /// With [`ClientStatus::Connected`] or [`ClientStatus::Failed`] the handshake is over; any
    /// further call fails with [`ClientError::Finished`].
    #[must_use]
    pub fn handle_bytes(&mut self, input: &[u8]) -> ClientProgress {
        let mut send = BytesMut::new();
        let mut rest = input;
        let status = loop {
            match self.read_answer(&mut send) {
                Ok(Answer::Next(expected)) => {
                    self.expected = expected;
                    self.buffer.clear();
                }
                Ok(Answer::Connected) => break ClientStatus::Connected,
                Err(Unread::Missing(Missing(count))) if rest.is_empty() => {
                    self.needed = count.max(self.expected.least().saturating_sub(self.buffer.len()));
                    break ClientStatus::NeedMore;
                }
                Err(Unread::Missing(Missing(count))) => {
                    // Never more than is missing: what follows the answer is not ours to keep.
                    let (next, behind) = rest.split_at(count.min(rest.len()));
                    self.buffer.extend_from_slice(next);
                    rest = behind;
                }
                Err(Unread::Failed(error)) => break ClientStatus::Failed(error),
            }
        };
        if status != ClientStatus::NeedMore {
            self.expected = Expected::Nothing;
            self.needed = 0;
        }
        ClientProgress { send: send.freeze(), consumed: input.len() - rest.len(), status }
    }

    /// Handles the answer in the buffer if it is complete.
    fn read_answer(&self, send: &mut BytesMut) -> Result<Answer, Unread> {
        let mut input = &self.buffer[..];
        match self.expected {
            Expected::Method => {
                check_version(take_u8(&mut input)?)?;
                match (take_u8(&mut input)?, &self.credentials) {
                    (NO_AUTHENTICATION, _) => {
                        send.put_slice(&self.request);
                        Ok(Answer::Next(Expected::Reply))
                    }
                    (USERNAME_PASSWORD, Some(credentials)) => {
                        send.put_u8(LOGIN_VERSION);
                        for part in [credentials.username(), credentials.password()] {
                            send.put_u8(u8::try_from(part.len()).expect("credentials are checked when made"));
                            send.put_slice(part.as_bytes());
                        }
                        Ok(Answer::Next(Expected::LoginVerdict))
                    }
                    (NO_ACCEPTABLE_METHOD, None) => Err(ClientError::LoginRequired.into()),
                    (NO_ACCEPTABLE_METHOD, Some(_)) => Err(ClientError::NoAcceptableMethod.into()),
                    (method, _) => Err(ClientError::UnofferedMethod(method).into()),
                }
            }
            Expected::LoginVerdict => {
                let _version = take_u8(&mut input)?;
                if take_u8(&mut input)? != LOGIN_SUCCESS {
                    return Err(ClientError::LoginRejected.into());
                }
                send.put_slice(&self.request);
                Ok(Answer::Next(Expected::Reply))
            }
            Expected::Reply => {
                check_version(take_u8(&mut input)?)?;
                let code = take_u8(&mut input)?;
                if code != Reply::Succeeded as u8 {
                    // Whatever follows does not matter any more.
                    return Err(Reply::from_code(code)
                        .map_or(ClientError::UnknownReply(code), ClientError::Refused)
                        .into());
                }
                let _reserved = take(&mut input, 1)?;
                SocksAddr::decode(&mut input)?;
                Ok(Answer::Connected)
            }
            Expected::Nothing => Err(ClientError::Finished.into()),
        }
    }
}

/// Shows neither buffer nor credentials.
impl fmt::Debug for ClientHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandshake").field("expected", &self.expected).finish_non_exhaustive()
    }
}

fn check_version(version: u8) -> Result<(), ClientError> {
    if version == VERSION { Ok(()) } else { Err(ClientError::NotSocks5(version)) }
}

/// A complete answer.
enum Answer {
    /// Another one follows.
    Next(Expected),
    Connected,
}

/// Why an answer can't be acted on.
enum Unread {
    Missing(Missing),
    Failed(ClientError),
}

impl From<Missing> for Unread {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

impl From<ClientError> for Unread {
    fn from(error: ClientError) -> Self {
        Self::Failed(error)
    }
}

impl From<SocksAddrError> for Unread {
    fn from(error: SocksAddrError) -> Self {
        match error {
            SocksAddrError::Truncated(missing) => Self::Missing(missing),
            SocksAddrError::UnknownType(kind) => Self::Failed(ClientError::UnknownAddressType(kind)),
        }
    }
}

/// What came of some bytes of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientProgress {
    /// To be sent to the proxy now; may be empty.
    pub send: Bytes,
    /// How many bytes of the input belong to the handshake. Behind the last answer the rest comes
    /// from the target, and must not be lost.
    pub consumed: usize,
    /// How the handshake stands.
    pub status: ClientStatus,
}

/// How the handshake of a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientStatus {
    /// More bytes must come.
    NeedMore,
    /// The connection is a connection to the target from now on.
    Connected,
    /// Close the connection.
    Failed(ClientError),
}

/// Why a SOCKS5 proxy does not connect us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum ClientError {
    /// An answer has another version than 5.
    #[error("not a SOCKS5 proxy: it answers with version 0x{0:02x}")]
    NotSocks5(u8),
    /// We have no credentials.
    #[error("the SOCKS5 proxy wants a user name and a password")]
    LoginRequired,
    /// It takes neither no authentication nor user name and password.
    #[error("the SOCKS5 proxy accepts no authentication method that we know")]
    NoAcceptableMethod,
    /// It chose a method that we did not offer.
    #[error("the SOCKS5 proxy chose the authentication method 0x{0:02x}, which was not offered")]
    UnofferedMethod(u8),
    /// User name or password is wrong.
    #[error("the SOCKS5 proxy rejected the user name or password")]
    LoginRejected,
    /// It could or would not connect.
    #[error("SOCKS5 reply: {0}")]
    Refused(Reply),
    /// It could or would not connect, for a reason of its own.
    #[error("SOCKS5 reply: unknown code 0x{0:02x}")]
    UnknownReply(u8),
    /// The bound address has a type other than 1, 3 and 4.
    #[error("the SOCKS5 proxy answers with the unknown address type 0x{0:02x}")]
    UnknownAddressType(u8),
    /// Bytes were handled after the end of the handshake: a bug of the caller.
    #[error("the SOCKS5 handshake is over")]
    Finished,
}

#[cfg(test)]
mod tests;
