//! Names that datagrams are sent to: looked up once, remembered for a while.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

use super::DatagramQueue;
use crate::config::Limits;
use crate::ids::QueryId;

/// Datagrams that may wait for one lookup: enough for a few repetitions.
const WAITING: usize = 16;

/// A small cache, so that not every datagram costs a lookup.
#[derive(Debug, Default)]
pub(crate) struct Names {
    names: BTreeMap<String, Name>,
    weight: usize,
}

#[derive(Debug)]
enum Name {
    /// Being looked up; what goes there waits, with its port.
    Sought(QueryId, DatagramQueue<u16>),
    /// No addresses: it is not known, or not allowed.
    Known { addresses: Addresses, until: Instant },
}

pub(crate) type Addresses = SmallVec<[IpAddr; 4]>;

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    Known(&'a [IpAddr]),
    /// The datagram waits now; so many had to go for it.
    Waits(u64),
    /// A lookup has to be started, see [`Names::seek`].
    Unknown,
    /// Too many names are being looked up.
    Full,
}

impl Names {
    /// Looks for the addresses of `name`; lets the datagram wait if they are just being looked up.
    pub(crate) fn ask(
        &mut self,
        name: &str,
        port: u16,
        payload: &[u8],
        now: Instant,
        max: usize,
    ) -> Answer<'_> {
        if self.names.get(name).is_some_and(|name| name.is_stale(now)) {
            self.forget(name);
        }
        if !self.names.contains_key(name) {
            return if self.make_room(now, max) { Answer::Unknown } else { Answer::Full };
        }
        match self.names.get_mut(name) {
            Some(Name::Known { addresses, .. }) => Answer::Known(addresses),
            Some(Name::Sought(_, waiting)) => {
                let before = waiting.weight();
                let payload = Bytes::copy_from_slice(payload);
                let dropped = waiting.push(port, payload, WAITING, WAITING * Limits::MAX_DATAGRAM);
                self.weight = self.weight - before + waiting.weight();
                Answer::Waits(dropped)
            }
            None => Answer::Unknown,
        }
    }

    /// A lookup has been started for a datagram.
    pub(crate) fn seek(&mut self, name: String, query: QueryId, port: u16, payload: &[u8]) {
        let mut waiting = DatagramQueue::default();
        waiting.push(port, Bytes::copy_from_slice(payload), WAITING, WAITING * Limits::MAX_DATAGRAM);
        self.insert(name, Name::Sought(query, waiting));
    }

    /// A lookup has ended. Returns what has waited for it.
    pub(crate) fn found(&mut self, name: &str, addresses: Addresses, until: Instant) -> Vec<(u16, Bytes)> {
        match self.forget(name) {
            Some(Name::Sought(_, mut waiting)) => {
                self.insert(name.to_owned(), Name::Known { addresses, until });
                std::iter::from_fn(|| waiting.pop()).collect()
            }
            Some(Name::Known { .. }) | None => Vec::new(),
        }
    }

    /// Forgets everything. Returns the lookups under way, and how many datagrams waited for them.
    pub(crate) fn clear(&mut self) -> (Vec<QueryId>, u64) {
        let mut waited = 0;
        self.weight = 0;
        let queries = std::mem::take(&mut self.names).into_values().filter_map(|name| match name {
            Name::Sought(query, waiting) => {
                waited += waiting.len() as u64;
                Some(query)
            }
            Name::Known { .. } => None,
        });
        (queries.collect(), waited)
    }

    /// Bytes of everything that is remembered, with overhead.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// Whether datagrams wait for lookups.
    pub(crate) fn is_waiting(&self) -> bool {
        self.names.values().any(|name| matches!(name, Name::Sought(..)))
    }

    fn insert(&mut self, text: String, name: Name) {
        self.forget(&text);
        self.weight += name.weight(&text);
        self.names.insert(text, name);
    }

    fn forget(&mut self, text: &str) -> Option<Name> {
        let name = self.names.remove(text)?;
        self.weight -= name.weight(text);
        Some(name)
    }

    /// Forgets a name if there are `max` of them: the one whose time is up first.
    fn make_room(&mut self, now: Instant, max: usize) -> bool {
        if self.names.len() < max {
            return true;
        }
        let weight = &mut self.weight;
        self.names.retain(|text, name| {
            let stays = !name.is_stale(now);
            *weight -= if stays { 0 } else { name.weight(text) };
            stays
        });
        let first = self.names.iter().filter_map(|(text, name)| match name {
            Name::Known { until, .. } => Some((*until, text)),
            Name::Sought(..) => None,
        });
        if let Some(name) = first.min().map(|(_, text)| text.clone()).filter(|_| self.names.len() >= max) {
            self.forget(&name);
        }
        self.names.len() < max
    }
}

impl Name {
    fn weight(&self, text: &str) -> usize {
        let what = match self {
            Self::Sought(_, waiting) => waiting.weight(),
            Self::Known { addresses, .. } => size_of_val(addresses.as_slice()),
        };
        text.len() + Limits::MESSAGE_OVERHEAD + what
    }

    fn is_stale(&self, now: Instant) -> bool {
        matches!(self, Self::Known { until, .. } if *until <= now)
    }
}

/// How long an answer is used: a failure for a shorter time, so that a name works soon after the
/// resolver does again.
pub(crate) fn lifetime(addresses: &Addresses, longest: Duration) -> Duration {
    const FAILURE: Duration = Duration::from_secs(2);
    if addresses.is_empty() { longest.min(FAILURE) } else { longest }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Answer, Names};
    use crate::arena::ArenaId;
    use crate::config::Limits;
    use crate::ids::QueryId;
    use crate::tests::epoch;

    #[test]
    fn names_are_looked_up_once_and_forgotten_in_time() {
        let (mut names, now) = (Names::default(), epoch());
        let later = now + Duration::from_secs(30);
        let query = QueryId::from_parts(1, 0);
        assert_eq!(names.ask("a", 1, b"first", now, 2), Answer::Unknown);
        names.seek("a".into(), query, 1, b"first");
        assert_eq!(names.ask("a", 2, b"second", now, 2), Answer::Waits(0));
        let sought = names.weight();
        assert!(names.is_waiting() && sought > 2 * Limits::MESSAGE_OVERHEAD);
        let ip = "127.0.0.1".parse().unwrap();
        let waited = names.found("a", [ip].into_iter().collect(), later);
        assert_eq!(waited, [(1, b"first"[..].into()), (2, b"second"[..].into())]);
        assert!(!names.is_waiting() && names.weight() > 0, "what is known is not for free");
        assert_eq!(names.ask("a", 3, b"", now, 2), Answer::Known(&[ip]));
        assert_eq!(names.ask("a", 3, b"", later, 2), Answer::Unknown);
        assert_eq!(names.weight(), 0);
        assert_eq!(names.clear(), (vec![], 0));
    }

    #[test]
    fn a_full_cache_forgets_the_oldest_but_no_lookup_under_way() {
        let (mut names, now) = (Names::default(), epoch());
        let query = |index| QueryId::from_parts(index, 0);
        for (index, name) in (0..).zip(["a", "b"]) {
            names.seek(name.into(), query(index), 1, b"");
        }
        assert_eq!(names.ask("c", 1, b"", now, 2), Answer::Full);
        names.found("b", Default::default(), now + Duration::from_secs(1));
        assert_eq!(names.ask("c", 1, b"", now, 2), Answer::Unknown);
        names.seek("c".into(), query(2), 1, b"");
        assert_eq!(names.clear(), (vec![query(0), query(2)], 2));
        assert_eq!(names.weight(), 0);
    }
}
