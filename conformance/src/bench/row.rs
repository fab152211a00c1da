//! The measurements.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::interop::load::{ENDLESS, Load, ask};
use crate::interop::pattern::random_bytes;
use crate::interop::target::{self, Target, read_bytes};

use super::{Error, Running};

const MIB: f64 = 1024.0 * 1024.0;
const GIB: f64 = 1024.0 * MIB;
/// What a target sends before it closes.
const BURST: usize = 256 * 1024;
/// Bytes of a small request and of its response.
const SMALL: usize = 64;

/// One measurement, with one or more metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Row {
    /// One bulk download.
    #[value(name = "down-1")]
    Down1,
    /// One bulk upload.
    #[value(name = "up-1")]
    Up1,
    /// Sixteen bulk downloads at once.
    #[value(name = "down-16")]
    Down16,
    /// Sixteen bulk uploads at once.
    #[value(name = "up-16")]
    Up16,
    /// Connections for a small request and response each, 64 at once.
    Connections,
    /// 64 bytes back and forth on an otherwise idle tunnel.
    PingPong,
    /// 64 bytes back and forth beside eight bulk downloads.
    LoadedPingPong,
    /// 1 KiB back and forth on 100 connections at once.
    Requests,
    /// A target sends 256 KiB and closes: time until its client has all bytes and their end.
    Close,
}

/// What a number means.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub struct Metric {
    /// Name in the table.
    pub name: &'static str,
    /// Unit of the numbers.
    pub unit: &'static str,
    /// Which of two numbers is better.
    pub lower_is_better: bool,
}

/// One measured number.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// What it means.
    pub metric: &'static Metric,
    /// The number.
    pub value: f64,
}

const fn more(name: &'static str, unit: &'static str) -> Metric {
    Metric { name, unit, lower_is_better: false }
}

const fn less(name: &'static str, unit: &'static str) -> Metric {
    Metric { name, unit, lower_is_better: true }
}

static DOWN_1: [Metric; 2] = [more("bulk down, 1 stream", "MiB/s"), less("  CPU of both programs", "s/GiB")];
static UP_1: [Metric; 2] = [more("bulk up, 1 stream", "MiB/s"), less("  CPU of both programs", "s/GiB")];
static DOWN_16: [Metric; 2] =
    [more("bulk down, 16 streams", "MiB/s"), less("  CPU of both programs", "s/GiB")];
static UP_16: [Metric; 2] = [more("bulk up, 16 streams", "MiB/s"), less("  CPU of both programs", "s/GiB")];
static CONNECTIONS: [Metric; 1] = [more("connections, 64 at once", "1/s")];
static PING_PONG: [Metric; 2] = [less("64 B ping-pong, median", "µs"), less("  99th percentile", "µs")];
static LOADED_PING_PONG: [Metric; 3] = [
    less("ping-pong under load, median", "µs"),
    less("  99th percentile", "µs"),
    more("  bulk down, 8 streams", "MiB/s"),
];
static REQUESTS: [Metric; 1] = [more("1 KiB requests, 100 at once", "1/s")];
static CLOSE: [Metric; 1] = [less("256 KiB, then close", "ms")];

#[derive(Debug, Clone, Copy)]
enum Direction {
    Down,
    Up,
}

impl Row {
    /// What it measures.
    #[must_use]
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Self::Down1 => &DOWN_1,
            Self::Up1 => &UP_1,
            Self::Down16 => &DOWN_16,
            Self::Up16 => &UP_16,
            Self::Connections => &CONNECTIONS,
            Self::PingPong => &PING_PONG,
            Self::LoadedPingPong => &LOADED_PING_PONG,
            Self::Requests => &REQUESTS,
            Self::Close => &CLOSE,
        }
    }

    /// Measures for `duration`.
    ///
    /// # Errors
    /// [`enum@Error`]: a peer that breaks a stream or brings wrong bytes has no number.
    pub fn measure(self, peer: &Running, duration: Duration) -> Result<Vec<Sample>, Error> {
        let values = match self {
            Self::Down1 => bulk(peer, Direction::Down, 1, duration)?,
            Self::Up1 => bulk(peer, Direction::Up, 1, duration)?,
            Self::Down16 => bulk(peer, Direction::Down, 16, duration)?,
            Self::Up16 => bulk(peer, Direction::Up, 16, duration)?,
            Self::Connections => connections(peer, duration)?,
            Self::PingPong => ping_pong(peer, duration)?,
            Self::LoadedPingPong => loaded_ping_pong(peer, duration)?,
            Self::Requests => requests(peer, duration)?,
            Self::Close => close(peer, duration)?,
        };
        Ok(self.metrics().iter().zip(values).map(|(metric, value)| Sample { metric, value }).collect())
    }
}

/// Throughput at the receiving end, and CPU time per amount where the system tells it.
fn bulk(peer: &Running, direction: Direction, streams: u64, duration: Duration) -> Result<Vec<f64>, Error> {
    beside(peer, direction, streams, duration, |load| {
        let (started, bytes, cpu) = (Instant::now(), load.total_received(), peer.cpu_time());
        thread::sleep(duration);
        let (took, bytes) = (started.elapsed(), (load.total_received() - bytes) as f64);
        let cpu = peer.cpu_time().zip(cpu).map(|(after, before)| after - before);
        if bytes == 0.0 {
            return Err(Error::Stalled);
        }
        let rate = bytes / MIB / took.as_secs_f64();
        Ok([Some(rate), cpu.map(|cpu| cpu.as_secs_f64() / (bytes / GIB))].into_iter().flatten().collect())
    })
}

/// Does `work` beside bulk streams.
fn beside<T>(
    peer: &Running,
    direction: Direction,
    streams: u64,
    duration: Duration,
    work: impl FnOnce(&Load) -> Result<T, Error>,
) -> Result<T, Error> {
    let load = Arc::new(Load::new(streams));
    let target = Target::local({
        let load = Arc::clone(&load);
        move |stream| match direction {
            Direction::Down => load.serve_source(stream),
            Direction::Up => load.serve_sink(stream),
        }
    })?;
    let mut connections = Vec::new();
    for key in 0..streams {
        let mut stream = peer.connect(target.address())?;
        ask(&mut stream, key, ENDLESS)?;
        connections.push((key, stream.try_clone()?, stream));
    }
    let result = thread::scope(|scope| {
        let load = &load;
        let mut handles = Vec::new();
        for (key, handle, mut stream) in connections {
            handles.push(handle);
            scope.spawn(move || {
                let outcome = match direction {
                    Direction::Down => load.receive(&mut stream, key, ENDLESS),
                    Direction::Up => load.send(&mut stream, key, ENDLESS),
                };
                load.report(key, outcome);
            });
        }
        // Windows and buffers grow first.
        thread::sleep(duration / 4);
        let result = work(load);
        load.stop();
        for handle in handles {
            // Wakes its thread; a stream that is already gone needs no waking.
            let _ = handle.shutdown(Shutdown::Both);
        }
        result
    });
    load.outcome().map_err(Error::Stream)?;
    result
}

fn connections(peer: &Running, duration: Duration) -> Result<Vec<f64>, Error> {
    let target = Target::local(|mut stream| {
        let request = read_bytes(&mut stream, SMALL)?;
        stream.write_all(&request)?;
        target::close_gently(stream)
    })?;
    let message = random_bytes(64, SMALL);
    let took =
        repeat(64, duration, |_| Ok(()), |()| exchange(&mut peer.connect(target.address())?, &message))?;
    Ok(vec![rate(&took, duration)])
}

fn ping_pong(peer: &Running, duration: Duration) -> Result<Vec<f64>, Error> {
    let target = Target::local(target::echo)?;
    let message = random_bytes(65, SMALL);
    let mut took =
        repeat(1, duration, |_| Ok(peer.connect(target.address())?), |stream| exchange(stream, &message))?;
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    Ok(vec![at(0.5), at(0.99)])
}

/// That, and the throughput of what it has to get past.
fn loaded_ping_pong(peer: &Running, duration: Duration) -> Result<Vec<f64>, Error> {
    beside(peer, Direction::Down, 8, duration, |load| {
        let (started, bytes) = (Instant::now(), load.total_received());
        let mut values = ping_pong(peer, duration)?;
        let bytes = (load.total_received() - bytes) as f64;
        values.push(bytes / MIB / started.elapsed().as_secs_f64());
        Ok(values)
    })
}

fn requests(peer: &Running, duration: Duration) -> Result<Vec<f64>, Error> {
    let target = Target::local(target::echo)?;
    let messages: Vec<Vec<u8>> = (0..100).map(|number| random_bytes(100 + number, 1024)).collect();
    let connect = |number: usize| Ok((peer.connect(target.address())?, &messages[number]));
    let took = repeat(messages.len(), duration, connect, |(stream, message)| exchange(stream, message))?;
    Ok(vec![rate(&took, duration)])
}

/// Median time from the request for a connection to the end of its stream.
fn close(peer: &Running, duration: Duration) -> Result<Vec<f64>, Error> {
    let data = Arc::new(random_bytes(256, BURST));
    let target = Target::local({
        let data = Arc::clone(&data);
        move |stream| target::send_and_close(stream, &data)
    })?;
    let receive = |(): &mut ()| {
        let mut received = Vec::with_capacity(BURST);
        peer.connect(target.address())?.read_to_end(&mut received)?;
        if received == *data {
            Ok(())
        } else {
            Err(Error::Stream(format!("{} of {BURST} bytes", received.len())))
        }
    };
    let mut took = repeat(1, duration, |_| Ok(()), receive)?;
    took.sort_unstable();
    Ok(vec![took[took.len() / 2].as_secs_f64() * 1e3])
}

/// Sends `message` and gets it back.
fn exchange(stream: &mut TcpStream, message: &[u8]) -> Result<(), Error> {
    let mut answer = [0; 1024];
    let answer = &mut answer[..message.len()];
    stream.write_all(message)?;
    stream.read_exact(answer)?;
    if answer == message { Ok(()) } else { Err(Error::Stream("the answer differs".to_owned())) }
}

fn rate(took: &[Duration], duration: Duration) -> f64 {
    took.len() as f64 / duration.as_secs_f64()
}

/// Repeats `step` on `threads` threads until `duration` is over, at least once each, and returns how long each step took.
/// The step that crosses the end counts only if there is no other. The first failure ends its thread, and the cell.
fn repeat<State: Send>(
    threads: usize,
    duration: Duration,
    prepare: impl Fn(usize) -> Result<State, Error>,
    step: impl Fn(&mut State) -> Result<(), Error> + Sync,
) -> Result<Vec<Duration>, Error> {
    let states = (0..threads).map(prepare).collect::<Result<Vec<State>, Error>>()?;
    let end = Instant::now() + duration;
    let step = &step;
    thread::scope(|scope| {
        let workers: Vec<_> = states
            .into_iter()
            .map(|mut state| {
                scope.spawn(move || {
                    let mut took = Vec::new();
                    loop {
                        let started = Instant::now();
                        if started >= end {
                            return Ok(took);
                        }
                        step(&mut state)?;
                        let now = Instant::now();
                        if now < end || took.is_empty() {
                            took.push(now - started);
                        }
                    }
                })
            })
            .collect();
        let mut all = Vec::new();
        for worker in workers {
            let took: Result<Vec<Duration>, Error> =
                worker.join().expect("a worker has nothing to panic about");
            all.extend(took?);
        }
        if all.is_empty() { Err(Error::Stalled) } else { Ok(all) }
    })
}
