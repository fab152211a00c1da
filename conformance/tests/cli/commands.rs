//! The commands, as people and scripts use them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use conformance::interop::Driver;

use crate::program::{Ended, LinkSocks, WAIT};

/// Arguments, variables, and a part of the explanation.
type Refusal = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static str);

/// What is refused before anything runs.
pub(crate) const REFUSED: &[Refusal] = &[
    (&["client", "--frobnicate"], &[], "--frobnicate"),
    (&["server", "-k", "x", "--access-rule", ":80"], &[], "can't be used with --api-key"),
    (&["server", "-r", "-n", "user"], &[], "both a user name and a password"),
    (&["server", "-r", "-t", "same", "-c", "same"], &[], "connector token already exists"),
    (&["client"], &[("LINKSOCKS_FASTOPEN", "maybe")], "LINKSOCKS_FASTOPEN"),
    (&["client", "-p", "many"], &[], "'many'"),
    (&["client"], &[("LINKSOCKS_SOCKS_PORT", "many")], "LINKSOCKS_SOCKS_PORT"),
    (&["client", "--header", "Upgrade: x"], &[], "unusable header 'Upgrade'"),
    (&["client", "-u", "ws://a@b"], &[], "malformed ws or wss URL"),
    (&["client", "-n", "user"], &[], "both a user name and a password"),
    (&["server", "-t", "anonymous"], &[], "reserved"),
    (&["server", "-H", "no such host"], &[], "no such host"),
    (&["-u", "ws://a@b"], &[("LINKSOCKS_MODE", "provider")], "malformed ws or wss URL"),
    (&["client", "--ca", "/no/such/file"], &[], "cannot use /no/such/file: No such file"),
    (&["client"], &[("LINKSOCKS_CA", "/no/such/file")], "cannot use /no/such/file: No such file"),
    (&["server", "--trusted-proxy", "proxy.example"], &[], "no address and no network"),
    (&["server"], &[("LINKSOCKS_TRUSTED_PROXY", "10.0.0.0/33")], "LINKSOCKS_TRUSTED_PROXY"),
    (&["server", "--tls-cert", "x"], &[], "--tls-cert needs --tls-key"),
    (&["server"], &[("LINKSOCKS_TLS_KEY", "x")], "--tls-key needs --tls-cert"),
];

/// A server on a port that the system chose, and its URL.
pub(crate) fn server(driver: Driver, flags: &[&str]) -> (LinkSocks, String) {
    let mut server =
        LinkSocks::start(driver, &[&["server", "-H", "127.0.0.1", "-P", "0"], flags].concat(), &[]);
    let line = server.wait_for("LinkSocks server started");
    let listen = field(&line, "listen");
    assert_eq!(field(&line, "url"), format!("http://localhost:{}", listen.rsplit(':').next().unwrap()));
    let url = format!("ws://{listen}");
    (server, url)
}

/// A connected client and its SOCKS address.
pub(crate) fn client(driver: Driver, flags: &[&str]) -> (LinkSocks, SocketAddr) {
    let mut client = LinkSocks::start(driver, &[&["client", "-p", "0"], flags].concat(), &[]);
    let line = client.wait_for("Local proxy server started (SOCKS5 + HTTP)");
    (client, field(&line, "addr").parse().unwrap())
}

/// The value of `name=value` in a log line.
pub(crate) fn field(line: &str, name: &str) -> String {
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {line}")).to_owned()
}

/// Sends a line through the SOCKS port to an echo server and reads it back.
pub(crate) fn echo_through(socks: SocketAddr) {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = target.local_addr().unwrap().port().to_be_bytes();
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = target.accept().unwrap();
        let mut line = [0; 5];
        stream.read_exact(&mut line).unwrap();
        stream.write_all(&line).unwrap();
    });
    let mut stream = TcpStream::connect(socks).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(&[5, 1, 0]).unwrap();
    stream.write_all(&[5, 1, 0, 1, 127, 0, 0, 1, port[0], port[1]]).unwrap();
    let mut replies = [0; 12];
    stream.read_exact(&mut replies).unwrap();
    assert_eq!(replies, [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    stream.write_all(b"hello").unwrap();
    let mut line = Vec::new();
    stream.read_to_end(&mut line).unwrap();
    assert_eq!(line, b"hello");
    echo.join().unwrap();
}

pub(crate) fn help_and_version_go_to_standard_output(driver: Driver) {
    for (args, part) in [
        (&[][..], "Usage: linksocks"),
        (&["--help"], "Exit status"),
        (&["help", "client"], "LINKSOCKS_TOKEN"),
        (&["server", "-h"], "--ws-port"),
        (&["version"], concat!("linksocks version v", env!("CARGO_PKG_VERSION"))),
        (&["--version"], concat!("linksocks version v", env!("CARGO_PKG_VERSION"))),
    ] {
        let ended = LinkSocks::start(driver, args, &[]).end();
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{args:?}");
        assert!(ended.stdout.contains(part), "{args:?}: {}", ended.stdout);
    }
}

pub(crate) fn errors_in_arguments_go_to_standard_error(driver: Driver) {
    for &(args, variables, part) in REFUSED {
        let ended = LinkSocks::start(driver, args, variables).end();
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(1), ""), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.starts_with("error: "), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{args:?}: {}", ended.stderr);
    }
}

pub(crate) fn the_demo_succeeds(driver: Driver) {
    let ended = LinkSocks::start(driver, &["demo"], &[]).end();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    assert!(ended.stdout.contains("64 MiB") && ended.stdout.contains("MiB/s"), "{}", ended.stdout);
}

pub(crate) fn the_demo_stays_up_if_it_shall(driver: Driver) {
    let mut demo = LinkSocks::start(driver, &["demo", "--serve"], &[]);
    let line = demo.wait_for("curl --socks5-hostname ");
    let words: Vec<_> = line.split_whitespace().collect();
    let [_, _, socks, url] = words[..] else { panic!("{line}") };
    let web: SocketAddr = url.strip_prefix("http://").unwrap().trim_end_matches('/').parse().unwrap();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(socks).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        let port = web.port().to_be_bytes();
        stream.write_all(&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, port[0], port[1]]).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer[..4], [5, 0, 5, 0]);
        assert!(answer.ends_with(b"\r\n\r\nThis came through LinkSocks.\n"));
    }
    demo.signal("INT");
    let ended = demo.end();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
}

pub(crate) fn with_fast_open_a_refused_target_resets_the_connection(driver: Driver) {
    let (_server, url) = server(driver, &["-t", "t"]);
    let (_client, socks) = client(driver, &["-t", "t", "-u", &url, "-f"]);
    echo_through(socks);
    // Nobody listens there, and the system gives it to nobody.
    let mut stream = TcpStream::connect(socks).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, 0, 1]).unwrap();
    let mut answer = Vec::new();
    assert_eq!(stream.read_to_end(&mut answer).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// A server and a client in their whole life.
pub(crate) struct Session {
    url: String,
    pub(crate) client: Ended,
    pub(crate) server: Ended,
}

impl Session {
    /// Starts them, sends something through, and ends them by signals.
    pub(crate) fn run(driver: Driver) -> Self {
        let (mut server, url) = server(driver, &["-t", "right-token"]);
        let (mut client, socks) = client(driver, &["-t", "right-token", "-u", &url]);
        echo_through(socks);
        client.wait_for("Server ready, latency: ");
        server.wait_for("Forward client authenticated");

        client.signal("INT");
        server.wait_for("Client disconnected");
        server.signal("TERM");
        Self { url, client: client.end(), server: server.end() }
    }
}

pub(crate) fn client_and_server_write_the_lines_that_scripts_watch(driver: Driver) {
    let Session { url, client, server } = Session::run(driver);
    assert_eq!((client.status, server.status), (Some(0), Some(0)));

    for line in [
        " INF New forward proxy token added\n",
        " INF   Token: (as given)\n",
        " client_ip=127.0.0.1\n",
        " INF Shutting down server... drain=5s\n",
        " INF Server stopped\n",
    ] {
        assert!(server.stdout.contains(line), "{line}: {}", server.stdout);
    }
    for line in [
        format!(" INF LinkSocks Client is connecting to url={url}/socket\n"),
        " INF Authentication successful for forward proxy\n".to_owned(),
        " INF Shutting down client... drain=5s\n".to_owned(),
        " INF Client stopped\n".to_owned(),
    ] {
        assert!(client.stdout.contains(&line), "{line}: {}", client.stdout);
    }
    assert!(!server.stdout.contains("latency"), "a server is not a client: {}", server.stdout);
    for output in [&client.stdout, &server.stdout] {
        assert!(!output.contains("right-token"), "a log shows the token: {output}");
        assert!(!output.contains('\x1b'), "colours without a terminal: {output}");
    }
    assert_eq!((client.stderr.as_str(), server.stderr.as_str()), ("", ""));
}

pub(crate) fn a_trusted_proxy_says_who_is_logged(driver: Driver) {
    for (flags, variables, expected) in [
        (&[][..], &[][..], "127.0.0.1"),
        (&["--trusted-proxy", "10.0.0.1", "--trusted-proxy", "127.0.0.0/8"], &[], "192.0.2.7"),
        (&[], &[("LINKSOCKS_TRUSTED_PROXY", "10.0.0.1,127.0.0.1")], "192.0.2.7"),
    ] {
        let args = [&["server", "-H", "127.0.0.1", "-P", "0", "-t", "t"], flags].concat();
        let mut server = LinkSocks::start(driver, &args, variables);
        let url = format!("ws://{}", field(&server.wait_for("LinkSocks server started"), "listen"));
        let header = "X-Forwarded-For: 203.0.113.1, 192.0.2.7";
        let _client = client(driver, &["-t", "t", "-u", &url, "--header", header]);
        assert_eq!(field(&server.wait_for("Forward client authenticated"), "client_ip"), expected);
    }
}

pub(crate) fn a_generated_token_is_shown_and_works(driver: Driver) {
    let mut server = LinkSocks::start(driver, &["server", "-H", "127.0.0.1", "-P", "0"], &[]);
    let line = server.wait_for("  Token: ");
    let token = line.rsplit(' ').next().unwrap();
    assert!(token.len() == 16 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
    let url = format!("ws://{}", field(&server.wait_for("LinkSocks server started"), "listen"));
    let (_client, socks) = client(driver, &["-t", token, "-u", &url]);
    echo_through(socks);
}

pub(crate) fn several_links_count_up(driver: Driver) {
    let (_server, url) = server(driver, &["-t", "t"]);
    let (mut client, socks) = client(driver, &["-t", "t", "-u", &url, "-T", "3"]);
    client.wait_for("Authentication successful for forward proxy (3/3)");
    echo_through(socks);
}

pub(crate) fn a_wrong_token_ends_the_client_without_a_retry(driver: Driver) {
    let (server, url) = server(driver, &["-t", "right"]);
    for (flags, text) in [
        (&["-t", "wrong"][..], " FTL Exit due to error: authentication failed: invalid token\n"),
        (&[], "invalid token; please provide a token with -t or set LINKSOCKS_TOKEN\n"),
    ] {
        let client =
            LinkSocks::start(driver, &[&["client", "-p", "0", "-u", &url], flags].concat(), &[]).end();
        assert_eq!(client.status, Some(1), "{}", client.stdout);
        assert!(client.stdout.contains(" ERR Authentication failed\n"), "{}", client.stdout);
        assert!(client.stdout.contains(text), "{}", client.stdout);
        assert!(!client.stdout.contains("retrying"), "{}", client.stdout);
    }
    server.signal("TERM");
    let server = server.end();
    assert_eq!(server.stdout.matches("Client rejected").count(), 2, "{}", server.stdout);
}

pub(crate) fn a_wrong_token_is_tried_again_if_it_shall(driver: Driver) {
    let (mut server, url) = server(driver, &["-t", "right"]);
    let flags = ["client", "-p", "0", "-u", &url, "-t", "wrong", "--reconnect-delay", "10ms"];
    let mut client = LinkSocks::start(driver, &flags, &[("LINKSOCKS_RETRY_AUTH", "true")]);
    let line = client.wait_for("waiting 10ms before retrying");
    assert!(line.contains("authentication failed: invalid token"), "{line}");
    for _ in 0..3 {
        server.next_with("Client rejected");
    }
    client.signal("TERM");
    assert_eq!(client.end().status, Some(0));
}

pub(crate) fn a_port_in_use_is_an_error(driver: Driver) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let expected = format!(" FTL Exit due to error: failed to listen on {address}: address already in use\n");
    for args in [
        &["server", "-H", &ip, "-P", &port][..],
        &["client", "-s", &ip, "-p", &port, "-i", "-u", "ws://127.0.0.1:1"],
    ] {
        let ended = LinkSocks::start(driver, args, &[]).end();
        assert_eq!(ended.status, Some(1), "{}", ended.stdout);
        assert!(ended.stdout.contains(&expected), "{}", ended.stdout);
    }
}

pub(crate) fn a_client_without_server_retries_until_it_is_stopped(driver: Driver) {
    // Nobody listens there, and the system gives it to nobody.
    let url = "ws://127.0.0.1:1";
    let mut client = LinkSocks::start(driver, &["client", "-p", "0", "-u", url], &[]);
    let line = client.wait_for("Connection error, waiting ");
    assert!(line.contains(" WRN ") && line.contains("before retrying error="), "{line}");
    assert!(line.contains("connection refused"), "{line}");
    client.signal("TERM");
    assert_eq!(client.end().status, Some(0));

    let once = LinkSocks::start(driver, &["client", "-p", "0", "-R", "-u", url], &[]).end();
    assert_eq!(once.status, Some(1), "{}", once.stdout);
    assert!(once.stdout.contains(" FTL Exit due to error: "), "{}", once.stdout);
}

pub(crate) fn a_second_signal_resets_connections_instead_of_waiting_for_them(driver: Driver) {
    let (_server, url) = server(driver, &["-t", "t"]);
    let (mut client, socks) = client(driver, &["-t", "t", "-u", &url]);
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = target.local_addr().unwrap().port().to_be_bytes();
    let mut open = TcpStream::connect(socks).unwrap();
    open.write_all(&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, port[0], port[1]]).unwrap();
    let mut replies = [0; 12];
    open.read_exact(&mut replies).unwrap();
    client.signal("INT");
    client.wait_for("Shutting down client...");
    client.signal("INT");
    assert_eq!(client.end().status, Some(130));
    // A regular end would make a part of a download look like all of it.
    let end = open.read(&mut [0; 1]);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}
