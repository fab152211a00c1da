//! What a client makes of the answers to its upgrade request: redirects, TLS.

use std::time::Duration;

use super::epoch;
use super::host::Host;
use super::pair::{Pair, TOKEN, client_config, server_config};
use crate::client::ClientEngine;
use crate::config::ClientConfig;
use crate::error::{LinkError, LinkFailure, RedirectError, StopReason, TlsFailure};
use crate::event::Event;
use crate::io::{Command, Engine, Input, LinkClose, LinkRequest};
use crate::secret::Token;
use crate::url::ServerUrl;
use crate::wire::{AuthResponse, Message};

fn config(url: &str) -> ClientConfig {
    let mut config = client_config();
    config.server = ServerUrl::parse(url).unwrap();
    config
}

fn client(url: &str) -> Host<ClientEngine> {
    start(config(url))
}

fn start(config: ClientConfig) -> Host<ClientEngine> {
    Host::new(ClientEngine::new(config, [1; 32], epoch()), epoch())
}

impl Host<ClientEngine> {
    fn fail_link(&mut self, error: LinkFailure) -> LinkRequest {
        let (link, request) = self.opening.pop_front().expect("a link is being opened");
        self.input(Input::LinkFailed { link, error });
        request
    }

    /// Answers the request that was sent with a redirect.
    fn redirect(&mut self, location: &str) -> LinkRequest {
        self.fail_link(LinkFailure::Redirect { location: location.to_owned() })
    }

    /// The request that is now to be sent.
    fn request(&self) -> &LinkRequest {
        &self.opening.front().expect("a link is being opened").1
    }

    fn final_error(&self) -> LinkError {
        match &self.stopped {
            Some(StopReason::Link(error)) => error.clone(),
            other => panic!("stopped by {other:?}"),
        }
    }
}

/// Scheme, authority, path and query.
fn place(request: &LinkRequest) -> String {
    let scheme = if request.secure { "wss" } else { "ws" };
    format!("{scheme}://{}{}", request.authority, request.path_and_query)
}

#[test]
fn a_chain_of_redirects_is_followed_hop_by_hop() {
    let mut client = client("ws://127.0.0.1:1");
    let digest = Token::new(TOKEN).unwrap().digest().to_hex();
    assert!(place(client.request()).ends_with(&format!("reverse=false&token={digest}")));
    for (location, next) in [
        ("/a/b?c=d", "ws://127.0.0.1:1/a/b?c=d"),
        ("e", "ws://127.0.0.1:1/a/e"),
        ("http://127.0.0.2:80/x#y", "ws://127.0.0.2/x"),
        ("https://[::1]", "wss://[::1]/"),
        ("wss://server.test:2/socket", "wss://server.test:2/socket"),
    ] {
        client.redirect(location);
        assert_eq!(place(client.request()), next, "as it stands in the Location, nothing added");
        assert_eq!(client.stopped, None);
    }
    let dialed: Vec<_> = client.dialed.iter().map(|(_, address)| address.to_string()).collect();
    assert_eq!(
        dialed,
        ["127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1", "127.0.0.2:80", "[::1]:443", "127.0.0.1:2"]
    );
    assert_eq!(client.queries[0].1, "server.test");
    assert_eq!(client.request().server_name, "server.test");

    // The login is by URL, as the first URL said, so the server speaks first.
    let (link, _) = client.open_link(None);
    assert!(client.take_sent().is_empty());
    client.receive(link, &Message::AuthResponse(AuthResponse::Success { assigned: None }));
    assert!(client.events.iter().any(|event| matches!(event, Event::LinkReady { .. })));
    assert!(!client.events.iter().any(|event| matches!(event, Event::LinkLost { .. })));
}

#[test]
fn a_sixth_redirect_is_too_many() {
    let mut client = client("ws://127.0.0.1:1");
    for hop in 0..6 {
        assert_eq!(client.stopped, None);
        client.redirect(&format!("/{hop}"));
    }
    assert_eq!(client.final_error(), LinkError::Redirect(RedirectError::TooMany(5)));
    assert_eq!(client.final_error().to_string(), "bad redirect: more than 5 in a row");
}

#[test]
fn a_circle_is_seen_at_once() {
    let mut client = client("ws://127.0.0.1:1/a?token=secret");
    client.redirect("/b?token=secret");
    client.redirect("/a?token=secret");
    let error = client.final_error();
    assert_eq!(error, LinkError::Redirect(RedirectError::Loop("ws://127.0.0.1:1/a".to_owned())));
}

#[test]
fn locations_that_lead_nowhere_are_explained() {
    for (location, part) in [
        ("", "empty"),
        ("http://", "host"),
        ("ftp://h/", "scheme"),
        ("http://user@h/", "user info"),
        ("http://h:99999/", "port"),
    ] {
        let mut client = client("ws://127.0.0.1:1");
        client.redirect(location);
        let error = client.final_error().to_string();
        assert!(error.starts_with("bad redirect: malformed Location: ") && error.contains(part), "{error}");
    }
}

#[test]
fn a_secured_link_stays_secured() {
    let mut client = client("wss://127.0.0.1:1");
    client.redirect("https://127.0.0.2/?token=secret");
    client.redirect("http://127.0.0.3/?token=secret");
    let error = client.final_error();
    assert_eq!(error, LinkError::Redirect(RedirectError::Downgrade("ws://127.0.0.3/".to_owned())));

    let mut client = self::client("ws://127.0.0.1:1");
    client.redirect("https://127.0.0.2/");
    client.redirect("http://127.0.0.3/");
    assert_eq!(place(client.request()), "ws://127.0.0.3/", "what began in the clear may go on so");
}

#[test]
fn headers_and_server_name_are_for_the_users_host_only() {
    let mut config = config("wss://127.0.0.1:1");
    config.headers = vec!["Authorization: hunter2".parse().unwrap()];
    config.server_name = Some("front.test".to_owned());
    let mut client = start(config);
    for (location, at_home) in
        [("wss://127.0.0.1:2/x", true), ("wss://127.0.0.2/x", false), ("wss://127.0.0.1/y", true)]
    {
        client.redirect(location);
        let request = client.request();
        assert_eq!(request.headers.len(), usize::from(at_home), "{location}");
        assert_eq!(request.server_name == "front.test", at_home, "{location}");
    }
}

#[test]
fn a_token_in_a_message_stays_on_the_users_host() {
    let mut client = client("ws://server.test:1/custom");
    for location in ["http://server.test:2/x", "https://SERVER.test/y", "/z"] {
        client.redirect(location);
        assert_eq!(client.stopped, None, "{location}");
    }
    let requests_before = client.dialed.len();
    client.redirect("wss://other.test/custom?secret");
    let error = client.final_error();
    assert_eq!(error, LinkError::Redirect(RedirectError::Foreign("wss://other.test/custom".to_owned())));
    assert!(error.to_string().starts_with("bad redirect: to wss://other.test/custom, another host, which"));
    assert_eq!(client.dialed.len(), requests_before);
    assert!(client.opening.is_empty());

    let mut client = self::client("ws://127.0.0.1:1/custom");
    client.redirect("/other");
    client.open_link(None);
    let [Message::Auth(auth)] = &client.take_sent()[..] else { panic!("a login by message") };
    assert!(auth.token == Token::new(TOKEN).unwrap());
}

#[test]
fn a_login_by_url_leads_elsewhere_only_as_the_server_hands_it_on() {
    let mut client = client("ws://127.0.0.1:1");
    client.redirect("ws://127.0.0.2/socket");
    assert_eq!(place(client.request()), "ws://127.0.0.2/socket", "no token");
    client.redirect("custom");
    client.open_link(None);
    assert!(client.take_sent().is_empty(), "the path of the user's URL decides, so no message either");
}

#[test]
fn redirects_have_one_deadline_together() {
    let mut client = client("ws://127.0.0.1:1");
    for hop in 0..4 {
        client.now += Duration::from_secs(10);
        client.redirect(&format!("/{hop}"));
    }
    let link = client.opening[0].0;
    client.now += Duration::from_secs(5);
    client.input(Input::Timeout);
    assert_eq!(client.closed_links, [(link, None)]);
}

#[test]
fn an_endless_time_to_connect_has_no_deadline() {
    let mut config = config("ws://127.0.0.1:1");
    config.relay.timeouts.link_open = Duration::MAX;
    let mut client = start(config);
    for location in ["/a", "/b"] {
        client.now += Duration::from_secs(1_000_000);
        client.input(Input::Timeout);
        client.redirect(location);
        assert!(place(client.request()).ends_with(location));
    }
}

#[test]
fn a_redirect_that_comes_too_late_is_not_followed() {
    let mut client = client("ws://127.0.0.1:1");
    // The machine was asleep, so the deadline could not be kept.
    client.now += Duration::from_secs(50);
    client.redirect("/elsewhere");
    assert!(client.opening.is_empty());
    let lost = client.events.last().unwrap();
    assert!(
        matches!(lost, Event::LinkLost { error: LinkError::Timeout(_), retry_in: Some(_), .. }),
        "{lost:?}"
    );
    assert!(client.deadline().unwrap() > client.now);
}

#[test]
fn every_attempt_begins_at_the_url_of_the_user() {
    let mut client = client("ws://127.0.0.1:1");
    let first = place(client.request());
    client.redirect("/elsewhere");
    client.fail_link(LinkFailure::Status(502));
    client.now += Duration::from_secs(2);
    client.input(Input::Timeout);
    assert_eq!(place(client.request()), first);
}

#[test]
fn no_redirect_is_followed_after_the_end_has_begun() {
    let mut config = client_config();
    config.links = 2;
    let mut pair = Pair::with(config, server_config());
    pair.open();
    pair.open();
    let link = *pair.to_server.keys().next().unwrap();
    pair.client.input(Input::LinkClosed { link, cause: LinkClose::Peer(None) });
    pair.client.now += Duration::from_secs(2);
    pair.client.input(Input::Timeout);
    // The channel of the other link may finish.
    pair.client.input(Input::Command(Command::Shutdown { drain: Duration::from_secs(5) }));
    pair.client.redirect("/elsewhere");
    assert!(pair.client.opening.is_empty());
    assert_eq!(pair.client.engine.stats().links, 1);
    assert_eq!(pair.client.stopped, None);
}

#[test]
fn a_wrong_certificate_is_final_only_before_the_first_login() {
    let mut client = client("wss://127.0.0.1:1");
    client.fail_link(LinkFailure::Tls(TlsFailure::Protocol("noise".to_owned())));
    assert_eq!(client.stopped, None, "noise may pass");
    client.now += Duration::from_secs(2);
    client.input(Input::Timeout);
    client.fail_link(LinkFailure::Tls(TlsFailure::Expired));
    assert_eq!(client.final_error(), LinkError::Tls(TlsFailure::Expired));

    // What comes between us and a server that we know passes, such as a hotel's login page.
    for error in [
        LinkFailure::Tls(TlsFailure::UnknownIssuer),
        LinkFailure::Redirect { location: "http://login.test/".to_owned() },
    ] {
        let Pair { mut client, to_server, .. } = Pair::with(config("wss://127.0.0.1:1"), server_config());
        let link = *to_server.keys().next().unwrap();
        client.input(Input::LinkClosed { link, cause: LinkClose::Peer(None) });
        client.now += Duration::from_secs(2);
        client.input(Input::Timeout);
        client.fail_link(error);
        assert_eq!(client.stopped, None);
        let lost = client.events.last().unwrap();
        assert!(matches!(lost, Event::LinkLost { retry_in: Some(_), .. }), "{lost:?}");
    }
}
