use std::sync::Arc;

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::{Handshake, HandshakeError, Request, Status};
use crate::secret::Credentials;
use crate::socks5::{SocksAddr, TargetAddr, TargetError};

/// The longest message of a handshake: a login with 255 bytes each.
const LONGEST_MESSAGE: usize = 1 + 1 + 255 + 1 + 255;
/// The longest answer of a handshake: method, login verdict, reply.
const LONGEST_ANSWER: usize = 2 + 2 + 10;

/// All that a handshake did.
#[derive(Clone, Debug, PartialEq)]
struct Outcome {
    reply: Vec<u8>,
    status: Status,
    /// Bytes behind the request.
    rest: Vec<u8>,
}

fn credentials() -> Arc<Credentials> {
    Arc::new(Credentials::new("user", "word").unwrap())
}

/// Feeds `input` in pieces that end at `cuts` (taken modulo the length, in any order).
fn run_cut(mut handshake: Handshake, input: &[u8], cuts: &[usize]) -> Outcome {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
    ends.push(input.len());
    ends.sort_unstable();
    let mut outcome = Outcome { reply: Vec::new(), status: Status::NeedMore, rest: Vec::new() };
    let mut start = 0;
    for end in ends {
        let progress = handshake.handle_bytes(&input[start..end]);
        assert!(handshake.buffer.len() < LONGEST_MESSAGE);
        assert!(handshake.buffer.capacity() <= 2 * LONGEST_MESSAGE);
        outcome.reply.extend_from_slice(&progress.reply);
        outcome.status = progress.status;
        start += progress.consumed;
        assert!(start <= end);
        if outcome.status != Status::NeedMore {
            assert_eq!(handshake.buffer.capacity(), 0, "a handshake that is over holds nothing");
            break;
        }
        assert_eq!(start, end, "a handshake that needs more takes all there is");
    }
    assert!(outcome.reply.len() <= LONGEST_ANSWER);
    outcome.rest = input[start..].to_vec();
    outcome
}

fn run(credentials: Option<Arc<Credentials>>, input: &[u8]) -> Outcome {
    run_cut(Handshake::new(credentials), input, &[])
}

/// The outcome of a handshake that ends in `error` after `reply`.
fn failure(reply: &[u8], error: HandshakeError) -> (Vec<u8>, Status) {
    (reply.to_vec(), Status::Failed(error))
}

fn verdict(outcome: Outcome) -> (Vec<u8>, Status) {
    (outcome.reply, outcome.status)
}

/// A valid handshake, all that it should lead to, and places to cut it.
#[derive(Clone, Debug)]
struct Script {
    credentials: Option<Arc<Credentials>>,
    input: Vec<u8>,
    outcome: Outcome,
    cuts: Vec<usize>,
}

impl Arbitrary for Script {
    fn arbitrary(g: &mut Gen) -> Self {
        let (mut input, mut reply) = (Vec::new(), Vec::new());
        let with_login = bool::arbitrary(g);
        let method = if with_login { 2 } else { 0 };

        let mut methods = Vec::<u8>::arbitrary(g);
        methods.truncate(254);
        methods.insert(usize::arbitrary(g) % (methods.len() + 1), method);
        input.extend([5, u8::try_from(methods.len()).unwrap()]);
        input.extend(methods);
        reply.extend([5, method]);

        let credentials = with_login.then(|| {
            let mut text = || "x".repeat(1 + usize::arbitrary(g) % 255);
            let (username, password) = (text(), text());
            input.extend([1, u8::try_from(username.len()).unwrap()]);
            input.extend(username.bytes());
            input.push(u8::try_from(password.len()).unwrap());
            input.extend(password.bytes());
            reply.extend([1, 0]);
            Arc::new(Credentials::new(username, password).unwrap())
        });

        let target = TargetAddr::arbitrary(g);
        let command = *g.choose(&[1, 3]).unwrap();
        input.extend([5, command, u8::arbitrary(g)]);
        let address = input.len();
        target.encode(&mut input).unwrap();
        let request = match (command, SocksAddr::decode(&mut &input[address..]).unwrap()) {
            (1, _) => Request::Connect(target),
            (_, SocksAddr::Ip(sender)) => Request::UdpAssociate(sender),
            (_, SocksAddr::Name(_, port)) => Request::UdpAssociate(([0, 0, 0, 0], port).into()),
        };

        let rest = Vec::arbitrary(g);
        input.extend(&rest);
        let outcome = Outcome { reply, status: Status::Request(request), rest };
        Self { credentials, input, outcome, cuts: Arbitrary::arbitrary(g) }
    }
}

quickcheck! {
    fn valid_handshakes_succeed_however_they_are_cut(script: Script) -> bool {
        let Script { credentials, input, outcome, cuts } = script;
        let each_byte: Vec<_> = (0..input.len()).collect();
        let run = |cuts| run_cut(Handshake::new(credentials.clone()), &input, cuts);
        run(&[]) == outcome && run(&cuts) == outcome && run(&each_byte) == outcome
    }

    fn damaged_handshakes_end_alike_however_they_are_cut(script: Script, damage: Vec<(usize, u8)>) -> bool {
        let Script { credentials, mut input, cuts, .. } = script;
        for (place, byte) in damage {
            let place = place % input.len();
            input[place] = byte;
        }
        let each_byte: Vec<_> = (0..input.len()).collect();
        let run = |cuts| run_cut(Handshake::new(credentials.clone()), &input, cuts);
        run(&[]) == run(&cuts) && run(&[]) == run(&each_byte)
    }

    fn garbage_is_bounded(garbage: Vec<u8>, with_login: bool, cuts: Vec<usize>) -> bool {
        // Behind each stage of a good handshake, so that garbage reaches every parser.
        let good: &[u8] = match with_login {
            true => b"\x05\x01\x02\x01\x04user\x04word\x05\x01\x00\x03",
            false => b"\x05\x01\x00\x05\x01\x00\x03",
        };
        (0..=good.len()).all(|len| {
            let input = [&good[..len], &garbage].concat();
            let handshake = Handshake::new(with_login.then(credentials));
            let outcome = run_cut(handshake, &input, &cuts);
            input.ends_with(&outcome.rest)
        })
    }

    fn an_unfinished_handshake_just_waits(script: Script) -> bool {
        let Script { credentials, input, outcome, .. } = script;
        let complete = input.len() - outcome.rest.len();
        (0..complete).all(|len| {
            let partial = run(credentials.clone(), &input[..len]);
            partial.status == Status::NeedMore && outcome.reply.starts_with(&partial.reply)
        })
    }
}

#[test]
fn each_step_is_answered_as_soon_as_it_is_complete() {
    let mut handshake = Handshake::new(Some(credentials()));
    let steps: [(&[u8], &[u8]); 5] = [
        (b"\x05\x02\x00", b""),
        (b"\x02", b"\x05\x02"),
        (b"\x01\x04user\x04wor", b""),
        (b"d", b"\x01\x00"),
        (b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00", b""),
    ];
    for (input, reply) in steps {
        let progress = handshake.handle_bytes(input);
        assert_eq!((&progress.reply[..], progress.status), (reply, Status::NeedMore));
        assert_eq!(progress.consumed, input.len());
    }
    let progress = handshake.handle_bytes(b"\x50data");
    assert_eq!(progress.status, Status::Request(Request::Connect("127.0.0.1:80".parse().unwrap())));
    assert_eq!((progress.consumed, progress.reply.len()), (1, 0));
}

#[test]
fn everything_in_one_piece_is_answered_in_order_and_keeps_the_data_behind() {
    let input = b"\x05\x01\x02\x01\x04user\x04word\x05\x01\x00\x03\x0bexample.com\x01\xbb\x16\x03\x01";
    let outcome = run(Some(credentials()), input);
    assert_eq!(outcome.reply, b"\x05\x02\x01\x00");
    assert_eq!(outcome.status, Status::Request(Request::Connect("example.com:443".parse().unwrap())));
    assert_eq!(outcome.rest, b"\x16\x03\x01");
}

#[test]
fn every_address_type_waits_for_its_last_byte() {
    let requests: [(&[u8], &str); 3] = [
        (b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50", "192.0.2.1:80"),
        (b"\x05\x01\x00\x03\x03a.b\x00\x50", "a.b:80"),
        (b"\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50", "[2001:db8::1]:80"),
    ];
    for (request, target) in requests {
        let input = [b"\x05\x01\x00", request].concat();
        for len in 0..input.len() {
            assert_eq!(run(None, &input[..len]).status, Status::NeedMore, "{target} cut at {len}");
        }
        assert_eq!(run(None, &input).status, Status::Request(Request::Connect(target.parse().unwrap())));
    }
}

#[test]
fn something_else_than_socks5_gets_no_answer() {
    for first in (0..=u8::MAX).filter(|first| *first != 5) {
        let error = HandshakeError::NotSocks5(first);
        assert_eq!(verdict(run(None, &[first])), failure(b"", error));
        assert_eq!(verdict(run(Some(credentials()), &[first, 1, 0])), failure(b"", error));
    }
}

#[test]
fn a_method_is_chosen_only_if_it_is_offered_and_wanted() {
    let none = || failure(b"\x05\xff", HandshakeError::NoAcceptableMethod);
    assert_eq!(verdict(run(None, b"\x05\x00")), none());
    assert_eq!(verdict(run(None, b"\x05\x02\x01\x02")), none());
    assert_eq!(verdict(run(Some(credentials()), b"\x05\x00")), none());
    assert_eq!(verdict(run(Some(credentials()), b"\x05\x02\x00\x01")), none());
    assert_eq!(run(None, b"\x05\x03\x02\x01\x00").reply, b"\x05\x00");
    assert_eq!(run(Some(credentials()), b"\x05\x03\x00\x01\x02").reply, b"\x05\x02");
}

#[test]
fn a_request_is_not_reached_without_the_right_login() {
    let greeting = b"\x05\x01\x02".as_slice();
    let request = b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50".as_slice();
    let wrong: [&[u8]; 5] = [
        b"\x01\x04user\x04wort",
        b"\x01\x04uzer\x04word",
        b"\x01\x04user\x03wor",
        b"\x01\x04user\x00",
        b"\x01\x00\x00",
    ];
    for login in wrong {
        let outcome = run(Some(credentials()), &[greeting, login, request].concat());
        assert_eq!(verdict(outcome), failure(b"\x05\x02\x01\x01", HandshakeError::WrongCredentials));
    }
    let outcome = run(Some(credentials()), &[greeting, request].concat());
    assert_eq!(verdict(outcome), failure(b"\x05\x02\x01\x01", HandshakeError::LoginVersion(5)));
}

#[test]
fn unusable_requests_are_refused_with_the_code_that_fits() {
    let cases: [(&[u8], u8, HandshakeError); 9] = [
        (b"\x04\x01\x00", 1, HandshakeError::RequestVersion(4)),
        (b"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", 7, HandshakeError::UnsupportedCommand(2)),
        (b"\x05\x00", 7, HandshakeError::UnsupportedCommand(0)),
        (b"\x05\x01\x00\x02", 8, HandshakeError::UnsupportedAddress(2)),
        (b"\x05\x03\x00\x00", 8, HandshakeError::UnsupportedAddress(0)),
        (b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x00", 1, HandshakeError::Target(TargetError::ZeroPort)),
        (b"\x05\x01\x00\x03\x00\x00\x50", 1, HandshakeError::Target(TargetError::EmptyHost)),
        (b"\x05\x01\x00\x03\x03a\0b\x00\x50", 1, HandshakeError::Target(TargetError::InvalidHost)),
        (b"\x05\x01\x00\x03\x01\xff\x00\x50", 1, HandshakeError::Target(TargetError::InvalidHost)),
    ];
    for (request, code, error) in cases {
        let outcome = run(None, &[b"\x05\x01\x00", request].concat());
        let reply = [5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(verdict(outcome), failure(&reply, error));
    }
}

#[test]
fn an_association_may_leave_its_sender_open() {
    let cases: [(&[u8], &str); 4] = [
        (b"\x01\x00\x00\x00\x00\x00\x00", "0.0.0.0:0"),
        (b"\x01\x7f\x00\x00\x01\x04\x00", "127.0.0.1:1024"),
        (b"\x03\x09localhost\x04\x00", "0.0.0.0:1024"),
        (b"\x03\x00\x00\x00", "0.0.0.0:0"),
    ];
    for (address, sender) in cases {
        let outcome = run(None, &[b"\x05\x01\x00\x05\x03\x00", address].concat());
        assert_eq!(outcome.status, Status::Request(Request::UdpAssociate(sender.parse().unwrap())));
    }
}

#[test]
fn the_longest_login_fits_and_is_dropped_afterwards() {
    let (username, password) = ("u".repeat(255), "p".repeat(255));
    let login = [b"\x01\xff", username.as_bytes(), b"\xff", password.as_bytes()].concat();
    assert_eq!(login.len(), LONGEST_MESSAGE);
    let credentials = Arc::new(Credentials::new(username, password).unwrap());

    let mut handshake = Handshake::new(Some(credentials));
    let _ = handshake.handle_bytes(b"\x05\x01\x02");
    let (last, all_but_last) = login.split_last().unwrap();
    assert_eq!(handshake.handle_bytes(all_but_last).status, Status::NeedMore);
    assert_eq!(handshake.buffer.len(), LONGEST_MESSAGE - 1);
    assert_eq!(handshake.handle_bytes(&[*last]).reply, b"\x01\x00"[..]);
    assert!(handshake.buffer.is_empty());
}

#[test]
fn bytes_after_the_end_are_not_taken() {
    let finished = Status::Failed(HandshakeError::Finished);
    let inputs: [&[u8]; 2] = [b"GET / HTTP/1.1\r\n", b"\x05\x01\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00"];
    for input in inputs {
        let mut handshake = Handshake::new(None);
        assert_ne!(handshake.handle_bytes(input).status, Status::NeedMore);
        let progress = handshake.handle_bytes(b"\x05\x01\x00");
        assert_eq!((progress.status, progress.consumed, progress.reply.len()), (finished.clone(), 0, 0));
    }
}

#[test]
fn debug_output_shows_no_password() {
    let mut handshake = Handshake::new(Some(credentials()));
    let _ = handshake.handle_bytes(b"\x05\x01\x02\x01\x04user\x04wor");
    assert_eq!(format!("{handshake:?}"), "Handshake { expected: Login, .. }");
}
