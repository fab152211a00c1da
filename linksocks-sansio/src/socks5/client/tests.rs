use quickcheck::quickcheck;

use super::{ClientError, ClientHandshake, ClientStatus};
use crate::secret::Credentials;
use crate::socks5::{Handshake, Reply, Request, Status};

const TARGET: &str = "example.com:443";
const REQUEST: &[u8] = b"\x05\x01\x00\x03\x0bexample.com\x01\xbb";

fn handshake(login: bool) -> ClientHandshake {
    let credentials = login.then(|| Credentials::new("user", "word").unwrap());
    ClientHandshake::new(&TARGET.parse().unwrap(), credentials).unwrap().0
}

/// Feeds answers in pieces of the given lengths (then byte by byte) until the end.
fn run(mut client: ClientHandshake, input: &[u8], cuts: &[u8]) -> (Vec<u8>, usize, ClientStatus) {
    let (mut sent, mut consumed) = (Vec::new(), 0);
    let mut lengths = cuts.iter().map(|cut| usize::from(*cut)).chain(std::iter::repeat(1));
    loop {
        let end = (consumed + lengths.next().unwrap()).min(input.len());
        let progress = client.handle_bytes(&input[consumed..end]);
        sent.extend_from_slice(&progress.send);
        consumed += progress.consumed;
        if progress.status != ClientStatus::NeedMore || consumed == input.len() {
            return (sent, consumed, progress.status);
        }
    }
}

#[test]
fn a_login_comes_before_the_request() {
    let (mut client, greeting) =
        ClientHandshake::new(&TARGET.parse().unwrap(), Some(Credentials::new("user", "word").unwrap()))
            .unwrap();
    assert_eq!(greeting, b"\x05\x02\x00\x02"[..]);
    assert_eq!(client.handle_bytes(b"\x05\x02").send, b"\x01\x04user\x04word"[..]);
    assert_eq!(client.handle_bytes(b"\x01\x00").send, REQUEST);
    assert!(!format!("{client:?}").contains("word"));
}

#[test]
fn a_proxy_that_wants_no_login_gets_none() {
    assert_eq!(handshake(true).handle_bytes(b"\x05\x00").send, REQUEST);
}

#[test]
fn failures_have_names() {
    for (login, input, error) in [
        (false, &b"\x04\x00"[..], ClientError::NotSocks5(4)),
        (false, b"HTTP/1.1 400", ClientError::NotSocks5(b'H')),
        (false, b"\x05\xff", ClientError::LoginRequired),
        (true, b"\x05\xff", ClientError::NoAcceptableMethod),
        (false, b"\x05\x02", ClientError::UnofferedMethod(2)),
        (true, b"\x05\x01", ClientError::UnofferedMethod(1)),
        (true, b"\x05\x02\x01\x01", ClientError::LoginRejected),
        (false, b"\x05\x00\x04", ClientError::NotSocks5(4)),
        (false, b"\x05\x00\x05\x05", ClientError::Refused(Reply::Refused)),
        (false, b"\x05\x00\x05\x63", ClientError::UnknownReply(0x63)),
        (false, b"\x05\x00\x05\x00\x00\x02", ClientError::UnknownAddressType(2)),
    ] {
        assert_eq!(run(handshake(login), input, &[]).2, ClientStatus::Failed(error), "{input:?}");
    }
    assert_eq!(ClientError::Refused(Reply::Refused).to_string(), "SOCKS5 reply: connection refused");
}

#[test]
fn every_kind_of_bound_address_is_read_to_its_end() {
    for bound in [
        &b"\x01\x00\x00\x00\x00\x00\x00"[..],
        b"\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x50",
        b"\x03\x00\x00\x50",
        b"\x03\x03abc\x00\x50",
    ] {
        let input = [b"\x05\x00\x05\x00\x00", bound, b"behind"].concat();
        let (sent, consumed, status) = run(handshake(false), &input, &[255]);
        assert_eq!((sent.as_slice(), status), (REQUEST, ClientStatus::Connected));
        assert_eq!(&input[consumed..], b"behind");
    }
}

#[test]
fn reading_what_is_needed_never_reads_beyond_the_answer() {
    let input = b"\x05\x02\x01\x00\x05\x00\x00\x03\x03abc\x00\x50behind";
    let mut client = handshake(true);
    let mut position = 0;
    loop {
        let end = position + client.needed();
        let progress = client.handle_bytes(&input[position..end]);
        assert_eq!(progress.consumed, end - position);
        position = end;
        if progress.status == ClientStatus::Connected {
            break;
        }
    }
    assert_eq!(&input[position..], b"behind");
    assert_eq!(client.needed(), 0);
    assert_eq!(client.handle_bytes(b"x").status, ClientStatus::Failed(ClientError::Finished));
}

#[test]
fn it_agrees_with_the_server_side() {
    let credentials = Credentials::new("user", "word").unwrap();
    for login in [None, Some(credentials)] {
        let (mut client, greeting) = ClientHandshake::new(&TARGET.parse().unwrap(), login.clone()).unwrap();
        let mut server = Handshake::new(login.map(Into::into));
        let mut to_server = greeting;
        let target = loop {
            let progress = server.handle_bytes(&to_server);
            if let Status::Request(Request::Connect(target)) = progress.status {
                break target;
            }
            assert_eq!(progress.status, Status::NeedMore);
            to_server = client.handle_bytes(&progress.reply).send;
        };
        assert_eq!(target.to_string(), TARGET);
        let reply = Reply::Succeeded.encode("[::1]:1".parse().unwrap());
        assert_eq!(client.handle_bytes(&reply).status, ClientStatus::Connected);
    }
}

quickcheck! {
    fn cuts_make_no_difference(login: bool, noise: Vec<u8>, cuts: Vec<u8>) -> bool {
        let mut input = if login { b"\x05\x02\x01\x00".to_vec() } else { b"\x05\x00".to_vec() };
        input.extend_from_slice(b"\x05\x00\x00\x01");
        input.extend(noise);
        run(handshake(login), &input, &cuts) == run(handshake(login), &input, &[])
    }

    fn arbitrary_answers_are_harmless(login: bool, input: Vec<u8>, cuts: Vec<u8>) -> bool {
        run(handshake(login), &input, &cuts).1 <= input.len()
    }
}
