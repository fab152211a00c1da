//! Our programs under load for a while: nothing leaks, and a slow reader is nobody else's problem.
//!
//! Looks at the processes through `/proc`, hence Linux only: elsewhere the trials are ignored.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use conformance::interop::load::{ENDLESS, Load, ask};
use conformance::interop::pattern::random_bytes;
use conformance::interop::target::{self, Target};
use conformance::interop::{Options, Program, Tunnel, procfs};
use libtest_mimic::{Arguments, Failed, Trial};

type TestResult = Result<(), Failed>;

const MIB: u64 = 1024 * 1024;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The trials measure memory and time: one after the other.
    arguments.test_threads = Some(1);
    let trials = vec![
        trial("short_connections_leave_nothing_behind", short_connections_leave_nothing_behind),
        trial("a_sleeping_client_stops_nobody", a_sleeping_client_stops_nobody),
        trial("a_sleeping_target_stops_nobody", a_sleeping_target_stops_nobody),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A trial with programs of its own; when it fails, it shows what they printed.
fn trial(name: &'static str, run: fn(&Watched) -> TestResult) -> Trial {
    Trial::test(name, move || {
        let watched = Watched::start()?;
        run(&watched).inspect_err(|_| eprintln!("{name} failed\n{}", watched.tunnel.transcript()))
    })
    .with_ignored_flag(!cfg!(target_os = "linux"))
}

/// A server and a client of ours, and what they use when idle.
struct Watched {
    tunnel: Tunnel,
    idle: Usage,
}

/// Resident bytes and descriptors of the server and of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Usage {
    resident: [u64; 2],
    descriptors: [usize; 2],
}

impl Watched {
    fn start() -> Result<Self, Failed> {
        let tunnel = Tunnel::start(Program::OURS, Program::OURS, Options::DEFAULT)?;
        let idle = usage(&tunnel)?;
        Ok(Self { tunnel, idle })
    }

    fn usage(&self) -> Result<Usage, Failed> {
        usage(&self.tunnel)
    }
}

fn usage(tunnel: &Tunnel) -> Result<Usage, Failed> {
    let look =
        |pid| -> Option<(u64, usize)> { Some((procfs::resident_bytes(pid)?, procfs::descriptors(pid)?)) };
    let server = look(tunnel.server().id()).ok_or("the server is gone")?;
    let client = look(tunnel.client().id()).ok_or("the client is gone")?;
    Ok(Usage { resident: [server.0, client.0], descriptors: [server.1, client.1] })
}

/// 2000 connections to warm up, then three times 2000: none fails, the descriptors of the idle programs come back each
/// time, and memory grows by less than 4 MiB after the warm-up.
fn short_connections_leave_nothing_behind(watched: &Watched) -> TestResult {
    const CONNECTIONS: usize = 2000;
    const GROWTH: u64 = 4 * MIB;

    let answer = Arc::new(random_bytes(1, 1000));
    let target = Target::local({
        let answer = Arc::clone(&answer);
        move |mut stream| {
            stream.read_exact(&mut [0; 1])?;
            target::send_and_close(stream, &answer)
        }
    })?;
    let short_connection = || -> TestResult {
        let mut stream = watched.tunnel.connect(target.address())?;
        stream.write_all(b"?")?;
        let mut received = Vec::new();
        stream.read_to_end(&mut received)?;
        if received == *answer {
            Ok(())
        } else {
            Err(format!("wrong answer of {} bytes", received.len()).into())
        }
    };

    let mut warm = None;
    for batch in 0..4 {
        run_in_parallel(CONNECTIONS, &short_connection)
            .map_err(|failed| format!("batch {batch}: {failed}"))?;
        let settled = wait_for_idle_descriptors(watched)?;
        let warm: &Usage = warm.get_or_insert(settled);
        for (name, before, after) in [
            ("server", warm.resident[0], settled.resident[0]),
            ("client", warm.resident[1], settled.resident[1]),
        ] {
            if after >= before + GROWTH {
                return Err(format!("the {name} grew from {before} to {after} bytes by batch {batch}").into());
            }
        }
    }
    Ok(())
}

/// Runs `work` `count` times on eight threads.
fn run_in_parallel(count: usize, work: &(impl Fn() -> TestResult + Sync)) -> Result<(), String> {
    const THREADS: usize = 8;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(move || (0..count / THREADS).try_for_each(|_| work())))
            .collect();
        for thread in threads {
            let outcome = thread.join().map_err(|_| "panicked")?;
            outcome.map_err(|failed| failed.message().unwrap_or("failed").to_owned())?;
        }
        Ok(())
    })
}

/// Sockets may linger for 2 s after their last byte; then the programs hold exactly what they held when idle.
fn wait_for_idle_descriptors(watched: &Watched) -> Result<Usage, Failed> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let now = watched.usage()?;
        if now.descriptors == watched.idle.descriptors {
            return Ok(now);
        }
        if Instant::now() > deadline {
            return Err(format!("descriptors [server, client]: idle {:?}, now {now:?}", watched.idle).into());
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Streams that run freely beside the one with the sleeper.
const FREE_STREAMS: u64 = 8;
/// Key of the stream with the sleeper, and its length: more than all buffers on the way.
const SLEEPER: u64 = FREE_STREAMS;
const SLEEPER_LENGTH: u64 = 32 * MIB;
const SLEEP: Duration = Duration::from_secs(5);
/// What each free stream must get in every second of the sleep.
const FREE_RATE: u64 = MIB;
/// What the programs may hold above idle.
const MEMORY: u64 = 64 * MIB;

/// A client sleeps for 5 s before it reads, while 8 others download.
fn a_sleeping_client_stops_nobody(watched: &Watched) -> TestResult {
    let load = Arc::new(Load::new(FREE_STREAMS + 1));
    let target = Target::local({
        let load = Arc::clone(&load);
        move |stream| load.serve_source(stream)
    })?;
    thread::scope(|scope| {
        let mut sleeper = watched.tunnel.connect(target.address())?;
        ask(&mut sleeper, SLEEPER, SLEEPER_LENGTH)?;
        let free = open_free_streams(watched, &target)?;
        for (key, mut stream) in (0..).zip(free) {
            let load = &load;
            scope.spawn(move || load.report(key, load.receive(&mut stream, key, ENDLESS)));
        }
        let outcome = watch_free_streams(watched, &load);
        let slept = load.receive(&mut sleeper, SLEEPER, SLEEPER_LENGTH);
        load.stop();
        outcome?;
        Ok(slept?)
    })
    .and_then(|()| Ok(load.outcome()?))
}

/// A target sleeps for 5 s before it reads, while 8 other connections upload.
fn a_sleeping_target_stops_nobody(watched: &Watched) -> TestResult {
    let load = Arc::new(Load::new(FREE_STREAMS + 1));
    let target = Target::local({
        let load = Arc::clone(&load);
        move |stream| load.serve_sink(stream)
    })?;
    let sleeping_target = Target::local({
        let load = Arc::clone(&load);
        move |stream| {
            thread::sleep(SLEEP);
            load.serve_sink(stream)
        }
    })?;
    thread::scope(|scope| {
        let mut sleeper = watched.tunnel.connect(sleeping_target.address())?;
        ask(&mut sleeper, SLEEPER, SLEEPER_LENGTH)?;
        let upload = {
            let (load, mut stream) = (&load, sleeper.try_clone()?);
            scope.spawn(move || {
                load.send(&mut stream, SLEEPER, SLEEPER_LENGTH)
                    .map_err(|error| error.to_string())
                    .and_then(|()| stream.shutdown(Shutdown::Write).map_err(|error| error.to_string()))
            })
        };
        for (key, mut stream) in (0..).zip(open_free_streams(watched, &target)?) {
            let load = &load;
            scope.spawn(move || load.report(key, load.send(&mut stream, key, ENDLESS)));
        }
        let outcome = watch_free_streams(watched, &load);
        let answered =
            upload.join().map_err(|_| "panicked".to_owned()).and_then(|sent| sent).and_then(|()| {
                sleeper.read_exact(&mut [0; 1]).map_err(|error| format!("no answer: {error}"))
            });
        load.stop();
        outcome?;
        answered?;
        match load.received(SLEEPER) {
            SLEEPER_LENGTH => Ok(()),
            received => Err(format!("the target that slept got {received} of {SLEEPER_LENGTH} bytes").into()),
        }
    })
    .and_then(|()| Ok(load.outcome()?))
}

/// Connections for the free streams, each asked for.
fn open_free_streams(watched: &Watched, target: &Target) -> Result<Vec<TcpStream>, Failed> {
    (0..FREE_STREAMS)
        .map(|key| {
            let mut stream = watched.tunnel.connect(target.address())?;
            ask(&mut stream, key, ENDLESS)?;
            Ok(stream)
        })
        .collect()
}

/// For the length of the sleep: each free stream gets its share in every second, and both programs keep their size.
fn watch_free_streams(watched: &Watched, load: &Load) -> TestResult {
    let limits = watched.idle.resident.map(|idle| idle + MEMORY);
    let started = Instant::now();
    let mut before = vec![0; FREE_STREAMS as usize];
    let mut seconds = 0;
    while started.elapsed() < SLEEP {
        thread::sleep(Duration::from_millis(100));
        load.outcome()?;
        let resident = watched.usage()?.resident;
        if resident[0] > limits[0] || resident[1] > limits[1] {
            return Err(format!(
                "memory [server, client]: idle {:?}, now {resident:?}",
                watched.idle.resident
            )
            .into());
        }
        if started.elapsed().as_secs() > seconds {
            seconds += 1;
            for (key, before) in (0..).zip(&mut before) {
                let now = load.received(key);
                if now - *before < FREE_RATE {
                    return Err(
                        format!("stream {key} got {} bytes in second {seconds}", now - *before).into()
                    );
                }
                *before = now;
            }
        }
    }
    Ok(())
}
