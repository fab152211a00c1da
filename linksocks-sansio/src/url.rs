//! The server's URL, normalised as other LinkSocks clients do.

use std::fmt;
use std::net::IpAddr;

use ::url::{Host as UrlHost, Url};

use crate::error::ConfigError;
use crate::ids::InstanceId;
use crate::io::LinkRequest;
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
/// # Ok::<(), linksocks_sansio::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    secure: bool,
    address: TargetAddr,
    authority: String,
    path: String,
    /// Parameters of the user's own, kept in the request.
    parameters: Vec<(String, String)>,
}

impl ServerUrl {
    /// Reads a URL: a text without scheme is `wss`, `http(s)` means `ws(s)`, an empty path or `/`
    /// becomes `/socket`, a fragment is dropped.
    ///
    /// # Errors
    /// [`ConfigError::Url`] for anything that isn't such a URL, and for user info.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let malformed = |reason: &str| ConfigError::Url(reason.to_owned());
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("wss://{text}") };
        let url = Url::parse(&with_scheme).map_err(|error| malformed(&error.to_string()))?;
        let secure = match url.scheme() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(malformed("the scheme is none of ws, wss, http, https")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(malformed("user info is not allowed"));
        }
        let host = match url.host().ok_or_else(|| malformed("the host is missing"))? {
            UrlHost::Domain(name) => Host::Name(name.to_owned()),
            UrlHost::Ipv4(address) => Host::Ip(IpAddr::V4(address)),
            UrlHost::Ipv6(address) => Host::Ip(IpAddr::V6(address)),
        };
        let port = url.port_or_known_default().ok_or_else(|| malformed("the port is missing"))?;
        if port == 0 {
            return Err(malformed("port 0 is not usable"));
        }
        let authority = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => return Err(malformed("the host is missing")),
        };
        let path = match url.path() {
            "" | "/" => LINK_PATH.to_owned(),
            path => path.to_owned(),
        };
        let parameters = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned()));
        Ok(Self {
            secure,
            address: TargetAddr { host, port },
            authority,
            path,
            parameters: parameters.collect(),
        })
    }

    /// Whether the connection is secured by TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether the token goes into the URL (path `/socket`) instead of an Auth message.
    #[must_use]
    pub fn authenticates_by_url(&self) -> bool {
        self.path == LINK_PATH
    }

    /// Host and port to connect to.
    pub(crate) fn address(&self) -> &TargetAddr {
        &self.address
    }

    /// The upgrade request for a client with this token. Parameters come in alphabetical order, as
    /// real clients send them; a `token` of the user's own is overwritten.
    pub(crate) fn request(
        &self,
        token: &Token,
        reverse: bool,
        instance: InstanceId,
        extensions: Option<String>,
    ) -> LinkRequest {
        let mut parameters = self.parameters.clone();
        if self.authenticates_by_url() {
            parameters.retain(|(name, _)| !matches!(name.as_str(), "instance" | "reverse" | "token"));
            parameters.push(("instance".to_owned(), instance.to_string()));
            parameters.push(("reverse".to_owned(), reverse.to_string()));
            parameters.push(("token".to_owned(), token.digest().to_hex()));
            parameters.sort();
        }
        let mut path_and_query = self.path.clone();
        if !parameters.is_empty() {
            let query =
                ::url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
            path_and_query.push('?');
            path_and_query.push_str(&query);
        }
        LinkRequest { secure: self.secure, authority: self.authority.clone(), path_and_query, extensions }
    }
}

/// Scheme, host, port and path. Parameters are left out: they may be secret.
impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
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
        url.request(&token, false, InstanceId(uuid::Uuid::nil()), None).path_and_query
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
        assert_eq!(request("ws://h:1/custom?a=b"), "/custom?a=b");
        assert!(request("ws://h:1/socket?zone=b").ends_with("&zone=b"));
    }

    #[test]
    fn the_text_form_shows_no_parameters() {
        for (url, text) in
            [("ws://h:1?token=x", "ws://h:1/socket"), ("https://[::1]/a?b=c#d", "wss://[::1]/a")]
        {
            assert_eq!(ServerUrl::parse(url).unwrap().to_string(), text);
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
                (parsed.is_secure(), parsed.address().to_string().as_str()),
                (secure, address),
                "{url}"
            );
        }
        for url in ["", "ftp://host", "ws://user@host", "ws://user:word@host", "ws://host:0", "ws://"] {
            assert!(ServerUrl::parse(url).is_err(), "{url}");
        }
    }
}
