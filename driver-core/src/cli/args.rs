//! The commands and their flags.
//!
//! Names, short names, defaults and variables are those of the Go program, so that its users and
//! their scripts need not learn anything new.

#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use linksocks_sansio::access::AccessRule;
use linksocks_sansio::http::forwarded::TrustedProxy;

use tracing::level_filters::LevelFilter;

use super::duration;
use super::flow::FlowArgs;
use super::timeouts::TimeoutArgs;

const KEY_FLAGS: &str = "Key flags";
pub(super) const OTHER_FLAGS: &str = "Other flags";

/// SOCKS5 over WebSocket proxy tool
#[derive(Debug, Parser)]
#[command(
    name = "linksocks",
    version = super::VERSION.as_str(),
    args_override_self = true,
    max_term_width = 100,
    after_help = "Examples:
  linksocks server -t my_token
  linksocks client -t my_token -u ws://localhost:8765 -p 9870
  linksocks server -r -t my_token -p 9870         (applications use the server's SOCKS5 port)
  linksocks provider -t my_token -u ws://localhost:8765
  linksocks demo

Exit status:
  0    help, version, a successful demo, a regular shutdown (SIGINT or SIGTERM)
  1    any error
  130  a second signal during shutdown"
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

impl Command {
    /// What the command logs: so many `-d` flags, and the level without any. `None`: it logs nothing.
    pub(super) fn verbosity(&self) -> Option<(u8, LevelFilter)> {
        match self {
            Self::Client(args) | Self::Connector(args) | Self::Provider(args) => {
                Some((args.debug, LevelFilter::INFO))
            }
            Self::Server(args) => Some((args.debug, LevelFilter::INFO)),
            Self::Demo(args) => Some((args.debug, LevelFilter::WARN)),
            Self::Version => None,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Client(ClientArgs),
    Server(ServerArgs),
    Demo(DemoArgs),
    /// Print the version number
    Version,
    /// Start a client that offers SOCKS5 and lets a provider connect to targets (agent mode)
    Connector(ClientArgs),
    /// Start a client that connects to targets for others; the same as client -r
    Provider(ClientArgs),
}

/// Start the client: applications connect to it by SOCKS5
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  linksocks client -t my_token -u ws://localhost:8765 -p 9870
  curl --socks5-hostname localhost:9870 http://example.com/")]
pub(super) struct ClientArgs {
    /// Authentication token
    #[arg(short, long, env = "LINKSOCKS_TOKEN", help_heading = KEY_FLAGS)]
    pub(super) token: Option<String>,

    /// WebSocket server address
    #[arg(short, long, env = "LINKSOCKS_URL", default_value = "ws://localhost:8765", help_heading = KEY_FLAGS)]
    pub(super) url: String,

    /// SOCKS5 server listen port; 0 lets the system choose
    #[arg(short = 'p', long, env = "LINKSOCKS_SOCKS_PORT", default_value = "9870", help_heading = KEY_FLAGS)]
    #[arg(value_name = "PORT")]
    pub(super) socks_port: u16,

    /// SOCKS5 server listen address
    #[arg(short, long, env = "LINKSOCKS_SOCKS_HOST", default_value = "127.0.0.1", help_heading = KEY_FLAGS)]
    #[arg(value_name = "HOST")]
    pub(super) socks_host: String,

    /// Connect to targets for others: a provider
    #[arg(short, long, help_heading = KEY_FLAGS)]
    pub(super) reverse: bool,

    /// Token that this provider lets connectors use, if the server allows that (with -r)
    #[arg(short, long, env = "LINKSOCKS_CONNECTOR_TOKEN", help_heading = KEY_FLAGS, value_name = "TOKEN")]
    pub(super) connector_token: Option<String>,

    /// SOCKS5 authentication username
    #[arg(short = 'n', long, env = "LINKSOCKS_SOCKS_USERNAME", help_heading = OTHER_FLAGS)]
    #[arg(value_name = "NAME")]
    pub(super) socks_username: Option<String>,

    /// SOCKS5 authentication password
    #[arg(short = 'w', long, env = "LINKSOCKS_SOCKS_PASSWORD", help_heading = OTHER_FLAGS)]
    #[arg(value_name = "PASSWORD")]
    pub(super) socks_password: Option<String>,

    /// Start the SOCKS server immediately
    #[arg(short = 'i', long, help_heading = OTHER_FLAGS)]
    pub(super) socks_no_wait: bool,

    /// Stop when the server disconnects
    #[arg(short = 'R', long, help_heading = OTHER_FLAGS)]
    pub(super) no_reconnect: bool,

    /// Always wait so long before reconnecting [default: 1s, growing up to 60s]
    #[arg(long, value_parser = duration::parse_positive, help_heading = OTHER_FLAGS)]
    #[arg(value_name = "DURATION")]
    pub(super) reconnect_delay: Option<Duration>,

    /// Reconnect also after the server has rejected the token
    #[arg(long, env = "LINKSOCKS_RETRY_AUTH", help_heading = OTHER_FLAGS)]
    pub(super) retry_auth: bool,

    /// Number of WebSocket connections; 0 means 1, a negative number one per CPU
    #[arg(short = 'T', long, default_value = "1", allow_negative_numbers = true, help_heading = OTHER_FLAGS)]
    #[arg(value_name = "N")]
    pub(super) threads: i64,

    /// Tell applications at once that they are connected; if it turns out wrong, they see a reset
    #[arg(short = 'f', long, env = "LINKSOCKS_FASTOPEN", help_heading = OTHER_FLAGS)]
    pub(super) fast_open: bool,

    /// Proxy through which the server is connected to, or with -r targets: socks5://[user:pass@]host[:1080] or
    /// http://[user:pass@]host[:8080]
    #[arg(short = 'x', long, env = "LINKSOCKS_UPSTREAM_PROXY", help_heading = OTHER_FLAGS)]
    #[arg(value_name = "URL")]
    pub(super) upstream_proxy: Option<String>,

    /// Ignore proxy settings from environment variables when connecting to the server
    #[arg(short = 'E', long, help_heading = OTHER_FLAGS)]
    pub(super) no_env_proxy: bool,

    /// Header to send to the server, 'Name: value' (repeatable)
    #[arg(long, help_heading = OTHER_FLAGS, value_name = "HEADER")]
    pub(super) header: Vec<String>,

    /// Certificate authorities to trust besides those of the system, a PEM file (repeatable)
    #[cfg(feature = "tls")]
    #[arg(long, env = "LINKSOCKS_CA", help_heading = OTHER_FLAGS, value_name = "FILE")]
    pub(super) ca: Vec<PathBuf>,

    /// Name that the server's certificate must be for, instead of the host of the URL
    #[cfg(feature = "tls")]
    #[arg(long, env = "LINKSOCKS_SNI", help_heading = OTHER_FLAGS, value_name = "NAME")]
    pub(super) sni: Option<String>,

    /// DANGEROUS: accept any certificate; anyone on the way can read and change everything
    #[cfg(feature = "tls")]
    #[arg(long, help_heading = OTHER_FLAGS)]
    pub(super) insecure: bool,

    /// Allow only matching destinations, or with a leading ! forbid them: ADDR:PORT, either part may be
    /// empty; ADDR may be an IP, a network, a range or 'private'
    #[arg(long, value_name = "ADDR:PORT", action = ArgAction::Append, help_heading = OTHER_FLAGS)]
    pub(super) access_rule: Vec<AccessRule>,

    /// Direct mode; all traffic takes the relay in both
    #[arg(long, default_value = "auto", help_heading = OTHER_FLAGS)]
    #[arg(value_name = "MODE", value_parser = direct_mode, hide_possible_values = true)]
    pub(super) direct_mode: DirectMode,

    /// Flags of direct mode that were given.
    #[arg(skip)]
    pub(super) ignored: Vec<&'static str>,

    #[command(flatten)]
    pub(super) timeouts: TimeoutArgs,

    #[command(flatten)]
    pub(super) flow: FlowArgs,

    /// Show debug logs (-dd for trace logs)
    #[arg(short, long, action = ArgAction::Count, help_heading = OTHER_FLAGS)]
    pub(super) debug: u8,
}

/// Start the WebSocket server
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  linksocks server -t my_token                    (forward: connects to what its clients ask for)
  linksocks server -r -t my_token -p 9870         (reverse: providers connect to what is asked for at port 9870)
  linksocks server -r -t my_token -c my_connector (agent: ... and to what connectors ask for)
  linksocks server -r -t my_token -a              (autonomy: providers choose their connector tokens)
  linksocks server -H 127.0.0.1 -P 8080")]
pub(super) struct ServerArgs {
    /// Authentication token; a random one is made and shown if none is given
    #[arg(short, long, env = "LINKSOCKS_TOKEN", help_heading = KEY_FLAGS)]
    pub(super) token: Option<String>,

    /// WebSocket server listen address
    #[arg(short = 'H', long, env = "LINKSOCKS_WEBSOCKET_HOST", default_value = "0.0.0.0", help_heading = KEY_FLAGS)]
    #[arg(value_name = "HOST")]
    pub(super) ws_host: String,

    /// WebSocket server listen port; 0 lets the system choose
    #[arg(short = 'P', long, env = "LINKSOCKS_WEBSOCKET_PORT", default_value = "8765", help_heading = KEY_FLAGS)]
    #[arg(value_name = "PORT")]
    pub(super) ws_port: u16,

    /// Let providers connect to targets: for applications at the SOCKS5 port, and for connectors
    #[arg(short, long, help_heading = KEY_FLAGS)]
    pub(super) reverse: bool,

    /// Token for connectors (with -r); a random one is made and shown if none is given
    #[arg(short, long, env = "LINKSOCKS_CONNECTOR_TOKEN", help_heading = KEY_FLAGS, value_name = "TOKEN")]
    pub(super) connector_token: Option<String>,

    /// Let providers choose the tokens of their connectors; there is no SOCKS5 port then (with -r)
    #[arg(short = 'a', long, env = "LINKSOCKS_CONNECTOR_AUTONOMY", help_heading = KEY_FLAGS)]
    pub(super) connector_autonomy: bool,

    /// Key for the HTTP API, which adds and removes tokens: the server starts without any
    #[arg(short = 'k', long, env = "LINKSOCKS_API_KEY", help_heading = KEY_FLAGS, value_name = "KEY")]
    pub(super) api_key: Option<String>,

    /// SOCKS5 port for applications (with -r)
    #[arg(short = 'p', long, env = "LINKSOCKS_SOCKS_PORT", default_value = "9870", help_heading = KEY_FLAGS)]
    #[arg(value_name = "PORT")]
    pub(super) socks_port: u16,

    /// Address of the SOCKS5 port (with -r)
    #[arg(short, long, env = "LINKSOCKS_SOCKS_HOST", default_value = "127.0.0.1", help_heading = KEY_FLAGS)]
    #[arg(value_name = "HOST")]
    pub(super) socks_host: String,

    /// SOCKS5 authentication username (with -r)
    #[arg(short = 'n', long, env = "LINKSOCKS_SOCKS_USERNAME", help_heading = OTHER_FLAGS)]
    #[arg(value_name = "NAME")]
    pub(super) socks_username: Option<String>,

    /// SOCKS5 authentication password (with -r)
    #[arg(short = 'w', long, env = "LINKSOCKS_SOCKS_PASSWORD", help_heading = OTHER_FLAGS)]
    #[arg(value_name = "PASSWORD")]
    pub(super) socks_password: Option<String>,

    /// Open the SOCKS5 port before the first provider is there (with -r)
    #[arg(short = 'i', long, help_heading = OTHER_FLAGS)]
    pub(super) socks_nowait: bool,

    /// Tell applications at once that they are connected; if it turns out wrong, they see a reset (with -r)
    #[arg(short = 'f', long, env = "LINKSOCKS_FASTOPEN", help_heading = OTHER_FLAGS)]
    pub(super) fast_open: bool,

    /// How long what connectors ask for waits for a provider
    #[arg(long, default_value = "5s", value_parser = duration::parse, help_heading = OTHER_FLAGS)]
    #[arg(value_name = "DURATION")]
    pub(super) connector_wait_provider: Duration,

    /// Proxy through which targets are connected to: socks5://[user:pass@]host[:1080] or
    /// http://[user:pass@]host[:8080]
    #[arg(short = 'x', long, env = "LINKSOCKS_UPSTREAM_PROXY", help_heading = OTHER_FLAGS)]
    #[arg(value_name = "URL")]
    pub(super) upstream_proxy: Option<String>,

    /// Certificate chain for TLS, the server's own first, a PEM file; needs --tls-key
    #[cfg(feature = "tls")]
    #[arg(long, env = "LINKSOCKS_TLS_CERT", help_heading = OTHER_FLAGS, value_name = "FILE")]
    pub(super) tls_cert: Option<PathBuf>,

    /// Private key for TLS, a PEM file; needs --tls-cert
    #[cfg(feature = "tls")]
    #[arg(long, env = "LINKSOCKS_TLS_KEY", help_heading = OTHER_FLAGS, value_name = "FILE")]
    pub(super) tls_key: Option<PathBuf>,

    /// Reverse proxy, an address or a network, whose X-Forwarded-For (or else Forwarded) says who the client
    /// is (repeatable); headers of others are never believed
    #[arg(long, env = "LINKSOCKS_TRUSTED_PROXY", help_heading = OTHER_FLAGS, value_name = "CIDR")]
    #[arg(value_delimiter = ',')]
    pub(super) trusted_proxy: Vec<TrustedProxy>,

    /// Flags of direct mode that were given.
    #[arg(skip)]
    pub(super) ignored: Vec<&'static str>,

    #[command(flatten)]
    pub(super) timeouts: TimeoutArgs,

    #[command(flatten)]
    pub(super) flow: FlowArgs,

    /// Allow only matching destinations, or with a leading ! forbid them: ADDR:PORT, either part may be
    /// empty; ADDR may be an IP, a network, a range or 'private'
    #[arg(long, value_name = "ADDR:PORT", action = ArgAction::Append, help_heading = OTHER_FLAGS)]
    pub(super) access_rule: Vec<AccessRule>,

    /// Show debug logs (-dd for trace logs)
    #[arg(short, long, action = ArgAction::Count, help_heading = OTHER_FLAGS)]
    pub(super) debug: u8,
}

/// Run server, client and a web server here, fetch through them, check every byte
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Stay up afterwards, to be tried out with the command that is shown, until Ctrl-C
    #[arg(long, help_heading = OTHER_FLAGS)]
    pub(super) serve: bool,

    /// Show debug logs (-dd for trace logs)
    #[arg(short, long, action = ArgAction::Count, help_heading = OTHER_FLAGS)]
    pub(super) debug: u8,
}

/// What `--direct-mode` may be: without direct connections both mean that the relay is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DirectMode {
    RelayOnly,
    Auto,
}

fn direct_mode(text: &str) -> Result<DirectMode, String> {
    if text == "direct-only" {
        return Err("not supported; use relay-only or auto".to_owned());
    }
    DirectMode::from_str(text, false).map_err(|_| "expected relay-only or auto".to_owned())
}

/// A flag of the Go program that is about direct mode only: it is read, and changes nothing.
pub(super) struct DirectFlag {
    pub(super) name: &'static str,
    pub(super) takes_value: bool,
}

impl DirectFlag {
    const fn switch(name: &'static str) -> Self {
        Self { name, takes_value: false }
    }

    const fn value(name: &'static str) -> Self {
        Self { name, takes_value: true }
    }

    pub(super) fn arg(&self) -> clap::Arg {
        let action = if self.takes_value { ArgAction::Append } else { ArgAction::SetTrue };
        clap::Arg::new(self.name).long(self.name).hide(true).action(action)
    }
}

pub(super) const CLIENT_DIRECT: &[DirectFlag] = &[
    DirectFlag::value("direct-discovery"),
    DirectFlag::value("direct-host-candidates"),
    DirectFlag::value("stun-server"),
    DirectFlag::value("direct-only-action"),
    DirectFlag::switch("direct-upnp"),
    DirectFlag::value("direct-upnp-lease"),
    DirectFlag::switch("direct-upnp-keep"),
    DirectFlag::value("direct-upnp-external-port"),
];

pub(super) const SERVER_DIRECT: &[DirectFlag] = &[
    DirectFlag::switch("direct-enable"),
    DirectFlag::switch("direct-rendezvous-udp"),
    DirectFlag::value("direct-rendezvous-host"),
    DirectFlag::value("direct-rendezvous-port"),
];
