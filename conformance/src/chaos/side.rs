//! One end of a stream at work on its socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::script::{Flow, Pace, Role, Start};
use super::stream::{Clock, End, Side, Stream};

/// How often an end that waits for its socket looks whether it is still wanted.
const POLL: Duration = Duration::from_millis(200);
/// How often a sender looks whether everything has been received.
const NAP: Duration = Duration::from_millis(20);
/// Enough for a sender.
const STACK: usize = 128 * 1024;

/// Plays `role` of the script on `socket` to some end, and notes which.
pub(super) fn play(socket: &TcpStream, stream: &Stream, role: Role, clock: Clock) {
    let player = Player {
        socket,
        stream,
        role,
        side: stream.side(role),
        started: Instant::now(),
        stopped: AtomicBool::new(false),
    };
    player.side.begun.store(true, SeqCst);
    let end = match player.prepare().and_then(|()| player.talk()) {
        Ok(()) => End::Clean,
        Err(Stop(end)) => {
            reset_when_closed(socket);
            end
        }
    };
    player.side.set_end(clock.now(), end);
}

/// Makes the kernel send RST in place of FIN when the last handle is closed.
pub(super) fn reset_when_closed(socket: &TcpStream) {
    // Fails only if the connection is gone already.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Why an end stops early.
struct Stop(End);

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self(End::Reset(error.to_string()))
    }
}

struct Player<'a> {
    socket: &'a TcpStream,
    stream: &'a Stream,
    role: Role,
    side: &'a Side,
    started: Instant,
    /// One of the two directions failed: the other one need not go on.
    stopped: AtomicBool,
}

impl Player<'_> {
    fn prepare(&self) -> Result<(), Stop> {
        self.socket.set_nodelay(true)?;
        self.socket.set_read_timeout(Some(POLL))?;
        self.socket.set_write_timeout(Some(POLL))?;
        Ok(())
    }

    fn talk(&self) -> Result<(), Stop> {
        match self.outgoing().start {
            Start::AtOnce => thread::scope(|scope| {
                let sending = thread::Builder::new()
                    .stack_size(STACK)
                    .spawn_scoped(scope, || self.noting_failure(self.send()))?;
                let received = self.noting_failure(self.receive(u64::MAX));
                let sent =
                    sending.join().unwrap_or_else(|_| Err(Stop(End::Wrong("sender panicked".to_owned()))));
                gravest(received, sent)
            }),
            Start::Received(count) => {
                self.receive(count)?;
                self.send()?;
                self.receive(u64::MAX)
            }
            Start::Ended => {
                self.receive(u64::MAX)?;
                self.send()
            }
        }
    }

    fn noting_failure(&self, outcome: Result<(), Stop>) -> Result<(), Stop> {
        if outcome.is_err() {
            self.stopped.store(true, SeqCst);
        }
        outcome
    }

    fn outgoing(&self) -> &Flow {
        self.stream.script.outgoing(self.role)
    }

    /// Sends everything, then the end.
    fn send(&self) -> Result<(), Stop> {
        let flow = self.outgoing();
        let mut pattern = self.stream.script.pattern(self.role);
        while pattern.offset() < flow.length {
            self.check()?;
            let left = usize::try_from(flow.length - pattern.offset()).unwrap_or(usize::MAX);
            self.side.writing.store(true, SeqCst);
            let written = again((&*self.socket).write(pattern.peek(left.min(flow.writing.piece))))?;
            if let Some(written) = written {
                pattern.advance(written);
                self.side.sent.store(pattern.offset(), SeqCst);
                self.side.writing.store(false, SeqCst);
                self.rest(flow.writing)?;
            }
        }
        if self.stream.script.late_ends {
            self.wait_for_everything()?;
        }
        self.side.finished.store(true, SeqCst);
        self.socket.shutdown(Shutdown::Write)?;
        Ok(())
    }

    /// Waits until the other direction is through, whole or not.
    fn wait_for_everything(&self) -> Result<(), Stop> {
        let length = self.stream.script.incoming(self.role).length;
        while self.side.received.load(SeqCst) < length && !self.side.eof.load(SeqCst) {
            self.check()?;
            thread::sleep(NAP);
        }
        Ok(())
    }

    /// Receives until there are `limit` bytes, or to the end.
    fn receive(&self, limit: u64) -> Result<(), Stop> {
        let flow = self.stream.script.incoming(self.role);
        let mut pattern = self.stream.script.pattern(self.role.other());
        let mut stall = flow.stall;
        let mut buffer = vec![0; flow.reading.piece];
        pattern.advance(self.side.received.load(SeqCst) as usize);
        while pattern.offset() < limit {
            if let Some(due) = stall.take_if(|stall| stall.at <= pattern.offset()) {
                self.wait(due.length)?;
            }
            self.check()?;
            self.side.reading.store(true, SeqCst);
            let Some(read) = again((&*self.socket).read(&mut buffer))? else { continue };
            self.side.reading.store(false, SeqCst);
            if read == 0 {
                return self.take_end();
            }
            pattern.check(&buffer[..read]).map_err(|wrong| Stop(End::Wrong(wrong.to_string())))?;
            self.side.received.store(pattern.offset(), SeqCst);
            self.rest(flow.reading)?;
        }
        Ok(())
    }

    /// After a reset only one of reader and writer is told of it, and the reader may then see what looks like an end.
    fn take_end(&self) -> Result<(), Stop> {
        let all_sent = self.side.sent.load(SeqCst) == self.outgoing().length;
        if !all_sent && self.socket.peer_addr().is_err() {
            return Err(Stop(End::Reset("reset, as the sender has been told".to_owned())));
        }
        self.side.eof.store(true, SeqCst);
        Ok(())
    }

    fn rest(&self, pace: Pace) -> Result<(), Stop> {
        if pace.pause.is_zero() { Ok(()) } else { self.wait(pace.pause) }
    }

    /// Lets `length` pass, without wanting anything; not when the run is over, so that it gets over soon.
    fn wait(&self, length: Duration) -> Result<(), Stop> {
        let started = Instant::now();
        loop {
            let left = length.saturating_sub(started.elapsed());
            if left.is_zero() || (length == Duration::MAX && self.other_is_over()) {
                return Ok(());
            }
            self.check()?;
            if self.stream.is_dismissed() {
                return Ok(());
            }
            thread::sleep(left.min(POLL));
        }
    }

    /// Whoever waits for ever for a connection that the other end has reset would never learn of it.
    fn other_is_over(&self) -> bool {
        self.stream.side(self.role.other()).ended().is_some()
    }

    /// Whether to go on.
    fn check(&self) -> Result<(), Stop> {
        if self.stopped.load(SeqCst) || self.stream.given_up().is_some() {
            return Err(Stop(End::GivenUp));
        }
        match self.stream.script.abort {
            Some((role, after))
                if role == self.role && (self.started.elapsed() >= after || self.stream.is_dismissed()) =>
            {
                Err(Stop(End::Aborted))
            }
            _ => Ok(()),
        }
    }
}

/// Of two failures the one that explains the other.
fn gravest(one: Result<(), Stop>, other: Result<(), Stop>) -> Result<(), Stop> {
    match (one, other) {
        (Err(Stop(one)), Err(Stop(other))) => {
            Err(Stop(if gravity(&one) >= gravity(&other) { one } else { other }))
        }
        (one, other) => one.and(other),
    }
}

fn gravity(end: &End) -> u8 {
    match end {
        End::Wrong(_) => 3,
        End::Aborted => 2,
        End::Reset(_) | End::NotOpened(_) => 1,
        End::GivenUp | End::Clean => 0,
    }
}

/// `None` if the socket was not ready within its timeout.
fn again(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(count) => Ok(Some(count)),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
