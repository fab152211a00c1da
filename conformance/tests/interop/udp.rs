//! UDP ASSOCIATE: datagrams come back as they were sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;

use conformance::interop::Tunnel;
use conformance::interop::pattern::random_bytes;
use conformance::interop::udp::{Association, EchoTarget};
use libtest_mimic::Failed;
use linksocks_sansio::socks5::{Host, TargetAddr};

use crate::TestResult;

/// What the published server relays: its buffer has 4096 bytes.
const USUAL: &[usize] = &[0, 1, 512, 1400, 4000];
/// Up to the longest that fits behind the longest header that an application sends here (of an IPv6 target).
const LARGE: &[usize] = &[4097, 9000, 60_000, 65_507 - 22];

/// Sends datagrams of these sizes and expects each of them back.
fn echo(association: &Association, target: &TargetAddr, source: SocketAddr, sizes: &[usize]) -> TestResult {
    for size in sizes {
        let payload = random_bytes(*size as u64, *size);
        association.send_to(&payload, target)?;
        let (received, from) = association.recv_from().map_err(|error| format!("{size} bytes: {error}"))?;
        if received != payload || from != source.into() {
            let text = format!("{size} bytes came back as {} bytes from {from}", received.len());
            return Err(Failed::from(text));
        }
    }
    Ok(())
}

fn echo_from(tunnel: &Tunnel, ip: IpAddr, sizes: &[usize]) -> TestResult {
    let target = EchoTarget::bind(ip)?;
    let association = Association::open(tunnel.socks())?;
    echo(&association, &target.address().into(), target.address(), sizes)
}

pub(crate) fn udp_over_ipv4(tunnel: &mut Tunnel) -> TestResult {
    echo_from(tunnel, Ipv4Addr::LOCALHOST.into(), USUAL)
}

pub(crate) fn udp_over_ipv6(tunnel: &mut Tunnel) -> TestResult {
    echo_from(tunnel, Ipv6Addr::LOCALHOST.into(), USUAL)
}

pub(crate) fn udp_by_name(tunnel: &mut Tunnel) -> TestResult {
    echo_by_name(tunnel, USUAL)
}

fn echo_by_name(tunnel: &Tunnel, sizes: &[usize]) -> TestResult {
    let target = EchoTarget::bind(Ipv4Addr::LOCALHOST.into())?;
    let name = TargetAddr::new(Host::Name("localhost".to_owned()), target.address().port());
    echo(&Association::open(tunnel.socks())?, &name, target.address(), sizes)
}

pub(crate) fn large_datagrams(tunnel: &mut Tunnel) -> TestResult {
    echo_from(tunnel, Ipv4Addr::LOCALHOST.into(), LARGE)?;
    echo_by_name(tunnel, LARGE)
}

pub(crate) fn large_datagrams_over_ipv6(tunnel: &mut Tunnel) -> TestResult {
    echo_from(tunnel, Ipv6Addr::LOCALHOST.into(), LARGE)
}

pub(crate) fn thirty_udp_associations(tunnel: &mut Tunnel) -> TestResult {
    let target = EchoTarget::bind(Ipv4Addr::LOCALHOST.into())?;
    let (socks, address) = (tunnel.socks(), target.address());
    let user = |number: usize| {
        let association = Association::open(socks)?;
        let sizes: Vec<_> = (0..20).map(|round| 100 + round * 100 + number).collect();
        echo(&association, &address.into(), address, &sizes)
    };
    thread::scope(|scope| {
        let users: Vec<_> = (0..30).map(|number| scope.spawn(move || user(number))).collect();
        users.into_iter().try_for_each(|user| user.join().expect("users don't panic"))
    })
}

/// Asked of our client only: it is the one that reads them.
pub(crate) fn malformed_datagrams_are_harmless(tunnel: &mut Tunnel) -> TestResult {
    let target = EchoTarget::bind(Ipv4Addr::LOCALHOST.into())?;
    let association = Association::open(tunnel.socks())?;
    for malformed in [
        &b""[..],
        b"\0\0\0\x01ab",
        b"\0\0\0\x03\xffshort",
        b"\0\0\0\x09abcdefghijkl",
        b"\0\0\x01\x01\x7f\0\0\x01\0\x07x",
    ] {
        association.send_raw(malformed)?;
    }
    echo(&association, &target.address().into(), target.address(), USUAL)
}
