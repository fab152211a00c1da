//! Servers to reach through a tunnel: each accepted connection runs a handler on a thread of its own.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::IO_TIMEOUT;
use super::pattern::{MAX_SLICE, random_bytes};

/// Enough for every handler here; hundreds of them run at once.
const STACK: usize = 256 * 1024;

/// A listening target; stops accepting when dropped. Connections end by themselves: every read and write has a timeout.
pub struct Target {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Target {
    /// Listens on a free port of `ip` and runs `handler` for each connection. A handler's error ends its connection
    /// and is of no further interest: what matters is what the client sees.
    ///
    /// # Errors
    /// Those of [`TcpListener::bind`], such as an address family the machine lacks.
    pub fn spawn<H>(ip: IpAddr, handler: H) -> io::Result<Self>
    where
        H: Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind((ip, 0))?;
        let address = listener.local_addr()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let accepting = thread::spawn({
            let stopped = Arc::clone(&stopped);
            move || accept_all(&listener, &stopped, Arc::new(handler))
        });
        Ok(Self { address, stopped, accepting: Some(accepting) })
    }

    /// [`Self::spawn`] on 127.0.0.1.
    ///
    /// # Errors
    /// Those of [`TcpListener::bind`].
    pub fn local<H>(handler: H) -> io::Result<Self>
    where
        H: Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    {
        Self::spawn(Ipv4Addr::LOCALHOST.into(), handler)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.address).finish()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread out of `accept`.
        let woken = TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok();
        if let Some(accepting) = self.accepting.take().filter(|_| woken) {
            // It has no way to panic that a test would want to hear about.
            let _ = accepting.join();
        }
    }
}

fn accept_all<H>(listener: &TcpListener, stopped: &AtomicBool, handler: Arc<H>)
where
    H: Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
{
    for stream in listener.incoming() {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let handler = Arc::clone(&handler);
        let serve = move || {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(IO_TIMEOUT))?;
            stream.set_write_timeout(Some(IO_TIMEOUT))?;
            handler(stream)
        };
        // Without a thread for it the connection is dropped, which its client notices.
        let _ = thread::Builder::new().stack_size(STACK).spawn(serve);
    }
}

/// Sends FIN, then reads and discards until the peer's end: closing with unread bytes would make the kernel send RST and
/// destroy what the peer hasn't read yet.
///
/// # Errors
/// Those of the socket.
pub fn close_gently(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    discard(&mut stream).map(drop)
}

/// Reads to the end of `stream` and returns how many bytes there were.
///
/// # Errors
/// Those of the socket.
pub fn discard(stream: &mut TcpStream) -> io::Result<u64> {
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(total),
            read => total += read as u64,
        }
    }
}

/// Answers one HTTP request for `/SEED/LENGTH` with that many [`random_bytes`], then closes.
///
/// # Errors
/// Those of the socket; [`io::ErrorKind::InvalidData`] for another request.
pub fn http(stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 0 && !header.trim_end().is_empty() {
        header.clear();
    }
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "request");
    let path = request.split(' ').nth(1).ok_or_else(malformed)?;
    let (seed, length) = path.trim_start_matches('/').split_once('/').ok_or_else(malformed)?;
    let seed: u64 = seed.parse().map_err(|_| malformed())?;
    let length: usize = length.parse().map_err(|_| malformed())?;

    let mut stream = reader.into_inner();
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").into_bytes();
    answer.extend(random_bytes(seed, length));
    stream.write_all(&answer)?;
    close_gently(stream)
}

/// Sends back what it gets, until the end.
///
/// # Errors
/// Those of the socket.
pub fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.shutdown(Shutdown::Write),
            read => stream.write_all(&buffer[..read])?,
        }
    }
}

/// Sends `data` without being asked, then closes.
///
/// # Errors
/// Those of the socket.
pub fn send_and_close(mut stream: TcpStream, data: &[u8]) -> io::Result<()> {
    for piece in data.chunks(MAX_SLICE) {
        stream.write_all(piece)?;
    }
    close_gently(stream)
}

/// Reads exactly `length` bytes.
///
/// # Errors
/// Those of the socket; [`io::ErrorKind::UnexpectedEof`] with the count when it ends early.
pub fn read_bytes(stream: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    let mut data = Vec::with_capacity(length);
    stream.take(length as u64).read_to_end(&mut data)?;
    if data.len() < length {
        let text = format!("ended after {} of {length} bytes", data.len());
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
    }
    Ok(data)
}
