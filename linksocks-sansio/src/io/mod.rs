//! The whole contract between an engine and its driver.
//!
//! A driver feeds [`Input`]s with [`Engine::handle_input`] and then carries out what
//! [`Engine::poll_output`] returns until it says [`Output::Timeout`]. [`Input`], [`Output`] and
//! [`Action`] are exhaustive enums: a driver that misses an effect does not compile.
//!
//! # Rules
//!
//! 1. Same config, seed and inputs give the same outputs, byte for byte.
//! 2. Any number of inputs may come before a drain. Every input first fires the timers that are
//!    due at its `now`; a `now` that goes back is clamped.
//! 3. [`Output::Timeout`] means drained. Handling [`Input::Timeout`] at the returned instant always
//!    makes progress; `None` waits for an input, however long that takes.
//! 4. No input panics, hangs or grows memory past its budget.
//! 5. Stale ids are ignored, because closes race with IO.
//! 6. Outputs for one link or one socket come in order, and have to be carried out in that order; those
//!    for different ones are independent.
//!
//! And what an engine relies on:
//!
//! - Inputs about one link or one socket come in the order in which things happened, without a gap. Its
//!   last one (`…Failed` or `…Closed`) comes after the descriptor is released.
//! - Whatever was written before a [`Action::Close`] arrives, if the other end reads it.
//! - Nothing is received without credit, see below.
//!
//! # What is the driver's
//!
//! - **Sockets:** TCP without delay (`TCP_NODELAY`), UDP, TLS, name lookups, and timers.
//! - **WebSockets** (RFC 6455): the upgrade at both ends, without extensions and subprotocols, and frames.
//!   The engine sees whole binary messages. Pings of the peer are answered without it; what it must not
//!   send, a text or a message over [`Limits::MAX_MESSAGE`](crate::config::Limits::MAX_MESSAGE), is an
//!   [`Input::LinkInvalid`].
//! - **The HTTP front door** of a server: [`is_link_path`] tells which requests are for links.
//!
//! Everything else, and every decision, is the engine's.
//!
//! # Sequences
//!
//! What follows what; `→` is an output, `←` an input.
//!
//! - **A client's link:** → [`Action::Resolve`] if the server has a name, ← [`Input::Resolved`];
//!   → [`Action::Connect`], ← [`Input::SocketOpened`] (or [`Input::SocketFailed`]); through a proxy:
//!   → [`Output::Write`] and [`Output::Read`], ← [`Input::SocketRead`], by turns;
//!   → [`Action::OpenLink`] turns that socket into a WebSocket, ← [`Input::LinkOpened`] (or
//!   [`Input::LinkFailed`]). If that is a [redirect](crate::error::LinkFailure::Redirect), all of it
//!   again, with new ids.
//! - **A server's link:** ← [`Input::LinkOffered`]; → [`Action::AcceptLink`] (or
//!   [`Action::RejectLink`]), ← [`Input::LinkOpened`] (or [`Input::LinkFailed`]).
//! - **Any other HTTP request to a server:** ← [`Input::HttpRequest`]; → [`Action::HttpResponse`].
//! - **On a link:** → [`Output::Receive`], ← [`Input::LinkReceived`]; → [`Output::Transmit`],
//!   ← [`Input::LinkWritten`]; → [`Action::Ping`], ← [`Input::LinkPong`]; at last
//!   → [`Action::CloseLink`] or the peer's doing, ← [`Input::LinkClosed`].
//! - **A SOCKS connection:** → [`Action::Listen`], ← [`Input::ListenerOpened`]; → [`Output::Accept`],
//!   ← [`Input::SocketAccepted`]; → [`Action::AdoptSocket`] (or [`Action::Refuse`]). It is the same
//!   for an application that speaks HTTP.
//! - **A channel without SOCKS:** ← [`Command::Open`]; → [`Action::AdoptSocket`] (or
//!   [`Action::Refuse`]), from then on it is a socket whose other end is the embedder.
//! - **A dial:** → [`Action::Resolve`], ← [`Input::Resolved`]; → [`Action::Connect`],
//!   ← [`Input::SocketOpened`] or [`Input::SocketFailed`]; a proxy on the way is talked to as above.
//! - **On a socket:** → [`Output::Read`], ← [`Input::SocketRead`] …, ← [`Input::SocketEof`];
//!   → [`Output::Write`], ← [`Input::SocketWritten`]; → [`Action::ShutdownWrite`]; at last
//!   → [`Action::Close`] or [`Action::Reset`], ← [`Input::SocketClosed`]; or it breaks,
//!   ← [`Input::SocketFailed`].
//! - **Datagrams:** → [`Action::Bind`], ← [`Input::SocketBound`] (or [`Input::SocketFailed`]);
//!   → [`Output::ReceiveDatagrams`], ← [`Input::DatagramReceived`]; → [`Output::SendDatagram`],
//!   ← [`Input::DatagramsSent`]; at last → [`Action::Close`], ← [`Input::SocketClosed`].
//! - **An association without SOCKS:** ← [`Command::Associate`]; → [`Action::AdoptDatagrams`] (or
//!   [`Action::Refuse`]), from then on it is a datagram socket whose other end is the embedder, who
//!   ends it with ← [`Input::SocketEof`].
//! - **The end:** ← [`Command::Shutdown`]; → [`Action::Stop`], after which nothing follows.
//!
//! # Credit
//!
//! Nothing enters or leaves without permission, and all permission is counted in bytes (accepts in
//! connections, datagrams in datagrams). Each permission adds to what is left of the earlier ones:
//!
//! | permission | given by | used by | limits |
//! |---|---|---|---|
//! | [`Output::Read`] | engine | [`Input::SocketRead`] | bytes read from a socket |
//! | [`Output::Receive`] | engine | [`Input::LinkReceived`] | bytes of messages read from a link |
//! | [`Output::Accept`] | engine | [`Input::SocketAccepted`] | connections accepted |
//! | [`Output::ReceiveDatagrams`] | engine | [`Input::DatagramReceived`] | datagrams read from a socket |
//! | [`Input::DatagramsSent`] | driver | [`Output::SendDatagram`] | datagrams waiting in the driver for a socket |
//! | [`Input::SocketWritten`] | driver | [`Output::Write`] | bytes waiting in the driver for a socket |
//! | [`Input::LinkWritten`] | driver | [`Output::Transmit`] | bytes waiting in the driver for a link |
//!
//! The engine adds to a grant before it is used up, unless nothing more shall come. Of [`Output::Read`] it
//! may take back what has not been used ([`Output::Revoke`]). The example of
//! [`ReadCredit`] has what a driver does with it.
//!
//! # A link in memory
//!
//! Two engines, joined by a driver that moves messages from one to the other. It takes connecting for
//! done, and counts no credit; all else is what any driver does.
//!
//! ```
//! use std::time::Instant;
//! use linksocks_sansio::io::{UpgradeRequest, UpgradeResponse};
//! use linksocks_sansio::{
//!     Action, ClientConfig, ClientEngine, Engine, Event, Input, Output, ServerConfig, ServerEngine,
//!     ServerUrl, Ticket, Token,
//! };
//!
//! let (start, token) = (Instant::now(), Token::new("secret")?);
//! let config = ClientConfig::new(ServerUrl::parse("ws://192.0.2.1:8765")?, token.clone());
//! let mut client = ClientEngine::new(config, [1; 32], start);
//! let mut server = ServerEngine::new(ServerConfig::forward(token)?, [2; 32], start);
//!
//! // Each engine has an id of its own for the link.
//! let (mut at_client, mut at_server) = (None, None);
//! // What has happened at either end and its engine does not know yet.
//! let (mut for_client, mut for_server) = (Vec::new(), Vec::new());
//! let mut ready = false;
//!
//! while !ready {
//!     loop {
//!         match client.poll_output() {
//!             Output::Action(Action::Connect { socket, .. }) => {
//!                 for_client.push(Input::SocketOpened { socket });
//!             }
//!             Output::Action(Action::OpenLink { link, request, .. }) => {
//!                 at_client = Some(link);
//!                 // What the server's HTTP front door makes of the request that is sent here.
//!                 let (path, query) = request.path_and_query.split_once('?').unwrap();
//!                 let request = UpgradeRequest {
//!                     path: path.to_owned(),
//!                     query: query.to_owned(),
//!                     extensions: request.extensions,
//!                     peer: "192.0.2.2:40000".parse()?,
//!                 };
//!                 for_server.push(Input::LinkOffered { ticket: Ticket(1), request });
//!             }
//!             Output::Transmit { link, message } => {
//!                 for_client.push(Input::LinkWritten { link, bytes: message.len() });
//!                 for_server.push(Input::LinkReceived { link: at_server.unwrap(), message });
//!             }
//!             Output::Event(Event::LinkReady { .. }) => ready = true,
//!             Output::Timeout(_) => break,
//!             _ => {} // credit, pings, other events
//!         }
//!     }
//!     loop {
//!         match server.poll_output() {
//!             Output::Action(Action::AcceptLink { ticket: Ticket(1), link, extensions }) => {
//!                 at_server = Some(link);
//!                 for_server.push(Input::LinkOpened { link, response: UpgradeResponse::default() });
//!                 // What the client reads in the 101.
//!                 let response = UpgradeResponse { extensions };
//!                 for_client.push(Input::LinkOpened { link: at_client.unwrap(), response });
//!             }
//!             Output::Transmit { link, message } => {
//!                 for_server.push(Input::LinkWritten { link, bytes: message.len() });
//!                 for_client.push(Input::LinkReceived { link: at_client.unwrap(), message });
//!             }
//!             Output::Timeout(_) => break,
//!             _ => {}
//!         }
//!     }
//! #   assert!(ready || !(for_client.is_empty() && for_server.is_empty()), "nothing moves");
//!     for_client.drain(..).for_each(|input| client.handle_input(Instant::now(), input));
//!     for_server.drain(..).for_each(|input| server.handle_input(Instant::now(), input));
//! }
//! assert_eq!(client.stats().ready_links, 1);
//! assert_eq!(server.stats().ready_links, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod http;
mod input;
mod link;
mod output;
mod read_buf;

use std::time::Instant;

use crate::ids::{ChannelId, LinkId};
use crate::stats::Stats;

pub use self::http::{HttpRequest, HttpResponse};
pub use self::input::{Command, Input};
pub use self::link::{
    CloseFrame, FrameViolation, LinkClose, LinkRequest, MAX_CLOSE_REASON, UpgradeRequest, UpgradeResponse,
    is_link_path,
};
pub use self::output::{Action, Output, ReadCredit, receive_cost};
pub use self::read_buf::ReadBuf;

/// A complete LinkSocks peer without sockets, threads or clocks.
///
/// Implemented by [`ClientEngine`](crate::ClientEngine) and [`ServerEngine`](crate::ServerEngine). One
/// task owns it; [`io`](self) has the rules.
///
/// ```
/// use std::time::Instant;
/// use linksocks_sansio::{Engine, Input, Output};
///
/// /// Tells an engine what has happened. Returns what is to be done, and when to come back.
/// fn step(engine: &mut impl Engine, now: Instant, input: Input) -> (Vec<Output>, Option<Instant>) {
///     engine.handle_input(now, input);
///     let mut outputs = Vec::new();
///     loop {
///         match engine.poll_output() {
///             Output::Timeout(deadline) => return (outputs, deadline),
///             output => outputs.push(output),
///         }
///     }
/// }
///
/// // Equal engines do the same.
/// # use linksocks_sansio::{ClientConfig, ClientEngine, ServerUrl, Token};
/// # let config = ClientConfig::new(ServerUrl::parse("ws://192.0.2.1")?, Token::new("secret")?);
/// let now = Instant::now();
/// let mut engines = [0, 1].map(|_| ClientEngine::new(config.clone(), [7; 32], now));
/// let [(outputs, deadline), again] =
///     engines.each_mut().map(|engine| step(engine, now, Input::Timeout));
/// assert_eq!(format!("{outputs:?} {deadline:?}"), format!("{:?} {:?}", again.0, again.1));
/// assert!(deadline > Some(now)); // the connection that it asks for must not take for ever
/// # Ok::<(), linksocks_sansio::ConfigError>(())
/// ```
pub trait Engine: sealed::Sealed {
    /// Applies one input at `now`. Infallible and bounded; may be called many times in a row: a driver
    /// collects what has happened, reads its clock once, and drains once.
    ///
    /// Deadlines that have come are acted on first, so [`Input::Timeout`] is only needed if there is
    /// no other input. After [`Action::Stop`] inputs are ignored.
    fn handle_input(&mut self, now: Instant, input: Input);

    /// Returns the next effect, to be carried out before the next call or at least in this order.
    /// [`Output::Timeout`] is only returned when nothing else is left.
    #[must_use]
    fn poll_output(&mut self) -> Output;

    /// A snapshot of counters and of the memory in use. Looks at every link.
    fn stats(&self) -> Stats;
}

pub(crate) mod sealed {
    /// Only this crate has engines.
    #[expect(unnameable_types, reason = "that is what seals it")]
    pub trait Sealed {}
}

/// Where a channel stands in logs: its link and its wire id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelRef {
    /// The link that carries it.
    pub link: LinkId,
    /// Its id on the wire.
    pub id: ChannelId,
}
