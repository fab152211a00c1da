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
//!    makes progress.
//! 4. No input panics, hangs or grows memory past its budget.
//! 5. Stale ids are ignored, because closes race with IO.
//! 6. Outputs for one link or one socket come in order.
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
/// Implemented by [`ClientEngine`](crate::ClientEngine) and [`ServerEngine`](crate::ServerEngine).
pub trait Engine: sealed::Sealed {
    /// Applies one input at `now`. Infallible and bounded; may be called many times in a row.
    fn handle_input(&mut self, now: Instant, input: Input);

    /// Returns the next effect. [`Output::Timeout`] is only returned when nothing else is left.
    #[must_use]
    fn poll_output(&mut self) -> Output;

    /// A snapshot of counters and of the memory in use.
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
