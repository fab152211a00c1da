//! A blocking SOCKS5 client (RFC 1928 and 1929, CONNECT only).

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use super::IO_TIMEOUT;

/// The only method offered is none.
const GREETING: &[u8] = &[5, 1, 0];

/// Where a SOCKS request asks to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// An address.
    Address(SocketAddr),
    /// A name, resolved at the far end, and a port.
    Name(String, u16),
}

impl From<SocketAddr> for Destination {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The proxy answered with this reply code (RFC 1928 section 6).
    #[error("SOCKS reply {0:#04x}")]
    Refused(u8),
    /// The proxy does not accept user name and password.
    #[error("SOCKS login rejected")]
    Rejected,
    /// The proxy's bytes aren't SOCKS5.
    #[error("malformed SOCKS answer: {0}")]
    Malformed(&'static str),
    /// The connection to the proxy failed, ended or timed out.
    #[error("SOCKS connection: {0}")]
    Io(#[from] io::Error),
}

/// Opens a connection to `destination` through the proxy. The stream has [`IO_TIMEOUT`] on reads and writes, and no
/// Nagle delay.
///
/// # Errors
/// [`enum@Error`].
pub fn connect(proxy: SocketAddr, destination: impl Into<Destination>) -> Result<TcpStream, Error> {
    connect_within(proxy, destination, IO_TIMEOUT)
}

/// [`connect`] with another timeout for each step, and for each read and write later on.
///
/// # Errors
/// [`enum@Error`].
pub fn connect_within(
    proxy: SocketAddr,
    destination: impl Into<Destination>,
    timeout: Duration,
) -> Result<TcpStream, Error> {
    let mut stream = open_within(proxy, timeout)?;
    ask(&mut stream, None, &destination.into())?;
    Ok(stream)
}

/// Asks the proxy at the other end of `stream` for a connection, if need be with user name and password.
///
/// # Errors
/// [`enum@Error`].
pub fn ask(
    stream: &mut TcpStream,
    login: Option<(&str, &str)>,
    destination: &Destination,
) -> Result<(), Error> {
    match login {
        None => {
            stream.write_all(GREETING)?;
            read_method(stream)?;
        }
        Some((name, password)) => log_in(stream, name, password)?,
    }
    stream.write_all(&request(destination))?;
    read_reply(stream)
}

fn log_in(stream: &mut TcpStream, name: &str, password: &str) -> Result<(), Error> {
    stream.write_all(&[5, 1, 2])?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer)?;
    if answer != [5, 2] {
        return Err(Error::Malformed("method selection"));
    }
    let mut login = vec![1];
    for text in [name, password] {
        login.push(text_length(text));
        login.extend(text.as_bytes());
    }
    stream.write_all(&login)?;
    stream.read_exact(&mut answer)?;
    match answer {
        [1, 0] => Ok(()),
        [1, _] => Err(Error::Rejected),
        _ => Err(Error::Malformed("answer to the login")),
    }
}

fn text_length(text: &str) -> u8 {
    u8::try_from(text.len()).expect("texts in tests are short")
}

/// [`connect_within`] of an application that waits for no answer: greeting, request and `data` are one segment.
///
/// # Errors
/// [`enum@Error`].
pub fn connect_with_data(
    proxy: SocketAddr,
    destination: impl Into<Destination>,
    data: &[u8],
    timeout: Duration,
) -> Result<TcpStream, Error> {
    let mut stream = open_within(proxy, timeout)?;
    stream.write_all(&[GREETING, &request(&destination.into()), data].concat())?;
    read_method(&mut stream)?;
    read_reply(&mut stream)?;
    Ok(stream)
}

fn read_method(stream: &mut TcpStream) -> Result<(), Error> {
    let mut method = [0; 2];
    stream.read_exact(&mut method)?;
    if method == [5, 0] { Ok(()) } else { Err(Error::Malformed("method selection")) }
}

fn read_reply(stream: &mut TcpStream) -> Result<(), Error> {
    let mut reply = [0; 4];
    stream.read_exact(&mut reply)?;
    let [5, code, 0, address_type] = reply else {
        return Err(Error::Malformed("reply"));
    };
    if code != 0 {
        return Err(Error::Refused(code));
    }
    let address_length = match address_type {
        1 => 4,
        4 => 16,
        _ => return Err(Error::Malformed("address type of the reply")),
    };
    stream.read_exact(&mut [0; 18][..address_length + 2])?;
    Ok(())
}

/// Connects without a proxy, with the settings of [`connect`].
///
/// # Errors
/// Those of [`TcpStream::connect_timeout`].
pub fn open(address: SocketAddr) -> io::Result<TcpStream> {
    open_within(address, IO_TIMEOUT)
}

/// Connects without a proxy, with the settings of [`connect_within`].
///
/// # Errors
/// Those of [`TcpStream::connect_timeout`].
pub fn open_within(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A CONNECT request.
fn request(destination: &Destination) -> Vec<u8> {
    let mut bytes = vec![5, 1, 0];
    let port = match destination {
        Destination::Address(address) => {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(1);
                    bytes.extend(ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(4);
                    bytes.extend(ip.octets());
                }
            }
            address.port()
        }
        Destination::Name(name, port) => {
            bytes.push(3);
            bytes.push(text_length(name));
            bytes.extend(name.as_bytes());
            *port
        }
    };
    bytes.extend(port.to_be_bytes());
    bytes
}
