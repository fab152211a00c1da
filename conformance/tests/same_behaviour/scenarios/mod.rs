//! What is played on each runtime.

mod endings;
mod http;
mod links;
mod modes;
mod opening;
mod proxies;
mod streams;
mod udp;

use std::net::SocketAddr;

use driver_core::embed::{ClientHandle, ServerHandle};
use libtest_mimic::Failed;
use linksocks_sansio::{ClientConfig, ServerConfig, ServerUrl, Token};

use crate::Scenario;
use crate::cast::{ANY_PORT, Part, Stage};

type Outcome = Result<(), Failed>;

const fn scenario(name: &'static str, play: fn(&mut Stage) -> Outcome) -> Scenario {
    Scenario { name, play }
}

pub(crate) const SCENARIOS: &[Scenario] = &[
    scenario("connect_to_ipv4", streams::connect_to_ipv4),
    scenario("connect_to_ipv6", streams::connect_to_ipv6),
    scenario("connect_by_name", streams::connect_by_name),
    scenario("target_speaks_first", streams::target_speaks_first),
    scenario("three_mib_each_way", streams::three_mib_each_way),
    scenario("many_channels", streams::many_channels),
    scenario("open_without_socks", streams::open_without_socks),
    scenario("batching", streams::batching),
    scenario("compression", streams::compression),
    scenario("login", opening::login),
    scenario("refused_target", opening::refused_target),
    scenario("access_rules", opening::access_rules),
    scenario("fast_open", opening::fast_open),
    scenario("fast_open_of_a_refused_target", opening::fast_open_of_a_refused_target),
    scenario("application_ends_first", endings::application_ends_first),
    scenario("target_ends_first", endings::target_ends_first),
    scenario("reset_by_application", endings::reset_by_application),
    scenario("reset_by_target", endings::reset_by_target),
    scenario("graceful_shutdown", endings::graceful_shutdown),
    scenario("udp_associate", udp::udp_associate),
    scenario("udp_to_ipv6", udp::udp_to_ipv6),
    scenario("udp_without_socks", udp::udp_without_socks),
    scenario("http_connect", http::http_connect),
    scenario("http_requests_in_absolute_form", http::http_requests_in_absolute_form),
    scenario("http_api", http::http_api),
    scenario("four_links", links::four_links),
    scenario("login_in_band", links::login_in_band),
    scenario("tls", links::tls),
    scenario("wrong_token", links::wrong_token),
    scenario("lost_link_is_resumed", links::lost_link_is_resumed),
    scenario("lost_link_without_grace", links::lost_link_without_grace),
    scenario("targets_through_a_proxy", proxies::targets_through_a_proxy),
    scenario("link_through_a_proxy", proxies::link_through_a_proxy),
    scenario("reverse_mode", modes::reverse_mode),
    scenario("agent_mode", modes::agent_mode),
    scenario("autonomy_mode", modes::autonomy_mode),
];

/// The secret of every server that has one.
const TOKEN: &str = "my_token";

fn token(text: &str) -> Result<Token, Failed> {
    Ok(Token::new(text)?)
}

/// A client with a SOCKS port.
fn client_config(server: SocketAddr, text: &str) -> Result<ClientConfig, Failed> {
    let mut config = ClientConfig::new(ServerUrl::parse(&format!("ws://{server}"))?, token(text)?);
    config.listen = Some(ANY_PORT);
    Ok(config)
}

/// A server and its client in forward mode.
fn forward(
    stage: &mut Stage,
    set_server: impl FnOnce(&mut ServerConfig),
    set_client: impl FnOnce(&mut ClientConfig),
) -> Result<(Part<ServerHandle>, Part<ClientHandle>), Failed> {
    let mut config = ServerConfig::forward(token(TOKEN)?)?;
    set_server(&mut config);
    let server = stage.server("server", config, None)?;
    let mut config = client_config(server.handle.local_addr(), TOKEN)?;
    set_client(&mut config);
    let client = stage.client("client", config)?;
    Ok((server, client))
}
