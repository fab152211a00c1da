//! Modes in which connections leave from providers.

use std::net::{Ipv4Addr, SocketAddr};

use conformance::interop::socks;
use conformance::interop::udp::{Association, EchoTarget};
use driver_core::embed::{ClientHandle, ServerHandle};
use libtest_mimic::Failed;
use linksocks_sansio::config::ClientRole;
use linksocks_sansio::token::{ConnectorToken, NewToken, ReverseToken};
use linksocks_sansio::{Event, ServerConfig};

use super::{Outcome, TOKEN, client_config, token};
use crate::cast::{Part, Stage, Use};
use crate::script::{self, Channel, Step, Way};

const CONNECTOR: &str = "my_connector";

/// A server that lets providers in.
fn server(
    stage: &mut Stage,
    set: impl FnOnce(&mut ReverseToken),
    connector: Option<ConnectorToken>,
) -> Result<Part<ServerHandle>, Failed> {
    let mut reverse = ReverseToken::default();
    reverse.token = Some(token(TOKEN)?);
    set(&mut reverse);
    let mut config = ServerConfig::default();
    config.tokens.push(NewToken::Reverse(reverse));
    config.tokens.extend(connector.map(NewToken::Connector));
    stage.server("server", config, None)
}

fn provider(
    stage: &mut Stage,
    server: &Part<ServerHandle>,
    connectors: &[&str],
) -> Result<Part<ClientHandle>, Failed> {
    let mut config = client_config(server.handle.local_addr(), TOKEN)?;
    config.listen = None;
    let connectors = connectors.iter().map(|text| token(text)).collect::<Result<_, _>>()?;
    config.role = ClientRole::Provider { connectors };
    stage.client("provider", config)
}

/// Streams and datagrams by way of a SOCKS port.
fn use_socks(stage: &Stage, proxy: SocketAddr) -> Outcome {
    let swap = &[Step::Swap(500_000)];
    Channel::new("swap", Way::Socks(proxy), swap, swap).run(stage)?;
    Channel::new("by name", Way::Name(proxy), swap, swap).run(stage)?;
    let reset = &[Step::Send(1000), Step::Take(500), Step::Reset];
    let target = &[Step::Take(1000), Step::Send(500), Step::Drain];
    Channel::new("reset", Way::Socks(proxy), reset, target).run(stage)?;
    let refused = stage.reserve_port("refused")?;
    let reply = script::ask(stage, "refused", proxy, None, &refused.into())?;
    assert!(matches!(reply, Err(socks::Error::Refused(4))), "{reply:?}");

    let echo = EchoTarget::bind(Ipv4Addr::LOCALHOST.into())?;
    let association = Association::open(proxy)?;
    stage.name_port(Use::Association, association.relay, "association");
    association.send_to(b"datagram", &echo.address().into())?;
    let (payload, from) = association.recv_from()?;
    stage.note("association", "application", &format!("{} bytes from the target", payload.len()));
    assert_eq!((&payload[..], from), (&b"datagram"[..], echo.address().into()));
    Ok(())
}

pub(super) fn reverse_mode(stage: &mut Stage) -> Outcome {
    let socks = stage.reserve_port("SOCKS port")?;
    let server = server(stage, |reverse| reverse.port = Some(socks.port()), None)?;
    provider(stage, &server, &[])?;
    server.watch.wait_for("the SOCKS port", |event| matches!(event, Event::SocksListening { .. }))?;
    use_socks(stage, socks)
}

pub(super) fn agent_mode(stage: &mut Stage) -> Outcome {
    let socks = stage.reserve_port("SOCKS port")?;
    let mut connector = ConnectorToken::new(token(TOKEN)?);
    connector.token = Some(token(CONNECTOR)?);
    let server = server(stage, |reverse| reverse.port = Some(socks.port()), Some(connector))?;
    provider(stage, &server, &[])?;
    server.watch.wait_for("the SOCKS port", |event| matches!(event, Event::SocksListening { .. }))?;
    let connector = stage.client("connector", client_config(server.handle.local_addr(), CONNECTOR)?)?;
    use_socks(stage, connector.socks()?)
}

pub(super) fn autonomy_mode(stage: &mut Stage) -> Outcome {
    let server = server(stage, |reverse| reverse.manage_connectors = true, None)?;
    let provider = provider(stage, &server, &[CONNECTOR])?;
    provider.watch.wait_for("the connector token", |event| matches!(event, Event::ConnectorAdded { .. }))?;
    let connector = stage.client("connector", client_config(server.handle.local_addr(), CONNECTOR)?)?;
    use_socks(stage, connector.socks()?)
}
