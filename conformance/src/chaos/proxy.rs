//! A TCP proxy that makes trouble on demand.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::fault::{Cut, Weather};
use super::side::reset_when_closed;
use super::stream::lock;
use crate::interop::socks;
use crate::interop::target::Target;

/// How often a blocked thread looks whether its connection has been cut.
const POLL: Duration = Duration::from_millis(50);
/// The most bytes that travel together.
const PIECE: usize = 16 * 1024;
/// Pieces on their way in one direction: 256 KiB. What a slow link has on its way takes its time before anything else.
const PIECES: usize = 16;
/// The same in the kernel, which would put aside megabytes.
const KERNEL_BUFFER: usize = 128 * 1024;
/// How long the end that has connected may wait for the other one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the rest of a connection that was cut by FIN is read, so that the kernel sends no RST.
const LINGER: Duration = Duration::from_secs(2);

/// Passes connections on to an address, and makes trouble; stops accepting when dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    shared: Arc<Shared>,
    target: Target,
}

/// A direction through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// From whoever has connected.
    Up,
    Down,
}

#[derive(Debug)]
struct Shared {
    conditions: Mutex<Conditions>,
    links: Mutex<Vec<Weak<Link>>>,
}

/// What all connections of a proxy suffer.
#[derive(Clone, Copy, Debug)]
struct Conditions {
    weather: Weather,
    /// Up and down.
    stalled: [bool; 2],
    /// The byte of each connection's way down that arrives as another one.
    garbled: Option<u64>,
}

/// A connection through the proxy.
#[derive(Debug)]
struct Link {
    cut: Mutex<Option<(Cut, Instant)>>,
    /// Directions through which everything has gone.
    complete: AtomicU8,
}

/// What goes from the reader to the writer of a direction.
enum Parcel {
    /// Bytes, and when they arrive.
    Bytes(Vec<u8>, Instant),
    End,
}

impl Proxy {
    /// A proxy on a free port of 127.0.0.1 before `upstream`.
    pub(super) fn start(upstream: SocketAddr) -> io::Result<Self> {
        let conditions = Conditions { weather: Weather::FAIR, stalled: [false; 2], garbled: None };
        let shared = Arc::new(Shared { conditions: Mutex::new(conditions), links: Mutex::default() });
        let target = Target::spawn(Ipv4Addr::LOCALHOST.into(), {
            let shared = Arc::clone(&shared);
            move |client| shared.pass_on(client, upstream)
        })?;
        Ok(Self { shared, target })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.target.address()
    }

    pub(super) fn set_weather(&self, weather: Weather) {
        lock(&self.shared.conditions).weather = weather;
    }

    /// Lets bytes stand still, from whoever has connected and to them.
    pub(super) fn stall(&self, up: bool, down: bool) {
        lock(&self.shared.conditions).stalled = [up, down];
    }

    /// Cuts every connection that there is now; others can be made.
    pub(super) fn cut(&self, how: Cut) {
        let now = Instant::now();
        for link in lock(&self.shared.links).drain(..).filter_map(|link| link.upgrade()) {
            lock(&link.cut).get_or_insert((how, now));
        }
    }

    /// Makes this byte of each later connection's way down another one.
    #[cfg(test)]
    pub(super) fn garble(&self, offset: u64) {
        lock(&self.shared.conditions).garbled = Some(offset);
    }
}

impl Shared {
    /// Serves one connection to its end.
    fn pass_on(&self, client: TcpStream, upstream: SocketAddr) -> io::Result<()> {
        let Ok(server) = socks::open_within(upstream, CONNECT_TIMEOUT) else {
            reset_when_closed(&client);
            return Ok(());
        };
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(POLL))?;
            socket.set_write_timeout(Some(POLL))?;
            let buffers = SockRef::from(socket);
            buffers.set_recv_buffer_size(KERNEL_BUFFER)?;
            buffers.set_send_buffer_size(KERNEL_BUFFER)?;
        }
        let link = Arc::new(Link { cut: Mutex::new(None), complete: AtomicU8::new(0) });
        self.remember(&link);
        let up = Pipe { shared: self, link: &link, way: Way::Up };
        let down = Pipe { shared: self, link: &link, way: Way::Down };
        thread::scope(|scope| {
            // Closed by whoever is the last to use it: no handle stays here.
            let (client, server) = (Arc::new(client), Arc::new(server));
            up.start(scope, Arc::clone(&client), Arc::clone(&server));
            down.start(scope, server, client);
        });
        Ok(())
    }

    fn remember(&self, link: &Arc<Link>) {
        let mut links = lock(&self.links);
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(link));
    }
}

impl Link {
    fn cut(&self) -> Option<(Cut, Instant)> {
        *lock(&self.cut)
    }

    /// What a broken end does to the other one.
    fn break_off(&self) {
        lock(&self.cut).get_or_insert((Cut::Rst, Instant::now()));
    }
}

/// One direction of a connection.
#[derive(Clone, Copy)]
struct Pipe<'a> {
    shared: &'a Shared,
    link: &'a Link,
    way: Way,
}

impl<'a> Pipe<'a> {
    fn start<'scope>(self, scope: &'scope thread::Scope<'scope, '_>, from: Arc<TcpStream>, to: Arc<TcpStream>)
    where
        'a: 'scope,
    {
        let (parcels, arriving) = sync_channel(PIECES);
        scope.spawn(move || {
            if self.read(&from, &parcels).is_err() {
                self.link.break_off();
            }
            drop(parcels);
            self.wait_until_over();
            self.finish(&from);
        });
        scope.spawn(move || match self.write(&to, &arriving) {
            Ok(()) => _ = self.link.complete.fetch_add(1, SeqCst),
            Err(_) => self.link.break_off(),
        });
    }

    fn conditions(&self) -> Conditions {
        *lock(&self.shared.conditions)
    }

    /// Reads until the end or a cut.
    fn read(&self, mut from: &TcpStream, parcels: &SyncSender<Parcel>) -> io::Result<()> {
        let mut offset = 0;
        let mut buffer = vec![0; PIECE];
        while self.link.cut().is_none() {
            let read = match from.read(&mut buffer) {
                Ok(0) => {
                    self.deliver(Parcel::End, parcels);
                    return Ok(());
                }
                Ok(read) => read,
                Err(error) if is_timeout(&error) => continue,
                Err(error) => return Err(error),
            };
            let mut bytes = buffer[..read].to_vec();
            let conditions = self.conditions();
            if self.way == Way::Down {
                garble(&mut bytes, offset, conditions.garbled);
            }
            offset += read as u64;
            self.deliver(Parcel::Bytes(bytes, Instant::now() + conditions.weather.latency), parcels);
        }
        Ok(())
    }

    /// Hands a parcel over, unless the connection is cut before there is room.
    fn deliver(&self, mut parcel: Parcel, parcels: &SyncSender<Parcel>) {
        while self.link.cut().is_none() {
            parcel = match parcels.try_send(parcel) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(parcel)) => parcel,
            };
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Writes what arrives, in its time.
    fn write(&self, to: &TcpStream, arriving: &Receiver<Parcel>) -> io::Result<()> {
        while self.link.cut().is_none() {
            match arriving.recv_timeout(POLL) {
                Ok(Parcel::Bytes(bytes, due)) => {
                    self.wait_until(due);
                    self.write_all(to, &bytes)?;
                }
                Ok(Parcel::End) => {
                    self.wait_until(Instant::now());
                    return to.shutdown(Shutdown::Write);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Waits for the time, and for the end of a stall.
    fn wait_until(&self, due: Instant) {
        while self.link.cut().is_none() {
            let left = due.saturating_duration_since(Instant::now());
            let stalled = self.conditions().stalled[usize::from(self.way == Way::Down)];
            match (left.is_zero(), stalled) {
                (true, false) => return,
                (true, true) => thread::sleep(POLL),
                (false, _) => thread::sleep(left.min(POLL)),
            }
        }
    }

    fn write_all(&self, mut to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        if let Some(rate) = self.conditions().weather.rate {
            self.wait_until(Instant::now() + Duration::from_secs_f64(bytes.len() as f64 / rate as f64));
        }
        while !bytes.is_empty() && self.link.cut().is_none() {
            match to.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A cut may come long after the end of one direction, and shall be seen on both.
    fn wait_until_over(&self) {
        while self.link.cut().is_none() && self.link.complete.load(SeqCst) < 2 {
            thread::sleep(POLL);
        }
    }

    /// After a cut: lets the end that is read from see of it what it shall see.
    fn finish(&self, from: &TcpStream) {
        let Some((cut, at)) = self.link.cut() else { return };
        match cut {
            Cut::Rst => reset_when_closed(from),
            Cut::HalfOpen(silence) => {
                swallow(from, at + silence);
                reset_when_closed(from);
            }
            Cut::Orphan(silence) => {
                if self.way == Way::Down {
                    swallow(from, at + silence);
                }
                reset_when_closed(from);
            }
            Cut::Fin => {
                // Fails only if the other end was quicker.
                let _ = from.shutdown(Shutdown::Write);
                swallow(from, at + LINGER);
            }
        }
    }
}

/// Reads and forgets what comes, until the end or the deadline.
fn swallow(mut from: &TcpStream, deadline: Instant) {
    let mut buffer = vec![0; PIECE];
    while Instant::now() < deadline {
        match from.read(&mut buffer) {
            Ok(0) => thread::sleep(deadline.saturating_duration_since(Instant::now()).min(POLL)),
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(_) => return,
        }
    }
}

fn garble(bytes: &mut [u8], offset: u64, garbled: Option<u64>) {
    let index =
        garbled.and_then(|garbled| garbled.checked_sub(offset)).and_then(|index| usize::try_from(index).ok());
    if let Some(byte) = index.and_then(|index| bytes.get_mut(index)) {
        *byte ^= 1;
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
