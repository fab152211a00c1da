//! What a SOCKS client asks for, as values, as text, and in the address form of SOCKS5.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use bytes::BufMut;
use thiserror::Error;

/// The longest name, in bytes: both SOCKS5 and the Connect message count it in one byte.
const MAX_NAME_LEN: usize = 255;

/// ATYP values (RFC 1928 section 5).
const TYPE_V4: u8 = 1;
const TYPE_NAME: u8 = 3;
const TYPE_V6: u8 = 4;

/// A host: an address or a name that is still to be resolved.
///
/// Its text form, [`Display`](fmt::Display), has no brackets around an IPv6 address.
///
/// ```
/// use linksocks_sansio::socks5::{Host, TargetError};
///
/// assert_eq!("[::1]".parse::<Host>()?.to_string(), "::1");
/// assert_eq!("example.com".parse::<Host>()?, Host::Name("example.com".into()));
/// assert_eq!("two words".parse::<Host>(), Err(TargetError::InvalidHost));
/// # Ok::<(), TargetError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An IP address. An IPv4-mapped IPv6 address stays one.
    Ip(IpAddr),
    /// A name of 1 to 255 bytes.
    Name(String),
}

impl Host {
    /// Reads an IP address without brackets, or else a name, which is kept as it is.
    ///
    /// # Errors
    /// [`TargetError::EmptyHost`], [`TargetError::HostTooLong`], [`TargetError::InvalidHost`].
    pub fn from_wire(text: &str) -> Result<Self, TargetError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        check_name(text)?;
        Ok(Self::Name(text.to_owned()))
    }
}

/// Checks what the rest of the program relies on: a length that fits the wire, nothing that could
/// break out of a log line, an HTTP request line or a C string, and no text that could be taken
/// for an address with a port.
fn check_name(name: &str) -> Result<(), TargetError> {
    if name.is_empty() {
        return Err(TargetError::EmptyHost);
    }
    if name.len() > MAX_NAME_LEN {
        return Err(TargetError::HostTooLong(name.len()));
    }
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '[' | ']');
    if name.contains(forbidden) {
        return Err(TargetError::InvalidHost);
    }
    Ok(())
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// As [`Host::from_wire`], but an IPv6 address may stand in brackets, as it does in URLs.
impl FromStr for Host {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        bracketed.map_or_else(
            || Self::from_wire(text),
            |text| {
                let address: Ipv6Addr = text.parse().map_err(|_| TargetError::InvalidHost)?;
                Ok(Self::Ip(address.into()))
            },
        )
    }
}

/// Where a channel leads to: host and port.
///
/// ```
/// use linksocks_sansio::socks5::TargetAddr;
///
/// let target = TargetAddr::from_wire("::1", 443)?;
/// assert_eq!(target.to_string(), "[::1]:443");
/// assert_eq!(target, "[::1]:443".parse()?);
/// assert_eq!(target.wire_host(), "::1");
/// # Ok::<(), linksocks_sansio::socks5::TargetError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetAddr {
    /// The host.
    pub host: Host,
    /// The port; not 0 in a valid target.
    pub port: u16,
}

impl TargetAddr {
    /// Puts a target together as it is; see [`Self::validate`].
    #[must_use]
    pub const fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }

    /// Reads a target as it travels in a Connect message.
    ///
    /// IP addresses are recognised. Names are kept as they are, without lower-casing or IDNA:
    /// only the dial side resolves them. An IPv6 address in brackets is an error here, because no
    /// dialler of a real peer takes it; [`FromStr`] is the lenient way in. So is any other colon
    /// in a name, which includes IPv6 addresses with a zone: it means nothing on another machine.
    ///
    /// # Errors
    /// [`TargetError`] for an empty or malformed host, one over 255 bytes, and port 0.
    pub fn from_wire(address: &str, port: u16) -> Result<Self, TargetError> {
        let host = Host::from_wire(address)?;
        if port == 0 {
            return Err(TargetError::ZeroPort);
        }
        Ok(Self { host, port })
    }

    /// The host as it travels in a Connect message: without brackets.
    #[must_use]
    pub fn wire_host(&self) -> Cow<'_, str> {
        match &self.host {
            Host::Ip(address) => Cow::Owned(address.to_string()),
            Host::Name(name) => Cow::Borrowed(name),
        }
    }

    /// Checks a target that was put together by hand: the name as [`Self::from_wire`] does, and
    /// that the port is not 0.
    ///
    /// # Errors
    /// [`TargetError`], if it can't travel.
    pub fn validate(&self) -> Result<(), TargetError> {
        if let Host::Name(name) = &self.host {
            check_name(name)?;
        }
        if self.port == 0 {
            return Err(TargetError::ZeroPort);
        }
        Ok(())
    }

    /// Appends the address form of SOCKS5: ATYP, address, port (RFC 1928 section 5).
    ///
    /// # Errors
    /// As [`Self::validate`]; nothing is written then.
    pub fn encode(&self, out: &mut impl BufMut) -> Result<(), TargetError> {
        self.validate()?;
        match &self.host {
            Host::Ip(address) => encode_ip(SocketAddr::new(*address, self.port), out),
            Host::Name(name) => {
                out.put_u8(TYPE_NAME);
                out.put_u8(u8::try_from(name.len()).expect("a valid name has at most 255 bytes"));
                out.put_slice(name.as_bytes());
                out.put_u16(self.port);
            }
        }
        Ok(())
    }
}

/// Appends the address form of SOCKS5 of an IP address and any port.
pub(super) fn encode_ip(address: SocketAddr, out: &mut impl BufMut) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(TYPE_V4);
            out.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(TYPE_V6);
            out.put_slice(&ip.octets());
        }
    }
    out.put_u16(address.port());
}

/// The port is taken as it is; a zone is dropped.
impl From<SocketAddr> for TargetAddr {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().into(), port: address.port() }
    }
}

/// `host:port`, with brackets around an IPv6 address.
impl fmt::Display for TargetAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host @ (Host::Ip(IpAddr::V4(_)) | Host::Name(_)) => write!(f, "{host}:{}", self.port),
        }
    }
}

/// Reads `host:port`. An IPv6 address needs its brackets, since `::1:80` could mean two things.
impl FromStr for TargetAddr {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (host, port) = text.rsplit_once(':').ok_or(TargetError::InvalidPort)?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(TargetError::InvalidHost);
        }
        let host = host.parse()?;
        // `u16::from_str` would take a plus sign.
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(TargetError::InvalidPort);
        }
        match port.parse() {
            Ok(0) => Err(TargetError::ZeroPort),
            Ok(port) => Ok(Self { host, port }),
            Err(_) => Err(TargetError::InvalidPort),
        }
    }
}

/// Why something is no [`TargetAddr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum TargetError {
    /// There is no host.
    #[error("the host is empty")]
    EmptyHost,
    /// The name has so many bytes.
    #[error("a host name has at most 255 bytes, this one has {0}")]
    HostTooLong(usize),
    /// The host is not UTF-8, has control characters, white space, a colon or brackets, or is no
    /// IPv6 address where one must be.
    #[error("the host is malformed")]
    InvalidHost,
    /// The port is 0.
    #[error("the port is 0")]
    ZeroPort,
    /// There is no port, or it is not a decimal number below 65536.
    #[error("the port is missing or malformed")]
    InvalidPort,
}

/// An address as SOCKS5 carries it in requests, replies and datagrams (RFC 1928 section 5).
///
/// Only the form has been checked: the name may be empty or not even UTF-8, the port may be 0.
/// [`TargetAddr::try_from`] checks the rest.
///
/// ```
/// use linksocks_sansio::socks5::{Missing, SocksAddr, SocksAddrError, TargetAddr};
///
/// let mut input = &b"\x03\x0bexample.com\x01\xbbbehind"[..];
/// let address = SocksAddr::decode(&mut input)?;
/// assert_eq!(TargetAddr::try_from(address)?.to_string(), "example.com:443");
/// assert_eq!(input, b"behind");
///
/// let mut input = &b"\x01\x7f"[..];
/// let error = SocksAddr::decode(&mut input).unwrap_err();
/// assert_eq!(error, SocksAddrError::Truncated(Missing(3))); // and then the port
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocksAddr<'a> {
    /// ATYP 1 and 4.
    Ip(SocketAddr),
    /// ATYP 3: name and port.
    Name(&'a [u8], u16),
}

impl<'a> SocksAddr<'a> {
    /// Takes an address, beginning with ATYP, from the front of `input`.
    ///
    /// # Errors
    /// [`SocksAddrError::UnknownType`], and [`SocksAddrError::Truncated`] if `input` ends too
    /// early. How much was taken from `input` is then unspecified.
    pub fn decode(input: &mut &'a [u8]) -> Result<Self, SocksAddrError> {
        match take_u8(input)? {
            TYPE_V4 => {
                let ip = Ipv4Addr::from(*take_array::<4>(input)?);
                Ok(Self::Ip((ip, take_port(input)?).into()))
            }
            TYPE_V6 => {
                let ip = Ipv6Addr::from(*take_array::<16>(input)?);
                Ok(Self::Ip((ip, take_port(input)?).into()))
            }
            TYPE_NAME => {
                let len = take_u8(input)?;
                let name = take(input, len.into())?;
                Ok(Self::Name(name, take_port(input)?))
            }
            unknown => Err(SocksAddrError::UnknownType(unknown)),
        }
    }
}

impl TryFrom<SocksAddr<'_>> for TargetAddr {
    type Error = TargetError;

    fn try_from(address: SocksAddr<'_>) -> Result<Self, TargetError> {
        match address {
            SocksAddr::Ip(address) if address.port() == 0 => Err(TargetError::ZeroPort),
            SocksAddr::Ip(address) => Ok(address.into()),
            SocksAddr::Name(name, port) => {
                let name = str::from_utf8(name).map_err(|_| TargetError::InvalidHost)?;
                Self::from_wire(name, port)
            }
        }
    }
}

/// Why something is no [`SocksAddr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SocksAddrError {
    /// At least so many more bytes are needed.
    #[error("the address is truncated")]
    Truncated(#[from] Missing),
    /// An ATYP other than 1, 3 and 4.
    #[error("unknown address type {0}")]
    UnknownType(u8),
}

/// An input ended; at least so many more bytes are needed to go on. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("at least {0} more bytes are needed")]
pub struct Missing(pub usize);

/// Takes `count` bytes from the front of `input`.
pub(super) fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], Missing> {
    let available = input.len();
    input.split_off(..count).ok_or_else(|| Missing(count - available))
}

/// Takes one byte from the front of `input`.
pub(super) fn take_u8(input: &mut &[u8]) -> Result<u8, Missing> {
    input.split_off_first().copied().ok_or(Missing(1))
}

fn take_array<'a, const N: usize>(input: &mut &'a [u8]) -> Result<&'a [u8; N], Missing> {
    let (array, rest) = input.split_first_chunk().ok_or_else(|| Missing(N - input.len()))?;
    *input = rest;
    Ok(array)
}

fn take_port(input: &mut &[u8]) -> Result<u16, Missing> {
    take_array(input).copied().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests;
