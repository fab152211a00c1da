//! A hand-made link: a WebSocket on which a test may send whatever it likes, and the few messages it needs to talk like
//! a client. The bytes are written out here, independently of our codecs.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use conformance::interop::socks;
use libtest_mimic::Failed;
use sha2::{Digest, Sha256};
use tungstenite::{Error, Message, WebSocket};

/// Time for the server to answer or to close.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Message types and the version we send.
pub(crate) const VERSION: u8 = 0x01;
const AUTH: u8 = 0x01;
const AUTH_RESPONSE: u8 = 0x02;
const CONNECT: u8 = 0x03;
pub(crate) const DATA: u8 = 0x04;
const CONNECT_RESPONSE: u8 = 0x05;
const TCP: u8 = 1;

/// A channel id.
pub(crate) type Channel = [u8; 16];

/// One WebSocket to a server.
pub(crate) struct Link {
    socket: WebSocket<TcpStream>,
}

impl Link {
    /// Upgrades at `path_and_query`; says nothing yet.
    pub(crate) fn open(server: SocketAddr, path_and_query: &str) -> Result<Self, Failed> {
        let stream = socks::open(server)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let url = format!("ws://{server}{path_and_query}");
        let (socket, _response) = tungstenite::client(url, stream)?;
        Ok(Self { socket })
    }

    /// Upgrades with the hash of `token` in the query.
    pub(crate) fn open_with_token(server: SocketAddr, token: &str) -> Result<Self, Failed> {
        let hash: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
        Self::open(server, &format!("/socket?reverse=false&token={hash}"))
    }

    /// A link that the server has accepted.
    pub(crate) fn authenticated(server: SocketAddr, token: &str) -> Result<Self, Failed> {
        let mut link = Self::open_with_token(server, token)?;
        let answer = link.receive()?;
        assert_eq!(&answer[1..], [AUTH_RESPONSE, 1], "AuthResponse");
        Ok(link)
    }

    /// The TCP stream below, for bytes that are no WebSocket frame a library would send.
    pub(crate) fn stream(&self) -> &TcpStream {
        self.socket.get_ref()
    }

    /// Sends one binary message.
    pub(crate) fn send(&mut self, message: impl Into<Vec<u8>>) -> Result<(), Failed> {
        Ok(self.socket.send(Message::binary(message.into()))?)
    }

    /// Sends one text message.
    pub(crate) fn send_text(&mut self, text: &str) -> Result<(), Failed> {
        Ok(self.socket.send(Message::text(text))?)
    }

    /// The next binary message; pings are answered and passed over.
    pub(crate) fn receive(&mut self) -> Result<Vec<u8>, Failed> {
        loop {
            match self.socket.read()? {
                Message::Binary(message) => return Ok(message.to_vec()),
                Message::Ping(_) | Message::Pong(_) => {}
                other @ (Message::Text(_) | Message::Close(_) | Message::Frame(_)) => {
                    return Err(format!("expected a binary message, got {other:?}").into());
                }
            }
        }
    }

    /// The code of the close frame with which the server ends the link; other messages are passed over.
    pub(crate) fn close_code(&mut self) -> Result<u16, Failed> {
        loop {
            match self.socket.read() {
                Ok(Message::Close(Some(frame))) => return Ok(frame.code.into()),
                Ok(Message::Close(None)) => return Err("a close frame without a code".into()),
                Ok(_) => {}
                Err(Error::Io(error)) if is_timeout(&error) => {
                    return Err(format!("still open after {ANSWER_TIMEOUT:?}").into());
                }
                Err(error) => return Err(format!("ended without a close frame: {error}").into()),
            }
        }
    }

    /// Opens `channel` to `target`.
    pub(crate) fn connect(&mut self, channel: Channel, target: SocketAddr) -> Result<(), Failed> {
        let host = target.ip().to_string();
        let mut message = vec![VERSION, CONNECT, TCP];
        message.extend(channel);
        message.extend(string(&host));
        message.extend(target.port().to_be_bytes());
        self.send(message)?;
        let answer = self.receive()?;
        assert_eq!(answer[1..], [&[CONNECT_RESPONSE, 1], &channel[..]].concat(), "ConnectResponse");
        Ok(())
    }

    /// Sends `payload` on `channel` to an echo target and gets it back.
    pub(crate) fn ping(&mut self, channel: Channel, payload: &[u8]) -> Result<(), Failed> {
        self.send(data(channel, payload))?;
        let answer = self.receive()?;
        assert_eq!(answer[1..], data(channel, payload)[1..], "echoed Data");
        Ok(())
    }
}

/// An uncompressed TCP Data message.
pub(crate) fn data(channel: Channel, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("payloads of tests are small");
    let mut message = vec![VERSION, DATA, TCP];
    message.extend(channel);
    message.push(0);
    message.extend(length.to_be_bytes());
    message.extend(payload);
    message
}

/// An in-band Auth message of a forward client.
pub(crate) fn auth(token: &str) -> Vec<u8> {
    let mut message = vec![VERSION, AUTH];
    message.extend(string(token));
    message.push(0);
    message.extend([7; 16]);
    message
}

/// Whether `message` is a failing AuthResponse with this text.
pub(crate) fn is_auth_failure(message: &[u8], text: &str) -> bool {
    message[1..] == [&[AUTH_RESPONSE, 0][..], &string(text)].concat()
}

/// One length byte, then the text.
fn string(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("strings of tests are short");
    [&[length], text.as_bytes()].concat()
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
