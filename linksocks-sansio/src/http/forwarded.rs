//! Who is behind a reverse proxy: the client of a server whose TCP peer only passes requests on.
//!
//! What headers say is believed only if the TCP peer is in a list of [`TrustedProxies`]: whoever else writes
//! them would choose his own address. A trusted proxy must append the address of its own client to
//! `X-Forwarded-For`, or to `Forwarded` (RFC 7239) and let no `X-Forwarded-For` through. No other header is
//! looked at.
//!
//! ```
//! use linksocks_sansio::http::forwarded::{TrustedProxies, TrustedProxy};
//!
//! let trusted = ["10.0.0.0/8".parse()?, "::1".parse()?].into_iter().collect::<TrustedProxies>();
//! let client = |peer: &str, header: &str| {
//!     trusted.client(peer.parse().unwrap(), [header.as_bytes()], [b"for=\"[2001:db8::1]:4711\"".as_slice()])
//! };
//! // The last one that is no proxy itself: what stands before it, the client may have made up.
//! assert_eq!(client("10.0.0.1:5000", "192.0.2.66, 192.0.2.7, 10.0.0.2"), "192.0.2.7:0".parse()?);
//! assert_eq!(client("198.51.100.1:5000", "192.0.2.7"), "198.51.100.1:5000".parse()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

/// Addresses of reverse proxies: `10.0.0.0/8`, `192.0.2.7`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedProxy(IpNet);

/// A text is no [`TrustedProxy`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is no address and no network such as 10.0.0.0/8")]
pub struct NotANetwork(String);

impl FromStr for TrustedProxy {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let address = || text.parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical()));
        let network = text.parse().ok().or_else(address);
        network.map(Self).ok_or_else(|| NotANetwork(text.to_owned()))
    }
}

/// The reverse proxies whose headers are believed; none by default. Made by `collect`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl FromIterator<TrustedProxy> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = TrustedProxy>>(proxies: I) -> Self {
        Self(proxies.into_iter().map(|TrustedProxy(network)| network).collect())
    }
}

impl TrustedProxies {
    /// Whether `address` is one of them.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client of a request that came from `peer` with these values of the headers `X-Forwarded-For` and
    /// `Forwarded`, in order. That is `peer` itself unless it is trusted and the headers name somebody.
    #[must_use]
    pub fn client<'a>(
        &self,
        peer: SocketAddr,
        x_forwarded_for: impl IntoIterator<Item = &'a [u8]>,
        forwarded: impl IntoIterator<Item = &'a [u8]>,
    ) -> SocketAddr {
        if !self.contain(peer.ip()) {
            return peer;
        }
        let named = match joined(x_forwarded_for) {
            Some(list) => self.last_client(list.split(',').map(node)),
            None => joined(forwarded).and_then(|list| {
                self.last_client(split_unquoted(&list, ',')?.into_iter().map(forwarded_node))
            }),
        };
        named.unwrap_or(peer)
    }

    /// Of the addresses that each proxy has appended, the last one that is no proxy, or the first one. `None`
    /// if it, or one behind it, can't be read.
    fn last_client(&self, nodes: impl DoubleEndedIterator<Item = Option<SocketAddr>>) -> Option<SocketAddr> {
        let mut client = None;
        for node in nodes.rev() {
            client = Some(node?);
            if client.is_some_and(|client| !self.contain(client.ip())) {
                break;
            }
        }
        client
    }
}

/// The list that the values of a header make together (RFC 9110 section 5.3); `None` if there is none.
fn joined<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let values: Vec<_> = values.into_iter().map(String::from_utf8_lossy).collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// An address, with or without port; IPv6 in brackets if with one.
fn node(text: &str) -> Option<SocketAddr> {
    let text = text.trim_matches([' ', '\t']);
    let address = || {
        let bare = text.strip_prefix('[').map_or(Some(text), |text| text.strip_suffix(']'))?;
        Some(SocketAddr::new(bare.parse().ok()?, 0))
    };
    let node = text.parse().ok().or_else(address)?;
    Some(SocketAddr::new(node.ip().to_canonical(), node.port()))
}

/// The `for` of an element of `Forwarded`: no name, no pseudonym.
fn forwarded_node(element: &str) -> Option<SocketAddr> {
    let pairs = split_unquoted(element, ';')?;
    let mut nodes = pairs.iter().filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim_matches([' ', '\t']).eq_ignore_ascii_case("for").then_some(value)
    });
    let (value, None) = (nodes.next()?, nodes.next()) else { return None };
    let value = value.trim_matches([' ', '\t']);
    // What needs a backslash in a quoted text is part of no address.
    node(value.strip_prefix('"').map_or(Some(value), |value| value.strip_suffix('"'))?)
}

/// Splits at each `separator` that is not within a quoted text; `None` if such a text has no end.
fn split_unquoted(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(|letter| {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            letter => return letter == separator && !quoted,
        }
        false
    });
    let parts = parts.collect();
    (!quoted).then_some(parts)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{TrustedProxies, TrustedProxy};

    fn trusted() -> TrustedProxies {
        ["10.0.0.0/8", "192.0.2.1", "fd00::/8"]
            .map(|text| text.parse::<TrustedProxy>().unwrap())
            .into_iter()
            .collect()
    }

    fn client(peer: &str, x_forwarded_for: &[&str], forwarded: &[&str]) -> String {
        let peer: SocketAddr = peer.parse().unwrap();
        let bytes =
            |values: &[&str]| values.iter().map(|value| value.as_bytes().to_vec()).collect::<Vec<_>>();
        let (x_forwarded_for, forwarded) = (bytes(x_forwarded_for), bytes(forwarded));
        let (x_forwarded_for, forwarded) =
            (x_forwarded_for.iter().map(Vec::as_slice), forwarded.iter().map(Vec::as_slice));
        trusted().client(peer, x_forwarded_for, forwarded).to_string()
    }

    const PROXY: &str = "10.1.2.3:4000";

    #[test]
    fn headers_of_others_are_not_believed() {
        for peer in ["198.51.100.1:4000", "192.0.2.2:1", "[2001:db8::1]:5"] {
            assert_eq!(client(peer, &["203.0.113.1"], &["for=203.0.113.1"]), peer);
        }
        assert_eq!(client("[::ffff:10.0.0.1]:5", &["203.0.113.1"], &[]), "203.0.113.1:0", "mapped");
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        for (list, expected) in [
            (&["203.0.113.1"][..], "203.0.113.1:0"),
            (&["203.0.113.1:77"], "203.0.113.1:77"),
            (&[" 203.0.113.1 ,\t10.9.9.9"], "203.0.113.1:0"),
            (&["198.51.100.7, 203.0.113.1", "192.0.2.1"], "203.0.113.1:0"),
            (&["forged, \"<>, 203.0.113.1"], "203.0.113.1:0"),
            (&["2001:db8::5"], "[2001:db8::5]:0"),
            (&["[2001:db8::5]"], "[2001:db8::5]:0"),
            (&["[2001:db8::5]:77, fd00::1"], "[2001:db8::5]:77"),
            (&["::ffff:203.0.113.1"], "203.0.113.1:0"),
            // All of them are proxies: the request began at the first one.
            (&["10.7.7.7, 10.8.8.8"], "10.7.7.7:0"),
        ] {
            assert_eq!(client(PROXY, list, &[]), expected, "{list:?}");
        }
    }

    #[test]
    fn what_can_not_be_read_names_nobody() {
        for list in [
            "",
            ",",
            "203.0.113.1,",
            "unknown",
            "203.0.113.256",
            "203.0.113.1, x",
            "x, 10.0.0.9",
            "203.0.113.1:x",
            "[2001:db8::5",
            "\u{e9}",
        ] {
            assert_eq!(client(PROXY, &[list], &["for=203.0.113.9"]), PROXY, "{list:?}");
        }
        for list in [
            "",
            "for=",
            "for=unknown",
            "for=_hidden",
            "by=203.0.113.1",
            "for=\"203.0.113.1",
            "for=203.0.113.1;for=203.0.113.2",
            "for=\"203.0.113.1\\\"\"",
            "for=203.0.113.1, for=\"x",
        ] {
            assert_eq!(client(PROXY, &[], &[list]), PROXY, "{list:?}");
        }
    }

    #[test]
    fn forwarded_counts_where_there_is_no_other_header() {
        for (list, expected) in [
            (&["for=203.0.113.1"][..], "203.0.113.1:0"),
            (&["proto=http; FOR=\"203.0.113.1:77\" ;by=10.0.0.1"], "203.0.113.1:77"),
            (&["for=198.51.100.7, For=\"[2001:db8::5]:80\"", "for=10.0.0.9"], "[2001:db8::5]:80"),
            (&["for=\"a,b;c\\\"\", for=203.0.113.1"], "203.0.113.1:0"),
        ] {
            assert_eq!(client(PROXY, &[], list), expected, "{list:?}");
        }
        assert_eq!(client(PROXY, &["203.0.113.1"], &["for=203.0.113.9"]), "203.0.113.1:0");
        assert_eq!(client(PROXY, &[], &[]), PROXY);
    }

    #[test]
    fn networks_and_addresses_can_be_trusted_and_nothing_else() {
        for text in ["10.0.0.0/8", "10.0.0.1", "::1", "2001:db8::/32", "::ffff:10.0.0.1"] {
            assert!(text.parse::<TrustedProxy>().is_ok(), "{text}");
        }
        for text in ["", "10.0.0.0/33", "example.com", "10.0.0.1:80", "private"] {
            assert!(text.parse::<TrustedProxy>().is_err(), "{text}");
        }
        let none = TrustedProxies::default();
        assert!(!none.contain("127.0.0.1".parse().unwrap()));
    }
}
