//! Datagrams come back as they were sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use conformance::interop::pattern::random_bytes;
use conformance::interop::udp::{Association, EchoTarget};
use linksocks_sansio::socks5::{Host, TargetAddr};

use super::{Outcome, forward};
use crate::cast::{Stage, Use, wait};

const SIZES: &[usize] = &[0, 1, 1400, 9000, 60_000];

fn note(stage: &Stage, name: &str, received: &[u8]) {
    let digest = crate::script::digest(received);
    stage.note(name, "application", &format!("{} bytes ({digest}) from the target", received.len()));
}

/// Sends to an echo target at an address and by name.
fn echo(stage: &Stage, name: &str, association: &Association, ip: IpAddr) -> Outcome {
    let target = EchoTarget::bind(ip)?;
    let named = TargetAddr::new(Host::Name("localhost".to_owned()), target.address().port());
    // By name the family would be a matter of the resolver.
    let targets =
        if ip.is_ipv4() { vec![target.address().into(), named] } else { vec![target.address().into()] };
    for to in targets {
        for &size in SIZES {
            let payload = random_bytes(size as u64, size);
            association.send_to(&payload, &to)?;
            let (received, from) = association.recv_from()?;
            note(stage, name, &received);
            assert!(received == payload && from == target.address().into(), "{size} bytes to {to}");
        }
    }
    Ok(())
}

pub(super) fn udp_associate(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |_| ())?;
    for name in ["first association", "second association"] {
        let association = Association::open(client.socks()?)?;
        stage.name_port(Use::Association, association.relay, name);
        echo(stage, name, &association, Ipv4Addr::LOCALHOST.into())?;
        stage.keep(association);
    }
    Ok(())
}

pub(super) fn udp_to_ipv6(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |_| ())?;
    let association = Association::open(client.socks()?)?;
    stage.name_port(Use::Association, association.relay, "association");
    echo(stage, "association", &association, Ipv6Addr::LOCALHOST.into())
}

pub(super) fn udp_without_socks(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |config| config.listen = None)?;
    let target = EchoTarget::bind(Ipv4Addr::LOCALHOST.into())?;
    let mut channel = wait(client.handle.open_udp())?;
    for &size in SIZES {
        let payload = random_bytes(size as u64, size);
        wait(channel.send_to(payload.clone(), target.address().into()))?;
        let (received, from) = wait(channel.recv_from()).ok_or("the association has ended")?;
        note(stage, "association", &received);
        assert!(received == payload && from == target.address().into(), "{size} bytes");
    }
    Ok(())
}
