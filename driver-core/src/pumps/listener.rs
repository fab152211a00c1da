//! One task per listener.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_channel::mpsc::UnboundedReceiver;
use futures_util::future::{Either, select};
use futures_util::stream::StreamExt;
use linksocks_sansio::{Input, ListenerId};
use tracing::warn;

use super::Inbox;
use crate::error::socket_error;
use crate::runtime::{Accepted, Runtime, RuntimeStream};

/// The pause after a failed `accept`: out of descriptors, it fails again at once.
const PAUSE: Duration = Duration::from_millis(100);
/// Failures with less time between them are told as one.
const BURST: Duration = Duration::from_secs(10);
/// How long a connection is quiet before the kernel asks whether the other end is still there, and how
/// long between questions: those of Go programs.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Permission to accept so many more connections.
#[derive(Clone, Copy, Debug)]
pub struct AcceptCredit(pub usize);

/// Listens at `address` and gives each connection to `accepted`, while there is credit and until
/// `commands` is closed.
pub async fn listen<R: Runtime>(
    runtime: R,
    listener: ListenerId,
    address: SocketAddr,
    mut commands: UnboundedReceiver<AcceptCredit>,
    inbox: Inbox,
    mut accepted: impl FnMut(Accepted<R::Stream>) + Send,
) {
    let (socket, local) = match runtime.listen(address).await {
        Ok(bound) => bound,
        Err(error) => {
            inbox.put(Input::ListenerFailed { listener, error: socket_error(&error) });
            return;
        }
    };
    inbox.put(Input::ListenerOpened { listener, local });
    let (mut acceptor, mut credit) = (Acceptor::default(), 0);
    loop {
        let command = if credit == 0 {
            commands.next().await
        } else {
            match select(commands.next(), pin!(acceptor.accept(&runtime, &socket))).await {
                Either::Left((command, _)) => command,
                Either::Right((connection, _)) => {
                    credit -= 1;
                    accepted(connection);
                    continue;
                }
            }
        };
        match command {
            Some(AcceptCredit(count)) => credit += count,
            None => return,
        }
    }
}

/// Accepts connections, however long it takes.
#[derive(Debug, Default)]
pub(crate) struct Acceptor {
    /// When it failed last.
    failed: Option<Instant>,
}

impl Acceptor {
    /// The next connection.
    pub(crate) async fn accept<R: Runtime>(
        &mut self,
        runtime: &R,
        listener: &R::Listener,
    ) -> Accepted<R::Stream> {
        loop {
            match runtime.accept(listener).await {
                Ok(accepted) => {
                    // An option that can't be set means a dead connection; reading will tell. Nothing else
                    // may ever tell of the end of a quiet one, such as the control connection of UDP.
                    let _ = accepted.stream.set_nodelay();
                    let _ = accepted.stream.set_keepalive(KEEPALIVE_IDLE, KEEPALIVE_INTERVAL);
                    return accepted;
                }
                Err(error) => {
                    self.on_failure(&error, runtime.now());
                    runtime.sleep(PAUSE).await;
                }
            }
        }
    }

    fn on_failure(&mut self, error: &io::Error, now: Instant) {
        if self.failed.replace(now).is_none_or(|last| now.saturating_duration_since(last) >= BURST) {
            warn!(%error, "Cannot accept connections; trying again");
        }
    }
}
