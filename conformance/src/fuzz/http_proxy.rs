//! The SOCKS port, which speaks HTTP, too.

use std::collections::VecDeque;

use bytes::Bytes;
use linksocks_sansio::config::{BatchingMode, CompressionConfig};
use linksocks_sansio::io::{ReadCredit, UpgradeResponse};
use linksocks_sansio::wire::{
    AuthResponse, Compression, Connect, ConnectRequest, ConnectResponse, Data, Disconnect, Message, decode,
};
use linksocks_sansio::{
    Action, ChannelId, ClientConfig, ClientEngine, Credentials, Input, LinkId, Output, ReadBuf, ServerUrl,
    SocketId, Ticket, Token,
};

use super::desk::{Desk, peer};
use super::{PIECES, split_first};

/// What stands between what an application says and what its first target answers, and so on.
const SEPARATOR: &[u8] = b"\xFF\xFF";

/// What an application says with SOCKS5 to log in.
const SOCKS_LOGIN: &[u8] = b"\x04user\x04word";

/// What it says with HTTP, whose scheme may be in any case.
const HTTP_LOGIN: &[u8] = b"dXNlcjp3b3Jk";

/// What it is told when it is connected to a target, for all that it wants.
const TUNNEL: &[u8] = b"HTTP/1.1 200 Connection Established\r\n\r\n";

/// What an application at the SOCKS port says, and what its targets answer, one after the other. The first
/// byte says how all of them behave.
///
/// # Panics
/// If it matters how that is cut; if a request reaches its target that could be understood in two ways, or
/// with what is none of its business; if a target is connected to without the login.
pub fn http_proxy(data: &[u8]) {
    let (mode, data) = split_first(data);
    let manners = Manners::new(mode);
    let parts = split(data);
    let [first, others @ ..] = PIECES.map(|length| Port::new(manners).run(&parts, length));
    first.check();
    if manners.login && !first.targets.is_empty() {
        let has_login = contains(data, SOCKS_LOGIN) || contains(data, HTTP_LOGIN);
        assert!(has_login, "nobody gets in without the login");
    }
    for other in others {
        first.compare(&other);
    }
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    find(text, what).is_some()
}

fn split(data: &[u8]) -> VecDeque<&[u8]> {
    let mut parts = VecDeque::new();
    let mut rest = data;
    while let Some(end) = find(rest, SEPARATOR) {
        parts.push_back(&rest[..end]);
        rest = &rest[end + SEPARATOR.len()..];
    }
    parts.push_back(rest);
    parts
}

/// How everybody behaves.
#[derive(Clone, Copy, Debug)]
struct Manners {
    /// Applications must log in.
    login: bool,
    /// Targets end the connection behind their answer.
    targets_end: bool,
    /// Targets can't be connected to.
    refuses: bool,
    /// The application ends its direction behind what it says, before anybody has answered.
    ends_early: bool,
}

impl Manners {
    fn new(mode: u8) -> Self {
        let has = |bit: u8| mode >> bit & 1 == 1;
        Self { login: has(0), targets_end: !has(1), refuses: has(2) && has(3), ends_early: has(4) }
    }
}

/// How the application's connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    Reset,
}

/// A target, and what has reached it.
#[derive(Debug)]
struct Target {
    channel: ChannelId,
    address: (String, u16),
    received: Vec<u8>,
    has_ended: bool,
}

/// What came of it.
#[derive(Debug)]
struct Outcome {
    to_app: Vec<u8>,
    end: Option<End>,
    targets: Vec<Target>,
}

impl Outcome {
    /// What has reached targets.
    fn check(&self) {
        let is_tunnel = self.to_app.first() == Some(&5) || contains(&self.to_app, TUNNEL);
        let requests = self.targets.len() - usize::from(is_tunnel && !self.targets.is_empty());
        self.targets[..requests].iter().for_each(Target::check);
    }

    /// Holds this against what came of it when it was cut in another way.
    fn compare(&self, other: &Self) {
        assert_eq!(self.end, other.end);
        assert_eq!(self.targets.len(), other.targets.len());
        // Where the error is in a piece decides how much of the piece is used.
        let is_cut_off = self.end == Some(End::Reset) || contains(&self.to_app, b" 400 Bad Request");
        for (target, other) in self.targets.iter().zip(&other.targets) {
            assert_eq!(target.address, other.address);
            assert_equal(&target.received, &other.received, is_cut_off);
        }
        let [to_app, to_other] = [self, other].map(|outcome| merge_chunks(&outcome.to_app));
        assert_equal(&to_app, &to_other, is_cut_off);
    }
}

/// Chunks become one: where one ends, the proxy decides by the pieces that it gets.
fn merge_chunks(text: &[u8]) -> Vec<u8> {
    const CHUNKED: &[u8] = b"Transfer-Encoding: chunked\r\n";
    let (mut merged, mut rest) = (Vec::new(), text);
    while let Some(head) = find(rest, CHUNKED).and_then(|field| {
        let behind = field + CHUNKED.len() - 2;
        Some(behind + find(&rest[behind..], b"\r\n\r\n")? + 4)
    }) {
        merged.extend_from_slice(&rest[..head]);
        rest = &rest[head..];
        while let Some((length, data)) = chunk(rest).filter(|(length, _)| *length > 0) {
            let (data, behind) = data.split_at(data.len().min(length));
            merged.extend_from_slice(data);
            rest = behind.strip_prefix(b"\r\n").unwrap_or(behind);
        }
    }
    merged.extend_from_slice(rest);
    merged
}

/// The length of a chunk, and what follows it.
fn chunk(text: &[u8]) -> Option<(usize, &[u8])> {
    let end = find(text, b"\r\n")?;
    let digits = text[..end].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let length = usize::from_str_radix(str::from_utf8(&text[..digits]).ok()?, 16).ok()?;
    Some((length, &text[end + 2..]))
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// `is_cut_off`: one of both may have less.
fn assert_equal(a: &[u8], b: &[u8], is_cut_off: bool) {
    let is_equal = a == b || is_cut_off && (a.starts_with(b) || b.starts_with(a));
    assert!(is_equal, "cuts make a difference:\n{}\n{}", a.escape_ascii(), b.escape_ascii());
}

impl Target {
    /// A request has one meaning, and nothing in it is for the proxy.
    fn check(&self) {
        let Some(head) = find(&self.received, b"\r\n\r\n").map(|end| &self.received[..end]) else {
            return assert!(self.received.is_empty(), "a head is sent at once");
        };
        let shown = head.escape_ascii();
        let mut lines =
            head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let is_line = |line: &[u8]| !line.contains(&b'\r');
        let ends = head.iter().filter(|byte| **byte == b'\r').count();
        assert!(
            lines.clone().all(is_line) && lines.clone().count() == ends + 1,
            "lines end with CRLF: {shown}"
        );
        let start = lines.next().expect("a text has a first line");
        let words: Vec<&[u8]> = start.split(|byte| *byte == b' ').collect();
        let [_, path, b"HTTP/1.0" | b"HTTP/1.1"] = words[..] else { panic!("the request line: {shown}") };
        assert!(path.starts_with(b"/") || path == b"*", "the path: {shown}");
        let names: Vec<String> = lines.map(name).collect();
        let count = |name: &str| names.iter().filter(|other| *other == name).count();
        assert_eq!(count("host"), 1, "{shown}");
        assert_eq!(count("connection"), 1, "{shown}");
        assert!(count("content-length") + count("transfer-encoding") <= 1, "{shown}");
        let is_private = |name: &String| name.starts_with("proxy-") || name == "te" || name == "keep-alive";
        assert!(!names.iter().any(is_private), "{shown}");
    }
}

/// The name of a field, in lower case.
fn name(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == b':').expect("a field has a name");
    String::from_utf8_lossy(&field[..end]).to_ascii_lowercase()
}

/// A client whose server and applications are here.
struct Port {
    desk: Desk<ClientEngine>,
    manners: Manners,
    inputs: VecDeque<Input>,
    link: Option<LinkId>,
    app: Option<SocketId>,
    credit: ReadCredit,
    to_app: Vec<u8>,
    end: Option<End>,
    targets: Vec<Target>,
}

impl Port {
    /// A client that has its link, and an application that is connected to it.
    fn new(manners: Manners) -> Self {
        let mut port = Self {
            desk: Desk::new(client(manners), &config(manners).relay.limits),
            manners,
            inputs: VecDeque::new(),
            link: None,
            app: None,
            credit: ReadCredit::default(),
            to_app: Vec::new(),
            end: None,
            targets: Vec::new(),
        };
        let outputs = port.desk.drain();
        port.hear(outputs);
        port.settle();
        assert!(port.app.is_some(), "the application was let in");
        port
    }

    /// Says everything, in pieces of a length. `parts`: of the application, then of each target.
    fn run(mut self, parts: &VecDeque<&[u8]>, length: usize) -> Outcome {
        let mut parts = parts.clone();
        let mut from_app = parts.pop_front().unwrap_or_default();
        let mut answered = 0;
        loop {
            from_app = self.say(from_app, length);
            if from_app.is_empty() && self.manners.ends_early {
                self.end_app();
            }
            if answered == self.targets.len() {
                break;
            }
            self.answer(answered, parts.pop_front().unwrap_or_default(), length);
            answered += 1;
        }
        self.end_app();
        Outcome { to_app: self.to_app, end: self.end, targets: self.targets }
    }

    /// The application says as much as is read of it; returns what is left.
    fn say<'a>(&mut self, mut bytes: &'a [u8], length: usize) -> &'a [u8] {
        while let Some(socket) = self.app.filter(|_| self.end.is_none()) {
            let length = bytes.len().min(length).min(self.credit.bytes).min(self.credit.chunk);
            if length == 0 {
                break;
            }
            let (piece, rest) = bytes.split_at(length);
            self.credit.bytes -= length;
            self.tell(Input::SocketRead { socket, buf: ReadBuf::copy_from(piece) });
            bytes = rest;
        }
        bytes
    }

    fn end_app(&mut self) {
        if let Some(socket) = self.app.take().filter(|_| self.end.is_none()) {
            self.tell(Input::SocketEof { socket });
        }
    }

    fn answer(&mut self, target: usize, mut bytes: &[u8], length: usize) {
        let (Some(link), channel) = (self.link, self.targets[target].channel) else { return };
        while !bytes.is_empty() && !self.targets[target].has_ended {
            let (piece, rest) = bytes.split_at(bytes.len().min(length));
            let payload = Bytes::copy_from_slice(piece);
            let compression = Compression::None;
            let data = Data { channel, compression, payload, datagram: None, sequence: None };
            let message = Message::Data(data).encode().expect("a piece is short");
            self.tell(Input::LinkReceived { link, message });
            bytes = rest;
        }
        if self.manners.targets_end {
            let message = Disconnect { channel, error: None }.encode();
            self.tell(Input::LinkReceived { link, message });
        }
    }

    /// Tells the client something and does all that it asks for.
    fn tell(&mut self, input: Input) {
        self.inputs.push_back(input);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            let outputs = self.desk.tell(input);
            self.hear(outputs);
        }
    }

    fn hear(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Transmit { link, message } => {
                    self.inputs.push_back(Input::LinkWritten { link, bytes: message.len() });
                    self.receive(link, &decode(message).expect("it is a message").message);
                }
                Output::Write { socket, data } => {
                    self.to_app.extend_from_slice(&data);
                    self.inputs.push_back(Input::SocketWritten { socket, bytes: data.len() });
                }
                Output::Read { credit, .. } => self.widen(credit),
                Output::Revoke { socket } => {
                    let bytes = std::mem::take(&mut self.credit.bytes);
                    self.inputs.push_back(Input::Revoked { socket, bytes });
                }
                Output::Action(action) => self.act(action),
                Output::Receive { .. }
                | Output::Accept { .. }
                | Output::ReceiveDatagrams { .. }
                | Output::SendDatagram { .. }
                | Output::Event(_)
                | Output::Timeout(_) => {}
            }
        }
    }

    fn widen(&mut self, credit: ReadCredit) {
        self.credit = ReadCredit { bytes: self.credit.bytes + credit.bytes, chunk: credit.chunk };
    }

    /// The driver's part.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others need no answer here")]
    fn act(&mut self, action: Action) {
        let welcome = |link| {
            [
                Input::LinkOpened { link, response: UpgradeResponse::default() },
                Input::LinkReceived { link, message: AuthResponse::Success { assigned: None }.encode() },
            ]
        };
        match action {
            Action::Connect { socket, .. } => self.inputs.push_back(Input::SocketOpened { socket }),
            Action::OpenLink { link, .. } => {
                self.link = Some(link);
                self.inputs.extend(welcome(link));
            }
            Action::Listen { listener, address } => {
                let accepted =
                    Input::SocketAccepted { ticket: Ticket(1), listener, local: address, peer: peer(1) };
                self.inputs.extend([Input::ListenerOpened { listener, local: address }, accepted]);
            }
            Action::AdoptSocket { socket, read, .. } => {
                self.app = Some(socket);
                self.widen(read);
            }
            Action::Close { socket, .. } => self.ended(socket, End::Closed),
            Action::Reset { socket } => self.ended(socket, End::Reset),
            _ => {}
        }
    }

    fn ended(&mut self, socket: SocketId, end: End) {
        self.end = Some(end);
        self.inputs.push_back(Input::SocketClosed { socket });
    }

    /// The server's part.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others need no answer here")]
    fn receive(&mut self, link: LinkId, message: &Message) {
        let target = |channel: &ChannelId| self.targets.iter().position(|target| target.channel == *channel);
        match message {
            Message::Connect(Connect { channel, request: ConnectRequest::Tcp { address, port }, .. }) => {
                self.connect(link, *channel, (address.clone(), *port));
            }
            Message::Data(data) => {
                let target = target(&data.channel).expect("data is for a target");
                assert!(!self.targets[target].has_ended, "nothing comes after the end");
                self.targets[target].received.extend_from_slice(&data.payload);
            }
            Message::Disconnect(Disconnect { channel, .. }) => {
                if let Some(target) = target(channel) {
                    self.targets[target].has_ended = true;
                }
            }
            _ => {}
        }
    }

    fn connect(&mut self, link: LinkId, channel: ChannelId, address: (String, u16)) {
        let result = if self.manners.refuses { Err("connection refused".to_owned()) } else { Ok(()) };
        let message = ConnectResponse { channel, result }.encode();
        self.inputs.push_back(Input::LinkReceived { link, message });
        let has_ended = self.manners.refuses;
        self.targets.push(Target { channel, address, received: Vec::new(), has_ended });
    }
}

fn config(manners: Manners) -> ClientConfig {
    let server = ServerUrl::parse("ws://192.0.2.1").expect("it is a URL");
    let mut config = ClientConfig::new(server, Token::new("token").expect("it has a usual length"));
    config.listen = Some(peer(0));
    config.credentials = manners.login.then(|| Credentials::new("user", "word").expect("they are short"));
    config.relay.batching.mode = BatchingMode::Off;
    config.relay.compression = CompressionConfig::off();
    config
}

fn client(manners: Manners) -> ClientEngine {
    ClientEngine::new(config(manners), [7; 32], Desk::<ClientEngine>::NOW.instant())
}
