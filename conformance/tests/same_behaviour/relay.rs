//! A relay between client and server that can hold back what the client sends and cut the connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use conformance::interop::IO_TIMEOUT;
use conformance::interop::target::Target;
use libtest_mimic::Failed;
use socket2::SockRef;

/// How long a read waits before it looks whether the connection is to be cut.
const TICK: Duration = Duration::from_millis(10);

pub(crate) struct Relay {
    target: Target,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Nothing of the client is passed on.
    held: bool,
    /// There is something of the client that could be passed on.
    holding: bool,
    cut: Cut,
}

#[derive(Default)]
enum Cut {
    #[default]
    No,
    Wanted,
    /// The server's side is done; this is the client's, which is done when dropped.
    Half(#[expect(dead_code, reason = "only kept")] TcpStream),
}

impl Relay {
    pub(crate) fn start(server: SocketAddr) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let carrying = Arc::clone(&shared);
        let target = Target::local(move |client| carrying.carry(client, server))?;
        Ok(Self { target, shared })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.target.address()
    }

    /// Holds back what the client sends from now on.
    pub(crate) fn hold(&self) {
        self.shared.update(|state| state.held = true);
    }

    /// Passes on everything.
    pub(crate) fn release(&self) {
        self.shared.update(|state| state.held = false);
    }

    /// Waits until something is held back.
    pub(crate) fn wait_held(&self) -> Result<(), Failed> {
        self.shared.wait_until(|state| state.holding).map(drop)
    }

    /// Resets the connection to the server, calls `between`, and resets that to the client. What was held
    /// back is lost; of the next connection nothing is held back.
    pub(crate) fn cut(&self, between: impl FnOnce() -> Result<(), String>) -> Result<(), Failed> {
        self.shared.update(|state| state.cut = Cut::Wanted);
        let mut state = self.shared.wait_until(|state| matches!(state.cut, Cut::Half(_)))?;
        let lost = std::mem::take(&mut *state);
        drop(state);
        between()?;
        drop(lost);
        Ok(())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, update: impl FnOnce(&mut State)) {
        update(&mut self.state());
        self.changed.notify_all();
    }

    fn wait_until(&self, condition: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>, Failed> {
        let wait = self.changed.wait_timeout_while(self.state(), IO_TIMEOUT, |state| !condition(state));
        let (state, result) = wait.unwrap_or_else(PoisonError::into_inner);
        if result.timed_out() { Err("waited too long for the relay".into()) } else { Ok(state) }
    }

    fn is_cut(&self) -> bool {
        matches!(self.state().cut, Cut::Wanted)
    }

    fn carry(&self, client: TcpStream, address: SocketAddr) -> io::Result<()> {
        let server = TcpStream::connect(address)?;
        server.set_nodelay(true)?;
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(TICK))?;
        }
        thread::scope(|scope| {
            let up = scope.spawn(|| self.pump(&client, &server, true));
            let down = self.pump(&server, &client, false);
            up.join().expect("it does not panic").and(down)
        })?;
        if self.is_cut() {
            for stream in [&client, &server] {
                SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
            }
            drop(server);
            self.update(|state| state.cut = Cut::Half(client));
        }
        Ok(())
    }

    /// Passes bytes on, until they end or the connection is to be cut.
    fn pump(&self, mut from: &TcpStream, mut to: &TcpStream, can_hold: bool) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        while !self.is_cut() {
            match from.read(&mut buffer) {
                Ok(0) => return to.shutdown(Shutdown::Write),
                Ok(length) => {
                    if can_hold {
                        self.update(|state| state.holding = state.held);
                        let passes = |state: &State| !state.held || matches!(state.cut, Cut::Wanted);
                        drop(self.wait_until(passes).map_err(|_| ErrorKind::TimedOut)?);
                    }
                    if self.is_cut() {
                        return Ok(());
                    }
                    to.write_all(&buffer[..length])?;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
