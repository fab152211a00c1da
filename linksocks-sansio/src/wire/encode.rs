//! From messages to bytes. No length is ever cut to fit its field: real programs do that, and
//! with a name of 256 bytes their peers dial another host.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use thiserror::Error;

use super::message::{
    Ack, Auth, AuthResponse, Connect, ConnectRequest, ConnectResponse, Connector, ConnectorOperation,
    ConnectorResponse, Disconnect, Finish, Hello, Message, Window,
};
use super::{MAX_MESSAGE, MAX_STR8, VERSION, Version, data, kind};
use crate::secret::Token;

/// Why a message can't be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum EncodeError {
    /// An address does not fit the one byte of its length.
    #[error("an address has at most 255 bytes, this one has {len}")]
    AddressTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The message would be over [`MAX_MESSAGE`].
    #[error("a message has at most {MAX_MESSAGE} bytes, this one would have {len} or more")]
    TooLarge {
        /// The length of the message, or of the one body that is too large by itself, in bytes.
        len: usize,
    },
}

/// First memory for a message without payload; the few that are longer grow it.
const SMALL: usize = 64;

impl Message {
    /// The type byte.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Auth(_) => kind::AUTH,
            Self::AuthResponse(_) => kind::AUTH_RESPONSE,
            Self::Connect(_) => kind::CONNECT,
            Self::Data(_) => kind::DATA,
            Self::ConnectResponse(_) => kind::CONNECT_RESPONSE,
            Self::Disconnect(_) => kind::DISCONNECT,
            Self::Connector(_) => kind::CONNECTOR,
            Self::ConnectorResponse(_) => kind::CONNECTOR_RESPONSE,
            Self::Log(_) => kind::LOG,
            Self::Partners(_) => kind::PARTNERS,
            Self::Direct(direct) => direct.kind as u8,
            Self::Hello(_) => kind::HELLO,
            Self::Window(_) => kind::WINDOW,
            Self::Finish(_) => kind::FINISH,
            Self::Ack(_) => kind::ACK,
            Self::Unknown(kind) => *kind,
        }
    }

    /// The whole message, with the [`VERSION`] that we send.
    ///
    /// An error text over 255 bytes is cut before a character. [`Message::Unknown`] has no body.
    ///
    /// # Errors
    /// [`EncodeError::AddressTooLong`] if an address is over 255 bytes, [`EncodeError::TooLarge`] if the
    /// message would be over [`MAX_MESSAGE`].
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        self.encode_as(VERSION)
    }

    /// [`Self::encode`] with the version byte of another program.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_as(&self, version: Version) -> Result<Bytes, EncodeError> {
        let capacity = if let Self::Data(data) = self { data.max_len() } else { SMALL };
        let mut out = begin(version, self.kind(), capacity);
        match self {
            Self::Connect(connect) => connect.put(&mut out)?,
            Self::Data(data) => data.put(&mut out)?,
            Self::Log(log) => put_json(&mut out, log)?,
            Self::Partners(partners) => put_json(&mut out, partners)?,
            Self::Direct(direct) => put_bytes32(&mut out, &direct.json)?,
            Self::Auth(auth) => auth.put(&mut out),
            Self::AuthResponse(response) => response.put(&mut out),
            Self::ConnectResponse(response) => response.put(&mut out),
            Self::Disconnect(disconnect) => disconnect.put(&mut out),
            Self::Connector(connector) => connector.put(&mut out),
            Self::ConnectorResponse(response) => response.put(&mut out),
            Self::Hello(hello) => hello.put(&mut out),
            Self::Window(window) => window.put(&mut out),
            Self::Finish(finish) => finish.put(&mut out),
            Self::Ack(ack) => ack.put(&mut out),
            Self::Unknown(_) => {}
        }
        if out.len() > MAX_MESSAGE {
            return Err(EncodeError::TooLarge { len: out.len() });
        }
        Ok(out.freeze())
    }
}

/// Messages whose every value can be sent.
macro_rules! encode_infallibly {
    ($($body:ident: $kind:ident,)*) => {$(
        impl $body {
            /// The whole message, with the [`VERSION`] that we send. Every value can be sent.
            #[must_use]
            pub fn encode(&self) -> Bytes {
                let mut out = begin(VERSION, kind::$kind, SMALL);
                self.put(&mut out);
                out.freeze()
            }
        }
    )*};
}

encode_infallibly! {
    Auth: AUTH,
    AuthResponse: AUTH_RESPONSE,
    ConnectResponse: CONNECT_RESPONSE,
    Disconnect: DISCONNECT,
    Connector: CONNECTOR,
    ConnectorResponse: CONNECTOR_RESPONSE,
    Hello: HELLO,
    Window: WINDOW,
    Finish: FINISH,
    Ack: ACK,
}

impl Auth {
    fn put(&self, out: &mut BytesMut) {
        put_token(out, &self.token);
        out.put_u8(self.reverse.into());
        out.put_slice(self.instance.0.as_bytes());
    }
}

impl AuthResponse {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Success { assigned } => {
                out.put_u8(1);
                put_assigned(out, assigned.as_ref());
            }
            Self::Failure { error } => {
                out.put_u8(0);
                put_error(out, error);
            }
        }
    }
}

impl Connect {
    fn put(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u8(match self.request {
            ConnectRequest::Tcp { .. } => data::TCP,
            ConnectRequest::Udp => data::UDP,
            ConnectRequest::Unknown(protocol) => protocol,
        });
        out.put_slice(&self.channel.0);
        if let ConnectRequest::Tcp { address, port } = &self.request {
            put_address(out, address)?;
            out.put_u16(*port);
        }
        if self.resume {
            out.put_u8(1);
        }
        Ok(())
    }
}

impl ConnectResponse {
    /// A failure always carries the length of its text: without it real clients drop the link.
    fn put(&self, out: &mut BytesMut) {
        out.put_u8(self.result.is_ok().into());
        out.put_slice(&self.channel.0);
        if let Err(error) = &self.result {
            put_error(out, error);
        }
    }
}

impl Disconnect {
    fn put(&self, out: &mut BytesMut) {
        out.put_slice(&self.channel.0);
        if let Some(error) = &self.error {
            put_error(out, error);
        }
    }
}

impl Connector {
    fn put(&self, out: &mut BytesMut) {
        out.put_slice(&self.request.0);
        put_token(out, &self.token);
        out.put_u8(match self.operation {
            ConnectorOperation::Add => 1,
            ConnectorOperation::Remove => 2,
        });
    }
}

impl ConnectorResponse {
    fn put(&self, out: &mut BytesMut) {
        out.put_slice(&self.request.0);
        out.put_u8(self.result.is_ok().into());
        match &self.result {
            Ok(token) => put_assigned(out, token.as_ref()),
            Err(error) => put_error(out, error),
        }
    }
}

fn begin(version: Version, kind: u8, capacity: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(capacity);
    out.put_u8(version.0);
    out.put_u8(kind);
    out
}

/// An address: a str8.
pub(super) fn put_address(out: &mut BytesMut, address: &str) -> Result<(), EncodeError> {
    let len = u8::try_from(address.len()).map_err(|_| EncodeError::AddressTooLong { len: address.len() })?;
    out.put_u8(len);
    out.put_slice(address.as_bytes());
    Ok(())
}

fn put_token(out: &mut BytesMut, token: &Token) {
    let text = token.expose().as_bytes();
    out.put_u8(u8::try_from(text.len()).expect("a token has at most 255 bytes"));
    out.put_slice(text);
}

fn put_assigned(out: &mut BytesMut, token: Option<&Token>) {
    if let Some(token) = token {
        put_token(out, token);
    }
}

/// A text for people: a str8, cut if need be.
fn put_error(out: &mut BytesMut, text: &str) {
    let text = cut_text(text, MAX_STR8);
    out.put_u8(u8::try_from(text.len()).expect("cut to 255 bytes"));
    out.put_slice(text.as_bytes());
}

/// The longest beginning of `text` that has at most `max` bytes and ends at a character.
pub(crate) fn cut_text(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn put_json(out: &mut BytesMut, value: &impl Serialize) -> Result<(), EncodeError> {
    let text = serde_json::to_vec(value).expect("texts and numbers have a JSON form");
    put_bytes32(out, &text)
}

fn put_bytes32(out: &mut BytesMut, bytes: &[u8]) -> Result<(), EncodeError> {
    out.put_u32(length32(bytes)?);
    out.put_slice(bytes);
    Ok(())
}

/// The length field of bytes that may still fit a message; checked before they are copied.
pub(super) fn length32(bytes: &[u8]) -> Result<u32, EncodeError> {
    let len = bytes.len();
    if len > MAX_MESSAGE {
        return Err(EncodeError::TooLarge { len });
    }
    Ok(u32::try_from(len).expect("the longest message is far below 4 GiB"))
}
