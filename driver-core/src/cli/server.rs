//! The command `server`.

#[cfg(feature = "tls")]
use std::path::PathBuf;

use futures_core::Stream;
use linksocks_sansio::error::StopReason;
use linksocks_sansio::{ServerConfig, Token};
use tracing::info;
use tracing::level_filters::LevelFilter;

use super::args::ServerArgs;
use super::events::Side;
use super::parse::Environment;
use super::supervise::{End, supervise};
use super::{Failure, listen_address, log, proxy, random_token, unless_signalled};
use crate::embed::Server;
use crate::runtime::Runtime;
#[cfg(feature = "tls")]
use crate::tls::ServerTls;

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
    config.relay.upstream = proxy::upstream(args.upstream_proxy.as_deref())?;
    let upstream = config.relay.upstream.clone();
    args.flow.apply(&mut config.relay);
    args.timeouts.apply(&mut config.relay.timeouts);
    config.relay.dial_rules = args.access_rule.iter().cloned().collect();

    let server = Server::builder(config).bind(listen);
    #[cfg(feature = "tls")]
    let (server, scheme) = match tls(args)? {
        Some(tls) => (server.tls(tls), "https"),
        None => (server, "http"),
    };
    #[cfg(not(feature = "tls"))]
    let scheme = "http";
    let events = server.events();
    let server = server.start(runtime.clone()).await?;
    info!("New forward proxy token added");
    info!("Configuration:");
    info!("  Mode: forward proxy (SOCKS5 on client -> server -> network)");
    // A secret that its owner knows already has no business in a log.
    info!("  Token: {}", if given.is_some() { "(as given)" } else { &token });
    if let Some(proxy) = upstream {
        info!("  Upstream proxy: {proxy}");
    }
    let local = server.local_addr();
    let url = format!("{scheme}://localhost:{}", local.port());
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

/// The certificate to show, if TLS is asked for.
#[cfg(feature = "tls")]
fn tls(args: &ServerArgs) -> Result<Option<ServerTls>, Failure> {
    let given = |file: &Option<PathBuf>| file.clone().filter(|file| !file.as_os_str().is_empty());
    match (given(&args.tls_cert), given(&args.tls_key)) {
        (None, None) => Ok(None),
        (Some(chain), Some(key)) => Ok(Some(ServerTls::from_files(&chain, &key)?)),
        (Some(_), None) => Err(Failure::Usage("--tls-cert needs --tls-key".to_owned())),
        (None, Some(_)) => Err(Failure::Usage("--tls-key needs --tls-cert".to_owned())),
    }
}
