//! Headers of the user's own in the upgrade request.

use std::fmt;
use std::str::FromStr;

use crate::error::ConfigError;

/// A header of the user's own (RFC 9110 section 5). `Debug` hides the value: it may be secret.
///
/// ```
/// use linksocks_sansio::RequestHeader;
/// let header: RequestHeader = "Authorization: Basic Zm9v".parse()?;
/// assert_eq!((header.name(), header.value()), ("Authorization", "Basic Zm9v"));
/// assert!("Host: example.com".parse::<RequestHeader>().is_err()); // decided by the URL
/// # Ok::<(), linksocks_sansio::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestHeader {
    name: String,
    value: String,
}

impl RequestHeader {
    /// Checks name and value. White space around the value is dropped.
    ///
    /// # Errors
    /// [`ConfigError::Header`] for a name that is no token, a value with anything but visible ASCII
    /// characters, spaces and tabs, and for headers that belong to the connection or the WebSocket.
    pub fn new(name: &str, value: &str) -> Result<Self, ConfigError> {
        let value = value.trim_matches([' ', '\t']);
        let reason = if name.is_empty() || !name.bytes().all(is_token_byte) {
            "the name is no token"
        } else if is_reserved(name) {
            "it belongs to the WebSocket handshake"
        } else if !value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
            "the value may only have visible ASCII characters, spaces and tabs"
        } else {
            return Ok(Self { name: name.to_owned(), value: value.to_owned() });
        };
        Err(ConfigError::Header { name: name.escape_debug().to_string(), reason })
    }

    /// The name as it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value. To be sent, never to be logged.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// Reads `Name: value`.
impl FromStr for RequestHeader {
    type Err = ConfigError;

    fn from_str(line: &str) -> Result<Self, ConfigError> {
        match line.split_once(':') {
            Some((name, value)) => Self::new(name, value),
            // All of it may be secret, so nothing of it is shown.
            None => Err(ConfigError::Header { name: "...".to_owned(), reason: "expected 'Name: value'" }),
        }
    }
}

impl fmt::Debug for RequestHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestHeader({}: ..)", self.name)
    }
}

/// RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Headers whose values are ours to choose, and those that would change where the request ends.
fn is_reserved(name: &str) -> bool {
    const RESERVED: [&str; 10] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "linksocks-extensions",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = name.to_ascii_lowercase();
    name.starts_with("sec-websocket-") || RESERVED.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::RequestHeader;

    fn parse(line: &str) -> Result<(String, String), String> {
        let header: RequestHeader = line.parse().map_err(|error: crate::ConfigError| error.to_string())?;
        Ok((header.name().to_owned(), header.value().to_owned()))
    }

    #[test]
    fn names_and_values_are_taken_as_given() {
        for (line, name, value) in [
            ("X-Zone:eu", "X-Zone", "eu"),
            ("Cookie: a=b; c=d ", "Cookie", "a=b; c=d"),
            ("x:", "x", ""),
            ("Referer: http://h:1/", "Referer", "http://h:1/"),
        ] {
            assert_eq!(parse(line), Ok((name.to_owned(), value.to_owned())), "{line}");
        }
    }

    #[test]
    fn what_would_change_the_request_is_refused() {
        for line in [
            "no colon",
            ": x",
            "a b: c",
            "a : c",
            "ä: c",
            "x: ä",
            "x: a\r\nHost: b",
            "x\n: a",
            "x: \0",
            "x: \x7f",
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
        for name in ["Host", "UPGRADE", "connection", "Sec-WebSocket-Key", "sec-websocket-protocol", "TE"] {
            let error = parse(&format!("{name}: x")).unwrap_err();
            assert!(error.contains(name) && error.contains("WebSocket handshake"), "{error}");
        }
    }

    #[test]
    fn values_are_not_shown() {
        let header: RequestHeader = "Authorization: hunter2".parse().unwrap();
        assert!(!format!("{header:?}").contains("hunter2"));
        assert!(!parse("hunter2").unwrap_err().contains("hunter2"));
    }
}
