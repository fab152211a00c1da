//! UDP through a client and a server of our own, with real sockets everywhere.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use driver_core::embed::{Client, ClientHandle, Server, ServerHandle};
use driver_core::runtime::Runtime;
use linksocks_sansio::access::AccessRule;
use linksocks_sansio::error::OpenError;
use linksocks_sansio::socks5::{Host, TargetAddr};
use linksocks_sansio::{ClientConfig, ServerConfig, ServerUrl, Stats, Token};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::udp::{Association, echo_server};
use crate::common::{ANY_PORT, PATIENCE, patient, pattern};

scenarios! {
    every_size_comes_back_over_ipv4_and_by_name,
    ipv6_works_on_both_sides_up_to_the_longest_payload,
    an_embedder_needs_no_socks,
    dropping_the_channel_frees_everything,
    thirty_associations_at_once_get_their_own_answers on two threads,
    what_can_not_be_sent_and_what_is_malformed_harms_nothing,
    bytes_on_the_control_connection_are_ignored_and_its_end_is_not,
}

/// The longest payloads that fit into a datagram of IPv4 behind the SOCKS header of an IPv4 address, and
/// of the name `localhost`.
const LONGEST_TO_ADDRESS: usize = 65_507 - 10;
const LONGEST_TO_NAME: usize = 65_507 - 16;

async fn pair<R: Runtime>(
    runtime: &R,
    listen: SocketAddr,
    dial_rules: &[&str],
) -> (ServerHandle, ClientHandle) {
    let mut config = ServerConfig::forward(Token::new("secret").unwrap()).unwrap();
    config.relay.dial_rules = dial_rules.iter().map(|rule| rule.parse::<AccessRule>().unwrap()).collect();
    let server = Server::builder(config).bind(ANY_PORT).start(runtime.clone()).await.unwrap();
    let url = ServerUrl::parse(&format!("ws://{}", server.local_addr())).unwrap();
    let mut config = ClientConfig::new(url, Token::new("secret").unwrap());
    config.listen = Some(listen);
    let client = Client::builder(config).start(runtime.clone()).await.unwrap();
    patient(client.ready()).await.unwrap();
    (server, client)
}

fn named(name: &str, port: u16) -> TargetAddr {
    TargetAddr::new(Host::Name(name.to_owned()), port)
}

/// Waits until nothing is connected any more.
async fn idle(stats: impl AsyncFn() -> Stats) {
    let start = tokio::time::Instant::now();
    loop {
        let stats = stats().await;
        if (stats.channels, stats.sockets, stats.datagrams_queued) == (0, 0, 0) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "not freed: {stats:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn every_size_comes_back_over_ipv4_and_by_name<R: Runtime>(runtime: R) {
    let (server, client) = pair(&runtime, ANY_PORT, &[]).await;
    let echo = echo_server("127.0.0.1").await;
    let association = Association::open(client.local_addr().unwrap()).await;
    assert_eq!(association.relay.ip(), ANY_PORT.ip());
    for (target, longest) in
        [(echo.into(), LONGEST_TO_ADDRESS), (named("localhost", echo.port()), LONGEST_TO_NAME)]
    {
        for size in [0, 1, 511, 1472, 9000, 60_000, longest] {
            association.echo(&pattern(size), &target, echo).await;
        }
    }
    drop(association);
    idle(|| client.stats()).await;
    idle(|| server.stats()).await;
    assert_eq!(client.stats().await.datagrams_dropped + server.stats().await.datagrams_dropped, 0);
}

async fn ipv6_works_on_both_sides_up_to_the_longest_payload<R: Runtime>(runtime: R) {
    let Ok(probe) = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) else {
        eprintln!("this machine has no IPv6 loopback");
        return;
    };
    drop(probe);
    let (_server, client) = pair(&runtime, (Ipv6Addr::LOCALHOST, 0).into(), &[]).await;
    let association = Association::open(client.local_addr().unwrap()).await;
    assert_eq!(association.relay.ip(), Ipv6Addr::LOCALHOST);
    let (v4, v6) = (echo_server("127.0.0.1").await, echo_server("::1").await);
    for size in [0, 1, 9000, 65_505] {
        association.echo(&pattern(size), &v6.into(), v6).await;
    }
    for size in [0, 1, 65_507] {
        association.echo(&pattern(size), &v4.into(), v4).await;
    }
}

async fn an_embedder_needs_no_socks<R: Runtime>(runtime: R) {
    let (server, client) = pair(&runtime, ANY_PORT, &[]).await;
    let echo = echo_server("127.0.0.1").await;
    let mut channel = patient(client.open_udp()).await.unwrap();
    for size in [0, 1, 1500, 65_507] {
        let payload = pattern(size);
        channel.send_to(payload.clone(), named("localhost", echo.port())).await.unwrap();
        let (received, from) = patient(channel.recv_from()).await.unwrap();
        assert!(received == payload, "{size} bytes");
        assert_eq!(from, echo.into());
    }
    assert!(channel.send_to(pattern(65_508), echo.into()).await.is_err());
    assert!(channel.send_to("x", TargetAddr { port: 0, ..echo.into() }).await.is_err());
    let (mut sender, mut receiver) = channel.split();
    sender.clone().send_to("last", echo.into()).await.unwrap();
    assert_eq!(patient(receiver.recv_from()).await.unwrap().0, "last");
    drop(server);
    assert_eq!(patient(receiver.recv_from()).await, None, "the link is lost");
    assert!(sender.send_to("x", echo.into()).await.is_err());
    idle(|| client.stats()).await;
}

async fn dropping_the_channel_frees_everything<R: Runtime>(runtime: R) {
    let (server, client) = pair(&runtime, ANY_PORT, &[]).await;
    let echo = echo_server("127.0.0.1").await;
    let mut channel = patient(client.open_udp()).await.unwrap();
    channel.send_to("x", echo.into()).await.unwrap();
    patient(channel.recv_from()).await.unwrap();
    drop(channel);
    idle(|| client.stats()).await;
    idle(|| server.stats()).await;
    let (server, client) = (server, client);
    client.shutdown(Duration::ZERO).await;
    assert!(matches!(client.open_udp().await, Err(OpenError::Stopped(_))));
    drop(server);
}

async fn thirty_associations_at_once_get_their_own_answers<R: Runtime>(runtime: R) {
    let (server, client) = pair(&runtime, ANY_PORT, &[]).await;
    let echo = echo_server("127.0.0.1").await;
    let proxy = client.local_addr().unwrap();
    let tasks: Vec<_> = (0..30u8)
        .map(|number| {
            tokio::spawn(async move {
                let association = Association::open(proxy).await;
                for round in 0..20 {
                    let mut payload = pattern(usize::from(round) * 100);
                    payload.extend([number, round]);
                    association.echo(&payload, &echo.into(), echo).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    idle(|| client.stats()).await;
    idle(|| server.stats()).await;
    assert_eq!(server.stats().await.datagrams_sent, 600);
}

async fn what_can_not_be_sent_and_what_is_malformed_harms_nothing<R: Runtime>(runtime: R) {
    let (server, client) = pair(&runtime, ANY_PORT, &["!192.0.2.0/24"]).await;
    let echo = echo_server("127.0.0.1").await;
    let association = Association::open(client.local_addr().unwrap()).await;
    // Broadcast is not permitted to this socket, so the kernel refuses it.
    for target in ["255.255.255.255:9", "192.0.2.1:9", "a..b:9"] {
        association.send_to(b"lost", &target.parse().unwrap()).await.unwrap();
    }
    for malformed in [&b""[..], b"\0\0\0\x01ab", b"\0\0\x01\x01\x7f\0\0\x01\0\x07x", b"\xff\xff\xff"] {
        association.socket.send_to(malformed, association.relay).await.unwrap();
    }
    let stranger = tokio::net::UdpSocket::bind(ANY_PORT).await.unwrap();
    association.echo(b"first", &echo.into(), echo).await;
    stranger.send_to(b"\0\0\0\x01\x7f\0\0\x01\0\x07x", association.relay).await.unwrap();
    association.echo(b"still alive", &echo.into(), echo).await;
    let start = tokio::time::Instant::now();
    while client.stats().await.datagrams_dropped < 5 || server.stats().await.datagrams_dropped < 3 {
        assert!(start.elapsed() < PATIENCE, "{:?} {:?}", client.stats().await, server.stats().await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn bytes_on_the_control_connection_are_ignored_and_its_end_is_not<R: Runtime>(runtime: R) {
    let (server, client) = pair(&runtime, ANY_PORT, &[]).await;
    let echo = echo_server("127.0.0.1").await;
    let mut association = Association::open(client.local_addr().unwrap()).await;
    association.control.write_all(&[0; 100_000]).await.unwrap();
    association.echo(b"x", &echo.into(), echo).await;
    assert_eq!(server.stats().await.associations, 1);
    let Association { mut control, .. } = association;
    control.shutdown().await.unwrap();
    assert_eq!(patient(control.read(&mut [0])).await.unwrap(), 0, "closed from there, too");
    idle(|| client.stats()).await;
    idle(|| server.stats()).await;
}
