//! One who doesn't read doesn't keep the others from reading.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conformance::interop::load::{ENDLESS, Load, ask};
use conformance::interop::target::{Target, read_bytes};
use conformance::interop::{Network, socks};
use libtest_mimic::Failed;

use crate::TestResult;

/// Downloads of each connector.
const STREAMS: u64 = 4;
/// Bytes of each write of which nothing is read.
const UNREAD_WRITE: usize = 64 * 1024;
/// Until everything runs.
const SETTLE: Duration = Duration::from_secs(1);
/// Without another byte from a target for so long, the buffers on the way are full.
const QUIET: Duration = Duration::from_secs(2);
/// Those of some are never full: they drop.
const FILL_TIMEOUT: Duration = Duration::from_secs(8);
/// Throughput is measured so long, so many times in a row: once it has to be seen, because other programs of this machine
/// take their share, too.
const WINDOW: Duration = Duration::from_millis(1500);
const WINDOWS_BEFORE: usize = 3;
const WINDOWS_DURING: usize = 12;

pub(crate) fn an_application_that_never_reads_stalls_nobody_else(network: &mut Network) -> TestResult {
    others_keep_half(network, |_| Ok(()))
}

pub(crate) fn a_connector_that_never_reads_stalls_nobody_else(network: &mut Network) -> TestResult {
    others_keep_half(network, |network| network.clients()[0].freeze().map_err(Failed::from))
}

/// Downloads through all connectors but the first go on while nobody reads the downloads through the first, and `lose` was
/// done to it. Foreign programs drop what nobody reads and so take it as fast as all the rest: where there are any, it
/// counts as carried, and the others have at least half their share.
fn others_keep_half(network: &mut Network, lose: fn(&mut Network) -> TestResult) -> TestResult {
    let drops = network.cast().parts().any(|program| !program.is_ours());
    let entries = network.entries().to_vec();
    let (first, others) = entries.split_first().ok_or("no connectors")?;
    let load = Arc::new(Load::new(STREAMS * others.len() as u64));
    let target = Target::local({
        let load = Arc::clone(&load);
        move |stream| load.serve_source(stream)
    })?;
    let unread = Arc::new(AtomicU64::new(0));
    let unread_target = Target::local({
        let unread = Arc::clone(&unread);
        move |mut stream| {
            read_bytes(&mut stream, 1)?;
            loop {
                stream.write_all(&[0; UNREAD_WRITE])?;
                unread.fetch_add(1, Ordering::Relaxed);
            }
        }
    })?;
    let mut streams = Vec::new();
    for entry in others {
        streams.extend(downloads(*entry, target.address(), streams.len() as u64)?);
    }

    let outcome = thread::scope(|scope| {
        for (key, mut stream) in (0..).zip(streams) {
            let load = &load;
            scope.spawn(move || load.report(key, load.receive(&mut stream, key, ENDLESS)));
        }
        let outcome = before_and_during(&load, &unread, drops, || {
            let mut streams = Vec::new();
            for _ in 0..STREAMS {
                let mut stream = socks::connect(*first, unread_target.address())?;
                stream.write_all(b"?")?;
                streams.push(stream);
            }
            lose(network)?;
            wait_until_full(&unread);
            Ok(streams)
        });
        load.stop();
        outcome
    });
    let (before, during) = outcome?;
    load.outcome()?;
    println!("per {WINDOW:?}, before: {before:?}, meanwhile: {during:?}");
    assert!(before.read > 0, "nothing arrived before");
    assert!(during.is_fair(before, drops), "per {WINDOW:?}, before: {before:?}, meanwhile: {during:?}");
    Ok(())
}

/// Bytes in a window of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Carried {
    /// What the others have got.
    read: u64,
    /// What targets could send although nobody reads it.
    unread: u64,
}

impl Carried {
    /// `drops`: what nobody reads may go on for ever.
    fn is_fair(self, before: Self, drops: bool) -> bool {
        let all = self.read + if drops { self.unread } else { 0 };
        // Two connectors in three are read.
        all >= before.read / 2 && self.read >= all / 3
    }
}

fn wait_until_full(unread: &AtomicU64) {
    let deadline = Instant::now() + FILL_TIMEOUT;
    while Instant::now() < deadline {
        let earlier = unread.load(Ordering::Relaxed);
        thread::sleep(QUIET);
        if unread.load(Ordering::Relaxed) == earlier {
            return;
        }
    }
}

/// Opens endless downloads, with keys from `first_key` on.
fn downloads(proxy: SocketAddr, target: SocketAddr, first_key: u64) -> Result<Vec<TcpStream>, Failed> {
    let open = |key| {
        let mut stream = socks::connect(proxy, target)?;
        ask(&mut stream, key, ENDLESS)?;
        Ok(stream)
    };
    (first_key..first_key + STREAMS).map(open).collect()
}

/// What is usually carried, and the best while what `disturb` returns is there.
fn before_and_during(
    load: &Load,
    unread: &AtomicU64,
    drops: bool,
    disturb: impl FnOnce() -> Result<Vec<TcpStream>, Failed>,
) -> Result<(Carried, Carried), Failed> {
    thread::sleep(SETTLE);
    let mut before: Vec<_> = (0..WINDOWS_BEFORE).map(|_| window(load, unread)).collect();
    before.sort_unstable();
    let before = before[WINDOWS_BEFORE / 2];
    let _unread = disturb()?;
    let mut during = Carried::default();
    for _ in 0..WINDOWS_DURING {
        during = during.max(window(load, unread));
        // More would change nothing.
        if during.is_fair(before, drops) {
            break;
        }
    }
    Ok((before, during))
}

/// What is carried in a window of time.
fn window(load: &Load, unread: &AtomicU64) -> Carried {
    let sent = || unread.load(Ordering::Relaxed) * UNREAD_WRITE as u64;
    let (started, read, unread) = (Instant::now(), load.total_received(), sent());
    thread::sleep(WINDOW);
    let (read, unread, elapsed) = (load.total_received() - read, sent() - unread, started.elapsed());
    let per_window = |bytes: u64| {
        u64::try_from(u128::from(bytes) * WINDOW.as_nanos() / elapsed.as_nanos()).unwrap_or(u64::MAX)
    };
    Carried { read: per_window(read), unread: per_window(unread) }
}
