//! What must never be logged, even with all flags for more logs.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use conformance::interop::Driver;
use linksocks_sansio::Token;

use crate::commands::{client, field, server};
use crate::program::{LinkSocks, WAIT};

const FORWARD: &str = "forward-sesame";
const REVERSE: &str = "reverse-sesame";
const CONNECTOR: &str = "connector-sesame";
const WRONG_TOKEN: &str = "wrong-sesame";
const KEY: &str = "key-sesame";
const WRONG_KEY: &str = "wrong-key-sesame";
const PASSWORD: &str = "password-sesame";
const WRONG_PASSWORD: &str = "wrong-password-sesame";
const HEADER: &str = "header-sesame";
const PAYLOAD: &str = "payload-sesame";
/// Of `user:` and the passwords.
const BASIC: &str = "dXNlcjpwYXNzd29yZC1zZXNhbWU=";
const WRONG_BASIC: &str = "dXNlcjp3cm9uZy1wYXNzd29yZC1zZXNhbWU=";
/// A part of each of them.
const PART: &str = "sesame";

fn digest(token: &str) -> String {
    Token::new(token).unwrap().digest().to_hex()
}

/// Sends `request`, and returns what comes until the other end closes.
fn exchange(to: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

fn call(server: SocketAddr, key: &str, method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    String::from_utf8(exchange(server, request.as_bytes())).unwrap()
}

/// A target that sends back one message and closes, again and again.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut message = [0; PAYLOAD.len()];
            // Fails if the connection was cut.
            if stream.read_exact(&mut message).is_ok() {
                let _ = stream.write_all(&message);
            }
        }
    });
    address
}

/// What comes back through a SOCKS port for a payload.
fn through(socks: SocketAddr, password: &str, target: SocketAddr) -> Vec<u8> {
    let mut bytes = b"\x05\x01\x02\x01\x04user".to_vec();
    bytes.push(u8::try_from(password.len()).unwrap());
    bytes.extend_from_slice(password.as_bytes());
    bytes.extend_from_slice(b"\x05\x01\x00\x01\x7f\x00\x00\x01");
    bytes.extend_from_slice(&target.port().to_be_bytes());
    bytes.extend_from_slice(PAYLOAD.as_bytes());
    exchange(socks, &bytes)
}

/// What an HTTP client gets through a SOCKS port.
fn tunnel(socks: SocketAddr, login: &str, target: SocketAddr) -> String {
    let request = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic {login}\r\n\r\n{PAYLOAD}"
    );
    String::from_utf8(exchange(socks, request.as_bytes())).unwrap()
}

/// Sends clients to another URL.
fn redirector(location: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let answer = format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

pub(crate) fn no_secret_and_no_payload_is_logged(driver: Driver) {
    let target = echo();
    let (main, url) = server(driver, &["-k", KEY, "-dd"]);
    let address: SocketAddr = url.strip_prefix("ws://").unwrap().parse().unwrap();
    let mut ended = Vec::new();
    let mut running = vec![main];

    // The API.
    for (token, kind) in [(FORWARD, "forward"), (REVERSE, "reverse")] {
        let more = format!(r#""username":"user","password":"{PASSWORD}","allow_manage_connector":true"#);
        let body = format!(r#"{{"type":"{kind}","token":"{token}",{more}}}"#);
        assert!(call(address, KEY, "POST", "/api/token", &body).contains(token));
    }
    assert!(call(address, KEY, "GET", "/api/status", "").contains(FORWARD));
    assert!(call(address, WRONG_KEY, "GET", "/api/status", "").contains("401"));
    assert!(call(address, KEY, "DELETE", &format!("/api/token/{WRONG_TOKEN}"), "").contains("false"));
    call(address, KEY, "POST", "/api/token", &format!(r#"{{"type":"{WRONG_TOKEN}""#));

    // Logins by the query and in band, right and wrong.
    let login = ["-n", "user", "-w", PASSWORD, "--header", &format!("X-Zone: {HEADER}"), "-dd"];
    let (program, socks) = client(driver, &[&["-t", FORWARD, "-u", &url], &login[..]].concat());
    running.push(program);
    running.push(client(driver, &["-t", FORWARD, "-u", &format!("{url}/socket/in-band"), "-dd"]).0);
    for path in ["", "/socket/in-band"] {
        let args = ["client", "-p", "0", "-dd", "-t", WRONG_TOKEN, "-u", &format!("{url}{path}")];
        ended.push(LinkSocks::start(driver, &args, &[]).end());
    }
    let mut provider =
        LinkSocks::start(driver, &["provider", "-dd", "-t", REVERSE, "-c", CONNECTOR, "-u", &url], &[]);
    provider.wait_for("Connector token added successfully");
    running.push(provider);

    // Passwords at the SOCKS port, and payload.
    assert!(through(socks, PASSWORD, target).ends_with(PAYLOAD.as_bytes()));
    assert_eq!(through(socks, WRONG_PASSWORD, target), b"\x05\x02\x01\x01");
    assert!(tunnel(socks, BASIC, target).ends_with(PAYLOAD));
    assert!(tunnel(socks, WRONG_BASIC, target).contains(" 407 "));

    // That port as a proxy, for links and for targets.
    for (scheme, password, works) in [
        ("socks5", PASSWORD, true),
        ("http", PASSWORD, true),
        ("socks5", WRONG_PASSWORD, false),
        ("http", WRONG_PASSWORD, false),
    ] {
        let proxy = format!("{scheme}://user:{password}@{socks}");
        let (behind, behind_url) = server(driver, &["-t", FORWARD, "-dd", "-x", &proxy]);
        let (program, other) = client(driver, &[&["-t", FORWARD, "-u", &behind_url], &login[..]].concat());
        running.extend([behind, program]);
        assert_eq!(through(other, PASSWORD, target).ends_with(PAYLOAD.as_bytes()), works, "{scheme} {works}");

        let args = ["client", "-p", "0", "-dd", "-R", "-t", FORWARD, "-u", &url, "-x", &proxy];
        let mut program = LinkSocks::start(driver, &args, &[]);
        if works {
            program.wait_for("Authentication successful");
            running.push(program);
        } else {
            ended.push(program.end());
        }
    }

    // A redirect whose target has the login in it.
    let redirector = redirector(format!("{url}/socket?token={}", digest(FORWARD)));
    let (mut program, _) = client(driver, &["-t", FORWARD, "-dd", "-u", &format!("ws://{redirector}")]);
    assert!(field(&program.wait_for("Redirected"), "url").ends_with("/socket"));
    running.push(program);

    for program in running.into_iter().rev() {
        program.signal("TERM");
        ended.push(program.end());
    }
    let digests = [FORWARD, REVERSE, CONNECTOR, WRONG_TOKEN].map(digest);
    let secrets = digests.iter().map(String::as_str).chain([PART, BASIC, WRONG_BASIC]);
    for secret in secrets {
        for program in &ended {
            for output in [&program.stdout, &program.stderr] {
                assert!(!output.contains(secret), "{secret} is shown:\n{output}");
            }
        }
    }
    let all: String = ended.iter().map(|program| program.stdout.as_str()).collect();
    assert!(all.contains(" DBG ") && all.contains("Channel opened"), "it was logged: {all}");
}
