//! What a conversation is going to be.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use linksocks_sansio::socks5::TargetAddr;

use super::script::{Ending, Script};
use super::socks::SocksPlan;
use crate::sim::clock::Time;
use crate::sim::scenario::SERVER;

/// Where an application comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// At the client with this number.
    Client(usize),
    /// At the SOCKS port of the server.
    Server,
}

impl Entry {
    /// The number of the host.
    #[must_use]
    pub const fn host(self) -> usize {
        match self {
            Self::Client(client) => SERVER + 1 + client,
            Self::Server => SERVER,
        }
    }

    /// Where SOCKS is offered.
    #[must_use]
    pub fn socks_address(self) -> SocketAddr {
        match self {
            Self::Client(client) => socks_address(client),
            Self::Server => SocketAddr::new(server_address().ip(), SOCKS_PORT),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(client) => write!(f, "client {client}"),
            Self::Server => f.write_str("the server"),
        }
    }
}

/// Where SOCKS is offered.
pub const SOCKS_PORT: u16 = 1080;

/// One conversation between an application and a target.
#[derive(Clone, Debug)]
pub struct TalkPlan {
    /// Its number.
    pub id: usize,
    /// Where the application comes in.
    pub entry: Entry,
    /// When the application starts.
    pub start: Time,
    /// How it asks for its target.
    pub way: Way,
    /// The target.
    pub destination: Destination,
    /// What the application does.
    pub caller: Script,
    /// What the target does.
    pub target: Script,
    /// Whether this one starts after all faults are over, to prove that everything works again.
    pub is_probe: bool,
}

/// How an application gets to its target.
#[derive(Clone, Debug)]
pub enum Way {
    /// By SOCKS5.
    Socks(SocksPlan),
    /// By a call of the program that a client is embedded in.
    Command,
}

/// A target and what is there.
#[derive(Clone, Debug)]
pub struct Destination {
    /// What the application asks for.
    pub target: TargetAddr,
    /// Where somebody listens; nobody does if this is empty.
    pub alive: Vec<SocketAddr>,
}

impl TalkPlan {
    /// Where the application connects to.
    #[must_use]
    pub fn proxy(&self) -> SocketAddr {
        match (&self.way, self.entry) {
            (Way::Command, Entry::Client(client)) => embedder_address(client),
            (Way::Command, Entry::Server) | (Way::Socks(_), _) => self.entry.socks_address(),
        }
    }

    /// Where the application connects from.
    #[must_use]
    pub fn caller_address(&self) -> SocketAddr {
        let [high, low] = (self.id as u16).to_be_bytes();
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(172, 16, high, low)), 40_000)
    }

    /// Whether each end waits for the other one to end, for ever.
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        let waits = |script: &Script| script.ending == Ending::FollowPeer && script.mishap.is_none();
        waits(&self.caller) && waits(&self.target)
    }

    /// Whether the proxy will ask for a login and get the wrong one, or none.
    #[must_use]
    pub fn is_welcome(&self, asks_for_login: bool) -> bool {
        match &self.way {
            Way::Command => true,
            Way::Socks(plan) => {
                let method = if asks_for_login { 2 } else { 0 };
                let knows = plan.login.as_ref().is_none_or(|login| *login == credentials());
                plan.methods.contains(&method) && (!asks_for_login || plan.login.is_some() && knows)
            }
        }
    }
}

/// The machine of a client.
#[must_use]
pub fn client_address(client: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 168, client as u8 + 1, 1))
}

/// Where a client offers SOCKS.
#[must_use]
pub fn socks_address(client: usize) -> SocketAddr {
    SocketAddr::new(client_address(client), SOCKS_PORT)
}

/// Where the program that a client is embedded in is called.
#[must_use]
pub fn embedder_address(client: usize) -> SocketAddr {
    SocketAddr::new(client_address(client), 1)
}

/// Where links are accepted.
#[must_use]
pub fn server_address() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 8765)
}

/// The right user name and password, for clients that ask for one.
#[must_use]
pub fn credentials() -> (String, String) {
    ("user".to_owned(), "open sesame".to_owned())
}
