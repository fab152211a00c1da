use std::net::SocketAddr;

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::{Host, Missing, SocksAddr, SocksAddrError, TargetAddr, TargetError, encode_ip};

impl Arbitrary for Host {
    fn arbitrary(g: &mut Gen) -> Self {
        if bool::arbitrary(g) {
            return Self::Ip(Arbitrary::arbitrary(g));
        }
        let labels = ["a", "example", "xn--bcher-kva", "bücher", "_srv", "例え", "1", "EXAMPLE", "com."];
        let len = 1 + usize::arbitrary(g) % 12;
        let parts: Vec<_> = (0..len).map(|_| *g.choose(&labels).unwrap()).collect();
        // Joined numbers may make an address: the text decides, as everywhere.
        Self::from_wire(&parts.join(".")).unwrap()
    }
}

impl Arbitrary for TargetAddr {
    fn arbitrary(g: &mut Gen) -> Self {
        Self::new(Arbitrary::arbitrary(g), u16::arbitrary(g).max(1))
    }
}

/// The address form of `target`.
fn encoded(target: &TargetAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    target.encode(&mut bytes).unwrap();
    bytes
}

quickcheck! {
    fn text_round_trip(target: TargetAddr) -> bool {
        target.to_string().parse() == Ok(target)
    }

    fn wire_round_trip(target: TargetAddr) -> bool {
        TargetAddr::from_wire(&target.wire_host(), target.port) == Ok(target)
    }

    fn socks_round_trip(target: TargetAddr, payload: Vec<u8>) -> bool {
        let mut bytes = encoded(&target);
        bytes.extend_from_slice(&payload);
        let mut input = bytes.as_slice();
        let address = SocksAddr::decode(&mut input).unwrap();
        TargetAddr::try_from(address) == Ok(target) && input == payload
    }

    fn every_truncation_says_how_much_is_missing_at_least(target: TargetAddr) -> bool {
        let bytes = encoded(&target);
        (0..bytes.len()).all(|len| match SocksAddr::decode(&mut &bytes[..len]) {
            Err(SocksAddrError::Truncated(Missing(count))) => (1..=bytes.len() - len).contains(&count),
            Ok(_) | Err(SocksAddrError::UnknownType(_)) => false,
        })
    }

    fn whatever_is_accepted_is_valid_and_keeps_its_text(text: String, port: u16) -> bool {
        match TargetAddr::from_wire(&text, port) {
            Ok(target) => {
                target.validate() == Ok(())
                    && target.to_string().parse().as_ref() == Ok(&target)
                    && (matches!(target.host, Host::Ip(_)) || target.wire_host() == text)
            }
            Err(_) => true,
        }
    }

    fn a_socket_address_keeps_ip_and_port(address: SocketAddr) -> bool {
        let mut bytes = Vec::new();
        encode_ip(address, &mut bytes);
        let target = TargetAddr::from(address);
        SocksAddr::decode(&mut bytes.as_slice())
            == Ok(SocksAddr::Ip(SocketAddr::new(address.ip(), address.port())))
            && target == TargetAddr::new(address.ip().into(), address.port())
    }

    fn random_bytes_decode_without_panic_and_only_forwards(bytes: Vec<u8>) -> bool {
        let mut input = bytes.as_slice();
        let _ = SocksAddr::decode(&mut input);
        bytes.ends_with(input)
    }
}

#[test]
fn the_address_forms_are_those_of_rfc_1928() {
    let forms: [(&str, &[u8]); 4] = [
        ("192.0.2.1:80", b"\x01\xc0\x00\x02\x01\x00\x50"),
        ("example.com:443", b"\x03\x0bexample.com\x01\xbb"),
        ("[2001:db8::1]:258", b"\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x01\x02"),
        ("[::ffff:192.0.2.1]:1", b"\x04\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01\x00\x01"),
    ];
    for (text, bytes) in forms {
        let target: TargetAddr = text.parse().unwrap();
        assert_eq!(encoded(&target), bytes, "{text}");
        assert_eq!(target.to_string(), text);
    }
}

#[test]
fn ip_addresses_are_recognised_in_any_form() {
    let ip = |text: &str| Host::Ip(text.parse().unwrap());
    assert_eq!(Host::from_wire("::1"), Ok(ip("::1")));
    assert_eq!(Host::from_wire("::FFFF:127.0.0.1"), Ok(ip("::ffff:127.0.0.1")));
    assert_eq!(TargetAddr::try_from(SocksAddr::Name(b"127.0.0.1", 1)).unwrap().host, ip("127.0.0.1"));
    assert_eq!(Host::from_wire("127.0.0.1.example"), Ok(Host::Name("127.0.0.1.example".into())));
    assert_eq!(TargetAddr::from_wire("::ffff:127.0.0.1", 1).unwrap().wire_host(), "::ffff:127.0.0.1");
}

#[test]
fn brackets_are_for_the_text_form_only() {
    assert_eq!(Host::from_wire("[::1]"), Err(TargetError::InvalidHost));
    assert_eq!("[::1]".parse(), Host::from_wire("::1"));
    for text in ["[127.0.0.1]", "[example.com]", "[]", "[::1", "::1]", "[fe80::1%eth0]", "fe80::1%eth0"] {
        assert_eq!(text.parse::<Host>(), Err(TargetError::InvalidHost), "{text}");
    }
}

#[test]
fn unusable_targets_are_refused_from_every_source() {
    let long = "x".repeat(256);
    let cases = [
        ("", 1, TargetError::EmptyHost),
        (&long, 1, TargetError::HostTooLong(256)),
        ("example.com", 0, TargetError::ZeroPort),
        ("127.0.0.1", 0, TargetError::ZeroPort),
        ("exa mple", 1, TargetError::InvalidHost),
        ("example\r\nHost: x", 1, TargetError::InvalidHost),
        ("example\0", 1, TargetError::InvalidHost),
        ("example\u{85}", 1, TargetError::InvalidHost),
        ("example\u{a0}", 1, TargetError::InvalidHost),
        ("example:80", 1, TargetError::InvalidHost),
    ];
    for (name, port, error) in cases {
        assert_eq!(TargetAddr::from_wire(name, port), Err(error), "{name:?}");
        assert_eq!(TargetAddr::try_from(SocksAddr::Name(name.as_bytes(), port)), Err(error), "{name:?}");
        let target = TargetAddr::new(Host::Name(name.into()), port);
        let mut out = Vec::new();
        assert_eq!(target.encode(&mut out), Err(error), "{name:?}");
        assert!(out.is_empty());
    }
    assert_eq!(TargetAddr::try_from(SocksAddr::Name(b"\xff", 1)), Err(TargetError::InvalidHost));
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    assert_eq!(TargetAddr::try_from(SocksAddr::Ip(address)), Err(TargetError::ZeroPort));
    assert!(TargetAddr::from_wire(&long[1..], 65_535).is_ok());
}

#[test]
fn malformed_texts_say_what_is_wrong() {
    let cases = [
        ("", TargetError::InvalidPort),
        ("example.com", TargetError::InvalidPort),
        ("example.com:", TargetError::InvalidPort),
        ("example.com:+80", TargetError::InvalidPort),
        ("example.com:65536", TargetError::InvalidPort),
        ("example.com:0", TargetError::ZeroPort),
        (":80", TargetError::EmptyHost),
        ("::1:80", TargetError::InvalidHost),
        ("a:b:80", TargetError::InvalidHost),
        ("[::1]", TargetError::InvalidHost),
        ("[::1]80", TargetError::InvalidHost),
        ("[::1]:", TargetError::InvalidPort),
    ];
    for (text, error) in cases {
        assert_eq!(text.parse::<TargetAddr>(), Err(error), "{text:?}");
    }
}

#[test]
fn an_unknown_address_type_is_reported_at_once() {
    for kind in (0..=u8::MAX).filter(|kind| ![1, 3, 4].contains(kind)) {
        assert_eq!(SocksAddr::decode(&mut [kind].as_slice()), Err(SocksAddrError::UnknownType(kind)));
    }
}
