//! A blocking user of SOCKS5 UDP ASSOCIATE (RFC 1928 section 7), and a target that answers it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use linksocks_sansio::socks5::{Datagram, TargetAddr};

use super::IO_TIMEOUT;
use super::socks::{self, Error};

/// How long a target waits before it looks whether it is still wanted.
const TICK: Duration = Duration::from_millis(50);

/// A UDP association.
#[derive(Debug)]
pub struct Association {
    /// Ends the association when it is closed.
    pub control: TcpStream,
    /// The user's socket.
    pub socket: UdpSocket,
    /// Where the proxy wants its datagrams.
    pub relay: SocketAddr,
}

impl Association {
    /// Asks the proxy for an association.
    ///
    /// # Errors
    /// [`enum@Error`].
    pub fn open(proxy: SocketAddr) -> Result<Self, Error> {
        let mut control = socks::open(proxy)?;
        control.write_all(&[5, 1, 0])?;
        let mut method = [0; 2];
        control.read_exact(&mut method)?;
        control.write_all(&[5, 3, 0, 1, 0, 0, 0, 0, 0, 0])?;
        let mut reply = [0; 10];
        control.read_exact(&mut reply)?;
        let [5, 0, 0, 1, a, b, c, d, high, low] = reply else {
            return Err(if reply[1] == 0 { Error::Malformed("reply") } else { Error::Refused(reply[1]) });
        };
        let relay = SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(IO_TIMEOUT))?;
        Ok(Self { control, socket, relay })
    }

    /// Sends bytes as they are to where the proxy wants its datagrams.
    ///
    /// # Errors
    /// Those of [`UdpSocket::send_to`].
    pub fn send_raw(&self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send_to(datagram, self.relay).map(|_| ())
    }

    /// Sends a datagram to `target`, by way of the proxy.
    ///
    /// # Errors
    /// Those of [`UdpSocket::send_to`].
    pub fn send_to(&self, payload: &[u8], target: &TargetAddr) -> io::Result<()> {
        let datagram = Datagram { address: target.clone(), payload: Bytes::copy_from_slice(payload) };
        self.send_raw(&datagram.encode().map_err(io::Error::other)?)
    }

    /// The next datagram, and where it came from.
    ///
    /// # Errors
    /// Those of [`UdpSocket::recv_from`], among them the timeout; [`io::ErrorKind::Other`] if the header is malformed
    /// or somebody else than the proxy sent it.
    pub fn recv_from(&self) -> io::Result<(Bytes, TargetAddr)> {
        let mut buffer = vec![0; 65_535];
        let (length, from) = self.socket.recv_from(&mut buffer)?;
        if from != self.relay {
            return Err(io::Error::other(format!("a datagram from {from}, not from the proxy")));
        }
        buffer.truncate(length);
        let datagram = Datagram::decode(&buffer.into()).map_err(io::Error::other)?;
        Ok((datagram.payload, datagram.address))
    }
}

/// Sends every datagram back to where it came from; stops when dropped.
#[derive(Debug)]
pub struct EchoTarget {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EchoTarget {
    /// Binds a free port of `ip`.
    ///
    /// # Errors
    /// Those of [`UdpSocket::bind`], such as an address family the machine lacks.
    pub fn bind(ip: IpAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((ip, 0))?;
        socket.set_read_timeout(Some(TICK))?;
        let address = socket.local_addr()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stopped = Arc::clone(&stopped);
            move || {
                let mut buffer = vec![0; 65_535];
                while !stopped.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                        // One that can't be sent is missed by the test.
                        let _ = socket.send_to(&buffer[..length], from);
                    }
                }
            }
        });
        Ok(Self { address, stopped, thread: Some(thread) })
    }

    /// Where it is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for EchoTarget {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It can't panic; and if it did, the test has failed already.
            let _ = thread.join();
        }
    }
}
