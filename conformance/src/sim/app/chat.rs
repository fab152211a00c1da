//! An application that uses UDP: it asks a client for an association by SOCKS5 and sends datagrams,
//! which its target sends back.
//!
//! Each datagram has a number and bytes that only it can have, so that both ends can tell what they
//! get: nothing twice, nothing altered, nothing from anybody else.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use linksocks_sansio::socks5::{Datagram, TargetAddr};

use super::Scene;
use super::plan::{Entry, credentials};
use crate::sim::check::{Verdict, Violation, require};
use crate::sim::clock::Time;
use crate::sim::dice::Dice;
use crate::sim::net::{DialState, EndId, Owner, Read, Wake};

const RULE: &str = "datagrams arrive unaltered, at most once, from the right source";

/// How long an application waits for the proxy's answer, and how often it tries again if there is no
/// proxy.
const PATIENCE: Duration = Duration::from_secs(120);
const RETRY: Duration = Duration::from_secs(1);

/// What a chat is going to be.
#[derive(Clone, Debug)]
pub struct ChatPlan {
    /// Its number.
    pub id: usize,
    /// Where the application comes in.
    pub entry: Entry,
    /// Whether it must log in there.
    pub asks_for_login: bool,
    /// When it starts.
    pub start: Time,
    /// Where datagrams are sent to.
    pub target: TargetAddr,
    /// Where they are sent back; nowhere if that is `None`.
    pub echo: Option<SocketAddr>,
    /// The lengths of the datagrams.
    pub lengths: Vec<usize>,
    /// Between two of them.
    pub pause: Duration,
    /// After the last one.
    pub linger: Duration,
    /// Ends with a RST.
    pub aborts: bool,
    /// Whether this one starts after all faults are over, to prove that everything works again.
    pub is_probe: bool,
}

impl ChatPlan {
    /// The machine of the application.
    #[must_use]
    pub fn caller(&self) -> IpAddr {
        let [high, low] = (self.id as u16).to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(172, 17, high, low))
    }
}

/// A chat under way.
#[derive(Debug)]
pub struct Chat {
    /// What it is going to be.
    pub plan: ChatPlan,
    /// The addresses of the hosts that may send to its target.
    senders: Vec<IpAddr>,
    /// Whether what arrives can be held against what was sent.
    is_honest: bool,
    dice: Dice,
    state: State,
    /// Datagrams sent so far; their place is their number.
    sent: Vec<Bytes>,
    /// What the target has got, and what has come back.
    arrived: BTreeSet<u64>,
    returned: BTreeSet<u64>,
    /// Whether an association was granted.
    granted: bool,
}

#[derive(Debug)]
enum State {
    Waiting { until: Time },
    Dialing(EndId),
    Asking { control: EndId, answer: BytesMut, until: Time },
    Chatting { control: EndId, local: SocketAddr, relay: SocketAddr, next: Time },
    Over,
}

impl Chat {
    /// A chat that waits for its start; with an honest server in between, or with an impostor.
    /// `senders`: the addresses of the hosts that may send to its target.
    #[must_use]
    pub fn new(plan: ChatPlan, senders: Vec<IpAddr>, is_honest: bool, dice: Dice) -> Self {
        let state = State::Waiting { until: plan.start };
        let (sent, arrived, returned) = Default::default();
        Self { plan, senders, is_honest, dice, state, sent, arrived, returned, granted: false }
    }

    /// When it must go on even if nothing happens on the network.
    #[must_use]
    pub const fn wake(&self) -> Option<Time> {
        match self.state {
            State::Waiting { until } | State::Asking { until, .. } => Some(until),
            State::Chatting { next, .. } => Some(next),
            State::Dialing(_) | State::Over => None,
        }
    }

    /// Whether it has come to its end.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// What must have come of a chat that nothing disturbs.
    ///
    /// # Errors
    /// If it was not served.
    pub(crate) fn served(&self) -> Verdict {
        let all = self.plan.lengths.len();
        require(self.granted && self.returned.len() == all, "associations work", || {
            format!("{self}: {} of {all} datagrams came back", self.returned.len())
        })
    }

    /// Lets application and target do what they can do now.
    ///
    /// # Errors
    /// What came out wrong at one of them.
    pub(crate) fn run(&mut self, proxy_is_gone: bool, scene: &mut Scene<'_>) -> Verdict {
        let owner = Owner::Chat(self.plan.id);
        for wake in scene.net.take_wakes(owner) {
            if let Wake::Datagrams(address) = wake {
                match self.plan.echo == Some(address) {
                    true => self.echo(address, scene)?,
                    false => self.receive(address, scene)?,
                }
            }
        }
        while !self.is_over() && self.step(proxy_is_gone, scene) {}
        Ok(())
    }

    /// Returns whether there may be more to do.
    fn step(&mut self, proxy_is_gone: bool, scene: &mut Scene<'_>) -> bool {
        let now = scene.now;
        match &mut self.state {
            State::Waiting { .. } if proxy_is_gone => self.state = State::Over,
            State::Waiting { until } if *until <= now => {
                let (owner, from) = (Owner::Chat(self.plan.id), SocketAddr::new(self.plan.caller(), 40_000));
                let end = scene.net.connect(owner, from, self.plan.entry.socks_address());
                self.state = State::Dialing(end);
            }
            State::Waiting { .. } | State::Over => return false,
            State::Dialing(end) => match scene.net.dial_state(*end) {
                DialState::Pending => return false,
                DialState::Failed(_) => {
                    scene.net.release(*end);
                    let is_late = now >= self.plan.start + PATIENCE * 2;
                    self.state = if is_late { State::Over } else { State::Waiting { until: now + RETRY } };
                }
                DialState::Open => {
                    let control = *end;
                    let mut request = Bytes::from(self.request());
                    if scene.net.write(control, &mut request).is_err() {
                        return self.leave(scene);
                    }
                    self.state = State::Asking { control, answer: BytesMut::new(), until: now + PATIENCE };
                }
            },
            State::Asking { control, answer, until } => {
                let is_late = *until <= now;
                match scene.net.read(*control, 64) {
                    Ok(Read::Data(bytes)) => answer.extend_from_slice(&bytes),
                    Ok(Read::Pending) if is_late => return self.leave(scene),
                    Ok(Read::Pending) => return false,
                    Ok(Read::Eof) | Err(_) => return self.leave(scene),
                }
                let control = *control;
                let login = if self.plan.asks_for_login { 2 } else { 0 };
                let relay = match answer.get(2 + login..) {
                    Some(&[5, 0, 0, 1, a, b, c, d, high, low, ..]) => {
                        SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])))
                    }
                    Some(&[5, code, ..]) if code != 0 => return self.leave(scene),
                    Some(_) | None => return true,
                };
                self.granted = true;
                let local = SocketAddr::new(self.plan.caller(), 0);
                let local = scene.net.bind(local, Owner::Chat(self.plan.id));
                let local = local.expect("each application has an address of its own");
                scene.note(&*self, format_args!("is granted {relay}"));
                self.state = State::Chatting { control, local, relay, next: now };
            }
            State::Chatting { control, next, .. } => {
                let (control, next) = (*control, *next);
                match scene.net.read(control, 64) {
                    Ok(Read::Pending) => {}
                    Ok(Read::Data(_) | Read::Eof) | Err(_) => return self.leave(scene),
                }
                if next > now {
                    return false;
                }
                if self.sent.len() == self.plan.lengths.len() {
                    return self.leave(scene);
                }
                self.speak(scene);
            }
        }
        true
    }

    /// Everything that is to be said to the proxy, at once.
    fn request(&self) -> Vec<u8> {
        let mut request = vec![5, 1, if self.plan.asks_for_login { 2 } else { 0 }];
        if self.plan.asks_for_login {
            let (name, password) = credentials();
            for text in [name, password] {
                request.extend(if request.len() == 3 { &[1][..] } else { &[] });
                request.push(text.len() as u8);
                request.extend(text.as_bytes());
            }
        }
        request.extend([5, 3, 0, 1, 0, 0, 0, 0, 0, 0]);
        request
    }

    /// Sends the next datagram, and sometimes one that must go nowhere.
    fn speak(&mut self, scene: &mut Scene<'_>) {
        let State::Chatting { local, relay, next, .. } = &mut self.state else { return };
        let number = self.sent.len() as u64;
        let mut payload = BytesMut::with_capacity(self.plan.lengths[self.sent.len()]);
        payload.extend_from_slice(&number.to_be_bytes());
        let first = self.plan.id as u64 * 31 + number * 7;
        let length = self.plan.lengths[self.sent.len()] as u64;
        payload.extend((8..length).map(|index| (first + index * 5) as u8));
        let payload = payload.freeze();
        self.sent.push(payload.clone());
        let is_last = self.sent.len() == self.plan.lengths.len();
        *next = scene.now + if is_last { self.plan.linger } else { self.plan.pause };

        let datagram = Datagram { address: self.plan.target.clone(), payload };
        let datagram = datagram.encode().expect("plans have valid targets");
        let (from, to) = (*local, *relay);
        if self.dice.chance(10) {
            // A fragment, and somebody else's: the number is nobody's.
            let forged =
                Datagram { address: self.plan.target.clone(), payload: Bytes::from_static(&[0xFF; 8]) };
            let forged = forged.encode().expect("plans have valid targets");
            let mut fragment = BytesMut::from(&forged[..]);
            fragment[2] = 1;
            let stranger = SocketAddr::from(([172, 18, 0, 1], from.port()));
            let neighbour = SocketAddr::new(from.ip(), from.port() ^ 1);
            let _ = scene.net.send_datagram(from, to, fragment.freeze());
            let _ = scene.net.send_datagram(from, to, datagram.slice(..self.dice.below(8) as usize));
            let _ = scene.net.send_datagram(stranger, to, forged.clone());
            if number > 0 && !self.returned.is_empty() {
                // The port is pinned by now: something has come back to it.
                let _ = scene.net.send_datagram(neighbour, to, forged);
            }
        }
        let _ = scene.net.send_datagram(from, to, datagram);
    }

    fn leave(&mut self, scene: &mut Scene<'_>) -> bool {
        let (control, local) = match self.state {
            State::Dialing(control) | State::Asking { control, .. } => (control, None),
            State::Chatting { control, local, .. } => (control, Some(local)),
            State::Waiting { .. } | State::Over => return false,
        };
        if self.plan.aborts {
            scene.net.abort(control);
        } else {
            scene.net.release(control);
        }
        if let Some(local) = local {
            scene.net.unbind(local);
        }
        self.state = State::Over;
        false
    }

    /// The target sends back what it gets.
    fn echo(&mut self, address: SocketAddr, scene: &mut Scene<'_>) -> Verdict {
        while let Some((from, payload)) = scene.net.receive_datagram(address) {
            let may_send = self.senders.contains(&from.ip());
            self.check("target", &payload, may_send, |chat| &mut chat.arrived)?;
            let _ = scene.net.send_datagram(address, from, payload);
        }
        Ok(())
    }

    /// What comes back to the application.
    fn receive(&mut self, local: SocketAddr, scene: &mut Scene<'_>) -> Verdict {
        while let Some((from, datagram)) = scene.net.receive_datagram(local) {
            let State::Chatting { relay, .. } = self.state else { return Ok(()) };
            let decoded = Datagram::decode(&datagram).map_err(|error| Violation {
                rule: RULE,
                details: format!("{self}: the application got a malformed datagram: {error}"),
            })?;
            let source = self.plan.echo.map(TargetAddr::from);
            let is_right = from == relay && Some(&decoded.address) == source.as_ref();
            self.check("application", &decoded.payload, is_right, |chat| &mut chat.returned)?;
        }
        Ok(())
    }

    fn check(
        &mut self,
        who: &str,
        payload: &Bytes,
        from_the_right_source: bool,
        seen: impl FnOnce(&mut Self) -> &mut BTreeSet<u64>,
    ) -> Verdict {
        let number = payload.first_chunk().map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes));
        let original = usize::try_from(number).ok().and_then(|number| self.sent.get(number));
        let is_unaltered = original == Some(payload);
        let is_new = seen(self).insert(number);
        let is_right = is_unaltered && is_new && from_the_right_source;
        require(is_right || !self.is_honest, RULE, || {
            format!(
                "{self}: the {who} got datagram {number} of {} bytes; unaltered: {is_unaltered}, new: {is_new}, \
                 right source: {from_the_right_source}",
                payload.len()
            )
        })
    }
}

impl fmt::Display for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chat {} at {} from {} ", self.plan.id, self.plan.entry, self.plan.start)?;
        write!(f, "with {} ({} sent)", self.plan.target, self.sent.len())
    }
}
