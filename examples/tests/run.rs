//! Every example runs, and does what it says.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use driver_tokio::linksocks_sansio::{ClientConfig, ServerConfig, ServerUrl, Token};
use driver_tokio::{Client, Server, ServerHandle, TokioRuntime};
use smol_driver::SmolRuntime;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::runtime::Runtime;

/// Longer than anything takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const MIB: usize = 1024 * 1024;

/// A running example; killed when dropped.
struct Example {
    child: Child,
    lines: Receiver<String>,
    deadline: Instant,
}

impl Example {
    fn start(path: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(path).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines() {
                // Fails when the test is over.
                let _ = sender.send(line.unwrap());
            }
        });
        Self { child, lines, deadline: Instant::now() + PATIENCE }
    }

    /// The next line that it prints, if another one comes.
    fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("waited too long"),
        }
    }

    /// Waits for a line with `text` in it.
    fn line_with(&self, text: &str) -> String {
        std::iter::from_fn(|| self.line()).find(|line| line.contains(text)).unwrap()
    }

    /// Everything that it prints, and how it ends.
    fn finish(mut self) -> (Vec<String>, ExitStatus) {
        let lines = std::iter::from_fn(|| self.line()).collect();
        (lines, self.child.wait().unwrap())
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // Fails if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a successful run prints.
fn output(path: &str, arguments: &[&str]) -> Vec<String> {
    let (lines, status) = Example::start(path, arguments).finish();
    assert!(status.success(), "{status}: {lines:#?}");
    lines
}

#[test]
fn smol_fetches_through_its_own_server() {
    let lines = output(env!("CARGO_BIN_EXE_smol"), &[]);
    assert_eq!(lines[2..], ["fetched: hello from the other side", "client: shut down", "server: shut down"]);
}

#[test]
fn embed_fetches_a_page_without_socks() {
    let lines = output(env!("CARGO_BIN_EXE_embed"), &[]);
    for expected in ["answer: <h1>The other network</h1>", "60 bytes sent, 84 received", "client: shut down"]
    {
        assert!(lines.iter().any(|line| line == expected), "{lines:#?}");
    }
    let closed = lines.iter().find(|line| line.contains("ChannelClosed")).unwrap();
    assert!(closed.contains("error: None"), "{closed}");
}

#[test]
fn simulation_depends_on_nothing_but_its_seed() {
    let run = |seed| output(env!("CARGO_BIN_EXE_simulation"), &[seed]);
    let lines = run("7");
    assert!(lines.last().unwrap().ends_with(" bytes have come back as they were"), "{lines:#?}");
    assert_eq!(run("7"), lines);
    assert_ne!(run("8"), lines);
}

/// A server, and the example `one_thread` as its client.
struct Tunnel {
    server: ServerHandle,
    /// Keeps the server's port from others while the server is away.
    _reserved: Socket,
    client: Example,
    socks: SocketAddr,
    runtime: Runtime,
}

impl Tunnel {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (reserved, address) = reserve();
        let server = serve(&runtime, address);
        let url = format!("ws://{address}");
        let client = Example::start(env!("CARGO_BIN_EXE_one_thread"), &[&url, "secret", "0"]);
        let line = client.line_with("SOCKS5 on ");
        let socks = line.strip_prefix("SOCKS5 on ").unwrap().parse().unwrap();
        Self { server, _reserved: reserved, client, socks, runtime }
    }
}

/// Asks a SOCKS5 port for `command` (RFC 1928 section 4) and `target`. Returns the reply and its address.
fn ask(socks: SocketAddr, command: u8, target: SocketAddr) -> (TcpStream, u8, SocketAddr) {
    let mut stream = TcpStream::connect(socks).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&[5, 1, 0]).unwrap();
    let mut method = [0; 2];
    stream.read_exact(&mut method).unwrap();
    assert_eq!(method, [5, 0]);
    stream.write_all(&[&[5, command, 0], &address_bytes(target)[..]].concat()).unwrap();
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).unwrap();
    let [_, code, _, _, a, b, c, d, high, low] = reply;
    (stream, code, ([a, b, c, d], u16::from_be_bytes([high, low])).into())
}

fn connect(socks: SocketAddr, target: SocketAddr) -> TcpStream {
    let (stream, reply, _) = ask(socks, 1, target);
    assert_eq!(reply, 0);
    stream
}

fn serve(runtime: &Runtime, address: SocketAddr) -> ServerHandle {
    let config = ServerConfig::forward(Token::new("secret").unwrap()).unwrap();
    runtime.block_on(async {
        Server::builder(config).bind(address).start(TokioRuntime::current()).await.unwrap()
    })
}

/// A port where nobody listens, but whoever is told of it can.
fn reserve() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&ANY_PORT.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// An IPv4 address as in SOCKS5 (RFC 1928 section 5).
fn address_bytes(address: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(address) = address else { panic!("{address} is none of IPv4") };
    [&[1][..], &address.ip().octets(), &address.port().to_be_bytes()].concat()
}

/// Bytes that show when one is missing or out of place.
fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8 ^ seed).collect()
}

/// A target that reads everything up to EOF and answers with the reverse. Serves `count` connections.
fn serve_reverse(count: usize) -> SocketAddr {
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for _ in 0..count {
            let (mut stream, _) = listener.accept().unwrap();
            thread::spawn(move || {
                let mut data = Vec::new();
                stream.read_to_end(&mut data).unwrap();
                data.reverse();
                stream.write_all(&data).unwrap();
            });
        }
    });
    address
}

/// Sends a pattern to such a target, ends its half of the connection, and checks the answer.
fn assert_reversed(mut stream: TcpStream, seed: u8, length: usize) {
    let mut data = pattern(seed, length);
    stream.write_all(&data).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    data.reverse();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer == data, "connection {seed}: {} of {length} bytes", answer.len());
}

/// 8 MiB each way on several connections at once, with half-close.
fn assert_carries_streams(socks: SocketAddr) {
    let target = serve_reverse(4);
    thread::scope(|scope| {
        for seed in 0..4 {
            let stream = connect(socks, target);
            scope.spawn(move || assert_reversed(stream, seed, 8 * MIB));
        }
    });
}

/// Who is cut off sees a reset, on either end, and no regular end.
fn assert_carries_resets(socks: SocketAddr) {
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let pair = || {
        let application = connect(socks, listener.local_addr().unwrap());
        let (target, _) = listener.accept().unwrap();
        target.set_read_timeout(Some(PATIENCE)).unwrap();
        (application, target)
    };
    let assert_reset = |one: TcpStream, mut other: TcpStream| {
        SockRef::from(&one).set_linger(Some(Duration::ZERO)).unwrap();
        drop(one);
        let error = other.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    };
    let (application, target) = pair();
    assert_reset(application, target);
    let (application, target) = pair();
    assert_reset(target, application);
}

#[test]
fn smol_carries_streams_and_resets() {
    let config = ServerConfig::forward(Token::new("secret").unwrap()).unwrap();
    let server = Server::builder(config).bind(ANY_PORT).start(SmolRuntime);
    let server = smol::block_on(server).unwrap();
    let url = ServerUrl::parse(&format!("ws://{}", server.local_addr())).unwrap();
    let mut config = ClientConfig::new(url, Token::new("secret").unwrap());
    config.listen = Some(ANY_PORT);
    let client = smol::block_on(Client::builder(config).start(SmolRuntime)).unwrap();
    smol::block_on(client.ready()).unwrap();
    assert_carries_streams(client.local_addr().unwrap());
    assert_carries_resets(client.local_addr().unwrap());
}

#[test]
fn one_thread_carries_streams_and_resets() {
    let tunnel = Tunnel::new();
    assert_carries_streams(tunnel.socks);
    assert_carries_resets(tunnel.socks);
}

#[test]
fn one_thread_says_that_a_target_refuses() {
    let tunnel = Tunnel::new();
    let (_reserved, target) = reserve();
    let (_, reply, _) = ask(tunnel.socks, 1, target);
    assert_eq!(reply, 4, "host unreachable");
}

#[test]
fn one_thread_carries_datagrams() {
    let tunnel = Tunnel::new();
    let target = UdpSocket::bind(ANY_PORT).unwrap();
    let application = UdpSocket::bind(ANY_PORT).unwrap();
    for socket in [&target, &application] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let (_association, reply, relay) = ask(tunnel.socks, 3, application.local_addr().unwrap());
    assert_eq!(reply, 0);
    let header = [&[0; 3][..], &address_bytes(target.local_addr().unwrap())].concat();
    application.send_to(&[&header[..], b"ping"].concat(), relay).unwrap();
    let mut buffer = [0; 100];
    let (length, from) = target.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"ping");
    target.send_to(b"pong", from).unwrap();
    let (length, _) = application.recv_from(&mut buffer).unwrap();
    assert_eq!(buffer[..length], [&header[..], b"pong"].concat());
}

#[test]
fn one_thread_reconnects_to_a_server_that_comes_back() {
    let mut tunnel = Tunnel::new();
    let target = serve_reverse(2);
    assert_reversed(connect(tunnel.socks, target), 1, 1000);

    let address = tunnel.server.local_addr();
    tunnel.runtime.block_on(tunnel.server.shutdown(Duration::ZERO));
    tunnel.client.line_with("LinkLost");
    tunnel.server = serve(&tunnel.runtime, address);
    tunnel.client.line_with("LinkReady");
    assert_reversed(connect(tunnel.socks, target), 2, 1000);
}

#[test]
fn one_thread_finds_its_server_by_name_and_stops_when_the_token_is_wrong() {
    let tunnel = Tunnel::new();
    let url = format!("ws://localhost:{}", tunnel.server.local_addr().port());
    let (_, status) = Example::start(env!("CARGO_BIN_EXE_one_thread"), &[&url, "wrong", "0"]).finish();
    assert_eq!(status.code(), Some(1));
}
