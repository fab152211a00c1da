//! HTTP on the SOCKS port, and connections through proxies, with real sockets.

use std::net::SocketAddr;

use driver_core::embed::{Client, ClientHandle, Server, ServerHandle};
use driver_core::runtime::Runtime;
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use linksocks_sansio::error::OpenError;
use linksocks_sansio::socks5::TargetAddr;
use linksocks_sansio::{ClientConfig, Credentials, LinkProxy, ServerConfig, ServerUrl, Token, UpstreamProxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{ANY_PORT, patient, pattern, reserved, serve_echo};

scenarios! {
    connect_is_a_tunnel_to_its_target,
    one_connection_carries_requests_to_several_targets,
    a_large_response_arrives_whole,
    a_server_reaches_its_targets_through_a_proxy,
    a_target_that_speaks_first_is_heard_through_a_proxy,
    a_client_reaches_its_server_through_a_proxy,
}

async fn server<R: Runtime>(runtime: &R, upstream: Option<UpstreamProxy>) -> ServerHandle {
    let mut config = ServerConfig::forward(Token::new("secret").unwrap()).unwrap();
    config.relay.upstream = upstream;
    Server::builder(config).bind(ANY_PORT).start(runtime.clone()).await.unwrap()
}

async fn client<R: Runtime>(
    runtime: &R,
    server: SocketAddr,
    set: impl FnOnce(&mut ClientConfig),
) -> ClientHandle {
    let url = ServerUrl::parse(&format!("ws://{server}")).unwrap();
    let mut config = ClientConfig::new(url, Token::new("secret").unwrap());
    config.listen = Some(ANY_PORT);
    set(&mut config);
    let client = Client::builder(config).start(runtime.clone()).await.unwrap();
    patient(client.ready()).await.unwrap();
    client
}

/// A server and its client, whose SOCKS port serves as a proxy.
async fn tunnel<R: Runtime>(runtime: &R) -> (ServerHandle, ClientHandle, SocketAddr) {
    let server = server(runtime, None).await;
    let client = client(runtime, server.local_addr(), |_| ()).await;
    let proxy = client.local_addr().unwrap();
    (server, client, proxy)
}

/// Sends back what it gets.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_echo(listener));
    address
}

/// An HTTP server that answers each request with what `answer` makes of it, and closes.
async fn http(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = String::new();
            let complete = |request: &str| match request.split_once("\r\n\r\n") {
                Some((head, body)) => !head.contains("chunked") || body.ends_with("0\r\n\r\n"),
                None => false,
            };
            while !complete(&request) {
                let mut piece = vec![0; 4096];
                let length = stream.read(&mut piece).await.unwrap();
                request.push_str(str::from_utf8(&piece[..length]).unwrap());
            }
            stream.write_all(&answer(&request)).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    address
}

async fn read(stream: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    patient(stream.read_exact(&mut bytes)).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

async fn ping(stream: &mut TcpStream, length: usize) {
    let data = pattern(length);
    let (mut reading, mut writing) = stream.split();
    let send = async {
        writing.write_all(&data).await.unwrap();
        writing.shutdown().await.unwrap();
    };
    let mut answer = Vec::new();
    let ((), received) = tokio::join!(patient(send), patient(reading.read_to_end(&mut answer)));
    received.unwrap();
    assert!(answer == data, "the echo differs");
}

async fn connect_is_a_tunnel_to_its_target<R: Runtime>(runtime: R) {
    let (_server, _client, proxy) = tunnel(&runtime).await;
    let target = echo().await;
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    let request = format!("CONNECT localhost:{} HTTP/1.1\r\nHost: x\r\n\r\n", target.port());
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read(&mut stream, 39).await, "HTTP/1.1 200 Connection Established\r\n\r\n");
    ping(&mut stream, 4 << 20).await;
}

async fn one_connection_carries_requests_to_several_targets<R: Runtime>(runtime: R) {
    let (_server, _client, proxy) = tunnel(&runtime).await;
    let first = http(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst".to_vec()).await;
    let second = http(|request| {
        let body = request.split_once("\r\n\r\n").unwrap().1;
        format!("HTTP/1.0 200 OK\r\n\r\n{body}").into_bytes()
    })
    .await;
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    for _ in 0..3 {
        let request = format!("GET http://{first}/ HTTP/1.1\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst";
        assert_eq!(read(&mut stream, answer.len()).await, answer);
        let body = "3\r\nabc\r\n0\r\n\r\n";
        let request = format!("POST http://{second}/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nd\r\n{body}\r\n0\r\n\r\n");
        assert_eq!(read(&mut stream, answer.len()).await, answer);
    }
    let (_socket, refused) = reserved();
    stream.write_all(format!("GET http://{refused}/ HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    let mut rest = String::new();
    patient(stream.read_to_string(&mut rest)).await.unwrap();
    assert!(
        rest.starts_with("HTTP/1.1 502 Bad Gateway\r\n") && rest.ends_with("\r\n\r\nConnection failed"),
        "{rest}"
    );
}

async fn a_large_response_arrives_whole<R: Runtime>(runtime: R) {
    let (_server, _client, proxy) = tunnel(&runtime).await;
    let data = pattern(8 << 20);
    let body = data.clone();
    let target = http(move |_| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), &body].concat()
    })
    .await;
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    let request = format!("GET http://{target}/ HTTP/1.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    patient(stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.ends_with(&data), "{} bytes", answer.len());
}

/// Every kind of proxy, which is the SOCKS port of another client.
async fn proxies<R: Runtime>(runtime: &R) -> (Vec<UpstreamProxy>, ServerHandle, ClientHandle) {
    let server = server(runtime, None).await;
    let login = |config: &mut ClientConfig| {
        config.credentials = Some(Credentials::new("us@er", "pass").unwrap());
    };
    let client = client(runtime, server.local_addr(), login).await;
    let address = client.local_addr().unwrap();
    let urls = [format!("socks5://us%40er:pass@{address}"), format!("http://us%40er:pass@{address}")];
    (urls.iter().map(|url| url.parse().unwrap()).collect(), server, client)
}

async fn a_server_reaches_its_targets_through_a_proxy<R: Runtime>(runtime: R) {
    let (proxies, _server, _client) = proxies(&runtime).await;
    let target = echo().await;
    for proxy in proxies {
        let server = server(&runtime, Some(proxy.clone())).await;
        let client = client(&runtime, server.local_addr(), |_| ()).await;
        let mut stream = patient(client.open(target.into())).await.unwrap();
        let data = pattern(2 << 20);
        let (mut reading, mut writing) = (&mut stream).split();
        let send = async {
            writing.write_all(&data).await.unwrap();
            writing.close().await.unwrap();
        };
        let mut answer = Vec::new();
        let ((), received) = tokio::join!(patient(send), patient(reading.read_to_end(&mut answer)));
        received.unwrap();
        assert!(answer == data, "through {proxy}");

        let (_socket, unused) = reserved();
        let error = patient(client.open(unused.into())).await.unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, OpenError::Connect(_))
                && text.contains(&format!("dial tcp {unused} via proxy: ")),
            "{text}"
        );
    }
}

async fn a_target_that_speaks_first_is_heard_through_a_proxy<R: Runtime>(runtime: R) {
    let (proxies, _server, _client) = proxies(&runtime).await;
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let target: TargetAddr = listener.local_addr().unwrap().into();
    let greeting = pattern(50_000);
    let sent = greeting.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(&sent).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    for proxy in proxies {
        let server = server(&runtime, Some(proxy)).await;
        let client = client(&runtime, server.local_addr(), |_| ()).await;
        for _ in 0..20 {
            let mut stream = patient(client.open(target.clone())).await.unwrap();
            let mut answer = Vec::new();
            patient(stream.read_to_end(&mut answer)).await.unwrap();
            assert!(answer == greeting);
        }
    }
}

async fn a_client_reaches_its_server_through_a_proxy<R: Runtime>(runtime: R) {
    let (proxies, _server, client_of_proxy) = proxies(&runtime).await;
    let target = echo().await;
    for proxy in proxies {
        let server = server(&runtime, None).await;
        let before = client_of_proxy.stats().await.channels_opened;
        let client =
            client(&runtime, server.local_addr(), |config| config.proxy = LinkProxy::Through(proxy)).await;
        assert_eq!(
            client_of_proxy.stats().await.channels_opened,
            before + 1,
            "the link is a channel of the other"
        );
        let mut stream = TcpStream::connect(client.local_addr().unwrap()).await.unwrap();
        let request = format!("CONNECT {target} HTTP/1.1\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        read(&mut stream, 39).await;
        ping(&mut stream, 1 << 20).await;
    }
}
