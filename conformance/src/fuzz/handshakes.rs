//! Handshakes of SOCKS5 and HTTP CONNECT, whose other side may say anything.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use linksocks_sansio::Credentials;
use linksocks_sansio::http::{ConnectHandshake, ConnectStatus};
use linksocks_sansio::socks5::{
    ClientHandshake, ClientStatus, Handshake, HandshakeError, Request, Status, TargetAddr,
};

use super::{PIECES, split_first};

/// The longest head of an HTTP answer.
const MAX_HEAD: usize = 64 << 10;

/// The longest messages of a SOCKS5 client: greeting, login, request.
const LONGEST_HANDSHAKE: usize = 2 + 255 + (3 + 2 * 255) + (3 + 1 + 1 + 255 + 2);

/// What came of some bytes.
struct Step<S> {
    /// What was said in answer.
    said: Bytes,
    consumed: usize,
    /// `None`: more must come.
    end: Option<S>,
}

/// What came of all bytes.
#[derive(Debug, PartialEq)]
struct Outcome<S> {
    said: Vec<u8>,
    consumed: usize,
    end: Option<S>,
}

/// Gives `input` to a handshake in pieces until it is over. `piece`: the length of the next one.
fn talk<H, S>(
    handshake: &mut H,
    input: &[u8],
    piece: impl Fn(&H) -> usize,
    mut step: impl FnMut(&mut H, &[u8]) -> Step<S>,
) -> Outcome<S> {
    let mut outcome = Outcome { said: Vec::new(), consumed: 0, end: None };
    while outcome.end.is_none() && outcome.consumed < input.len() {
        let rest = &input[outcome.consumed..];
        let piece = &rest[..piece(handshake).min(rest.len())];
        let step = step(handshake, piece);
        assert!(step.consumed <= piece.len(), "no more is taken than there is");
        assert!(step.end.is_some() || step.consumed == piece.len(), "all is taken as long as there is more");
        outcome.said.extend_from_slice(&step.said);
        outcome.consumed += step.consumed;
        outcome.end = step.end;
    }
    outcome
}

/// What comes of the input, which must not depend on how it is cut.
fn in_any_pieces<H, S: Debug + PartialEq>(
    new: impl Fn() -> H,
    input: &[u8],
    step: impl Fn(&mut H, &[u8]) -> Step<S> + Copy,
    equal: impl Fn(&Outcome<S>, &Outcome<S>) -> bool,
) -> Outcome<S> {
    let [first, others @ ..] = PIECES.map(|length| talk(&mut new(), input, |_| length, step));
    for other in others {
        assert!(equal(&first, &other), "cuts make a difference: {first:?}, {other:?}");
    }
    first
}

fn credentials() -> Credentials {
    Credentials::new("user", "word").expect("they have a usual length")
}

/// The first byte says whether there is a login, the rest is what an application says at the SOCKS port.
///
/// # Panics
/// If it matters how that is cut; if more is taken than belongs to the handshake; if the same request is
/// understood differently when it is written in the usual way.
pub fn socks5_server(data: &[u8]) {
    let (mode, input) = split_first(data);
    let login = (mode & 1 == 1).then(credentials);
    let new = || Handshake::new(login.clone().map(Arc::new));
    let step = |handshake: &mut Handshake, piece: &[u8]| {
        let progress = handshake.handle_bytes(piece);
        let end = Some(progress.status).filter(|status| *status != Status::NeedMore);
        if end.is_some() {
            let more = handshake.handle_bytes(piece);
            assert_eq!((more.consumed, more.status), (0, Status::Failed(HandshakeError::Finished)));
        }
        Step { said: progress.reply, consumed: progress.consumed, end }
    };
    let outcome = in_any_pieces(new, input, step, Outcome::eq);
    assert!(outcome.consumed <= LONGEST_HANDSHAKE, "what is no handshake is not kept");
    if let Some(Status::Request(request)) = outcome.end {
        let welcome: &[u8] = if login.is_some() { b"\x05\x02\x01\x00" } else { b"\x05\x00" };
        assert_eq!(outcome.said, welcome);
        let usual = talk(&mut new(), &usual_request(&request, login.is_some()), |_| usize::MAX, step);
        assert_eq!((usual.said, usual.end), (outcome.said, Some(Status::Request(request))));
    }
}

/// A whole handshake for a request.
fn usual_request(request: &Request, has_login: bool) -> Bytes {
    let mut bytes = BytesMut::new();
    let greeting: &[u8] = if has_login { b"\x05\x01\x02\x01\x04user\x04word" } else { b"\x05\x01\x00" };
    bytes.extend_from_slice(greeting);
    let (command, target) = match request {
        Request::Connect(target) => (1, target.clone()),
        // Any port will do, and a target has one.
        Request::UdpAssociate(sender) => (3, (*sender).into()),
    };
    bytes.extend_from_slice(&[5, command, 0]);
    match target.encode(&mut bytes) {
        Ok(()) => {}
        Err(_) => {
            let one = TargetAddr { port: 1, ..target };
            one.encode(&mut bytes).expect("only the port was missing");
            let port = bytes.len() - 2;
            bytes[port..].fill(0);
        }
    }
    bytes.freeze()
}

/// The first byte says whether there is a login and what is asked for, the rest is what a SOCKS5 proxy says.
///
/// # Panics
/// If it matters how that is cut; if more is taken than belongs to the handshake, or than was needed.
pub fn socks5_client(data: &[u8]) {
    let (mode, input) = split_first(data);
    let login = (mode & 1 == 1).then(credentials);
    let target = ["example.com:80", "192.0.2.7:443", "[2001:db8::7]:1"][usize::from(mode >> 1) % 3];
    let target: TargetAddr = target.parse().expect("it is a target");
    let new = || ClientHandshake::new(&target, login.clone()).expect("it can travel").0;
    let step = |handshake: &mut ClientHandshake, piece: &[u8]| {
        let progress = handshake.handle_bytes(piece);
        let end = Some(progress.status).filter(|status| *status != ClientStatus::NeedMore);
        assert_eq!(end.is_none(), handshake.needed() > 0, "more is needed, or nothing");
        Step { said: progress.send, consumed: progress.consumed, end }
    };
    let outcome = in_any_pieces(new, input, step, Outcome::eq);
    let careful = talk(&mut new(), input, ClientHandshake::needed, |handshake, piece| {
        let step = step(handshake, piece);
        let has_failed = matches!(step.end, Some(ClientStatus::Failed(_)));
        assert!(has_failed || step.consumed == piece.len(), "what is needed is taken");
        step
    });
    assert_eq!(careful, outcome);
    if outcome.end == Some(ClientStatus::Connected) {
        let mut request = Vec::new();
        target.encode(&mut request).expect("it can travel");
        assert!(outcome.said.ends_with(&request), "nobody connects who was not asked to");
    }
}

/// Bytes are what an HTTP proxy says in answer to a CONNECT.
///
/// # Panics
/// If it matters how that is cut; if more is taken than belongs to the answer, or than was needed.
pub fn http_connect(data: &[u8]) {
    let step = |handshake: &mut ConnectHandshake, piece: &[u8]| {
        let progress = handshake.handle_bytes(piece);
        let end = Some(progress.status).filter(|status| *status != ConnectStatus::NeedMore);
        Step { said: Bytes::new(), consumed: progress.consumed, end }
    };
    // After a failure nobody cares what is left.
    let equal = |a: &Outcome<ConnectStatus>, b: &Outcome<ConnectStatus>| {
        a.end == b.end && (a.consumed == b.consumed || matches!(a.end, Some(ConnectStatus::Failed(_))))
    };
    let outcome = in_any_pieces(ConnectHandshake::new, data, step, equal);
    let careful = talk(&mut ConnectHandshake::new(), data, ConnectHandshake::needed, |handshake, piece| {
        assert!(!piece.is_empty(), "something is needed");
        step(handshake, piece)
    });
    assert!(equal(&careful, &outcome), "{careful:?}, {outcome:?}");
    match outcome.end {
        None => assert!(unfinished(data) <= MAX_HEAD, "a head is bounded"),
        Some(ConnectStatus::Connected) => {
            let answer = &data[..outcome.consumed];
            assert!(
                answer.ends_with(b"\n\r\n") || answer.ends_with(b"\n\n"),
                "the answer ends with its head"
            );
            assert_eq!(careful.consumed, outcome.consumed);
        }
        Some(ConnectStatus::Failed(error)) => assert!(!error.to_string().contains(char::is_control)),
        Some(ConnectStatus::NeedMore) => unreachable!("that is no end"),
    }
}

/// How many bytes there are behind the last head that is complete.
fn unfinished(data: &[u8]) -> usize {
    let ends = [&b"\n\r\n"[..], b"\n\n"];
    let end = (0..data.len()).rev().find(|end| ends.iter().any(|mark| data[..=*end].ends_with(mark)));
    end.map_or(data.len(), |end| data.len() - end - 1)
}
