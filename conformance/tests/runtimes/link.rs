//! The pump of a link over real loopback connections, against hand-made frames.

use std::future::ready;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use driver_core::pumps::link::{self, LinkCommand};
use driver_core::runtime::Runtime;
use driver_core::transport::Connector;
use futures_channel::mpsc::{UnboundedSender, unbounded};
use futures_util::{AsyncRead, AsyncWrite};
use linksocks_sansio::Input;
use linksocks_sansio::config::Limits;
use linksocks_sansio::error::{LinkFailure, SocketError};
use linksocks_sansio::io::{CloseFrame, FrameViolation, LinkClose, LinkRequest, receive_cost};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{Ids, PATIENCE, Reports, connected, patient, pattern};

scenarios! {
    queued_messages_arrive_in_order_and_are_reported,
    many_small_messages_are_flushed_together,
    messages_are_received_while_there_is_credit,
    fragments_and_what_came_with_the_request_are_received,
    pings_are_answered_and_only_asked_for_pongs_are_reported,
    of_a_peer_that_pings_and_reads_nothing_little_is_read,
    endless_fragments_let_others_run,
    a_text_message_is_a_violation_and_the_link_still_writes,
    before_authentication_little_is_read_of_a_peer,
    the_largest_message_is_accepted_and_no_larger_one,
    the_close_frame_reaches_a_peer_that_is_still_sending,
    a_close_of_the_peer_is_answered_and_reported,
    a_lost_transport_is_reported,
    a_local_close_sends_everything_first,
    a_local_close_waits_no_longer_than_it_may,
    a_close_without_frame_drops_the_transport,
    the_client_handshake_carries_the_request_and_returns_the_extensions,
    a_failed_client_handshake_says_why,
    a_close_during_the_handshake_gives_up,
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

const MASK: [u8; 4] = [1, 2, 3, 4];

/// A final, masked frame, as a client sends it.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame_head(opcode, payload.len());
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn frame_head(opcode: u8, length: usize) -> Vec<u8> {
    let mut head = vec![0x80 | opcode];
    match length {
        0..=125 => head.push(0x80 | length as u8),
        126..=0xffff => {
            head.push(0x80 | 126);
            head.extend((length as u16).to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend((length as u64).to_be_bytes());
        }
    }
    head.extend(MASK);
    head
}

/// The accepting side of a link, whose engine and peer the test plays.
struct Rig {
    commands: UnboundedSender<LinkCommand>,
    reports: Reports,
    peer: TcpStream,
}

impl Rig {
    async fn new<R: Runtime>(runtime: &R, credit: usize) -> Self {
        Self::start(runtime, Vec::new(), [LinkCommand::Receive(credit)]).await
    }

    /// `read` came in together with the upgrade request, and the commands of `early` are there before
    /// the pump is.
    async fn start<R: Runtime>(
        runtime: &R,
        read: Vec<u8>,
        early: impl IntoIterator<Item = LinkCommand>,
    ) -> Self {
        let (stream, peer) = connected(runtime).await;
        let (inbox, reports) = Reports::new();
        let (commands, receiver) = unbounded();
        for command in early {
            commands.unbounded_send(command).unwrap();
        }
        let upgrade = ready(Ok((stream, read)));
        runtime.spawn(link::accept(runtime.clone(), upgrade, Ids::new().link, receiver, inbox));
        let mut rig = Self { commands, reports, peer };
        rig.reports.opened().await;
        rig
    }

    fn tell(&self, command: LinkCommand) {
        self.commands.unbounded_send(command).unwrap();
    }

    fn close(&self, code: u16, linger: Duration) {
        let close = Some(CloseFrame { code, reason: "bye".to_owned() });
        self.tell(LinkCommand::Close { close, linger });
    }

    async fn send(&mut self, opcode: u8, payload: &[u8]) {
        patient(self.peer.write_all(&frame(opcode, payload))).await.unwrap();
    }

    /// The next frame from the pump, which never masks or fragments.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = patient(self.peer.read_u16()).await.unwrap();
        let length = match head & 0xff {
            126 => u64::from(self.peer.read_u16().await.unwrap()),
            127 => self.peer.read_u64().await.unwrap(),
            length => u64::from(length),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        patient(self.peer.read_exact(&mut payload)).await.unwrap();
        let first = (head >> 8) as u8;
        assert_eq!(first & 0xf0, 0x80, "a final frame without extensions");
        (first & 0x0f, payload)
    }

    async fn received(&mut self) -> Vec<u8> {
        let message = |input| match input {
            Input::LinkReceived { message, .. } => Some(message.to_vec()),
            _ => None,
        };
        self.reports.expect("a message", message).await
    }

    async fn written(&mut self, total: usize) {
        let mut sum = 0;
        while sum < total {
            let bytes = |input| match input {
                Input::LinkWritten { bytes, .. } => Some(bytes),
                _ => None,
            };
            sum += self.reports.expect("LinkWritten", bytes).await;
        }
        assert_eq!(sum, total);
    }

    async fn violation(&mut self) -> FrameViolation {
        let violation = |input| match input {
            Input::LinkInvalid { violation, .. } => Some(violation),
            _ => None,
        };
        self.reports.expect("LinkInvalid", violation).await
    }

    /// How it ended, which is the last report.
    async fn ended(&mut self) -> LinkClose {
        let cause = ended(&mut self.reports).await;
        assert!(self.reports.next().await.is_none());
        cause
    }

    async fn assert_eof(&mut self) {
        assert_eq!(patient(self.peer.read(&mut [0; 1])).await.unwrap(), 0);
    }
}

async fn ended(reports: &mut Reports) -> LinkClose {
    let cause = |input| match input {
        Input::LinkClosed { cause, .. } => Some(cause),
        _ => None,
    };
    reports.expect("LinkClosed", cause).await
}

const WINDOW: usize = 1 << 20;

async fn queued_messages_arrive_in_order_and_are_reported<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, WINDOW).await;
    let messages: Vec<_> = [0, 1, 125, 126, 65_535, 65_536, 3 << 20, 10].map(pattern).into();
    for message in &messages {
        rig.tell(LinkCommand::Transmit(message.clone().into()));
    }
    for message in &messages {
        let (opcode, payload) = rig.frame().await;
        assert_eq!(opcode, BINARY);
        assert!(payload == *message, "{} bytes", message.len());
    }
    rig.written(messages.iter().map(Vec::len).sum()).await;
}

async fn many_small_messages_are_flushed_together<R: Runtime>(runtime: R) {
    let messages = (0..1000).map(|_| LinkCommand::Transmit(vec![7; 10].into()));
    let mut rig = Rig::start(&runtime, Vec::new(), messages).await;
    let bytes = |input| match input {
        Input::LinkWritten { bytes, .. } => Some(bytes),
        _ => None,
    };
    // All of them are queued when the pump begins: one flush, one report.
    assert_eq!(rig.reports.expect("LinkWritten", bytes).await, 10_000);
}

async fn messages_are_received_while_there_is_credit<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, 1).await;
    for length in [500, 10, 20] {
        rig.send(BINARY, &pattern(length)).await;
    }
    // Any credit is enough for one message.
    assert_eq!(rig.received().await, pattern(500));
    rig.tell(LinkCommand::Receive(receive_cost(500) - 1));
    rig.tell(LinkCommand::Transmit(b"x".to_vec().into()));
    rig.written(1).await;
    // The debt is paid, no more: the pump would have read, and reported that, before it wrote.
    rig.reports.assert_silent();
    rig.tell(LinkCommand::Receive(receive_cost(10) + 1));
    assert_eq!(rig.received().await, pattern(10));
    assert_eq!(rig.received().await, pattern(20));
}

async fn fragments_and_what_came_with_the_request_are_received<R: Runtime>(runtime: R) {
    let whole = frame(BINARY, b"ab");
    let mut first = frame(BINARY, b"cd");
    first[0] &= 0x7f;
    let mut rig = Rig::start(&runtime, [whole, first].concat(), [LinkCommand::Receive(WINDOW)]).await;
    assert_eq!(rig.received().await, b"ab");
    rig.send(PING, b"between").await;
    assert_eq!(rig.frame().await, (PONG, b"between".to_vec()));
    rig.send(0, b"ef").await;
    assert_eq!(rig.received().await, b"cdef");
}

async fn pings_are_answered_and_only_asked_for_pongs_are_reported<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, WINDOW).await;
    rig.send(PONG, b"unasked").await;
    rig.send(PING, b"payload").await;
    assert_eq!(rig.frame().await, (PONG, b"payload".to_vec()));
    rig.tell(LinkCommand::Ping);
    assert_eq!(rig.frame().await, (PING, Vec::new()));
    // The answer came after the pong that nobody had asked for.
    rig.reports.assert_silent();
    for _ in 0..2 {
        rig.send(PONG, b"").await;
    }
    rig.send(BINARY, b"end").await;
    rig.reports.expect("one pong", |input| matches!(input, Input::LinkPong { .. }).then_some(())).await;
    assert_eq!(rig.received().await, b"end");
}

/// A peer that sends the same frame for ever, as fast as it is read, and reads nothing.
struct Flood {
    frame: Vec<u8>,
    sent: Arc<AtomicUsize>,
}

impl AsyncRead for Flood {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let before = self.sent.fetch_add(buf.len(), Ordering::Relaxed);
        let bytes = self.frame.iter().cycle().skip(before % self.frame.len());
        buf.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Poll::Ready(Ok(buf.len()))
    }
}

impl AsyncWrite for Flood {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// How much is read of a peer that sends `beginning`, then `frame` for ever, while the pump runs so many
/// times.
fn flood<R: Runtime>(runtime: &R, beginning: Vec<u8>, frame: Vec<u8>, turns: usize) -> usize {
    let sent = Arc::new(AtomicUsize::new(0));
    let stream = Flood { frame, sent: Arc::clone(&sent) };
    let (inbox, _reports) = Reports::new();
    let (commands, receiver) = unbounded();
    commands.unbounded_send(LinkCommand::Receive(WINDOW)).unwrap();
    let upgrade = ready(Ok((stream, beginning)));
    let mut pump = pin!(link::accept(runtime.clone(), upgrade, Ids::new().link, receiver, inbox));
    for _ in 0..turns {
        assert!(pump.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    sent.load(Ordering::Relaxed)
}

async fn of_a_peer_that_pings_and_reads_nothing_little_is_read<R: Runtime>(runtime: R) {
    let ping = frame(PING, &[7; 125]);
    let read = flood(&runtime, Vec::new(), ping.clone(), 1000);
    // 64 pings, and what was read together with them.
    assert!(read <= 64 * ping.len() + (64 << 10), "{read} bytes");
}

async fn endless_fragments_let_others_run<R: Runtime>(runtime: R) {
    let mut first = frame(BINARY, b"x");
    first[0] &= 0x7f;
    let mut empty = frame(0, b"");
    empty[0] &= 0x7f;
    let read = flood(&runtime, first, empty, 10);
    assert!((1 << 20..=10 << 20).contains(&read), "{read} bytes");
}

async fn a_text_message_is_a_violation_and_the_link_still_writes<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, WINDOW).await;
    rig.send(TEXT, b"hello").await;
    assert_eq!(rig.violation().await, FrameViolation::Text);
    rig.send(BINARY, b"ignored").await;
    rig.tell(LinkCommand::Transmit(b"still".to_vec().into()));
    rig.close(1003, PATIENCE * 2);
    assert_eq!(rig.frame().await, (BINARY, b"still".to_vec()));
    assert_eq!(rig.frame().await, (CLOSE, b"\x03\xebbye".to_vec()));
    rig.written(5).await;
    rig.send(CLOSE, b"\x03\xeb").await;
    rig.assert_eof().await;
    assert_eq!(rig.ended().await, LinkClose::Local);
}

async fn before_authentication_little_is_read_of_a_peer<R: Runtime>(runtime: R) {
    let limit = Limits::MAX_UNAUTHENTICATED_MESSAGE;
    let mut rig = Rig::new(&runtime, limit).await;
    rig.send(BINARY, &pattern(limit)).await;
    assert_eq!(rig.received().await.len(), limit);
    rig.tell(LinkCommand::Receive(receive_cost(limit)));
    rig.send(BINARY, &pattern(WINDOW)).await;
    rig.send(BINARY, b"behind it").await;
    // Goes on when the peer is trusted, and nothing is lost.
    rig.tell(LinkCommand::Receive(WINDOW));
    assert!(rig.received().await == pattern(WINDOW));
    rig.tell(LinkCommand::Receive(WINDOW));
    assert_eq!(rig.received().await[..], *b"behind it");
}

async fn the_largest_message_is_accepted_and_no_larger_one<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, WINDOW).await;
    let message = pattern(Limits::MAX_MESSAGE);
    let (mut reading, mut writing) = rig.peer.into_split();
    let sent = tokio::spawn(async move {
        writing.write_all(&frame(BINARY, &message)).await.unwrap();
        writing.write_all(&frame_head(BINARY, Limits::MAX_MESSAGE + 1)).await.unwrap();
        writing
    });
    let length = |input| match input {
        Input::LinkReceived { message, .. } => Some(message.len()),
        _ => None,
    };
    assert_eq!(rig.reports.expect("a message", length).await, Limits::MAX_MESSAGE);
    rig.commands.unbounded_send(LinkCommand::Receive(2 * Limits::MAX_MESSAGE)).unwrap();
    let violation = |input| match input {
        Input::LinkInvalid { violation, .. } => Some(violation),
        _ => None,
    };
    assert_eq!(rig.reports.expect("LinkInvalid", violation).await, FrameViolation::TooLarge);
    drop(rig.commands);
    assert_eq!(ended(&mut rig.reports).await, LinkClose::Local);
    assert_eq!(patient(reading.read(&mut [0; 1])).await.unwrap(), 0);
    drop(sent);
}

async fn the_close_frame_reaches_a_peer_that_is_still_sending<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, WINDOW).await;
    let unmasked = [0x82, 1, 0];
    rig.peer.write_all(&unmasked).await.unwrap();
    assert_eq!(rig.violation().await, FrameViolation::Framing);
    rig.close(1002, PATIENCE);
    // With these bytes unread, releasing the socket would mean RST and the loss of the close frame.
    patient(rig.peer.write_all(&pattern(1 << 20))).await.unwrap();
    assert_eq!(rig.frame().await, (CLOSE, b"\x03\xeabye".to_vec()));
    rig.peer.shutdown().await.unwrap();
    rig.assert_eof().await;
    assert_eq!(rig.ended().await, LinkClose::Local);
}

async fn a_close_of_the_peer_is_answered_and_reported<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, WINDOW).await;
    rig.send(CLOSE, b"\x03\xe9going").await;
    assert_eq!(rig.frame().await, (CLOSE, b"\x03\xe9going".to_vec()));
    rig.assert_eof().await;
    let close = CloseFrame { code: 1001, reason: "going".to_owned() };
    assert_eq!(rig.ended().await, LinkClose::Peer(Some(close)));
}

async fn a_lost_transport_is_reported<R: Runtime>(runtime: R) {
    let rig = Rig::new(&runtime, WINDOW).await;
    let Rig { commands, mut reports, peer } = rig;
    drop(peer);
    assert_eq!(ended(&mut reports).await, LinkClose::Transport(SocketError::UnexpectedEof));

    let rig = Rig::new(&runtime, WINDOW).await;
    rig.peer.set_zero_linger().unwrap();
    let Rig { commands: _commands, mut reports, peer } = rig;
    drop(peer);
    assert_eq!(ended(&mut reports).await, LinkClose::Transport(SocketError::Reset));
    drop(commands);
}

async fn a_local_close_sends_everything_first<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, 0).await;
    let data = pattern(8 << 20);
    rig.tell(LinkCommand::Transmit(data.clone().into()));
    rig.close(1000, PATIENCE);
    // Without credit, too, the answer of the peer is found behind its messages.
    rig.send(BINARY, b"nobody wants this").await;
    let (opcode, payload) = rig.frame().await;
    assert!(opcode == BINARY && payload == data);
    assert_eq!(rig.frame().await, (CLOSE, b"\x03\xe8bye".to_vec()));
    rig.send(CLOSE, b"\x03\xe8").await;
    rig.assert_eof().await;
    rig.written(data.len()).await;
    assert_eq!(rig.ended().await, LinkClose::Local);
}

async fn a_local_close_waits_no_longer_than_it_may<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, WINDOW).await;
    rig.close(1000, Duration::from_millis(20));
    assert_eq!(rig.ended().await, LinkClose::Local);
    assert_eq!(rig.frame().await.0, CLOSE);
    rig.assert_eof().await;
}

async fn a_close_without_frame_drops_the_transport<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, WINDOW).await;
    rig.tell(LinkCommand::Close { close: None, linger: PATIENCE });
    assert_eq!(rig.ended().await, LinkClose::Local);
    rig.assert_eof().await;
}

/// The connecting side, up to the handshake.
struct Opening {
    commands: UnboundedSender<LinkCommand>,
    reports: Reports,
    server: TcpStream,
}

impl Opening {
    async fn new<R: Runtime>(runtime: &R) -> Self {
        let (stream, server) = connected(runtime).await;
        let (inbox, reports) = Reports::new();
        let (commands, receiver) = unbounded();
        let request = LinkRequest {
            secure: false,
            server_name: "example.com".to_owned(),
            authority: "example.com:8765".to_owned(),
            path_and_query: "/socket?token=abc".to_owned(),
            extensions: Some("window, finish".to_owned()),
            headers: vec!["X-Zone: eu".parse().unwrap()],
        };
        runtime.spawn(link::open(
            runtime.clone(),
            stream,
            Connector::default(),
            Ids::new().link,
            request,
            receiver,
            inbox,
        ));
        Self { commands, reports, server }
    }

    async fn request(&mut self) -> String {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(patient(self.server.read_u8()).await.unwrap());
        }
        String::from_utf8(request).unwrap()
    }

    async fn failure(&mut self) -> LinkFailure {
        let error = |input| match input {
            Input::LinkFailed { error, .. } => Some(error),
            _ => None,
        };
        self.reports.expect("LinkFailed", error).await
    }
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let lines = request.lines().filter_map(|line| line.split_once(": "));
    lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

async fn the_client_handshake_carries_the_request_and_returns_the_extensions<R: Runtime>(runtime: R) {
    let mut opening = Opening::new(&runtime).await;
    let request = opening.request().await;
    assert!(request.starts_with("GET /socket?token=abc HTTP/1.1\r\n"), "{request}");
    assert_eq!(header(&request, "Host"), Some("example.com:8765"));
    assert_eq!(header(&request, "LinkSocks-Extensions"), Some("window, finish"));
    assert_eq!(header(&request, "Sec-WebSocket-Version"), Some("13"));
    assert_eq!(header(&request, "User-Agent"), None);
    assert_eq!(header(&request, "X-Zone"), Some("eu"));

    let accept = tungstenite_accept_key(header(&request, "Sec-WebSocket-Key").unwrap());
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nlinksocks-extensions: finish\r\n\r\n"
    );
    // A message right behind the answer is not lost.
    let answer = [response.as_bytes(), b"\x82\x02hi"].concat();
    opening.server.write_all(&answer).await.unwrap();
    assert_eq!(opening.reports.opened().await.extensions.as_deref(), Some("finish"));
    opening.commands.unbounded_send(LinkCommand::Receive(WINDOW)).unwrap();
    let message = |input| match input {
        Input::LinkReceived { message, .. } => Some(message),
        _ => None,
    };
    assert_eq!(opening.reports.expect("a message", message).await, "hi");

    // Clients mask.
    opening.commands.unbounded_send(LinkCommand::Transmit(b"yo".to_vec().into())).unwrap();
    let mut frame = [0; 8];
    patient(opening.server.read_exact(&mut frame)).await.unwrap();
    assert_eq!(frame[..2], [0x82, 0x82]);
    assert_eq!([frame[6] ^ frame[2], frame[7] ^ frame[3]], *b"yo");
}

fn tungstenite_accept_key(key: &str) -> String {
    tungstenite::handshake::derive_accept_key(key.as_bytes())
}

async fn a_failed_client_handshake_says_why<R: Runtime>(runtime: R) {
    let redirect = |location: &str| LinkFailure::Redirect { location: location.to_owned() };
    for (answer, expected) in [
        ("HTTP/1.1 404 Not Found\r\n\r\n", LinkFailure::Status(404)),
        ("HTTP/1.0 403 Forbidden\r\n\r\nno", LinkFailure::Status(403)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", LinkFailure::Status(200)),
        ("HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", redirect("/x")),
        ("HTTP/1.0 308 Gone\r\nlocation:  ws://h/ä?y \r\n\r\n", redirect("ws://h/ä?y")),
        ("HTTP/1.1 302 Found\r\n\r\n", LinkFailure::Status(302)),
        ("HTTP/1.1 300 Multiple Choices\r\nLocation: /x\r\n\r\n", LinkFailure::Status(300)),
        ("", LinkFailure::Io(SocketError::UnexpectedEof)),
        ("HTTP/1.1 101 Swi", LinkFailure::Io(SocketError::UnexpectedEof)),
    ] {
        let mut opening = Opening::new(&runtime).await;
        opening.request().await;
        opening.server.write_all(answer.as_bytes()).await.unwrap();
        opening.server.shutdown().await.unwrap();
        assert_eq!(opening.failure().await, expected, "{answer}");
    }
    let upgraded = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    for answer in [
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        &format!("{upgraded}\r\n"),
        &format!("{upgraded}Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"),
    ] {
        let mut opening = Opening::new(&runtime).await;
        opening.request().await;
        opening.server.write_all(answer.as_bytes()).await.unwrap();
        let failure = opening.failure().await;
        assert!(matches!(failure, LinkFailure::Handshake(_)), "{failure:?}");
    }
}

async fn a_close_during_the_handshake_gives_up<R: Runtime>(runtime: R) {
    let mut opening = Opening::new(&runtime).await;
    opening.request().await;
    let close = Some(CloseFrame { code: 1000, reason: String::new() });
    opening.commands.unbounded_send(LinkCommand::Close { close, linger: PATIENCE }).unwrap();
    assert_eq!(ended(&mut opening.reports).await, LinkClose::Local);
    assert_eq!(patient(opening.server.read(&mut [0; 1])).await.unwrap(), 0);
}
