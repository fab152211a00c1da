//! A real resolver library that asks its questions through a UDP association.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs, dead_code, unreachable_pub)]

mod common;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use common::udp::Association;
use common::{ANY_PORT, patient};
use driver_tokio::linksocks_sansio::socks5::{Datagram, Host};
use driver_tokio::linksocks_sansio::{ClientConfig, ServerConfig, ServerUrl, Token};
use driver_tokio::{Client, Server, TokioRuntime};
use hickory_resolver::Resolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::{
    DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime,
};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

/// The address that every name has, as far as it has one.
const ADDRESS: [u8; 4] = [192, 0, 2, 53];

/// A socket of the resolver: a UDP association.
struct SocksSocket(Association);

impl DnsUdpSocket for SocksSocket {
    type Time = TokioTime;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut datagram = vec![0; 65_535];
        let mut read = ReadBuf::new(&mut datagram);
        ready!(self.0.socket.poll_recv_from(cx, &mut read))?;
        let datagram = Bytes::copy_from_slice(read.filled());
        let Datagram { address, payload } = Datagram::decode(&datagram).map_err(io::Error::other)?;
        let Host::Ip(ip) = address.host else { panic!("an answer from {address}") };
        buf[..payload.len()].copy_from_slice(&payload);
        Poll::Ready(Ok((payload.len(), SocketAddr::new(ip, address.port))))
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], target: SocketAddr) -> Poll<io::Result<usize>> {
        let datagram = Datagram { address: target.into(), payload: Bytes::copy_from_slice(buf) };
        ready!(self.0.socket.poll_send_to(cx, &datagram.encode().unwrap(), self.0.relay))?;
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
        panic!("UDP is enough for these questions")
    }

    fn bind_udp(
        &self,
        _: SocketAddr,
        _: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<SocksSocket>>>> {
        let proxy = self.proxy;
        Box::pin(async move { Ok(SocksSocket(Association::open(proxy).await)) })
    }
}

/// Knows [`ADDRESS`] for every name below `known.test`, and no other name.
async fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind(ANY_PORT).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let request = Message::from_vec(&buffer[..length]).unwrap();
            let query = request.queries[0].clone();
            let mut response = Message::response(request.metadata.id, request.metadata.op_code);
            if !query.name().to_ascii().ends_with(".known.test.") {
                response.metadata.response_code = ResponseCode::NXDomain;
            } else if query.query_type() == RecordType::A {
                let record =
                    Record::from_rdata(query.name().clone(), 60, RData::A(Ipv4Addr::from(ADDRESS).into()));
                response.add_answer(record);
            }
            response.add_query(query);
            socket.send_to(&response.to_vec().unwrap(), from).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_resolver_finds_names_through_the_tunnel() {
    let config = ServerConfig::forward(Token::new("secret").unwrap()).unwrap();
    let server = Server::builder(config).bind(ANY_PORT).start(TokioRuntime::current()).await.unwrap();
    let url = ServerUrl::parse(&format!("ws://{}", server.local_addr())).unwrap();
    let mut config = ClientConfig::new(url, Token::new("secret").unwrap());
    config.listen = Some(ANY_PORT);
    let client = Client::builder(config).start(TokioRuntime::current()).await.unwrap();
    patient(client.ready()).await.unwrap();

    let name_server = name_server().await;
    let mut connection = ConnectionConfig::udp();
    connection.port = name_server.port();
    let server_config = NameServerConfig::new(name_server.ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server_config]);
    let provider =
        ThroughSocks { proxy: client.local_addr().unwrap(), direct: TokioRuntimeProvider::default() };
    let resolver = Resolver::builder_with_config(config, provider).build().unwrap();

    for name in ["a.known.test.", "b.known.test.", "c.known.test."] {
        let found: Vec<IpAddr> = patient(resolver.lookup_ip(name)).await.unwrap().iter().collect();
        assert_eq!(found, [IpAddr::from(ADDRESS)], "{name}");
    }
    let unknown = patient(resolver.lookup_ip("unknown.test.")).await.unwrap_err();
    assert!(unknown.is_nx_domain(), "{unknown}");
    assert!(server.stats().await.datagrams_received >= 4, "the questions came by the tunnel");
}
