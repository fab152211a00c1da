use super::super::body::Body;
use super::super::refusal::Refusal;
use super::{Context, FinalResponse, Forward, Login, Request, Response, read_request, read_response};
use crate::secret::Credentials;

fn forward(head: &str) -> Forward {
    match read_request(head.as_bytes(), None) {
        Ok(Request::Forward(forward)) => *forward,
        other => panic!("{head:?}: {other:?}"),
    }
}

fn refusal(head: &str) -> String {
    match read_request(head.as_bytes(), None) {
        Err(refusal) => refusal.to_string(),
        Ok(request) => panic!("{head:?}: {request:?}"),
    }
}

fn text(head: &[u8]) -> &str {
    str::from_utf8(head).unwrap()
}

#[test]
fn a_request_becomes_one_to_its_target() {
    let forward = forward(
        "POST http://Example.com:8080/a?b=c HTTP/1.1\r\nHost: other.test\r\nUser-Agent: x\r\n\
         Content-Length: 3\r\nCookie:  a=b \r\nX-Empty:\r\n\r\n",
    );
    assert_eq!(forward.target.to_string(), "Example.com:8080");
    assert_eq!(
        text(&forward.head),
        "POST /a?b=c HTTP/1.1\r\nHost: Example.com:8080\r\nUser-Agent: x\r\nCookie: a=b\r\nX-Empty: \r\n\
         Content-Length: 3\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(forward.body, Body::Length(3));
    let context = Context { to_head: false, http10: false, persistent: true, upgrade: false };
    assert_eq!(forward.context, context);
}

#[test]
fn what_is_for_this_connection_is_not_passed_on() {
    let forward = forward(
        "GET http://h/ HTTP/1.1\r\nConnection: X-One, close ,Cookie\r\nConnection: Host, Content-Length\r\n\
         Proxy-Connection: keep-alive, X-Two\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: x\r\nX-One: 1\r\n\
         x-two: 2\r\nProxy-Authorization: secret\r\nProxy-Anything: secret\r\nCookie: 3\r\nX-Kept: 4\r\n\
         Content-Length: 0\r\n\r\n",
    );
    assert_eq!(
        text(&forward.head),
        "GET / HTTP/1.1\r\nHost: h\r\nX-Kept: 4\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    assert!(!forward.context.persistent);
}

#[test]
fn forms_of_urls() {
    for (line, target, first) in [
        ("GET http://h", "h:80", "GET / HTTP/1.1\r\nHost: h\r\n"),
        ("GET HTTP://h:1?q", "h:1", "GET /?q HTTP/1.1\r\nHost: h:1\r\n"),
        ("GET http://[::1]/a://b", "[::1]:80", "GET /a://b HTTP/1.1\r\nHost: [::1]\r\n"),
        ("GET http://[::1]:8/", "[::1]:8", "GET / HTTP/1.1\r\nHost: [::1]:8\r\n"),
        ("GET http://h:/", "h:80", "GET / HTTP/1.1\r\nHost: h\r\n"),
        ("GET http://[::1]:?q", "[::1]:80", "GET /?q HTTP/1.1\r\nHost: [::1]\r\n"),
        ("OPTIONS http://h", "h:80", "OPTIONS * HTTP/1.1\r\nHost: h\r\n"),
        ("OPTIONS http://h/", "h:80", "OPTIONS / HTTP/1.1\r\nHost: h\r\n"),
        ("QUERY http://h/", "h:80", "QUERY / HTTP/1.1\r\nHost: h\r\n"),
    ] {
        let forward = forward(&format!("{line} HTTP/1.1\r\n\r\n"));
        assert_eq!(forward.target.to_string(), target, "{line}");
        assert!(text(&forward.head).starts_with(first), "{line}: {}", text(&forward.head));
    }
}

#[test]
fn connect_asks_for_a_tunnel() {
    for (target, expected) in
        [("h:80", "h:80"), ("h", "h:443"), ("[::1]", "[::1]:443"), ("[::1]:1", "[::1]:1")]
    {
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nContent-Length: 0\r\n\r\n");
        match read_request(head.as_bytes(), None) {
            Ok(Request::Tunnel(target)) => assert_eq!(target.to_string(), expected),
            other => panic!("{target}: {other:?}"),
        }
    }
    for target in ["h:0", "h:x", "h:", ":1", "http://h/", "/", "a@h:1", "::1", "[::1", "h:1/"] {
        let error = refusal(&format!("CONNECT {target} HTTP/1.1\r\n\r\n"));
        assert_eq!(error, "Invalid CONNECT target", "{target}");
    }
    assert_eq!(refusal("CONNECT h:1 HTTP/1.1\r\nContent-Length: 1\r\n\r\n"), "CONNECT with a body");
}

#[test]
fn requests_that_can_be_understood_in_two_ways_are_refused() {
    for (head, part) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "Absolute-form request URL required"),
        ("GET h:80/ HTTP/1.1\r\n\r\n", "Absolute-form request URL required"),
        ("GET /?http://h/ HTTP/1.1\r\n\r\n", "Absolute-form request URL required"),
        ("GET https://h/ HTTP/1.1\r\n\r\n", "Use CONNECT for HTTPS targets"),
        ("GET ftp://h/ HTTP/1.1\r\n\r\n", "Unsupported URL scheme"),
        ("GET http:///x HTTP/1.1\r\n\r\n", "Invalid host"),
        ("GET http://a@h/ HTTP/1.1\r\n\r\n", "Invalid host"),
        ("GET http://h:0/ HTTP/1.1\r\n\r\n", "Invalid host"),
        ("GET http://h:x/ HTTP/1.1\r\n\r\n", "Invalid host"),
        ("GET http://h::/ HTTP/1.1\r\n\r\n", "Invalid host"),
        ("GET http://h:80:/ HTTP/1.1\r\n\r\n", "Invalid host"),
        ("GET http://::1:/ HTTP/1.1\r\n\r\n", "Invalid host"),
        ("GET http://:/ HTTP/1.1\r\n\r\n", "Invalid host"),
        ("GET http://h/#x HTTP/1.1\r\n\r\n", "Fragment"),
        ("GET  http://h/ HTTP/1.1\r\n\r\n", "Malformed request"),
        ("GET http://h/ HTTP/2.0\r\n\r\n", "Malformed request"),
        ("GET http://h/\r\n\r\n", "Malformed request"),
        ("GET http://h/ HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", "Malformed request"),
        ("GET http://h/ HTTP/1.1\r\n A: b\r\n\r\n", "Malformed request"),
        ("GET http://h/ HTTP/1.1\r\nA : b\r\n\r\n", "Malformed request"),
        ("GET http://h/ HTTP/1.1\r\nA\r\n\r\n", "Malformed request"),
        ("GET http://h/ HTTP/1.1\r\nA: \x01\r\n\r\n", "Malformed request"),
        ("GET http://h/ HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", "More than one Host"),
        ("PUT http://h/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "Both"),
        (
            "PUT http://h/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "More than one Content-Length",
        ),
        ("PUT http://h/ HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", "Invalid Content-Length"),
        ("PUT http://h/ HTTP/1.1\r\nContent-Length: +1\r\n\r\n", "Invalid Content-Length"),
        ("PUT http://h/ HTTP/1.1\r\nContent-Length:\r\n\r\n", "Invalid Content-Length"),
        ("PUT http://h/ HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", "Invalid Content-Length"),
        ("PUT http://h/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding in HTTP/1.0"),
        ("PUT http://h/ HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n", "Unsupported transfer coding"),
        ("PUT http://h/ HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "Unsupported transfer coding"),
        (
            "PUT http://h/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "Unsupported transfer coding",
        ),
    ] {
        let error = refusal(head);
        assert!(error.contains(part), "{head:?}: {error}");
    }
    let many = format!("GET http://h/ HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(300));
    assert_eq!(refusal(&many), "Malformed request");
}

#[test]
fn a_login_is_asked_for_before_anything_else_is_told() {
    let credentials = &Credentials::new("Aladdin", "open sesame").unwrap();
    let login = Some(Login { credentials, locked: false });
    let head = |value: &str| format!("GET / HTTP/1.1\r\nProxy-Authorization: {value}\r\n\r\n");
    for wrong in ["Basic d3Jvbmc6d29yZA==", "Bearer x"] {
        let result = read_request(head(wrong).as_bytes(), login);
        assert!(matches!(result, Err(Refusal::WrongLogin)), "{wrong}: {result:?}");
    }
    let result = read_request(head("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").as_bytes(), login);
    assert!(matches!(result, Err(Refusal::BadRequest(_))), "{result:?}");
}

#[test]
fn an_upgrade_is_passed_on_if_it_is_one() {
    let head = "GET http://h/ HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let upgrade = forward(head);
    assert!(upgrade.context.upgrade);
    assert!(text(&upgrade.head).ends_with("Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"));
    for other in [
        head.replace("keep-alive, Upgrade", "keep-alive"),
        head.replace("HTTP/1.1", "HTTP/1.0"),
        head.replace("Upgrade: websocket", "Content-Length: 1\r\nUpgrade: websocket"),
    ] {
        let forward = forward(&other);
        assert!(!forward.context.upgrade && !text(&forward.head).contains("websocket"), "{other}");
    }
}

const GET: Context = Context { to_head: false, http10: false, persistent: true, upgrade: false };
const HTTP10: Context = Context { http10: true, persistent: false, ..GET };

fn response(head: &str, context: Context) -> FinalResponse {
    match read_response(head.as_bytes(), context) {
        Some(Response::Final(response)) => response,
        other => panic!("{head:?}: {other:?}"),
    }
}

#[test]
fn a_response_says_again_where_its_body_ends() {
    for (head, context, fields, body, persistent) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", GET, "Content-Length: 5\r\n", Body::Length(5), true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", GET, "Content-Length: 5\r\n", Body::Length(5), true),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
            GET,
            "Content-Length: 5\r\n",
            Body::Length(5),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 9\r\n\r\n",
            GET,
            "Transfer-Encoding: chunked\r\n",
            Body::chunked(true),
            true,
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", GET, "Transfer-Encoding: chunked\r\n", Body::UntilClose, true),
        ("HTTP/1.1 200 OK\r\n\r\n", HTTP10, "Connection: close\r\n", Body::UntilClose, false),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            HTTP10,
            "Content-Length: 5\r\nConnection: close\r\n",
            Body::Length(5),
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            Context { to_head: true, ..GET },
            "Content-Length: 5\r\n",
            Body::NONE,
            true,
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", Context { to_head: true, ..GET }, "", Body::NONE, true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", GET, "Content-Length: 5\r\n", Body::Length(5), true),
        ("HTTP/1.1 204 OK\r\nContent-Length: 5\r\n\r\n", GET, "", Body::NONE, true),
        ("HTTP/1.1 304 OK\r\nContent-Length: 5\r\n\r\n", GET, "Content-Length: 5\r\n", Body::NONE, true),
        ("HTTP/1.1 304 OK\r\nTransfer-Encoding: chunked\r\n\r\n", GET, "", Body::NONE, true),
    ] {
        let response = response(head, context);
        let status = &head[9..15];
        assert_eq!(text(&response.head), format!("HTTP/1.1 {status}\r\n{fields}\r\n"), "{head:?}");
        assert_eq!((&response.body, response.persistent), (&body, persistent), "{head:?}");
        assert_eq!(response.in_chunks, body == Body::UntilClose && !context.http10, "{head:?}");
    }
}

#[test]
fn a_response_loses_what_was_for_our_connection() {
    let response = response(
        "HTTP/1.1 200 Fine\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: x\r\n\
         Upgrade: h2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
        GET,
    );
    assert_eq!(
        text(&response.head),
        "HTTP/1.1 200 Fine\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn responses_without_a_clear_end_are_not_passed_on() {
    for (head, context) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", GET),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", GET),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", GET),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", GET),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP10),
        ("HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", GET),
        ("HTTP/1.1 099 Odd\r\n\r\n", GET),
        ("HTTP/3.0 200 OK\r\n\r\n", GET),
        ("ICY 200 OK\r\n\r\n", GET),
        ("HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", GET),
    ] {
        assert!(read_response(head.as_bytes(), context).is_none(), "{head:?}");
    }
}

#[test]
fn provisional_responses_and_upgrades() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: x\r\nConnection: close\r\n\r\n";
    let Some(Response::Provisional(head)) = read_response(hints.as_bytes(), GET) else { panic!() };
    assert_eq!(text(&head), "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
    let Some(Response::Provisional(head)) = read_response(hints.as_bytes(), HTTP10) else { panic!() };
    assert!(head.is_empty());
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\nA: b\r\n\r\n";
    let upgrade = Context { upgrade: true, ..GET };
    let Some(Response::Upgraded(head)) = read_response(switch.as_bytes(), upgrade) else { panic!() };
    assert_eq!(
        text(&head),
        "HTTP/1.1 101 Switching Protocols\r\nA: b\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
    );
}
