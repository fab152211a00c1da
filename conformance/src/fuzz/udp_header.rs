//! Datagrams with the header of SOCKS5.

use bytes::Bytes;
use linksocks_sansio::socks5::{Datagram, DatagramError, SocksAddr, SocksAddrError, TargetAddr};

/// Bytes are a datagram of an application.
///
/// # Panics
/// If what was read can't be written, or is read differently again; if a header that was cut short is
/// taken for a whole one; if the payload is anything but what follows the header.
pub fn udp_header(data: &[u8]) {
    check_address(data);
    let bytes = Bytes::copy_from_slice(data);
    let Ok(datagram) = Datagram::decode(&bytes) else { return };
    assert!(bytes.ends_with(&datagram.payload));
    datagram.address.validate().expect("what is read is valid");

    let written = datagram.encode().expect("what is valid can be written");
    assert_eq!(Datagram::decode(&written).as_ref(), Ok(&datagram));
    let header = written.len() - datagram.payload.len();
    assert!(header <= bytes.len() - datagram.payload.len() + 16, "an address in words grows to 16 bytes");
    for length in 0..header {
        assert_eq!(Datagram::decode(&written.slice(..length)), Err(DatagramError::Truncated));
    }
}

/// Bytes are an address as it stands in requests, replies and datagrams.
fn check_address(data: &[u8]) {
    let mut rest = data;
    match SocksAddr::decode(&mut rest) {
        Ok(address) => {
            assert!(data.ends_with(rest), "what follows is left");
            let whole = &data[..data.len() - rest.len()];
            for length in 0..whole.len() {
                let error = SocksAddr::decode(&mut &whole[..length]).expect_err("it is cut short");
                let SocksAddrError::Truncated(missing) = error else { panic!("{error}") };
                assert!((1..=whole.len() - length).contains(&missing.0), "never more than is missing");
            }
            if let Ok(target) = TargetAddr::try_from(address) {
                let mut written = Vec::new();
                target.encode(&mut written).expect("what is read is valid");
                let again = SocksAddr::decode(&mut &written[..]).expect("what was written can be read");
                assert_eq!(TargetAddr::try_from(again).as_ref(), Ok(&target));
            }
        }
        Err(SocksAddrError::Truncated(missing)) => assert!(missing.0 > 0, "something is missing"),
        Err(SocksAddrError::UnknownType(kind)) => assert_eq!(Some(&kind), data.first()),
    }
}
