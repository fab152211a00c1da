//! A real resolver library that asks its questions through a UDP association.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use conformance::interop::Tunnel;
use conformance::interop::udp::Association;
use hickory_resolver::Resolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::{
    DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime,
};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use linksocks_sansio::socks5::{Datagram, Host};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use crate::TestResult;

/// The address that every name has, as far as it has one.
const ADDRESS: [u8; 4] = [192, 0, 2, 53];

/// A socket of the resolver: a UDP association.
struct SocksSocket {
    socket: UdpSocket,
    association: Association,
}

impl SocksSocket {
    fn open(proxy: SocketAddr) -> io::Result<Self> {
        let association = Association::open(proxy).map_err(io::Error::other)?;
        let socket = association.socket.try_clone()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UdpSocket::from_std(socket)?, association })
    }
}

impl DnsUdpSocket for SocksSocket {
    type Time = TokioTime;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut datagram = vec![0; 65_535];
        let mut read = ReadBuf::new(&mut datagram);
        ready!(self.socket.poll_recv_from(cx, &mut read))?;
        let datagram = Bytes::copy_from_slice(read.filled());
        let Datagram { address, payload } = Datagram::decode(&datagram).map_err(io::Error::other)?;
        let Host::Ip(ip) = address.host else {
            return Poll::Ready(Err(io::Error::other(format!("an answer from {address}"))));
        };
        buf[..payload.len()].copy_from_slice(&payload);
        Poll::Ready(Ok((payload.len(), SocketAddr::new(ip, address.port))))
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], target: SocketAddr) -> Poll<io::Result<usize>> {
        let datagram = Datagram { address: target.into(), payload: Bytes::copy_from_slice(buf) };
        let datagram = datagram.encode().map_err(io::Error::other)?;
        ready!(self.socket.poll_send_to(cx, &datagram, self.association.relay))?;
        Poll::Ready(Ok(buf.len()))
    }
}

/// Opens an association for each socket that the resolver wants.
#[derive(Clone)]
struct ThroughSocks {
    proxy: SocketAddr,
    direct: TokioRuntimeProvider,
}

impl RuntimeProvider for ThroughSocks {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = SocksSocket;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> TokioHandle {
        self.direct.create_handle()
    }

    fn connect_tcp(
        &self,
        _: SocketAddr,
        _: Option<SocketAddr>,
        _: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        Box::pin(async { Err(io::Error::other("UDP is enough for these questions")) })
    }

    fn bind_udp(
        &self,
        _: SocketAddr,
        _: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<SocksSocket>>>> {
        let socket = SocksSocket::open(self.proxy);
        Box::pin(async move { socket })
    }
}

/// Knows [`ADDRESS`] for every name below `known.test`, and no other name.
async fn serve_names(socket: UdpSocket) -> TestResult {
    let mut buffer = [0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await?;
        let request = Message::from_vec(&buffer[..length])?;
        let query = request.queries[0].clone();
        let mut response = Message::response(request.metadata.id, request.metadata.op_code);
        if !query.name().to_ascii().ends_with(".known.test.") {
            response.metadata.response_code = ResponseCode::NXDomain;
        } else if query.query_type() == RecordType::A {
            let data = RData::A(Ipv4Addr::from(ADDRESS).into());
            response.add_answer(Record::from_rdata(query.name().clone(), 60, data));
        }
        response.add_query(query);
        socket.send_to(&response.to_vec()?, from).await?;
    }
}

async fn ask(proxy: SocketAddr, name_server: SocketAddr) -> TestResult {
    let mut connection = ConnectionConfig::udp();
    connection.port = name_server.port();
    let server = NameServerConfig::new(name_server.ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let provider = ThroughSocks { proxy, direct: TokioRuntimeProvider::default() };
    let resolver = Resolver::builder_with_config(config, provider).build()?;
    for name in ["a.known.test.", "b.known.test.", "c.known.test."] {
        let found: Vec<IpAddr> = resolver.lookup_ip(name).await?.iter().collect();
        if found != [IpAddr::from(ADDRESS)] {
            return Err(format!("{name} has the addresses {found:?}").into());
        }
    }
    match resolver.lookup_ip("unknown.test.").await {
        Err(error) if error.is_nx_domain() => Ok(()),
        other => Err(format!("a name that does not exist: {other:?}").into()),
    }
}

pub(crate) fn a_resolver_finds_names(tunnel: &mut Tunnel) -> TestResult {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        // Only what comes through the tunnel reaches it: the resolver has no other sockets.
        let names = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = names.local_addr()?;
        tokio::select! {
            result = ask(tunnel.socks(), address) => result,
            error = serve_names(names) => Err(format!("the name server has failed: {error:?}").into()),
        }
    })
}
