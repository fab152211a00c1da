//! HTTP on the SOCKS port, and tunnels whose connections go through another tunnel.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use conformance::interop::pattern::random_bytes;
use conformance::interop::target::{self, Target};
use conformance::interop::{Process, Program, Tunnel, free_port, socks};

use crate::TestResult;
use crate::transfer::fetch;

const START_TIMEOUT: Duration = Duration::from_secs(20);
const TOKEN: &str = "second-token";

/// An answer to an HTTP request.
struct Answer {
    status: String,
    head: String,
    body: Vec<u8>,
}

/// Reads one answer whose length is known.
fn read_answer(reader: &mut BufReader<TcpStream>) -> io::Result<Answer> {
    let mut status = String::new();
    reader.read_line(&mut status)?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && head != "\r\n" {
        if reader.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(Answer { status: status.trim_end().to_owned(), head, body })
}

fn get(reader: &mut BufReader<TcpStream>, target: SocketAddr, seed: u64, length: usize) -> TestResult {
    write!(reader.get_mut(), "GET http://{target}/{seed}/{length} HTTP/1.1\r\nHost: {target}\r\n\r\n")?;
    let answer = read_answer(reader)?;
    assert_eq!(answer.status, "HTTP/1.1 200 OK", "{}", answer.head);
    assert!(answer.body == random_bytes(seed, length), "wrong body");
    Ok(())
}

/// `CONNECT`, then a request to the target itself.
pub(crate) fn http_connect(tunnel: &mut Tunnel) -> TestResult {
    let target = Target::local(target::http)?;
    let mut stream = socks::open(tunnel.socks())?;
    write!(stream, "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", target.address())?;
    let expected = b"HTTP/1.1 200 Connection Established\r\n\r\n";
    assert_eq!(target::read_bytes(&mut stream, expected.len())?, expected);
    fetch(stream, 5, 1_000_000)
}

pub(crate) fn http_request_in_absolute_form(tunnel: &mut Tunnel) -> TestResult {
    let target = Target::local(target::http)?;
    get(&mut BufReader::new(socks::open(tunnel.socks())?), target.address(), 6, 1_000_000)
}

/// The published program closes after the first request.
pub(crate) fn http_requests_on_one_connection(tunnel: &mut Tunnel) -> TestResult {
    let targets = [Target::local(target::http)?, Target::local(target::http)?];
    let mut reader = BufReader::new(socks::open(tunnel.socks())?);
    (0..6).try_for_each(|number| get(&mut reader, targets[number % 2].address(), number as u64, 50_000))
}

/// Status and body of what can't be done.
pub(crate) fn http_errors(tunnel: &mut Tunnel) -> TestResult {
    let unused = free_port()?;
    for (request, status, body) in [
        (format!("CONNECT 127.0.0.1:{unused}"), "502 Bad Gateway", "Connection failed"),
        (format!("GET http://127.0.0.1:{unused}/"), "502 Bad Gateway", "Connection failed"),
        ("GET /".to_owned(), "400 Bad Request", "Absolute-form request URL required"),
        ("GET https://127.0.0.1/".to_owned(), "400 Bad Request", "Use CONNECT for HTTPS targets"),
    ] {
        let mut reader = BufReader::new(socks::open(tunnel.socks())?);
        write!(reader.get_mut(), "{request} HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let answer = read_answer(&mut reader)?;
        assert_eq!(answer.status, format!("HTTP/1.1 {status}"), "{request}");
        assert_eq!(String::from_utf8(answer.body)?.trim_end(), body, "{request}");
    }
    Ok(())
}

/// Our program, with the driver that it has in this tunnel.
fn ours(tunnel: &Tunnel) -> Program {
    let parts = [tunnel.client_program(), tunnel.server_program()];
    parts.into_iter().find(|program| program.is_ours()).unwrap_or(Program::OURS)
}

/// A second tunnel with a server of its own, whose connections go through the SOCKS port of the first.
fn through_upstream(tunnel: &Tunnel, scheme: &str) -> TestResult {
    let program = tunnel.server_program();
    let port = free_port()?;
    let mut command = program.server(port, TOKEN)?;
    command.args(["-x", &format!("{scheme}://{}", tunnel.socks())]);
    let server = Process::spawn(format!("{} server behind a proxy", program.name()), command)?;
    server.wait_for_lines("LinkSocks server started", 1, START_TIMEOUT)?;
    let socks_port = free_port()?;
    let command = ours(tunnel).client(&format!("ws://127.0.0.1:{port}"), TOKEN, socks_port, 1)?;
    let client = Process::spawn("second client", command)?;
    client.wait_for_lines("Local proxy server started", 1, START_TIMEOUT)?;

    let target = Target::local(target::http)?;
    let proxy = SocketAddr::from(([127, 0, 0, 1], socks_port));
    for number in 0..5 {
        fetch(socks::connect(proxy, target.address())?, number, 200_000)?;
    }
    match socks::connect(proxy, SocketAddr::from(([127, 0, 0, 1], free_port()?))) {
        Err(socks::Error::Refused(4)) => Ok(()),
        other => Err(format!("expected SOCKS reply 04, got {other:?}\n{}", server.transcript()).into()),
    }
}

pub(crate) fn upstream_socks5(tunnel: &mut Tunnel) -> TestResult {
    through_upstream(tunnel, "socks5")
}

pub(crate) fn upstream_http(tunnel: &mut Tunnel) -> TestResult {
    through_upstream(tunnel, "http")
}

/// A second client of the same server, whose link goes through the SOCKS port of the first.
pub(crate) fn link_through_a_proxy(tunnel: &mut Tunnel) -> TestResult {
    let target = Target::local(target::http)?;
    for scheme in ["socks5", "http"] {
        let port = free_port()?;
        let url = format!("ws://{}", tunnel.server_address());
        let mut command = ours(tunnel).client(&url, Tunnel::TOKEN, port, 1)?;
        command.args(["-x", &format!("{scheme}://{}", tunnel.socks())]);
        let client = Process::spawn(format!("client behind a {scheme} proxy"), command)?;
        client.wait_for_lines("Local proxy server started", 1, START_TIMEOUT)?;
        fetch(socks::connect(SocketAddr::from(([127, 0, 0, 1], port)), target.address())?, 8, 1_000_000)?;
    }
    Ok(())
}
