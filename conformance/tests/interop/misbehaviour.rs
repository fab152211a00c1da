//! Peers that send nonsense get a clear end, and nobody else notices.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use conformance::interop::pattern::random_bytes;
use conformance::interop::target::{self, Target};
use conformance::interop::{Tunnel, socks};
use libtest_mimic::Failed;

use crate::TestResult;
use crate::link::{DATA, Link, VERSION, auth, data, is_auth_failure};
use crate::transfer::ping;

/// Time for the server to end a connection that is no use.
const END_TIMEOUT: Duration = Duration::from_secs(15);
/// Two message sizes around the limit of 32 MiB.
const OVERSIZED: u64 = 33 * 1024 * 1024;

/// A connection of somebody else, through the same server: opened before the trouble, checked after each piece of it.
struct Bystander {
    stream: TcpStream,
    _target: Target,
}

impl Bystander {
    fn open(tunnel: &Tunnel) -> Result<Self, Failed> {
        let target = Target::local(target::echo)?;
        let mut bystander = Self { stream: tunnel.connect(target.address())?, _target: target };
        bystander.is_fine("before")?;
        Ok(bystander)
    }

    fn is_fine(&mut self, when: &str) -> TestResult {
        ping(&mut self.stream, when.as_bytes()).map_err(|failed| {
            format!("the other connection, {when}: {}", failed.message().unwrap_or("failed")).into()
        })
    }
}

pub(crate) fn garbage_on_the_http_port(tunnel: &mut Tunnel) -> TestResult {
    let mut bystander = Bystander::open(tunnel)?;
    let endless_header = [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; 4 << 20]].concat();
    let cases: [(&str, Vec<u8>); 6] = [
        ("random bytes", random_bytes(5, 100_000)),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(40)),
        ("a SOCKS greeting", vec![5, 1, 0]),
        ("half a request", b"GET /socket HTTP/1.1\r\nHost: x\r\nUpgr".to_vec()),
        ("an endless header", endless_header),
        (
            "an upgrade without a key",
            b"GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
            Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
                .to_vec(),
        ),
    ];
    for (name, bytes) in &cases {
        ends_after(tunnel.server_address(), bytes).map_err(|error| format!("{name}: {error}"))?;
        bystander.is_fine(name)?;
    }
    Ok(())
}

/// Sends `bytes` and FIN; whatever the server answers, it must end the connection.
fn ends_after(server: SocketAddr, bytes: &[u8]) -> std::io::Result<()> {
    let mut stream = socks::open(server)?;
    stream.set_read_timeout(Some(END_TIMEOUT))?;
    let ended = |outcome: std::io::Result<()>| match outcome {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected
            ) =>
        {
            Ok(())
        }
        other => other,
    };
    ended(stream.write_all(bytes))?;
    ended(stream.shutdown(Shutdown::Write))?;
    ended(target::discard(&mut stream).map(drop))
}

pub(crate) fn http_answers(tunnel: &mut Tunnel) -> TestResult {
    let mut bystander = Bystander::open(tunnel)?;
    for (path, status) in
        [("/", 200), ("/nothing/here", 404), ("/api/status", 404), ("/socket", 400), ("/socket/x", 400)]
    {
        let mut stream = socks::open(tunnel.server_address())?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer:?}");
        if path == "/" {
            assert!(answer.contains("is running but API is not enabled."), "{answer:?}");
        }
    }
    bystander.is_fine("after HTTP requests")
}

pub(crate) fn wrong_token_is_answered_and_closed(tunnel: &mut Tunnel) -> TestResult {
    let server = tunnel.server_address();
    let mut bystander = Bystander::open(tunnel)?;
    let mut unknown = Link::open_with_token(server, "not-the-token")?;
    let mut short = Link::open(server, "/socket?reverse=false&token=abc")?;
    let mut in_band = Link::open(server, "/socket")?;
    in_band.send(auth("not-the-token"))?;
    for (link, text) in [
        (&mut unknown, "invalid token"),
        (&mut short, "invalid token format"),
        (&mut in_band, "invalid token"),
    ] {
        let answer = link.receive()?;
        assert!(is_auth_failure(&answer, text), "expected {text:?}, got {answer:02x?}");
        assert_eq!(link.close_code()?, 1008);
    }
    bystander.is_fine("after failed logins")
}

pub(crate) fn malformed_messages_close_their_link(tunnel: &mut Tunnel) -> TestResult {
    let mut bystander = Bystander::open(tunnel)?;
    let lying_length = {
        let mut message = data([1; 16], b"four");
        message.truncate(message.len() - 1);
        message
    };
    let cases: [(&str, Vec<u8>); 5] = [
        ("an empty message", vec![]),
        ("a version alone", vec![VERSION]),
        ("a truncated Data", vec![VERSION, DATA, 1, 0, 0]),
        ("a Data shorter than its length", lying_length),
        ("another major version", vec![0x11, DATA]),
    ];
    for (name, message) in cases {
        let mut link = Link::authenticated(tunnel.server_address(), Tunnel::TOKEN)?;
        link.send(message)?;
        assert_eq!(link.close_code()?, 1002, "{name}");
        bystander.is_fine(name)?;
    }
    let mut link = Link::authenticated(tunnel.server_address(), Tunnel::TOKEN)?;
    link.send_text("text")?;
    assert_eq!(link.close_code()?, 1003, "a text message");
    bystander.is_fine("a text message")
}

/// The header of a frame over 32 MiB is enough to refuse it; its bytes keep coming meanwhile.
pub(crate) fn oversized_message_closes_its_link(tunnel: &mut Tunnel) -> TestResult {
    let mut bystander = Bystander::open(tunnel)?;
    let mut link = Link::authenticated(tunnel.server_address(), Tunnel::TOKEN)?;
    let mut stream = link.stream().try_clone()?;
    let code = thread::scope(|scope| {
        scope.spawn(move || {
            let mut frame = vec![0x82, 0xFF];
            frame.extend(OVERSIZED.to_be_bytes());
            frame.extend([0; 4]); // the mask
            frame.extend([VERSION, DATA]);
            frame.resize(frame.len() + OVERSIZED as usize, 0);
            // The server may stop reading at any time.
            let _ = stream.write_all(&frame);
        });
        let code = link.close_code();
        // Ends a write that waits for a server that no longer reads.
        let _ = link.stream().shutdown(Shutdown::Both);
        code
    })?;
    assert_eq!(code, 1009);
    bystander.is_fine("after an oversized message")
}

pub(crate) fn unknown_messages_are_ignored(tunnel: &mut Tunnel) -> TestResult {
    let mut bystander = Bystander::open(tunnel)?;
    let target = Target::local(target::echo)?;
    let channel = [9; 16];
    let mut link = Link::authenticated(tunnel.server_address(), Tunnel::TOKEN)?;
    link.send([VERSION, 0x7F, 1, 2, 3])?;
    link.send([VERSION, 0xFF])?;
    link.connect(channel, target.address())?;
    link.send([VERSION, 0x0B, 0, 0, 0, 2, b'{', b'}'])?;
    link.send(data([8; 16], b"for a channel nobody opened"))?;
    link.ping(channel, b"still here")?;
    bystander.is_fine("after unknown messages")
}
