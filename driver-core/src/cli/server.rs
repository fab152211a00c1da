//! The command `server`.

use std::fmt;
#[cfg(feature = "tls")]
use std::path::PathBuf;

use futures_core::Stream;
use linksocks_sansio::access::AccessRules;
use linksocks_sansio::error::StopReason;
use linksocks_sansio::token::{ConnectorToken, NewToken, ReverseToken};
use linksocks_sansio::{ServerConfig, Token};
use tracing::{info, warn};

use super::args::ServerArgs;
use super::events::Side;
use super::supervise::{End, supervise};
use super::{Failure, credentials, listen_address, proxy, random_token, unless_signalled};
use crate::embed::Server;
use crate::runtime::Runtime;
#[cfg(feature = "tls")]
use crate::tls::ServerTls;

pub(super) async fn run<R: Runtime>(
    runtime: R,
    args: &ServerArgs,
    mut signals: impl Stream<Item = ()> + Unpin,
) -> Result<(), Failure> {
    if !args.ignored.is_empty() {
        warn!(flags = %args.ignored.join(" "), "Direct mode is not supported: all traffic takes the relay");
    }
    let unused = unused_with_api(args);
    if !unused.is_empty() {
        warn!(flags = %unused.join(" "), "With --api-key, the server starts without tokens: these have no effect");
    }
    let listen = listen_address(&runtime, &args.ws_host, args.ws_port);
    let listen = unless_signalled(&mut signals, listen).await?;
    let tokens = tokens(args)?;
    let mut config = config(args, tokens.as_ref())?;
    if args.reverse || tokens.is_none() {
        let host = listen_address(&runtime, &args.socks_host, args.socks_port);
        config.socks_host = unless_signalled(&mut signals, host).await?.ip();
    }
    let upstream = config.relay.upstream.clone();

    let trusted = args.trusted_proxy.iter().copied().collect();
    let server = Server::builder(config).bind(listen).trusted_proxies(trusted);
    #[cfg(feature = "tls")]
    let (server, scheme) = match tls(args)? {
        Some(tls) => (server.tls(tls), "https"),
        None => (server, "http"),
    };
    #[cfg(not(feature = "tls"))]
    let scheme = "http";
    let events = server.events();
    let server = server.start(runtime.clone()).await?;
    info!("Configuration:");
    match &tokens {
        Some(tokens) => tokens.show(args),
        None => info!("  API: enabled; tokens are added by POST /api/token"),
    }
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

/// The tokens that the server starts with.
struct Tokens {
    token: Shown,
    /// For connectors.
    connector: Option<Shown>,
}

/// A token, and whether its owner knows it already: then it has no business in a log.
struct Shown {
    token: Token,
    given: bool,
}

impl Shown {
    fn choose(given: Option<&str>) -> Result<Self, Failure> {
        let given = given.filter(|token| !token.is_empty());
        let text = given.map_or_else(random_token, |token| Ok(token.to_owned()))?;
        Ok(Self { token: Token::new(text)?, given: given.is_some() })
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.given { "(as given)" } else { self.token.expose() })
    }
}

impl Tokens {
    fn show(&self, args: &ServerArgs) {
        if !args.reverse {
            info!("  Mode: forward proxy (SOCKS5 on client -> server -> network)");
            info!("  Token: {}", self.token);
            return;
        }
        info!("  Mode: reverse proxy (SOCKS5 on server -> client -> network)");
        info!("  Token: {}", self.token);
        if args.connector_autonomy {
            info!("  Connector autonomy: enabled");
        } else if args.socks_port == 0 {
            info!("  SOCKS5 port: any; it is shown when it opens");
        } else {
            info!("  SOCKS5 port: {}", args.socks_port);
        }
        if let Some(connector) = &self.connector {
            info!("  Connector Token: {connector}");
        }
        if args.socks_username.is_some() {
            info!("  SOCKS5 authentication: enabled");
        }
    }
}

/// The tokens of the command line; with the API, none.
fn tokens(args: &ServerArgs) -> Result<Option<Tokens>, Failure> {
    if api_key(args).is_some() {
        return Ok(None);
    }
    let token = Shown::choose(args.token.as_deref())?;
    let connector = args.connector_token.as_deref();
    let connector = match args.reverse {
        // Providers bring their own ones.
        true if args.connector_autonomy && connector.is_none_or(str::is_empty) => None,
        true => Some(Shown::choose(connector)?),
        false => None,
    };
    Ok(Some(Tokens { token, connector }))
}

fn api_key(args: &ServerArgs) -> Option<&str> {
    args.api_key.as_deref().filter(|key| !key.is_empty())
}

/// Flags that are about tokens, where there are none.
fn unused_with_api(args: &ServerArgs) -> Vec<&'static str> {
    let is_given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let flags = [
        ("--token", is_given(&args.token)),
        ("--connector-token", is_given(&args.connector_token)),
        ("--reverse", args.reverse),
        ("--connector-autonomy", args.connector_autonomy),
        ("--socks-username", is_given(&args.socks_username)),
        ("--socks-password", is_given(&args.socks_password)),
        ("--socks-nowait", args.socks_nowait),
    ];
    let unused = flags.into_iter().filter(|(_, given)| *given && api_key(args).is_some());
    unused.map(|(flag, _)| flag).collect()
}

fn config(args: &ServerArgs, tokens: Option<&Tokens>) -> Result<ServerConfig, Failure> {
    let mut config = match tokens {
        Some(tokens) => with_tokens(args, tokens)?,
        None if !args.access_rule.is_empty() => {
            let message =
                "--access-rule can't be used with --api-key: give rules to tokens, or PUT /api/config/access";
            return Err(Failure::Usage(message.to_owned()));
        }
        None => ServerConfig::default(),
    };
    if let Some(key) = api_key(args) {
        config.api_keys.push(Token::new(key)?);
    }
    config.check()?;
    config.relay.upstream = proxy::upstream(args.upstream_proxy.as_deref())?;
    // In forward mode, it is the clients who tell applications.
    config.relay.fast_open = args.fast_open;
    args.flow.apply(&mut config.relay);
    args.timeouts.apply(&mut config.relay.timeouts);
    config.relay.timeouts.connector_wait = args.connector_wait_provider;
    Ok(config)
}

fn with_tokens(args: &ServerArgs, tokens: &Tokens) -> Result<ServerConfig, Failure> {
    let rules: AccessRules = args.access_rule.iter().cloned().collect();
    let token = tokens.token.token.clone();
    let config = if args.reverse {
        let mut reverse = ReverseToken::default();
        (reverse.token, reverse.rules) = (Some(token.clone()), rules);
        reverse.port = Some(args.socks_port);
        reverse.credentials = credentials(args.socks_username.as_deref(), args.socks_password.as_deref())?;
        reverse.listen_early = args.socks_nowait;
        reverse.manage_connectors = args.connector_autonomy;
        let mut config = ServerConfig::default();
        config.tokens.push(NewToken::Reverse(reverse));
        if let Some(shown) = &tokens.connector {
            let mut connector = ConnectorToken::new(token);
            connector.token = Some(shown.token.clone());
            config.tokens.push(NewToken::Connector(connector));
        }
        config
    } else {
        let mut config = ServerConfig::forward(token)?;
        config.relay.dial_rules = rules;
        config
    };
    Ok(config)
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
