//! The command `client`.

use std::net::SocketAddr;

use futures_core::Stream;
use linksocks_sansio::config::{BackoffConfig, ClientRole};
use linksocks_sansio::error::{LinkError, StopReason, TlsFailure};
use linksocks_sansio::{ClientConfig, LinkProxy, ServerUrl, Token};
use tracing::{debug, info, warn};

use super::args::ClientArgs;
use super::events::Side;
use super::parse::Environment;
use super::supervise::{End, supervise};
use super::{Failure, credentials, listen_address, proxy, unless_signalled};
use crate::embed::Client;
use crate::runtime::Runtime;
#[cfg(feature = "tls")]
use crate::tls::ClientTls;

pub(super) async fn run<R: Runtime>(
    runtime: R,
    args: &ClientArgs,
    environment: &Environment,
    mut signals: impl Stream<Item = ()> + Unpin,
) -> Result<(), Failure> {
    if !args.ignored.is_empty() {
        warn!(flags = %args.ignored.join(" "), "Direct mode is not supported: all traffic takes the relay");
    }
    let listen = listen_address(&runtime, &args.socks_host, args.socks_port);
    let listen = unless_signalled(&mut signals, listen).await?;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let config = config(args, environment, listen, cpus)?;
    #[cfg(feature = "tls")]
    let tls = tls(args)?;
    let anonymous = config.token.is_anonymous();
    let side = if args.reverse { Side::Provider } else { Side::Client };

    debug!(direct_mode = ?args.direct_mode, links = config.links, "All traffic takes the relay");
    info!(url = %config.server, "LinkSocks Client is connecting to");
    if let Some(proxy) = config.proxy.choose(&config.server) {
        info!(%proxy, "Connecting through a proxy");
    }

    let client = Client::builder(config);
    #[cfg(feature = "tls")]
    let client = client.tls(tls);
    let events = client.events();
    let client = client.start(runtime.clone()).await?;
    match supervise(&runtime, &client, events, signals, side).await {
        End::Interrupted => Err(Failure::Interrupted),
        End::Stopped(StopReason::Shutdown) => {
            info!("Client stopped");
            Ok(())
        }
        End::Stopped(reason) => Err(Failure::Running(format!("{reason}{}", hint(&reason, anonymous)))),
    }
}

/// What to do about the reason, if that may not be known.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others say it themselves")]
fn hint(reason: &StopReason, anonymous: bool) -> &'static str {
    let StopReason::Link(error) = reason else { return "" };
    match error {
        LinkError::Rejected(_) if anonymous => "; please provide a token with -t or set LINKSOCKS_TOKEN",
        LinkError::Tls(TlsFailure::UnknownIssuer) => "; if you trust it, name its certificate with --ca",
        LinkError::Tls(TlsFailure::WrongName(_)) => "; another name to expect can be set with --sni",
        LinkError::Tls(TlsFailure::NotTls) => {
            "; use a ws:// URL for a server without TLS (without a scheme, wss:// is meant)"
        }
        _ => "",
    }
}

/// Whom to trust.
#[cfg(feature = "tls")]
fn tls(args: &ClientArgs) -> Result<ClientTls, Failure> {
    if args.insecure {
        warn!(
            "--insecure: the server's certificate is NOT verified. Anyone on the way to the server \
             can read and change everything, and gets to know the token!"
        );
        return Ok(ClientTls::new().dangerous_insecure());
    }
    let files = args.ca.iter();
    Ok(files
        .filter(|file| !file.as_os_str().is_empty())
        .try_fold(ClientTls::new(), |tls, file| tls.ca_file(file))?)
}

fn config(
    args: &ClientArgs,
    environment: &Environment,
    listen: SocketAddr,
    cpus: usize,
) -> Result<ClientConfig, Failure> {
    let server = ServerUrl::parse(&args.url)?;
    if server.is_secure() && !cfg!(feature = "tls") {
        let hint = if args.url.contains("://") { "" } else { ", which a URL without a scheme means," };
        let message = format!("wss://{hint} is not supported by this build; use ws://");
        return Err(Failure::Usage(format!("{message} in the URL '{}'", args.url)));
    }
    let token = match args.token.as_deref() {
        None | Some("") => Token::anonymous(),
        Some(token) => Token::new(token)?,
    };
    let mut config = ClientConfig::new(server, token);
    if args.reverse {
        let connector = args.connector_token.as_deref().filter(|token| !token.is_empty());
        let connectors = connector.into_iter().map(Token::new).collect::<Result<_, _>>()?;
        config.role = ClientRole::Provider { connectors };
    }
    config.headers = args.header.iter().map(|header| header.parse()).collect::<Result<_, _>>()?;
    #[cfg(feature = "tls")]
    {
        config.server_name = args.sni.clone().filter(|name| !name.is_empty());
    }
    config.listen = Some(listen).filter(|_| !args.reverse);
    config.listen_early = args.socks_no_wait;
    config.reconnect = !args.no_reconnect;
    config.retry_auth = args.retry_auth;
    if let Some(delay) = args.reconnect_delay {
        config.backoff = BackoffConfig::fixed(delay);
    }
    config.links = links(args.threads, cpus);
    config.proxy = match proxy::upstream(args.upstream_proxy.as_deref())? {
        // A provider connects to targets through it.
        Some(proxy) if args.reverse => {
            config.relay.upstream = Some(proxy);
            link_proxy(args, environment, &config)?
        }
        Some(proxy) => LinkProxy::Through(proxy),
        None => link_proxy(args, environment, &config)?,
    };
    args.flow.apply(&mut config.relay);
    args.timeouts.apply(&mut config.relay.timeouts);
    config.relay.fast_open = args.fast_open;
    let rules = args.access_rule.iter().cloned().collect();
    if args.reverse {
        config.relay.dial_rules = rules;
    } else {
        config.relay.entry_rules = rules;
    }
    config.credentials = credentials(args.socks_username.as_deref(), args.socks_password.as_deref())?;
    Ok(config)
}

/// The proxy through which the server is connected to, if no flag names one.
fn link_proxy(
    args: &ClientArgs,
    environment: &Environment,
    config: &ClientConfig,
) -> Result<LinkProxy, Failure> {
    if args.no_env_proxy {
        return Ok(LinkProxy::Direct);
    }
    proxy::from_environment(environment, &config.server)
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
    use std::time::Duration;

    use clap::Parser as _;
    use linksocks_sansio::config::BackoffConfig;
    use linksocks_sansio::error::{LinkError, StopReason, TlsFailure};

    use super::super::args::{Cli, Command};
    use super::{config, hint, links};

    fn configure(flags: &str) -> Result<linksocks_sansio::ClientConfig, String> {
        let line = ["linksocks", "client"].into_iter().chain(flags.split_whitespace());
        let Command::Client(args) = Cli::try_parse_from(line).unwrap().command else {
            panic!("not a client");
        };
        let proxy = [("HTTP_PROXY".into(), "http://env".into())].into_iter().collect();
        config(&args, &proxy, "127.0.0.1:9870".parse().unwrap(), 4).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_become_a_configuration() {
        let config = configure("-t secret -u http://h:1/x -i -R -T 3 -n user -w word").unwrap();
        assert_eq!(config.token.expose(), "secret");
        assert_eq!(config.server.to_string(), "ws://h:1/x");
        assert_eq!(config.listen, Some("127.0.0.1:9870".parse().unwrap()));
        assert!(config.listen_early && !config.reconnect && config.links == 3);
        assert!(config.credentials.unwrap().matches(b"user", b"word"));
        let config = configure("-u h:8765 --sni front --header X-Zone:eu --header A:b").unwrap();
        assert!(config.server.is_secure());
        assert_eq!(config.server_name.as_deref(), Some("front"));
        let headers: Vec<_> = config.headers.iter().map(|header| (header.name(), header.value())).collect();
        assert_eq!(headers, [("X-Zone", "eu"), ("A", "b")]);
        let config = configure("").unwrap();
        assert!(config.headers.is_empty() && config.server_name.is_none());
        assert!(config.token.is_anonymous() && config.credentials.is_none());
        assert!(!config.listen_early && config.reconnect && config.links == 1);
        assert_eq!(configure("-b 4096").unwrap().relay.batching.buffer_size, 4096);
    }

    #[test]
    fn flags_about_links_and_channels_reach_the_engine() {
        let config = configure("").unwrap();
        assert_eq!(config.backoff, BackoffConfig::default());
        assert!(!config.retry_auth && !config.relay.fast_open);
        let config = configure("-f --retry-auth --reconnect-delay 5s --connect-timeout 3s").unwrap();
        assert_eq!(config.backoff, BackoffConfig::fixed(Duration::from_secs(5)));
        assert!(config.retry_auth && config.relay.fast_open);
        assert_eq!(config.relay.timeouts.response, Duration::from_secs(8));
    }

    #[test]
    fn a_proxy_comes_from_the_flag_or_else_from_the_environment() {
        for (flags, proxy) in [
            ("-u ws://h", Some("http://env:8080")),
            ("-u ws://h -E", None),
            ("-u ws://h -x socks5://flag", Some("socks5://flag:1080")),
            ("-u ws://h -x socks5://flag -E", Some("socks5://flag:1080")),
            ("-u ws://localhost", None),
            ("-u ws://localhost -x socks5://flag", Some("socks5://flag:1080")),
        ] {
            let config = configure(flags).unwrap();
            let chosen = config.proxy.choose(&config.server).map(ToString::to_string);
            assert_eq!(chosen.as_deref(), proxy, "{flags}");
        }
    }

    #[test]
    fn rules_reach_the_engine() {
        let config = configure("--access-rule 10.0.0.0/8:80 --access-rule !10.0.0.1").unwrap();
        let allows = |address: &str| config.relay.entry_rules.allows(address.parse().unwrap());
        assert!(allows("10.0.0.2:80") && !allows("10.0.0.1:80") && !allows("10.0.0.2:81"));
        assert_eq!(configure("").unwrap().relay.entry_rules, Default::default());
    }

    #[test]
    fn unusable_values_are_explained() {
        let long = format!("-t {}", "x".repeat(256));
        for (flags, part) in [
            ("--header Host:x", "unusable header 'Host'"),
            ("--header secret", "expected 'Name: value'"),
            ("-u ws://user@h", "malformed ws or wss URL"),
            ("-u ftp://h", "malformed ws or wss URL"),
            (&long, "at most 255 bytes"),
            ("-n user", "needs both"),
            ("-w word", "needs both"),
            ("-x ftp://h", "--upstream-proxy: malformed proxy URL"),
            ("-x socks5://secret@h", "needs both"),
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
    fn hints_tell_what_to_do() {
        let hint = |error, anonymous| hint(&StopReason::Link(error), anonymous);
        let rejected = || LinkError::Rejected("invalid token".to_owned());
        assert_eq!(hint(rejected(), false), "");
        assert!(hint(rejected(), true).contains("provide a token"));
        assert!(hint(LinkError::Tls(TlsFailure::UnknownIssuer), true).contains("--ca"));
        assert_eq!(hint(LinkError::Tls(TlsFailure::Expired), true), "");
    }
}
