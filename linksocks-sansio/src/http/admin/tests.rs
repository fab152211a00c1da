use bytes::Bytes;
use quickcheck::QuickCheck;

use super::{AdminRequest, MAX_BODY, ServerStatus, TokenStatus, added, route};
use crate::access::AccessRules;
use crate::io::{HttpRequest, HttpResponse};
use crate::secret::Token;
use crate::token::{AddedToken, NewToken, TokenError};

const KEY: &str = "k3y";

fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

fn request(method: &str, path: &str, body: impl Into<Bytes>) -> HttpRequest {
    let (method, path, body) = (method.to_owned(), path.to_owned(), body.into());
    let peer = "192.0.2.1:5".parse().unwrap();
    HttpRequest { peer, method, path, api_key: Some(token(KEY)), body }
}

fn gone(text: &str) -> Result<AddedToken, TokenError> {
    Ok(AddedToken { token: token(text), port: None })
}

fn ask(method: &str, path: &str, body: &str) -> Result<AdminRequest, HttpResponse> {
    route(&request(method, path, body.to_owned()), &[token("other"), token(KEY)])
}

/// What is answered without the registry.
fn answer(method: &str, path: &str, body: &str) -> (u16, &'static str, String) {
    parts(ask(method, path, body).unwrap_err())
}

fn parts(response: HttpResponse) -> (u16, &'static str, String) {
    (response.status, response.content_type, String::from_utf8(response.body.to_vec()).unwrap())
}

/// The body of an answer that is JSON, for a request that was understood.
fn body(response: HttpResponse) -> String {
    let (status, content_type, body) = parts(response);
    assert_eq!((status, content_type), (200, "application/json"));
    body
}

fn failure(error: &str) -> String {
    format!("{{\"success\":false,\"error\":\"{error}\"}}\n")
}

fn addition(body: &str) -> NewToken {
    match ask("POST", "/api/token", body) {
        Ok(AdminRequest::Add(new)) => new,
        other => panic!("{body}: {other:?}"),
    }
}

/// What is answered to an addition in vain.
fn refused(body: &str) -> (u16, String) {
    let (status, content_type, answer) = answer("POST", "/api/token", body);
    assert_eq!(content_type, "application/json");
    (status, answer)
}

/// Rules as the server shows them.
fn shown(rules: &AccessRules) -> String {
    let body = body(super::access(rules, &AccessRules::default()));
    body.strip_prefix("{\"entry\":")
        .and_then(|rest| rest.strip_suffix(",\"dial\":null}\n"))
        .unwrap()
        .to_owned()
}

#[test]
fn the_front_page_tells_whether_there_is_an_api() {
    let version = env!("CARGO_PKG_VERSION");
    let text = "text/plain; charset=utf-8";
    for method in ["GET", "POST", "BREW"] {
        let mut request = request(method, "/", "?");
        request.api_key = None;
        let page = parts(route(&request, &[token(KEY)]).unwrap_err());
        let line = format!("LinkSocks v{version} is running. API endpoints available at /api/*\n");
        assert_eq!(page, (200, text, line));
        let page = parts(route(&request, &[]).unwrap_err());
        assert_eq!(page, (200, text, format!("LinkSocks v{version} is running but API is not enabled.\n")));
    }
}

#[test]
fn what_is_not_there_is_not_found_with_or_without_a_key() {
    let not_found = (404, "text/plain; charset=utf-8", "404 page not found\n".to_owned());
    for path in
        ["", "*", "/api", "/api/", "/api/tokens", "/api/status/", "/API/status", "/x", "/api/token%2", "/%ff"]
    {
        assert_eq!(answer("GET", path, ""), not_found, "{path}");
        let mut request = request("GET", path, "");
        request.api_key = None;
        assert_eq!(parts(route(&request, &[token(KEY)]).unwrap_err()), not_found, "{path}");
    }
    for path in ["/api/status", "/api/token", "/api/config/access"] {
        let without_api = route(&request("GET", path, ""), &[]);
        assert_eq!(parts(without_api.unwrap_err()), not_found, "{path}");
    }
}

#[test]
fn only_a_key_opens_the_api() {
    for (path, content_type) in [
        ("/api/token", "application/json"),
        ("/api/token/x", "application/json"),
        ("/api/config/access", "application/json"),
        ("/api/status", "text/plain; charset=utf-8"),
    ] {
        // The key comes before the method and the body.
        for key in [None, Some(""), Some("k3"), Some("K3Y"), Some("k3y ")] {
            let mut request = request("BREW", path, "{");
            request.api_key = key.map(token);
            let answer = parts(route(&request, &[token(KEY), token("")]).unwrap_err());
            assert_eq!(answer, (401, content_type, failure("invalid API key")), "{path} {key:?}");
        }
    }
    assert!(matches!(ask("GET", "/api/status", ""), Ok(AdminRequest::Status)));
}

#[test]
fn other_methods_are_not_allowed() {
    for (method, path) in [
        ("GET", "/api/token"),
        ("PUT", "/api/token/x"),
        ("post", "/api/token"),
        ("POST", "/api/status"),
        ("HEAD", "/api/status"),
        ("POST", "/api/config/access"),
        ("DELETE", "/api/config/access"),
    ] {
        let (status, _, body) = answer(method, path, "{");
        assert_eq!((status, body), (405, String::new()), "{method} {path}");
    }
}

#[test]
fn a_forward_token_needs_nothing_but_its_type() {
    let NewToken::Forward(new) = addition(r#"{"type":"forward"}"#) else { panic!() };
    assert_eq!((new.token, new.rules), (None, AccessRules::default()));
    let NewToken::Forward(new) =
        addition(r#"{"type":"forward","token":"t","rules":[{"addrs":["10.0.0.0/8"]}]}"#)
    else {
        panic!()
    };
    assert_eq!(new.token, Some(token("t")));
    assert_eq!(shown(&new.rules), r#"[{"Addrs":["10.0.0.0/8"],"Ports":null}]"#);
}

#[test]
fn a_reverse_token_has_a_port_and_credentials() {
    let NewToken::Reverse(new) = addition(r#"{"type":"reverse","token":"","port":0,"username":null}"#) else {
        panic!()
    };
    assert!(new.token.is_none() && new.port.is_none() && new.credentials.is_none());
    assert!(!new.manage_connectors && !new.listen_early);
    let NewToken::Reverse(new) = addition(
        r#"{"type":"reverse","token":"t","port":9870,"username":"u","password":"p",
            "allow_manage_connector":true,"rules":[{"ports":[22]}]}"#,
    ) else {
        panic!()
    };
    assert_eq!((new.token, new.port, new.manage_connectors), (Some(token("t")), Some(9870), true));
    assert!(new.credentials.unwrap().matches(b"u", b"p"));
    assert_eq!(shown(&new.rules), r#"[{"Addrs":null,"Ports":[22]}]"#);
}

#[test]
fn a_connector_token_needs_its_reverse_token() {
    let NewToken::Connector(new) = addition(r#"{"type":"connector","token":"c","reverse_token":"r"}"#) else {
        panic!()
    };
    assert_eq!((new.token, new.reverse), (Some(token("c")), token("r")));
    let error = failure("reverse_token is required for connector token");
    for body in
        [r#"{"type":"connector","rules":[{"addrs":["x"]}]}"#, r#"{"type":"connector","reverse_token":""}"#]
    {
        assert_eq!(refused(body), (200, error.clone()));
    }
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let long = "x".repeat(256);
    for (body, error) in [
        (r#"{"type":"reverse","port":65536}"#.to_owned(), "cannot allocate port: 65536"),
        (r#"{"type":"reverse","port":-1}"#.to_owned(), "cannot allocate port: -1"),
        (
            r#"{"type":"forward","rules":[{"addrs":["a.test"]}]}"#.to_owned(),
            "'a.test' is no address, network or range of addresses",
        ),
        (
            r#"{"type":"reverse","rules":[{"addrs":["10.0.0.1",""]}]}"#.to_owned(),
            "'' is no address, network or range of addresses",
        ),
        (
            r#"{"type":"forward","rules":[{"addrs":["!10.0.0.1","10.0.0.2"]}]}"#.to_owned(),
            "of the addresses of an access rule, all are denied ('!') or none",
        ),
        (
            format!(r#"{{"type":"forward","token":"{long}"}}"#),
            &crate::ConfigError::TokenTooLong(256).to_string(),
        ),
        (r#"{"type":"reverse","username":"u"}"#.to_owned(), &crate::ConfigError::HalfCredentials.to_string()),
    ] {
        assert_eq!(refused(&body), (200, failure(error)), "{body}");
    }
}

#[test]
fn malformed_bodies_are_told_from_unknown_types() {
    for body in [
        "",
        "{",
        "[]",
        "\"forward\"",
        "7",
        r#"{"type":7}"#,
        r#"{"type":"forward","token":{}}"#,
        r#"{"type":"reverse","port":"80"}"#,
        r#"{"type":"reverse","port":80.5}"#,
        r#"{"type":"reverse","port":99999999999999999999}"#,
        r#"{"type":"reverse","allow_manage_connector":1}"#,
        r#"{"type":"forward","rules":{}}"#,
        r#"{"type":"forward","rules":["10.0.0.1"]}"#,
        r#"{"type":"forward","rules":[{"addrs":"10.0.0.1"}]}"#,
        r#"{"type":"forward","rules":[{"ports":[0]}]}"#,
        r#"{"type":"forward","rules":[{"ports":[65536]}]}"#,
        r#"{"type":"forward","rules":[{"ports":[-1]}]}"#,
        r#"{"type":"forward","rules":[{"ports":[80.0]}]}"#,
        r#"{"type":"forward","rules":[{"ports":[[80]]}]}"#,
        r#"{"type":"forward","rules":[{"ports":[[80,90,100]]}]}"#,
        r#"{"type":"forward","rules":[{"ports":[[90,80]]}]}"#,
        r#"{"type":"forward","rules":[{"ports":[[0,80]]}]}"#,
        r#"{"type":"forward","rules":[{"ports":[null]}]}"#,
        r#"{"type":"forward","rules":[{"ports":["80"]}]}"#,
    ] {
        assert_eq!(refused(body), (400, failure("invalid request body")), "{body}");
    }
    for body in ["{}", "null", r#"{"type":""}"#, r#"{"type":"Forward"}"#, r#"{"typ":"forward"}"#] {
        assert_eq!(refused(body), (400, failure("invalid token type")), "{body}");
    }
    let nested = "[".repeat(MAX_BODY);
    assert_eq!(refused(&nested), (400, failure("invalid request body")));
}

#[test]
fn keys_are_read_as_go_reads_them() {
    for body in [
        r#"{"TYPE":"forward","Token":"t"}"#,
        r#"{"type":"forward","token":"u","tOKEN":"t"}"#,
        r#"{"type":"forward","token":"t","token":null}"#,
        r#"{"unknown":[{"type":"reverse"}],"type":"forward","to\u212Aen":"t"}"#,
        r#" {"type":"forward","token":"t"} {"type":"reverse"} what else"#,
    ] {
        let NewToken::Forward(new) = addition(body) else { panic!("{body}") };
        assert_eq!(new.token, Some(token("t")), "{body}");
    }
    let NewToken::Forward(new) =
        addition(r#"{"type":"forward","rules":[{"ADDRS":["::1"],"pORTſ":[1]},null]}"#)
    else {
        panic!()
    };
    assert_eq!(shown(&new.rules), r#"[{"Addrs":["::1"],"Ports":[1]},{"Addrs":null,"Ports":null}]"#);
}

#[test]
fn a_token_to_remove_stands_in_the_path_or_in_the_body() {
    let removal = |path, body| match ask("DELETE", path, body) {
        Ok(AdminRequest::Remove { token }) => token.expose().to_owned(),
        other => panic!("{path} {body}: {other:?}"),
    };
    assert_eq!(removal("/api/token/x", r#"{"token":"y"}"#), "x");
    assert_eq!(removal("/api/token/a%2Fb%20c/%C3%A9+", ""), "a/b c/é+");
    assert_eq!(removal("/api/token", r#"{"token":"y"}"#), "y");
    assert_eq!(removal("/api/token/", r#"{"Token":"y"}"#), "y");
    for body in ["", "{", "{}", r#"{"token":""}"#, r#"{"token":7}"#] {
        let answer = answer("DELETE", "/api/token", body);
        assert_eq!(answer, (200, "application/json", failure("token not specified")), "{body}");
    }
    let (status, _, text) = answer("DELETE", &format!("/api/token/{}", "x".repeat(256)), "");
    assert_eq!((status, text), (200, failure(&crate::ConfigError::TokenTooLong(256).to_string())));
}

#[test]
fn additions_are_answered_with_token_and_port() {
    let answer = |port, manages| body(added(&Ok(AddedToken { token: token("t"), port }), manages));
    assert_eq!(answer(None, false), "{\"success\":true,\"token\":\"t\"}\n");
    assert_eq!(answer(Some(1024), false), "{\"success\":true,\"token\":\"t\",\"port\":1024}\n");
    assert_eq!(answer(None, true), "{\"success\":true,\"token\":\"t\",\"port\":-1}\n");
    for (error, text) in [
        (TokenError::Exists, "token already exists"),
        (TokenError::Reserved, "'anonymous' is reserved and cannot be used as a token"),
        (TokenError::UnknownReverseToken, "reverse token does not exist"),
        (TokenError::ConnectorExists, "connector token already exists"),
        (TokenError::Port(80), "cannot allocate port: 80"),
    ] {
        assert_eq!(body(added(&Err(error), false)), failure(text));
    }
}

#[test]
fn removals_are_answered_with_the_token() {
    assert_eq!(
        body(super::removed(&token("a\"b"), &gone("a\"b"))),
        "{\"success\":true,\"token\":\"a\\\"b\"}\n"
    );
    let unknown = body(super::removed(&token("t"), &Err(TokenError::Unknown)));
    assert_eq!(unknown, "{\"success\":false,\"token\":\"t\",\"error\":\"there is no such token\"}\n");
}

#[test]
fn the_status_lists_forward_and_reverse_tokens() {
    let head = format!("{{\"version\":\"v{}\",\"tokens\":", env!("CARGO_PKG_VERSION"));
    let tail = ",\"direct\":{\"enabled\":false}}\n";
    assert_eq!(body(super::status(&ServerStatus::default())), format!("{head}[]{tail}"));
    let [f, r, c, d] = ["f", "r", "c", "d"].map(token);
    let tokens = vec![
        TokenStatus::Reverse { token: &r, clients: 1, port: Some(9870), connectors: vec![&c, &d] },
        TokenStatus::Reverse { token: &r, clients: 0, port: None, connectors: Vec::new() },
        TokenStatus::Forward { token: &f, clients: 2 },
    ];
    let list = concat!(
        r#"[{"token":"r","type":"reverse","clients_count":1,"port":9870,"connector_tokens":["c","d"]},"#,
        r#"{"token":"r","type":"reverse","clients_count":0,"port":-1},"#,
        r#"{"token":"f","type":"forward","clients_count":2}]"#,
    );
    assert_eq!(body(super::status(&ServerStatus { tokens })), format!("{head}{list}{tail}"));
}

fn set_access(body: &str) -> (Option<AccessRules>, Option<AccessRules>) {
    match ask("PUT", "/api/config/access", body) {
        Ok(AdminRequest::SetAccess { entry, dial }) => (entry, dial),
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn access_rules_come_out_as_they_went_in() {
    assert!(matches!(ask("GET", "/api/config/access", ""), Ok(AdminRequest::Access)));
    let none = AccessRules::default();
    assert_eq!(body(super::access(&none, &none)), "{\"entry\":null,\"dial\":null}\n");
    assert_eq!(body(super::access_set()), "{\"success\":true}\n");
    for list in [
        r#"[{"Addrs":["10.0.0.0/8","10.1.2.3/8","192.0.2.7-20","::1"],"Ports":[80,[90,150]]}]"#,
        r#"[{"Addrs":["192.0.2.1-192.0.2.9"],"Ports":null},{"Addrs":null,"Ports":[1,65535,[1,65535]]}]"#,
        r#"[{"Addrs":["!private","!2001:db8::/32"],"Ports":null},{"Addrs":["!"],"Ports":[25]}]"#,
        r#"[{"Addrs":null,"Ports":null}]"#,
    ] {
        let (entry, dial) = set_access(&format!(r#"{{"entry":{list},"dial":{list}}}"#));
        let (entry, dial) = (entry.unwrap(), dial.unwrap());
        assert_eq!(body(super::access(&entry, &dial)), format!("{{\"entry\":{list},\"dial\":{list}}}\n"));
    }
    let cli: AccessRules = ["![::1]:80-90", "private"]
        .iter()
        .map(|text| text.parse::<crate::access::AccessRule>().unwrap())
        .collect();
    assert_eq!(shown(&cli), r#"[{"Addrs":["!::1"],"Ports":[[80,90]]},{"Addrs":["private"],"Ports":null}]"#);
}

#[test]
fn absent_lists_leave_the_rules_as_they_are_and_empty_ones_clear_them() {
    for body in ["{}", "null", r#"{"entry":null,"dial":null}"#, r#"{"entry":[],"dial":null,"ENTRY":null}"#] {
        assert_eq!(set_access(body), (None, None), "{body}");
    }
    assert_eq!(set_access(r#"{"Dial":[]}"#), (None, Some(AccessRules::default())));
    for body in ["", "[]", r#"{"entry":{}}"#, r#"{"dial":[{"ports":[0]}]}"#] {
        let answer = answer("PUT", "/api/config/access", body);
        assert_eq!(answer, (400, "application/json", failure("invalid request body")), "{body}");
    }
    for body in [r#"{"entry":[{"addrs":["x"]}]}"#, r#"{"entry":[],"dial":[{"addrs":["x"]}]}"#] {
        let (status, _, answer) = answer("PUT", "/api/config/access", body);
        assert_eq!((status, answer), (400, failure("'x' is no address, network or range of addresses")));
    }
}

#[test]
fn a_body_has_a_limit() {
    let mut body = r#"{"type":"forward"}"#.to_owned();
    body.push_str(&" ".repeat(MAX_BODY - body.len()));
    assert!(ask("POST", "/api/token", &body).is_ok());
    body.push(' ');
    assert_eq!(answer("POST", "/api/token", &body).0, 413);
}

#[test]
fn nothing_of_a_request_or_an_answer_shows_in_debug_output() {
    let mut secret = request("DELETE", "/api/token/s3cret", r#"{"token":"s3cret"}"#);
    secret.api_key = Some(token("s3cret"));
    let answer = super::removed(&token("s3cret"), &gone("s3cret"));
    let added =
        route(&request("POST", "/api/token", r#"{"type":"forward","token":"s3cret"}"#), &[token(KEY)]);
    let text = format!("{secret:?} {answer:?} {added:?}");
    assert!(!text.contains("s3cret"), "{text}");
}

/// Texts that get further than arbitrary ones, and what follows them.
fn wild_text(choice: u8, tail: &str) -> String {
    let known = [
        "",
        "/",
        "/api/token",
        "/api/token/%",
        "/api/config/access",
        r#"{"type":"reverse","port":"#,
        r#"{"entry":[{"addrs":["!10.0.0.1-","#,
        r#"{"dial":[{"ports":[[1,"#,
    ];
    known[usize::from(choice) % known.len()].to_owned() + tail
}

#[test]
fn no_request_panics() {
    fn holds(method: u8, path: (u8, String), start: u8, rest: Vec<u8>) {
        let method = ["GET", "POST", "PUT", "DELETE", ""][usize::from(method) % 5];
        let body = [wild_text(start, "").into_bytes(), rest].concat();
        // The answer may be anything.
        let _ = route(&request(method, &wild_text(path.0, &path.1), body), &[token(KEY)]);
    }
    QuickCheck::new().tests(3000).quickcheck(holds as fn(u8, (u8, String), u8, Vec<u8>));
}
