//! How long a server waits for a peer, by a clock that does not run on its own.

use std::time::Duration;

use driver_core::embed::Server;
use driver_core::runtime::Runtime;
use linksocks_sansio::token::{ForwardToken, NewToken};
use linksocks_sansio::{ServerConfig, Token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::ANY_PORT;
use crate::{front, tls};
use conformance::certificates::Authority;

scenarios! {
    a_slow_body_is_cut_off_after_30_s in paused time,
    a_slow_head_is_cut_off_after_10_s in paused time,
    an_answer_that_nobody_reads_is_given_up_after_30_s in paused time,
    a_silent_handshake_is_cut_off_after_10_s in paused time,
}

async fn a_slow_body_is_cut_off_after_30_s<R: Runtime>(runtime: R) {
    let server = front::server(&runtime).await;
    let start = tokio::time::Instant::now();
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(front::post("/", "", "body").strip_suffix("dy").unwrap().as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let elapsed = start.elapsed();
    assert!((Duration::from_secs(30)..Duration::from_secs(31)).contains(&elapsed), "{elapsed:?}");
    assert!(answer.is_empty());
}

/// How long the server waits for whoever sends `beginning`, and then a byte each 3 s.
async fn patience(server: std::net::SocketAddr, beginning: &[u8]) -> Duration {
    let start = tokio::time::Instant::now();
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(beginning).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let trickle = async {
        loop {
            tokio::time::sleep(Duration::from_secs(3)).await;
            if writing.write_all(b"x").await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = trickle => {}
        // An error is a RST: not all was read.
        _ = reading.read_to_end(&mut answer) => {}
    }
    start.elapsed()
}

async fn a_slow_head_is_cut_off_after_10_s<R: Runtime>(runtime: R) {
    let server = front::server(&runtime).await;
    for beginning in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: "] {
        let elapsed = patience(server.local_addr(), beginning.as_bytes()).await;
        assert!(
            (Duration::from_secs(10)..Duration::from_secs(11)).contains(&elapsed),
            "{beginning}: {elapsed:?}"
        );
    }
}

async fn an_answer_that_nobody_reads_is_given_up_after_30_s<R: Runtime>(runtime: R) {
    // The status of so many tokens is more than what the kernel takes.
    let mut config = ServerConfig::default();
    config.api_keys.push(Token::new("key").unwrap());
    let token = |number: usize| {
        let mut token = ForwardToken::default();
        token.token = Some(Token::new(format!("{number:0255}")).unwrap());
        NewToken::Forward(token)
    };
    config.tokens = (0..60_000).map(token).collect();
    let whole = 60_000 * 255;
    let server = Server::builder(config).bind(ANY_PORT).start(runtime.clone()).await.unwrap();
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(b"GET /api/status HTTP/1.1\r\nHost: x\r\nX-API-Key: key\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head, *b"HTTP/1.1 200");
    tokio::time::sleep(Duration::from_secs(31)).await;
    let mut rest = Vec::new();
    // An error would say the same.
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.len() < whole, "{} bytes", rest.len());
}

async fn a_silent_handshake_is_cut_off_after_10_s<R: Runtime>(runtime: R) {
    let server = tls::server(&runtime, &Authority::new().issue(tls::LOCALHOST)).await;
    for beginning in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let start = tokio::time::Instant::now();
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let elapsed = start.elapsed();
        assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&elapsed), "{elapsed:?}");
    }
    let elapsed = patience(server.local_addr(), b"\x16\x03\x01\x02\x00\x01").await;
    assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&elapsed), "{elapsed:?}");
}
