use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use quickcheck::quickcheck;

use super::{Effect, ProxyServer};
use crate::http::Refusal;

/// A target's bytes, and what it does behind them.
#[derive(Clone)]
struct Target {
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Ends,
    Breaks,
    Stays,
}

fn target(bytes: &str, then: Then) -> Target {
    Target { bytes: bytes.into(), then }
}

/// All that came of a connection.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    to_client: String,
    /// Per target: its address and what it got.
    to_targets: Vec<(String, String)>,
    released: usize,
    end: Option<Effect>,
}

struct Run {
    proxy: ProxyServer,
    input: BytesMut,
    targets: VecDeque<Target>,
    current: Option<(Bytes, Then)>,
    outcome: Outcome,
}

impl Run {
    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Dial(address) => {
                self.outcome.to_targets.push((address.to_string(), String::new()));
                match self.targets.pop_front() {
                    Some(Target { bytes, then }) => {
                        self.current = Some((bytes.into(), then));
                        self.proxy.connected();
                    }
                    None => {
                        let refused = self.proxy.refused(Refusal::ConnectionFailed).unwrap();
                        self.apply(refused);
                    }
                }
            }
            Effect::ToTarget(bytes) => {
                assert!(!bytes.is_empty() && self.current.is_some());
                let (_, got) = self.outcome.to_targets.last_mut().unwrap();
                got.push_str(str::from_utf8(&bytes).unwrap());
            }
            Effect::ToClient(bytes) => {
                assert!(!bytes.is_empty());
                self.outcome.to_client.push_str(str::from_utf8(&bytes).unwrap());
            }
            Effect::Release => {
                self.current = None;
                self.outcome.released += 1;
            }
            Effect::EndToClient => self.outcome.to_client.push('$'),
            Effect::EndToTarget => self.outcome.to_targets.last_mut().unwrap().1.push('$'),
            end @ (Effect::Tunnel(_) | Effect::Close(_) | Effect::Reset) => {
                assert!(self.outcome.end.is_none(), "one end");
                self.current = None;
                self.outcome.end = Some(end);
            }
        }
    }

    /// Targets answer whole requests; but one with a length is answered at once.
    fn is_asked(&self) -> bool {
        self.outcome.to_targets.last().is_some_and(|(_, got)| {
            got.contains("\r\n\r\n") && (!got.contains("chunked") || got.ends_with("0\r\n\r\n"))
        })
    }

    /// Until nothing moves. `cut`: the most that is looked at, or has room, at a time.
    fn settle(&mut self, cuts: &mut impl Iterator<Item = usize>) {
        loop {
            let mut moved = false;
            if let (true, Some((bytes, then))) = (self.is_asked(), &mut self.current) {
                let mut piece = bytes.split_to(bytes.len().min(cuts.next().unwrap()));
                let length = piece.len();
                let effect = self.proxy.handle_target(&mut piece);
                moved |= piece.len() < length || effect.is_some();
                let rest = [&piece[..], &bytes[..]].concat();
                *bytes = rest.into();
                if effect.is_none() && bytes.is_empty() {
                    let then = std::mem::replace(then, Then::Stays);
                    let last = match then {
                        Then::Ends => self.proxy.target_ended(false),
                        Then::Breaks => self.proxy.target_lost(),
                        Then::Stays => None,
                    };
                    moved |= last.is_some();
                    last.into_iter().for_each(|effect| self.apply(effect));
                }
                effect.into_iter().for_each(|effect| self.apply(effect));
            }
            if self.outcome.end.is_some() {
                return;
            }
            let before = self.input.len();
            let room = if self.current.is_some() { cuts.next().unwrap() } else { 0 };
            let effect = self.proxy.handle_client(&mut self.input, room);
            moved |= self.input.len() < before || effect.is_some();
            effect.into_iter().for_each(|effect| self.apply(effect));
            if !moved || self.outcome.end.is_some() {
                return;
            }
        }
    }
}

/// Plays a client that sends `input` and then ends, if `ends`.
fn play_cut(input: &str, ends: bool, targets: &[Target], cuts: &[u8]) -> Outcome {
    let mut run = Run {
        proxy: ProxyServer::new(None),
        input: BytesMut::new(),
        targets: targets.to_vec().into(),
        current: None,
        outcome: Outcome::default(),
    };
    let mut cuts = cuts.iter().map(|cut| usize::from(*cut) + 1).chain(std::iter::repeat(1 << 20));
    let mut left = input.as_bytes();
    while !left.is_empty() && run.outcome.end.is_none() {
        let (next, rest) = left.split_at(cuts.next().unwrap().min(left.len()));
        run.input.extend_from_slice(next);
        left = rest;
        run.settle(&mut cuts);
    }
    if ends && run.outcome.end.is_none() {
        run.proxy.client_ended();
        run.settle(&mut cuts);
    }
    run.outcome
}

fn play(input: &str, ends: bool, targets: &[Target]) -> Outcome {
    play_cut(input, ends, targets, &[])
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(host: &str) -> String {
    format!("GET http://{host}/ HTTP/1.1\r\n\r\n")
}

fn got(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

#[test]
fn several_requests_on_one_connection_go_to_their_targets() {
    let input = [get("a"), get("b:81"), "POST http://c/ HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyz".to_owned()]
        .concat();
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nT: t\r\n\r\n";
    let targets = [target(OK, Then::Stays), target(chunked, Then::Ends), target(OK, Then::Breaks)];
    let outcome = play(&input, true, &targets);
    assert_eq!(outcome.to_client, [OK, chunked, OK].concat());
    let post = "POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 3\r\nConnection: close\r\n\r\nxyz";
    let expected = [("a:80", got("a")), ("b:81", got("b:81")), ("c:80", post.to_owned())];
    assert_eq!(outcome.to_targets, expected.map(|(address, got)| (address.to_owned(), got)));
    assert_eq!((outcome.released, outcome.end), (3, Some(Effect::Close(None))));
}

#[test]
fn a_body_without_a_length_is_sent_in_chunks() {
    let until_close = target("HTTP/1.0 200 OK\r\n\r\nhello", Then::Ends);
    let input = [get("a"), get("a")].concat();
    let outcome = play(&input, false, &[until_close.clone(), until_close.clone()]);
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!((outcome.to_client.as_str(), outcome.end), ([answer, answer].concat().as_str(), None));

    let old = play("GET http://a/ HTTP/1.0\r\n\r\n", false, &[until_close]);
    assert_eq!(old.to_client, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello");
    assert_eq!((old.released, old.end), (1, Some(Effect::Close(None))));
}

#[test]
fn a_body_that_is_cut_off_never_looks_whole() {
    for (bytes, then) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", Then::Ends),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", Then::Breaks),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Then::Ends),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", Then::Breaks),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5x\r\nhello\r\n0\r\n\r\n", Then::Ends),
        ("HTTP/1.1 200 OK\r\n\r\nhello", Then::Breaks),
    ] {
        let outcome = play(&get("a"), false, &[target(bytes, then)]);
        assert_eq!((outcome.end, outcome.released), (Some(Effect::Reset), 0), "{bytes:?}");
        assert!(!outcome.to_client.contains("0\r\n\r\n"), "{bytes:?}");
    }
}

#[test]
fn a_target_without_a_usable_answer_is_502() {
    for (bytes, then) in [
        ("", Then::Ends),
        ("", Then::Breaks),
        ("HTTP/1.1 200 OK\r\n", Then::Ends),
        ("HTTP/1.1 100 Continue\r\n\r\n", Then::Breaks),
        ("SSH-2.0\r\n\r\n", Then::Stays),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Then::Stays),
    ] {
        let outcome = play(&get("a"), false, &[target(bytes, then)]);
        let answer = outcome.to_client.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{bytes:?}: {answer}");
        assert!(answer.ends_with("\r\n\r\nConnection failed"), "{bytes:?}: {answer}");
        assert_eq!(outcome.end, Some(Effect::Close(Some(Refusal::ConnectionFailed))), "{bytes:?}");
    }
    let to_head = play("HEAD http://a/ HTTP/1.1\r\n\r\n", false, &[]);
    assert!(to_head.to_client.starts_with("HTTP/1.1 502 ") && to_head.to_client.ends_with("close\r\n\r\n"));
}

#[test]
fn bodiless_answers_end_with_their_head() {
    for (request, answer) in [
        ("HEAD http://a/ HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("GET http://a/ HTTP/1.1\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ("GET http://a/ HTTP/1.1\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET http://a/ HTTP/1.1\r\n\r\n", "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
    ] {
        let targets = [target(answer, Then::Stays), target(OK, Then::Stays)];
        let outcome = play(&[request, &get("b")].concat(), false, &targets);
        assert_eq!((outcome.to_client, outcome.end), ([answer, OK].concat(), None), "{answer:?}");
    }
}

#[test]
fn an_answer_before_the_end_of_the_request_ends_the_connection() {
    let outcome =
        play("POST http://a/ HTTP/1.1\r\nContent-Length: 9\r\n\r\nxyz", false, &[target(OK, Then::Stays)]);
    assert_eq!(
        (outcome.to_client.as_str(), outcome.end, outcome.released),
        (OK, Some(Effect::Close(None)), 0)
    );
}

#[test]
fn a_client_that_asks_for_a_close_gets_one() {
    for request in [
        "GET http://a/ HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nProxy-Connection: close\r\n\r\n",
        "GET http://a/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ] {
        let targets = [target(OK, Then::Stays), target(OK, Then::Stays)];
        let outcome = play(&[request, &get("b")].concat(), false, &targets);
        assert_eq!(outcome.to_client, OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
        assert_eq!((outcome.end, outcome.to_targets.len()), (Some(Effect::Close(None)), 1));
    }
}

#[test]
fn a_client_that_ends_still_gets_its_answers() {
    let input = [get("a"), get("b")].concat();
    let outcome = play(&input, true, &[target(OK, Then::Stays), target(OK, Then::Stays)]);
    assert_eq!((outcome.to_client, outcome.end), ([OK, OK].concat(), Some(Effect::Close(None))));
    for (part, end) in [("", Effect::Close(None)), ("GET http", Effect::Close(None))] {
        assert_eq!(play(part, true, &[]).end, Some(end), "{part}");
    }
    let half = "POST http://a/ HTTP/1.1\r\nContent-Length: 9\r\n\r\nxyz";
    assert_eq!(play(half, true, &[target("", Then::Stays)]).end, Some(Effect::Reset));
}

#[test]
fn a_malformed_request_is_400_and_the_last_one() {
    for request in ["GET / HTTP/1.1\r\n\r\n", "GET http://a/ HTTP/1.1\nHost: a\n\n", "GARBAGE\r\n\r\n"] {
        let input = [&get("a"), request, &get("b")].concat();
        let outcome = play(&input, false, &[target(OK, Then::Stays), target(OK, Then::Stays)]);
        let answer = outcome.to_client.strip_prefix(OK).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(matches!(outcome.end, Some(Effect::Close(Some(Refusal::BadRequest(_))))));
        assert_eq!(outcome.to_targets.len(), 1);
    }
    let long = format!("GET http://a/{} HTTP/1.1\r\n\r\n", "x".repeat(70_000));
    assert!(play(&long, false, &[]).to_client.contains("Request header too large"));
    let chunks = "POST http://a/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n";
    let outcome = play(chunks, false, &[target("", Then::Stays)]);
    assert!(outcome.to_client.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{outcome:?}");
    assert!(!outcome.to_targets[0].1.ends_with("0\r\n\r\n"));
}

#[test]
fn an_upgrade_becomes_a_tunnel() {
    let request = "GET http://a/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nping";
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n";
    let outcome = play(request, true, &[target(&format!("{switch}pong"), Then::Stays)]);
    assert_eq!(outcome.to_client, format!("{switch}pong"));
    assert!(
        outcome.to_targets[0].1.ends_with("Connection: Upgrade\r\n\r\nping$"),
        "{:?}",
        outcome.to_targets
    );
    assert_eq!(outcome.end, None, "the other direction goes on");

    // Each direction ends on its own.
    let half = play(request, false, &[target(switch, Then::Ends)]);
    assert_eq!((half.to_client, half.released, half.end), (format!("{switch}$"), 0, None));
    let ends = play(request, true, &[target(switch, Then::Ends)]);
    assert!(ends.to_targets[0].1.contains("ping"));
    assert_eq!((ends.released, ends.end), (1, Some(Effect::Close(None))));
    assert_eq!(play(request, false, &[target(switch, Then::Breaks)]).end, Some(Effect::Reset));

    // A target that does not want to.
    let refused = play(request, false, &[target(OK, Then::Stays)]);
    let answer = refused.to_client.strip_prefix(OK).unwrap();
    assert!(!refused.to_targets[0].1.contains("ping"));
    assert!(answer.is_empty() && refused.end.is_none(), "the beginning of another method: {answer}");
}

#[test]
fn connect_may_follow_other_requests_and_takes_the_rest() {
    let input = [&get("a"), "CONNECT b:443 HTTP/1.1\r\n\r\nbehind"].concat();
    let outcome = play(&input, false, &[target(OK, Then::Stays)]);
    assert_eq!(outcome.end, Some(Effect::Tunnel("b:443".parse().unwrap())));
    let mut proxy = ProxyServer::new(None);
    let mut input = BytesMut::from("CONNECT b HTTP/1.1\r\n\r\nbehind");
    assert!(proxy.is_idle());
    assert!(matches!(proxy.handle_client(&mut input, 0), Some(Effect::Tunnel(_))));
    assert_eq!(&input[..], b"behind");
}

#[test]
fn only_as_much_goes_to_the_target_as_it_takes() {
    let mut proxy = ProxyServer::new(None);
    let mut input = BytesMut::from(&b"POST http://a/ HTTP/1.1\r\nContent-Length: 6\r\n\r\nabcdef"[..]);
    assert!(matches!(proxy.handle_client(&mut input, 9), Some(Effect::Dial(_))));
    assert_eq!(proxy.handle_client(&mut input, 9), None, "not connected yet");
    proxy.connected();
    assert_eq!(proxy.handle_client(&mut input, 0), None);
    let mut sent = Vec::new();
    while let Some(Effect::ToTarget(bytes)) = proxy.handle_client(&mut input, 4) {
        assert!(bytes.len() <= 4);
        sent.extend_from_slice(&bytes);
    }
    assert!(sent.ends_with(b"\r\n\r\nabcdef"));
}

/// Scenarios that don't depend on how the response is cut into chunks by us.
fn scenarios() -> Vec<(String, Vec<Target>)> {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nT: t\r\n\r\n";
    let post = "POST http://c/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let upgrade = "GET http://a/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nping";
    let switch = "HTTP/1.1 101 Switching\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\npong";
    vec![
        (
            [&get("a"), post, "\r\n\r\n", &get("b"), "CONNECT x:1 HTTP/1.1\r\n\r\nbehind"].concat(),
            vec![target(OK, Then::Ends), target(chunked, Then::Stays), target(OK, Then::Breaks)],
        ),
        ([&get("a"), upgrade].concat(), vec![target(OK, Then::Stays), target(switch, Then::Stays)]),
        ([&get("a"), "GET /x HTTP/1.1\r\n\r\n"].concat(), vec![target(OK, Then::Stays)]),
        (get("a"), vec![target("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", Then::Ends)]),
        ("GET http://a/ HTTP/1.0\r\n\r\n".to_owned(), vec![target("HTTP/1.1 200 OK\r\n\r\nok", Then::Ends)]),
    ]
}

#[test]
fn every_single_cut_gives_the_same_result() {
    for (input, targets) in scenarios() {
        let whole = play(&input, true, &targets);
        for length in 1..=255 {
            assert_eq!(
                play_cut(&input, true, &targets, &[length - 1; 4000]),
                whole,
                "{length} bytes: {input:?}"
            );
        }
    }
}

quickcheck! {
    fn cuts_make_no_difference(cuts: Vec<u8>) -> bool {
        let cuts: Vec<u8> = cuts.iter().map(|cut| cut % 40).collect();
        scenarios().iter().all(|(input, targets)| {
            play_cut(input, true, targets, &cuts) == play(input, true, targets)
        })
    }

    fn arbitrary_bytes_are_harmless(client: Vec<u8>, answer: Vec<u8>, cuts: Vec<u8>) -> bool {
        let ascii = |bytes: &[u8]| bytes.iter().map(|byte| char::from(byte % 128)).collect::<String>();
        let input = format!("POST http://a/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{}", ascii(&client));
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", ascii(&answer));
        let outcome = play_cut(&input, true, &[target(&answer, Then::Ends)], &cuts);
        outcome.end.is_some()
    }
}
