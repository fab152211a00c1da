//! Providers fail while others remain.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use conformance::interop::target::{self, Target};
use conformance::interop::{Network, Process, socks};
use libtest_mimic::Failed;

use crate::TestResult;
use crate::transfer::ping;

/// Applications at work all the time, each with one request after the other.
const APPLICATIONS: usize = 6;
/// Between the requests of an application: the published provider keeps each connection for 5 s, 4 of them at once, and
/// all stands still when 1000 wait.
const PAUSE: Duration = Duration::from_millis(100);
/// Longer than any program waits for a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// How long everything goes well, then with one provider killed, then with another frozen.
const WELL: Duration = Duration::from_secs(2);
const KILLED: Duration = Duration::from_secs(4);
const FROZEN: Duration = Duration::from_secs(12);

/// The kernel closes the sockets of a killed process at once.
const NOTICE_KILLED: Duration = Duration::from_secs(1);
/// A frozen process is known by its silence only.
const NOTICE_FROZEN: Duration = Duration::from_secs(6);

/// What an application experienced.
struct Request {
    started: Instant,
    ended: Instant,
    outcome: Result<(), Failed>,
}

/// Requests of several applications, until stopped.
#[derive(Default)]
struct Load {
    requests: Mutex<Vec<Request>>,
    stopped: AtomicBool,
}

impl Load {
    fn run(&self, proxy: SocketAddr, target: SocketAddr) {
        while !self.stopped.load(Ordering::Relaxed) {
            let started = Instant::now();
            let outcome = socks::connect_within(proxy, target, REQUEST_TIMEOUT)
                .map_err(Failed::from)
                .and_then(|mut stream| ping(&mut stream, b"request"));
            let request = Request { started, ended: Instant::now(), outcome };
            self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            thread::sleep(PAUSE);
        }
    }
}

/// Of three providers under load one is killed and one frozen: no request fails once the first is noticed, and none waits
/// longer than it takes to notice the second.
pub(crate) fn lost_providers_are_passed_over(network: &mut Network) -> TestResult {
    let target = Target::local(target::echo)?;
    let (proxy, address) = (network.socks(), target.address());
    let load = Load::default();
    let times = thread::scope(|scope| {
        for _ in 0..APPLICATIONS {
            scope.spawn(|| load.run(proxy, address));
        }
        let times = lose_two(network.providers());
        load.stopped.store(true, Ordering::Relaxed);
        times
    });
    let (killed, frozen) = times?;
    let requests = load.requests.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(requests.len() > 10 * APPLICATIONS, "only {} requests", requests.len());
    let problems: Vec<_> = requests.iter().filter_map(|request| problem(request, &killed, &frozen)).collect();
    match problems.first() {
        None => Ok(()),
        Some(first) => {
            Err(format!("{} of {} requests, the first: {first}", problems.len(), requests.len()).into())
        }
    }
}

/// When something was done to a provider: before the signal, and when it had worked.
struct Loss {
    began: Instant,
    done: Instant,
}

impl Loss {
    fn of(work: impl FnOnce() -> io::Result<()>) -> Result<Self, Failed> {
        let began = Instant::now();
        work()?;
        Ok(Self { began, done: Instant::now() })
    }
}

/// Returns when the first was killed and when the second was frozen; the third goes on.
fn lose_two(providers: &mut [Process]) -> Result<(Loss, Loss), Failed> {
    thread::sleep(WELL);
    let killed = Loss::of(|| providers[0].kill())?;
    thread::sleep(KILLED);
    let frozen = Loss::of(|| providers[1].freeze())?;
    thread::sleep(FROZEN);
    Ok((killed, frozen))
}

fn problem(request: &Request, killed: &Loss, frozen: &Loss) -> Option<String> {
    let Request { started, ended, outcome } = request;
    let took = *ended - *started;
    // A provider that freezes with a connection open may wake up again: nobody else can go on with it.
    let under_way = *started < frozen.done && *ended >= frozen.began;
    if took > NOTICE_FROZEN && !under_way {
        let after = started.saturating_duration_since(frozen.began);
        return Some(format!("took {took:?}, started {after:?} after a provider was frozen: {outcome:?}"));
    }
    // A loss that comes while a request is under way, or isn't noticed yet, may be the end of it.
    let excused = |lost: &Loss, notice: Duration| *ended >= lost.began && *started <= lost.done + notice;
    match outcome {
        Err(error) if !excused(killed, NOTICE_KILLED) && !excused(frozen, NOTICE_FROZEN) => {
            let after = started.saturating_duration_since(killed.began);
            Some(format!("failed, started {after:?} after a provider was killed: {error:?}"))
        }
        _ => None,
    }
}
