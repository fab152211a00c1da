//! WebSocket frames, as much of them as a driver's behaviour depends on.
//!
//! On the simulated wire a frame is one byte of kind, four of length, and its content; the upgrade
//! request and its answer are frames, too. HTTP, masks and fragments are the business of a real
//! driver's library and change nothing for an engine.

use bytes::{BufMut, Bytes, BytesMut};
use linksocks_sansio::io::{CloseFrame, FrameViolation};

use crate::sim::net::Rope;

const HEADER: usize = 5;

/// What travels between two link pumps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The upgrade request of a client.
    Request {
        path_and_query: String,
        extensions: Option<String>,
    },
    /// The server's answer.
    Response {
        status: u16,
        extensions: Option<String>,
    },
    /// The server's answer: ask elsewhere.
    Redirect {
        location: String,
    },
    Binary(Bytes),
    /// Something that breaks the rules of the WebSocket layer.
    Invalid(FrameViolation),
    Ping,
    Pong,
    Close(Option<CloseFrame>),
}

impl Frame {
    /// Head and content, to be written one after the other.
    pub(crate) fn encode(self) -> [Bytes; 2] {
        let (kind, content) = match self {
            Self::Request { path_and_query, extensions } => (b'Q', lines(path_and_query, extensions)),
            Self::Response { status, extensions } => (b'R', lines(status.to_string(), extensions)),
            Self::Redirect { location } => (b'L', location.into()),
            Self::Binary(message) => (b'B', message),
            Self::Invalid(violation) => (b'X', Bytes::from(vec![violation as u8])),
            Self::Ping => (b'I', Bytes::new()),
            Self::Pong => (b'O', Bytes::new()),
            Self::Close(None) => (b'C', Bytes::new()),
            Self::Close(Some(CloseFrame { code, reason })) => {
                let mut content = BytesMut::from(&code.to_be_bytes()[..]);
                content.extend_from_slice(reason.as_bytes());
                (b'C', content.freeze())
            }
        };
        let mut head = BytesMut::with_capacity(HEADER);
        head.put_u8(kind);
        head.put_u32(content.len() as u32);
        [head.freeze(), content]
    }

    /// Takes the first frame, if it is complete.
    ///
    /// # Panics
    /// If the bytes are no frames: both ends are simulated.
    pub(crate) fn decode(received: &mut Rope) -> Option<Self> {
        let [kind, length @ ..] = received.peek::<HEADER>()?;
        let length = u32::from_be_bytes(length) as usize;
        if received.len() < HEADER + length {
            return None;
        }
        received.take(HEADER)?;
        let content = received.take(length)?;
        Some(match kind {
            b'Q' => {
                let (path_and_query, extensions) = read_lines(&content);
                Self::Request { path_and_query, extensions }
            }
            b'R' => {
                let (status, extensions) = read_lines(&content);
                Self::Response { status: status.parse().expect("a status is a number"), extensions }
            }
            b'L' => Self::Redirect { location: String::from_utf8_lossy(&content).into_owned() },
            b'B' => Self::Binary(content),
            b'X' => Self::Invalid(match content.first() {
                Some(0) => FrameViolation::TooLarge,
                Some(1) => FrameViolation::Text,
                _ => FrameViolation::Framing,
            }),
            b'I' => Self::Ping,
            b'O' => Self::Pong,
            b'C' => Self::Close(content.split_first_chunk().map(|(code, reason)| CloseFrame {
                code: u16::from_be_bytes(*code),
                reason: String::from_utf8_lossy(reason).into_owned(),
            })),
            _ => panic!("a frame of kind {kind}"),
        })
    }
}

fn lines(mut first: String, second: Option<String>) -> Bytes {
    if let Some(second) = second {
        first.push('\n');
        first.push_str(&second);
    }
    first.into()
}

fn read_lines(content: &[u8]) -> (String, Option<String>) {
    let text = String::from_utf8_lossy(content);
    match text.split_once('\n') {
        Some((first, second)) => (first.to_owned(), Some(second.to_owned())),
        None => (text.into_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use linksocks_sansio::io::{CloseFrame, FrameViolation};

    use super::Frame;
    use crate::sim::net::Rope;

    #[test]
    fn frames_come_out_whole_however_their_bytes_arrive() {
        let frames = [
            Frame::Request {
                path_and_query: "/socket?a=b".to_owned(),
                extensions: Some("window".to_owned()),
            },
            Frame::Response { status: 101, extensions: None },
            Frame::Redirect { location: "/elsewhere".to_owned() },
            Frame::Binary(Bytes::from_static(b"message")),
            Frame::Invalid(FrameViolation::TooLarge),
            Frame::Invalid(FrameViolation::Text),
            Frame::Invalid(FrameViolation::Framing),
            Frame::Ping,
            Frame::Pong,
            Frame::Close(None),
            Frame::Close(Some(CloseFrame { code: 1000, reason: "bye".to_owned() })),
        ];
        let bytes: Vec<u8> = frames.iter().cloned().flat_map(Frame::encode).flatten().collect();
        let mut received = Rope::default();
        let mut decoded = Vec::new();
        for byte in bytes {
            received.push(Bytes::from(vec![byte]));
            decoded.extend(Frame::decode(&mut received));
        }
        assert_eq!(decoded, frames);
    }
}
