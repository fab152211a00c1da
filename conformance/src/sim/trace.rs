//! Everything that crossed a border in a run: as a hash, to compare runs, and as text, to read one.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use linksocks_sansio::wire::decode;
use linksocks_sansio::{Input, Output};

use super::clock::Time;

/// The trace of a run. Times are virtual, so that two processes agree.
#[derive(Debug)]
pub struct Trace {
    /// `None`: nobody will ask.
    hasher: Option<DefaultHasher>,
    echo: bool,
}

impl Trace {
    /// An empty trace; `hash`: its hash will be asked for, `echo`: each line is printed.
    #[must_use]
    pub fn new(hash: bool, echo: bool) -> Self {
        Self { hasher: hash.then(DefaultHasher::new), echo }
    }

    /// The hash of everything so far; 0 if there is none.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hasher.as_ref().map_or(0, Hasher::finish)
    }

    /// Something went into an engine.
    #[expect(clippy::wildcard_enum_match_arm, reason = "only some inputs have a payload")]
    pub fn input(&mut self, now: Time, host: &str, input: &Input) {
        if let Some(hasher) = &mut self.hasher {
            (now, host).hash(hasher);
            match input {
                Input::LinkReceived { link, message } => (0, link, message).hash(hasher),
                Input::SocketRead { socket, buf } => (1, socket, buf.payload()).hash(hasher),
                Input::DatagramReceived { socket, from, payload } => {
                    (2, socket, from, payload).hash(hasher);
                }
                other => format!("{other:?}").hash(hasher),
            }
        }
        if self.echo {
            match input {
                Input::LinkReceived { link, message } => {
                    println!("{now} {host} <- {link} {}", Wire(message));
                }
                Input::DatagramReceived { socket, from, payload } => {
                    println!("{now} {host} <- {socket} {from} {} bytes", payload.len());
                }
                other => println!("{now} {host} <- {other:?}"),
            }
        }
    }

    /// Something came out of an engine.
    #[expect(clippy::wildcard_enum_match_arm, reason = "only some outputs have a payload")]
    pub fn output(&mut self, now: Time, host: &str, output: &Output) {
        if let Some(hasher) = &mut self.hasher {
            (now, host).hash(hasher);
            hash_output(output, hasher);
        }
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
                Output::SendDatagram { socket, to, payload } => {
                    println!("{now} {host} -> {socket} {to} {} bytes", payload.len());
                }
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
        if let Some(hasher) = &mut self.hasher {
            (now, who.to_string(), what.to_string()).hash(hasher);
        }
    }
}

/// Hashes an output without anything that differs between processes.
pub fn hash_output(output: &Output, hasher: &mut impl Hasher) {
    if let Output::Timeout(deadline) = output {
        deadline.map(Time::from_instant).hash(hasher);
    } else {
        output.hash(hasher);
    }
}

/// A message in a readable trace. Neither its payload nor a token is shown.
struct Wire<'a>(&'a Bytes);

impl fmt::Display for Wire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match decode(self.0.clone()) {
            Ok(frame) => write!(f, "{:?}", frame.message),
            Err(error) => write!(f, "{error} ({} bytes)", self.0.len()),
        }
    }
}
