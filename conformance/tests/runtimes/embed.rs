//! A client and a server of our own, with real sockets between them.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use driver_core::embed::{Client, ClientHandle, PipeStream, Server, ServerHandle};
use driver_core::runtime::Runtime;
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use linksocks_sansio::error::{LinkError, OpenError, StopReason};
use linksocks_sansio::socks5::{Host, TargetAddr};
use linksocks_sansio::{ClientConfig, Event, ServerConfig, ServerUrl, Stats, Token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{ANY_PORT, PATIENCE, patient, pattern, reserved, serve_echo};

scenarios! {
    socks_carries_both_directions_to_their_end,
    socks_says_that_a_target_is_not_reached,
    many_channels_at_once_don_t_mix on two threads,
    open_connects_without_socks,
    an_abandoned_stream_is_a_reset_for_the_target_and_the_reverse,
    open_fails_with_the_cause,
    a_wrong_token_stops_the_client_with_the_reason,
    a_taken_socks_port_stops_the_client_with_the_reason,
    shutdown_lets_channels_finish_and_frees_the_port,
    dropping_the_handles_ends_both,
}

async fn server<R: Runtime>(runtime: &R, address: SocketAddr) -> ServerHandle {
    let config = ServerConfig::forward(Token::new("secret").unwrap()).unwrap();
    Server::builder(config).bind(address).start(runtime.clone()).await.unwrap()
}

fn client_config(server: SocketAddr, token: &str) -> ClientConfig {
    let url = ServerUrl::parse(&format!("ws://{server}")).unwrap();
    let mut config = ClientConfig::new(url, Token::new(token).unwrap());
    config.listen = Some(ANY_PORT);
    config
}

async fn pair<R: Runtime>(runtime: &R) -> (ServerHandle, ClientHandle) {
    pair_at(runtime, ANY_PORT, ANY_PORT).await
}

/// A server at `front`, and its client with the SOCKS port at `proxy`.
async fn pair_at<R: Runtime>(
    runtime: &R,
    front: SocketAddr,
    proxy: SocketAddr,
) -> (ServerHandle, ClientHandle) {
    let server = server(runtime, front).await;
    let mut config = client_config(server.local_addr(), "secret");
    config.listen = Some(proxy);
    let client = Client::builder(config).start(runtime.clone()).await.unwrap();
    patient(client.ready()).await.unwrap();
    (server, client)
}

/// A listener, and its address as a channel's target.
async fn target() -> (TcpListener, TargetAddr) {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, TargetAddr { host: Host::Ip(address.ip()), port: address.port() })
}

/// A channel: the embedder's end and the target's.
async fn channel(client: &ClientHandle) -> (PipeStream, TcpStream) {
    let (listener, target) = target().await;
    let (stream, accepted) = tokio::join!(patient(client.open(target)), patient(listener.accept()));
    (stream.unwrap(), accepted.unwrap().0)
}

/// Connects by SOCKS5 to a name, so that it is the server that looks it up.
async fn socks_connect(proxy: SocketAddr, name: &str, port: u16) -> (TcpStream, u8) {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    let length = u8::try_from(name.len()).unwrap();
    let request = [&[5, 1, 0, 3, length][..], name.as_bytes(), &port.to_be_bytes()].concat();
    stream.write_all(&[5, 1, 0]).await.unwrap();
    assert_eq!(patient(stream.read_u16()).await.unwrap(), 0x0500);
    stream.write_all(&request).await.unwrap();
    let mut reply = [0; 10];
    patient(stream.read_exact(&mut reply)).await.unwrap();
    (stream, reply[1])
}

async fn socks_carries_both_directions_to_their_end<R: Runtime>(runtime: R) {
    let (_server, client) = pair(&runtime).await;
    let (listener, target) = target().await;
    let data = pattern(3 << 20);
    let request = &data;
    let serve = async {
        let (mut stream, _) = patient(listener.accept()).await.unwrap();
        let mut received = Vec::new();
        patient(stream.read_to_end(&mut received)).await.unwrap();
        assert!(received == *request);
        received.reverse();
        patient(stream.write_all(&received)).await.unwrap();
    };
    let ask = async {
        let (mut stream, reply) = socks_connect(client.local_addr().unwrap(), "localhost", target.port).await;
        assert_eq!(reply, 0);
        patient(stream.write_all(request)).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        patient(stream.read_to_end(&mut answer)).await.unwrap();
        answer.reverse();
        assert!(answer == *request);
    };
    tokio::join!(serve, ask);
}

async fn socks_says_that_a_target_is_not_reached<R: Runtime>(runtime: R) {
    let (_server, client) = pair(&runtime).await;
    let proxy = client.local_addr().unwrap();
    let (_socket, target) = reserved();
    assert_eq!(socks_connect(proxy, "127.0.0.1", target.port()).await.1, 4, "host unreachable");
}

async fn many_channels_at_once_don_t_mix<R: Runtime>(runtime: R) {
    let (_server, client) = pair(&runtime).await;
    let (listener, target) = target().await;
    tokio::spawn(serve_echo(listener));
    let client = &client;
    let echo = async |index: usize| {
        let mut stream = patient(client.open(target.clone())).await.unwrap();
        let data = pattern(20_000 + index);
        patient(stream.write_all(&data)).await.unwrap();
        patient(stream.close()).await.unwrap();
        let mut answer = Vec::new();
        patient(stream.read_to_end(&mut answer)).await.unwrap();
        assert!(answer == data, "channel {index}");
    };
    futures_util::future::join_all((0..100).map(echo)).await;
}

async fn open_connects_without_socks<R: Runtime>(runtime: R) {
    let (_server, client) = pair(&runtime).await;
    let (mut stream, mut target) = channel(&client).await;
    stream.write_all(b"ping").await.unwrap();
    let mut buf = [0; 4];
    patient(target.read_exact(&mut buf)).await.unwrap();
    target.write_all(b"pong").await.unwrap();
    target.shutdown().await.unwrap();
    let mut answer = Vec::new();
    patient(stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!((&buf, &answer[..]), (b"ping", &b"pong"[..]));
}

async fn an_abandoned_stream_is_a_reset_for_the_target_and_the_reverse<R: Runtime>(runtime: R) {
    let (_server, client) = pair(&runtime).await;
    let (stream, mut target) = channel(&client).await;
    drop(stream);
    let error = patient(target.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    let (mut stream, target) = channel(&client).await;
    target.set_zero_linger().unwrap();
    drop(target);
    let error = patient(stream.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

async fn open_fails_with_the_cause<R: Runtime>(runtime: R) {
    let (_server, client) = pair(&runtime).await;
    let (_socket, target) = reserved();
    let error = patient(client.open(target.into())).await.unwrap_err();
    assert!(matches!(&error, OpenError::Connect(_)), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");

    patient(client.shutdown(Duration::ZERO)).await;
    let error = patient(client.open(target.into())).await.unwrap_err();
    assert_eq!(error, OpenError::Stopped(StopReason::Shutdown));
}

async fn a_wrong_token_stops_the_client_with_the_reason<R: Runtime>(runtime: R) {
    let server = server(&runtime, ANY_PORT).await;
    let config = client_config(server.local_addr(), "wrong");
    let client = Client::builder(config).start(runtime.clone()).await.unwrap();
    let reason = patient(client.ready()).await.unwrap_err();
    assert!(matches!(&reason, StopReason::Link(LinkError::Rejected(_))), "{reason:?}");
    assert_eq!(client.stopped().await, reason);
    let target = "localhost:1".parse().unwrap();
    assert_eq!(client.open(target).await.unwrap_err(), OpenError::Stopped(reason));
    assert_eq!(client.stats().await, Stats::default());
}

async fn a_taken_socks_port_stops_the_client_with_the_reason<R: Runtime>(runtime: R) {
    let server = server(&runtime, ANY_PORT).await;
    let taken = TcpListener::bind(ANY_PORT).await.unwrap();
    let mut config = client_config(server.local_addr(), "secret");
    config.listen = Some(taken.local_addr().unwrap());
    let client = Client::builder(config).start(runtime.clone()).await.unwrap();
    let reason = patient(client.ready()).await.unwrap_err();
    assert!(matches!(reason, StopReason::Listen { .. }), "{reason:?}");
}

async fn shutdown_lets_channels_finish_and_frees_the_port<R: Runtime>(runtime: R) {
    let (_port, proxy) = reserved();
    let (server, client) = pair_at(&runtime, ANY_PORT, proxy).await;
    let mut events = server.events();
    let (mut stream, mut target) = channel(&client).await;
    let finish = async {
        // New ones are refused meanwhile.
        while TcpStream::connect(proxy).await.is_ok() {
            tokio::task::yield_now().await;
        }
        target.write_all(b"last").await.unwrap();
        target.shutdown().await.unwrap();
        let mut answer = Vec::new();
        patient(stream.read_to_end(&mut answer)).await.unwrap();
        stream.close().await.unwrap();
        assert_eq!(answer, b"last");
    };
    let (reason, ()) = tokio::join!(patient(client.shutdown(PATIENCE)), finish);
    assert_eq!(reason, StopReason::Shutdown);
    TcpListener::bind(proxy).await.unwrap();

    let gone = async { while !matches!(events.next().await, Some(Event::ClientDisconnected { .. })) {} };
    patient(gone).await;
    assert_eq!(patient(server.shutdown(Duration::ZERO)).await, StopReason::Shutdown);
    assert!(patient(events.next()).await.is_none());
}

async fn dropping_the_handles_ends_both<R: Runtime>(runtime: R) {
    let ((_port, proxy), (_other_port, front)) = (reserved(), reserved());
    let (server, client) = pair_at(&runtime, front, proxy).await;
    let (mut stream, _target) = channel(&client).await;
    drop(client);
    let error = patient(stream.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    drop(server);
    for address in [proxy, front] {
        let refused = async { while TcpStream::connect(address).await.is_ok() {} };
        patient(refused).await;
    }
}
