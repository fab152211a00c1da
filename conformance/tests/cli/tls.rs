//! The commands over TLS: their flags, their variables, and what they say when something is wrong.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use conformance::certificates::{Authority, Identity};
use conformance::interop::Driver;
use tempfile::TempDir;

use crate::program::{Ended, LinkSocks};

/// Files that go away with the test.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

/// A server and its port.
fn server(driver: Driver, files: &Files, identity: &Identity) -> (LinkSocks, String) {
    let chain = files.write("chain.pem", &identity.chain);
    let key = files.write("key.pem", &identity.key);
    let flags = ["server", "-H", "127.0.0.1", "-P", "0", "-t", "t", "--tls-cert", &chain, "--tls-key", &key];
    let mut server = LinkSocks::start(driver, &flags, &[]);
    let line = server.wait_for("LinkSocks server started");
    assert!(line.contains("url=https://localhost:"), "{line}");
    let port = line.rsplit(':').next().unwrap().to_owned();
    (server, port)
}

fn client(driver: Driver, url: &str, flags: &[&str], variables: &[(&str, &str)]) -> LinkSocks {
    LinkSocks::start(driver, &[&["client", "-p", "0", "-t", "t", "-u", url], flags].concat(), variables)
}

fn assert_fails(client: LinkSocks, text: &str) {
    let Ended { status, stdout, .. } = client.end();
    assert_eq!(status, Some(1), "{stdout}");
    assert!(stdout.contains(&format!(" FTL Exit due to error: {text}")), "{stdout}");
    assert!(!stdout.contains("retrying"), "{stdout}");
}

const SUCCESS: &str = "Authentication successful for forward proxy";

pub(crate) fn who_is_trusted_is_up_to_flags_and_the_system(driver: Driver) {
    let files = Files::new();
    let (authority, other) = (Authority::new(), Authority::new());
    let (_server, port) = server(driver, &files, &authority.issue("localhost"));
    let url = format!("wss://localhost:{port}");
    let ca = files.write("ca.pem", &authority.pem);
    let other = files.write("other.pem", &other.pem);

    client(driver, &url, &["--ca", &ca], &[]).wait_for(SUCCESS);
    client(driver, &url, &["--ca", &other, "--ca", &ca], &[]).wait_for(SUCCESS);
    client(driver, &url, &[], &[("LINKSOCKS_CA", &ca)]).wait_for(SUCCESS);
    // A URL without a scheme.
    client(driver, &format!("localhost:{port}"), &["--ca", &ca], &[]).wait_for(SUCCESS);
    let unknown = "the server's certificate is signed by an unknown authority; if you trust it, name its \
                   certificate with --ca\n";
    assert_fails(client(driver, &url, &["--ca", &other], &[]), unknown);
    if cfg!(target_os = "linux") {
        client(driver, &url, &[], &[("SSL_CERT_FILE", &ca)]).wait_for(SUCCESS);
        assert_fails(client(driver, &url, &[], &[("SSL_CERT_FILE", &other)]), unknown);
    }

    let mut insecure = client(driver, &url, &["--insecure"], &[]);
    let line = insecure.wait_for("--insecure");
    assert!(line.contains(" WRN ") && line.contains("NOT verified"), "{line}");
    insecure.wait_for(SUCCESS);
}

pub(crate) fn a_certificate_is_for_its_name_and_its_time(driver: Driver) {
    let files = Files::new();
    let authority = Authority::new();
    let ca = files.write("ca.pem", &authority.pem);
    let (front, port) = server(driver, &files, &authority.issue("front.test"));
    let url = format!("wss://127.0.0.1:{port}");
    assert_fails(
        client(driver, &url, &["--ca", &ca], &[]),
        "the server's certificate is not valid for the name 127.0.0.1; another name to expect can be set \
         with --sni\n",
    );
    client(driver, &url, &["--ca", &ca, "--sni", "front.test"], &[]).wait_for(SUCCESS);
    client(driver, &url, &["--ca", &ca], &[("LINKSOCKS_SNI", "front.test")]).wait_for(SUCCESS);
    drop(front);

    let (_server, port) = server(driver, &files, &authority.issue_expired("127.0.0.1"));
    let expired = client(driver, &format!("wss://127.0.0.1:{port}"), &["--ca", &ca], &[]);
    assert_fails(expired, "the server's certificate has expired\n");
}

pub(crate) fn a_server_without_tls_is_told_from_one_with_it(driver: Driver) {
    let mut server = LinkSocks::start(driver, &["server", "-H", "127.0.0.1", "-P", "0", "-t", "t"], &[]);
    let line = server.wait_for("LinkSocks server started");
    let port = line.rsplit(':').next().unwrap();
    assert_fails(
        client(driver, &format!("127.0.0.1:{port}"), &["--insecure"], &[]),
        "the server does not speak TLS on this port; use a ws:// URL",
    );
}

pub(crate) fn a_server_does_not_start_with_files_that_make_no_sense(driver: Driver) {
    let files = Files::new();
    let (one, other) = (Authority::new().issue("a"), Authority::new().issue("b"));
    let chain = files.write("chain.pem", &one.chain);
    let key = files.write("key.pem", &other.key);
    let missing = &*files.path("missing.pem");
    let text = |file: &str, text: &str| format!("error: cannot use {file}: {text}");
    for (chain, key, expected) in [
        (&*chain, &*key, "error: the certificate and the private key do not belong together\n".to_owned()),
        (&chain, missing, text(missing, "No such file")),
        (&key, &key, text(&key, "no certificate in PEM form is in it\n")),
        (&chain, &chain, text(&chain, "no private key in PEM form, without a passphrase, is in it\n")),
    ] {
        for (flags, variables) in [
            (&["--tls-cert", chain, "--tls-key", key][..], &[][..]),
            (&[], &[("LINKSOCKS_TLS_CERT", chain), ("LINKSOCKS_TLS_KEY", key)]),
        ] {
            let args = [&["server", "-H", "127.0.0.1", "-P", "0"], flags].concat();
            let ended = LinkSocks::start(driver, &args, variables).end();
            assert_eq!((ended.status, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
            assert!(ended.stderr.starts_with(&expected), "{expected}: {}", ended.stderr);
        }
    }
}

pub(crate) fn headers_are_sent(driver: Driver) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let client =
        client(driver, &url, &["--header", "X-Zone: eu", "--header", "Authorization: Basic Zm9v"], &[]);
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).unwrap();
    assert!(request.contains("\r\nX-Zone: eu\r\n"), "{request}");
    assert!(request.contains("\r\nAuthorization: Basic Zm9v\r\n"), "{request}");
    stream.write_all(b"HTTP/1.0 401 Unauthorized\r\n\r\n").unwrap();
    assert_fails(client, "the server refused the connection with HTTP status 401; check the URL\n");
}
