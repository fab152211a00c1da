//! The messages of the protocol as values. Those of extensions: `docs/extensions.md`.

use std::fmt;

use bytes::Bytes;

use super::kind;
use crate::ids::{ChannelId, InstanceId};
use crate::secret::Token;

/// One message. Every WebSocket binary message carries exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// 0x01: a client introduces itself in-band.
    Auth(Auth),
    /// 0x02: the server's verdict.
    AuthResponse(AuthResponse),
    /// 0x03: open a channel.
    Connect(Connect),
    /// 0x04: stream bytes or one datagram.
    Data(Data),
    /// 0x05: the dial side's verdict.
    ConnectResponse(ConnectResponse),
    /// 0x06: a channel ends.
    Disconnect(Disconnect),
    /// 0x07: a provider manages connector tokens.
    Connector(Connector),
    /// 0x08: the server's verdict on 0x07.
    ConnectorResponse(ConnectorResponse),
    /// 0x09: a line for the other side's log.
    Log(Log),
    /// 0x0A: how many partners are connected.
    Partners(Partners),
    /// 0x0B to 0x11: direct mode, which we stay out of.
    Direct(Direct),
    /// 0xE0: first message of each side on a link with extensions.
    Hello(Hello),
    /// 0xE1: more credit for a channel.
    Window(Window),
    /// 0xE2: the sender's direction of a channel has ended.
    Finish(Finish),
    /// 0xE3: messages received so far.
    Ack(Ack),
    /// Any other type; ignored.
    Unknown(u8),
}

/// Body of 0x01: a client's first message, if its token is not in the URL. Answered by [`AuthResponse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The token in plain text.
    pub token: Token,
    /// Whether the client dials (reverse) instead of offering SOCKS.
    pub reverse: bool,
    /// The client process.
    pub instance: InstanceId,
}

/// Body of 0x02: the server's first message on every link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthResponse {
    /// Welcome. The token, if any, replaces the client's for later logins.
    Success {
        /// A token that the server assigned; never empty.
        assigned: Option<Token>,
    },
    /// Go away. The text may be empty.
    Failure {
        /// Why.
        error: String,
    },
}

/// The kind of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// 1: a byte stream.
    Tcp,
    /// 2: an association.
    Udp,
}

/// Body of 0x03, from the SOCKS side. Answered by [`ConnectResponse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The new channel, id chosen by the sender.
    pub channel: ChannelId,
    /// What to open.
    pub request: ConnectRequest,
    /// Tail of the 0x02 era: rebind an existing channel. Never sent.
    pub resume: bool,
}

/// What a Connect asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectRequest {
    /// A TCP connection. The address is an IP or a name, without brackets; it may be empty and
    /// the port may be 0 (both to be answered with a failure).
    Tcp {
        /// IP address or name as text.
        address: String,
        /// Port.
        port: u16,
    },
    /// A UDP association.
    Udp,
    /// A protocol number that nobody knows (to be answered with a failure).
    Unknown(u8),
}

/// Compression of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// 0 (and, on input, any unknown number): as it is.
    None,
    /// 1: gzip.
    Gzip,
}

/// Body of 0x04, from either side.
///
/// ```
/// use linksocks_sansio::ChannelId;
/// use linksocks_sansio::wire::{Compression, Data, Endpoint, Endpoints, Message, decode};
///
/// // A datagram, on its way to the dial side.
/// let data = Message::Data(Data {
///     channel: ChannelId([7; 16]),
///     compression: Compression::None,
///     payload: "query".into(),
///     datagram: Some(Endpoints::Two {
///         source: Endpoint::default(),
///         target: Endpoint { address: "192.0.2.53".into(), port: 53 },
///     }),
///     sequence: None,
/// });
/// let bytes = data.encode()?;
/// assert_eq!(bytes[20..24], 5_u32.to_be_bytes()); // the payload's length
/// assert_eq!(bytes[24..], b"query\x00\x00\x00\x0a192.0.2.53\x00\x35"[..]);
/// assert_eq!(decode(bytes)?.message, data);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Data {
    /// The channel.
    pub channel: ChannelId,
    /// How `payload` is compressed.
    pub compression: Compression,
    /// The bytes as on the wire.
    pub payload: Bytes,
    /// `None`: stream bytes. `Some`: one datagram.
    pub datagram: Option<Endpoints>,
    /// Tail of the 0x02 era (direct mode). Never sent, and not possible behind
    /// [`Endpoints::One`].
    pub sequence: Option<u64>,
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Data")
            .field("channel", &self.channel)
            .field("compression", &self.compression)
            .field("payload", &format_args!("{} bytes", self.payload.len()))
            .finish_non_exhaustive()
    }
}

/// The address tail of a UDP Data message. Real programs send two blocks, of which one is unused
/// (empty address, port 0); the published page knows one. Both are accepted, two are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// `source` then `target`.
    Two {
        /// Where the datagram came from (dial side to SOCKS side), else unused.
        source: Endpoint,
        /// Where it shall go (SOCKS side to dial side), else unused.
        target: Endpoint,
    },
    /// A single block: the target towards the dial side, the source otherwise. Accepted, and
    /// encoded for tests of that; never sent by the engine (real peers drop the link on it).
    One(Endpoint),
}

/// One address block of a UDP Data message.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Endpoint {
    /// IP address or name as text; empty = unused.
    pub address: String,
    /// Port; 0 = unused.
    pub port: u16,
}

/// Body of 0x05: the dial side's answer to [`Connect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    /// The channel.
    pub channel: ChannelId,
    /// Connected, or why not (the text may be empty).
    pub result: Result<(), String>,
}

/// Body of 0x06, from either side; not answered. With [`Finish`] it is always an abort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// The channel.
    pub channel: ChannelId,
    /// `None`, empty or `EOF`: a regular end.
    pub error: Option<String>,
}

/// Body of 0x07: a provider adds or removes a connector token. Answered by [`ConnectorResponse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connector {
    /// A fresh id of this request, echoed in the answer.
    pub request: ChannelId,
    /// The connector token; empty with `Add` lets the server choose.
    pub token: Token,
    /// What to do with it.
    pub operation: ConnectorOperation,
}

/// Operation of a Connector message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectorOperation {
    /// 1.
    Add,
    /// 2.
    Remove,
}

/// Body of 0x08: the server's answer to [`Connector`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectorResponse {
    /// The id of the request.
    pub request: ChannelId,
    /// The token in force (add; never empty), nothing (remove), or why not.
    pub result: Result<Option<Token>, String>,
}

/// Body of 0x09, as JSON, from either side.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Log {
    /// trace, debug, info, warn or error; anything else counts as debug.
    #[serde(default)]
    pub level: String,
    /// The line.
    #[serde(default)]
    pub msg: String,
}

/// Body of 0x0A, as JSON: the server tells how many clients there are at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Partners {
    /// How many.
    #[serde(default)]
    pub count: u64,
}

/// A message of direct mode (0x0B to 0x11); its JSON text is kept as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Direct {
    /// Which.
    pub kind: DirectKind,
    /// The JSON text; valid UTF-8 and valid JSON.
    pub json: Bytes,
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Direct({:?}, {} bytes)", self.kind, self.json.len())
    }
}

/// The messages of direct mode; `as u8` gives the type byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DirectKind {
    /// 0x0B.
    Capabilities = kind::DIRECT_CAPABILITIES,
    /// 0x0C.
    Rendezvous = kind::DIRECT_RENDEZVOUS,
    /// 0x0D.
    Status = kind::DIRECT_STATUS,
    /// 0x0E.
    ChannelBind = kind::CHANNEL_BIND,
    /// 0x0F.
    ChannelMigrate = kind::CHANNEL_MIGRATE,
    /// 0x10.
    ChannelMigrateAck = kind::CHANNEL_MIGRATE_ACK,
    /// 0x11.
    ChannelDataAck = kind::CHANNEL_DATA_ACK,
}

impl DirectKind {
    /// The kind of a type byte, if it is one of direct mode.
    #[must_use]
    pub const fn from_byte(kind: u8) -> Option<Self> {
        Some(match kind {
            kind::DIRECT_CAPABILITIES => Self::Capabilities,
            kind::DIRECT_RENDEZVOUS => Self::Rendezvous,
            kind::DIRECT_STATUS => Self::Status,
            kind::CHANNEL_BIND => Self::ChannelBind,
            kind::CHANNEL_MIGRATE => Self::ChannelMigrate,
            kind::CHANNEL_MIGRATE_ACK => Self::ChannelMigrateAck,
            kind::CHANNEL_DATA_ACK => Self::ChannelDataAck,
            _ => return None,
        })
    }
}

/// Body of 0xE0: what the sender grants and accepts. Unknown kinds are skipped.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Hello {
    /// Kind 1: the initial window, in bytes, that the sender grants per channel.
    pub window: Option<u32>,
    /// Kind 2: the sender understands Finish.
    pub finish: bool,
    /// Kind 3: the session to start or to take over.
    pub session: Option<SessionHello>,
}

/// Value of kind 3 of a Hello.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionHello {
    /// The session.
    pub id: [u8; 16],
    /// Proves that the sender owns it.
    pub secret: [u8; 16],
    /// How many messages the sender has received in it.
    pub received: u64,
    /// [`SessionHello::RESUME`], [`SessionHello::ABANDON`] or 0; other bits are ignored.
    pub flags: u8,
}

impl SessionHello {
    /// A client: take up this session on this link. A server's answer: done.
    pub const RESUME: u8 = 1;
    /// A client: this session will not be taken up again.
    pub const ABANDON: u8 = 2;
}

impl fmt::Debug for SessionHello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionHello")
            .field("received", &self.received)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

/// Body of 0xE1: the receiver of [`Data`] grants more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The channel.
    pub channel: ChannelId,
    /// How many more bytes of whole Data messages (headers included) may be sent.
    pub bytes: u32,
}

/// Body of 0xE2: the sender's socket has reached EOF, the other direction goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish {
    /// The channel.
    pub channel: ChannelId,
}

/// Body of 0xE3, from either side of a link with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// How many messages the sender has received in this session.
    pub received: u64,
}
