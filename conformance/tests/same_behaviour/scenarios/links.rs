//! Links: how they come about, how many there are, and what happens when one is lost.

use std::thread;
use std::time::Duration;

use conformance::certificates::Authority;
use driver_core::embed::{ClientTls, ServerTls};
use linksocks_sansio::error::{LinkError, StopReason};
use linksocks_sansio::{Event, ServerConfig, ServerUrl};

use super::streams::fetch_many;
use super::{Outcome, TOKEN, client_config, forward, token};
use crate::cast::{Stage, wait};
use crate::relay::Relay;
use crate::script::{Channel, Step, Way};

const SWAP: &[Step<'_>] = &[Step::Swap(3 << 20)];

pub(super) fn four_links(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |config| config.links = 4)?;
    client.watch.wait_for("four links", |event| matches!(event, Event::LinkReady { ready: 4, .. }))?;
    fetch_many(stage, Way::Socks(client.socks()?), 12)
}

pub(super) fn login_in_band(stage: &mut Stage) -> Outcome {
    let server = stage.server("server", ServerConfig::forward(token(TOKEN)?)?, None)?;
    let mut config = client_config(server.handle.local_addr(), TOKEN)?;
    config.server = ServerUrl::parse(&format!("ws://{}/socket/", server.handle.local_addr()))?;
    let client = stage.client("client", config)?;
    Channel::new("swap", Way::Socks(client.socks()?), SWAP, SWAP).run(stage)
}

pub(super) fn tls(stage: &mut Stage) -> Outcome {
    let authority = Authority::new();
    let identity = authority.issue("127.0.0.1");
    let tls = ServerTls::from_pem(identity.chain.as_bytes(), identity.key.as_bytes())?;
    let server = stage.server("server", ServerConfig::forward(token(TOKEN)?)?, Some(tls))?;
    let mut config = client_config(server.handle.local_addr(), TOKEN)?;
    config.server = ServerUrl::parse(&format!("wss://{}", server.handle.local_addr()))?;
    let trust = ClientTls::new().ca_pem(authority.pem.as_bytes())?;
    let client = stage.start_client("client", config, trust)?;
    wait(client.handle.ready())?;
    Channel::new("swap", Way::Socks(client.socks()?), SWAP, SWAP).run(stage)
}

pub(super) fn wrong_token(stage: &mut Stage) -> Outcome {
    let server = stage.server("server", ServerConfig::forward(token(TOKEN)?)?, None)?;
    let config = client_config(server.handle.local_addr(), "another")?;
    let client = stage.start_client("client", config, ClientTls::default())?;
    let reason = wait(client.handle.ready()).err().ok_or("it is let in")?;
    assert!(matches!(reason, StopReason::Link(LinkError::Rejected(_))), "{reason}");
    Ok(())
}

/// Something is on its way in both directions when the link is lost.
pub(super) fn lost_link_is_resumed(stage: &mut Stage) -> Outcome {
    let server = stage.server("server", ServerConfig::forward(token(TOKEN)?)?, None)?;
    let relay = Relay::start(server.handle.local_addr())?;
    let mut config = client_config(relay.address(), TOKEN)?;
    config.backoff.first = Duration::from_millis(10);
    let client = stage.client("client", config)?;
    let proxy = client.socks()?;
    let stage = &*stage;
    let hold = || {
        relay.hold();
        Ok(())
    };
    let application = &[Step::Send(1000), Step::Take(1000), Step::Call(&hold), Step::Swap(3 << 20)];
    let target = &[Step::Take(1000), Step::Send(1000), Step::Swap(3 << 20)];
    let swap = Channel::new("swap", Way::Socks(proxy), application, target);
    thread::scope(|scope| {
        let swapped = scope.spawn(|| swap.run(stage));
        relay.wait_held()?;
        relay.cut(|| {
            let suspended = |event: &Event| matches!(event, Event::LinkSuspended { .. });
            server.watch.wait_for("the loss of the link", suspended)
        })?;
        swapped.join().unwrap_or_else(|_| Err("the channel panicked".into()))
    })?;
    for watch in [&client.watch, &server.watch] {
        watch.wait_for("the return of the link", |event| {
            matches!(event, Event::LinkResumed { channels: 1, .. })
        })?;
    }
    Ok(())
}

/// Both ends see a reset, and the next channel takes the next link.
pub(super) fn lost_link_without_grace(stage: &mut Stage) -> Outcome {
    let server = stage.server("server", ServerConfig::forward(token(TOKEN)?)?, None)?;
    let relay = Relay::start(server.handle.local_addr())?;
    let mut config = client_config(relay.address(), TOKEN)?;
    config.backoff.first = Duration::from_millis(10);
    config.relay.timeouts.transport_grace = Duration::ZERO;
    let client = stage.client("client", config)?;
    let lost = |event: &Event| matches!(event, Event::ClientDisconnected { .. });
    let cut = || relay.cut(|| server.watch.wait_for("the loss of the link", lost));
    let application = &[Step::Send(1000), Step::Take(1000), Step::Call(&cut), Step::Drain];
    let target = &[Step::Take(1000), Step::Send(1000), Step::Drain];
    let channel = Channel::new("cut", Way::Socks(client.socks()?), application, target);
    Channel { cut: true, ..channel }.run(stage)?;
    Channel::new("next", Way::Socks(client.socks()?), &[Step::Swap(1000)], &[Step::Swap(1000)]).run(stage)
}
