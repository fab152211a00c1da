//! Negotiation of extensions between peers of our own kind.
//!
//! The client offers a list in the header [`EXTENSIONS_HEADER`] of its upgrade request; the server
//! answers with the accepted ones in its 101. Old peers ignore the header.

use std::fmt;

use crate::config::RelayConfig;

/// The HTTP header of offer and answer.
pub const EXTENSIONS_HEADER: &str = "LinkSocks-Extensions";

/// A set of extensions. The text form is the value of [`EXTENSIONS_HEADER`].
///
/// ```
/// use linksocks_sansio::link::Extensions;
///
/// // From Event::LinkReady or Event::ClientAuthenticated.
/// let agreed = Extensions { window: true, finish: true, session: false };
/// assert_eq!(agreed.to_string(), "window, finish");
/// assert!(Extensions::default().is_empty()); // an old peer
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Extensions {
    /// Credit per channel.
    pub window: bool,
    /// EOF in one direction.
    pub finish: bool,
    /// Channels survive the loss of their link.
    pub session: bool,
}

impl Extensions {
    /// What a configuration allows.
    #[must_use]
    pub(crate) fn from_config(config: &RelayConfig) -> Self {
        Self {
            window: config.extensions.window > 0,
            finish: config.extensions.finish,
            session: config.extensions.session && !config.timeouts.transport_grace.is_zero(),
        }
    }

    /// Reads a comma-separated list; unknown names are skipped.
    #[must_use]
    pub(crate) fn parse(list: &str) -> Self {
        let has = |name: &str| list.split(',').any(|entry| entry.trim().eq_ignore_ascii_case(name));
        Self { window: has("window"), finish: has("finish"), session: has("session") }
    }

    /// What both sets have.
    #[must_use]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            window: self.window && other.window,
            finish: self.finish && other.finish,
            session: self.session && other.session,
        }
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !self.window && !self.finish && !self.session
    }

    /// The header value, or `None` for the empty set.
    #[must_use]
    pub(crate) fn header(self) -> Option<String> {
        (!self.is_empty()).then(|| self.to_string())
    }
}

impl fmt::Display for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(self.window, "window"), (self.finish, "finish"), (self.session, "session")];
        let mut separator = "";
        for (_, name) in names.into_iter().filter(|(present, _)| *present) {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Extensions;

    #[test]
    fn the_text_form_round_trips_and_skips_unknown_names() {
        let all = Extensions { window: true, finish: true, session: true };
        assert_eq!(all.header().as_deref(), Some("window, finish, session"));
        assert_eq!(Extensions::parse("session,finish,WINDOW , later"), all);
        assert_eq!(Extensions::parse("later").header(), None);
        assert_eq!(all.and(Extensions::parse("finish")), Extensions::parse("finish"));
    }
}
