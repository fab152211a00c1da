//! Messages: from bytes to values and back.

use bytes::{Bytes, BytesMut};
use linksocks_sansio::ReadBuf;
use linksocks_sansio::wire::{
    self, AuthResponse, Compression, ConnectResponse, ConnectorResponse, DecodeError, Disconnect, Frame,
    Message, seal_tcp,
};

/// How many prefixes of a message are tried, the longest first.
const PREFIXES: usize = 600;

/// The longest text of an error on the wire.
const LONGEST_TEXT: usize = 255;

/// Bytes are a message.
///
/// # Panics
/// If what was read can't be written, or is read differently again; if a message that was cut short is
/// taken for a whole one; if a payload is copied.
pub fn decode(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    match wire::decode(bytes.clone()) {
        Ok(frame) => {
            assert_eq!(frame.version.0, data[0]);
            assert!(frame.version.is_compatible());
            check_payload(&frame.message, &bytes);
            check_encoding(&frame);
        }
        Err(DecodeError::Version(version)) => assert!(!version.is_compatible()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What is read is written in one way, whatever it was read from.
fn check_encoding(frame: &Frame) {
    let message = &frame.message;
    let bytes = message.encode().expect("what came can be sent");
    let again = wire::decode(bytes.clone()).expect("what was written can be read").message;
    assert_eq!(again.encode().as_ref(), Ok(&bytes), "written differently the second time");
    if text(message).is_none_or(|text| text.len() <= LONGEST_TEXT) {
        assert_eq!(again, *message);
    }
    let foreign = message.encode_as(frame.version).expect("as with our own version");
    assert_eq!(wire::decode(foreign), Ok(Frame { version: frame.version, message: again.clone() }));
    check_sealing(&again, &bytes);
    check_ends(&again, &bytes);
}

/// A message that ends too early is an error, unless what is missing may be missing; what is behind one
/// is ignored, unless something may be there.
fn check_ends(message: &Message, bytes: &Bytes) {
    for length in bytes.len().saturating_sub(PREFIXES)..bytes.len() {
        let prefix = wire::decode(bytes.slice(..length));
        assert!(prefix.is_err() || may_be_shorter(message), "{length} of {} bytes: {prefix:?}", bytes.len());
    }
    let mut longer = BytesMut::from(&bytes[..]);
    longer.extend_from_slice(b"\0behind");
    let longer = wire::decode(longer.freeze()).map(|frame| frame.message);
    assert!(longer.as_ref() == Ok(message) || may_be_longer(message), "{longer:?}");
}

/// Whether the last field may be missing.
const fn may_be_shorter(message: &Message) -> bool {
    match message {
        Message::AuthResponse(_) | Message::ConnectorResponse(_) | Message::Disconnect(_) => true,
        Message::ConnectResponse(response) => response.result.is_err(),
        Message::Connect(connect) => connect.resume,
        Message::Data(data) => data.sequence.is_some() || data.datagram.is_some(),
        Message::Auth(_)
        | Message::Connector(_)
        | Message::Log(_)
        | Message::Partners(_)
        | Message::Direct(_)
        | Message::Hello(_)
        | Message::Window(_)
        | Message::Finish(_)
        | Message::Ack(_)
        | Message::Unknown(_) => false,
    }
}

/// Whether something is missing that may be there.
fn may_be_longer(message: &Message) -> bool {
    match message {
        Message::AuthResponse(AuthResponse::Success { assigned }) => assigned.is_none(),
        Message::ConnectorResponse(response) => response.result == Ok(None),
        Message::Disconnect(disconnect) => disconnect.error.is_none(),
        Message::Connect(connect) => !connect.resume,
        Message::Data(data) => data.sequence.is_none(),
        Message::AuthResponse(AuthResponse::Failure { .. })
        | Message::Auth(_)
        | Message::ConnectResponse(_)
        | Message::Connector(_)
        | Message::Log(_)
        | Message::Partners(_)
        | Message::Direct(_)
        | Message::Hello(_)
        | Message::Window(_)
        | Message::Finish(_)
        | Message::Ack(_)
        | Message::Unknown(_) => false,
    }
}

/// The text of an error, which may have become longer than fits: what is not UTF-8 in it is replaced.
#[expect(clippy::wildcard_enum_match_arm, reason = "only some messages have one")]
fn text(message: &Message) -> Option<&str> {
    match message {
        Message::AuthResponse(AuthResponse::Failure { error })
        | Message::ConnectResponse(ConnectResponse { result: Err(error), .. })
        | Message::ConnectorResponse(ConnectorResponse { result: Err(error), .. })
        | Message::Disconnect(Disconnect { error: Some(error), .. }) => Some(error),
        _ => None,
    }
}

/// Payloads are slices of their message.
fn check_payload(message: &Message, bytes: &Bytes) {
    if let Message::Data(data) = message
        && !data.payload.is_empty()
    {
        assert!(bytes.as_ptr_range().contains(&data.payload.as_ptr()), "the payload was copied");
    }
}

/// The header that is written in place is the usual one.
fn check_sealing(message: &Message, bytes: &Bytes) {
    if let Message::Data(data) = message
        && (data.compression, &data.datagram, data.sequence) == (Compression::None, &None, None)
    {
        let mut memory = ReadBuf::headroom(data.payload.len());
        memory.extend_from_slice(&data.payload);
        assert_eq!(seal_tcp(memory, data.channel), bytes);
    }
}
