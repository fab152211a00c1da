//! What the tokens of a server let their clients do, and how they are added and removed.
//!
//! | token | clients | what they may do |
//! |---|---|---|
//! | [`ForwardToken`] | any | let the server connect to targets |
//! | [`ReverseToken`] | providers | connect to targets for others |
//! | [`ConnectorToken`] | connectors | let the providers of one reverse token connect to targets |
//!
//! A server starts with [`ServerConfig::tokens`](crate::ServerConfig::tokens). While it runs, tokens are
//! added by [`Command::AddToken`](crate::io::Command::AddToken), the HTTP API
//! ([`http::admin`](crate::http::admin)) and, connector tokens only, by providers
//! ([`ReverseToken::manage_connectors`]).

use thiserror::Error;

use crate::access::AccessRules;
use crate::secret::{Credentials, Token};

/// What a client is told whose address has failed too often.
pub(crate) const TOO_MANY_FAILURES: &str = "too many failed logins from this address; try again later";

/// A token to add to a server.
///
/// ```
/// # use std::time::Instant;
/// use linksocks_sansio::token::{ConnectorToken, NewToken, ReverseToken, TokenError};
/// use linksocks_sansio::{Action, Command, Engine, Input, Output, ServerConfig, ServerEngine, Ticket, Token};
///
/// # let now = Instant::now();
/// let mut server = ServerEngine::new(ServerConfig::default(), [7; 32], now);
/// let mut add = |token| {
///     let command = Command::AddToken { ticket: Ticket(1), token };
///     server.handle_input(now, Input::Command(command));
///     loop {
///         match server.poll_output() {
///             Output::Action(Action::AnswerToken { ticket: Ticket(1), result }) => break result,
///             Output::Timeout(_) => panic!("tokens are answered at once"),
///             _ => {}
///         }
///     }
/// };
/// // The server makes the token, and takes a port from its pool.
/// let reverse = add(NewToken::Reverse(ReverseToken::default()))?;
/// assert!((1024..=10240).contains(&reverse.port.unwrap()));
///
/// let mut connector = ConnectorToken::new(reverse.token);
/// connector.token = Some(Token::new("for connectors")?);
/// add(NewToken::Connector(connector.clone()))?;
///
/// connector.reverse = Token::new("of nobody")?;
/// assert_eq!(add(NewToken::Connector(connector)), Err(TokenError::UnknownReverseToken));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub enum NewToken {
    /// For forward mode.
    Forward(ForwardToken),
    /// For providers.
    Reverse(ReverseToken),
    /// For connectors.
    Connector(ConnectorToken),
}

/// Clients with this token let the server connect to targets (forward mode).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ForwardToken {
    /// `None`: the server makes one.
    pub token: Option<Token>,
    /// What they may connect to, besides what the rules of the server say. Default: everything.
    pub rules: AccessRules,
}

/// Clients with this token are providers: they connect to targets for applications that use the SOCKS
/// port of the token (reverse mode) and for connectors (agent mode).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ReverseToken {
    /// `None`: the server makes one.
    pub token: Option<Token>,
    /// The SOCKS port; `None`: one of the server's pool, see
    /// [`ServerConfig::port_pool`](crate::ServerConfig::port_pool). There is no such port if
    /// [`manage_connectors`](Self::manage_connectors) is set.
    pub port: Option<u16>,
    /// What applications must present at the SOCKS port. Default none.
    pub credentials: Option<Credentials>,
    /// Listen before the first provider is there. Default false.
    pub listen_early: bool,
    /// Providers add and remove connector tokens themselves, and each serves only the connectors of
    /// its own tokens (autonomy mode). Default false.
    pub manage_connectors: bool,
    /// What applications may ask for at the SOCKS port. Default: everything.
    pub rules: AccessRules,
}

/// Clients with this token are connectors: what their applications ask for, providers of a reverse
/// token connect to (agent mode). The same one again, for the same reverse token, is no error: it has the
/// rules of the later one then.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectorToken {
    /// `None`: the server makes one.
    pub token: Option<Token>,
    /// The reverse token whose providers serve them.
    pub reverse: Token,
    /// What they may ask for. Default: everything.
    pub rules: AccessRules,
}

impl ConnectorToken {
    /// A connector token for the providers of `reverse`, made by the server.
    #[must_use]
    pub fn new(reverse: Token) -> Self {
        Self { token: None, reverse, rules: AccessRules::default() }
    }
}

/// A token that has been added or removed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AddedToken {
    /// The token as given, or as made.
    pub token: Token,
    /// The SOCKS port of a reverse token without connector management. It is open once a provider is
    /// there, or at once with [`ReverseToken::listen_early`]; if the token was removed, it closes.
    pub port: Option<u16>,
}

/// Why a token can't be added or removed. The texts are those of real servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub enum TokenError {
    /// The text stands for clients without a token.
    #[error("'anonymous' is reserved and cannot be used as a token")]
    Reserved,
    /// As [`TokenError::Reserved`], for a connector token.
    #[error("'anonymous' is reserved and cannot be used as a connector token")]
    ReservedConnector,
    /// It is a token already.
    #[error("token already exists")]
    Exists,
    /// As [`TokenError::Exists`], for a connector token.
    #[error("connector token already exists")]
    ConnectorExists,
    /// It is no token.
    #[error("there is no such token")]
    Unknown,
    /// A connector token without its reverse token.
    #[error("reverse_token is required for connector token")]
    NoReverseToken,
    /// The reverse token of a connector token is none.
    #[error("reverse token does not exist")]
    UnknownReverseToken,
    /// Another token has this SOCKS port; 0: the whole pool is in use.
    #[error("cannot allocate port: {0}")]
    Port(u16),
    /// The server has stopped.
    #[error("the server has stopped")]
    Stopped,
    /// The command went to a client.
    #[error("only servers have tokens")]
    NotAServer,
    /// There are as many tokens as [`Limits::tokens`](crate::config::Limits::tokens) allows.
    #[error("too many tokens")]
    TooMany,
}
