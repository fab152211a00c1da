//! The command `client`.

use std::net::SocketAddr;

use futures_core::Stream;
use linksocks_sansio::error::{LinkError, StopReason};
use linksocks_sansio::{ClientConfig, Credentials, ServerUrl, Token};
use tracing::level_filters::LevelFilter;
use tracing::{debug, info, warn};

use super::args::ClientArgs;
use super::events::Side;
use super::parse::Environment;
use super::supervise::{End, supervise};
use super::{Failure, listen_address, log, unless_signalled};
use crate::embed::Client;
use crate::runtime::Runtime;

/// The variables that the Go program takes a proxy for `ws` URLs from.
const PROXY_VARIABLES: [&str; 2] = ["HTTP_PROXY", "http_proxy"];

pub(super) async fn run<R: Runtime>(
    runtime: R,
    args: &ClientArgs,
    environment: &Environment,
    mut signals: impl Stream<Item = ()> + Unpin,
) -> Result<(), Failure> {
    log::init(log::level(args.debug, LevelFilter::INFO), environment);
    let listen = listen_address(&runtime, &args.socks_host, args.socks_port);
    let listen = unless_signalled(&mut signals, listen).await?;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let config = config(args, listen, cpus)?;
    let anonymous = config.token.is_anonymous();

    debug!(direct_mode = ?args.direct_mode, links = config.links, "All traffic takes the relay");
    let proxy = PROXY_VARIABLES.iter().find(|name| environment.get(name).is_some());
    if let (Some(name), false) = (proxy, args.no_env_proxy) {
        warn!("{name} is set, but proxies are not supported yet by this version: connecting directly");
    }
    info!(url = %config.server, "LinkSocks Client is connecting to");

    let client = Client::builder(config);
    let events = client.events();
    let client = client.start(runtime.clone()).await?;
    match supervise(&runtime, &client, events, signals, Side::Client).await {
        End::Interrupted => Err(Failure::Interrupted),
        End::Stopped(StopReason::Shutdown) => {
            info!("Client stopped");
            Ok(())
        }
        End::Stopped(reason) => Err(Failure::Running(explain(&reason, anonymous))),
    }
}

/// The reason, with a hint for people who have forgotten the token.
fn explain(reason: &StopReason, anonymous: bool) -> String {
    if anonymous && matches!(reason, StopReason::Link(LinkError::Rejected(_))) {
        return format!("{reason}; please provide a token with -t or set LINKSOCKS_TOKEN");
    }
    reason.to_string()
}

fn config(args: &ClientArgs, listen: SocketAddr, cpus: usize) -> Result<ClientConfig, Failure> {
    let server = ServerUrl::parse(&args.url)?;
    if server.is_secure() {
        let hint = if args.url.contains("://") { "" } else { ", which a URL without a scheme means," };
        let message = format!("wss://{hint} is not supported yet by this version; use ws://");
        return Err(Failure::Usage(format!("{message} in the URL '{}'", args.url)));
    }
    let token = match args.token.as_deref() {
        None | Some("") => Token::anonymous(),
        Some(token) => Token::new(token)?,
    };
    let mut config = ClientConfig::new(server, token);
    config.listen = Some(listen);
    config.listen_early = args.socks_no_wait;
    config.reconnect = !args.no_reconnect;
    config.links = links(args.threads, cpus);
    config.relay.entry_rules = args.access_rule.iter().cloned().collect();
    config.relay.timeouts.udp_idle = args.udp_idle;
    let username = args.socks_username.as_deref().unwrap_or_default();
    let password = args.socks_password.as_deref().unwrap_or_default();
    if !(username.is_empty() && password.is_empty()) {
        config.credentials = Some(Credentials::new(username, password)?);
    }
    Ok(config)
}

/// How many links `--threads` asks for, as in the Go program: 0 means 1, a negative number one per
/// CPU, and there are at most 100 per CPU.
fn links(threads: i64, cpus: usize) -> usize {
    match threads {
        0 => 1,
        1.. => usize::try_from(threads).unwrap_or(usize::MAX).min(cpus.saturating_mul(100)),
        ..0 => cpus,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use linksocks_sansio::error::{LinkError, StopReason};

    use super::super::args::{Cli, Command};
    use super::{config, explain, links};

    fn configure(flags: &str) -> Result<linksocks_sansio::ClientConfig, String> {
        let line = ["linksocks", "client"].into_iter().chain(flags.split_whitespace());
        let Command::Client(args) = Cli::try_parse_from(line).unwrap().command else {
            panic!("not a client");
        };
        config(&args, "127.0.0.1:9870".parse().unwrap(), 4).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_become_a_configuration() {
        let config = configure("-t secret -u http://h:1/x -i -R -T 3 -n user -w word").unwrap();
        assert_eq!(config.token.expose(), "secret");
        assert_eq!(config.server.to_string(), "ws://h:1/x");
        assert_eq!(config.listen, Some("127.0.0.1:9870".parse().unwrap()));
        assert!(config.listen_early && !config.reconnect && config.links == 3);
        assert!(config.credentials.unwrap().matches(b"user", b"word"));
        let config = configure("").unwrap();
        assert!(config.token.is_anonymous() && config.credentials.is_none());
        assert!(!config.listen_early && config.reconnect && config.links == 1);
    }

    #[test]
    fn rules_and_the_idle_time_of_udp_reach_the_engine() {
        let config = configure("--access-rule 10.0.0.0/8:80 --access-rule !10.0.0.1 --udp-idle 90s").unwrap();
        let allows = |address: &str| config.relay.entry_rules.allows(address.parse().unwrap());
        assert!(allows("10.0.0.2:80") && !allows("10.0.0.1:80") && !allows("10.0.0.2:81"));
        assert_eq!(config.relay.timeouts.udp_idle.as_secs(), 90);
        let config = configure("").unwrap();
        assert_eq!(config.relay.timeouts.udp_idle.as_secs(), 300);
        assert_eq!(config.relay.entry_rules, Default::default());
    }

    #[test]
    fn unusable_values_are_explained() {
        let long = format!("-t {}", "x".repeat(256));
        for (flags, part) in [
            ("-u wss://h", "wss:// is not supported yet"),
            ("-u https://h", "wss:// is not supported yet"),
            ("-u h:8765", "a URL without a scheme"),
            ("-u ws://user@h", "malformed ws or wss URL"),
            ("-u ftp://h", "malformed ws or wss URL"),
            (&long, "at most 255 bytes"),
            ("-n user", "needs both"),
            ("-w word", "needs both"),
        ] {
            let error = configure(flags).unwrap_err();
            assert!(error.contains(part), "{flags}: {error}");
        }
    }

    #[test]
    fn threads_are_limited_as_in_the_go_program() {
        for (threads, expected) in [(0, 1), (1, 1), (7, 7), (-1, 4), (-9, 4), (400, 400), (401, 400)] {
            assert_eq!(links(threads, 4), expected, "{threads}");
        }
        assert_eq!(links(i64::MAX, 4), 400);
    }

    #[test]
    fn a_forgotten_token_is_hinted_at() {
        let reason = StopReason::Link(LinkError::Rejected("invalid token".to_owned()));
        assert_eq!(explain(&reason, false), "authentication failed: invalid token");
        assert!(explain(&reason, true).starts_with("authentication failed: invalid token; please provide"));
    }
}
