//! The way of one attempt to connect, through redirects.

use std::time::Instant;

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
    /// When the WebSocket must be up, however many redirects there are.
    pub(super) deadline: Instant,
}

impl Route {
    pub(super) fn new(url: LinkUrl, deadline: Instant) -> Self {
        Self { first: url, redirects: Vec::new(), deadline }
    }

    /// Where to send the upgrade request.
    pub(super) fn url(&self) -> &LinkUrl {
        self.redirects.last().unwrap_or(&self.first)
    }

    /// The same as a server to choose a proxy for.
    pub(super) fn server(&self) -> ServerUrl {
        self.url().clone().into()
    }

    /// Whether this is the host that the user has named. What is meant for it is not for others.
    pub(super) fn is_at_home(&self) -> bool {
        self.url().host() == self.first.host()
    }

    /// Follows a redirect. Nothing is added to what its `Location` says: the login of the URL would
    /// go to whoever it names.
    pub(super) fn follow(&mut self, location: &str) -> Result<(), RedirectError> {
        let url = self.url().join(location).map_err(RedirectError::Malformed)?;
        if self.first.is_secure() && !url.is_secure() {
            return Err(RedirectError::Downgrade(url.to_string()));
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
