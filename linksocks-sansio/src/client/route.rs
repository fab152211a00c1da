//! The way of one attempt to connect, through redirects.

use std::time::{Duration, Instant};

use crate::error::RedirectError;
use crate::url::{LinkUrl, ServerUrl};

/// How many redirects in a row are followed (as the real client).
const MAX_REDIRECTS: usize = 5;

/// The URLs that an attempt has asked for, in order.
#[derive(Clone, Debug)]
pub(super) struct Route {
    first: LinkUrl,
    /// Where redirects have led to; the last one is where the attempt stands.
    redirects: Vec<LinkUrl>,
    /// Whether the token itself will be sent over the WebSocket, so that it must stay on the host.
    carries_token: bool,
    /// When the WebSocket must be up, however many redirects there are; `None`: some day.
    deadline: Option<Instant>,
}

impl Route {
    pub(super) fn new(url: LinkUrl, carries_token: bool, deadline: Option<Instant>) -> Self {
        Self { first: url, redirects: Vec::new(), carries_token, deadline }
    }

    /// How long it may still take from `now` on.
    pub(super) fn rest(&self, now: Instant) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(now))
    }

    /// Where to send the upgrade request.
    pub(super) fn url(&self) -> &LinkUrl {
        self.redirects.last().unwrap_or(&self.first)
    }

    /// The same as a server to choose a proxy for.
    pub(super) fn server(&self) -> ServerUrl {
        self.url().clone().into()
    }

    /// Whether this is the host that the user has named, on whatever port. What is meant for it is not
    /// for others.
    pub(super) fn is_at_home(&self) -> bool {
        self.is_home(self.url())
    }

    fn is_home(&self, url: &LinkUrl) -> bool {
        url.host() == self.first.host()
    }

    /// Follows a redirect.
    ///
    /// A login by URL may be led to another host: nothing is added to what the `Location` says, so
    /// that this host learns what the server hands on, and nothing from us. A server that means its
    /// clients to log in elsewhere (such as a balancer) repeats the parameters. A login by message
    /// would give the token itself to whoever speaks there, so it stays on the host of the user.
    pub(super) fn follow(&mut self, location: &str) -> Result<(), RedirectError> {
        let url = self.url().join(location).map_err(RedirectError::Malformed)?;
        if self.first.is_secure() && !url.is_secure() {
            return Err(RedirectError::Downgrade(url.to_string()));
        }
        if self.carries_token && !self.is_home(&url) {
            return Err(RedirectError::Foreign(url.to_string()));
        }
        if self.first == url || self.redirects.contains(&url) {
            return Err(RedirectError::Loop(url.to_string()));
        }
        if self.redirects.len() == MAX_REDIRECTS {
            return Err(RedirectError::TooMany(MAX_REDIRECTS));
        }
        self.redirects.push(url);
        Ok(())
    }
}
