//! Who is at the door: connections that are not WebSockets yet, altogether and by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linksocks_sansio::access::whose;
use tracing::warn;

use super::limits::{CONNECTIONS, CONNECTIONS_PER_ADDRESS};

/// Connections that are there. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Crowd(Arc<Mutex<Places>>);

#[derive(Debug, Default)]
struct Places {
    taken: usize,
    /// That there are too many has been told.
    told: bool,
    shares: HashMap<IpAddr, Share>,
}

/// The connections of one address; forgotten with the last one.
#[derive(Debug, Default)]
struct Share {
    taken: usize,
    told: bool,
}

/// A place at the door, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Crowd,
    /// Whether it is one of all.
    counts: bool,
    /// Whose share it is of.
    share: Option<IpAddr>,
}

impl Crowd {
    /// Lets a connection from `address` in, unless there are too many, or too many from there.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        let mut place = self.enter_freely(address)?;
        place.share = Some(self.take_share(address)?);
        Some(place)
    }

    /// Lets a connection from `address` in, which may have all places.
    pub(super) fn enter_freely(&self, address: IpAddr) -> Option<Place> {
        let mut places = self.lock();
        if places.taken >= CONNECTIONS {
            if !std::mem::replace(&mut places.told, true) {
                warn!(%address, limit = CONNECTIONS, "Too many connections that have not logged in: more are closed");
            }
            return None;
        }
        places.taken += 1;
        Some(Place { crowd: self.clone(), counts: true, share: None })
    }

    /// Takes a place of the share of `address` for a connection that has one of all already.
    pub(super) fn share(&self, address: IpAddr) -> Option<Place> {
        let share = Some(self.take_share(address)?);
        Some(Place { crowd: self.clone(), counts: false, share })
    }

    fn take_share(&self, address: IpAddr) -> Option<IpAddr> {
        let owner = whose(address);
        let mut places = self.lock();
        let share = places.shares.entry(owner).or_default();
        if share.taken >= CONNECTIONS_PER_ADDRESS {
            if !std::mem::replace(&mut share.told, true) {
                let limit = CONNECTIONS_PER_ADDRESS;
                warn!(%address, limit, "Too many connections from one address that have not logged in: more are closed");
            }
            return None;
        }
        share.taken += 1;
        Some(owner)
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.crowd.lock();
        if self.counts {
            places.taken -= 1;
            // The next time it is another crowd.
            places.told &= places.taken > CONNECTIONS / 2;
        }
        if let Some(owner) = self.share
            && let Some(share) = places.shares.get_mut(&owner)
        {
            share.taken -= 1;
            if share.taken == 0 {
                places.shares.remove(&owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{CONNECTIONS, CONNECTIONS_PER_ADDRESS, Crowd};

    fn address(number: usize) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(number).unwrap()).into()
    }

    #[test]
    fn one_address_can_not_keep_others_out() {
        let crowd = Crowd::default();
        let mut greedy: Vec<_> = std::iter::from_fn(|| crowd.enter(address(1))).collect();
        assert_eq!(greedy.len(), CONNECTIONS_PER_ADDRESS);
        assert!(crowd.enter(address(2)).is_some());
        greedy.pop();
        assert!(crowd.enter(address(1)).is_some(), "a place is free again");
        drop(greedy);
        assert!(crowd.lock().shares.is_empty() && crowd.lock().taken == 0, "{crowd:?}");
    }

    #[test]
    fn all_together_are_limited_and_a_proxy_by_that_alone() {
        let crowd = Crowd::default();
        let mut inside: Vec<_> = (0..CONNECTIONS).map_while(|number| crowd.enter(address(number))).collect();
        assert_eq!(inside.len(), CONNECTIONS);
        assert!(crowd.enter(address(CONNECTIONS)).is_none() && crowd.lock().told);
        inside.truncate(CONNECTIONS / 2);
        assert!(!crowd.lock().told, "the next crowd is told again");
        let proxied: Vec<_> = std::iter::from_fn(|| crowd.enter_freely(address(7))).collect();
        assert_eq!(proxied.len(), CONNECTIONS / 2);
        let client = address(2 * CONNECTIONS);
        let shares: Vec<_> = std::iter::from_fn(|| crowd.share(client)).collect();
        assert_eq!(shares.len(), CONNECTIONS_PER_ADDRESS, "behind a proxy as well");
    }

    #[test]
    fn a_whole_ipv6_network_is_one_address() {
        let crowd = Crowd::default();
        let host = |number: usize| format!("2001:db8::{number:x}").parse().unwrap();
        let inside: Vec<_> = (0..CONNECTIONS).map_while(|number| crowd.enter(host(number))).collect();
        assert_eq!(inside.len(), CONNECTIONS_PER_ADDRESS);
        assert!(crowd.enter("2001:db8:0:1::1".parse().unwrap()).is_some());
    }
}
