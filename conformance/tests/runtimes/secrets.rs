//! What an embedder may write to a log shows no secret: configurations, events, errors.

use std::fmt::Write as _;

use driver_core::embed::{Client, Events, Server};
use driver_core::runtime::Runtime;
use linksocks_sansio::config::ClientRole;
use linksocks_sansio::token::{ConnectorToken, NewToken, ReverseToken};
use linksocks_sansio::{ClientConfig, Credentials, LinkProxy, ServerConfig, ServerUrl, Token};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{ANY_PORT, patient, serve_echo};

scenarios! {
    what_is_told_and_shown_has_no_secret_in_it,
}

/// A part of each secret.
const PART: &str = "sesame";
const FORWARD: &str = "forward-sesame";
const REVERSE: &str = "reverse-sesame";
const KEY: &str = "key-sesame";

fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

fn credentials(password: &str) -> Credentials {
    Credentials::new("user", password).unwrap()
}

fn config(server: SocketAddr, path: &str, text: &str) -> ClientConfig {
    let mut config =
        ClientConfig::new(ServerUrl::parse(&format!("ws://{server}{path}")).unwrap(), token(text));
    config.headers.push("Authorization: Bearer header-sesame".parse().unwrap());
    config
}

/// Sends `request`, and reads until the other end closes.
async fn exchange(to: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(request).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    patient(stream.read_to_end(&mut answer)).await.unwrap();
    answer
}

/// Writes down all events until the end.
async fn note(events: &mut Events, log: &mut String) {
    while let Some(event) = patient(events.next()).await {
        writeln!(log, "{event:?}").unwrap();
    }
}

async fn what_is_told_and_shown_has_no_secret_in_it<R: Runtime>(runtime: R) {
    let mut log = String::new();
    let mut server = ServerConfig::forward(token(FORWARD)).unwrap();
    server.api_keys.push(token(KEY));
    let mut reverse = ReverseToken::default();
    (reverse.token, reverse.credentials) = (Some(token(REVERSE)), Some(credentials("password-sesame")));
    server.tokens.push(NewToken::Reverse(reverse));
    let mut connector = ConnectorToken::new(token(REVERSE));
    connector.token = Some(token("connector-sesame"));
    server.tokens.push(NewToken::Connector(connector));
    server.relay.upstream = Some("http://user:upstream-sesame@127.0.0.1:1".parse().unwrap());
    writeln!(log, "{server:?}").unwrap();
    server.relay.upstream = None;
    let server = Server::builder(server).bind(ANY_PORT);
    let mut server_events = server.events();
    let server = server.start(runtime.clone()).await.unwrap();
    let address = server.local_addr();

    let mut main = config(address, "", FORWARD);
    (main.listen, main.credentials) = (Some(ANY_PORT), Some(credentials("password-sesame")));
    let mut through = config(address, "", FORWARD);
    let mut provider = config(address, "/socket/in-band", REVERSE);
    provider.role = ClientRole::Provider { connectors: vec![token("more-sesame")] };
    writeln!(log, "{main:?} {through:?} {provider:?}").unwrap();
    let main = Client::builder(main);
    let mut main_events = main.events();
    let main = main.start(runtime.clone()).await.unwrap();
    patient(main.ready()).await.unwrap();
    let provider = Client::builder(provider);
    let mut provider_events = provider.events();
    let provider = provider.start(runtime.clone()).await.unwrap();
    patient(provider.ready()).await.unwrap();

    // Payload, and passwords, right and wrong.
    let socks = main.local_addr().unwrap();
    let echo = TcpListener::bind(ANY_PORT).await.unwrap();
    let target = echo.local_addr().unwrap();
    tokio::spawn(serve_echo(echo));
    let port = target.port().to_be_bytes();
    for (password, end) in [("password-sesame", "payload-sesame"), ("wronged--sesame", "\x01\x01")] {
        let login = [b"\x05\x01\x02\x01\x04user\x0f", password.as_bytes()].concat();
        let request = [b"\x05\x01\x00\x01\x7f\x00\x00\x01", &port[..], b"payload-sesame"].concat();
        let answer = exchange(socks, &[login, request].concat()).await;
        assert!(answer.ends_with(end.as_bytes()), "{answer:?}");
    }
    // Ends of clients: a wrong token by query and in band, a wrong password of a proxy.
    through.proxy = LinkProxy::Through(format!("socks5://user:wrong-sesame@{socks}").parse().unwrap());
    through.reconnect = false;
    writeln!(log, "{through:?}").unwrap();
    for config in
        [config(address, "", "wrong-sesame"), config(address, "/socket/in-band", "wrong-sesame"), through]
    {
        let client = Client::builder(config);
        let mut events = client.events();
        let client = client.start(runtime.clone()).await.unwrap();
        let reason = patient(client.stopped()).await;
        writeln!(log, "{reason:?} {reason}").unwrap();
        note(&mut events, &mut log).await;
    }
    // The API, right and wrong.
    for (key, body) in [
        (KEY, r#"{"type":"forward","token":"new-sesame"}"#),
        ("wrong-sesame", ""),
        (KEY, r#"{"type":"sesame"}"#),
    ] {
        let length = body.len();
        let request = format!(
            "POST /api/token HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        exchange(address, request.as_bytes()).await;
    }
    let known = server.add_token(NewToken::Connector(ConnectorToken::new(token("unknown-sesame")))).await;
    writeln!(log, "{known:?}").unwrap();

    writeln!(log, "{main:?} {provider:?} {server:?}").unwrap();
    drop((main, provider));
    note(&mut main_events, &mut log).await;
    note(&mut provider_events, &mut log).await;
    drop(server);
    note(&mut server_events, &mut log).await;
    for part in [
        "ClientAuthenticated",
        "ClientRejected",
        "ChannelOpened",
        "TokenAdded",
        "SocksFailed",
        "ConnectorRefused",
        "LinkLost",
    ] {
        assert!(log.contains(part), "no {part}: {log}");
    }
    let digests =
        [FORWARD, REVERSE, "connector-sesame", "wrong-sesame"].map(|text| token(text).digest().to_hex());
    for secret in digests.iter().map(String::as_str).chain([PART]) {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}
