//! Everything that crossed a border in a run: as a hash, to compare runs, and as text, to read one.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use linksocks_sansio::{Input, Output};

use super::clock::Time;

/// The trace of a run. Times are virtual, so that two processes agree.
#[derive(Debug)]
pub struct Trace {
    hasher: DefaultHasher,
    echo: bool,
}

impl Trace {
    /// An empty trace; `echo` prints each line.
    #[must_use]
    pub fn new(echo: bool) -> Self {
        Self { hasher: DefaultHasher::new(), echo }
    }

    /// The hash of everything so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// Something went into an engine.
    pub fn input(&mut self, now: Time, host: &str, input: &Input) {
        (now, host).hash(&mut self.hasher);
        match input {
            Input::LinkReceived { link, message } => (0, link, message).hash(&mut self.hasher),
            Input::SocketRead { socket, buf } => (1, socket, buf.payload()).hash(&mut self.hasher),
            other => self.hash_debug(other),
        }
        if self.echo {
            match input {
                Input::LinkReceived { link, message } => {
                    println!("{now} {host} <- {link} {}", Wire(message));
                }
                other => println!("{now} {host} <- {other:?}"),
            }
        }
    }

    /// Something came out of an engine.
    pub fn output(&mut self, now: Time, host: &str, output: &Output) {
        (now, host).hash(&mut self.hasher);
        hash_output(output, &mut self.hasher);
        if self.echo {
            match output {
                Output::Timeout(deadline) => {
                    let deadline = deadline.map(Time::from_instant);
                    println!(
                        "{now} {host} .. {}",
                        deadline.map_or_else(|| "never".to_owned(), |at| at.to_string())
                    );
                }
                Output::Transmit { link, message } => println!("{now} {host} -> {link} {}", Wire(message)),
                Output::Write { socket, data } => println!("{now} {host} -> {socket} {} bytes", data.len()),
                other => println!("{now} {host} -> {other:?}"),
            }
        }
    }

    /// Something happened outside all engines.
    pub fn note(&mut self, now: Time, who: impl fmt::Display, what: impl fmt::Display) {
        if self.echo {
            println!("{now} {who} {what}");
        }
        (now, who.to_string(), what.to_string()).hash(&mut self.hasher);
    }

    fn hash_debug(&mut self, value: &dyn fmt::Debug) {
        format!("{value:?}").hash(&mut self.hasher);
    }
}

/// Hashes an output without anything that differs between processes.
pub fn hash_output(output: &Output, hasher: &mut impl Hasher) {
    match output {
        Output::Timeout(deadline) => deadline.map(Time::from_instant).hash(hasher),
        other => other.hash(hasher),
    }
}

/// A message in a readable trace: what it is and how long, never its payload.
struct Wire<'a>(&'a [u8]);

impl fmt::Display for Wire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0.get(1) {
            Some(0x01) => "Auth",
            Some(0x02) => "AuthResponse",
            Some(0x03) => "Connect",
            Some(0x04) => "Data",
            Some(0x05) => "ConnectResponse",
            Some(0x06) => "Disconnect",
            Some(0xE0) => "Hello",
            Some(0xE1) => "Window",
            Some(0xE2) => "Finish",
            _ => "other",
        };
        // Where the channel id is, after the fields that come before it.
        let channel = match self.0.get(1) {
            Some(0x03 | 0x04 | 0x05) => self.0.get(3..5),
            Some(0x06 | 0xE1 | 0xE2) => self.0.get(2..4),
            _ => None,
        };
        write!(f, "{name}")?;
        if let Some([a, b]) = channel {
            write!(f, " {a:02x}{b:02x}..")?;
        }
        if let (Some(0x06), Some(text)) = (self.0.get(1), self.0.get(19..)) {
            write!(f, " {:?}", String::from_utf8_lossy(text))?;
        }
        write!(f, " of {} bytes", self.0.len())
    }
}
