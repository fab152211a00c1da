//! What goes into an engine and comes out of it: kept, told to who waits for it, and replayed.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use conformance::interop::IO_TIMEOUT;
use conformance::record::{Keep, Log};
use conformance::sim::Origin;
use driver_core::embed::Tap;
use linksocks_sansio::wire::{Compression, ConnectRequest, Message, decode};
use linksocks_sansio::{Action, ChannelId, Event, Input, Output, SocketId, Ticket};

/// What has been seen of one engine.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: Mutex<Seen>,
    changed: Condvar,
}

/// See [`Watch`].
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// From the start of the engine on.
    log: Option<Log>,
    /// The hash of each output.
    outputs: Vec<u64>,
    /// In order.
    pub events: Vec<Event>,
    /// The target port of each stream that the engine has asked its peer for.
    pub requests: HashMap<ChannelId, u16>,
    /// The port of the application at the other end of each accepted socket.
    pub applications: HashMap<SocketId, u16>,
    offers: HashMap<Ticket, u16>,
    /// How many messages were sent with a compressed payload.
    pub compressed: usize,
}

impl Watch {
    /// A tap that feeds it.
    pub(crate) fn tap(self: &Arc<Self>) -> impl Tap {
        WatchTap(Arc::clone(self))
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, update: impl FnOnce(&mut Seen)) {
        update(&mut self.seen());
        self.changed.notify_all();
    }

    /// Waits until `condition` holds of what has been seen.
    ///
    /// # Errors
    /// It does not for too long; `what` was waited for.
    pub(crate) fn wait_until(&self, what: &str, condition: impl Fn(&Seen) -> bool) -> Result<(), String> {
        let wait = self.changed.wait_timeout_while(self.seen(), IO_TIMEOUT, |seen| !condition(seen));
        let (seen, result) = wait.unwrap_or_else(PoisonError::into_inner);
        if result.timed_out() {
            return Err(format!("waited too long for {what}; events so far: {:#?}", seen.events));
        }
        Ok(())
    }

    /// Waits for an event.
    ///
    /// # Errors
    /// As [`Self::wait_until`].
    pub(crate) fn wait_for(&self, what: &str, is_it: impl Fn(&Event) -> bool) -> Result<(), String> {
        self.wait_until(what, |seen| seen.events.iter().any(&is_it))
    }

    /// Gives everything again to a new engine, which must say the same.
    ///
    /// # Errors
    /// The first output that differs.
    pub(crate) fn replay(&self, origin: &Origin) -> Result<(), String> {
        let seen = self.seen();
        let log = seen.log.as_ref().ok_or("the engine was never started")?;
        let (mut number, mut problem) = (0, None);
        origin.replay(log.recording(), log.start(), |at, output| {
            if problem.is_none() && seen.outputs.get(number) != Some(&hash(&output)) {
                problem = Some(format!(
                    "output {number} of {}, {at:?} after the start, was another one when replayed: {}",
                    seen.outputs.len(),
                    brief(&output)
                ));
            }
            number += 1;
        });
        match problem {
            Some(problem) => Err(problem),
            None if number == seen.outputs.len() => Ok(()),
            None => Err(format!("{number} outputs when replayed instead of {}", seen.outputs.len())),
        }
    }
}

struct WatchTap(Arc<Watch>);

impl Tap for WatchTap {
    fn start(&mut self, now: Instant) {
        self.0.update(|seen| seen.log = Some(Log::new(now, Keep::All)));
    }

    fn input(&mut self, now: Instant, input: &Input) {
        self.0.update(|seen| {
            if let Some(log) = &mut seen.log {
                log.input(now, input);
            }
            if let Input::SocketAccepted { ticket, peer, .. } = input {
                seen.offers.insert(*ticket, peer.port());
            }
        });
    }

    fn output(&mut self, output: &Output) {
        self.0.update(|seen| {
            if let Some(log) = &mut seen.log {
                log.output();
            }
            seen.outputs.push(hash(output));
            seen.note(output);
        });
    }
}

impl Seen {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only some outputs are of interest")]
    fn note(&mut self, output: &Output) {
        match output {
            Output::Event(event) => self.events.push(event.clone()),
            Output::Action(Action::AdoptSocket { ticket, socket, .. }) => {
                if let Some(port) = self.offers.remove(ticket) {
                    self.applications.insert(*socket, port);
                }
            }
            Output::Transmit { message, .. } => match decode(message.clone()).map(|frame| frame.message) {
                Ok(Message::Connect(connect)) => {
                    if let ConnectRequest::Tcp { port, .. } = connect.request {
                        self.requests.insert(connect.channel, port);
                    }
                }
                Ok(Message::Data(data)) if data.compression == Compression::Gzip => self.compressed += 1,
                _ => {}
            },
            _ => {}
        }
    }
}

fn hash(output: &Output) -> u64 {
    let mut hasher = DefaultHasher::new();
    output.hash(&mut hasher);
    hasher.finish()
}

/// An output up to the first bytes in it.
fn brief(output: &Output) -> String {
    let text = format!("{output:?}");
    text.split_once(": b\"").map_or(text.as_str(), |(before, _)| before).to_owned()
}
