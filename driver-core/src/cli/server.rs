//! The command `server`.

use futures_core::Stream;
use linksocks_sansio::error::StopReason;
use linksocks_sansio::{ServerConfig, Token};
use tracing::info;
use tracing::level_filters::LevelFilter;

use super::args::ServerArgs;
use super::events::Side;
use super::parse::Environment;
use super::supervise::{End, supervise};
use super::{Failure, listen_address, log, random_token, unless_signalled};
use crate::embed::Server;
use crate::runtime::Runtime;

pub(super) async fn run<R: Runtime>(
    runtime: R,
    args: &ServerArgs,
    environment: &Environment,
    mut signals: impl Stream<Item = ()> + Unpin,
) -> Result<(), Failure> {
    log::init(log::level(args.debug, LevelFilter::INFO), environment);
    let listen = listen_address(&runtime, &args.ws_host, args.ws_port);
    let listen = unless_signalled(&mut signals, listen).await?;
    let given = args.token.as_deref().filter(|token| !token.is_empty());
    let token = given.map_or_else(random_token, |token| Ok(token.to_owned()))?;
    let mut config = ServerConfig::forward(Token::new(token.as_str())?)?;
    config.relay.dial_rules = args.access_rule.iter().cloned().collect();
    config.relay.timeouts.udp_idle = args.udp_idle;

    let server = Server::builder(config).bind(listen);
    let events = server.events();
    let server = server.start(runtime.clone()).await?;
    info!("New forward proxy token added");
    info!("Configuration:");
    info!("  Mode: forward proxy (SOCKS5 on client -> server -> network)");
    // A secret that its owner knows already has no business in a log.
    info!("  Token: {}", if given.is_some() { "(as given)" } else { &token });
    let local = server.local_addr();
    let url = format!("http://localhost:{}", local.port());
    info!(listen = %local, url, "LinkSocks server started");

    match supervise(&runtime, &server, events, signals, Side::Server).await {
        End::Interrupted => Err(Failure::Interrupted),
        End::Stopped(StopReason::Shutdown) => {
            info!("Server stopped");
            Ok(())
        }
        End::Stopped(reason) => Err(Failure::Running(reason.to_string())),
    }
}
