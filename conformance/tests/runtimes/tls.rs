//! wss between client and server, with certificates made here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use driver_core::embed::{
    Client, ClientHandle, ClientTls, PipeStream, Server, ServerHandle, ServerTls, TlsError,
};
use driver_core::runtime::Runtime;
use driver_tokio::TokioStream;
use futures_channel::oneshot;
use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::{self, RootCertStore};
use futures_rustls::{TlsAcceptor, TlsConnector};
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use linksocks_sansio::error::{LinkError, SocketError, StopReason, TlsFailure};
use linksocks_sansio::socks5::{Host, TargetAddr};
use linksocks_sansio::{ClientConfig, ServerConfig, ServerUrl, Token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{ANY_PORT, patient, pattern};
use conformance::certificates::{Authority, Identity, self_signed};

scenarios! {
    both_directions_are_carried_to_their_end on two threads,
    a_certificate_that_proves_nothing_is_refused_for_good_and_its_fault_is_named,
    another_name_may_be_expected,
    unusable_files_are_explained,
    redirects_lead_to_another_server_and_to_tls,
    redirects_without_end_are_not_followed_without_end,
    a_plain_client_at_a_tls_port_gets_a_clear_answer,
    a_tls_client_at_a_plain_port_is_told,
    only_http_1_1_is_agreed_on,
    a_closed_link_ends_its_tls_too,
    a_connection_that_is_cut_off_is_not_taken_for_a_regular_end,
}

pub const LOCALHOST: &str = "127.0.0.1";

fn token() -> Token {
    Token::new("secret").unwrap()
}

pub async fn server<R: Runtime>(runtime: &R, identity: &Identity) -> ServerHandle {
    let tls = ServerTls::from_pem(identity.chain.as_bytes(), identity.key.as_bytes()).unwrap();
    let config = ServerConfig::forward(token()).unwrap();
    Server::builder(config).bind(ANY_PORT).tls(tls).start(runtime.clone()).await.unwrap()
}

fn client_config(server: SocketAddr) -> ClientConfig {
    ClientConfig::new(ServerUrl::parse(&format!("wss://{server}")).unwrap(), token())
}

fn trusting(authority: &Authority) -> ClientTls {
    ClientTls::new().ca_pem(authority.pem.as_bytes()).unwrap()
}

async fn client<R: Runtime>(runtime: &R, config: ClientConfig, tls: ClientTls) -> ClientHandle {
    Client::builder(config).tls(tls).start(runtime.clone()).await.unwrap()
}

/// How a client ends that can't connect.
async fn failure<R: Runtime>(runtime: &R, config: ClientConfig, tls: ClientTls) -> LinkError {
    match patient(client(runtime, config, tls).await.ready()).await {
        Err(StopReason::Link(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// A channel: the embedder's end and the target's.
async fn channel(client: &ClientHandle) -> (PipeStream, TcpStream) {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = TargetAddr { host: Host::Ip(address.ip()), port: address.port() };
    let (stream, accepted) = tokio::join!(patient(client.open(target)), patient(listener.accept()));
    (stream.unwrap(), accepted.unwrap().0)
}

/// Sends some megabytes in both directions at once.
async fn exchange(client: &ClientHandle, length: usize) {
    let (stream, target) = channel(client).await;
    let (up, mut down) = (pattern(length), pattern(length));
    down.reverse();
    let (mut stream_read, mut stream_write) = stream.split();
    let (mut target_read, mut target_write) = target.into_split();
    let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
    let all = async {
        tokio::join!(
            async {
                stream_write.write_all(&up).await.unwrap();
                stream_write.close().await.unwrap();
            },
            async {
                target_write.write_all(&down).await.unwrap();
                target_write.shutdown().await.unwrap();
            },
            async { stream_read.read_to_end(&mut got_down).await.unwrap() },
            async { target_read.read_to_end(&mut got_up).await.unwrap() },
        )
    };
    patient(all).await;
    assert!(got_up == up && got_down == down);
}

async fn both_directions_are_carried_to_their_end<R: Runtime>(runtime: R) {
    let authority = Authority::new();
    let server = server(&runtime, &authority.issue(LOCALHOST)).await;
    let client = client(&runtime, client_config(server.local_addr()), trusting(&authority)).await;
    patient(client.ready()).await.unwrap();
    exchange(&client, 8 << 20).await;
    assert_eq!(patient(client.shutdown(Duration::ZERO)).await, StopReason::Shutdown);
}

async fn a_certificate_that_proves_nothing_is_refused_for_good_and_its_fault_is_named<R: Runtime>(
    runtime: R,
) {
    let authority = Authority::new();
    for (identity, expected, text) in [
        (Authority::new().issue(LOCALHOST), TlsFailure::UnknownIssuer, "signed by an unknown authority"),
        (
            authority.issue("other.test"),
            TlsFailure::WrongName(LOCALHOST.to_owned()),
            "not valid for the name 127.0.0.1",
        ),
        (authority.issue_expired(LOCALHOST), TlsFailure::Expired, "has expired"),
        (authority.issue_early(LOCALHOST), TlsFailure::NotYetValid, "not valid yet"),
    ] {
        let server = server(&runtime, &identity).await;
        let config = client_config(server.local_addr());
        let error = failure(&runtime, config.clone(), trusting(&authority)).await;
        assert_eq!(error, LinkError::Tls(expected));
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(server.stats().await.links, 0);

        // Who insists gets a connection.
        let client = client(&runtime, config, ClientTls::new().dangerous_insecure()).await;
        patient(client.ready()).await.unwrap();
    }
    for (identity, text) in [
        (self_signed(LOCALHOST), "CA:TRUE"),
        (Authority::named("twin").issue(LOCALHOST), "an authority of the same name"),
    ] {
        let server = server(&runtime, &identity).await;
        let trusted = trusting(&Authority::named("twin"));
        let error = failure(&runtime, client_config(server.local_addr()), trusted).await.to_string();
        assert!(error.contains(text), "{error}");
    }
}

async fn another_name_may_be_expected<R: Runtime>(runtime: R) {
    let authority = Authority::new();
    let server = server(&runtime, &authority.issue("front.test")).await;
    let mut config = client_config(server.local_addr());
    config.server_name = Some("front.test".to_owned());
    patient(client(&runtime, config.clone(), trusting(&authority)).await.ready()).await.unwrap();
    config.server_name = Some("no name".to_owned());
    let error = failure(&runtime, config, trusting(&authority)).await;
    assert_eq!(error, LinkError::Tls(TlsFailure::InvalidName("no name".to_owned())));
}

async fn unusable_files_are_explained<R: Runtime>(_: R) {
    let (one, other) = (Authority::new().issue("a"), Authority::new().issue("b"));
    let use_pem = |chain: &str, key: &str| ServerTls::from_pem(chain.as_bytes(), key.as_bytes());
    assert!(matches!(use_pem(&one.chain, &other.key), Err(TlsError::Mismatch)));
    assert!(matches!(use_pem(&one.key, &one.key), Err(TlsError::NoCertificate)));
    assert!(matches!(use_pem(&one.chain, &one.chain), Err(TlsError::NoKey)));
    let encrypted = one.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert!(matches!(use_pem(&one.chain, &encrypted), Err(TlsError::NoKey)));
    let garbage = one.chain.replace("CERTIFICATE-----\nMII", "CERTIFICATE-----\nAAA");
    assert_ne!(garbage.find("AAA"), None);
    assert!(matches!(use_pem(&garbage, &one.key), Err(TlsError::Unusable(_))));
    assert!(matches!(ClientTls::new().ca_pem(garbage.as_bytes()), Err(TlsError::Unusable(_))));
    assert!(matches!(ClientTls::new().ca_pem(b""), Err(TlsError::NoCertificate)));
}

/// Reads the head of an HTTP request.
async fn head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(patient(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Answers `count` requests with redirects to what `location` makes of their paths; returns the
/// requests.
async fn redirector(
    listener: TcpListener,
    count: usize,
    location: impl Fn(&str) -> String + Send + 'static,
) -> Vec<String> {
    let mut requests = Vec::new();
    for _ in 0..count {
        let (mut stream, _) = patient(listener.accept()).await.unwrap();
        let request = head(&mut stream).await;
        let location = location(request.split(' ').nth(1).unwrap());
        let answer = format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        requests.push(request);
    }
    requests
}

async fn redirects_lead_to_another_server_and_to_tls<R: Runtime>(runtime: R) {
    let authority = Authority::new();
    let server = server(&runtime, &authority.issue("localhost")).await;
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let mut config = client_config(listener.local_addr().unwrap());
    config.server = ServerUrl::parse(&format!("ws://{}", listener.local_addr().unwrap())).unwrap();
    config.headers = vec!["X-Zone: eu".parse().unwrap()];
    // The login is added to the first URL only; this server hands it on.
    let target = format!("https://localhost:{}", server.local_addr().port());
    let redirects = tokio::spawn(redirector(listener, 2, move |path| {
        let query = path.split_once('?').unwrap().1;
        if path.starts_with("/socket") { format!("hop?{query}") } else { format!("{target}/socket?{query}") }
    }));
    let client = client(&runtime, config, trusting(&authority)).await;
    patient(client.ready()).await.unwrap();
    exchange(&client, 10_000).await;
    let requests = patient(redirects).await.unwrap();
    assert!(requests[1].starts_with("GET /hop?instance="), "{}", requests[1]);
    assert!(requests.iter().all(|request| request.contains("X-Zone: eu\r\n")), "{requests:?}");
}

async fn redirects_without_end_are_not_followed_without_end<R: Runtime>(runtime: R) {
    for (count, next, text) in [(6, "/x", "more than 5 in a row"), (2, "", "in a circle")] {
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let url = format!("ws://{}/custom", listener.local_addr().unwrap());
        let redirects = tokio::spawn(redirector(listener, count, move |path| match next {
            "" if path == "/custom" => "/other".to_owned(),
            "" => "/custom".to_owned(),
            next => format!("{path}{next}"),
        }));
        let config = ClientConfig::new(ServerUrl::parse(&url).unwrap(), token());
        let error = failure(&runtime, config, ClientTls::new()).await.to_string();
        assert!(error.contains(text), "{error}");
        assert_eq!(patient(redirects).await.unwrap().len(), count);
    }
}

async fn a_plain_client_at_a_tls_port_gets_a_clear_answer<R: Runtime>(runtime: R) {
    let server = server(&runtime, &Authority::new().issue(LOCALHOST)).await;
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    patient(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nThis server wants TLS: use wss:// or https://\n"), "{answer}");

    let mut config = client_config(server.local_addr());
    config.server = ServerUrl::parse(&format!("ws://{}", server.local_addr())).unwrap();
    assert_eq!(failure(&runtime, config, ClientTls::new()).await, LinkError::Refused(400));

    // Who speaks neither is told nothing.
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(b"\x05\x01\x00").await.unwrap();
    let mut answer = Vec::new();
    let _ = patient(stream.read_to_end(&mut answer)).await;
    assert!(answer.is_empty());
}

async fn a_tls_client_at_a_plain_port_is_told<R: Runtime>(runtime: R) {
    let config = ServerConfig::forward(token()).unwrap();
    let server = Server::builder(config).bind(ANY_PORT).start(runtime.clone()).await.unwrap();
    let error = failure(&runtime, client_config(server.local_addr()), trusting(&Authority::new())).await;
    assert_eq!(error, LinkError::Tls(TlsFailure::NotTls));
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    roots
}

async fn only_http_1_1_is_agreed_on<R: Runtime>(runtime: R) {
    let authority = Authority::new();
    let server = server(&runtime, &authority.issue(LOCALHOST)).await;
    let connect = async |protocols: &[&[u8]]| {
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(&authority))
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = TcpStream::connect(server.local_addr()).await.unwrap();
        let name = ServerName::try_from(LOCALHOST).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        patient(connector.connect(name, TokioStream::from(stream))).await
    };
    for offer in [&[][..], &[&b"http/1.1"[..]], &[b"h2", b"http/1.1"]] {
        let mut stream = connect(offer).await.unwrap();
        let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(agreed.as_deref(), offer.last().copied());
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        // Fails if the server doesn't say that this is the end.
        patient(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    assert!(connect(&[b"h2"]).await.is_err());
}

async fn a_closed_link_ends_its_tls_too<R: Runtime>(runtime: R) {
    let (authority, listener) = (Authority::new(), TcpListener::bind(ANY_PORT).await.unwrap());
    let identity = authority.issue(LOCALHOST);
    let chain = vec![CertificateDer::from_pem_slice(identity.chain.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let _client = client(&runtime, client_config(listener.local_addr().unwrap()), trusting(&authority)).await;

    let (stream, _) = patient(listener.accept()).await.unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut stream = patient(acceptor.accept(TokioStream::from(stream))).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        patient(stream.read_exact(&mut byte)).await.unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-Websocket-Key: ")).unwrap();
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    let close = b"\x88\x02\x03\xe8";
    stream.write_all(&[answer.as_bytes(), close].concat()).await.unwrap();
    stream.flush().await.unwrap();
    let mut rest = Vec::new();
    // Fails if the connection ends before its TLS does.
    patient(stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest[..2], [0x88, 0x82], "the answer to the close frame, and nothing else");
}

/// Passes bytes on between one client and `server`. When told so, ends the connection to the client
/// as if the server had: regularly, as far as TCP is concerned.
async fn relay(listener: TcpListener, server: SocketAddr, cut: oneshot::Receiver<()>) {
    let (mut client, _) = patient(listener.accept()).await.unwrap();
    let mut server = TcpStream::connect(server).await.unwrap();
    tokio::select! {
        result = tokio::io::copy_bidirectional(&mut client, &mut server) => drop(result.unwrap()),
        _ = cut => client.shutdown().await.unwrap(),
    }
    // Neither side gets a reset before it has read what was sent.
    patient(client.read_to_end(&mut Vec::new())).await.unwrap();
}

async fn a_connection_that_is_cut_off_is_not_taken_for_a_regular_end<R: Runtime>(runtime: R) {
    let authority = Authority::new();
    let server = server(&runtime, &authority.issue(LOCALHOST)).await;
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let mut config = client_config(listener.local_addr().unwrap());
    config.reconnect = false;
    let (cut, cutting) = oneshot::channel();
    tokio::spawn(relay(listener, server.local_addr(), cutting));
    let client = client(&runtime, config, trusting(&authority)).await;
    patient(client.ready()).await.unwrap();
    let (mut stream, mut target) = channel(&client).await;
    target.write_all(b"half of").await.unwrap();
    let mut half = [0; 7];
    patient(stream.read_exact(&mut half)).await.unwrap();
    cut.send(()).unwrap();
    let reason = patient(client.stopped()).await;
    assert_eq!(reason, StopReason::Link(LinkError::Lost(SocketError::UnexpectedEof)));
    assert!(patient(stream.read(&mut half)).await.is_err(), "no regular end of the stream either");
}
