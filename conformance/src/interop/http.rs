//! A blocking user of an HTTP proxy (CONNECT only).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::socks;

/// The longest answer that is read.
const MAX_HEAD: usize = 8 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The proxy answered with this status.
    #[error("HTTP status {0}")]
    Refused(u16),
    /// The proxy's bytes aren't an answer.
    #[error("malformed HTTP answer")]
    Malformed,
    /// The connection to the proxy failed, ended or timed out.
    #[error("HTTP connection: {0}")]
    Io(#[from] std::io::Error),
}

/// Opens a connection to `destination` through the proxy, with this timeout for each step, and for each read and write
/// later on.
///
/// # Errors
/// [`enum@Error`].
pub fn connect_within(
    proxy: SocketAddr,
    destination: SocketAddr,
    timeout: Duration,
) -> Result<TcpStream, Error> {
    let mut stream = socks::open_within(proxy, timeout)?;
    write!(stream, "CONNECT {destination} HTTP/1.1\r\nHost: {destination}\r\n\r\n")?;
    match status(&read_head(&mut stream)?).ok_or(Error::Malformed)? {
        200 => Ok(stream),
        status => Err(Error::Refused(status)),
    }
}

/// Reads to the empty line and no further: what follows is the target's.
fn read_head(stream: &mut TcpStream) -> Result<Vec<u8>, Error> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD {
            return Err(Error::Malformed);
        }
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(head)
}

fn status(head: &[u8]) -> Option<u16> {
    let head = std::str::from_utf8(head).ok()?;
    head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}
