//! The server's front door: connections that have not sent their upgrade request yet.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use linksocks_sansio::io::{HttpRequest, UpgradeRequest, is_link_path};

use super::Surroundings;
use super::link::LinkPump;
use crate::sim::clock::Time;
use crate::sim::frame::Frame;
use crate::sim::net::{EndId, Read, Rope};

/// How long a connection may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The parameter that each redirect adds.
const HOP: &str = "hop=1";

/// What listens for links.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) address: SocketAddr,
    visitors: BTreeMap<EndId, Visitor>,
}

/// What a visitor wants.
#[derive(Debug)]
pub(super) enum Visit {
    /// A link; with what came behind the request.
    Link(UpgradeRequest, Rope),
    /// Something else.
    Page(HttpRequest),
}

#[derive(Debug)]
struct Visitor {
    received: Rope,
    until: Time,
}

impl Front {
    pub(super) const fn new(address: SocketAddr) -> Self {
        Self { address, visitors: BTreeMap::new() }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.visitors.values().map(|visitor| visitor.until).min()
    }

    /// Lets in everyone who waits.
    pub(super) fn accept(&mut self, around: &mut Surroundings<'_>) -> Vec<EndId> {
        let mut ends = Vec::new();
        while let Some(end) = around.net.accept(self.address) {
            let until = around.now + REQUEST_TIMEOUT;
            self.visitors.insert(end, Visitor { received: Rope::default(), until });
            ends.push(end);
        }
        ends
    }

    /// Reads on from a visitor. Returns its request once that is complete.
    pub(super) fn run(&mut self, end: EndId, around: &mut Surroundings<'_>) -> Option<Visit> {
        let visitor = self.visitors.get_mut(&end)?;
        let leaves = loop {
            match Frame::decode(&mut visitor.received) {
                Some(Frame::Request { path_and_query, .. })
                    if path_and_query.matches(HOP).count() < around.habits.redirects =>
                {
                    let separator = if path_and_query.contains('?') { '&' } else { '?' };
                    let location = format!("{path_and_query}{separator}{HOP}");
                    self.visitors.remove(&end)?;
                    LinkPump::answer(end, Frame::Redirect { location }, around.net);
                    return None;
                }
                Some(Frame::Request { path_and_query, extensions }) => {
                    let (path, query) = path_and_query.split_once('?').unwrap_or((&path_and_query, ""));
                    let (path, query) = (path.to_owned(), query.to_owned());
                    let peer = around.net.peer_address(end);
                    let visitor = self.visitors.remove(&end)?;
                    if !is_link_path(&path) {
                        let (method, body) = ("GET".to_owned(), Bytes::new());
                        return Some(Visit::Page(HttpRequest { peer, method, path, api_key: None, body }));
                    }
                    let request = UpgradeRequest { path, query, extensions, peer };
                    return Some(Visit::Link(request, visitor.received));
                }
                Some(frame) => panic!("instead of an upgrade request came {frame:?}"),
                None => {}
            }
            match around.net.read(end, around.habits.link_read) {
                Ok(Read::Data(bytes)) => visitor.received.push(bytes),
                Ok(Read::Pending) => break visitor.until <= around.now,
                Ok(Read::Eof) | Err(_) => break true,
            }
        };
        if leaves {
            self.visitors.remove(&end);
            around.net.release(end);
        }
        None
    }

    /// The visitors whose time is up.
    pub(super) fn overdue(&self, now: Time) -> Vec<EndId> {
        let overdue = self.visitors.iter().filter(|(_, visitor)| visitor.until <= now);
        overdue.map(|(end, _)| *end).collect()
    }

    /// Whether this visitor is still here.
    pub(super) fn holds(&self, end: EndId) -> bool {
        self.visitors.contains_key(&end)
    }
}
