//! The server side of the handshake (RFC 1928, RFC 1929).

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use zeroize::Zeroizing;

use super::address::{Missing, SocksAddr, SocksAddrError, TargetAddr, TargetError, take, take_u8};
use super::{
    CONNECT, LOGIN_FAILURE, LOGIN_SUCCESS, LOGIN_VERSION, NO_ACCEPTABLE_METHOD, NO_AUTHENTICATION, Reply,
    UDP_ASSOCIATE, USERNAME_PASSWORD, VERSION,
};
use crate::secret::Credentials;

/// Reads what a SOCKS5 client says up to and including its request, and answers all but that.
///
/// The bytes may be split anywhere, and the client need not wait for answers: greeting, login,
/// request and the first application data may come in one piece. At most one incomplete message
/// is buffered, which is 513 bytes for the longest (a login).
///
/// Without credentials the client must offer method 0x00, with credentials 0x02. The request
/// itself is answered with a [`Reply`] when its fate is known. How long a client may take is for
/// the caller to decide.
///
/// ```
/// use linksocks_sansio::socks5::{Handshake, Reply, Request, Status};
///
/// let mut handshake = Handshake::new(None);
/// let progress = handshake.handle_bytes(b"\x05\x01\x00");
/// assert_eq!(progress.reply, b"\x05\x00"[..]);
/// assert_eq!(progress.status, Status::NeedMore);
///
/// // This client doesn't wait for the connection before it sends.
/// let input = b"\x05\x01\x00\x03\x0bexample.com\x00\x50GET /";
/// let progress = handshake.handle_bytes(input);
/// assert_eq!(progress.status, Status::Request(Request::Connect("example.com:80".parse()?)));
/// assert_eq!(input[progress.consumed..], b"GET /"[..]);
///
/// let reply = Reply::Succeeded.encode(Reply::NO_ADDRESS);
/// assert_eq!(reply, b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"[..]);
/// # Ok::<(), linksocks_sansio::socks5::TargetError>(())
/// ```
pub struct Handshake {
    expected: Expected,
    credentials: Option<Arc<Credentials>>,
    /// No login is looked at.
    locked: bool,
    /// The beginning of the expected message; never more than that message.
    buffer: Zeroizing<Vec<u8>>,
}

/// The message that the client has to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Greeting,
    Login,
    Request,
    /// None: the handshake is over.
    Nothing,
}

impl Handshake {
    /// A handshake that asks for `credentials`, if there are any.
    #[must_use]
    pub fn new(credentials: Option<Arc<Credentials>>) -> Self {
        Self { expected: Expected::Greeting, credentials, locked: false, buffer: Zeroizing::default() }
    }

    /// Whether any login is refused from now on, be it right or wrong.
    pub(crate) fn set_locked(&mut self, locked: bool) {
        self.locked = locked;
    }

    /// Whether the client has to log in.
    pub(crate) fn wants_login(&self) -> bool {
        self.credentials.is_some()
    }

    /// What the client must present, as long as nothing has come from it: it may turn out to speak
    /// another protocol.
    pub(crate) fn fresh(&self) -> Option<Option<Arc<Credentials>>> {
        let fresh = self.expected == Expected::Greeting && self.buffer.is_empty();
        fresh.then(|| self.credentials.clone())
    }

    /// Takes the next bytes of the client.
    ///
    /// With [`Status::Request`] or [`Status::Failed`] the handshake is over; any further call
    /// fails with [`HandshakeError::Finished`].
    #[must_use]
    pub fn handle_bytes(&mut self, input: &[u8]) -> Progress {
        let mut reply = BytesMut::new();
        let mut rest = input;
        let status = loop {
            match self.read_message(&mut reply) {
                Ok(None) => self.buffer.clear(),
                Ok(Some(request)) => break Status::Request(request),
                Err(Unread::Missing(_)) if rest.is_empty() => break Status::NeedMore,
                Err(Unread::Missing(Missing(count))) => {
                    // Never more than is missing: what follows a request is not ours to keep.
                    let (next, behind) = rest.split_at(count.min(rest.len()));
                    self.buffer.extend_from_slice(next);
                    rest = behind;
                }
                Err(Unread::Failed(error)) => {
                    error.encode_reply(&mut reply);
                    break Status::Failed(error);
                }
            }
        };
        if status != Status::NeedMore {
            self.expected = Expected::Nothing;
            self.buffer = Zeroizing::default();
        }
        Progress { reply: reply.freeze(), consumed: input.len() - rest.len(), status }
    }

    /// Handles the message in the buffer if it is complete.
    fn read_message(&mut self, reply: &mut BytesMut) -> Result<Option<Request>, Unread> {
        match self.expected {
            Expected::Greeting => {
                let methods = read_greeting(&self.buffer)?;
                let (method, next) = match self.credentials {
                    None => (NO_AUTHENTICATION, Expected::Request),
                    Some(_) => (USERNAME_PASSWORD, Expected::Login),
                };
                if !methods.contains(&method) {
                    return Err(HandshakeError::NoAcceptableMethod.into());
                }
                reply.put_slice(&[VERSION, method]);
                self.expected = next;
                Ok(None)
            }
            Expected::Login => {
                let (username, password) = read_login(&self.buffer)?;
                if self.locked {
                    return Err(HandshakeError::TooManyFailures.into());
                }
                let valid = self.credentials.as_ref().is_some_and(|known| known.matches(username, password));
                if !valid {
                    return Err(HandshakeError::WrongCredentials.into());
                }
                reply.put_slice(&[LOGIN_VERSION, LOGIN_SUCCESS]);
                self.expected = Expected::Request;
                Ok(None)
            }
            Expected::Request => read_request(&self.buffer).map(Some),
            Expected::Nothing => Err(HandshakeError::Finished.into()),
        }
    }
}

/// Shows nothing of the buffer: there may be a password in it.
impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("expected", &self.expected).finish_non_exhaustive()
    }
}

/// Reads `VER NMETHODS METHODS` and returns the methods.
fn read_greeting(mut input: &[u8]) -> Result<&[u8], Unread> {
    let version = take_u8(&mut input)?;
    if version != VERSION {
        return Err(HandshakeError::NotSocks5(version).into());
    }
    let count = take_u8(&mut input)?;
    Ok(take(&mut input, count.into())?)
}

/// Reads `VER ULEN UNAME PLEN PASSWD` and returns user name and password.
fn read_login(mut input: &[u8]) -> Result<(&[u8], &[u8]), Unread> {
    let version = take_u8(&mut input)?;
    if version != LOGIN_VERSION {
        return Err(HandshakeError::LoginVersion(version).into());
    }
    let len = take_u8(&mut input)?;
    let username = take(&mut input, len.into())?;
    let len = take_u8(&mut input)?;
    Ok((username, take(&mut input, len.into())?))
}

/// Reads `VER CMD RSV ATYP DST.ADDR DST.PORT`.
fn read_request(mut input: &[u8]) -> Result<Request, Unread> {
    let version = take_u8(&mut input)?;
    if version != VERSION {
        return Err(HandshakeError::RequestVersion(version).into());
    }
    let command = take_u8(&mut input)?;
    if !matches!(command, CONNECT | UDP_ASSOCIATE) {
        return Err(HandshakeError::UnsupportedCommand(command).into());
    }
    let _reserved = take_u8(&mut input)?;
    let address = SocksAddr::decode(&mut input)?;
    if command == CONNECT {
        let target = TargetAddr::try_from(address).map_err(HandshakeError::Target)?;
        return Ok(Request::Connect(target));
    }
    Ok(Request::UdpAssociate(match address {
        SocksAddr::Ip(sender) => sender,
        SocksAddr::Name(_, port) => (Ipv4Addr::UNSPECIFIED, port).into(),
    }))
}

/// Why a message can't be read.
enum Unread {
    Missing(Missing),
    Failed(HandshakeError),
}

impl From<Missing> for Unread {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

impl From<HandshakeError> for Unread {
    fn from(error: HandshakeError) -> Self {
        Self::Failed(error)
    }
}

impl From<SocksAddrError> for Unread {
    fn from(error: SocksAddrError) -> Self {
        match error {
            SocksAddrError::Truncated(missing) => Self::Missing(missing),
            SocksAddrError::UnknownType(kind) => Self::Failed(HandshakeError::UnsupportedAddress(kind)),
        }
    }
}

/// What came of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// To be sent to the client now, before anything else; may be empty.
    pub reply: Bytes,
    /// How many bytes of the input belong to the handshake. Behind a request the rest is
    /// application data, which must not be lost.
    pub consumed: usize,
    /// How the handshake stands.
    pub status: Status,
}

/// How a handshake stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// More bytes must come.
    NeedMore,
    /// The client has made its request and waits for a [`Reply`].
    Request(Request),
    /// Close the connection, once what was to be sent is sent.
    Failed(HandshakeError),
}

/// A request of a SOCKS5 client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// CONNECT: open a TCP connection.
    Connect(TargetAddr),
    /// UDP ASSOCIATE: relay datagrams that come from this address. An unspecified IP or a port 0
    /// means that the client doesn't know it yet; a name counts as an unspecified IP.
    UdpAssociate(SocketAddr),
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// The first byte is not 5: this is something else than SOCKS5, and gets no answer.
    #[error("not a SOCKS5 client: the first byte is 0x{0:02x}")]
    NotSocks5(u8),
    /// The client doesn't offer the method of authentication that we want.
    #[error("the SOCKS client offers no acceptable authentication method")]
    NoAcceptableMethod,
    /// The login has a version other than 1.
    #[error("unknown version {0} of the SOCKS login")]
    LoginVersion(u8),
    /// User name or password is wrong.
    #[error("wrong SOCKS user name or password")]
    WrongCredentials,
    /// Too many logins from this address have failed.
    #[error("too many failed SOCKS logins from this address; try again later")]
    TooManyFailures,
    /// The request has a version other than 5.
    #[error("unknown version {0} of the SOCKS request")]
    RequestVersion(u8),
    /// A command other than CONNECT and UDP ASSOCIATE.
    #[error("unsupported SOCKS command {0}")]
    UnsupportedCommand(u8),
    /// An address type other than 1, 3 and 4.
    #[error("unsupported SOCKS address type {0}")]
    UnsupportedAddress(u8),
    /// CONNECT without a usable target.
    #[error("invalid target: {0}")]
    Target(TargetError),
    /// Bytes were handled after the end of the handshake: a bug of the caller.
    #[error("the SOCKS handshake is over")]
    Finished,
}

impl HandshakeError {
    /// Appends what the client is told, in the form that fits the stage of the handshake.
    ///
    /// A greeting without any method is answered like every other one that offers nothing
    /// acceptable, as RFC 1928 has it. (The Go program sends the reply to a request there, whose
    /// first two bytes tell the client to begin with GSSAPI.)
    fn encode_reply(self, out: &mut BytesMut) {
        match self {
            Self::NotSocks5(_) | Self::Finished => {}
            Self::NoAcceptableMethod => out.put_slice(&[VERSION, NO_ACCEPTABLE_METHOD]),
            Self::LoginVersion(_) | Self::WrongCredentials | Self::TooManyFailures => {
                out.put_slice(&[LOGIN_VERSION, LOGIN_FAILURE]);
            }
            Self::RequestVersion(_) | Self::Target(_) => {
                Reply::GeneralFailure.encode_into(Reply::NO_ADDRESS, out);
            }
            Self::UnsupportedCommand(_) => Reply::CommandNotSupported.encode_into(Reply::NO_ADDRESS, out),
            Self::UnsupportedAddress(_) => Reply::AddressTypeNotSupported.encode_into(Reply::NO_ADDRESS, out),
        }
    }
}

#[cfg(test)]
mod tests;
