//! The web server that the demo fetches from.

use std::io;

use futures_util::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::pattern::Pattern;
use crate::runtime::Runtime;

/// The longest request head that is read.
const HEAD_LIMIT: usize = 8 * 1024;

/// What is served: `/pattern/LENGTH` for a body of so many bytes of the pattern.
pub(super) fn path(length: u64) -> String {
    format!("/pattern/{length}")
}

/// What is served at `/`.
const GREETING: &str = "This came through LinkSocks.\n";

/// Answers requests until the listener fails. Each connection gets one answer.
pub(super) async fn serve<R: Runtime>(runtime: R, listener: R::Listener, seed: u64) {
    while let Ok(accepted) = runtime.accept(&listener).await {
        runtime.spawn(async move {
            // A client that goes away early is no concern of the server.
            let _ = answer(accepted.stream, seed).await;
        });
    }
}

async fn answer<S>(mut stream: S, seed: u64) -> io::Result<()>
where
    S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin,
{
    let head = read_head(&mut stream).await?;
    if head.starts_with("GET / ") {
        stream.write_all(ok(GREETING.len() as u64).as_bytes()).await?;
        stream.write_all(GREETING.as_bytes()).await?;
        return close(stream).await;
    }
    let length = head
        .strip_prefix("GET /pattern/")
        .and_then(|rest| rest.split(' ').next())
        .and_then(|length| length.parse::<u64>().ok());
    let Some(length) = length else {
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await?;
        return close(stream).await;
    };
    stream.write_all(ok(length).as_bytes()).await?;
    let (mut pattern, mut left) = (Pattern::new(seed), length);
    while left > 0 {
        let bytes = pattern.next(usize::try_from(left).unwrap_or(usize::MAX));
        stream.write_all(bytes).await?;
        left -= bytes.len() as u64;
    }
    close(stream).await
}

fn ok(length: u64) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
}

async fn close<S>(mut stream: S) -> io::Result<()>
where
    S: futures_io::AsyncRead + futures_io::AsyncWrite + Unpin,
{
    stream.close().await?;
    // Reading to the end keeps the kernel from answering late bytes with a reset.
    let mut rest = [0; 512];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Reads up to the empty line.
async fn read_head<S: futures_io::AsyncRead + Unpin>(stream: &mut S) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut chunk = [0; 512];
        let read = stream.read(&mut chunk).await?;
        if read == 0 || head.len() + read > HEAD_LIMIT {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.extend_from_slice(&chunk[..read]);
    }
    String::from_utf8(head).map_err(|_| io::ErrorKind::InvalidData.into())
}
