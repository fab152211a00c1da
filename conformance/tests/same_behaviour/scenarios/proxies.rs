//! Connections through proxies, which are clients of ours.

use std::net::SocketAddr;

use conformance::interop::socks;
use libtest_mimic::Failed;
use linksocks_sansio::{Credentials, LinkProxy, ServerConfig, UpstreamProxy};

use super::{Outcome, TOKEN, client_config, forward, token};
use crate::cast::{Stage, Use};
use crate::script::{self, Channel, Step, Way};

const SWAP: &[Step<'_>] = &[Step::Swap(200_000)];

/// The SOCKS port of a client that has a server of its own.
fn proxy(stage: &mut Stage) -> Result<SocketAddr, Failed> {
    let server = stage.server("server of the proxy", ServerConfig::forward(token("other_token")?)?, None)?;
    let mut config = client_config(server.handle.local_addr(), "other_token")?;
    config.credentials = Some(Credentials::new("us@er", "pass")?);
    let socks = stage.client("proxy", config)?.socks()?;
    stage.name_port(Use::Listener, socks, "proxy");
    Ok(socks)
}

pub(super) fn targets_through_a_proxy(stage: &mut Stage) -> Outcome {
    let proxy = proxy(stage)?;
    let upstream: UpstreamProxy = format!("socks5://us%40er:pass@{proxy}").parse()?;
    let (_server, client) = forward(stage, |config| config.relay.upstream = Some(upstream), |_| ())?;
    Channel::new("swap", Way::Socks(client.socks()?), SWAP, SWAP).run(stage)?;
    Channel::new("by name", Way::Name(client.socks()?), SWAP, SWAP).run(stage)?;
    let target = stage.reserve_port("refused")?;
    let reply = script::ask(stage, "refused", client.socks()?, None, &target.into())?;
    assert!(matches!(reply, Err(socks::Error::Refused(4))), "{reply:?}");
    Ok(())
}

pub(super) fn link_through_a_proxy(stage: &mut Stage) -> Outcome {
    let proxy = proxy(stage)?;
    for (scheme, server, name) in
        [("socks5", "server by SOCKS", "client by SOCKS"), ("http", "server by HTTP", "client by HTTP")]
    {
        let server = stage.server(server, ServerConfig::forward(token(TOKEN)?)?, None)?;
        let mut config = client_config(server.handle.local_addr(), TOKEN)?;
        let through = format!("{scheme}://us%40er:pass@{proxy}").parse()?;
        config.proxy = LinkProxy::Through(through);
        let client = stage.client(name, config)?;
        Channel::new(scheme, Way::Socks(client.socks()?), SWAP, SWAP).run(stage)?;
    }
    Ok(())
}
