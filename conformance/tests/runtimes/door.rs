//! The front door of a server and strangers: odd requests, crowds, forged headers, pages in browsers.

use std::net::SocketAddr;

use driver_core::embed::{Client, Server, ServerHandle};
use driver_core::runtime::Runtime;
use linksocks_sansio::http::forwarded::TrustedProxy;
use linksocks_sansio::{ClientConfig, Event, ServerConfig, ServerUrl, Token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::frame::{Frame, coding};
use tungstenite::{Message, WebSocket};

use crate::common::{ANY_PORT, patient};

scenarios! {
    odd_requests_get_the_answers_of_the_table,
    an_endless_body_ends_soon,
    one_address_can_not_keep_others_out,
    a_trusted_proxy_may_have_all_places_and_its_clients_may_not,
    headers_of_strangers_are_not_believed,
    a_trusted_proxy_says_who_the_client_is,
    pages_of_other_sites_get_nothing,
    an_upgrade_of_a_page_is_judged_by_its_token,
    a_message_or_frame_over_32_mib_is_refused_with_1009,
}

const TOKEN: &str = "secret";
const KEY: &str = "key";

async fn server<R: Runtime>(runtime: &R, trusted: &[&str]) -> ServerHandle {
    let mut config = ServerConfig::forward(Token::new(TOKEN).unwrap()).unwrap();
    config.api_keys.push(Token::new(KEY).unwrap());
    let trusted = trusted.iter().map(|text| text.parse::<TrustedProxy>().unwrap()).collect();
    Server::builder(config).bind(ANY_PORT).trusted_proxies(trusted).start(runtime.clone()).await.unwrap()
}

/// Sends `request`, and returns all that comes until the server closes, be it by RST.
async fn exchange(server: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server).await.unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(request).await;
    rest(&mut stream).await
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = patient(stream.read(&mut piece)).await {
        answer.extend_from_slice(&piece[..length]);
    }
    String::from_utf8(answer).unwrap()
}

/// The statuses of the answers in `text`.
fn statuses(text: &str) -> Vec<&str> {
    text.split("HTTP/1.").skip(1).map(|answer| answer.get(2..5).unwrap()).collect()
}

/// A request for a WebSocket with a token, and with more header fields.
fn upgrade(token: &str, more: &str) -> String {
    let digest = Token::new(token).unwrap().digest().to_hex();
    format!(
        "GET /socket?token={digest} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

async fn odd_requests_get_the_answers_of_the_table<R: Runtime>(runtime: R) {
    let server = server(&runtime, &[]).await;
    let post = |headers: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}");
    let second = get("/second", "");
    let mut wrong = Vec::new();
    for (what, request, expected) in [
        ("a second request behind the first", get("/", "") + &second, "200"),
        ("keep-alive", get("/", "Connection: keep-alive\r\n") + &second, "200"),
        ("HTTP/1.0", "GET / HTTP/1.0\r\n\r\n".to_owned(), "200"),
        (
            "HTTP/1.0 and keep-alive",
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned() + &second,
            "200",
        ),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), ""),
        ("another version", "GET / HTTP/3.0\r\n\r\n".to_owned(), "400"),
        ("the absolute form", get("http://elsewhere.example/", ""), "200"),
        (
            "the authority form",
            "CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned() + &second,
            "404",
        ),
        ("the asterisk form", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "404"),
        ("a bare line feed", "GET / HTTP/1.1\nHost: x\n\n".to_owned() + &second, "200"),
        ("a folded header", get("/", "X: a\r\n b\r\n"), "400"),
        ("a space before the colon", get("/", "X : a\r\n"), "400"),
        ("a zero byte", get("/", "X: a\0b\r\n"), "400"),
        (
            "a length and chunks",
            post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n") + &second,
            "200",
        ),
        (
            "chunks and a length",
            post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n") + &second,
            "200",
        ),
        ("an unknown coding", post("Transfer-Encoding: chunked, gzip\r\n", ""), "400"),
        (
            "chunks in HTTP/1.0",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "400",
        ),
        ("a chunk size that is none", post("Transfer-Encoding: chunked\r\n", "x\r\n"), "400"),
        ("one length twice", post("Content-Length: 2\r\nContent-Length: 2\r\n", "hi"), "200"),
        ("two lengths", post("Content-Length: 2\r\nContent-Length: 3\r\n", "hi!"), "400"),
        ("a list of lengths", post("Content-Length: 2, 3\r\n", "hi!"), "400"),
        ("a length with a sign", post("Content-Length: +2\r\n", "hi"), "400"),
        ("a huge length", post("Content-Length: 99999999999999999999999\r\n", "hi"), "400"),
        ("many header fields", get("/", &"X: a\r\n".repeat(100)), "431"),
        ("a long head", get("/", &format!("X: {}\r\n", "a".repeat(17 * 1024))), "431"),
        ("a long target", get(&format!("/{}", "a".repeat(17 * 1024)), ""), "431"),
        ("an upgrade with a body", upgrade(TOKEN, "Content-Length: 4\r\n") + "body", "400"),
        ("an upgrade with chunks", upgrade(TOKEN, "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", "400"),
    ] {
        let answer = exchange(server.local_addr(), request.as_bytes()).await;
        if statuses(&answer).join(" ") != expected {
            wrong.push(format!("{what}: {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(server.stats().await.links, 0);
}

async fn an_endless_body_ends_soon<R: Runtime>(runtime: R) {
    let server = server(&runtime, &[]).await;
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000)).repeat(16);
    let send = async { while writing.write_all(chunk.as_bytes()).await.is_ok() {} };
    let mut head = [0; 12];
    let (answer, ()) = tokio::join!(patient(reading.read_exact(&mut head)), patient(send));
    answer.unwrap();
    assert_eq!(head, *b"HTTP/1.1 413");
}

/// How many connections one address may have at the door.
const SHARE: usize = 64;

/// Connections from `from` that have sent the beginning of a request.
async fn crowd(server: SocketAddr, from: &str, count: usize) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    for _ in 0..count {
        let mut stream = connect(server, from).await;
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        crowd.push(stream);
    }
    crowd
}

async fn connect(server: SocketAddr, from: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    socket.connect(server).await.unwrap()
}

/// How many of them are answered once they end their request.
async fn answered(crowd: Vec<TcpStream>, headers: &str) -> usize {
    let mut count = 0;
    for mut stream in crowd {
        // Fails on one that was closed.
        let _ = stream.write_all(format!("Host: x\r\n{headers}\r\n").as_bytes()).await;
        count += usize::from(rest(&mut stream).await.starts_with("HTTP/1.1 200"));
    }
    count
}

/// Waits until the server has seen all connections that were made before.
async fn settle(server: SocketAddr) {
    let mut stream = connect(server, "127.0.0.9").await;
    stream.write_all(get("/", "").as_bytes()).await.unwrap();
    assert_eq!(statuses(&rest(&mut stream).await), ["200"], "others are not kept out");
}

async fn one_address_can_not_keep_others_out<R: Runtime>(runtime: R) {
    let server = server(&runtime, &[]).await;
    let address = server.local_addr();
    let crowd = crowd(address, "127.0.0.1", 2 * SHARE).await;
    settle(address).await;
    assert_eq!(answered(crowd, "").await, SHARE);
    // All of them have gone, and their places are free.
    assert_eq!(statuses(&exchange(address, get("/", "").as_bytes()).await), ["200"]);
}

async fn a_trusted_proxy_may_have_all_places_and_its_clients_may_not<R: Runtime>(runtime: R) {
    let server = server(&runtime, &["127.0.0.1"]).await;
    let address = server.local_addr();
    let many = crowd(address, "127.0.0.1", 2 * SHARE).await;
    settle(address).await;
    assert_eq!(answered(many, "").await, 2 * SHARE);

    // A request whose body does not come keeps the place of its client.
    let mut slow = crowd(address, "127.0.0.1", SHARE).await;
    for stream in &mut slow {
        let rest =
            b"Host: x\r\nX-Forwarded-For: 192.0.2.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n";
        stream.write_all(rest).await.unwrap();
        let mut head = [0; 12];
        patient(stream.read_exact(&mut head)).await.unwrap();
        assert_eq!(head, *b"HTTP/1.1 100", "it has been let in");
    }
    let status = async |client: &str| {
        let request = get("/", &format!("X-Forwarded-For: {client}\r\n"));
        exchange(address, request.as_bytes()).await.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(status("192.0.2.1").await, "503");
    assert_eq!(status("192.0.2.2").await, "200");
}

/// How many of 40 requests with a wrong key are looked at.
async fn guesses(server: SocketAddr, headers: impl Fn(usize) -> String) -> usize {
    let mut count = 0;
    for number in 0..40 {
        let request = get("/api/status", &format!("X-API-Key: guess\r\n{}", headers(number)));
        let answer = exchange(server, request.as_bytes()).await;
        count += usize::from(statuses(&answer) == ["401"]);
    }
    count
}

/// The address of the next client that logs in by `request`, as the server tells it.
async fn logged_in(server: &ServerHandle, request: &str) -> SocketAddr {
    let mut events = server.events();
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    loop {
        if let Event::ClientAuthenticated { peer, .. } = patient(events.next()).await.unwrap() {
            return peer;
        }
    }
}

async fn headers_of_strangers_are_not_believed<R: Runtime>(runtime: R) {
    for trusted in [&[][..], &["10.0.0.0/8", "127.0.0.2"]] {
        let server = server(&runtime, trusted).await;
        let address = server.local_addr();
        let forged = |number| {
            format!(
                "X-Forwarded-For: 192.0.2.{number}\r\nForwarded: for=192.0.2.{number}\r\nCF-Connecting-IP: 192.0.2.{number}\r\nX-Real-IP: 192.0.2.{number}\r\n"
            )
        };
        let peer = logged_in(&server, &upgrade(TOKEN, &forged(1))).await;
        assert!(peer.ip() == address.ip() && peer.port() != 0, "{peer}");
        // Two seconds each give one more guess.
        let looked_at = guesses(address, forged).await;
        assert!((30..40).contains(&looked_at), "{looked_at}");
    }
}

async fn a_trusted_proxy_says_who_the_client_is<R: Runtime>(runtime: R) {
    let server = server(&runtime, &["127.0.0.0/8", "10.0.0.0/8"]).await;
    let address = server.local_addr();
    for (headers, expected) in [
        ("X-Forwarded-For: 203.0.113.9, 192.0.2.1, 10.0.0.1\r\n", Some("192.0.2.1:0")),
        ("X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 192.0.2.1:77\r\n", Some("192.0.2.1:77")),
        ("Forwarded: for=\"[2001:db8::1]:5\";proto=https\r\n", Some("[2001:db8::1]:5")),
        ("X-Forwarded-For: 192.0.2.1\r\nForwarded: for=203.0.113.9\r\n", Some("192.0.2.1:0")),
        // The address of the peer itself.
        ("X-Forwarded-For: somebody\r\nForwarded: for=203.0.113.9\r\n", None),
        ("CF-Connecting-IP: 203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\n", None),
        ("", None),
    ] {
        let peer = logged_in(&server, &upgrade(TOKEN, headers)).await;
        match expected {
            Some(expected) => assert_eq!(peer.to_string(), expected, "{headers}"),
            None => assert!(peer.ip() == address.ip() && peer.port() != 0, "{headers}: {peer}"),
        }
    }
    let guesser = |_| "X-Forwarded-For: 192.0.2.66\r\n".to_owned();
    let looked_at = guesses(address, guesser).await;
    assert!((30..40).contains(&looked_at), "{looked_at}");
    assert_eq!(guesses(address, |number| format!("X-Forwarded-For: 198.51.100.{number}\r\n")).await, 40);
}

async fn pages_of_other_sites_get_nothing<R: Runtime>(runtime: R) {
    let server = server(&runtime, &[]).await;
    let mut config = ClientConfig::new(
        ServerUrl::parse(&format!("ws://{}", server.local_addr())).unwrap(),
        Token::new(TOKEN).unwrap(),
    );
    config.listen = Some(ANY_PORT);
    let client = Client::builder(config).start(runtime.clone()).await.unwrap();
    patient(client.ready()).await.unwrap();
    let proxy = client.local_addr().unwrap();

    let preflight = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-api-key\r\n";
    let form = "Content-Type: text/plain\r\nContent-Length: 18\r\n\r\n{\"type\":\"forward\"}";
    for origin in ["http://evil.example", "null"] {
        let origin = format!("Origin: {origin}\r\n");
        for (request, status) in [
            (format!("OPTIONS /api/token HTTP/1.1\r\nHost: x\r\n{origin}{preflight}\r\n"), "401"),
            (format!("OPTIONS / HTTP/1.1\r\nHost: x\r\n{origin}{preflight}\r\n"), "200"),
            (format!("POST /api/token HTTP/1.1\r\nHost: evil.example\r\n{origin}{form}"), "401"),
            (get("/api/status", &origin), "401"),
            (get("/api/status", &format!("{origin}X-API-Key: guess\r\n")), "401"),
            // The key opens the API from anywhere, but the browser shows the page nothing of it.
            (get("/api/status", &format!("{origin}X-API-Key: {KEY}\r\n")), "200"),
        ] {
            let answer = exchange(server.local_addr(), request.as_bytes()).await;
            assert_eq!(statuses(&answer), [status], "{request}{answer}");
            assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
        }
        // A page whose name leads to the proxy's port, and one that sends a form there.
        let before = client.stats().await.channels_opened;
        for request in [
            get("/", &origin).replace("Host: x", "Host: evil.example"),
            format!("POST /x HTTP/1.1\r\nHost: {proxy}\r\n{origin}{form}"),
            format!("OPTIONS / HTTP/1.1\r\nHost: {proxy}\r\n{origin}{preflight}\r\n"),
            upgrade(TOKEN, &origin),
        ] {
            let answer = exchange(proxy, request.as_bytes()).await;
            assert_eq!(statuses(&answer), ["400"], "{request}{answer}");
            assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
        }
        assert_eq!(client.stats().await.channels_opened, before);
    }
}

async fn an_upgrade_of_a_page_is_judged_by_its_token<R: Runtime>(runtime: R) {
    let server = server(&runtime, &[]).await;
    let origin = "Origin: http://evil.example\r\n";
    let peer = logged_in(&server, &upgrade(TOKEN, origin)).await;
    assert_eq!(peer.ip(), server.local_addr().ip());
    let mut statuses = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        stream.write_all(upgrade("guess", origin).as_bytes()).await.unwrap();
        let mut head = [0; 12];
        patient(stream.read_exact(&mut head)).await.unwrap();
        statuses.push(head);
    }
    // The answer to a wrong token comes by the WebSocket.
    assert!(statuses[..30].iter().all(|status| status == b"HTTP/1.1 101"));
    assert!(statuses.ends_with(&[*b"HTTP/1.1 429"]), "guesses are counted");
}

/// The code with which the server closes after `send`.
async fn closed_after(
    server: SocketAddr,
    send: impl FnOnce(&mut WebSocket<std::net::TcpStream>) -> tungstenite::Result<()> + Send + 'static,
) -> CloseCode {
    let digest = Token::new(TOKEN).unwrap().digest().to_hex();
    let talk = move || {
        let stream = std::net::TcpStream::connect(server).unwrap();
        let (mut websocket, _) =
            tungstenite::client(format!("ws://{server}/socket?token={digest}"), stream).unwrap();
        // Fails if the server has closed before it has read everything.
        let _ = send(&mut websocket);
        loop {
            if let Message::Close(frame) = websocket.read().unwrap() {
                return frame.unwrap().code;
            }
        }
    };
    patient(tokio::task::spawn_blocking(talk)).await.unwrap()
}

async fn a_message_or_frame_over_32_mib_is_refused_with_1009<R: Runtime>(runtime: R) {
    const TOO_LONG: usize = 33 << 20;
    let server = server(&runtime, &[]).await;
    let address = server.local_addr();
    let one_frame = |websocket: &mut WebSocket<_>| websocket.send(Message::Binary(vec![0; TOO_LONG].into()));
    assert_eq!(closed_after(address, one_frame).await, CloseCode::Size);
    let fragments = |websocket: &mut WebSocket<_>| {
        const LENGTH: usize = 1 << 20;
        for number in 0..TOO_LONG / LENGTH {
            let kind = if number == 0 { coding::Data::Binary } else { coding::Data::Continue };
            let frame = Frame::message(vec![0; LENGTH], coding::OpCode::Data(kind), false);
            websocket.send(Message::Frame(frame))?;
        }
        Ok(())
    };
    assert_eq!(closed_after(address, fragments).await, CloseCode::Size);
}
