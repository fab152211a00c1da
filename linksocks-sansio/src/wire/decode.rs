//! From bytes to messages.

use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};
use thiserror::Error;

use super::message::{
    Ack, Auth, AuthResponse, Connect, ConnectRequest, ConnectResponse, Connector, ConnectorOperation,
    ConnectorResponse, Data, Direct, DirectKind, Disconnect, Finish, Hello, Message, Window,
};
use super::reader::Reader;
use super::{Version, data, kind};
use crate::ids::{ChannelId, InstanceId};

/// A message and the version that its sender speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Byte 0; its major is ours, its minor may be any.
    pub version: Version,
    /// The rest.
    pub message: Message,
}

/// Why some bytes are not a message.
///
/// No variant carries text of the message: errors are logged, tokens and payload are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum DecodeError {
    /// The message ends before the body does.
    #[error("{message}: too short for {field}")]
    TooShort {
        /// Which message.
        message: &'static str,
        /// The first field that is not all there.
        field: &'static str,
    },
    /// The sender speaks another major version.
    #[error("unsupported protocol version {0}")]
    Version(Version),
    /// A datagram with no address block at all.
    #[error("Data: a datagram without an address")]
    NoEndpoint {
        /// The association.
        channel: ChannelId,
    },
    /// A text that must be UTF-8 is not.
    #[error("{message}: {field} is not UTF-8")]
    Utf8 {
        /// Which message.
        message: &'static str,
        /// Which text.
        field: &'static str,
        /// The channel (or request) that the message is about, so that a Connect or Connector
        /// can be answered with a failure.
        channel: Option<ChannelId>,
    },
    /// The body is not the JSON that it must be.
    #[error("{message}: invalid JSON")]
    Json {
        /// Which message.
        message: &'static str,
    },
    /// A Connector message with an operation that nobody knows.
    #[error("Connector: unknown operation {operation}")]
    Operation {
        /// The request, so that it can be answered with a failure.
        request: ChannelId,
        /// The operation.
        operation: u8,
    },
}

impl DecodeError {
    /// Whether the link may go on without this one message.
    ///
    /// Lengths and version were right and only the meaning is lost: a relayed application could
    /// cause that (a SOCKS client that asks for a name that isn't UTF-8) and must not take the
    /// other channels down. With a wrong length or version nothing that the peer sends can be
    /// relied on, and a lost TCP payload would leave a hole in its stream.
    #[must_use]
    pub const fn is_skippable(&self) -> bool {
        match self {
            Self::Utf8 { .. } | Self::Json { .. } | Self::Operation { .. } => true,
            Self::TooShort { .. } | Self::Version(_) | Self::NoEndpoint { .. } => false,
        }
    }
}

/// Decodes one whole WebSocket message. The payload of a [`Data`] and the text of a [`Direct`]
/// are slices of `message`.
///
/// Any minor version is accepted, an unknown type is [`Message::Unknown`], bytes behind the body
/// are ignored, and any flag byte but 0 is true.
///
/// ```
/// use bytes::Bytes;
/// use linksocks_sansio::wire::{DecodeError, Message, decode};
///
/// // Another minor version, a type of the future, a body that nobody knows.
/// let frame = decode(Bytes::from_static(b"\x02\x63body"))?;
/// assert_eq!((frame.version.minor(), frame.message), (2, Message::Unknown(0x63)));
///
/// let error = decode(Bytes::from_static(b"\x01\x06\xAB")).unwrap_err();
/// assert_eq!(error.to_string(), "Disconnect: too short for channel");
/// assert!(!error.is_skippable()); // close the link
/// # Ok::<(), DecodeError>(())
/// ```
///
/// # Errors
/// See [`DecodeError`], and [`DecodeError::is_skippable`] for what to do.
pub fn decode(message: Bytes) -> Result<Frame, DecodeError> {
    let mut header = Reader::new("message", message);
    let version = Version(header.u8("version")?);
    if !version.is_compatible() {
        return Err(DecodeError::Version(version));
    }
    let kind = header.u8("type")?;
    Ok(Frame { version, message: body(kind, header)? })
}

fn body(kind: u8, body: Reader) -> Result<Message, DecodeError> {
    Ok(match kind {
        kind::AUTH => Message::Auth(auth(body.rename("Auth"))?),
        kind::AUTH_RESPONSE => Message::AuthResponse(auth_response(body.rename("AuthResponse"))?),
        kind::CONNECT => Message::Connect(connect(body.rename("Connect"))?),
        kind::DATA => Message::Data(Data::read(body.rename("Data"))?),
        kind::CONNECT_RESPONSE => Message::ConnectResponse(connect_response(body.rename("ConnectResponse"))?),
        kind::DISCONNECT => Message::Disconnect(disconnect(body.rename("Disconnect"))?),
        kind::CONNECTOR => Message::Connector(connector(body.rename("Connector"))?),
        kind::CONNECTOR_RESPONSE => {
            Message::ConnectorResponse(connector_response(body.rename("ConnectorResponse"))?)
        }
        kind::LOG => Message::Log(json(body.rename("Log"))?),
        kind::PARTNERS => Message::Partners(json(body.rename("Partners"))?),
        kind::HELLO => Message::Hello(Hello::read(body.rename("Hello"))?),
        kind::WINDOW => Message::Window(Window::read(body.rename("Window"))?),
        kind::FINISH => Message::Finish(Finish::read(body.rename("Finish"))?),
        kind::ACK => Message::Ack(Ack::read(body.rename("Ack"))?),
        other => match DirectKind::from_byte(other) {
            Some(kind) => Message::Direct(direct(kind, body.rename("direct mode message"))?),
            None => Message::Unknown(other),
        },
    })
}

fn auth(mut body: Reader) -> Result<Auth, DecodeError> {
    let token = body.token("token")?;
    let reverse = body.flag("reverse")?;
    let instance = InstanceId(uuid::Uuid::from_bytes(body.array("instance")?));
    Ok(Auth { token, reverse, instance })
}

fn auth_response(mut body: Reader) -> Result<AuthResponse, DecodeError> {
    if body.flag("success")? {
        Ok(AuthResponse::Success { assigned: body.optional_token("token")? })
    } else {
        Ok(AuthResponse::Failure { error: body.optional_error()?.unwrap_or_default() })
    }
}

fn connect(mut body: Reader) -> Result<Connect, DecodeError> {
    let protocol = body.u8("protocol")?;
    let channel = body.channel("channel")?;
    let request = match protocol {
        data::TCP => ConnectRequest::Tcp { address: body.text("address")?, port: body.u16("port")? },
        data::UDP => ConnectRequest::Udp,
        other => ConnectRequest::Unknown(other),
    };
    let resume = !body.is_empty() && body.flag("resume")?;
    Ok(Connect { channel, request, resume })
}

/// Some peers leave the length of an empty error text out.
fn connect_response(mut body: Reader) -> Result<ConnectResponse, DecodeError> {
    let success = body.flag("success")?;
    let channel = body.channel("channel")?;
    let result = if success { Ok(()) } else { Err(body.optional_error()?.unwrap_or_default()) };
    Ok(ConnectResponse { channel, result })
}

fn disconnect(mut body: Reader) -> Result<Disconnect, DecodeError> {
    Ok(Disconnect { channel: body.channel("channel")?, error: body.optional_error()? })
}

fn connector(mut body: Reader) -> Result<Connector, DecodeError> {
    let request = body.channel("request")?;
    let token = body.token("token")?;
    let operation = match body.u8("operation")? {
        1 => ConnectorOperation::Add,
        2 => ConnectorOperation::Remove,
        operation => return Err(DecodeError::Operation { request, operation }),
    };
    Ok(Connector { request, token, operation })
}

fn connector_response(mut body: Reader) -> Result<ConnectorResponse, DecodeError> {
    let request = body.channel("request")?;
    let result = if body.flag("success")? {
        Ok(body.optional_token("token")?)
    } else {
        Err(body.optional_error()?.unwrap_or_default())
    };
    Ok(ConnectorResponse { request, result })
}

fn json<T: DeserializeOwned>(mut body: Reader) -> Result<T, DecodeError> {
    let text = body.bytes32("body")?;
    serde_json::from_slice(&text).map_err(|_| body.bad_json())
}

/// Checks the JSON text but keeps it as it came, for a relay to pass on unchanged.
fn direct(kind: DirectKind, mut body: Reader) -> Result<Direct, DecodeError> {
    let json = body.bytes32("body")?;
    // The parser looks for UTF-8 only in strings that it keeps, and `IgnoredAny` keeps none.
    let text = str::from_utf8(&json).map_err(|_| body.bad_json())?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| body.bad_json())?;
    Ok(Direct { kind, json })
}
