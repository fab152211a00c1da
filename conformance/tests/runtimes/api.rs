//! The HTTP API of a running server, with the requests that the README shows.

use std::net::SocketAddr;

use driver_core::embed::{Client, ClientHandle, Server, ServerHandle};
use driver_core::runtime::Runtime;
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use linksocks_sansio::config::ClientRole;
use linksocks_sansio::error::{LinkError, StopReason};
use linksocks_sansio::socks5::{Host, TargetAddr};
use linksocks_sansio::{ClientConfig, ServerConfig, ServerUrl, Token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{ANY_PORT, patient, reserved, serve_echo};

scenarios! {
    tokens_come_and_go_as_the_readme_says,
    rules_of_the_whole_server_can_be_replaced,
}

const README: &str = include_str!("../../../README.md");

/// The words of the README's requests: method, path and body.
fn requests() -> Vec<(String, String, String)> {
    let lines = README.lines().filter_map(|line| line.strip_prefix("curl -H 'X-API-Key: KEY' "));
    lines
        .map(|line| {
            let (line, body) = line.split_once(" -d ").unwrap_or((line, ""));
            let (method, url) = match line.strip_prefix("-X ") {
                Some(line) => line.split_once(' ').unwrap(),
                None => (if body.is_empty() { "GET" } else { "POST" }, line),
            };
            let path = url.strip_prefix("localhost:8765").unwrap();
            (method.to_owned(), path.to_owned(), body.trim_matches('\'').to_owned())
        })
        .collect()
}

async fn server<R: Runtime>(runtime: &R) -> ServerHandle {
    let mut config = ServerConfig::default();
    config.api_keys.push(Token::new("KEY").unwrap());
    Server::builder(config).bind(ANY_PORT).start(runtime.clone()).await.unwrap()
}

async fn call(server: SocketAddr, method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: KEY\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    patient(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

async fn client<R: Runtime>(runtime: &R, server: SocketAddr, token: &str, role: ClientRole) -> ClientHandle {
    let url = ServerUrl::parse(&format!("ws://{server}")).unwrap();
    let mut config = ClientConfig::new(url, Token::new(token).unwrap());
    config.role = role;
    let client = Client::builder(config).start(runtime.clone()).await.unwrap();
    patient(client.ready()).await.unwrap();
    client
}

/// The value of a field in a flat JSON text.
fn field<'a>(json: &'a str, name: &str) -> &'a str {
    let (_, rest) = json.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name} in {json}"));
    rest.trim_start_matches('"').split(['"', ',', '}']).next().unwrap()
}

async fn tokens_come_and_go_as_the_readme_says<R: Runtime>(runtime: R) {
    let requests = requests();
    let [reverse, connector, status, removal] = &requests[..] else { panic!("{requests:?}") };
    let server = server(&runtime).await;
    let address = server.local_addr();
    let (_port, free) = reserved();
    let port = free.port();
    let body = reverse.2.replace("9870", &port.to_string());
    let added = call(address, &reverse.0, &reverse.1, &body).await;
    assert_eq!(added, format!("{{\"success\":true,\"token\":\"my_token\",\"port\":{port}}}\n"));
    let added = call(address, &connector.0, &connector.1, &connector.2).await;
    let token = field(&added, "token").to_owned();
    assert_eq!(token.len(), 16, "{added}");

    let provider =
        client(&runtime, address, "my_token", ClientRole::Provider { connectors: Vec::new() }).await;
    let connected = client(&runtime, address, &token, ClientRole::SocksSide).await;
    let echo = TcpListener::bind(ANY_PORT).await.unwrap();
    let target = echo.local_addr().unwrap();
    tokio::spawn(serve_echo(echo));
    let target = TargetAddr { host: Host::Ip(target.ip()), port: target.port() };
    let mut stream = patient(connected.open(target)).await.unwrap();
    stream.write_all(b"through the provider").await.unwrap();
    let mut answer = [0; 20];
    patient(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"through the provider");

    let shown = call(address, &status.0, &status.1, &status.2).await;
    assert!(shown.contains("\"type\":\"reverse\",\"clients_count\":1"), "{shown}");
    assert!(shown.contains(&format!("\"port\":{port},\"connector_tokens\":[\"{token}\"]")), "{shown}");
    let removed = call(address, &removal.0, &removal.1, &removal.2).await;
    assert_eq!(field(&removed, "success"), "true");
    for client in [&provider, &connected] {
        let reason = patient(client.stopped()).await;
        assert!(matches!(reason, StopReason::Link(LinkError::Rejected(_))), "{reason}");
    }
    let gone = call(address, &removal.0, &removal.1, &removal.2).await;
    assert_eq!(field(&gone, "success"), "false");
    let stats = server.stats().await;
    assert_eq!((stats.links, stats.channels), (0, 0), "{stats:?}");
}

async fn rules_of_the_whole_server_can_be_replaced<R: Runtime>(runtime: R) {
    let server = server(&runtime).await;
    let address = server.local_addr();
    call(address, "POST", "/api/token", r#"{"type":"forward","token":"forward"}"#).await;
    let client = client(&runtime, address, "forward", ClientRole::SocksSide).await;
    let echo = TcpListener::bind(ANY_PORT).await.unwrap();
    let target = echo.local_addr().unwrap();
    let target = TargetAddr { host: Host::Ip(target.ip()), port: target.port() };
    patient(client.open(target.clone())).await.unwrap();
    let rules = r#"{"dial":[{"Addrs":["10.0.0.0/8"],"Ports":[80,[90,150]]}]}"#;
    call(address, "PUT", "/api/config/access", rules).await;
    let error = patient(client.open(target)).await.unwrap_err();
    assert!(error.to_string().contains("blocked by access control"), "{error}");
    let shown = call(address, "GET", "/api/config/access", "").await;
    assert!(shown.contains(r#""dial":[{"Addrs":["10.0.0.0/8"],"Ports":[80,[90,150]]}]"#), "{shown}");
}
