//! An upstream proxy: where it is, and asking it for a connection.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use thiserror::Error;
use url::{Host as UrlHost, Url};

use crate::error::{ConfigError, SocketError};
use crate::http::{ConnectError, ConnectHandshake, ConnectStatus};
use crate::secret::Credentials;
use crate::socks5::{ClientError, ClientHandshake, ClientStatus, Host, TargetAddr, TargetError};

/// A proxy through which TCP connections are made.
///
/// Its text form, both ways, is a URL: `socks5://[user:password@]host[:1080]`, or
/// `http://[user:password@]host[:8080]` for a proxy that knows CONNECT. `socks5h` means the same as
/// `socks5`, names are always left to the proxy; `https` means the same as `http`, as in the Go
/// program: the proxy itself is spoken to without TLS. User name and password are percent-encoded;
/// what is displayed leaves them out.
///
/// ```
/// use linksocks_sansio::UpstreamProxy;
/// let proxy: UpstreamProxy = "socks5://me:s%40crt@proxy.example".parse()?;
/// assert_eq!(proxy.to_string(), "socks5://proxy.example:1080");
/// # Ok::<(), linksocks_sansio::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamProxy {
    protocol: Protocol,
    address: TargetAddr,
    credentials: Option<Credentials>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Socks5,
    Http,
}

impl UpstreamProxy {
    /// Where the proxy is.
    pub(crate) fn address(&self) -> &TargetAddr {
        &self.address
    }
}

impl fmt::Display for UpstreamProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            Protocol::Socks5 => "socks5",
            Protocol::Http => "http",
        };
        write!(f, "{scheme}://{}", self.address)
    }
}

impl FromStr for UpstreamProxy {
    type Err = ConfigError;

    /// # Errors
    /// [`ConfigError::Proxy`]; its text does not repeat the URL, which may hold a password.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let malformed = |reason: &str| ConfigError::Proxy(reason.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(|| malformed("the scheme is missing"))?;
        let (protocol, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "socks5" | "socks5h" => (Protocol::Socks5, 1080),
            "http" | "https" => (Protocol::Http, 8080),
            _ => return Err(malformed("the scheme is none of socks5, http, https")),
        };
        // Of a scheme that it knows the parser would drop a port that is the default elsewhere.
        let url = Url::parse(&format!("proxy://{rest}")).map_err(|error| malformed(&error.to_string()))?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(malformed("there is something behind host and port"));
        }
        let host = match url.host() {
            Some(UrlHost::Ipv6(address)) => Host::Ip(address.into()),
            Some(UrlHost::Ipv4(address)) => Host::Ip(address.into()),
            Some(UrlHost::Domain(name)) => {
                name.parse().map_err(|error: TargetError| malformed(&error.to_string()))?
            }
            None => return Err(malformed("the host is missing")),
        };
        let address = TargetAddr { host, port: url.port().unwrap_or(default_port) };
        address.validate().map_err(|error| malformed(&error.to_string()))?;
        Ok(Self { protocol, address, credentials: credentials(&url, protocol)? })
    }
}

fn credentials(url: &Url, protocol: Protocol) -> Result<Option<Credentials>, ConfigError> {
    let malformed = |reason: &str| ConfigError::Proxy(reason.to_owned());
    let decode =
        |text| percent_decode_str(text).decode_utf8().map_err(|_| malformed("the user info is not UTF-8"));
    let (username, password) = (decode(url.username())?, decode(url.password().unwrap_or_default())?);
    if username.is_empty() && password.is_empty() {
        return Ok(None);
    }
    if protocol == Protocol::Http && username.contains(':') {
        return Err(malformed("an HTTP proxy knows no user name with a colon"));
    }
    if username.is_empty() || password.is_empty() {
        return Err(malformed("a login needs both a user name and a password"));
    }
    Credentials::new(username, password).map(Some)
}

/// Asking a proxy for a connection to a target.
#[derive(Debug)]
pub(crate) enum ProxyHandshake {
    Socks5(ClientHandshake),
    Http(ConnectHandshake),
}

/// What came of some bytes of a proxy.
#[derive(Debug)]
pub(crate) struct HandshakeProgress {
    /// To be sent to the proxy now; may be empty.
    pub(crate) send: Bytes,
    /// How many bytes of the input are the proxy's.
    pub(crate) consumed: usize,
    /// `Ok(true)`: the connection leads to the target now.
    pub(crate) connected: Result<bool, UpstreamError>,
}

impl ProxyHandshake {
    /// The handshake for a connection to `target`, and the first bytes to send.
    pub(crate) fn new(proxy: &UpstreamProxy, target: &TargetAddr) -> Result<(Self, Bytes), UpstreamError> {
        match proxy.protocol {
            Protocol::Socks5 => {
                let (handshake, greeting) = ClientHandshake::new(target, proxy.credentials.clone())?;
                Ok((Self::Socks5(handshake), greeting))
            }
            Protocol::Http => {
                target.validate()?;
                let request = ConnectHandshake::request(target, proxy.credentials.as_ref());
                Ok((Self::Http(ConnectHandshake::new()), request))
            }
        }
    }

    /// How many bytes can be read without reading beyond the proxy's last answer.
    pub(crate) fn needed(&self) -> usize {
        match self {
            Self::Socks5(handshake) => handshake.needed(),
            Self::Http(handshake) => handshake.needed(),
        }
    }

    pub(crate) fn handle_bytes(&mut self, input: &[u8]) -> HandshakeProgress {
        match self {
            Self::Socks5(handshake) => {
                let progress = handshake.handle_bytes(input);
                let connected = match progress.status {
                    ClientStatus::NeedMore => Ok(false),
                    ClientStatus::Connected => Ok(true),
                    ClientStatus::Failed(error) => Err(error.into()),
                };
                HandshakeProgress { send: progress.send, consumed: progress.consumed, connected }
            }
            Self::Http(handshake) => {
                let progress = handshake.handle_bytes(input);
                let connected = match progress.status {
                    ConnectStatus::NeedMore => Ok(false),
                    ConnectStatus::Connected => Ok(true),
                    ConnectStatus::Failed(error) => Err(error.into()),
                };
                HandshakeProgress { send: Bytes::new(), consumed: progress.consumed, connected }
            }
        }
    }
}

/// Why a connection through an upstream proxy could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub enum UpstreamError {
    /// There is no connection to the proxy.
    #[error("connect to the proxy {address}: {error}")]
    Unreachable {
        /// `host:port` of the proxy.
        address: String,
        /// The last error of all addresses tried.
        error: SocketError,
    },
    /// The connection to the proxy broke before it had answered.
    #[error("the connection to the proxy was lost: {0}")]
    Lost(SocketError),
    /// The proxy did not answer in time.
    #[error("the proxy did not answer in time")]
    Timeout,
    /// A SOCKS5 proxy does not connect us.
    #[error("{0}")]
    Socks5(#[from] ClientError),
    /// An HTTP proxy does not connect us.
    #[error("{0}")]
    Http(#[from] ConnectError),
    /// The target can't be named to the proxy.
    #[error("{0}")]
    Target(#[from] TargetError),
}

#[cfg(test)]
mod tests {
    use super::UpstreamProxy;

    #[test]
    fn urls_of_proxies() {
        for (url, text, login) in [
            ("socks5://h", "socks5://h:1080", None),
            ("SOCKS5H://h:1", "socks5://h:1", None),
            ("http://h", "http://h:8080", None),
            ("http://h:80/", "http://h:80", None),
            ("https://h:443", "http://h:443", None),
            ("https://127.0.0.1", "http://127.0.0.1:8080", None),
            ("socks5://[::1]", "socks5://[::1]:1080", None),
            ("http://user:word@[::1]:3128", "http://[::1]:3128", Some(("user", "word"))),
            ("socks5://us%40er:w%3Ao%2Frd@h", "socks5://h:1080", Some(("us@er", "w:o/rd"))),
            ("socks5://us%3Aer:word@h", "socks5://h:1080", Some(("us:er", "word"))),
        ] {
            let proxy: UpstreamProxy = url.parse().unwrap();
            assert_eq!(proxy.to_string(), text, "{url}");
            let found = proxy.credentials.as_ref().map(|login| (login.username(), login.password()));
            assert_eq!(found, login, "{url}");
        }
    }

    #[test]
    fn an_unusable_url_is_explained_without_its_password() {
        for (url, part) in [
            ("", "scheme is missing"),
            ("h:1080", "scheme is missing"),
            ("ftp://h", "none of socks5"),
            ("socks5://", "host"),
            ("socks5://:1080", "host"),
            ("socks5://h:0", "port is 0"),
            ("socks5://h:99999", "port"),
            ("socks5://secret@h", "needs both"),
            ("http://secret:@h", "needs both"),
            ("http://:secret@h", "needs both"),
            ("http://a%3Ab:secret@h", "colon"),
            ("socks5://a:secret%ff@h", "UTF-8"),
            ("http://h/secret", "behind host"),
            ("http://h?secret", "behind host"),
        ] {
            let error = url.parse::<UpstreamProxy>().expect_err(url).to_string();
            assert!(error.contains(part) && !error.contains("secret"), "{url}: {error}");
        }
        let proxy: UpstreamProxy = "http://user:secret@h".parse().unwrap();
        assert!(!format!("{proxy:?} {proxy}").contains("secret"));
    }
}
