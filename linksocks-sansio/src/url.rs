//! The server's URL, normalised as other LinkSocks clients do.

use std::fmt;
use std::net::IpAddr;

use ::url::form_urlencoded::Serializer;
use ::url::{Host as UrlHost, Url};

use crate::error::ConfigError;
use crate::ids::InstanceId;
use crate::secret::Token;
use crate::socks5::{Host, TargetAddr};

/// The path whose links authenticate by URL; on any other path an Auth message is sent.
pub(crate) const LINK_PATH: &str = "/socket";

/// Where the server is and how to log in to it.
///
/// ```
/// use linksocks_sansio::ServerUrl;
/// let url = ServerUrl::parse("ws://localhost:8765")?;
/// assert!(!url.is_secure() && url.authenticates_by_url());
/// assert!(ServerUrl::parse("example.com")?.is_secure()); // no scheme means wss
///
/// // Any other path: the token goes into the first message instead of the URL.
/// let url = ServerUrl::parse("https://example.com/socket/eu?zone=secret")?;
/// assert!(!url.authenticates_by_url());
/// assert_eq!(url.to_string(), "wss://example.com/socket/eu"); // parameters are not shown
/// # Ok::<(), linksocks_sansio::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(LinkUrl);

impl From<LinkUrl> for ServerUrl {
    fn from(url: LinkUrl) -> Self {
        Self(url)
    }
}

impl ServerUrl {
    pub(crate) fn address(&self) -> TargetAddr {
        self.0.address()
    }

    /// Reads a URL: a text without scheme is `wss`, `http(s)` means `ws(s)`, an empty path or `/`
    /// becomes `/socket`, a fragment is dropped.
    ///
    /// # Errors
    /// [`ConfigError::Url`] for anything that isn't such a URL, and for user info.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("wss://{text}") };
        let url = Url::parse(&with_scheme).map_err(|error| ConfigError::Url(error.to_string()))?;
        let mut url = LinkUrl::new(url).map_err(|reason| ConfigError::Url(reason.to_owned()))?;
        if matches!(url.0.path(), "" | "/") {
            url.0.set_path(LINK_PATH);
        }
        Ok(Self(url))
    }

    /// Whether the connection is secured by TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.0.is_secure()
    }

    /// Whether the token goes into the URL (path `/socket`) instead of an Auth message.
    #[must_use]
    pub fn authenticates_by_url(&self) -> bool {
        self.0.0.path() == LINK_PATH
    }

    /// The URL for a client with this token. Parameters come in alphabetical order, as real clients
    /// send them; a `token` of the user's own is overwritten.
    pub(crate) fn login(&self, token: &Token, reverse: bool, instance: InstanceId) -> LinkUrl {
        let mut url = self.0.0.clone();
        if self.authenticates_by_url() {
            let own =
                url.query_pairs().filter(|(name, _)| !matches!(&**name, "instance" | "reverse" | "token"));
            let mut parameters: Vec<_> =
                own.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
            parameters.push(("instance".to_owned(), instance.to_string()));
            parameters.push(("reverse".to_owned(), reverse.to_string()));
            parameters.push(("token".to_owned(), token.digest().to_hex()));
            parameters.sort();
            url.set_query(Some(&Serializer::new(String::new()).extend_pairs(parameters).finish()));
        }
        LinkUrl(url)
    }
}

/// Scheme, host, port and path. Parameters are left out: they may be secret.
impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// As `Display`.
impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUrl({self})")
    }
}

/// A URL that a link can be opened at: `ws` or `wss`, with a host and a port, without user info and
/// fragment.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct LinkUrl(Url);

impl LinkUrl {
    /// Maps `http(s)` to `ws(s)` and drops the fragment; or says what is wrong with the URL.
    fn new(mut url: Url) -> Result<Self, &'static str> {
        let scheme = match url.scheme() {
            "ws" | "http" => "ws",
            "wss" | "https" => "wss",
            _ => return Err("the scheme is none of ws, wss, http, https"),
        };
        url.set_scheme(scheme).map_err(|()| "the scheme is none of ws, wss, http, https")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("user info is not allowed");
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("the host is missing");
        }
        if url.port() == Some(0) {
            return Err("port 0 is not usable");
        }
        url.set_fragment(None);
        if url.query() == Some("") {
            url.set_query(None);
        }
        Ok(Self(url))
    }

    /// Where a `Location` header leads to that came in answer to a request for this URL.
    pub(crate) fn join(&self, location: &str) -> Result<Self, String> {
        if location.is_empty() {
            return Err("it is empty".to_owned());
        }
        let url = self.0.join(location).map_err(|error| error.to_string())?;
        Self::new(url).map_err(str::to_owned)
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.0.scheme() == "wss"
    }

    /// Host and port to connect to.
    pub(crate) fn address(&self) -> TargetAddr {
        let host = match self.0.host().expect("checked by `new`") {
            UrlHost::Domain(name) => Host::Name(name.to_owned()),
            UrlHost::Ipv4(address) => Host::Ip(IpAddr::V4(address)),
            UrlHost::Ipv6(address) => Host::Ip(IpAddr::V6(address)),
        };
        let port = self.0.port_or_known_default().expect("ws and wss have default ports");
        TargetAddr { host, port }
    }

    /// The host: a name, or an IP address without brackets.
    pub(crate) fn host(&self) -> String {
        match self.address().host {
            Host::Name(name) => name,
            Host::Ip(address) => address.to_string(),
        }
    }

    /// The value of the `Host` header: host and, unless it is the default, port.
    pub(crate) fn authority(&self) -> String {
        let host = self.0.host_str().expect("checked by `new`");
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    pub(crate) fn path_and_query(&self) -> String {
        let path = self.0.path();
        self.0.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
    }
}

/// Scheme, host, port and path. Parameters are left out: they may be secret.
impl fmt::Display for LinkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.0.scheme(), self.authority(), self.0.path())
    }
}

/// As `Display`.
impl fmt::Debug for LinkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::ServerUrl;
    use crate::ids::InstanceId;
    use crate::secret::Token;

    fn request(url: &str) -> String {
        let token = Token::new("fwdtoken1").unwrap();
        let url = ServerUrl::parse(url).unwrap();
        url.login(&token, false, InstanceId(uuid::Uuid::nil())).path_and_query()
    }

    #[test]
    fn parameters_go_to_exactly_slash_socket() {
        let query = format!(
            "?instance=00000000-0000-0000-0000-000000000000&reverse=false&token={}",
            Token::new("fwdtoken1").unwrap().digest().to_hex()
        );
        for url in ["ws://h:1", "ws://h:1/", "http://h:1/socket#x", "ws://h:1/socket?token=mine"] {
            assert_eq!(request(url), format!("/socket{query}"), "{url}");
        }
        assert_eq!(request("ws://h:1/socket/"), "/socket/");
        assert_eq!(request("ws://h:1/custom?a=b&token=c"), "/custom?a=b&token=c");
        assert_eq!(request("ws://h:1/custom?"), "/custom");
        assert!(request("ws://h:1/socket?zone=b").ends_with("&zone=b"));
    }

    #[test]
    fn the_text_form_shows_no_parameters() {
        for (url, text) in
            [("ws://h:1?token=x", "ws://h:1/socket"), ("https://[::1]/a?b=c#d", "wss://[::1]/a")]
        {
            let url = ServerUrl::parse(url).unwrap();
            assert_eq!(url.to_string(), text);
            assert_eq!(format!("{url:?}"), format!("ServerUrl({text})"));
        }
    }

    #[test]
    fn schemes_and_ports() {
        for (url, secure, address) in [
            ("host", true, "host:443"),
            ("host:8765", true, "host:8765"),
            ("http://host", false, "host:80"),
            ("https://host/x", true, "host:443"),
            ("ws://[::1]:8765", false, "[::1]:8765"),
        ] {
            let parsed = ServerUrl::parse(url).unwrap();
            assert_eq!(
                (parsed.is_secure(), parsed.0.address().to_string().as_str()),
                (secure, address),
                "{url}"
            );
        }
        for url in ["", "ftp://host", "ws://user@host", "ws://user:word@host", "ws://host:0", "ws://"] {
            assert!(ServerUrl::parse(url).is_err(), "{url}");
        }
    }
    #[test]
    fn a_location_is_resolved_as_in_a_browser() {
        let base = ServerUrl::parse("wss://[::1]:8765/a/b?c=d").unwrap().0;
        for (location, target, host) in [
            ("/x?y#z", "wss://[::1]:8765/x?y", "::1"),
            ("x", "wss://[::1]:8765/a/x", "::1"),
            ("?e", "wss://[::1]:8765/a/b?e", "::1"),
            ("//h/x", "wss://h/x", "h"),
            ("https://h:443", "wss://h/", "h"),
            ("http://127.0.0.1:80/", "ws://127.0.0.1/", "127.0.0.1"),
            ("ws://h:81/", "ws://h:81/", "h"),
        ] {
            let url = base.join(location).unwrap();
            assert_eq!((url.0.as_str(), url.host().as_str()), (target, host), "{location}");
        }
        for location in ["", "ftp://h", "https://", "https://u@h/", "https://h:0/", "https://h:x/", "data:x"]
        {
            assert!(base.join(location).is_err(), "{location}");
        }
    }
}
