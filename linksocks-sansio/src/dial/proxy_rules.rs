//! Which proxy a client takes for its WebSocket.

use std::net::IpAddr;

use ipnet::IpNet;

use super::UpstreamProxy;
use crate::socks5::{Host, TargetAddr};
use crate::url::ServerUrl;

/// How a client connects to its server: [`ClientConfig::proxy`](crate::ClientConfig::proxy).
///
/// ```
/// use linksocks_sansio::{LinkProxy, ProxyBypass, ProxyRules, ServerUrl};
///
/// // What a driver has read from HTTPS_PROXY and NO_PROXY; the engine has no environment.
/// let proxy = LinkProxy::Rules(ProxyRules {
///     http: None,
///     https: Some("http://proxy.example:3128".parse()?),
///     bypass: ProxyBypass::parse("10.0.0.0/8, .internal.example"),
/// });
/// let chosen = proxy.choose(&ServerUrl::parse("wss://server.example")?);
/// assert_eq!(chosen.unwrap().to_string(), "http://proxy.example:3128");
/// assert_eq!(proxy.choose(&ServerUrl::parse("wss://a.internal.example")?), None);
/// assert_eq!(proxy.choose(&ServerUrl::parse("ws://server.example")?), None);
/// # Ok::<(), linksocks_sansio::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LinkProxy {
    /// Without a proxy.
    #[default]
    Direct,
    /// Always through this one.
    Through(UpstreamProxy),
    /// As these rules say.
    Rules(ProxyRules),
}

impl LinkProxy {
    /// The proxy for a server.
    #[must_use]
    pub fn choose(&self, server: &ServerUrl) -> Option<&UpstreamProxy> {
        match self {
            Self::Direct => None,
            Self::Through(proxy) => Some(proxy),
            Self::Rules(rules) => rules.choose(server),
        }
    }
}

/// What the variables `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say, as the Go program reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyRules {
    /// For `ws` URLs.
    pub http: Option<UpstreamProxy>,
    /// For `wss` URLs.
    pub https: Option<UpstreamProxy>,
    /// Servers that are connected to directly.
    pub bypass: ProxyBypass,
}

impl ProxyRules {
    /// The proxy for a server.
    #[must_use]
    pub fn choose(&self, server: &ServerUrl) -> Option<&UpstreamProxy> {
        let proxy = if server.is_secure() { &self.https } else { &self.http };
        proxy.as_ref().filter(|_| !self.bypass.contains(server))
    }
}

/// Servers that are connected to directly, as `NO_PROXY` lists them. `localhost` and loopback
/// addresses always belong to them.
///
/// Entries are separated by commas. Each is `*` for all; a network such as `10.0.0.0/8`; or an IP
/// address, a domain with all below it (`example.com`), or only what is below a domain
/// (`.example.com`, `*.example.com`), all of them with a port behind a colon or without. Names are
/// not looked up; a dot at the end of one, which marks it as complete, changes nothing. Entries that
/// are none of these match nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyBypass {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    All,
    Network(IpNet),
    Address(IpAddr, Option<u16>),
    Domain {
        /// With a dot in front.
        suffix: String,
        /// Whether the domain itself belongs to it.
        whole: bool,
        port: Option<u16>,
    },
}

impl ProxyBypass {
    /// Reads the value of `NO_PROXY`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let entries = text.split(',').map(|entry| entry.trim().to_lowercase());
        Self { entries: entries.filter_map(|entry| Entry::parse(&entry)).collect() }
    }

    /// Whether a server is to be connected to directly.
    #[must_use]
    pub fn contains(&self, server: &ServerUrl) -> bool {
        let TargetAddr { host, port } = server.address();
        match host {
            Host::Ip(ip) => {
                let ip = ip.to_canonical();
                ip.is_loopback() || self.entries.iter().any(|entry| entry.matches_ip(ip, port))
            }
            Host::Name(name) => {
                let name = name.to_lowercase();
                let name = without_root(&name);
                name == "localhost" || self.entries.iter().any(|entry| entry.matches_name(name, port))
            }
        }
    }
}

impl Entry {
    /// Reads an entry in lower case.
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        if let Ok(network) = text.parse() {
            return Some(Self::Network(network));
        }
        let (host, port) = split_port(text)?;
        let unbracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = unbracketed.parse::<IpAddr>() {
            return Some(Self::Address(ip.to_canonical(), port));
        }
        let host = without_root(host);
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        let (suffix, whole) = match host.strip_prefix('.') {
            Some("") => return None,
            None if host.is_empty() => return None,
            Some(_) => (host.to_owned(), false),
            None => (format!(".{host}"), true),
        };
        Some(Self::Domain { suffix, whole, port })
    }

    fn matches_ip(&self, ip: IpAddr, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Network(network) => network.contains(&ip),
            Self::Address(address, only) => *address == ip && only.is_none_or(|only| only == port),
            Self::Domain { .. } => false,
        }
    }

    fn matches_name(&self, name: &str, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Network(_) | Self::Address(..) => false,
            Self::Domain { suffix, whole, port: only } => {
                (name.ends_with(suffix) || *whole && name == &suffix[1..])
                    && only.is_none_or(|only| only == port)
            }
        }
    }
}

/// Leaves out the dot of a fully qualified name.
fn without_root(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Splits `host:port`, with brackets around an IPv6 address if there is a port.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            Some((host, Some(port.parse().ok()?)))
        }
        Some(_) | None => Some((text, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::{LinkProxy, ProxyBypass, ProxyRules};
    use crate::url::ServerUrl;

    #[test]
    fn no_proxy_has_the_syntax_of_go() {
        for (no_proxy, url, bypassed) in [
            ("", "ws://example.com", false),
            ("", "ws://localhost:1", true),
            ("", "ws://LOCALHOST:1", true),
            ("", "ws://localhost.:1", true),
            ("", "ws://localhost..:1", false),
            ("", "ws://127.0.0.2", true),
            ("", "ws://[::1]", true),
            ("", "ws://localhost.example.com", false),
            ("*", "ws://example.com", true),
            ("*", "ws://192.0.2.1", true),
            (" * ", "ws://example.com", true),
            ("example.com", "ws://example.com", true),
            ("example.com", "wss://a.b.example.com:8443", true),
            ("EXAMPLE.com", "ws://Example.COM", true),
            ("example.com", "ws://notexample.com", false),
            (".example.com", "ws://a.example.com", true),
            (".example.com", "ws://example.com", false),
            ("*.example.com", "ws://a.example.com", true),
            ("*.example.com", "ws://example.com", false),
            ("a, ,b.test , example.com", "ws://example.com", true),
            ("example.com:8765", "ws://example.com:8765", true),
            ("example.com:8765", "ws://example.com", false),
            ("example.com:80", "ws://example.com", true),
            ("example.com:443", "wss://example.com", true),
            (".example.com:80", "ws://a.example.com", true),
            (".example.com:80", "ws://a.example.com:81", false),
            ("192.0.2.1", "ws://192.0.2.1:9", true),
            ("192.0.2.1:9", "ws://192.0.2.1:9", true),
            ("192.0.2.1:9", "ws://192.0.2.1:8", false),
            ("192.0.2.0/24", "ws://192.0.2.200", true),
            ("192.0.2.0/24", "ws://192.0.3.200", false),
            ("192.0.2.0/24", "ws://192.0.2.200.example.com", false),
            ("2001:db8::1", "ws://[2001:db8::1]", true),
            ("[2001:db8::1]", "ws://[2001:db8::1]", true),
            ("[2001:db8::1]:80", "ws://[2001:db8::1]", true),
            ("[2001:db8::1]:81", "ws://[2001:db8::1]", false),
            ("2001:db8::/32", "ws://[2001:db8:1::1]", true),
            ("192.0.2.1", "ws://[::ffff:192.0.2.1]", true),
            ("com", "ws://example.com", true),
            ("h", "ws://h", true),
            ("example.com", "ws://example.com.", true),
            ("example.com.:80", "ws://a.example.com", true),
            (".example.com.", "ws://a.example.com.", true),
            (".", "ws://example.com", false),
            ("*.", "ws://example.com", false),
            (":80", "ws://example.com", false),
            ("example.com:http", "ws://example.com", false),
        ] {
            let server = ServerUrl::parse(url).unwrap();
            assert_eq!(ProxyBypass::parse(no_proxy).contains(&server), bypassed, "{no_proxy:?} {url}");
        }
    }

    #[test]
    fn the_scheme_decides_which_proxy() {
        let rules = ProxyRules {
            http: Some("http://plain".parse().unwrap()),
            https: Some("socks5://secure".parse().unwrap()),
            bypass: ProxyBypass::parse("direct.test"),
        };
        let choose =
            |proxy: &LinkProxy, url| proxy.choose(&ServerUrl::parse(url).unwrap()).map(ToString::to_string);
        let by_rules = LinkProxy::Rules(rules);
        assert_eq!(choose(&by_rules, "ws://h").as_deref(), Some("http://plain:8080"));
        assert_eq!(choose(&by_rules, "wss://h").as_deref(), Some("socks5://secure:1080"));
        assert_eq!(choose(&by_rules, "ws://direct.test"), None);
        assert_eq!(choose(&LinkProxy::Direct, "ws://h"), None);
        // What is asked for by name is taken for localhost, too.
        let through = LinkProxy::Through("http://p:1".parse().unwrap());
        assert_eq!(choose(&through, "ws://localhost").as_deref(), Some("http://p:1"));
    }
}
