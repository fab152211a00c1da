//! The HTTP API of a server: tokens are added and removed, and its state is shown, with JSON.
//!
//! | request | body | answer |
//! |---|---|---|
//! | any method, `/` | | a line of text for people |
//! | `POST /api/token` | a token, see below | [`added`] |
//! | `DELETE /api/token/TOKEN` | | [`removed`] |
//! | `DELETE /api/token` | `{"token":TOKEN}` | [`removed`] |
//! | `GET /api/status` | | [`status`] |
//! | `GET /api/config/access` | | [`access`] |
//! | `PUT /api/config/access` | `{"entry":RULES,"dial":RULES}` | [`access_set`] |
//!
//! [`route`] reads a request and checks its key, which stands in the header [`KEY_HEADER`]. Whatever
//! it finds wrong, it answers itself; the rest is for the registry of tokens, whose answers the
//! functions of the last column put into words. Without any key, there is no API.
//!
//! A [`ServerEngine`](crate::ServerEngine) does all that with
//! [`Input::HttpRequest`](crate::io::Input::HttpRequest); a driver needs [`KEY_HEADER`], [`MAX_BODY`], and
//! [`too_large`] for bodies that it does not keep.
//!
//! ```
//! use linksocks_sansio::Token;
//! use linksocks_sansio::http::admin::{AdminRequest, route};
//! use linksocks_sansio::io::HttpRequest;
//! use linksocks_sansio::token::NewToken;
//!
//! let mut request = HttpRequest {
//!     peer: "192.0.2.2:40000".parse()?,
//!     method: "POST".into(),
//!     path: "/api/token".into(),
//!     api_key: Some(Token::new("key")?),
//!     body: r#"{"type":"reverse","token":"secret","port":9870}"#.into(),
//! };
//! let keys = [Token::new("key")?];
//! let Ok(AdminRequest::Add(NewToken::Reverse(token))) = route(&request, &keys) else { panic!() };
//! assert_eq!(token.port, Some(9870));
//!
//! request.api_key = Some(Token::new("another")?);
//! assert_eq!(route(&request, &keys).unwrap_err().status, 401);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A token
//!
//! `type` is `forward`, `reverse` or `connector`; a connector needs `reverse_token`. All else is
//! optional: `token`, `rules`, and for a reverse token `port`, `username` and `password`,
//! `allow_manage_connector`. Keys are matched in any case, unknown ones are ignored; of equal keys the
//! last one counts. `null`, an empty text and the port 0 stand for what is not there.
//!
//! # Access rules
//!
//! `RULES` is a list of `{"Addrs":["10.0.0.0/8","192.0.2.7-20"],"Ports":[80,[90,150]]}`: any of the
//! addresses on any of the ports; no addresses are all, and no ports as well. An empty list allows
//! everything.
//!
//! That is the form of all LinkSocks servers, in which rules can only allow. Here an address with a `!`
//! before it is denied (`{"Addrs":["!private"]}`, and `{"Addrs":["!"],"Ports":[25]}` for all
//! addresses), and then so must be all addresses of its rule; see [`crate::access`] for what that
//! means.
//!
//! In `PUT /api/config/access`, a list that is missing or `null` leaves the rules as they are; if one
//! list is wrong, neither is used.

mod answer;
mod fields;
mod request;
mod rules;
#[cfg(test)]
mod tests;

use percent_encoding::percent_decode_str;

use self::answer::{JSON, TEXT};
use crate::access::AccessRules;
use crate::io::{HttpRequest, HttpResponse};
use crate::secret::Token;
use crate::token::NewToken;

pub use self::answer::{
    ServerStatus, TokenStatus, access, access_set, added, not_found, removed, status, too_large,
    too_many_failures,
};

/// The name of the header in which the key is sent.
pub const KEY_HEADER: &str = "X-API-Key";

/// The longest body of a request, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// What a request with a valid key asks for.
#[derive(Clone, Debug)]
pub enum AdminRequest {
    /// Add a token. Answered by [`added`].
    Add(NewToken),
    /// Remove a token and cut its clients. Answered by [`removed`].
    Remove {
        /// A token of any kind, or none at all.
        token: Token,
    },
    /// Show the tokens and their clients. Answered by [`status`].
    Status,
    /// Show the rules that hold for the whole server. Answered by [`access`].
    Access,
    /// Replace the rules that hold for the whole server. Answered by [`access_set`].
    SetAccess {
        /// The new [`entry_rules`](crate::config::RelayConfig::entry_rules); `None`: as they are.
        entry: Option<AccessRules>,
        /// The new [`dial_rules`](crate::config::RelayConfig::dial_rules); `None`: as they are.
        dial: Option<AccessRules>,
    },
}

/// What there is below `/api/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint<'a> {
    /// With the token in the path; may be empty.
    Token(&'a str),
    Status,
    Access,
}

impl<'a> Endpoint<'a> {
    fn find(path: &'a str) -> Option<Self> {
        match path {
            "/api/token" => Some(Self::Token("")),
            "/api/status" => Some(Self::Status),
            "/api/config/access" => Some(Self::Access),
            _ => path.strip_prefix("/api/token/").map(Self::Token),
        }
    }

    /// The type of an answer to a request that is not looked into.
    const fn content_type(self) -> &'static str {
        match self {
            Self::Status => TEXT,
            Self::Token(_) | Self::Access => JSON,
        }
    }
}

/// Reads a request. `keys` are those of the API; none: there is no API. An empty key opens nothing.
///
/// # Errors
/// The answer, if that is all that there is to do.
pub fn route(request: &HttpRequest, keys: &[Token]) -> Result<AdminRequest, HttpResponse> {
    if request.body.len() > MAX_BODY {
        return Err(too_large());
    }
    let path = percent_decode_str(&request.path).decode_utf8().map_err(|_| not_found())?;
    if path == "/" {
        return Err(answer::front_page(!keys.is_empty()));
    }
    let endpoint = Endpoint::find(&path).filter(|_| !keys.is_empty()).ok_or_else(not_found)?;
    if !is_authorized(request, keys) {
        return Err(answer::invalid_key(endpoint.content_type()));
    }
    match (endpoint, request.method.as_str()) {
        (Endpoint::Token(_), "POST") => request::addition(&request.body),
        (Endpoint::Token(token), "DELETE") => request::removal(token, &request.body),
        (Endpoint::Status, "GET") => Ok(AdminRequest::Status),
        (Endpoint::Access, "GET") => Ok(AdminRequest::Access),
        (Endpoint::Access, "PUT") => request::access(&request.body),
        _ => Err(answer::method_not_allowed(endpoint.content_type())),
    }
}

/// Whether a request has one of the keys.
#[must_use]
pub fn is_authorized(request: &HttpRequest, keys: &[Token]) -> bool {
    request.api_key.as_ref().is_some_and(|key| is_among(key, keys))
}

/// Looks at all keys, so that the time tells nothing about which one matched.
fn is_among(given: &Token, keys: &[Token]) -> bool {
    let found = keys.iter().fold(false, |found, key| found | (key == given));
    found && !given.expose().is_empty()
}
