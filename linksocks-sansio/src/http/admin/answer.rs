//! Answers to requests, byte for byte as real servers have them.

use std::fmt::Display;

use bytes::Bytes;
use serde::Serialize;

use super::rules::{RuleText, texts};
use crate::access::{AccessRules, RuleError};
use crate::io::HttpResponse;
use crate::secret::Token;
use crate::token::{AddedToken, TokenError};

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";

/// What this server calls its version.
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// Stands for the SOCKS port of a token that has none.
const NO_PORT: i32 = -1;

/// What a server shows of itself.
#[derive(Clone, Debug, Default)]
pub struct ServerStatus<'a> {
    /// All tokens but those of connectors, in the order in which they are to be shown.
    pub tokens: Vec<TokenStatus<'a>>,
}

/// What a server shows of a token.
#[derive(Clone, Debug)]
pub enum TokenStatus<'a> {
    /// A forward token.
    Forward {
        /// The token.
        token: &'a Token,
        /// How many links of clients it has.
        clients: usize,
    },
    /// A reverse token.
    Reverse {
        /// The token.
        token: &'a Token,
        /// How many links of providers it has.
        clients: usize,
        /// Its SOCKS port; `None`: its providers manage connectors, there is none.
        port: Option<u16>,
        /// Its connector tokens.
        connectors: Vec<&'a Token>,
    },
}

/// The answer to every request that changes something, and to those that fail.
#[derive(Default, Serialize)]
struct Outcome<'a> {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct StatusText<'a> {
    version: &'static str,
    tokens: Vec<TokenText<'a>>,
    direct: DirectText,
}

#[derive(Serialize)]
struct TokenText<'a> {
    token: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    clients_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    connector_tokens: Vec<&'a str>,
}

impl<'a> From<&TokenStatus<'a>> for TokenText<'a> {
    fn from(status: &TokenStatus<'a>) -> Self {
        match status {
            TokenStatus::Forward { token, clients } => Self {
                token: token.expose(),
                kind: "forward",
                clients_count: *clients,
                port: None,
                connector_tokens: Vec::new(),
            },
            TokenStatus::Reverse { token, clients, port, connectors } => Self {
                token: token.expose(),
                kind: "reverse",
                clients_count: *clients,
                port: Some(port.map_or(NO_PORT, i32::from)),
                connector_tokens: connectors.iter().map(|token| token.expose()).collect(),
            },
        }
    }
}

/// Links between clients that bypass the server, which we don't have.
#[derive(Serialize)]
struct DirectText {
    enabled: bool,
}

#[derive(Serialize)]
struct AccessText {
    entry: Option<Vec<RuleText>>,
    dial: Option<Vec<RuleText>>,
}

/// The answer to [`AdminRequest::Add`](super::AdminRequest::Add). `manages_connectors`: it asked for
/// [`ReverseToken::manage_connectors`](crate::token::ReverseToken::manage_connectors).
#[must_use]
pub fn added(result: &Result<AddedToken, TokenError>, manages_connectors: bool) -> HttpResponse {
    match result {
        Ok(AddedToken { token, port }) => {
            let port = port.map(i32::from).or_else(|| manages_connectors.then_some(NO_PORT));
            let token = Some(token.expose());
            json(200, &Outcome { success: true, token, port, ..Outcome::default() })
        }
        Err(error) => refusal(error),
    }
}

/// The answer to [`AdminRequest::Remove`](super::AdminRequest::Remove). If there is no such token, it says
/// so; real servers call that a success, too.
#[must_use]
pub fn removed(token: &Token, result: &Result<AddedToken, TokenError>) -> HttpResponse {
    let error = result.as_ref().err().map(ToString::to_string);
    let (success, token) = (result.is_ok(), Some(token.expose()));
    json(200, &Outcome { success, token, error: error.as_deref(), ..Outcome::default() })
}

/// The answer to [`AdminRequest::Status`](super::AdminRequest::Status).
#[must_use]
pub fn status(status: &ServerStatus<'_>) -> HttpResponse {
    let tokens = status.tokens.iter().map(TokenText::from).collect();
    json(200, &StatusText { version: VERSION, tokens, direct: DirectText { enabled: false } })
}

/// The answer to [`AdminRequest::Access`](super::AdminRequest::Access).
#[must_use]
pub fn access(entry: &AccessRules, dial: &AccessRules) -> HttpResponse {
    json(200, &AccessText { entry: texts(entry), dial: texts(dial) })
}

/// The answer to [`AdminRequest::SetAccess`](super::AdminRequest::SetAccess).
#[must_use]
pub fn access_set() -> HttpResponse {
    json(200, &Outcome { success: true, ..Outcome::default() })
}

/// The answer to a request for something that there is not.
#[must_use]
pub fn not_found() -> HttpResponse {
    text(404, "404 page not found\n")
}

/// The answer to a request whose body is longer than [`MAX_BODY`](super::MAX_BODY).
#[must_use]
pub fn too_large() -> HttpResponse {
    text(413, "request body too large\n")
}

/// The answer to a request from where too many wrong keys have come.
#[must_use]
pub fn too_many_failures() -> HttpResponse {
    error(429, "too many wrong keys from this address; try again later")
}

/// The line for people who look in.
pub(super) fn front_page(has_api: bool) -> HttpResponse {
    let api = if has_api { ". API endpoints available at /api/*" } else { " but API is not enabled." };
    text(200, format!("LinkSocks {VERSION} is running{api}\n"))
}

pub(super) fn invalid_key(content_type: &'static str) -> HttpResponse {
    HttpResponse { content_type, ..error(401, "invalid API key") }
}

pub(super) fn method_not_allowed(content_type: &'static str) -> HttpResponse {
    HttpResponse { status: 405, content_type, body: Bytes::new() }
}

/// The body is not what the request needs.
pub(super) fn invalid_body() -> HttpResponse {
    error(400, "invalid request body")
}

pub(super) fn invalid_type() -> HttpResponse {
    error(400, "invalid token type")
}

/// The rules for the whole server are wrong.
pub(super) fn invalid_rules(reason: &RuleError) -> HttpResponse {
    error(400, &reason.to_string())
}

/// The request is well-formed, and in vain.
pub(super) fn failure(reason: &str) -> HttpResponse {
    error(200, reason)
}

/// As [`failure`].
pub(super) fn refusal(reason: impl Display) -> HttpResponse {
    failure(&reason.to_string())
}

/// As [`TokenError::Port`], for a number that is no port at all.
pub(super) fn no_such_port(port: i64) -> HttpResponse {
    refusal(format_args!("cannot allocate port: {port}"))
}

fn error(status: u16, reason: &str) -> HttpResponse {
    json(status, &Outcome { error: Some(reason), ..Outcome::default() })
}

fn json(status: u16, value: &impl Serialize) -> HttpResponse {
    let mut body = serde_json::to_vec(value).expect("texts, numbers and lists of them are JSON");
    body.push(b'\n');
    HttpResponse { status, content_type: JSON, body: body.into() }
}

fn text(status: u16, body: impl Into<Bytes>) -> HttpResponse {
    HttpResponse { status, content_type: TEXT, body: body.into() }
}
