//! What travels compressed arrives as it was.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use conformance::interop::target::{self, Target, read_bytes};
use conformance::interop::{Error, Process, Program, Tunnel, free_port, socks};

use crate::TestResult;

const MIB: usize = 1024 * 1024;
/// How much text is sent each way.
const LENGTH: usize = 32 * MIB;
/// How long a program may take until it serves.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Between a client and its server: counts what passes.
struct Wiretap {
    address: SocketAddr,
    /// From the client, and to it.
    passed: Arc<[AtomicU64; 2]>,
}

impl Wiretap {
    fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let passed: Arc<[AtomicU64; 2]> = Arc::default();
        let counts = Arc::clone(&passed);
        // Ends with the process: a listener can't be woken.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else { return };
                let (Ok(client2), Ok(server2)) = (client.try_clone(), server.try_clone()) else { return };
                for (direction, from, to) in [(0, client, server2), (1, server, client2)] {
                    let counts = Arc::clone(&counts);
                    thread::spawn(move || forward(from, to, &counts[direction]));
                }
            }
        });
        Ok(Self { address, passed })
    }

    fn passed(&self) -> [u64; 2] {
        [0, 1].map(|direction| self.passed[direction].load(Ordering::Relaxed))
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, passed: &AtomicU64) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
        passed.fetch_add(length as u64, Ordering::Relaxed);
    }
    // The other end may have gone first.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// A server and a client with flags of their own, and a wiretap between them.
struct Rig {
    wiretap: Wiretap,
    socks: SocketAddr,
    _client: Process,
    _server: Process,
}

impl Rig {
    fn start(tunnel: &Tunnel) -> Result<Self, Error> {
        let (client, server) = (tunnel.client_program(), tunnel.server_program());
        let port = free_port()?;
        let mut command = server.server(port, Tunnel::TOKEN)?;
        match server {
            Program::Ours(_) => command.args(["--compression-threshold", "65536"]),
            // The wheel reads 4096 bytes at a time by default, and nothing below 512 KiB is compressed.
            Program::Real(_) | Program::Pywssocks => command.args(["--buffer-size", "1048576"]),
        };
        let server = Process::spawn(format!("{} server", server.name()), command)?;
        server.wait_for_lines("LinkSocks server started", 1, START_TIMEOUT)?;
        let wiretap = Wiretap::start((Ipv4Addr::LOCALHOST, port).into())?;
        let port = free_port()?;
        let mut command = client.client(&format!("ws://{}", wiretap.address), Tunnel::TOKEN, port, 1)?;
        if client.is_ours() {
            command.args(["--compression-threshold", "65536"]);
        }
        let client = Process::spawn(format!("{} client", client.name()), command)?;
        client.wait_for_lines("Local proxy server started", 1, START_TIMEOUT)?;
        Ok(Self { wiretap, socks: (Ipv4Addr::LOCALHOST, port).into(), _client: client, _server: server })
    }
}

/// Log lines of which gzip leaves less than half.
fn text() -> Vec<u8> {
    let mut text = Vec::with_capacity(LENGTH + 100);
    for line in 0_u64.. {
        if text.len() >= LENGTH {
            break;
        }
        let number = line.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (id, size) = (number >> 40, number >> 52);
        text.extend(format!("{line:012} GET /index/{id:x} 200 OK, {size} bytes\n").bytes());
    }
    text.truncate(LENGTH);
    text
}

pub(crate) fn text_travels_compressed(tunnel: &mut Tunnel) -> TestResult {
    let rig = Rig::start(tunnel)?;
    let text = Arc::new(text());

    let target = Target::local({
        let text = Arc::clone(&text);
        move |mut stream| {
            let received = read_bytes(&mut stream, LENGTH)?;
            stream.write_all(&[u8::from(received == *text)])?;
            target::close_gently(stream)
        }
    })?;
    let mut stream = socks::connect(rig.socks, target.address())?;
    stream.write_all(&text)?;
    assert_eq!(read_bytes(&mut stream, 1)?, [1], "the upload arrives as it was");
    let [up, _] = rig.wiretap.passed();

    let target = Target::local({
        let text = Arc::clone(&text);
        move |stream| target::send_and_close(stream, &text)
    })?;
    let mut stream = socks::connect(rig.socks, target.address())?;
    assert!(read_bytes(&mut stream, LENGTH)? == *text, "the download arrives as it was");
    let [_, down] = rig.wiretap.passed();

    let length = LENGTH as u64;
    println!("up {up}, down {down} of {length}");
    // Of our programs every message is compressed that has the 64 KiB that the flag asks for, of the published
    // program only batches of 512 KiB.
    for (program, direction, passed) in
        [(tunnel.client_program(), "up", up), (tunnel.server_program(), "down", down)]
    {
        let most = length / 10 * if program.is_ours() { 6 } else { 9 };
        assert!(passed < most, "{direction}: {passed} bytes on the wire for {length}");
    }
    Ok(())
}
