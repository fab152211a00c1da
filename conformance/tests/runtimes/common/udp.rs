//! Applications and targets that use UDP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;

use bytes::Bytes;
use linksocks_sansio::socks5::{Datagram, TargetAddr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::patient;

/// A UDP association of an application that speaks SOCKS5.
pub struct Association {
    /// Ends the association when it is closed.
    pub control: TcpStream,
    pub socket: UdpSocket,
    /// Where datagrams for the proxy go.
    pub relay: SocketAddr,
}

impl Association {
    /// Asks `proxy` for an association.
    pub async fn open(proxy: SocketAddr) -> Self {
        let mut control = TcpStream::connect(proxy).await.unwrap();
        control.write_all(&[5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
        let mut head = [0; 6];
        patient(control.read_exact(&mut head)).await.unwrap();
        assert_eq!(head[..5], [5, 0, 5, 0, 0], "granted");
        let ip: IpAddr = if head[5] == 1 {
            let mut ip = [0; 4];
            control.read_exact(&mut ip).await.unwrap();
            ip.into()
        } else {
            let mut ip = [0; 16];
            control.read_exact(&mut ip).await.unwrap();
            ip.into()
        };
        let relay = SocketAddr::new(ip, control.read_u16().await.unwrap());
        let socket = UdpSocket::bind(SocketAddr::new(ip, 0)).await.unwrap();
        Self { control, socket, relay }
    }

    pub async fn send_to(&self, payload: &[u8], target: &TargetAddr) -> io::Result<()> {
        let datagram = Datagram { address: target.clone(), payload: Bytes::copy_from_slice(payload) };
        self.socket.send_to(&datagram.encode().unwrap(), self.relay).await.map(|_| ())
    }

    pub async fn recv_from(&self) -> (Bytes, TargetAddr) {
        let mut buffer = vec![0; 65_535];
        let (length, from) = patient(self.socket.recv_from(&mut buffer)).await.unwrap();
        assert_eq!(from, self.relay);
        buffer.truncate(length);
        let Datagram { address, payload } = Datagram::decode(&buffer.into()).unwrap();
        (payload, address)
    }

    /// Sends, and expects the same back from `source`.
    pub async fn echo(&self, payload: &[u8], target: &TargetAddr, source: SocketAddr) {
        self.send_to(payload, target).await.unwrap();
        let (echo, from) = self.recv_from().await;
        assert!(echo == payload, "{} bytes came back for {}", echo.len(), payload.len());
        assert_eq!(from, source.into());
    }
}

/// Sends everything back to where it came from.
pub async fn echo_server(ip: &str) -> SocketAddr {
    let socket = UdpSocket::bind(SocketAddr::new(IpAddr::from_str(ip).unwrap(), 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..length], from).await;
        }
    });
    address
}
