//! Many providers and connectors at one server, while tokens come and go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use driver_core::embed::{Client, ClientHandle, Server};
use driver_core::runtime::Runtime;
use futures_util::future::{join_all, try_join_all};
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use linksocks_sansio::config::ClientRole;
use linksocks_sansio::socks5::{Host, TargetAddr};
use linksocks_sansio::token::{ConnectorToken, NewToken, ReverseToken};
use linksocks_sansio::{ClientConfig, ServerConfig, ServerUrl, Token};
use tokio::net::TcpListener;

use crate::common::{ANY_PORT, serve_echo};

scenarios! {
    a_crowd_is_not_disturbed_by_tokens_that_come_and_go on two threads,
}

const PROVIDERS: usize = 50;
const CONNECTORS: usize = 500;
/// Tokens that come and go meanwhile.
const PASSING: usize = 20;

/// Longer than all of it takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(300);

fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

fn reverse(text: &str) -> NewToken {
    let mut reverse = ReverseToken::default();
    reverse.token = Some(token(text));
    NewToken::Reverse(reverse)
}

fn connector(text: &str, reverse: &str) -> NewToken {
    let mut connector = ConnectorToken::new(token(reverse));
    connector.token = Some(token(text));
    NewToken::Connector(connector)
}

async fn join<R: Runtime>(runtime: &R, server: SocketAddr, text: &str, role: ClientRole) -> ClientHandle {
    let url = ServerUrl::parse(&format!("ws://{server}")).unwrap();
    let mut config = ClientConfig::new(url, token(text));
    config.role = role;
    let client = Client::builder(config).start(runtime.clone()).await.unwrap();
    client.ready().await.unwrap();
    client
}

fn provider() -> ClientRole {
    ClientRole::Provider { connectors: Vec::new() }
}

/// Asks the echo, again and again, until all are to stop.
async fn talk(client: &ClientHandle, target: TargetAddr, stop: &AtomicBool, answers: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        let mut stream = client.open(target.clone()).await.unwrap();
        for _ in 0..3 {
            stream.write_all(b"question").await.unwrap();
            let mut answer = [0; 8];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"question");
        }
        stream.close().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

async fn a_crowd_is_not_disturbed_by_tokens_that_come_and_go<R: Runtime>(runtime: R) {
    tokio::time::timeout(PATIENCE, crowd(runtime)).await.expect("it ends");
}

async fn crowd<R: Runtime>(runtime: R) {
    let mut config = ServerConfig::default();
    config.tokens = vec![reverse("reverse"), connector("connector", "reverse")];
    let server = Server::builder(config).bind(ANY_PORT).start(runtime.clone()).await.unwrap();
    let address = server.local_addr();
    let echo = TcpListener::bind(ANY_PORT).await.unwrap();
    let target = echo.local_addr().unwrap();
    tokio::spawn(serve_echo(echo));
    let target = TargetAddr { host: Host::Ip(target.ip()), port: target.port() };

    let providers = join_all((0..PROVIDERS).map(|_| join(&runtime, address, "reverse", provider()))).await;
    let connectors =
        join_all((0..CONNECTORS).map(|_| join(&runtime, address, "connector", ClientRole::SocksSide))).await;
    let (stop, answers) = (AtomicBool::new(false), Arc::new(AtomicUsize::new(0)));
    let talks = connectors.iter().map(|client| talk(client, target.clone(), &stop, &answers));
    let passing = async {
        for number in 0..PASSING {
            let (reverse_text, connector_text) = (format!("reverse {number}"), format!("connector {number}"));
            server.add_token(reverse(&reverse_text)).await.unwrap();
            server.add_token(connector(&connector_text, &reverse_text)).await.unwrap();
            let provider = join(&runtime, address, &reverse_text, provider()).await;
            let visitor = join(&runtime, address, &connector_text, ClientRole::SocksSide).await;
            let mut stream = visitor.open(target.clone()).await.unwrap();
            stream.write_all(b"x").await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
            server.remove_token(token(&reverse_text)).await.unwrap();
            let cut = stream.read(&mut [0]).await;
            assert!(cut.is_err(), "a removed token cuts: {cut:?}");
            drop((provider, visitor));
        }
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(passing, join_all(talks));
    let answers = answers.load(Ordering::Relaxed);
    assert!(answers >= CONNECTORS, "everybody was served: {answers}");

    let ends = connectors.iter().chain(&providers).map(|client| async {
        client.shutdown(Duration::from_secs(5)).await;
        Ok::<_, ()>(())
    });
    try_join_all(ends).await.unwrap();
    loop {
        let stats = server.stats().await;
        if stats.links == 0 && stats.suspended_links == 0 {
            assert_eq!((stats.channels, stats.sockets), (0, 0), "{stats:?}");
            assert_eq!((stats.receive_queued, stats.send_queued, stats.session_logs), (0, 0, 0), "{stats:?}");
            break;
        }
        tokio::task::yield_now().await;
    }
}
