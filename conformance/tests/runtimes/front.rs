//! The HTTP front door of a server, with requests as bytes.

use std::net::SocketAddr;
use std::time::Duration;

use driver_core::embed::{Server, ServerHandle, StartError};
use driver_core::runtime::Runtime;
use linksocks_sansio::error::StopReason;
use linksocks_sansio::{ServerConfig, Token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{ANY_PORT, patient, reserved};

scenarios! {
    people_and_strangers_get_an_answer,
    without_keys_there_is_no_api,
    a_body_has_a_limit_with_or_without_a_key,
    only_valid_upgrades_reach_the_engine,
    an_upgrade_becomes_a_link,
    shutdown_closes_links_and_port,
    a_taken_port_is_an_error_at_the_start,
}

const TOKEN: &str = "secret";

/// RFC 6455 section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub async fn server<R: Runtime>(runtime: &R) -> ServerHandle {
    let config = ServerConfig::forward(Token::new(TOKEN).unwrap()).unwrap();
    Server::builder(config).bind(ANY_PORT).start(runtime.clone()).await.unwrap()
}

/// Sends `request` and reads until the server closes.
async fn exchange(server: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    patient(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

fn upgrade(path: &str, replace: (&str, &str)) -> String {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\
         Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
         LinkSocks-Extensions: window, finish\r\n\r\n"
    );
    assert!(request.contains(replace.0));
    request.replace(replace.0, replace.1)
}

fn path() -> String {
    format!("/socket?reverse=false&token={}", Token::new(TOKEN).unwrap().digest().to_hex())
}

/// Reads the head of an answer.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(patient(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn people_and_strangers_get_an_answer<R: Runtime>(runtime: R) {
    let server = server(&runtime).await;
    let get = async |path: &str| {
        exchange(server.local_addr(), &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
    };

    let version = env!("CARGO_PKG_VERSION");
    let line = format!("LinkSocks v{version} is running but API is not enabled.\n");
    let answer = get("/").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(&line), "{answer}");
    assert!(answer.to_lowercase().contains("content-type: text/plain"), "{answer}");
    let answer =
        exchange(server.local_addr(), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    for path in ["/api/status", "/socketx", "/favicon.ico", "/%2e"] {
        let answer = get(path).await;
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
        assert!(answer.ends_with("404 page not found\n"), "{answer}");
    }
    let answer = exchange(server.local_addr(), "\x05\x01\x00\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    let long = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(15 * 1024));
    let answer = exchange(server.local_addr(), &long).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

pub fn post(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

async fn without_keys_there_is_no_api<R: Runtime>(runtime: R) {
    let server = server(&runtime).await;
    for request in [
        post("/api/token", "X-API-Key: key\r\n", "{\"type\":\"forward\"}"),
        "DELETE /api/token/x HTTP/1.1\r\nHost: x\r\nX-API-Key: key\r\n\r\n".to_owned(),
        "GET /api/config/access HTTP/1.1\r\nHost: x\r\nX-API-Key: \u{e9}\r\n\r\n".to_owned(),
    ] {
        let answer = exchange(server.local_addr(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    }
}

async fn a_body_has_a_limit_with_or_without_a_key<R: Runtime>(runtime: R) {
    let server = server(&runtime).await;
    let chunked = |length: usize| {
        let chunk = "x".repeat(length);
        format!(
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{chunk}\r\n0\r\n\r\n"
        )
    };
    for (length, status) in [
        (0, "200 OK"),
        (64 * 1024, "200 OK"),
        (64 * 1024 + 1, "413 Payload Too Large"),
        (1024 * 1024, "413 Payload Too Large"),
    ] {
        let body = "x".repeat(length);
        for request in [post("/", "", &body), post("/", "X-API-Key: key\r\n", &body), chunked(length.max(1))]
        {
            let answer = exchange(server.local_addr(), &request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{length}: {answer}");
        }
    }
    // Who leaves in the middle of a body gets no answer, and harms nobody.
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nfive.").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    patient(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(!answer.contains("200 OK"), "{answer}");
}

async fn only_valid_upgrades_reach_the_engine<R: Runtime>(runtime: R) {
    let server = server(&runtime).await;
    for replace in [
        ("GET", "POST"),
        ("HTTP/1.1", "HTTP/1.0"),
        ("Connection: keep-alive, Upgrade\r\n", ""),
        ("Upgrade: websocket", "Upgrade: h2c"),
        ("Version: 13", "Version: 8"),
        (KEY, "short"),
    ] {
        let answer = exchange(server.local_addr(), &upgrade(&path(), replace)).await;
        let (_version, rest) = answer.split_once(' ').unwrap();
        assert!(rest.starts_with("400 Bad Request\r\n"), "{replace:?}: {answer}");
        assert!(answer.to_lowercase().contains("sec-websocket-version: 13\r\n"), "{answer}");
    }
    assert_eq!(server.stats().await.links, 0);
}

async fn an_upgrade_becomes_a_link<R: Runtime>(runtime: R) {
    let server = server(&runtime).await;
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let request = upgrade(&path(), ("", ""));
    // Slowly, if the server is quick, and with a first frame right behind: a ping.
    let (first, second) = request.as_bytes().split_at(30);
    stream.write_all(first).await.unwrap();
    tokio::task::yield_now().await;
    stream.write_all(&[second, &[0x89, 0x80, 0, 0, 0, 0]].concat()).await.unwrap();

    let head = head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    let lower = head.to_lowercase();
    for line in
        ["connection: upgrade\r\n", "upgrade: websocket\r\n", "linksocks-extensions: window, finish\r\n"]
    {
        assert!(lower.contains(line), "{head}");
    }
    assert!(head.contains(&format!(": {ACCEPT}\r\n")), "{head}");
    assert!(!lower.contains("protocol:") && !lower.contains("sec-websocket-extensions"), "{head}");
    // The first frames: the answer to the login, what follows it, and the pong in between.
    let mut bytes = Vec::new();
    while !bytes.windows(2).any(|pair| pair == [0x8a, 0]) {
        bytes.push(patient(stream.read_u8()).await.unwrap());
    }
    assert_eq!(server.stats().await.links, 1);
}

async fn shutdown_closes_links_and_port<R: Runtime>(runtime: R) {
    let (_port, address) = reserved();
    let config = ServerConfig::forward(Token::new(TOKEN).unwrap()).unwrap();
    let server = Server::builder(config.clone()).bind(address).start(runtime.clone()).await.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(upgrade(&path(), ("", "")).as_bytes()).await.unwrap();
    head(&mut stream).await;
    // The first byte of a message: the link has begun.
    assert_eq!(patient(stream.read_u8()).await.unwrap(), 0x82);
    let idle = TcpStream::connect(address).await.unwrap();

    let end = async {
        // The peer answers the close by closing.
        let mut bytes = Vec::new();
        while !bytes.windows(4).any(|bytes| bytes[0] == 0x88 && bytes[2..] == [0x03, 0xf4]) {
            bytes.push(patient(stream.read_u8()).await.unwrap());
        }
        stream.shutdown().await.unwrap();
    };
    let (reason, ()) = tokio::join!(patient(server.shutdown(Duration::ZERO)), end);
    assert_eq!(reason, StopReason::Shutdown);
    assert!(TcpStream::connect(address).await.is_err());
    // The port is free for the next one.
    drop(idle);
    Server::builder(config).bind(address).start(runtime.clone()).await.unwrap();
}

async fn a_taken_port_is_an_error_at_the_start<R: Runtime>(runtime: R) {
    let server = server(&runtime).await;
    let config = ServerConfig::forward(Token::new(TOKEN).unwrap()).unwrap();
    let second = Server::builder(config).bind(server.local_addr()).start(runtime.clone()).await;
    assert!(matches!(second, Err(StartError::Listen { .. })));
}
