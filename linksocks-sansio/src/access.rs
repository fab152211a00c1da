//! Which addresses may be connected to.
//!
//! A rule has addresses and ports; both must match. A list of rules decides so:
//!
//! 1. What a deny rule matches is forbidden, whatever else the list says.
//! 2. If there are allow rules, what none of them matches is forbidden.
//! 3. Everything else is allowed. So an empty list allows all, and a list of deny rules alone allows
//!    the rest.
//!
//! Only addresses are judged, and the address that was judged is the one that is used: a name is
//! looked up first, and passes if any of its addresses does.
//!
//! ```
//! use linksocks_sansio::access::{AccessRule, AccessRules, RuleError, Verdict};
//!
//! let rules = ["!10.0.0.0/8", ":443", "192.0.2.7-20:8000-8999"];
//! let rules = rules.iter().map(|text| text.parse()).collect::<Result<AccessRules, RuleError>>()?;
//! assert!(rules.allows("198.51.100.1:443".parse()?));
//! assert!(rules.allows("192.0.2.9:8080".parse()?));
//! assert!(!rules.allows("198.51.100.1:80".parse()?)); // no allow rule matches
//! assert!(!rules.allows("10.1.2.3:443".parse()?)); // denied, although another rule allows it
//!
//! // Before a name is looked up:
//! assert_eq!(rules.judge(&"example.com:443".parse()?), Verdict::NeedsLookup); // could be 10.1.2.3
//! assert_eq!(rules.judge(&"example.com:80".parse()?), Verdict::Denied);
//!
//! let ambiguous = "::1:80".parse::<AccessRule>();
//! assert_eq!(ambiguous, Err(RuleError::Ambiguous("::1:80".into())));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Where rules stand: [`entry_rules`](crate::config::RelayConfig::entry_rules) and
//! [`dial_rules`](crate::config::RelayConfig::dial_rules) of an engine, and those of each
//! [token](crate::token). An engine asks all that apply.
//!
//! # Syntax
//!
//! `[!]ADDRESSES[:PORTS]`; a leading `!` makes it a deny rule.
//!
//! | part | forms |
//! |---|---|
//! | addresses | `10.0.0.0/8`, `192.0.2.7`, `192.0.2.7-192.0.2.20`, `192.0.2.7-20`, `2001:db8::/32`, `private`, empty for any |
//! | ports | `443`, `8000-8999`, empty for any |
//!
//! The last colon stands before the ports. IPv6 addresses may stand in brackets, and must where it
//! could be read both ways: `[::1]:80`. `private` stands for every address that is not one of a public
//! host, see [`AccessRule::private`].
//!
//! A rule with several addresses or several ports has no such text; see [`AccessRule::from_parts`] and
//! the form that it has in the [HTTP API](crate::http::admin).
//!
//! An IPv4-mapped IPv6 address (`::ffff:192.0.2.7`) counts as the IPv4 address, in rules and in what
//! they judge; so `::/0` matches no IPv4 host in this notation.
//!
//! # Other ways to the same host
//!
//! Some addresses lead to a host that has another one. They need both addresses not to be denied:
//!
//! - `0.0.0.0` and `::` are connected to as the loopback addresses `127.0.0.1` and `::1`;
//! - a translator or relay may deliver to the IPv4 address within `64:ff9b::/96` (RFC 6052),
//!   `2002::/16` (6to4, RFC 3056) and `::ffff:0:0:0/96` (RFC 2765).
//!
//! So `!127.0.0.1` forbids `0.0.0.0`, too, and `!10.0.0.0/8` forbids `64:ff9b::a00:1`. Allow rules look
//! at the address as it is: `10.0.0.0/8` does not allow `64:ff9b::a00:1`, for nobody knows whether the
//! network translates, or where to; and `64:ff9b::/96` allows all of these but what is denied.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use smallvec::{SmallVec, smallvec};
use thiserror::Error;

use crate::socks5::{Host, TargetAddr};

/// The name of [`AccessRule::private`] in rules.
const PRIVATE: &str = "private";
/// What makes a rule one that denies.
const DENIAL: char = '!';

/// What no public host has as its address (IANA special-purpose address registries).
const PRIVATE_NETWORKS: [(IpAddr, u8); 26] = [
    v4([0, 0, 0, 0], 8),           // this network, unspecified
    v4([10, 0, 0, 0], 8),          // private use (RFC 1918)
    v4([100, 64, 0, 0], 10),       // carrier-grade NAT (RFC 6598)
    v4([127, 0, 0, 0], 8),         // loopback
    v4([169, 254, 0, 0], 16),      // link-local, metadata services of clouds
    v4([172, 16, 0, 0], 12),       // private use (RFC 1918)
    v4([192, 0, 0, 0], 24),        // protocol assignments
    v4([192, 0, 2, 0], 24),        // documentation
    v4([192, 88, 99, 0], 24),      // relays of 6to4 (deprecated, RFC 7526)
    v4([192, 168, 0, 0], 16),      // private use (RFC 1918)
    v4([198, 18, 0, 0], 15),       // benchmarks
    v4([198, 51, 100, 0], 24),     // documentation
    v4([203, 0, 113, 0], 24),      // documentation
    v4([224, 0, 0, 0], 4),         // multicast
    v4([240, 0, 0, 0], 4),         // reserved, broadcast
    v6([0, 0, 0, 0], 96),          // unspecified, loopback, IPv4-compatible
    v6([0x64, 0xff9b, 1, 0], 48),  // local-use translation (RFC 8215)
    v6([0x100, 0, 0, 0], 64),      // discard-only
    v6([0x2001, 0, 0, 0], 23),     // protocol assignments, Teredo
    v6([0x2001, 0xdb8, 0, 0], 32), // documentation
    v6([0x3fff, 0, 0, 0], 20),     // documentation (RFC 9637)
    v6([0x5f00, 0, 0, 0], 16),     // segment routing (RFC 9602)
    v6([0xfc00, 0, 0, 0], 7),      // unique local
    v6([0xfe80, 0, 0, 0], 10),     // link-local
    v6([0xfec0, 0, 0, 0], 10),     // site-local (deprecated)
    v6([0xff00, 0, 0, 0], 8),      // multicast
];

const fn v4(octets: [u8; 4], length: u8) -> (IpAddr, u8) {
    let [a, b, c, d] = octets;
    (IpAddr::V4(Ipv4Addr::new(a, b, c, d)), length)
}

const fn v6(head: [u16; 4], length: u8) -> (IpAddr, u8) {
    let [a, b, c, d] = head;
    (IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)), length)
}

/// One rule. See the [module](self) for its text form.
///
/// ```
/// use linksocks_sansio::access::{AccessRule, AccessRules};
///
/// // Several addresses on several ports, which the text form has not.
/// let rule = AccessRule::from_parts(["10.0.0.0/8", "192.0.2.7"], [80..=80, 8000..=8999])?;
/// let rules = AccessRules::from_iter([rule, AccessRule::private().denying()]);
/// assert!(!rules.allows("10.0.0.1:80".parse()?)); // denied with all private addresses
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    denies: bool,
    /// Empty: any address.
    addresses: Vec<Addresses>,
    /// Empty: any port.
    ports: Vec<RangeInclusive<u16>>,
}

impl AccessRule {
    /// All addresses that no public host has: unspecified, loopback, private and unique local,
    /// link-local, carrier-grade NAT, multicast, documentation, reserved. On any port.
    #[must_use]
    pub fn private() -> Self {
        Self { denies: false, addresses: vec![Addresses::private(PRIVATE)], ports: Vec::new() }
    }

    /// The rule for any of `addresses` on any of `ports`. No address stands for all addresses, no port
    /// for all ports.
    ///
    /// Each address is a text as in the [module](self). With a `!` before each of them it is a deny
    /// rule; a lone `!` denies all addresses. Space around a text is ignored.
    ///
    /// # Errors
    /// [`RuleError::Addresses`], [`RuleError::Ports`] for a range that ends before it begins,
    /// [`RuleError::Mixed`] if only some have a `!`.
    pub fn from_parts<'a>(
        addresses: impl IntoIterator<Item = &'a str>,
        ports: impl IntoIterator<Item = RangeInclusive<u16>>,
    ) -> Result<Self, RuleError> {
        let texts: Vec<&str> = addresses.into_iter().map(str::trim).collect();
        let denies = texts.iter().any(|text| text.starts_with(DENIAL));
        let bare: Option<Vec<&str>> =
            if denies { texts.iter().map(|text| text.strip_prefix(DENIAL)).collect() } else { Some(texts) };
        let addresses = match &bare.ok_or(RuleError::Mixed)?[..] {
            [""] if denies => Vec::new(),
            bare => bare.iter().map(|text| Addresses::parse(text)).collect::<Result<_, _>>()?,
        };
        let ports: Vec<_> = ports.into_iter().collect();
        match ports.iter().find(|range| range.is_empty()) {
            Some(range) => Err(RuleError::Ports(format!("{}-{}", range.start(), range.end()))),
            None => Ok(Self { denies, addresses, ports }),
        }
    }

    /// The deny rule for what this rule matches.
    #[must_use]
    pub fn denying(self) -> Self {
        Self { denies: true, ..self }
    }

    /// The addresses as [`AccessRule::from_parts`] takes them, in the words in which they were given.
    #[must_use]
    pub fn address_texts(&self) -> Vec<String> {
        let texts = self.addresses.iter().map(|addresses| &addresses.text);
        match self.denies {
            true if self.has_any_address() => vec![DENIAL.to_string()],
            true => texts.map(|text| format!("{DENIAL}{text}")).collect(),
            false => texts.cloned().collect(),
        }
    }

    /// The ports; empty for any.
    #[must_use]
    pub fn ports(&self) -> &[RangeInclusive<u16>] {
        &self.ports
    }

    fn matches(&self, address: SocketAddr) -> bool {
        self.has_port(address.port()) && self.has_address(address.ip())
    }

    fn has_port(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.iter().any(|range| range.contains(&port))
    }

    fn has_address(&self, address: IpAddr) -> bool {
        self.has_any_address() || self.addresses.iter().any(|addresses| addresses.contain(address))
    }

    fn has_any_address(&self) -> bool {
        self.addresses.is_empty()
    }
}

/// Some addresses, and how they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Addresses {
    /// Without `!` and brackets.
    text: String,
    ranges: SmallVec<[RangeInclusive<IpAddr>; 1]>,
}

impl Addresses {
    /// See [`AccessRule::private`].
    fn private(text: &str) -> Self {
        let ranges = PRIVATE_NETWORKS.iter().map(|(address, length)| network(*address, *length));
        Self { text: text.to_owned(), ranges: ranges.collect() }
    }

    fn parse(text: &str) -> Result<Self, RuleError> {
        if text.eq_ignore_ascii_case(PRIVATE) {
            return Ok(Self::private(text));
        }
        let bare = text.strip_prefix('[').map_or(Some(text), |text| text.strip_suffix(']'));
        let parsed = bare.and_then(|bare| {
            let ranges = smallvec![address_range(bare)?];
            Some(Self { text: bare.to_owned(), ranges })
        });
        parsed.ok_or_else(|| RuleError::Addresses(text.to_owned()))
    }

    fn contain(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }
}

/// A list of rules; the [module](self) says how it decides. Made by `collect`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRules {
    rules: Vec<AccessRule>,
}

/// What can be said about a target before its name is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Every address that it can have is allowed.
    Allowed,
    /// No address that it can have is allowed.
    Denied,
    /// Its addresses decide.
    NeedsLookup,
}

impl AccessRules {
    /// No rules.
    pub(crate) const NONE: &Self = &Self { rules: Vec::new() };

    /// Whether there are no rules, so that everything is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether `address` may be used.
    #[must_use]
    pub fn allows(&self, address: SocketAddr) -> bool {
        let port = address.port();
        let address = address.ip().to_canonical();
        let mut leads_to = std::iter::successors(Some(address), |address| alias_of(*address));
        let is_denied = |address| self.any_matches(true, SocketAddr::new(address, port));
        let has_allow_rules = self.rules.iter().any(|rule| !rule.denies);
        !leads_to.any(is_denied)
            && (!has_allow_rules || self.any_matches(false, SocketAddr::new(address, port)))
    }

    /// The rules, in the order in which they were given.
    pub fn iter(&self) -> std::slice::Iter<'_, AccessRule> {
        self.rules.iter()
    }

    /// Whether a rule that denies, or one that allows, matches.
    fn any_matches(&self, denies: bool, address: SocketAddr) -> bool {
        self.rules.iter().any(|rule| rule.denies == denies && rule.matches(address))
    }

    /// Judges a target as far as that is possible without looking its name up.
    #[must_use]
    pub fn judge(&self, target: &TargetAddr) -> Verdict {
        match target.host {
            Host::Ip(ip) if self.allows(SocketAddr::new(ip, target.port)) => Verdict::Allowed,
            Host::Ip(_) => Verdict::Denied,
            Host::Name(_) => self.judge_port(target.port),
        }
    }

    fn judge_port(&self, port: u16) -> Verdict {
        let concerned = || self.rules.iter().filter(|rule| rule.has_port(port));
        let mut denying = concerned().filter(|rule| rule.denies);
        let allowing = || concerned().filter(|rule| !rule.denies);
        let has_allow_rules = self.rules.iter().any(|rule| !rule.denies);
        if denying.clone().any(AccessRule::has_any_address)
            || (has_allow_rules && allowing().next().is_none())
        {
            return Verdict::Denied;
        }
        let allows_any = !has_allow_rules || allowing().any(AccessRule::has_any_address);
        if denying.next().is_none() && allows_any { Verdict::Allowed } else { Verdict::NeedsLookup }
    }
}

/// The other address of the host that a canonical address leads to, if it is not the host's own.
fn alias_of(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Some(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Some(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => embedded_in(address).map(IpAddr::V4),
    }
}

/// The IPv4 address that a translator or relay delivers to.
fn embedded_in(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..]
        | [0, 0, 0, 0, 0xffff, 0, high, low] => {
            Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => None,
    }
}

impl<'a> IntoIterator for &'a AccessRules {
    type Item = &'a AccessRule;
    type IntoIter = std::slice::Iter<'a, AccessRule>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<AccessRule> for AccessRules {
    fn from_iter<I: IntoIterator<Item = AccessRule>>(rules: I) -> Self {
        Self { rules: rules.into_iter().collect() }
    }
}

/// Why a text is no [`AccessRule`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RuleError {
    /// There is nothing, or nothing behind the `!`.
    #[error("the access rule is empty")]
    Empty,
    /// Some addresses of one rule are denied and some are not.
    #[error("of the addresses of an access rule, all are denied ('!') or none")]
    Mixed,
    /// The part before the ports is none of the known forms.
    #[error("'{0}' is no address, network or range of addresses")]
    Addresses(String),
    /// The part behind the last colon is no port and no range of ports.
    #[error("'{0}' is no port and no range of ports")]
    Ports(String),
    /// The last colon could belong to an IPv6 address.
    #[error("'{0}' could be an IPv6 address, or one with a port: put the address in brackets")]
    Ambiguous(String),
}

impl FromStr for AccessRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (denies, text) = match text.strip_prefix(DENIAL) {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if text.is_empty() {
            return Err(RuleError::Empty);
        }
        let rule = match text.rsplit_once(':') {
            // A colon within brackets is none before ports.
            Some((_, behind)) if behind.ends_with(']') => without_ports(text),
            None => without_ports(text),
            Some((addresses, ports)) => {
                let rule = with_ports(addresses, ports);
                let may_be_address = addresses.contains(':') && !addresses.starts_with('[');
                match without_ports(text) {
                    Ok(_) if may_be_address && rule.is_ok() => Err(RuleError::Ambiguous(text.to_owned())),
                    Ok(other) if may_be_address => Ok(other),
                    Ok(_) | Err(_) => rule,
                }
            }
        };
        rule.map(|rule| Self { denies, ..rule })
    }
}

fn without_ports(text: &str) -> Result<AccessRule, RuleError> {
    Ok(AccessRule { denies: false, addresses: addresses(text)?, ports: Vec::new() })
}

fn with_ports(text: &str, ports: &str) -> Result<AccessRule, RuleError> {
    Ok(AccessRule { denies: false, addresses: addresses(text)?, ports: port_ranges(ports)? })
}

fn port_ranges(text: &str) -> Result<Vec<RangeInclusive<u16>>, RuleError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (number(low), number(high)) {
        (Some(low), Some(high)) if low <= high => Ok(vec![low..=high]),
        _ => Err(RuleError::Ports(text.to_owned())),
    }
}

/// A decimal number without a sign.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn addresses(text: &str) -> Result<Vec<Addresses>, RuleError> {
    if text.is_empty() { Ok(Vec::new()) } else { Addresses::parse(text).map(|addresses| vec![addresses]) }
}

/// `a`, `a/length`, `a-b` or, for IPv4, `a-last octet`.
fn address_range(text: &str) -> Option<RangeInclusive<IpAddr>> {
    if let Some((address, length)) = text.split_once('/') {
        let (address, length): (IpAddr, u8) = (address.parse().ok()?, number(length)?);
        return (length <= width(address)).then(|| network(address, length));
    }
    let Some((low, high)) = text.split_once('-') else {
        let address = text.parse::<IpAddr>().ok()?.to_canonical();
        return Some(address..=address);
    };
    let low = low.parse::<IpAddr>().ok()?.to_canonical();
    let high = match (low, number::<u8>(high)) {
        (IpAddr::V4(low), Some(last)) => {
            let [a, b, c, _] = low.octets();
            IpAddr::from([a, b, c, last])
        }
        _ => high.parse::<IpAddr>().ok()?.to_canonical(),
    };
    (low.is_ipv4() == high.is_ipv4() && low <= high).then_some(low..=high)
}

/// Stands for all addresses of whoever has this one, where something is counted per address: an IPv4 address
/// for itself, and of IPv6 the network of 64 bits, which is what one gets.
///
/// ```
/// use linksocks_sansio::access::whose;
/// use std::net::IpAddr;
///
/// let address = |text: &str| text.parse::<IpAddr>().unwrap();
/// assert_eq!(whose(address("2001:db8::1")), whose(address("2001:db8::ffff")));
/// assert_ne!(whose(address("192.0.2.1")), whose(address("192.0.2.2")));
/// assert_eq!(whose(address("::ffff:192.0.2.1")), address("192.0.2.1"));
/// ```
#[must_use]
pub fn whose(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// How many bits an address has.
const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The addresses that share their first `length` bits with `address`.
fn network(address: IpAddr, length: u8) -> RangeInclusive<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            let bits = address.to_bits();
            Ipv4Addr::from_bits(bits & !host).into()..=Ipv4Addr::from_bits(bits | host).into()
        }
        IpAddr::V6(address) => {
            if let (Some(mapped), 96..) = (address.to_ipv4_mapped(), length) {
                return network(mapped.into(), length - 96);
            }
            let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
            let bits = address.to_bits();
            Ipv6Addr::from_bits(bits & !host).into()..=Ipv6Addr::from_bits(bits | host).into()
        }
    }
}

#[cfg(test)]
mod tests;
