//! Bytes arrive, whole and in order.

use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use conformance::interop::pattern::random_bytes;
use conformance::interop::socks::{Destination, Error};
use conformance::interop::target::{self, Target, read_bytes};
use conformance::interop::{Tunnel, free_port};
use libtest_mimic::Failed;
use sha2::{Digest, Sha256};

use crate::TestResult;

const MIB: usize = 1024 * 1024;
/// Time for several links to come up.
const LINKS_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn fetch_over_ipv4(tunnel: &mut Tunnel) -> TestResult {
    let target = Target::local(target::http)?;
    fetch(tunnel.connect(target.address())?, 4, 100_000)
}

pub(crate) fn fetch_over_ipv6(tunnel: &mut Tunnel) -> TestResult {
    let target = Target::spawn(Ipv6Addr::LOCALHOST.into(), target::http)?;
    fetch(tunnel.connect(target.address())?, 6, 100_000)
}

/// The target listens on IPv4 only, whatever `localhost` is first.
pub(crate) fn fetch_by_name(tunnel: &mut Tunnel) -> TestResult {
    let target = Target::local(target::http)?;
    let destination = Destination::Name("localhost".to_owned(), target.address().port());
    fetch(tunnel.connect(destination)?, 9, 100_000)
}

pub(crate) fn download_64_mib(tunnel: &mut Tunnel) -> TestResult {
    let data = Arc::new(random_bytes(64, 64 * MIB));
    let target = Target::local({
        let data = Arc::clone(&data);
        move |stream| target::send_and_close(stream, &data)
    })?;
    let mut stream = tunnel.connect(target.address())?;
    // Hashed afterwards: the published client drops what a slow reader leaves waiting.
    let received = read_bytes(&mut stream, data.len())?;
    assert_eq!(Sha256::digest(&received), Sha256::digest(&*data), "SHA-256 of the download");
    Ok(())
}

pub(crate) fn upload_64_mib(tunnel: &mut Tunnel) -> TestResult {
    let target = Target::local(|stream| sink(stream, 64 * MIB))?;
    let data = random_bytes(46, 64 * MIB);
    let mut stream = tunnel.connect(target.address())?;
    stream.write_all(&data)?;
    let digest = read_bytes(&mut stream, 32)?;
    assert_eq!(digest, Sha256::digest(&data).as_slice(), "SHA-256 of the upload");
    Ok(())
}

/// Reads `length` bytes, then answers with their SHA-256.
fn sink(mut stream: TcpStream, length: usize) -> io::Result<()> {
    let data = read_bytes(&mut stream, length)?;
    stream.write_all(&Sha256::digest(&data))?;
    target::close_gently(stream)
}

pub(crate) fn two_hundred_concurrent_fetches(tunnel: &mut Tunnel) -> TestResult {
    let target = Target::local(target::http)?;
    concurrently(200, |number| fetch(tunnel.connect(target.address())?, number, 10_000))
}

pub(crate) fn target_speaks_first(tunnel: &mut Tunnel) -> TestResult {
    let greeting = b"220 ready\r\n";
    let target = Target::local(|mut stream| {
        stream.write_all(greeting)?;
        target::echo(stream)
    })?;
    let mut stream = tunnel.connect(target.address())?;
    assert_eq!(read_bytes(&mut stream, greeting.len())?, greeting, "greeting");
    ping(&mut stream, b"HELO")
}

pub(crate) fn refused_connection_is_reply_04(tunnel: &mut Tunnel) -> TestResult {
    match tunnel.connect(Destination::Name("127.0.0.1".to_owned(), free_port()?)) {
        Err(Error::Refused(4)) => Ok(()),
        other => Err(format!("expected SOCKS reply 04, got {other:?}").into()),
    }
}

pub(crate) fn four_links(tunnel: &mut Tunnel) -> TestResult {
    tunnel.client().wait_for_lines("(4/4)", 1, LINKS_TIMEOUT)?;
    tunnel.server().wait_for_lines("Forward client authenticated", 4, LINKS_TIMEOUT)?;
    let target = Target::local(target::http)?;
    concurrently(16, |number| fetch(tunnel.connect(target.address())?, number, MIB))
}

/// One HTTP request for the random bytes of `seed`, answered completely and correctly.
pub(crate) fn fetch(mut stream: TcpStream, seed: u64, length: usize) -> TestResult {
    write!(stream, "GET /{seed}/{length} HTTP/1.1\r\nHost: target\r\n\r\n")?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(read_bytes(&mut stream, 1)?);
    }
    let head = String::from_utf8(head)?;
    assert!(head.starts_with("HTTP/1.1 200 "), "unexpected answer {head:?}");
    let body = read_bytes(&mut stream, length)?;
    assert!(body == random_bytes(seed, length), "wrong body");
    stream.shutdown(Shutdown::Both).map_err(Failed::from)
}

/// Sends `data` to an echo target and gets it back.
pub(crate) fn ping(stream: &mut TcpStream, data: &[u8]) -> TestResult {
    stream.write_all(data)?;
    let mut answer = vec![0; data.len()];
    stream.read_exact(&mut answer)?;
    assert!(answer == data, "the echo differs");
    Ok(())
}

/// Runs `work` with the numbers 0 to `count` - 1, all at once, and counts the failures.
pub(crate) fn concurrently(count: u64, work: impl Fn(u64) -> TestResult + Sync) -> TestResult {
    let failures: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                scope.spawn({
                    let work = &work;
                    move || work(number)
                })
            })
            .collect();
        threads
            .into_iter()
            .filter_map(|thread| match thread.join() {
                Ok(Ok(())) => None,
                Ok(Err(failed)) => Some(failed.message().unwrap_or("failed").to_owned()),
                Err(_) => Some("panicked".to_owned()),
            })
            .collect()
    });
    match failures.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} of {count} failed, the first: {first}", failures.len()).into()),
    }
}
