//! Properties of all messages.

use bytes::{Bytes, BytesMut};
use quickcheck::{Arbitrary, Gen, QuickCheck, quickcheck};
use uuid::Uuid;

use super::{
    Ack, Auth, AuthResponse, Compression, Connect, ConnectRequest, ConnectResponse, Connector,
    ConnectorOperation, ConnectorResponse, Data, DecodeError, Direct, DirectKind, Disconnect, EncodeError,
    Endpoint, Endpoints, Finish, Frame, Hello, Log, MAX_MESSAGE, Message, Partners, SessionHello, VERSION,
    Version, Window, decode, kind,
};
use crate::ids::{ChannelId, InstanceId};
use crate::secret::Token;

/// Every type byte that is known.
const KINDS: [u8; 21] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 0xE0, 0xE1, 0xE2, 0xE3];

fn id(g: &mut Gen) -> [u8; 16] {
    u128::arbitrary(g).to_be_bytes()
}

fn channel(g: &mut Gen) -> ChannelId {
    ChannelId(id(g))
}

/// A text that fits a str8.
fn text(g: &mut Gen) -> String {
    let mut text = String::arbitrary(g);
    while text.len() > 255 {
        text.pop();
    }
    text
}

fn token(g: &mut Gen) -> Token {
    Token::new(text(g)).unwrap()
}

/// A token as a server assigns it, if any: never empty.
fn assigned(g: &mut Gen) -> Option<Token> {
    Some(token(g)).filter(|token| bool::arbitrary(g) && !token.expose().is_empty())
}

fn endpoint(g: &mut Gen) -> Endpoint {
    Endpoint { address: text(g), port: u16::arbitrary(g) }
}

fn result<T>(g: &mut Gen, value: T) -> Result<T, String> {
    if bool::arbitrary(g) { Ok(value) } else { Err(text(g)) }
}

impl Arbitrary for Data {
    fn arbitrary(g: &mut Gen) -> Self {
        let datagram = match u8::arbitrary(g) % 3 {
            0 => None,
            1 => Some(Endpoints::One(endpoint(g))),
            _ => Some(Endpoints::Two { source: endpoint(g), target: endpoint(g) }),
        };
        let sequence = if matches!(datagram, Some(Endpoints::One(_))) { None } else { Option::arbitrary(g) };
        Self {
            channel: channel(g),
            compression: *g.choose(&[Compression::None, Compression::Gzip]).unwrap(),
            payload: Vec::arbitrary(g).into(),
            datagram,
            sequence,
        }
    }
}

impl Arbitrary for Message {
    fn arbitrary(g: &mut Gen) -> Self {
        match *g.choose(&KINDS).unwrap() {
            kind::AUTH => Self::Auth(Auth {
                token: token(g),
                reverse: bool::arbitrary(g),
                instance: InstanceId(Uuid::from_bytes(id(g))),
            }),
            kind::AUTH_RESPONSE => Self::AuthResponse(if bool::arbitrary(g) {
                AuthResponse::Success { assigned: assigned(g) }
            } else {
                AuthResponse::Failure { error: text(g) }
            }),
            kind::CONNECT => Self::Connect(Connect {
                channel: channel(g),
                request: match u8::arbitrary(g) % 3 {
                    0 => ConnectRequest::Tcp { address: text(g), port: u16::arbitrary(g) },
                    1 => ConnectRequest::Udp,
                    _ => ConnectRequest::Unknown(u8::arbitrary(g).max(3)),
                },
                resume: bool::arbitrary(g),
            }),
            kind::DATA => Self::Data(Data::arbitrary(g)),
            kind::CONNECT_RESPONSE => {
                Self::ConnectResponse(ConnectResponse { channel: channel(g), result: result(g, ()) })
            }
            kind::DISCONNECT => {
                let error = Some(text(g)).filter(|_| bool::arbitrary(g));
                Self::Disconnect(Disconnect { channel: channel(g), error })
            }
            kind::CONNECTOR => Self::Connector(Connector {
                request: channel(g),
                token: token(g),
                operation: *g.choose(&[ConnectorOperation::Add, ConnectorOperation::Remove]).unwrap(),
            }),
            kind::CONNECTOR_RESPONSE => {
                let token = assigned(g);
                Self::ConnectorResponse(ConnectorResponse { request: channel(g), result: result(g, token) })
            }
            kind::LOG => Self::Log(Log { level: String::arbitrary(g), msg: String::arbitrary(g) }),
            kind::PARTNERS => Self::Partners(Partners { count: u64::arbitrary(g) }),
            kind::HELLO => Self::Hello(Hello {
                window: Option::arbitrary(g),
                finish: bool::arbitrary(g),
                session: bool::arbitrary(g).then(|| SessionHello {
                    id: id(g),
                    secret: id(g),
                    received: u64::arbitrary(g),
                    flags: u8::arbitrary(g),
                }),
            }),
            kind::WINDOW => Self::Window(Window { channel: channel(g), bytes: u32::arbitrary(g) }),
            kind::FINISH => Self::Finish(Finish { channel: channel(g) }),
            kind::ACK => Self::Ack(Ack { received: u64::arbitrary(g) }),
            other => Self::Direct(Direct {
                kind: DirectKind::from_byte(other).unwrap(),
                json: serde_json::to_vec(&text(g)).unwrap().into(),
            }),
        }
    }
}

/// Whether bytes behind the message can't be taken for a tail that is missing in it.
fn is_complete(message: &Message) -> bool {
    match message {
        Message::AuthResponse(AuthResponse::Success { assigned }) => assigned.is_some(),
        Message::Connect(connect) => connect.resume,
        Message::Data(data) => data.sequence.is_some(),
        Message::Disconnect(disconnect) => disconnect.error.is_some(),
        Message::ConnectorResponse(response) => response.result != Ok(None),
        Message::Auth(_)
        | Message::AuthResponse(AuthResponse::Failure { .. })
        | Message::ConnectResponse(_)
        | Message::Connector(_)
        | Message::Log(_)
        | Message::Partners(_)
        | Message::Direct(_)
        | Message::Hello(_)
        | Message::Window(_)
        | Message::Finish(_)
        | Message::Ack(_)
        | Message::Unknown(_) => true,
    }
}

quickcheck! {
    fn a_message_survives_the_wire(message: Message, minor: u8) -> bool {
        let version = Version(minor & 0x0F);
        let bytes = message.encode_as(version).unwrap();
        bytes[..2] == [version.0, message.kind()] && decode(bytes) == Ok(Frame { version, message })
    }

    fn bytes_behind_the_body_are_ignored(message: Message, behind: Vec<u8>) -> bool {
        let mut bytes = BytesMut::from(&message.encode().unwrap()[..]);
        bytes.extend_from_slice(&behind);
        !is_complete(&message) || decode(bytes.freeze()) == Ok(Frame { version: VERSION, message })
    }

    /// A message that is cut is an error that ends the link, or a legal message without a tail.
    /// It means the same only if nothing but the length of an empty text is missing.
    fn a_message_may_be_cut_anywhere(message: Message) -> bool {
        let bytes = message.encode().unwrap();
        (0..bytes.len()).all(|end| match decode(bytes.slice(..end)) {
            Ok(frame) => {
                frame.message.kind() == message.kind()
                    && (frame.message != message || bytes[end..] == [0])
                    && decode(frame.message.encode().unwrap()) == Ok(frame)
            }
            Err(error) => !error.is_skippable(),
        })
    }

    fn any_other_type_is_ignored(kind: u8, body: Vec<u8>) -> bool {
        let bytes = [&[VERSION.0, kind], &body[..]].concat();
        KINDS.contains(&kind)
            || decode(bytes.into()) == Ok(Frame { version: VERSION, message: Message::Unknown(kind) })
    }

    fn another_major_is_refused_whatever_follows(version: u8, rest: Vec<u8>) -> bool {
        let version = Version(version | 0x10);
        decode([&[version.0], &rest[..]].concat().into()) == Err(DecodeError::Version(version))
    }
}

#[test]
fn random_bodies_are_decoded_to_something_stable_or_refused() {
    fn property(body: Vec<u8>) -> bool {
        KINDS.iter().all(|kind| {
            let Ok(frame) = decode([&[VERSION.0, *kind], &body[..]].concat().into()) else { return true };
            let encoded = frame.message.encode().unwrap();
            decode(encoded.clone()).unwrap().message.encode() == Ok(encoded)
        })
    }
    QuickCheck::new().tests(2000).quickcheck(property as fn(Vec<u8>) -> bool);
}

#[test]
fn payload_and_json_are_slices_of_the_message() {
    let data = Data {
        channel: ChannelId([1; 16]),
        compression: Compression::None,
        payload: Bytes::from_static(b"payload"),
        datagram: None,
        sequence: None,
    };
    let direct = Direct { kind: DirectKind::Status, json: Bytes::from_static(b"{}") };
    for message in [Message::Data(data), Message::Direct(direct)] {
        let bytes = message.encode().unwrap();
        let decoded = decode(bytes.clone()).unwrap().message;
        assert_eq!(decoded, message);
        let (Message::Data(Data { payload: part, .. }) | Message::Direct(Direct { json: part, .. })) =
            decoded
        else {
            panic!("became {decoded:?}")
        };
        assert!(bytes.as_ptr_range().contains(&part.as_ptr()), "{message:?} was copied");
    }
}

#[test]
fn an_address_has_at_most_255_bytes() {
    let connect = |len: usize| {
        let request = ConnectRequest::Tcp { address: "a".repeat(len), port: 80 };
        Message::Connect(Connect { channel: ChannelId([1; 16]), request, resume: false })
    };
    let datagram = |source: usize, target: usize| {
        let endpoint = |len| Endpoint { address: "a".repeat(len), port: 53 };
        Message::Data(Data {
            channel: ChannelId([1; 16]),
            compression: Compression::None,
            payload: Bytes::new(),
            datagram: Some(Endpoints::Two { source: endpoint(source), target: endpoint(target) }),
            sequence: None,
        })
    };
    for message in [connect(255), datagram(255, 255)] {
        assert_eq!(decode(message.encode().unwrap()).unwrap().message, message);
    }
    for message in [connect(256), datagram(256, 0), datagram(0, 256)] {
        assert_eq!(message.encode(), Err(EncodeError::AddressTooLong { len: 256 }));
    }
}

#[test]
fn an_error_text_is_cut_before_a_character() {
    let sent = |text: &str| {
        let bytes = Disconnect { channel: ChannelId([1; 16]), error: Some(text.to_owned()) }.encode();
        let decoded = decode(bytes).unwrap().message;
        let Message::Disconnect(disconnect) = decoded else { panic!("became {decoded:?}") };
        disconnect.error.unwrap()
    };
    assert_eq!(sent(&"a".repeat(255)), "a".repeat(255));
    assert_eq!(sent(&"a".repeat(256)), "a".repeat(255));
    // The last character has four bytes, of which zero to four would fit.
    for fit in 0..4 {
        let text = "a".repeat(255 - fit);
        assert_eq!(sent(&format!("{text}\u{1F980}")), text);
    }
    let text = format!("{}\u{1F980}", "a".repeat(251));
    assert_eq!(sent(&text), text);
}

#[test]
fn a_failing_connect_response_carries_the_length_of_its_text() {
    let response = ConnectResponse { channel: ChannelId([1; 16]), result: Err(String::new()) };
    assert_eq!(response.encode(), [&[1, 5, 0], &[1; 16][..], &[0]].concat());
}

#[test]
fn a_message_is_at_most_as_long_as_peers_accept() {
    let data = |len: usize| {
        Message::Data(Data {
            channel: ChannelId([1; 16]),
            compression: Compression::None,
            payload: vec![0; len].into(),
            datagram: None,
            sequence: None,
        })
    };
    let longest = MAX_MESSAGE - super::DATA_HEADER_LEN;
    assert_eq!(data(longest).encode().unwrap().len(), MAX_MESSAGE);
    assert_eq!(data(longest + 1).encode(), Err(EncodeError::TooLarge { len: MAX_MESSAGE + 1 }));
    assert_eq!(data(MAX_MESSAGE + 1).encode(), Err(EncodeError::TooLarge { len: MAX_MESSAGE + 1 }));
}

#[test]
fn what_is_not_utf8_is_replaced_in_error_texts_and_refused_elsewhere() {
    let id = [1; 16];
    let channel = Some(ChannelId(id));
    let utf8 = |message, field, channel| Err(DecodeError::Utf8 { message, field, channel });
    let decode = |parts: &[&[u8]]| decode(parts.concat().into()).map(|frame| frame.message);

    let disconnect = decode(&[b"\x01\x06", &id, b"\x03a\xFFb"]);
    let error = Some("a\u{FFFD}b".to_owned());
    assert_eq!(disconnect, Ok(Message::Disconnect(Disconnect { channel: ChannelId(id), error })));

    assert_eq!(decode(&[b"\x01\x01\x01\xFF\x00", &id]), utf8("Auth", "token", None));
    assert_eq!(decode(&[b"\x01\x03\x01", &id, b"\x01\xFF\x00\x50"]), utf8("Connect", "address", channel));
    let data: &[&[u8]] = &[b"\x01\x04\x02", &id, b"\x00\x00\x00\x00\x00\x01\xFF\x00\x50"];
    assert_eq!(decode(data), utf8("Data", "address", channel));
    assert_eq!(decode(&[b"\x01\x07", &id, b"\x01\xFF\x01"]), utf8("Connector", "token", channel));
    assert!(decode(data).unwrap_err().is_skippable());
}

#[test]
fn bad_json_is_skippable() {
    for (kind, text) in [
        (kind::LOG, &b"{x"[..]),
        (kind::LOG, b"{\"level\":1}"),
        (kind::LOG, b"{\"msg\":\"\xFF\"}"),
        (kind::PARTNERS, b"{\"count\":-1}"),
        (kind::PARTNERS, b""),
        (kind::DIRECT_STATUS, b"{\"a\":}"),
        (kind::DIRECT_STATUS, b"{\"a\":\"\xFF\"}"),
        (kind::DIRECT_STATUS, b"{} {}"),
    ] {
        let len = u32::try_from(text.len()).unwrap().to_be_bytes();
        let error = decode([&[VERSION.0, kind], &len[..], text].concat().into()).unwrap_err();
        assert!(matches!(error, DecodeError::Json { .. }), "{text:?}: {error}");
        assert!(error.is_skippable());
    }
}

#[test]
fn deeply_nested_json_does_not_exhaust_the_stack() {
    for kind in [kind::LOG, kind::PARTNERS, kind::DIRECT_STATUS] {
        let text = b"{\"x\":".repeat(1 << 20);
        let len = u32::try_from(text.len()).unwrap().to_be_bytes();
        let error = decode([&[VERSION.0, kind], &len[..], &text].concat().into()).unwrap_err();
        assert!(matches!(error, DecodeError::Json { .. }), "{error}");
    }
}

#[test]
fn any_flag_byte_but_zero_is_true() {
    let result = |success: u8| {
        let bytes = [&[1, 5, success], &[1; 16][..]].concat();
        let decoded = decode(bytes.into()).unwrap().message;
        let Message::ConnectResponse(response) = decoded else { panic!("became {decoded:?}") };
        response.result
    };
    assert!(result(0).is_err());
    assert!((1..=u8::MAX).all(|success| result(success).is_ok()));
}

#[test]
fn a_zero_length_token_is_no_token() {
    let response = decode(Bytes::from_static(b"\x01\x02\x01\x00")).unwrap().message;
    assert_eq!(response, Message::AuthResponse(AuthResponse::Success { assigned: None }));
}
