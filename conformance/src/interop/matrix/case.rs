//! What a network is asked for.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use linksocks_sansio::socks5::{Host, TargetAddr};

use crate::interop::pattern::random_bytes;
use crate::interop::target::{self, Target, read_bytes};
use crate::interop::udp::{Association, EchoTarget};
use crate::interop::{free_port, socks};

/// Enough for the 15 s after which the published programs give a request up.
const STEP_TIMEOUT: Duration = Duration::from_secs(17);
/// A refusal that takes longer comes from a timer, not from the far end.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(8);
/// The published programs close 5 s after the far end.
const END_TIMEOUT: Duration = Duration::from_secs(8);
/// Loopback loses no datagrams.
const DATAGRAM_TIMEOUT: Duration = Duration::from_secs(5);

const GREETING: &[u8] = b"220 ready\r\n";
/// Bytes of the long stream, each way. Below the 1000 reads of 4096 bytes that a published server holds for a channel,
/// beyond which it drops.
const STREAM: usize = 3 * 1024 * 1024;
/// Bytes of a short one.
const REQUEST: usize = 20_000;
/// What the published server relays at most: its buffer has 4096 bytes.
const DATAGRAMS: [usize; 4] = [1, 512, 1400, 4000];
/// Short connections, one after the other: races lose some of them.
const ROUNDS: u64 = 10;

type CheckResult = Result<(), Box<dyn Error + Send + Sync>>;

/// One thing that a network is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// A few MiB to an echo target and back at the same time, every byte compared.
    Tcp,
    /// Datagrams to an echo target, by address and by name.
    Udp,
    /// A target that refuses is told to the application, at once.
    Refused,
    /// The target speaks first.
    ServerFirst,
    /// The application waits for no answer of the proxy.
    EarlyData,
    /// The same of a proxy that waits for no answer either, and of an application that does.
    FastOpen,
    /// All that a target sends arrives when it closes, and then the end.
    End,
}

impl Case {
    /// Every case.
    pub const ALL: [Self; 7] =
        [Self::Tcp, Self::Udp, Self::Refused, Self::ServerFirst, Self::EarlyData, Self::FastOpen, Self::End];

    /// A name for test names and for the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Refused => "refused",
            Self::ServerFirst => "server_first",
            Self::EarlyData => "early_data",
            Self::FastOpen => "fast_open",
            Self::End => "end",
        }
    }

    /// The head of its column.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Refused => "refused",
            Self::ServerFirst => "server first",
            Self::EarlyData => "early data",
            Self::FastOpen => "FastOpen",
            Self::End => "end",
        }
    }

    pub(super) fn needs_fast_open(self) -> bool {
        self == Self::FastOpen
    }

    /// Asks the network behind the SOCKS port `proxy`.
    pub(super) fn check(self, proxy: SocketAddr) -> CheckResult {
        match self {
            Self::Tcp => tcp(proxy),
            Self::Udp => udp(proxy),
            Self::Refused => refused(proxy),
            Self::ServerFirst => server_first(proxy),
            Self::EarlyData => early_data(proxy),
            Self::FastOpen => early_data(proxy).and_then(|()| data_after_success(proxy)),
            Self::End => end(proxy),
        }
    }
}

fn connect(proxy: SocketAddr, target: SocketAddr) -> Result<TcpStream, socks::Error> {
    socks::connect_within(proxy, target, STEP_TIMEOUT)
}

fn tcp(proxy: SocketAddr) -> CheckResult {
    let target = Target::local(target::echo)?;
    let mut stream = connect(proxy, target.address())?;
    let data = random_bytes(3, STREAM);
    let received = thread::scope(|scope| {
        let mut sending = &stream;
        let sender = scope.spawn({
            let data = &data;
            move || sending.write_all(data)
        });
        let received = read_bytes(&mut &stream, STREAM);
        if received.is_err() {
            // Ends a write that nobody reads; the stream may have ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        let sent = sender.join().expect("a write doesn't panic");
        received.and_then(|received| sent.map(|()| received))
    })?;
    same("the echo", &received, &data)?;
    echo(&mut stream, b"once more")
}

fn udp(proxy: SocketAddr) -> CheckResult {
    let target = EchoTarget::bind(Ipv4Addr::LOCALHOST.into())?;
    let name = TargetAddr::new(Host::Name("localhost".to_owned()), target.address().port());
    for to in [TargetAddr::from(target.address()), name] {
        let association = Association::open(proxy)?;
        association.socket.set_read_timeout(Some(DATAGRAM_TIMEOUT))?;
        for size in DATAGRAMS {
            let payload = random_bytes(size as u64, size);
            association.send_to(&payload, &to)?;
            let (received, from) =
                association.recv_from().map_err(|error| format!("{size} bytes to {to}: {error}"))?;
            same(&format!("the datagram from {to}"), &received, &payload)?;
            if from != target.address().into() {
                return Err(format!("a datagram from {from}").into());
            }
        }
    }
    Ok(())
}

fn refused(proxy: SocketAddr) -> CheckResult {
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    match socks::connect_within(proxy, target, REFUSAL_TIMEOUT) {
        Err(socks::Error::Refused(_)) => Ok(()),
        Err(error) => Err(format!("no refusal: {error}").into()),
        Ok(_) => Err("a connection".into()),
    }
}

fn server_first(proxy: SocketAddr) -> CheckResult {
    let target = Target::local(|mut stream| {
        stream.write_all(GREETING)?;
        target::echo(stream)
    })?;
    for round in 1..=ROUNDS {
        in_round(round, || {
            let mut stream = connect(proxy, target.address())?;
            same("the greeting", &read_bytes(&mut stream, GREETING.len())?, GREETING)?;
            echo(&mut stream, b"HELO")
        })?;
    }
    Ok(())
}

fn early_data(proxy: SocketAddr) -> CheckResult {
    let target = Target::local(target::echo)?;
    for round in 1..=ROUNDS {
        in_round(round, || {
            let data = random_bytes(round, REQUEST);
            let mut stream = socks::connect_with_data(proxy, target.address(), &data, STEP_TIMEOUT)?;
            same("the echo", &read_bytes(&mut stream, REQUEST)?, &data)
        })?;
    }
    Ok(())
}

fn data_after_success(proxy: SocketAddr) -> CheckResult {
    let target = Target::local(target::echo)?;
    for round in 1..=ROUNDS {
        in_round(round, || echo(&mut connect(proxy, target.address())?, &random_bytes(round, REQUEST)))?;
    }
    Ok(())
}

fn end(proxy: SocketAddr) -> CheckResult {
    let data = random_bytes(5, REQUEST);
    let target = Target::local({
        let data = data.clone();
        move |mut stream| {
            read_bytes(&mut stream, 1)?;
            target::send_and_close(stream, &data)
        }
    })?;
    let mut stream = connect(proxy, target.address())?;
    stream.set_read_timeout(Some(END_TIMEOUT))?;
    // Asked for, so that this is about the end only.
    stream.write_all(b"?")?;
    same("all there is", &read_bytes(&mut stream, REQUEST)?, &data)?;
    match stream.read(&mut [0; 1]) {
        Ok(0) => Ok(()),
        other => Err(format!("expected the end, got {other:?}").into()),
    }
}

fn echo(stream: &mut TcpStream, data: &[u8]) -> CheckResult {
    stream.write_all(data)?;
    same("the echo", &read_bytes(stream, data.len())?, data)
}

fn same(what: &str, received: &[u8], sent: &[u8]) -> CheckResult {
    if received == sent { Ok(()) } else { Err(format!("{what} differs").into()) }
}

fn in_round(round: u64, check: impl FnOnce() -> CheckResult) -> CheckResult {
    check().map_err(|error| format!("connection {round} of {ROUNDS}: {error}").into())
}
