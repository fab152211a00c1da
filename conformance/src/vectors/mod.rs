//! Golden vectors: what real programs sent, and what they did with malformed messages.
//!
//! The files are in `conformance/vectors`. A key that these types don't know is an error, so that
//! nothing in a vector goes unchecked.

use std::collections::BTreeMap;

use bytes::Bytes;
use linksocks_sansio::wire::Version;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A message as a real program sent it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Captured {
    /// Unique name.
    pub id: String,
    /// Who sent it: `linksocks` or `pywssocks`.
    pub program: String,
    /// The version of that program.
    pub program_version: String,
    /// The sender's role: `client`, `provider`, `connector` or `server`.
    pub sender: String,
    /// Which way it went.
    pub direction: Direction,
    /// The type byte.
    #[serde(rename = "type", deserialize_with = "byte")]
    pub kind: u8,
    /// The name of the type, as in `connect_response`.
    pub name: String,
    /// The version byte.
    #[serde(rename = "protocol_byte", deserialize_with = "version")]
    pub version: Version,
    /// The length of `bytes`.
    pub len: usize,
    /// The whole message.
    #[serde(rename = "hex", deserialize_with = "hex_bytes")]
    pub bytes: Bytes,
    /// What it means.
    pub fields: Fields,
    /// When it was sent.
    pub scenario: String,
}

/// A well-formed message written by hand.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Synthetic {
    /// The whole message.
    #[serde(rename = "hex", deserialize_with = "hex_bytes")]
    pub bytes: Bytes,
    /// The name of the type.
    pub name: String,
    /// What it means.
    pub decoded: Decoded,
    /// What is special about it.
    pub note: String,
}

/// A message that breaks a rule, or nearly does.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Malformed {
    /// The whole message.
    #[serde(rename = "hex", deserialize_with = "hex_bytes")]
    pub bytes: Bytes,
    /// What is wrong with it. Unique.
    pub description: String,
    /// At what point of a session it was sent.
    pub sent: String,
    /// What the real programs did, by program.
    pub observed: BTreeMap<String, String>,
}

/// One HTTP request through the SOCKS port of a real program, which the target closes first.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    /// Both ends: `linksocks` or `pywssocks`.
    pub program: String,
    /// The version of that program.
    pub program_version: String,
    /// `forward`, `reverse`, `agent` or `autonomy`.
    pub mode: String,
    /// What the SOCKS client got in answer to its request.
    #[serde(rename = "socks5_reply_hex", deserialize_with = "hex_bytes")]
    pub socks5_reply: Bytes,
    /// Bytes of the HTTP response; `None` if there was none in time.
    pub bytes_returned_to_socks_client: Option<usize>,
    /// `None` if there was no EOF within 20 s.
    pub seconds_until_socks_client_saw_eof: Option<f64>,
    /// In order.
    pub events: Vec<Event>,
}

/// One step of a [`Transcript`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Event {
    /// Position in the transcript.
    pub n: usize,
    /// Milliseconds since the first TCP connection was opened.
    pub t_ms: f64,
    /// On which link, as in `provider-server`.
    pub link: String,
    /// Which way it went.
    #[serde(rename = "dir")]
    pub direction: Direction,
    /// What happened.
    #[serde(flatten)]
    pub step: Step,
}

/// What happened in an [`Event`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Step {
    /// The state of the TCP connection changed.
    Tcp {
        /// As in `tcp open`.
        event: String,
    },
    /// The head of an HTTP request or response.
    Http {
        /// Its text.
        http: String,
    },
    /// A WebSocket frame.
    Frame {
        /// Which.
        frame: FrameKind,
        /// Its payload.
        #[serde(rename = "hex", deserialize_with = "hex_bytes")]
        bytes: Bytes,
        /// What the payload of a binary frame means.
        decoded: Option<Box<Decoded>>,
    },
}

/// The kind of a WebSocket frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FrameKind {
    /// A LinkSocks message.
    Binary,
    /// Are you there?
    Ping,
    /// I am.
    Pong,
}

/// Which way something went on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Direction {
    /// From the WebSocket client to the server.
    #[serde(rename = "client->server", alias = "c->s")]
    ToServer,
    /// From the WebSocket server to the client.
    #[serde(rename = "server->client", alias = "s->c")]
    ToClient,
    /// Neither: an event of the connection itself.
    #[serde(rename = "-")]
    Neither,
}

/// The meaning of a whole message.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct Decoded {
    /// The version byte.
    pub version: Version,
    /// The type byte.
    pub kind: u8,
    /// The name of the type.
    pub name: String,
    /// The body.
    pub fields: Fields,
}

impl TryFrom<Map<String, Value>> for Decoded {
    type Error = serde_json::Error;

    /// By hand, because serde would let unknown keys pass in flattened fields.
    fn try_from(mut map: Map<String, Value>) -> Result<Self, Self::Error> {
        let mut take = |key| map.remove(key).unwrap_or_default();
        let (first, second, name) = (take("version"), take("type"), take("name"));
        Ok(Self {
            version: version(first)?,
            kind: byte(second)?,
            name: serde_json::from_value(name)?,
            fields: serde_json::from_value(Value::Object(map))?,
        })
    }
}

/// The meaning of the body of a message; what it doesn't have is `None`.
#[derive(Clone, Debug, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fields {
    /// Auth, AuthResponse: the token.
    pub token: Option<String>,
    /// Auth: 0 or 1.
    pub reverse: Option<u8>,
    /// Auth: the UUID of the client.
    pub instance: Option<String>,
    /// Responses: 0 or 1.
    pub success: Option<u8>,
    /// Responses, Disconnect: the reason.
    pub error: Option<String>,
    /// Connect, Data: `tcp` or `udp`.
    pub protocol: Option<String>,
    /// The UUID of the channel or request.
    pub channel_id: Option<String>,
    /// Connect: the target. Data of a datagram: the first address block.
    pub address: Option<String>,
    /// The port that goes with `address`.
    pub port: Option<u16>,
    /// Connect: the tail byte.
    pub resume: Option<u8>,
    /// Data of a datagram: the second address block.
    pub target_addr: Option<String>,
    /// The port that goes with `target_addr`.
    pub target_port: Option<u16>,
    /// Data: 0 or 1.
    pub compression: Option<u8>,
    /// Data: the length of the payload on the wire.
    pub data_len: Option<usize>,
    /// Data: the payload, inflated; not stated for long ones.
    pub data_hex: Option<String>,
    /// Data with gzip: the length of the inflated payload.
    pub uncompressed_len: Option<usize>,
    /// Data with gzip: its SHA-256.
    pub uncompressed_sha256: Option<String>,
    /// Data with gzip: its first 16 bytes.
    pub uncompressed_head_hex: Option<String>,
    /// Data with gzip: whether all its bytes are equal.
    pub uncompressed_is_one_repeated_byte: Option<bool>,
    /// Data: the tail number.
    pub sequence: Option<u64>,
    /// Connector, ConnectorResponse: the connector token.
    pub connector_token: Option<String>,
    /// Connector: `add` or `remove`.
    pub operation: Option<String>,
    /// JSON messages: the value.
    pub json: Option<Value>,
    /// JSON messages: its exact text.
    pub json_text: Option<String>,
}

#[derive(Deserialize)]
struct Frames {
    frames: Vec<Captured>,
    synthetic: Vec<Synthetic>,
    malformed: Vec<Malformed>,
}

#[derive(Deserialize)]
struct Transcripts {
    transcripts: Vec<Transcript>,
}

/// Messages of real programs.
#[must_use]
pub fn frames() -> Vec<Captured> {
    load_frames().frames
}

/// Well-formed messages that no known program sends, or not in this form.
#[must_use]
pub fn synthetic() -> Vec<Synthetic> {
    load_frames().synthetic
}

/// Malformed messages and what real programs do with them.
#[must_use]
pub fn malformed() -> Vec<Malformed> {
    load_frames().malformed
}

/// Whole sessions between real programs.
#[must_use]
pub fn transcripts() -> Vec<Transcript> {
    let text = include_str!("../../vectors/transcripts.json");
    serde_json::from_str::<Transcripts>(text)
        .expect("transcripts.json has the form of these types")
        .transcripts
}

fn load_frames() -> Frames {
    let text = include_str!("../../vectors/frames.json");
    serde_json::from_str(text).expect("frames.json has the form of these types")
}

fn hex_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    hex::serde::deserialize::<_, Vec<u8>>(deserializer).map(Bytes::from)
}

/// Text as in `0x0a`.
fn byte<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.strip_prefix("0x").unwrap_or(&text);
    u8::from_str_radix(digits, 16).map_err(D::Error::custom)
}

fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
    byte(deserializer).map(Version)
}
