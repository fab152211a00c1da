//! The codec against the golden vectors.

use allocation_counter::measure;
use bytes::{Bytes, BytesMut};
use conformance::vectors::{self, Fields, FrameKind, Step};
use linksocks_sansio::Token;
use linksocks_sansio::ids::{ChannelId, InstanceId};
use linksocks_sansio::wire::gzip::{GzipError, Inflate};
use linksocks_sansio::wire::{
    Auth, AuthResponse, Compression, Connect, ConnectRequest, ConnectResponse, ConnectorOperation, Data,
    DecodeError, DirectKind, Disconnect, Endpoint, Endpoints, Frame, Log, MAX_MESSAGE, Message, Version,
    decode,
};
use sha2::{Digest, Sha256};
use uuid::uuid;

/// What a test may allocate on top of the bytes that came in: a reference count, an error.
const OVERHEAD: u64 = 256;

#[test]
fn captured_frames_decode_to_their_fields_and_encode_to_their_bytes() {
    let frames = vectors::frames();
    assert_eq!(frames.len(), 298);
    for captured in frames {
        let id = &captured.id;
        assert_eq!(captured.bytes.len(), captured.len, "{id}");
        let frame = decode_within_bounds(&captured.bytes).unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(
            (frame.version, frame.message.kind(), name(&frame.message)),
            (captured.version, captured.kind, captured.name.as_str()),
            "{id}"
        );
        assert_eq!(stated_fields(&frame.message, &captured.fields), captured.fields, "{id}");

        let encoded = frame.message.encode_as(captured.version).expect(id);
        if captured.program == "pywssocks" && captured.name == "partners" {
            // It writes a space behind the colon.
            assert_eq!(decode(encoded), Ok(frame), "{id}");
        } else {
            assert_eq!(hex::encode(encoded), hex::encode(captured.bytes), "{id}");
        }
    }
}

#[test]
fn synthetic_frames_decode_to_their_fields_and_encode_to_their_bytes() {
    let synthetic = vectors::synthetic();
    assert_eq!(synthetic.len(), 10);
    for vector in synthetic {
        let note = &vector.note;
        let frame = decode_within_bounds(&vector.bytes).unwrap_or_else(|error| panic!("{note}: {error}"));
        let decoded = &vector.decoded;
        assert_eq!(
            (frame.version, frame.message.kind(), name(&frame.message)),
            (decoded.version, decoded.kind, decoded.name.as_str()),
            "{note}"
        );
        assert_eq!(stated_fields(&frame.message, &decoded.fields), decoded.fields, "{note}");

        let encoded = hex::encode(frame.message.encode_as(frame.version).expect(note));
        let expected = match hex::encode(&vector.bytes).as_str() {
            // A failure is never sent without the length of its text.
            "010200" => "01020000".to_owned(),
            other => other.to_owned(),
        };
        assert_eq!(encoded, expected, "{note}");
    }
}

#[test]
fn every_binary_frame_of_the_transcripts_decodes_to_its_fields() {
    let mut count = 0;
    for transcript in vectors::transcripts() {
        let place = format!("{} {} {}", transcript.program, transcript.program_version, transcript.mode);
        for event in transcript.events {
            let Step::Frame { frame: FrameKind::Binary, bytes, decoded } = event.step else { continue };
            let place = format!("{place} #{}", event.n);
            let frame = decode(bytes).unwrap_or_else(|error| panic!("{place}: {error}"));
            let decoded = decoded.expect(&place);
            assert_eq!(
                (frame.version, frame.message.kind(), name(&frame.message)),
                (decoded.version, decoded.kind, decoded.name.as_str()),
                "{place}"
            );
            assert_eq!(stated_fields(&frame.message, &decoded.fields), decoded.fields, "{place}");
            count += 1;
        }
    }
    assert_eq!(count, 257);
}

/// What becomes of a malformed message.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// The link is dropped.
    Fatal(DecodeError),
    /// The message is dropped.
    Skipped(DecodeError),
    /// The codec has nothing against it.
    Message(Message),
}

#[test]
fn malformed_frames_have_the_expected_outcome() {
    let malformed = vectors::malformed();
    let expected = expected_outcomes();
    assert_eq!(malformed.len(), expected.len());
    for vector in malformed {
        let description = vector.description;
        let outcome = match decode_within_bounds(&vector.bytes) {
            Ok(frame) => Outcome::Message(frame.message),
            Err(error) if error.is_skippable() => Outcome::Skipped(error),
            Err(error) => Outcome::Fatal(error),
        };
        let (_, expected) = expected
            .iter()
            .find(|(of, _)| *of == description)
            .unwrap_or_else(|| panic!("no outcome is expected of: {description}"));
        assert_eq!(&outcome, expected, "{description}");
    }
}

#[test]
fn a_payload_that_is_not_gzip_fails_when_it_is_inflated() {
    let Some(vector) = vectors::malformed().into_iter().find(|vector| vector.description == NOT_GZIP) else {
        panic!("no vector: {NOT_GZIP}")
    };
    let Ok(Frame { message: Message::Data(data), .. }) = decode(vector.bytes) else {
        panic!("not a Data message")
    };
    let end = Inflate::new(data.payload, MAX_MESSAGE).next_chunk(64 << 10);
    assert_eq!(end, Err(GzipError::Truncated), "it is shorter than a gzip header");
}

const CHANNEL: ChannelId = ChannelId([15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);

const NOT_GZIP: &str = "Data tcp flagged gzip, body not gzip";

fn expected_outcomes() -> Vec<(&'static str, Outcome)> {
    use Outcome::{Fatal, Skipped};

    let auth = Auth {
        token: Token::new("fwdtoken1").expect("short"),
        reverse: false,
        instance: InstanceId(uuid!("00112233-4455-6677-8899-aabbccddeeff")),
    };
    let too_short = |message, field| Fatal(DecodeError::TooShort { message, field });
    let connect =
        |request| Outcome::Message(Message::Connect(Connect { channel: CHANNEL, request, resume: false }));
    let tcp = |address: &str, port| connect(ConnectRequest::Tcp { address: address.to_owned(), port });
    let data = |compression, payload: &'static [u8], datagram| {
        Outcome::Message(Message::Data(Data {
            channel: CHANNEL,
            compression,
            payload: Bytes::from_static(payload),
            datagram,
            sequence: None,
        }))
    };
    let local = Endpoint { address: "127.0.0.1".to_owned(), port: 80 };
    let empty_log = Log { level: String::new(), msg: String::new() };

    vec![
        ("Auth with major version 1", Fatal(DecodeError::Version(Version(0x11)))),
        ("Auth with version byte 0x02", Outcome::Message(Message::Auth(auth))),
        ("Auth cut short", too_short("Auth", "reverse")),
        ("one byte", too_short("message", "type")),
        ("Connect tcp, last byte missing", too_short("Connect", "port")),
        ("Connect with major version 1", Fatal(DecodeError::Version(Version(0x11)))),
        ("Connect with version byte 0x02", tcp("127.0.0.1", 80)),
        ("unknown type 0x7f", Outcome::Message(Message::Unknown(0x7F))),
        ("unknown type 0x00", Outcome::Message(Message::Unknown(0x00))),
        ("empty binary frame", too_short("message", "version")),
        ("Connect with unknown protocol 9", connect(ConnectRequest::Unknown(9))),
        ("Connect tcp port 0", tcp("127.0.0.1", 0)),
        ("Connect tcp with empty address", tcp("", 80)),
        ("Connect tcp with trailing bytes, first one 0", tcp("127.0.0.1", 80)),
        ("Data tcp, DataLen larger than the rest", too_short("Data", "payload")),
        ("Data tcp with DataLen 0 for an unknown channel", data(Compression::None, b"", None)),
        (NOT_GZIP, data(Compression::Gzip, b"notgzip", None)),
        ("Data tcp with compression flag 2", data(Compression::None, b"GET / HTTP/1.0\r\n\r\n", None)),
        (
            "Data udp with one address block (seed layout)",
            data(Compression::None, b"x", Some(Endpoints::One(local))),
        ),
        ("Data udp without any address block", Fatal(DecodeError::NoEndpoint { channel: CHANNEL })),
        (
            "Disconnect with zero-length error",
            Outcome::Message(Message::Disconnect(Disconnect {
                channel: CHANNEL,
                error: Some(String::new()),
            })),
        ),
        ("Connector with operation 9", Skipped(DecodeError::Operation { request: CHANNEL, operation: 9 })),
        ("Log with invalid JSON", Skipped(DecodeError::Json { message: "Log" })),
        ("Log with empty JSON object", Outcome::Message(Message::Log(empty_log))),
        (
            "ConnectResponse failure without ErrorLen byte, sent to a client",
            Outcome::Message(Message::ConnectResponse(ConnectResponse {
                channel: CHANNEL,
                result: Err(String::new()),
            })),
        ),
    ]
}

#[test]
fn a_length_field_alone_allocates_nothing() {
    let id = [0x11; 16];
    let head = |kind: u8| [0x01, kind];
    for (what, message) in [
        ("TCP payload", [&head(0x04), &[1][..], &id, &[0], &[0xFF; 4], b"ab"].concat()),
        ("UDP payload", [&head(0x04), &[2][..], &id, &[0], &[0xFF; 4], b"ab"].concat()),
        ("Log", [&head(0x09), &[0xFF; 4][..], b"{}"].concat()),
        ("Partners", [&head(0x0A), &[0xFF; 4][..], b"{}"].concat()),
        ("direct mode", [&head(0x0B), &[0xFF; 4][..], b"{}"].concat()),
        ("Auth token", [&head(0x01), &[0xFF][..], b"ab"].concat()),
        ("Connect address", [&head(0x03), &[1][..], &id, &[0xFF], b"ab"].concat()),
        ("Hello entries", [&head(0xE0), &[0xFF][..], &[1, 0xFF, 0xFF]].concat()),
    ] {
        let message = Bytes::from(message);
        let mut result = None;
        let memory = measure(|| result = Some(decode(message.clone())));
        assert!(matches!(result, Some(Err(DecodeError::TooShort { .. }))), "{what}: {result:?}");
        assert!(memory.bytes_total <= OVERHEAD, "{what}: {memory:?}");
    }
}

#[test]
fn inflating_needs_memory_for_one_step_only() {
    const STEP: usize = 16 << 10;
    // The decoder's window and tables.
    const STATE: u64 = 64 << 10;
    let mut count = 0;
    for captured in vectors::frames() {
        let Ok(Frame { message: Message::Data(data), .. }) = decode(captured.bytes) else { continue };
        if captured.fields.uncompressed_len.is_none_or(|len| len < 1 << 20) {
            continue;
        }
        let memory = measure(|| {
            let mut inflate = Inflate::new(data.payload.clone(), MAX_MESSAGE);
            while inflate.next_chunk(STEP).expect("a captured payload").is_some() {}
        });
        assert!(memory.bytes_max <= STEP as u64 + STATE, "{}: {memory:?}", captured.id);
        count += 1;
    }
    assert!(count > 0);
}

/// Decodes, and checks that no more was allocated than came in.
fn decode_within_bounds(bytes: &Bytes) -> Result<Frame, DecodeError> {
    let mut result = None;
    let memory = measure(|| result = Some(decode(bytes.clone())));
    let bound = bytes.len() as u64 + OVERHEAD;
    assert!(memory.bytes_total <= bound, "{memory:?} for {} bytes", bytes.len());
    result.expect("measure calls the closure")
}

/// The fields of `message` in the vectors' terms, without those that `expected` leaves out because
/// they follow from others.
fn stated_fields(message: &Message, expected: &Fields) -> Fields {
    let mut fields = fields(message);
    if fields.json_text.is_none() || expected.json_text.is_none() {
        fields.json_text.clone_from(&expected.json_text);
    }
    if expected.data_hex.is_none() {
        fields.data_hex = None;
    }
    if expected.uncompressed_len.is_none() {
        fields.uncompressed_len = None;
        fields.uncompressed_sha256 = None;
        fields.uncompressed_head_hex = None;
        fields.uncompressed_is_one_repeated_byte = None;
    }
    if expected.error.is_none() && fields.error.as_deref() == Some("") {
        fields.error = None;
    }
    fields
}

fn fields(message: &Message) -> Fields {
    let channel_id = |id: ChannelId| Some(id.to_string());
    match message {
        Message::Auth(auth) => Fields {
            token: Some(auth.token.expose().to_owned()),
            reverse: Some(auth.reverse.into()),
            instance: Some(auth.instance.to_string()),
            ..Fields::default()
        },
        Message::AuthResponse(AuthResponse::Success { assigned }) => Fields {
            success: Some(1),
            token: assigned.as_ref().map(|token| token.expose().to_owned()),
            ..Fields::default()
        },
        Message::AuthResponse(AuthResponse::Failure { error }) => {
            Fields { success: Some(0), error: Some(error.clone()), ..Fields::default() }
        }
        Message::Connect(connect) => {
            let (protocol, address, port) = match &connect.request {
                ConnectRequest::Tcp { address, port } => ("tcp", Some(address.clone()), Some(*port)),
                ConnectRequest::Udp => ("udp", None, None),
                ConnectRequest::Unknown(_) => ("unknown", None, None),
            };
            Fields {
                protocol: Some(protocol.to_owned()),
                channel_id: channel_id(connect.channel),
                address,
                port,
                resume: connect.resume.then_some(1),
                ..Fields::default()
            }
        }
        Message::Data(data) => data_fields(data),
        Message::ConnectResponse(response) => Fields {
            success: Some(response.result.is_ok().into()),
            channel_id: channel_id(response.channel),
            error: response.result.clone().err(),
            ..Fields::default()
        },
        Message::Disconnect(disconnect) => Fields {
            channel_id: channel_id(disconnect.channel),
            error: disconnect.error.clone(),
            ..Fields::default()
        },
        Message::Connector(connector) => {
            let operation = match connector.operation {
                ConnectorOperation::Add => "add",
                ConnectorOperation::Remove => "remove",
            };
            Fields {
                channel_id: channel_id(connector.request),
                connector_token: Some(connector.token.expose().to_owned()),
                operation: Some(operation.to_owned()),
                ..Fields::default()
            }
        }
        Message::ConnectorResponse(response) => Fields {
            channel_id: channel_id(response.request),
            success: Some(response.result.is_ok().into()),
            connector_token: response.result.clone().ok().flatten().map(|token| token.expose().to_owned()),
            error: response.result.clone().err(),
            ..Fields::default()
        },
        Message::Log(log) => Fields { json: serde_json::to_value(log).ok(), ..Fields::default() },
        Message::Partners(partners) => {
            Fields { json: serde_json::to_value(partners).ok(), ..Fields::default() }
        }
        Message::Direct(direct) => Fields {
            json: serde_json::from_slice(&direct.json).ok(),
            json_text: String::from_utf8(direct.json.to_vec()).ok(),
            ..Fields::default()
        },
        Message::Hello(_)
        | Message::Window(_)
        | Message::Finish(_)
        | Message::Ack(_)
        | Message::Unknown(_) => Fields::default(),
    }
}

fn data_fields(data: &Data) -> Fields {
    let (first, second) = match &data.datagram {
        None => (None, None),
        Some(Endpoints::One(endpoint)) => (Some(endpoint), None),
        Some(Endpoints::Two { source, target }) => (Some(source), Some(target)),
    };
    let address = |endpoint: Option<&Endpoint>| endpoint.map(|endpoint| endpoint.address.clone());
    let port = |endpoint: Option<&Endpoint>| endpoint.map(|endpoint| endpoint.port);
    let protocol = if data.datagram.is_some() { "udp" } else { "tcp" };
    let fields = Fields {
        protocol: Some(protocol.to_owned()),
        channel_id: Some(data.channel.to_string()),
        data_len: Some(data.payload.len()),
        address: address(first),
        port: port(first),
        target_addr: address(second),
        target_port: port(second),
        sequence: data.sequence,
        ..Fields::default()
    };
    match data.compression {
        Compression::None => {
            Fields { compression: Some(0), data_hex: Some(hex::encode(&data.payload)), ..fields }
        }
        Compression::Gzip => {
            let content = inflate(data.payload.clone());
            Fields {
                compression: Some(1),
                data_hex: Some(hex::encode(&content)),
                uncompressed_len: Some(content.len()),
                uncompressed_sha256: Some(hex::encode(Sha256::digest(&content))),
                uncompressed_head_hex: Some(hex::encode(&content[..content.len().min(16)])),
                uncompressed_is_one_repeated_byte: Some(content.iter().all(|byte| *byte == content[0])),
                ..fields
            }
        }
    }
}

fn inflate(payload: Bytes) -> BytesMut {
    let mut inflate = Inflate::new(payload, MAX_MESSAGE);
    let mut content = BytesMut::new();
    while let Some(chunk) = inflate.next_chunk(64 << 10).expect("a captured payload") {
        content.extend_from_slice(&chunk);
    }
    content
}

fn name(message: &Message) -> &'static str {
    match message {
        Message::Auth(_) => "auth",
        Message::AuthResponse(_) => "auth_response",
        Message::Connect(_) => "connect",
        Message::Data(_) => "data",
        Message::ConnectResponse(_) => "connect_response",
        Message::Disconnect(_) => "disconnect",
        Message::Connector(_) => "connector",
        Message::ConnectorResponse(_) => "connector_response",
        Message::Log(_) => "log",
        Message::Partners(_) => "partners",
        Message::Direct(direct) => match direct.kind {
            DirectKind::Capabilities => "direct_capabilities",
            DirectKind::Rendezvous => "direct_rendezvous",
            DirectKind::Status => "direct_status",
            DirectKind::ChannelBind => "channel_bind",
            DirectKind::ChannelMigrate => "channel_migrate",
            DirectKind::ChannelMigrateAck => "channel_migrate_ack",
            DirectKind::ChannelDataAck => "channel_data_ack",
        },
        Message::Hello(_) => "hello",
        Message::Window(_) => "window",
        Message::Finish(_) => "finish",
        Message::Ack(_) => "ack",
        Message::Unknown(_) => "unknown",
    }
}
