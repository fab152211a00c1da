//! Autonomy mode: providers manage the tokens of their connectors themselves.

use std::time::Duration;

use super::net::{Net, client, provider, token};
use crate::config::{ClientConfig, ClientRole, ServerConfig};
use crate::event::Event;
use crate::ids::ChannelId;
use crate::io::{Command, Engine, Input};
use crate::secret::Token;
use crate::token::{ForwardToken, NewToken, ReverseToken};
use crate::wire::{Connector, ConnectorOperation, Message, kind};

fn server() -> ServerConfig {
    let reverse =
        ReverseToken { token: Some(token("reverse-token")), manage_connectors: true, ..Default::default() };
    let forward = ForwardToken { token: Some(token("forward")), ..ForwardToken::default() };
    ServerConfig {
        tokens: vec![NewToken::Reverse(reverse), NewToken::Forward(forward)],
        ..ServerConfig::default()
    }
}

fn with_connector(text: &str) -> ClientConfig {
    ClientConfig { role: ClientRole::Provider { connectors: vec![token(text)] }, ..provider() }
}

/// What the server answers when a client asks it to add or remove a connector token.
fn manage(
    net: &mut Net,
    number: usize,
    operation: ConnectorOperation,
    text: &str,
) -> Result<Option<Token>, String> {
    net.frozen.push(number);
    net.server.sent.clear();
    let link = net.links(number).next().unwrap();
    let request = ChannelId([9; 16]);
    net.server.receive(link, &Message::Connector(Connector { request, token: token(text), operation }));
    let answers = net.server.take_sent().into_iter().filter_map(|message| match message {
        Message::ConnectorResponse(response) if response.request == request => Some(response.result),
        _ => None,
    });
    let answer = answers.last().expect("the request is answered");
    net.frozen.retain(|frozen| *frozen != number);
    net.drive();
    answer
}

#[test]
fn a_connector_reaches_its_own_provider_only() {
    let mut net = Net::new(server());
    net.join(with_connector("first"));
    net.join(with_connector("second"));
    assert!(net.clients[0].events.iter().any(|event| matches!(event, Event::ConnectorAdded { .. })));
    assert!(net.server.listener.is_none(), "there is no SOCKS port");
    let connector = net.join(client("second"));
    for _ in 0..3 {
        net.open(connector, 1);
    }
    assert_eq!(net.clients[0].dialed.len(), 1, "the link only");
}

#[test]
fn requests_are_answered_as_by_real_servers() {
    use ConnectorOperation::{Add, Remove};
    let mut net = Net::new(server());
    net.join(provider());
    net.join(provider());
    assert_eq!(manage(&mut net, 0, Add, "mine"), Ok(Some(token("mine"))));
    assert_eq!(manage(&mut net, 0, Add, "mine"), Ok(Some(token("mine"))), "again");
    assert_eq!(manage(&mut net, 1, Add, "mine"), Err("connector token already exists".into()));
    assert_eq!(manage(&mut net, 1, Add, "forward"), Err("connector token already exists".into()));
    let reserved = "'anonymous' is reserved and cannot be used as a connector token";
    assert_eq!(manage(&mut net, 0, Add, "anonymous"), Err(reserved.into()));
    let made = manage(&mut net, 0, Add, "").unwrap().unwrap();
    assert_eq!(made.expose().len(), 16);
    assert_eq!(manage(&mut net, 0, Remove, "never there"), Ok(None));
    assert_eq!(manage(&mut net, 0, Remove, "mine"), Ok(None));
    assert_eq!(manage(&mut net, 1, Add, "mine"), Ok(Some(token("mine"))), "it is free again");
}

#[test]
fn nobody_removes_tokens_of_others() {
    let mut net = Net::new(server());
    net.join(with_connector("first"));
    net.join(provider());
    let connector = net.join(client("first"));
    let forward = net.join(client("forward"));
    for text in ["first", "forward", "reverse-token"] {
        assert_eq!(manage(&mut net, 1, ConnectorOperation::Remove, text), Ok(None));
    }
    net.open(connector, 0);
    assert!(net.clients[forward].stopped.is_none());
    assert_eq!(net.server.engine.stats().links, 4);
}

#[test]
fn clients_without_permission_are_refused() {
    let mut net = Net::agent();
    for number in [0, 1] {
        let answer = manage(&mut net, number, ConnectorOperation::Add, "more");
        assert_eq!(answer, Err("Unauthorized connector management attempt".into()));
    }
}

#[test]
fn connectors_survive_the_return_of_their_provider_but_not_its_end() {
    let mut net = Net::new(server());
    net.join(with_connector("first"));
    let connector = net.join(client("first"));
    net.cut(0);
    net.advance(Duration::from_secs(5));
    net.open(connector, 0);
    assert!(net.clients[connector].stopped.is_none());
    net.kill(0);
    net.advance(Duration::from_secs(59));
    assert!(net.clients[connector].stopped.is_none());
    net.advance(Duration::from_secs(10));
    assert!(net.clients[connector].stopped.is_some(), "the token is gone");
    // So somebody else may have it.
    net.join(provider());
    assert_eq!(manage(&mut net, 2, ConnectorOperation::Add, "first"), Ok(Some(token("first"))));
}

/// The server waits for a process that will not come back; the one in its place has its tokens then.
#[test]
fn a_provider_that_starts_anew_gets_its_connectors_back() {
    let mut net = Net::new(server());
    net.join(with_connector("first"));
    net.kill(0);
    let again = net.join(with_connector("first"));
    let is_refused = |event: &Event| matches!(event, Event::ConnectorRefused { .. });
    assert!(net.clients[again].events.iter().any(is_refused));
    net.advance(Duration::from_secs(60 + 60));
    let connector = net.join(client("first"));
    net.open(connector, again);
    let refusals = net.clients[again].events.iter().filter(|event| is_refused(event)).count();
    assert!(refusals < 12, "{refusals}");
}

/// There are others, but they are none of its connectors' business.
#[test]
fn a_provider_that_hangs_is_waited_for() {
    let mut net = Net::new(server());
    net.join(with_connector("first"));
    net.join(with_connector("second"));
    let connector = net.join(client("first"));
    net.frozen.push(0);
    let app = net.request(connector);
    net.server.sent.iter().for_each(|(_, message)| assert_ne!(message[1], kind::DISCONNECT));
    net.advance(Duration::from_secs(8));
    let connects = net.server.sent.iter().filter(|(_, message)| message[1] == kind::CONNECT).count();
    assert_eq!(connects, 1, "it is asked once");
    assert_eq!(net.clients[1].dialed.len(), 1, "the link only");
    net.frozen.clear();
    net.drive();
    assert_eq!(net.got(connector, app)[2..4], *b"\x05\x00");
}

#[test]
fn providers_with_one_token_share_a_limit() {
    let mut config = server();
    config.relay.limits.managed_connectors = 3;
    config.relay.limits.tokens = 3;
    let mut net = Net::new(config);
    net.join(provider());
    net.join(provider());
    for (number, text) in [(0, "a"), (1, "b"), (1, "c")] {
        assert_eq!(manage(&mut net, number, ConnectorOperation::Add, text), Ok(Some(token(text))));
    }
    for number in [0, 1] {
        let more = manage(&mut net, number, ConnectorOperation::Add, "d");
        assert_eq!(more, Err("too many tokens".into()));
    }
    assert_eq!(manage(&mut net, 0, ConnectorOperation::Add, "a"), Ok(Some(token("a"))), "it is there");
    for (text, fits) in [("own", true), ("too many", false)] {
        let ticket = net.server.ticket();
        let own = ForwardToken { token: Some(token(text)), ..ForwardToken::default() };
        net.server.input(Input::Command(Command::AddToken { ticket, token: NewToken::Forward(own) }));
        assert_eq!(net.server.tokens[&ticket].is_ok(), fits, "{text}");
    }
    assert_eq!(manage(&mut net, 1, ConnectorOperation::Remove, "b"), Ok(None));
    assert_eq!(manage(&mut net, 0, ConnectorOperation::Add, "d"), Ok(Some(token("d"))));
}

/// That a token is taken says that it is one.
#[test]
fn providers_can_not_guess_tokens() {
    let mut net = Net::new(server());
    net.join(provider());
    let answers: Vec<_> = (0..100).map(|_| manage(&mut net, 0, ConnectorOperation::Add, "forward")).collect();
    let told = answers.iter().filter(|answer| **answer == Err("connector token already exists".into()));
    assert_eq!(told.count(), 30);
    assert!(manage(&mut net, 0, ConnectorOperation::Add, "another").is_err());
    net.advance(Duration::from_secs(2));
    assert_eq!(manage(&mut net, 0, ConnectorOperation::Add, "another"), Ok(Some(token("another"))));
}

/// Others at its address have guessed too often: a provider asks again later.
#[test]
fn a_provider_is_not_shut_out_for_good_by_guesses_of_others() {
    let mut net = Net::new(server());
    net.join(with_connector("first"));
    net.join(provider());
    for _ in 0..30 {
        manage(&mut net, 1, ConnectorOperation::Add, "forward").unwrap_err();
    }
    let late = net.join(with_connector("late"));
    let added = |net: &Net| {
        net.clients[late].events.iter().any(|event| matches!(event, Event::ConnectorAdded { .. }))
    };
    assert!(!added(&net));
    assert!(manage(&mut net, 0, ConnectorOperation::Add, "first").is_ok(), "one's own is no guess");
    net.advance(Duration::from_secs(10));
    assert!(added(&net));
}
