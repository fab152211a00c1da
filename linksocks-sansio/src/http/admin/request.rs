//! What the bodies of requests ask for.

use serde::de::{IgnoredAny, MapAccess};

use super::answer::{failure, invalid_body, invalid_type, refusal};
use super::fields::{Fields, parse, read_into};
use super::rules::{RuleList, rules};
use super::{AdminRequest, answer};
use crate::io::HttpResponse;
use crate::secret::{Credentials, Token};
use crate::token::{ConnectorToken, ForwardToken, NewToken, ReverseToken, TokenError};

/// The body of a request about a token.
#[derive(Default)]
struct TokenFields {
    kind: String,
    token: String,
    port: i64,
    username: String,
    password: String,
    reverse_token: String,
    allow_manage_connector: bool,
    rules: RuleList,
}

impl Fields for TokenFields {
    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => read_into(&mut self.kind, map),
            "token" => read_into(&mut self.token, map),
            "port" => read_into(&mut self.port, map),
            "username" => read_into(&mut self.username, map),
            "password" => read_into(&mut self.password, map),
            "reverse_token" => read_into(&mut self.reverse_token, map),
            "allow_manage_connector" => read_into(&mut self.allow_manage_connector, map),
            "rules" => read_into(&mut self.rules, map),
            _ => map.next_value().map(|IgnoredAny| ()),
        }
    }
}

/// Reads the body of `POST /api/token`.
pub(super) fn addition(body: &[u8]) -> Result<AdminRequest, HttpResponse> {
    let fields: TokenFields = parse(body).map_err(|_| invalid_body())?;
    let new = match fields.kind.as_str() {
        "forward" => NewToken::Forward(fields.forward()?),
        "reverse" => NewToken::Reverse(fields.reverse()?),
        "connector" => NewToken::Connector(fields.connector()?),
        _ => return Err(invalid_type()),
    };
    Ok(AdminRequest::Add(new))
}

/// Reads `DELETE /api/token/TOKEN`; if there is no token in the path, it is in the body.
pub(super) fn removal(token: &str, body: &[u8]) -> Result<AdminRequest, HttpResponse> {
    let token = if token.is_empty() {
        parse(body).map_or_else(|_| String::new(), |fields: TokenFields| fields.token)
    } else {
        token.to_owned()
    };
    match optional_token(token)? {
        Some(token) => Ok(AdminRequest::Remove { token }),
        None => Err(failure("token not specified")),
    }
}

impl TokenFields {
    fn forward(self) -> Result<ForwardToken, HttpResponse> {
        Ok(ForwardToken { token: optional_token(self.token)?, rules: token_rules(self.rules)? })
    }

    fn reverse(self) -> Result<ReverseToken, HttpResponse> {
        let credentials = match (&*self.username, &*self.password) {
            ("", "") => None,
            // With one of them alone, nobody would know whether the port is open to all.
            _ => Some(Credentials::new(self.username, self.password).map_err(refusal)?),
        };
        let port = match u16::try_from(self.port) {
            Ok(port) => (port != 0).then_some(port),
            Err(_) => return Err(answer::no_such_port(self.port)),
        };
        Ok(ReverseToken {
            token: optional_token(self.token)?,
            port,
            credentials,
            manage_connectors: self.allow_manage_connector,
            rules: token_rules(self.rules)?,
            ..ReverseToken::default()
        })
    }

    fn connector(self) -> Result<ConnectorToken, HttpResponse> {
        let reverse =
            optional_token(self.reverse_token)?.ok_or_else(|| refusal(TokenError::NoReverseToken))?;
        Ok(ConnectorToken { token: optional_token(self.token)?, reverse, rules: token_rules(self.rules)? })
    }
}

fn optional_token(text: String) -> Result<Option<Token>, HttpResponse> {
    if text.is_empty() { Ok(None) } else { Token::new(text).map(Some).map_err(refusal) }
}

fn token_rules(list: RuleList) -> Result<crate::access::AccessRules, HttpResponse> {
    rules(list).map_err(refusal)
}

/// The body of `PUT /api/config/access`.
#[derive(Default)]
struct AccessFields {
    entry: Option<RuleList>,
    dial: Option<RuleList>,
}

impl Fields for AccessFields {
    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "entry" => self.entry = map.next_value()?,
            "dial" => self.dial = map.next_value()?,
            _ => map.next_value().map(|IgnoredAny| ())?,
        }
        Ok(())
    }
}

/// Reads the body of `PUT /api/config/access`.
pub(super) fn access(body: &[u8]) -> Result<AdminRequest, HttpResponse> {
    let AccessFields { entry, dial } = parse(body).map_err(|_| invalid_body())?;
    let [entry, dial] = [entry, dial].map(|list| list.map(rules).transpose());
    let invalid = |error| answer::invalid_rules(&error);
    Ok(AdminRequest::SetAccess { entry: entry.map_err(invalid)?, dial: dial.map_err(invalid)? })
}
