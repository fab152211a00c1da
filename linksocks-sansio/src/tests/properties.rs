//! The rules of the contract, held against arbitrary inputs.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::epoch;
use super::pair::{TOKEN, client_config, server_config};
use crate::LinkProxy;
use crate::access::AccessRule;
use crate::arena::ArenaId;
use crate::error::{LinkFailure, SocketError, TlsFailure};
use crate::ids::{ChannelId, InstanceId, LinkId, ListenerId, QueryId, SocketId, Ticket};
use crate::io::{
    Action, Command, Engine, FrameViolation, HttpRequest, Input, LinkClose, Output, ReadBuf, UpgradeRequest,
    UpgradeResponse,
};
use crate::secret::Token;
use crate::wire::{
    Ack, Auth, AuthResponse, Compression, Connect, ConnectRequest, ConnectResponse, Data, Disconnect,
    Endpoint, Endpoints, Finish, Hello, Message, SessionHello, Window,
};
use crate::{ClientEngine, ServerEngine};

/// An input that may or may not make sense, and how long after the one before it comes.
#[derive(Clone, Debug)]
struct Step {
    after: Duration,
    input: Input,
    /// Whether the outputs are drained behind it.
    drain: bool,
}

/// Few ids, so that some are live.
fn id<I: ArenaId>(g: &mut Gen) -> I {
    I::from_parts(u32::arbitrary(g) % 4, u32::arbitrary(g) % 2)
}

fn channel(g: &mut Gen) -> ChannelId {
    ChannelId([u8::arbitrary(g) % 4; 16])
}

fn text(g: &mut Gen) -> Option<String> {
    g.choose(&[None, Some(""), Some("EOF"), Some("broken")]).copied().flatten().map(str::to_owned)
}

fn message(g: &mut Gen) -> Message {
    let channel = channel(g);
    match u8::arbitrary(g) % 12 {
        0 => {
            let token = Token::new(if bool::arbitrary(g) { TOKEN } else { "wrong" }).unwrap();
            Message::Auth(Auth {
                token,
                reverse: u8::arbitrary(g) % 8 == 0,
                instance: InstanceId(uuid::Uuid::nil()),
            })
        }
        1 => Message::AuthResponse(AuthResponse::Success { assigned: None }),
        2 | 3 => {
            let address = if bool::arbitrary(g) { "127.0.0.1" } else { "host.test" }.to_owned();
            let request = match u8::arbitrary(g) % 3 {
                0 => ConnectRequest::Udp,
                _ => ConnectRequest::Tcp { address, port: u16::arbitrary(g) % 3 },
            };
            Message::Connect(Connect { channel, request, resume: u8::arbitrary(g) % 8 == 0 })
        }
        4 | 5 => Message::Data(Data {
            channel,
            compression: if u8::arbitrary(g) % 8 == 0 { Compression::Gzip } else { Compression::None },
            payload: if bool::arbitrary(g) {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n".into()
            } else {
                vec![7; usize::arbitrary(g) % 100_000].into()
            },
            datagram: bool::arbitrary(g).then(|| endpoints(g)),
            sequence: None,
        }),
        6 => Message::ConnectResponse(ConnectResponse { channel, result: text(g).map_or(Ok(()), Err) }),
        7 => Message::Disconnect(Disconnect { channel, error: text(g) }),
        8 => Message::Hello(Hello {
            window: Some(u32::arbitrary(g) | 0x1000),
            finish: u8::arbitrary(g) % 8 > 0,
            session: (u8::arbitrary(g) % 8 > 0).then(|| SessionHello {
                id: [u8::arbitrary(g) % 2; 16],
                secret: [u8::arbitrary(g) % 2; 16],
                received: u64::arbitrary(g) % 8,
                flags: u8::arbitrary(g) % 4,
            }),
        }),
        9 => Message::Window(Window { channel, bytes: u32::arbitrary(g) }),
        10 => Message::Finish(Finish { channel }),
        _ => Message::Ack(Ack { received: u64::arbitrary(g) % 8 }),
    }
}

fn address(g: &mut Gen) -> SocketAddr {
    let ip = *g.choose(&["127.0.0.1", "::1", "::ffff:127.0.0.1"]).unwrap_or(&"127.0.0.1");
    SocketAddr::new(ip.parse().unwrap(), u16::arbitrary(g) % 3)
}

fn endpoints(g: &mut Gen) -> Endpoints {
    let mut endpoint = || {
        let address = g.choose(&["", "127.0.0.1", "::1", "host.test", "a b"]).copied().unwrap_or_default();
        Endpoint { address: address.to_owned(), port: u16::arbitrary(g) % 3 }
    };
    let (source, target) = (endpoint(), endpoint());
    if bool::arbitrary(g) { Endpoints::Two { source, target } } else { Endpoints::One(target) }
}

fn offer(g: &mut Gen) -> UpgradeRequest {
    let digest = Token::new(TOKEN).unwrap().digest().to_hex();
    UpgradeRequest {
        path: g.choose(&["/socket", "/socket/x", "/"]).copied().unwrap_or_default().to_owned(),
        query: if bool::arbitrary(g) { format!("token={digest}") } else { String::new() },
        extensions: bool::arbitrary(g).then(|| "window, finish, session".to_owned()),
        peer: "127.0.0.1:9".parse().unwrap(),
    }
}

fn http_request(g: &mut Gen) -> HttpRequest {
    HttpRequest {
        peer: "192.0.2.1:5".parse().unwrap(),
        method: g.choose(&["GET", "POST", "DELETE"]).copied().unwrap_or_default().to_owned(),
        path: g.choose(&["/", "/api/status", "/api/token"]).copied().unwrap_or_default().to_owned(),
        api_key: bool::arbitrary(g).then(|| Token::new(TOKEN).unwrap()),
        body: Bytes::from_static(b"{\"type\":\"forward\",\"token\":\"x\"}"),
    }
}

fn link_failure(g: &mut Gen) -> LinkFailure {
    let location = |g: &mut Gen| match u8::arbitrary(g) % 4 {
        0 => String::arbitrary(g),
        1 => "wss://h/x".to_owned(),
        _ => format!("/{}", u8::arbitrary(g)),
    };
    match u8::arbitrary(g) % 4 {
        0 => LinkFailure::Status(u16::arbitrary(g)),
        1 => LinkFailure::Tls(TlsFailure::Protocol(String::new())),
        _ => LinkFailure::Redirect { location: location(g) },
    }
}

fn input(g: &mut Gen) -> Input {
    let extensions = bool::arbitrary(g).then(|| "window, finish, session".to_owned());
    match u8::arbitrary(g) % 30 {
        0 => Input::Timeout,
        1 => Input::LinkOffered { ticket: Ticket(u64::arbitrary(g)), request: offer(g) },
        2 => Input::LinkOpened { link: id::<LinkId>(g), response: UpgradeResponse { extensions } },
        3 => Input::LinkFailed { link: id::<LinkId>(g), error: link_failure(g) },
        4 => Input::LinkReceived { link: id::<LinkId>(g), message: Bytes::from(Vec::<u8>::arbitrary(g)) },
        5..=10 => Input::LinkReceived { link: id::<LinkId>(g), message: message(g).encode().unwrap() },
        11 => Input::LinkInvalid { link: id::<LinkId>(g), violation: FrameViolation::Text },
        12 => Input::LinkWritten { link: id::<LinkId>(g), bytes: usize::arbitrary(g) },
        13 => Input::LinkPong { link: id::<LinkId>(g) },
        14 if u8::arbitrary(g) % 4 == 0 => {
            Input::LinkClosed { link: id::<LinkId>(g), cause: LinkClose::Peer(None) }
        }
        14 | 15 => Input::SocketOpened { socket: id::<SocketId>(g) },
        16 => Input::SocketFailed { socket: id::<SocketId>(g), error: SocketError::Reset },
        17 => {
            let known: [&[u8]; 7] = [
                b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50",
                b"\x05\x01\x00\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50",
                b"GET http://h/ HTTP/1.1\r\n\r\nPOST http://127.0.0.1/ HTTP/1.1\r\nContent-Length: 100000\r\n\r\n",
                b"CONNECT 127.0.0.1:80 HTTP/1.1\r\n\r\n",
                b"HTTP/1.1 200 OK\r\n\r\n",
                b"\x05\x00",
                b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50",
            ];
            let known = g.choose(&known).copied().unwrap_or_default().to_vec();
            let bytes = if u8::arbitrary(g) % 4 > 0 { known } else { Vec::arbitrary(g) };
            Input::SocketRead { socket: id::<SocketId>(g), buf: ReadBuf::copy_from(&bytes) }
        }
        18 => Input::SocketEof { socket: id::<SocketId>(g) },
        19 => Input::SocketWritten { socket: id::<SocketId>(g), bytes: usize::arbitrary(g) % 100_000 },
        20 => Input::SocketClosed { socket: id::<SocketId>(g) },
        21 => {
            let local = "127.0.0.1:9".parse().unwrap();
            Input::SocketAccepted {
                ticket: Ticket(u64::arbitrary(g)),
                listener: id::<ListenerId>(g),
                local,
                peer: local,
            }
        }
        22 => Input::Resolved {
            query: id::<QueryId>(g),
            result: Ok([[127, 0, 0, 1].into()].into_iter().collect()),
        },
        23 => Input::SocketBound { socket: id::<SocketId>(g), local: address(g) },
        29 => Input::Revoked { socket: id::<SocketId>(g), bytes: usize::arbitrary(g) % 100_000 },
        24 => Input::DatagramReceived {
            socket: id::<SocketId>(g),
            from: address(g),
            payload: [vec![0, 0, 0, 1], Vec::arbitrary(g)].concat().into(),
        },
        25 => Input::DatagramsSent {
            socket: id::<SocketId>(g),
            count: usize::arbitrary(g) % 100,
            failed: usize::arbitrary(g) % 2,
        },
        26 => Input::HttpRequest { ticket: Ticket(u64::arbitrary(g)), request: http_request(g).into() },
        27 => Input::Command(Command::Associate { ticket: Ticket(u64::arbitrary(g)) }),
        _ if u8::arbitrary(g) % 16 == 0 => {
            Input::Command(Command::Shutdown { drain: Duration::from_secs(3) })
        }
        _ => {
            let target = "127.0.0.1:80".parse().unwrap();
            Input::Command(Command::Open { ticket: Ticket(u64::arbitrary(g)), target })
        }
    }
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        let after = Duration::from_millis(*g.choose(&[0, 0, 0, 1, 300, 2_000, 20_000]).unwrap_or(&0));
        Self { after, input: input(g), drain: bool::arbitrary(g) }
    }
}

/// Feeds all steps, checks what every driver relies on, and returns a hash of all outputs.
fn run(mut engine: impl Engine, steps: &[Step]) -> u64 {
    let mut hash = DefaultHasher::new();
    let mut now = epoch();
    drain(&mut engine, now, &mut hash);
    for step in steps {
        now += step.after;
        engine.handle_input(now, step.input.clone());
        if step.drain {
            drain(&mut engine, now, &mut hash);
        }
    }
    drain(&mut engine, now, &mut hash);
    hash.finish()
}

fn drain(engine: &mut impl Engine, now: Instant, hash: &mut DefaultHasher) {
    for _ in 0..100_000 {
        match engine.poll_output() {
            Output::Timeout(deadline) => {
                let Some(deadline) = deadline else { return };
                deadline.duration_since(epoch()).hash(hash);
                if deadline > now {
                    return;
                }
                engine.handle_input(now, Input::Timeout);
            }
            Output::Write { data, .. } => assert!(!data.is_empty(), "an empty write"),
            Output::Action(Action::Stop { .. }) => {
                let rest = engine.poll_output();
                assert!(matches!(rest, Output::Timeout(None)), "nothing follows a stop, but {rest:?}");
                return;
            }
            output => output.hash(hash),
        }
    }
    panic!("the engine does not come to rest");
}

#[test]
fn arbitrary_inputs_are_harmless_and_have_the_same_outputs_every_time() {
    fn check(steps: Vec<Step>, seed: [u8; 4], early: bool, proxy: bool) -> bool {
        let proxy = || proxy.then(|| "http://user:word@proxy.test".parse().unwrap());
        let seed = std::array::from_fn(|i| seed[i % 4]);
        let rules: &[&str] = if seed[0] % 2 == 0 { &[] } else { &["127.0.0.0/8", "!:2"] };
        let server = || {
            let mut config = server_config();
            config.relay.upstream = proxy();
            ServerEngine::new(config, seed, epoch())
        };
        let client = || {
            let mut config = client_config();
            config.relay.entry_rules = rules.iter().map(|rule| rule.parse::<AccessRule>().unwrap()).collect();
            config.links = 2;
            config.proxy = proxy().map_or(LinkProxy::Direct, LinkProxy::Through);
            config.listen_early = early;
            ClientEngine::new(config, seed, epoch())
        };
        run(server(), &steps) == run(server(), &steps) && run(client(), &steps) == run(client(), &steps)
    }
    QuickCheck::new().rng(Gen::new(400)).quickcheck(check as fn(Vec<Step>, [u8; 4], bool, bool) -> bool);
}
