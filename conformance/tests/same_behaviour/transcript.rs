//! What a scenario has shown, without anything that differs from run to run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use linksocks_sansio::{ChannelId, Event, LinkId, SocketId};

/// Lines by what they are about (a channel, an engine) and who saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transcript(BTreeMap<(String, String), Vec<String>>);

impl Transcript {
    pub(crate) fn add(&mut self, about: &str, who: &str, line: String) {
        self.0.entry((about.to_owned(), who.to_owned())).or_default().push(line);
    }

    /// What `who` saw of it.
    pub(crate) fn get(&self, about: &str, who: &str) -> &[String] {
        self.0.get(&(about.to_owned(), who.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// Where the two differ, for people.
    ///
    /// # Errors
    /// They do.
    pub(crate) fn compare(&self, name: &str, other: &Self, other_name: &str) -> Result<(), String> {
        let keys: BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let mut text = String::new();
        for (about, who) in keys {
            let (ours, theirs) = (self.get(about, who), other.get(about, who));
            if ours != theirs {
                let lines =
                    |lines: &[String]| lines.iter().map(|line| format!("\n    {line}")).collect::<String>();
                let (ours, theirs) = (lines(ours), lines(theirs));
                write!(text, "{about}, {who}:\n  {name}:{ours}\n  {other_name}:{theirs}\n")
                    .expect("a string takes everything");
            }
        }
        if text.is_empty() { Ok(()) } else { Err(format!("{name} and {other_name} differ\n{text}")) }
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    Channel(ChannelId),
    Socket(SocketId),
    Link(LinkId),
    Engine,
}

/// An event without ids. `None`: whether it comes depends on timing.
///
/// How many bytes a channel that carries a link has moved depends on how its messages were cut.
pub(crate) fn describe(
    event: &Event,
    carries_link: impl FnOnce(ChannelId) -> bool,
) -> Option<(Subject, String)> {
    let error = |error: Option<&dyn std::fmt::Display>| match error {
        Some(error) => format!("error: {error}"),
        None => "no error".to_owned(),
    };
    Some(match event {
        Event::SocksListening { .. } => (Subject::Engine, "listens for SOCKS".to_owned()),
        Event::SocksUnavailable { error, .. } => (Subject::Engine, format!("no SOCKS port: {error}")),
        Event::TokenAdded { kind, port } => {
            (Subject::Engine, format!("token of {kind:?} added, with SOCKS port: {}", port.is_some()))
        }
        Event::TokenRefused { error } => (Subject::Engine, format!("token refused: {error}")),
        Event::TokenRemoved { kind } => (Subject::Engine, format!("token of {kind:?} removed")),
        Event::SessionLost { channels, error } => {
            (Subject::Engine, format!("session with {channels} channels lost: {error}"))
        }
        Event::LinkConnecting { link } => (Subject::Link(*link), "connects".to_owned()),
        Event::LinkRedirected { link, url } => (Subject::Link(*link), format!("is redirected to {url}")),
        Event::LinkReady { link, extensions, ready, total } => {
            (Subject::Link(*link), format!("is ready ({ready}/{total}) with {extensions:?}"))
        }
        Event::ConnectorAdded { link } => (Subject::Link(*link), "has its connector token".to_owned()),
        Event::ConnectorRefused { link, reason } => {
            (Subject::Link(*link), format!("is refused its connector token: {reason}"))
        }
        Event::ClientAuthenticated { link, kind, extensions, .. } => {
            (Subject::Link(*link), format!("is authenticated as {kind:?} with {extensions:?}"))
        }
        Event::ClientRejected { link, error, .. } => (Subject::Link(*link), format!("is rejected: {error}")),
        Event::ClientDisconnected { link, error, .. } => (Subject::Link(*link), format!("is gone: {error}")),
        Event::LinkLost { link, error, retry_in } => {
            (Subject::Link(*link), format!("is lost: {error}; retries: {}", retry_in.is_some()))
        }
        Event::LinkSuspended { link, channels, grace } => {
            (Subject::Link(*link), format!("is lost, {channels} channels wait for {grace:?}"))
        }
        Event::LinkResumed { link, channels, .. } => {
            (Subject::Link(*link), format!("goes on with {channels} channels"))
        }
        Event::MinorVersion { link, version } => (Subject::Link(*link), format!("has version {version}")),
        Event::LinkLatency { .. }
        | Event::PeerLog { .. }
        | Event::MessageIgnored { .. }
        | Event::ReceivePaused { .. }
        | Event::ReceiveResumed { .. }
        | Event::LimitReached(_) => return None,
        Event::SocksFailed { socket, reason } => (Subject::Socket(*socket), format!("failed: {reason}")),
        Event::ChannelOpened { channel, target } => {
            (Subject::Channel(channel.id), format!("opened to {target}"))
        }
        Event::AssociationOpened { channel, local } => {
            let text = format!("association opened, with a port for the application: {}", local.is_some());
            (Subject::Channel(channel.id), text)
        }
        Event::AssociationClosed { channel, sent, received, dropped, error: cause } => {
            let cause = error(cause.as_ref().map(|cause| cause as _));
            let text = format!(
                "association closed after {sent} datagrams sent, {received} received, {dropped} dropped; {cause}"
            );
            (Subject::Channel(channel.id), text)
        }
        Event::ChannelClosed { channel, sent, received, error: cause } => {
            let cause = error(cause.as_ref().map(|cause| cause as _));
            let text = if carries_link(channel.id) {
                format!("closed; {cause}")
            } else {
                format!("closed after {sent} bytes sent, {received} received; {cause}")
            };
            (Subject::Channel(channel.id), text)
        }
    })
}
