//! The application of the demo: an HTTP client that connects by SOCKS5 (RFC 1928).

use std::io;

use futures_util::io::{AsyncReadExt as _, AsyncWriteExt as _};
use linksocks_sansio::socks5::{TargetAddr, TargetError};
use thiserror::Error;

/// The longest response head that is read.
const HEAD_LIMIT: usize = 8 * 1024;
const READ_SIZE: usize = 256 * 1024;

/// Why a fetch failed.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    #[error("connection to the SOCKS port: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Target(#[from] TargetError),
    #[error("the SOCKS server refused with code {0:02x}")]
    Refused(u8),
    #[error("unexpected answer: {0}")]
    Answer(&'static str),
    #[error("the body differs from what was sent before byte {0}")]
    Corrupt(u64),
    #[error("{received} of {expected} bytes arrived")]
    Length { received: u64, expected: u64 },
}

/// Fetches `path` from `target` over a connection to a SOCKS port. Gives the body to `check` piece
/// by piece, which says whether it is right. Returns the length of the body.
pub(super) async fn get<S>(
    mut stream: S,
    target: &TargetAddr,
    path: &str,
    mut check: impl FnMut(&[u8]) -> bool,
) -> Result<u64, FetchError>
where
    S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin,
{
    connect(&mut stream, target).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;

    let mut buffer = vec![0; READ_SIZE];
    let mut filled = 0;
    let head_end = loop {
        let read = stream.read(&mut buffer[filled..HEAD_LIMIT]).await?;
        filled += read;
        let end = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n");
        match end {
            Some(end) => break end + 4,
            None if read == 0 => return Err(FetchError::Answer("no end of the HTTP head")),
            None => {}
        }
    };
    let expected = content_length(&buffer[..head_end])?;

    let mut received = 0;
    let mut piece = head_end..filled;
    loop {
        received += piece.len() as u64;
        if !check(&buffer[piece]) {
            return Err(FetchError::Corrupt(received));
        }
        match stream.read(&mut buffer).await? {
            0 if received == expected => return Ok(received),
            0 => return Err(FetchError::Length { received, expected }),
            read => piece = 0..read,
        }
    }
}

/// Greeting without authentication, then CONNECT.
async fn connect<S>(stream: &mut S, target: &TargetAddr) -> Result<(), FetchError>
where
    S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin,
{
    stream.write_all(&[5, 1, 0]).await?;
    let mut method = [0; 2];
    stream.read_exact(&mut method).await?;
    if method != [5, 0] {
        return Err(FetchError::Answer("no SOCKS method"));
    }
    let mut request = vec![5, 1, 0];
    target.encode(&mut request)?;
    stream.write_all(&request).await?;
    // The bound address of a LinkSocks reply is always an IPv4 address.
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).await?;
    match reply {
        [5, 0, 0, 1, ..] => Ok(()),
        [5, code, ..] if code != 0 => Err(FetchError::Refused(code)),
        _ => Err(FetchError::Answer("malformed SOCKS reply")),
    }
}

fn content_length(head: &[u8]) -> Result<u64, FetchError> {
    let head = str::from_utf8(head).map_err(|_| FetchError::Answer("HTTP head is no text"))?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(FetchError::Answer("HTTP status is not 200"));
    }
    head.lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .and_then(|length| length.parse().ok())
        .ok_or(FetchError::Answer("no Content-Length"))
}
