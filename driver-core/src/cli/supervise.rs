//! From the start of a client or server to its end: log lines and signals.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_core::Stream;
use futures_util::future::{Fuse, FutureExt as _, select};
use futures_util::{StreamExt as _, select_biased};
use linksocks_sansio::error::StopReason;
use tracing::info;

use super::DRAIN;
use super::events::{self, Side};
use super::log::GoDuration;
use crate::embed::{ClientHandle, Events, ServerHandle};
use crate::runtime::Runtime;

/// How a client or server ended.
pub(super) enum End {
    /// It stopped.
    Stopped(StopReason),
    /// A second signal came before it had stopped.
    Interrupted,
}

/// What a client and a server have in common.
pub(super) trait Handle {
    fn shutdown(&self, drain: Duration) -> impl Future<Output = StopReason>;
    fn stopped(&self) -> impl Future<Output = StopReason>;
}

impl Handle for ClientHandle {
    fn shutdown(&self, drain: Duration) -> impl Future<Output = StopReason> {
        self.shutdown(drain)
    }

    fn stopped(&self) -> impl Future<Output = StopReason> {
        self.stopped()
    }
}

impl Handle for ServerHandle {
    fn shutdown(&self, drain: Duration) -> impl Future<Output = StopReason> {
        self.shutdown(drain)
    }

    fn stopped(&self) -> impl Future<Output = StopReason> {
        self.stopped()
    }
}

/// How long resets may take to leave after the second signal: whatever is still open when the
/// process ends looks to the other end as if it were complete.
const LAST_MOMENT: Duration = Duration::from_millis(300);

/// Logs events until the end. The first signal starts a graceful shutdown, the second one resets
/// what is left.
pub(super) async fn supervise(
    runtime: &impl Runtime,
    handle: &impl Handle,
    mut events: Events,
    signals: impl Stream<Item = ()> + Unpin,
    side: Side,
) -> End {
    let mut signals = signals.fuse();
    let mut shutdown = pin!(Fuse::terminated());
    let mut shutting_down = false;
    loop {
        select_biased! {
            () = signals.select_next_some() => {
                if shutting_down {
                    let end = pin!(handle.shutdown(Duration::ZERO));
                    select(end, pin!(runtime.sleep(LAST_MOMENT))).await;
                    return End::Interrupted;
                }
                info!(drain = %GoDuration(DRAIN), "Shutting down {side}...");
                shutting_down = true;
                shutdown.set(handle.shutdown(DRAIN).fuse());
            }
            // Polled so that it asks for the shutdown; the events end when it is done.
            _ = shutdown => {}
            // Last: there may be always another one.
            event = events.next().fuse() => match event {
                Some(event) => events::log(side, &event),
                None => return End::Stopped(handle.stopped().await),
            },
        }
    }
}
