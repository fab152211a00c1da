//! One end of a conversation at work.

use std::fmt;

use bytes::Bytes;
use linksocks_sansio::error::SocketError;

use super::script::{Begin, Ending, Mishap, Reading, Script};
use super::{Scene, Voices};
use crate::sim::check::{Verdict, Violation, delivered};
use crate::sim::clock::Time;
use crate::sim::model::{Account, Heard, Left};
use crate::sim::net::{EndId, Read};

/// The most that an eager reader takes at once.
const READ: usize = 64 * 1024;

/// An application with an established connection.
#[derive(Debug)]
pub(super) struct Speaker {
    name: String,
    end: EndId,
    script: Script,
    voices: Voices,
    born: Time,
    pub(super) account: Account,
    /// The rest of a piece that the kernel has not taken.
    unwritten: Bytes,
    next_write: Time,
    next_read: Time,
    has_stalled: bool,
}

/// Why a speaker can't go on.
enum Trouble {
    /// The connection is over.
    Network(SocketError),
    /// It received what nobody sent.
    Violation(Violation),
}

impl From<SocketError> for Trouble {
    fn from(error: SocketError) -> Self {
        Self::Network(error)
    }
}

impl From<Violation> for Trouble {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl Speaker {
    pub(super) fn new(
        name: String,
        end: EndId,
        script: Script,
        voices: Voices,
        account: Account,
        now: Time,
    ) -> Self {
        Self {
            name,
            end,
            script,
            voices,
            born: now,
            account,
            unwritten: Bytes::new(),
            next_write: now,
            next_read: now,
            has_stalled: false,
        }
    }

    pub(super) const fn has_left(&self) -> bool {
        self.account.left.is_some()
    }

    /// When it must run next even if nothing happens on the network.
    pub(super) fn wake(&self, now: Time) -> Option<Time> {
        if self.has_left() {
            return None;
        }
        let mishap = match self.script.mishap {
            Some(Mishap::CloseAfter(delay) | Mishap::AbortAfter(delay)) => Some(self.born + delay),
            Some(Mishap::AbortAfterSending(_) | Mishap::AbortAfterReceiving(_)) | None => None,
        };
        // What is due has been done, or waits for the network.
        [self.next_write, self.next_read].into_iter().chain(mishap).filter(|at| *at > now).min()
    }

    /// Does all that can be done now. `sent_by_peer`: how much the other end has sent so far.
    pub(super) fn run(&mut self, sent_by_peer: u64, scene: &mut Scene<'_>) -> Verdict {
        if self.has_left() {
            return Ok(());
        }
        match self.read(sent_by_peer, scene).and_then(|()| self.write(scene)) {
            Ok(()) => self.consider_leaving(scene),
            Err(Trouble::Violation(violation)) => return Err(violation),
            Err(Trouble::Network(error)) => {
                if self.account.heard.is_none() {
                    self.hear(Heard::Reset, scene);
                }
                scene.note(&self.name, format_args!("is cut off: {error}"));
                scene.net.release(self.end);
                self.leave(Left::Politely, scene);
            }
        }
        Ok(())
    }

    fn read(&mut self, sent_by_peer: u64, scene: &mut Scene<'_>) -> Result<(), Trouble> {
        while self.account.heard.is_none() && self.next_read <= scene.now {
            let mut max = READ;
            match self.script.reading {
                Reading::Eager => {}
                Reading::Slow { chunk, .. } => max = chunk,
                Reading::Stalls { after, length } if !self.has_stalled => {
                    let before = after.saturating_sub(self.account.received);
                    if before == 0 {
                        scene.note(&self.name, "stops reading");
                        self.has_stalled = true;
                        self.next_read = scene.now + length;
                        break;
                    }
                    max = max.min(before as usize);
                }
                Reading::Stalls { .. } => {}
            }
            match scene.net.read(self.end, max)? {
                Read::Pending => break,
                Read::Eof => self.hear(Heard::Eof, scene),
                Read::Data(bytes) => {
                    if let Some(stream) = self.voices.other {
                        delivered(&self.name, stream, self.account.received, &bytes, sent_by_peer)?;
                    }
                    self.account.received += bytes.len() as u64;
                    if let Reading::Slow { every, .. } = self.script.reading {
                        self.next_read = scene.now + every;
                    }
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, scene: &mut Scene<'_>) -> Result<(), Trouble> {
        while self.has_begun() && self.account.finished.is_none() && self.next_write <= scene.now {
            if self.unwritten.is_empty() {
                let length = (self.script.send - self.account.sent).min(self.script.chunk as u64) as usize;
                self.unwritten = self.voices.own.bytes(self.account.sent, length);
            }
            if self.unwritten.is_empty() {
                break;
            }
            self.account.sent += scene.net.write(self.end, &mut self.unwritten)? as u64;
            if !self.unwritten.is_empty() {
                break;
            }
            self.next_write = scene.now + self.script.pause;
        }
        Ok(())
    }

    fn has_begun(&self) -> bool {
        let peer_is_over = self.account.heard.is_some();
        match self.script.begin {
            Begin::AtOnce => true,
            Begin::AfterReceiving(count) => self.account.received >= count || peer_is_over,
            Begin::AfterEof => peer_is_over,
        }
    }

    fn consider_leaving(&mut self, scene: &mut Scene<'_>) {
        if let Some(mishap) = self.script.mishap {
            let due = |delay| scene.now >= self.born + delay;
            match mishap {
                Mishap::AbortAfterSending(count) if self.account.sent >= count => {
                    return self.abort(scene);
                }
                Mishap::AbortAfterReceiving(count) if self.account.received >= count => {
                    return self.abort(scene);
                }
                Mishap::AbortAfter(delay) if due(delay) => return self.abort(scene),
                Mishap::CloseAfter(delay) if due(delay) => return self.close(scene),
                Mishap::AbortAfterSending(_)
                | Mishap::AbortAfterReceiving(_)
                | Mishap::AbortAfter(_)
                | Mishap::CloseAfter(_) => {}
            }
        }
        let has_sent_all = self.has_begun() && self.account.sent == self.script.send;
        let heard_eof = self.account.has_heard(Heard::Eof);
        match self.script.ending {
            Ending::Finish if has_sent_all && self.account.finished.is_none() => {
                scene.net.shutdown_write(self.end);
                self.account.finished = Some(scene.now);
                scene.note(&self.name, format_args!("finishes after {} bytes", self.account.sent));
            }
            Ending::Close if has_sent_all => return self.close(scene),
            Ending::Finish | Ending::FollowPeer | Ending::Close => {}
        }
        if heard_eof && has_sent_all {
            self.close(scene);
        }
    }

    fn hear(&mut self, heard: Heard, scene: &mut Scene<'_>) {
        self.account.heard = Some((scene.now, heard));
        scene.note(&self.name, format_args!("hears {heard:?} after {} bytes", self.account.received));
    }

    fn close(&mut self, scene: &mut Scene<'_>) {
        let heard_eof = self.account.has_heard(Heard::Eof);
        if scene.net.release(self.end) {
            self.account.finished.get_or_insert(scene.now);
            self.leave(if heard_eof { Left::Politely } else { Left::Early }, scene);
        } else {
            self.leave(Left::Abruptly, scene);
        }
    }

    fn abort(&mut self, scene: &mut Scene<'_>) {
        scene.net.abort(self.end);
        self.leave(Left::Abruptly, scene);
    }

    fn leave(&mut self, left: Left, scene: &mut Scene<'_>) {
        self.account.left = Some((scene.now, left));
        scene.note(&self.name, format_args!("leaves {left:?} after sending {}", self.account.sent));
    }
}

impl fmt::Display for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Account { sent, received, heard, .. } = &self.account;
        write!(f, "{}: sent {sent} of {}, received {received}, heard {heard:?}", self.name, self.script.send)
    }
}
