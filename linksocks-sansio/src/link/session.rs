//! What survives the loss of a link between two peers of our own kind: both count the messages of
//! each direction, and keep what they have sent until the other one has acknowledged it.

use super::log::{Log, OutOfRange};
use crate::config::Limits;
use crate::io::receive_cost;
use crate::rng::EngineRng;
use crate::secret::SessionSecret;
use crate::wire::SessionHello;

/// The name of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId([u8; 16]);

/// The name of a session, and the proof of owning it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionTicket {
    pub(crate) id: SessionId,
    secret: SessionSecret,
}

impl SessionTicket {
    pub(crate) fn new(rng: &mut EngineRng) -> Self {
        Self { id: SessionId(rng.bytes()), secret: SessionSecret(rng.bytes()) }
    }

    /// The entry of a Hello that is about this session.
    pub(crate) fn hello(&self, received: u64, flags: u8) -> SessionHello {
        SessionHello { id: self.id.0, secret: self.secret.0, received, flags }
    }
}

impl From<&SessionHello> for SessionTicket {
    fn from(hello: &SessionHello) -> Self {
        Self { id: SessionId(hello.id), secret: SessionSecret(hello.secret) }
    }
}

/// When the peer is to be told what has been received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckDue {
    /// That is settled already.
    Settled,
    /// Within [`Timeouts::acknowledge`](crate::config::Timeouts::acknowledge).
    Soon,
    Now,
}

/// The counts of a session, and the messages that may have to be sent again.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) ticket: SessionTicket,
    pub(crate) log: Log,
    /// How many messages have been received.
    received: u64,
    /// The cost of those that the peer does not know of.
    unacknowledged: usize,
    /// Above this cost the peer is told at once.
    patience: usize,
    /// The peer is to be told.
    ack_due: bool,
    /// What waited when the link was lost, in bytes.
    pub(crate) weight: usize,
}

impl Session {
    pub(crate) fn new(ticket: SessionTicket, limits: &Limits) -> Self {
        Self {
            ticket,
            log: Log::new(limits.session_log),
            received: 0,
            unacknowledged: 0,
            patience: limits.acknowledge_at,
            ack_due: false,
            weight: 0,
        }
    }

    /// Counts a message of `length` bytes.
    pub(crate) fn on_received(&mut self, length: usize) -> AckDue {
        let is_first = self.unacknowledged == 0;
        self.received += 1;
        self.unacknowledged += receive_cost(length);
        if self.ack_due {
            AckDue::Settled
        } else if self.unacknowledged >= self.patience {
            self.ack_due = true;
            AckDue::Now
        } else if is_first {
            AckDue::Soon
        } else {
            AckDue::Settled
        }
    }

    /// The peer has waited long enough.
    pub(crate) fn request_ack(&mut self) {
        self.ack_due = self.unacknowledged > 0;
    }

    /// What the peer is to be told now.
    pub(crate) fn take_ack(&mut self) -> Option<u64> {
        std::mem::take(&mut self.ack_due).then(|| self.tell_received())
    }

    /// How many messages have been received; the peer is about to be told.
    pub(crate) fn tell_received(&mut self) -> u64 {
        (self.unacknowledged, self.ack_due) = (0, false);
        self.received
    }

    /// Begins anew on another link, whose peer has received so many messages.
    pub(crate) fn resume(&mut self, received: u64) -> Result<(), OutOfRange> {
        self.log.rewind(received)
    }
}

#[cfg(test)]
mod tests {
    use super::{AckDue, Session, SessionTicket};
    use crate::config::Limits;
    use crate::rng::EngineRng;
    use crate::wire::SessionHello;

    fn ticket() -> SessionTicket {
        SessionTicket::new(&mut EngineRng::new([7; 32]))
    }

    #[test]
    fn acks_are_due_soon_and_after_a_quarter_of_the_log_at_once() {
        let limits = Limits { acknowledge_at: 400, ..Limits::default() };
        let mut session = Session::new(ticket(), &limits);
        assert_eq!(session.take_ack(), None);
        assert_eq!(session.on_received(100), AckDue::Soon);
        assert_eq!(session.on_received(100), AckDue::Settled);
        assert_eq!(session.on_received(100), AckDue::Now);
        assert_eq!(session.on_received(1000), AckDue::Settled);
        assert_eq!(session.take_ack(), Some(4));
        assert_eq!(session.take_ack(), None);
        assert_eq!(session.on_received(0), AckDue::Soon);
        session.request_ack();
        assert_eq!(session.take_ack(), Some(5));
        session.request_ack();
        assert_eq!(session.take_ack(), None, "the peer knows");
    }

    #[test]
    fn a_ticket_is_not_shown_and_only_the_right_secret_matches() {
        let ticket = ticket();
        let hello = ticket.hello(3, SessionHello::RESUME);
        assert_eq!(SessionTicket::from(&hello), ticket);
        let mut wrong = hello.clone();
        wrong.secret[15] ^= 1;
        assert_ne!(SessionTicket::from(&wrong), ticket);
        let shown = format!("{ticket:?} {hello:?}");
        assert!(!shown.contains(&format!("{:?}", hello.secret)[1..20]), "{shown}");
    }
}
