//! Texts of users, and what stands in the headers of an upgrade.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use linksocks_sansio::access::{AccessRule, AccessRules, Verdict};
use linksocks_sansio::io::UpgradeRequest;
use linksocks_sansio::socks5::{Host, TargetAddr};
use linksocks_sansio::wire::{AuthResponse, Message, decode};
use linksocks_sansio::{
    Action, Input, LinkId, Output, RequestHeader, ServerConfig, ServerEngine, ServerUrl, Ticket, Token,
    TokenDigest,
};

use super::desk::{Desk, peer};
use super::split_first;

/// The first byte says what the rest, a text, is.
///
/// # Panics
/// If what was read can't be written, or is read differently again; if access rules contradict themselves; if
/// a server lets somebody in who does not know its token.
pub fn parse(data: &[u8]) {
    let (what, text) = split_first(data);
    let text = String::from_utf8_lossy(text);
    match what % 7 {
        0 => server_url(&text),
        1 => access_rules(&text),
        2 => target(&text),
        3 => token(&text),
        4 => request_header(&text),
        5 => offer(&text, "/socket", ""),
        _ => {
            let (path, query) = text.split_once('?').unwrap_or((&text, ""));
            offer("window, finish, session", path, query);
        }
    }
}

fn server_url(text: &str) {
    let Ok(url) = ServerUrl::parse(text) else { return };
    let shown = url.to_string();
    let (_, behind) = shown.split_once("://").expect("it has a scheme");
    let authority = behind.split('/').next().expect("a text has a beginning");
    assert!(!shown.contains(['?', '#']) && !authority.contains('@'), "they may be secret: {shown}");
    let again = ServerUrl::parse(&shown).expect("what is shown is a URL");
    assert_eq!(again.to_string(), shown);
    assert_eq!(again.is_secure(), url.is_secure());
    assert_eq!(again.authenticates_by_url(), url.authenticates_by_url());
}

/// Rules, one a line.
fn access_rules(text: &str) {
    let rules: AccessRules = text.lines().filter_map(|line| line.parse().ok()).collect();
    for rule in &rules {
        let (addresses, ports) = (rule.address_texts(), rule.ports().iter().cloned());
        // A text has no way to say "any address" without a port.
        let again = AccessRule::from_parts(addresses.iter().map(String::as_str), ports);
        assert_eq!(again.as_ref(), Ok(rule));
    }
    for port in [1, 80, u16::MAX] {
        let addresses = || addresses(text).map(move |address| SocketAddr::new(address, port));
        for address in addresses() {
            let expected = if rules.allows(address) { Verdict::Allowed } else { Verdict::Denied };
            assert_eq!(rules.judge(&address.into()), expected);
            let mapped = match address.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
                IpAddr::V6(ip) => IpAddr::V6(ip),
            };
            assert_eq!(rules.allows(SocketAddr::new(mapped, port)), rules.allows(address));
        }
        let name = TargetAddr { host: Host::Name("example.com".to_owned()), port };
        match rules.judge(&name) {
            Verdict::Allowed => assert!(addresses().all(|address| rules.allows(address))),
            Verdict::Denied => assert!(!addresses().any(|address| rules.allows(address))),
            Verdict::NeedsLookup => {}
        }
    }
}

/// Addresses to judge: some that are special, and those that the text speaks of.
fn addresses(text: &str) -> impl Iterator<Item = IpAddr> {
    let special = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V4(Ipv4Addr::BROADCAST),
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0x0a00, 1)),
        IpAddr::V6(Ipv6Addr::new(0x2002, 0x7f00, 1, 0, 0, 0, 0, 0)),
        IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0, 0, 1)),
    ];
    let words = text.split(|c: char| !c.is_ascii_hexdigit() && !matches!(c, '.' | ':'));
    special.into_iter().chain(words.filter_map(|word| word.parse().ok()))
}

fn target(text: &str) {
    if let Ok(target) = text.parse::<TargetAddr>() {
        target.validate().expect("what is read is valid");
        assert_eq!(target.to_string().parse().as_ref(), Ok(&target));
        assert_eq!(TargetAddr::from_wire(&target.wire_host(), target.port).as_ref(), Ok(&target));
    }
    if let Ok(host) = text.parse::<Host>() {
        assert_eq!(host.to_string().parse(), Ok(host));
    }
    if let Ok(host) = Host::from_wire(text) {
        assert_eq!(Host::from_wire(&host.to_string()).as_ref(), Ok(&host));
        assert!(!host.to_string().contains(char::is_whitespace));
        assert!(!host.to_string().contains(char::is_control));
    }
}

fn token(text: &str) {
    if let Some(digest) = TokenDigest::from_hex(text) {
        assert_eq!(digest.to_hex(), text);
    }
    let Ok(token) = Token::new(text) else {
        return assert!(text.len() > Token::MAX_LEN);
    };
    assert_eq!(token.expose(), text);
    assert_eq!(format!("{token:?}"), "Token(..)");
    let digest = token.digest();
    assert_eq!(TokenDigest::from_hex(&digest.to_hex()), Some(digest));
}

fn request_header(text: &str) {
    let Ok(header) = text.parse::<RequestHeader>() else { return };
    assert!(header.name().bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'));
    assert!(header.value().bytes().all(|byte| byte == b'\t' || byte == b' ' || byte.is_ascii_graphic()));
    let again: RequestHeader = format!("{}: {}", header.name(), header.value()).parse().expect("it is one");
    assert_eq!(again, header);
}

/// A client offers a link to a server, as which it logs in, if at all, by a message.
fn offer(extensions: &str, path: &str, query: &str) {
    const TOKEN: &str = "the token of the server";
    let token = Token::new(TOKEN).expect("it has a usual length");
    let config = ServerConfig::forward(token.clone()).expect("it is no reserved token");
    let limits = config.relay.limits.clone();
    type Server = Desk<ServerEngine>;
    let mut server = Server::new(ServerEngine::new(config, [7; 32], Server::NOW.instant()), &limits);
    server.drain();
    let (path, query) = (path.to_owned(), query.to_owned());
    let knows_token = query.contains(&token.digest().to_hex());
    let request = UpgradeRequest { path, query, extensions: Some(extensions.to_owned()), peer: peer(1) };
    let outputs = server.tell(Input::LinkOffered { ticket: Ticket(1), request });
    let Some(link) = outputs.iter().find_map(|output| accepted(output, extensions)) else { return };
    let outputs = server.tell(Input::LinkOpened { link, response: Default::default() });
    let welcome = Message::AuthResponse(AuthResponse::Success { assigned: None });
    let is_welcome = outputs.iter().any(|output| {
        let Output::Transmit { message, .. } = output else { return false };
        decode(message.clone()).expect("it is a message").message == welcome
    });
    assert!(knows_token || !is_welcome, "whoever does not know the token is not let in");
}

/// The link, if it is accepted; with no extensions but those that were offered.
fn accepted(output: &Output, offered: &str) -> Option<LinkId> {
    let Output::Action(Action::AcceptLink { link, extensions, .. }) = output else { return None };
    let accepted = extensions.as_deref().map(|list| list.split(", ")).into_iter().flatten();
    for name in accepted {
        assert!(["window", "finish", "session"].contains(&name), "{name}");
        assert!(offered.split(',').any(|entry| entry.trim().eq_ignore_ascii_case(name)), "{name}");
    }
    Some(*link)
}
