//! CONNECT (RFC 9110 section 9.3.6) to an upstream proxy.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use super::basic;
use super::head::{HeadBuffer, HeadError, LineEnds, MAX_FIELDS};
use crate::secret::Credentials;
use crate::socks5::TargetAddr;

/// How much of the proxy's own words is repeated.
const MAX_REASON: usize = 80;

/// Asks an HTTP proxy for a tunnel.
///
/// The bytes of the proxy may be split anywhere; a head of at most 64 KiB is buffered.
///
/// ```
/// use linksocks_sansio::http::{ConnectHandshake, ConnectStatus};
///
/// let request = ConnectHandshake::request(&"example.com:443".parse()?, None);
/// assert!(request.starts_with(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n"));
/// let mut handshake = ConnectHandshake::new();
/// let input = b"HTTP/1.1 200 Connection established\r\n\r\nSSH-2.0";
/// let progress = handshake.handle_bytes(input);
/// assert_eq!(progress.status, ConnectStatus::Connected);
/// assert_eq!(input[progress.consumed..], b"SSH-2.0"[..]);
/// # Ok::<(), linksocks_sansio::socks5::TargetError>(())
/// ```
#[derive(Debug)]
pub struct ConnectHandshake {
    head: HeadBuffer,
}

impl Default for ConnectHandshake {
    fn default() -> Self {
        Self::new()
    }
}

impl ConnectHandshake {
    /// The handshake of a client that has sent [`Self::request`].
    #[must_use]
    pub fn new() -> Self {
        Self { head: HeadBuffer::new(LineEnds::Lenient) }
    }

    /// The request for a tunnel to `target`. A name is left for the proxy to resolve.
    #[must_use]
    pub fn request(target: &TargetAddr, credentials: Option<&Credentials>) -> Bytes {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(credentials) = credentials {
            request.push_str("Proxy-Authorization: ");
            request.push_str(&basic::encode(credentials));
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        request.into()
    }

    /// How many bytes the proxy has to send at least until its answer is complete. Whoever reads no
    /// more at a time never reads beyond the answer.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.head.needed()
    }

    /// Takes the next bytes of the proxy. Any final status of 2xx is a success, whatever the header
    /// fields say of a body (RFC 9110 section 9.3.6); provisional answers are skipped.
    #[must_use]
    pub fn handle_bytes(&mut self, input: &[u8]) -> ConnectProgress {
        let mut consumed = 0;
        let status = loop {
            match self.head.push(&input[consumed..]) {
                Err(error) => break ConnectStatus::Failed(error.into()),
                Ok((taken, head)) => {
                    consumed += taken;
                    let Some(head) = head else { break ConnectStatus::NeedMore };
                    match read_status(&head) {
                        Err(error) => break ConnectStatus::Failed(error),
                        Ok((100..=199, _)) => {}
                        Ok((200..=299, _)) => break ConnectStatus::Connected,
                        Ok((407, _)) => break ConnectStatus::Failed(ConnectError::Authentication),
                        Ok((status, reason)) => {
                            break ConnectStatus::Failed(ConnectError::Status { status, reason });
                        }
                    }
                }
            }
        };
        ConnectProgress { consumed, status }
    }
}

/// The status code and its reason phrase, made fit for a log.
fn read_status(head: &[u8]) -> Result<(u16, String), ConnectError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) | Err(_) => return Err(ConnectError::Malformed),
    }
    let reason = response.reason.unwrap_or_default().chars();
    let reason = reason.filter(|c| c.is_ascii_graphic() || *c == ' ').take(MAX_REASON).collect();
    Ok((response.code.ok_or(ConnectError::Malformed)?, reason))
}

/// What came of some bytes of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectProgress {
    /// How many bytes of the input belong to the answer. Behind a successful one the rest comes from
    /// the target, and must not be lost.
    pub consumed: usize,
    /// How the handshake stands.
    pub status: ConnectStatus,
}

/// How a request for a tunnel stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectStatus {
    /// More bytes must come.
    NeedMore,
    /// The connection is a connection to the target from now on.
    Connected,
    /// Close the connection.
    Failed(ConnectError),
}

/// Why an HTTP proxy does not connect us.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub enum ConnectError {
    /// Status 407: there are no credentials, or wrong ones.
    #[error("the HTTP proxy wants a valid user name and password (407)")]
    Authentication,
    /// Any other status that is no success.
    #[error("the HTTP proxy answered {}", StatusLine(*status, reason))]
    Status {
        /// The status code.
        status: u16,
        /// The proxy's words for it; may be empty.
        reason: String,
    },
    /// The answer is not HTTP.
    #[error("the answer of the HTTP proxy is malformed")]
    Malformed,
    /// The head of the answer is longer than 64 KiB.
    #[error("the answer of the HTTP proxy is too long")]
    TooLong,
}

struct StatusLine<'a>(u16, &'a str);

impl fmt::Display for StatusLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(status, reason) = self;
        if reason.is_empty() { write!(f, "{status}") } else { write!(f, "{status} {reason}") }
    }
}

impl From<HeadError> for ConnectError {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::TooLong => Self::TooLong,
            HeadError::LineEnd => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::{ConnectError, ConnectHandshake, ConnectStatus};
    use crate::secret::Credentials;

    fn answer(input: &[u8], cuts: &[u8]) -> (usize, ConnectStatus) {
        let mut handshake = ConnectHandshake::new();
        let (mut position, mut cuts) = (0, cuts.iter());
        loop {
            let length = cuts.next().map_or(1, |cut| usize::from(*cut));
            let end = (position + length).min(input.len());
            let progress = handshake.handle_bytes(&input[position..end]);
            position += progress.consumed;
            if progress.status != ConnectStatus::NeedMore || position == input.len() {
                return (position, progress.status);
            }
        }
    }

    #[test]
    fn the_request_names_the_target_and_carries_the_login() {
        let credentials = Credentials::new("user", "pass").unwrap();
        let request = ConnectHandshake::request(&"[::1]:80".parse().unwrap(), Some(&credentials));
        let expected = "CONNECT [::1]:80 HTTP/1.1\r\nHost: [::1]:80\r\n\
                        Proxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n";
        assert_eq!(request, expected.as_bytes());
    }

    #[test]
    fn any_2xx_is_a_success_and_what_follows_is_not_taken() {
        for head in [
            "HTTP/1.1 200 Connection established\r\n\r\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 1000\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 299\n\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nA: b\r\n\r\n",
        ] {
            let input = format!("{head}\r\n\r\nbehind");
            assert_eq!(answer(input.as_bytes(), &[255]), (head.len(), ConnectStatus::Connected), "{head}");
        }
    }

    #[test]
    fn failures_have_names() {
        for (head, text) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "wants a valid user name and password"),
            ("HTTP/1.1 403 For\tbidden\r\nA: b\r\n\r\n", "answered 403 Forbidden"),
            ("HTTP/1.1 502\r\n\r\n", "answered 502"),
            ("SSH-2.0-OpenSSH\r\n\r\n", "malformed"),
            ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "malformed"),
            ("HTTP/1.1 200 OK\rX", "malformed"),
            (&"x".repeat(70_000), "too long"),
        ] {
            let (_, ConnectStatus::Failed(error)) = answer(head.as_bytes(), &[]) else { panic!("{head}") };
            assert!(error.to_string().contains(text), "{error}");
        }
        let long = format!("HTTP/1.1 500 {}\r\n\r\n", "x".repeat(1000));
        let (_, ConnectStatus::Failed(ConnectError::Status { reason, .. })) = answer(long.as_bytes(), &[])
        else {
            panic!("a failure");
        };
        assert_eq!(reason.len(), 80);
    }

    quickcheck! {
        fn cuts_make_no_difference(noise: Vec<u8>, cuts: Vec<u8>, valid: bool) -> bool {
            let mut input = if valid { b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n".to_vec() } else { b"HTTP/1.1 ".to_vec() };
            input.extend(noise);
            input.extend_from_slice(b"\r\n\r\n");
            let (taken, status) = answer(&input, &cuts);
            let (whole_taken, whole) = answer(&input, &[]);
            status == whole && (status != ConnectStatus::Connected || taken == whole_taken)
        }
    }
}
