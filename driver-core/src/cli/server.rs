//! The command `server`.

use std::net::SocketAddr;

use futures_core::Stream;
use linksocks_sansio::error::StopReason;
use linksocks_sansio::{ServerConfig, Token};
use tracing::info;

use super::args::ServerArgs;
use super::parse::Environment;
use super::supervise::{End, supervise};
use super::{Failure, listen_address, log};
use crate::embed::Server;
use crate::runtime::Runtime;

pub(super) async fn run<R: Runtime>(
    runtime: R,
    args: &ServerArgs,
    environment: &Environment,
    signals: impl Stream<Item = ()> + Unpin,
) -> Result<(), Failure> {
    let listen = listen_address(&runtime, &args.ws_host, args.ws_port).await?;
    let given = args.token.as_deref().filter(|token| !token.is_empty());
    let token = given.map_or_else(random_token, |token| Ok(token.to_owned()))?;
    let config = ServerConfig::forward(Token::new(token.as_str())?)?;

    log::init(args.debug, environment);
    let server = Server::builder(config).bind(listen).start(runtime).await;
    let server = server.map_err(|error| Failure::Running(error.to_string()))?;
    info!("New forward proxy token added");
    info!("Configuration:");
    info!("  Mode: forward proxy (SOCKS5 on client -> server -> network)");
    // A secret that its owner knows already has no business in a log.
    info!("  Token: {}", if given.is_some() { "(as given)" } else { &token });
    let local: SocketAddr = server.local_addr();
    let url = format!("http://localhost:{}", local.port());
    info!(listen = %local, url, "LinkSocks server started");

    match supervise(&server, signals, "server").await {
        End::Interrupted => Err(Failure::Interrupted),
        End::Stopped(StopReason::Shutdown) => {
            info!("Server stopped");
            Ok(())
        }
        End::Stopped(reason) => Err(Failure::Running(reason.to_string())),
    }
}

/// 16 lower-case hexadecimal digits, as the Go program makes them.
pub(super) fn random_token() -> Result<String, Failure> {
    let number = getrandom::u64();
    let number = number.map_err(|error| Failure::Running(format!("no random numbers: {error}")))?;
    Ok(format!("{number:016x}"))
}

#[cfg(test)]
mod tests {
    use super::random_token;

    #[test]
    fn random_tokens_look_like_those_of_the_go_program() {
        let token = random_token().unwrap();
        assert_eq!(token.len(), 16);
        assert!(token.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')), "{token}");
        assert_ne!(token, random_token().unwrap());
    }
}
